"""Content blocks: images, documents, search results, the history of server tools, and what nobody knows."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.rewriting.encrypted_content import encode_encrypted_content
from tests.translation.helpers import (
    PNG,
    assistant,
    image,
    system,
    text,
    tool,
    tool_result,
    tool_use,
    translated,
    user,
)

type Json = dict[str, Any]

PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}


def document(**source: Any) -> Json:
    return {"type": "document", "source": source}


def plain(data: str) -> Json:
    return document(type="text", media_type="text/plain", data=data)


def blocks(*content: Json) -> Json:
    return document(type="content", content=list(content))


@dataclass
class Case:
    id: str
    given: Json
    parts: list[Json] | str
    """What the user message holds; one string where all is text."""
    dropped: list[str] = field(default_factory=list)


IMAGES = [
    Case("base64", image(), [PICTURE]),
    Case(
        "a URL",
        image(type="url", url="https://x.test/a.png"),
        [{"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}],
    ),
]

DOCUMENTS = [
    Case("text", plain("One."), "<document>\nOne.\n</document>"),
    Case(
        "title and context",
        {**plain("One."), "title": 'A "B" <C>', "context": "From 1999."},
        '<document title="A &quot;B&quot; &lt;C&gt;">\n<context>\nFrom 1999.\n</context>\nOne.\n</document>',
    ),
    Case("content that is a string", document(type="content", content="One."), "<document>\nOne.\n</document>"),
    Case("content that is blocks", blocks(text("One."), text("Two.")), "<document>\nOne.\n\nTwo.\n</document>"),
    Case(
        "content with a picture",
        blocks(text("One."), image()),
        [{"type": "text", "text": "<document>\nOne.\n</document>"}, PICTURE],
    ),
    Case(
        "content with something new",
        blocks(text("One."), {"type": "hologram"}),
        "<document>\nOne.\n</document>",
        ["messages.0.content.0.source.content.1"],
    ),
    Case(
        "citations are asked for",
        {**plain("One."), "citations": {"enabled": True}},
        "<document>\nOne.\n</document>",
        ["messages.0.content.0.citations"],
    ),
    Case(
        "citations are not asked for",
        {**plain("One."), "citations": {"enabled": False}},
        "<document>\nOne.\n</document>",
    ),
]

SEARCH_RESULT = {"type": "search_result", "source": "https://x.test", "title": "X", "content": [text("A"), text("B")]}
FOUND = '<search_result source="https://x.test" title="X">\nA\n\nB\n</search_result>'

SEARCH_RESULTS = [
    Case("a search result", SEARCH_RESULT, FOUND),
    Case(
        "one to be cited",
        {**SEARCH_RESULT, "citations": {"enabled": True}},
        FOUND,
        ["messages.0.content.0.citations"],
    ),
]

OTHERS = [
    Case(
        "a tool is added",
        {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "look"}},
        "The tool look is available now.",
    ),
    Case(
        "a tool is removed",
        {"type": "tool_removal", "tool": {"type": "mcp_toolset_reference", "server_name": "files"}},
        "The tool files is no longer available.",
    ),
    Case("a summary", {"type": "compaction", "content": "We met."}, "<summary>\nWe met.\n</summary>"),
]


@pytest.mark.parametrize("case", IMAGES + DOCUMENTS + SEARCH_RESULTS + OTHERS, ids=lambda case: case.id)
def test_a_block_of_a_user_becomes_parts(case: Case) -> None:
    translation = translated(user(case.given))

    assert translation.params["messages"] == [{"role": "user", "content": case.parts}]
    assert translation.dropped == case.dropped


@pytest.mark.parametrize("case", IMAGES + DOCUMENTS + SEARCH_RESULTS, ids=lambda case: case.id)
def test_the_same_block_in_a_tool_result_is_carried_too(case: Case) -> None:
    translation = translated(assistant(tool_use("a")), user(tool_result("a", [case.given])))

    parts = [{"type": "text", "text": case.parts}] if isinstance(case.parts, str) else case.parts
    _, result, *rest = translation.params["messages"]
    assert result["content"] == "".join(part["text"] for part in parts if part["type"] == "text")
    carried = rest[0]["content"][1:] if rest else []
    assert carried == [part for part in parts if part["type"] != "text"]
    where = "messages.1.content.0.content.0"
    assert translation.dropped == [name.replace("messages.0.content.0", where) for name in case.dropped]


TAB = {"tab_id": "1", "title": "A", "url": "https://x.test"}
DOWNLOAD = {"download_id": "d", "url": "https://x.test/a"}
CHANGES = [
    {"type": "tab_opened", "tab_id": "1"},
    {"type": "download_started", **DOWNLOAD},
    {"type": "download_completed", "path": "/tmp/a", **DOWNLOAD},
    {"type": "download_failed", "error": "disk full", **DOWNLOAD},
    {"type": "hologram_shown"},
]


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"type": "tool_reference", "tool_name": "look"}, "The tool look is available now."),
        (
            {"type": "browser_state", "tabs": [TAB, {**TAB, "tab_id": "2", "active": True}]},
            "<browser_state>\n1: A (https://x.test)\n2: A (https://x.test), active\n</browser_state>",
        ),
        (
            {"type": "browser_state", "tabs": [TAB], "state_changes": CHANGES},
            "<browser_state>\n1: A (https://x.test)\nDownload of https://x.test/a started\n"
            "Download of https://x.test/a completed: /tmp/a\nDownload of https://x.test/a failed: disk full\n"
            "</browser_state>",
        ),
    ],
)
def test_blocks_of_tool_results_alone_are_text(block: Json, words: str) -> None:
    translation = translated(assistant(tool_use("a")), user(tool_result("a", [block])))

    assert translation.params["messages"][1]["content"] == words
    assert translation.dropped == []


def test_a_tool_is_called_what_the_model_knows_it_by() -> None:
    long = "mcp__" + "a_server_with_a_long_name__" * 4 + "look"
    reference = {"type": "tool_reference", "tool_name": long}
    found = {"type": "tool_search_tool_search_result", "tool_references": [reference]}
    changed = {"type": "tool_reference", "name": long}
    given = [
        user("Hi"),
        assistant(
            {"type": "tool_search_tool_result", "tool_use_id": "srvtoolu_1", "content": found}, tool_use("a", "Search")
        ),
        user(tool_result("a", [reference]), text("?")),
        system({"type": "tool_addition", "tool": changed}, {"type": "tool_removal", "tool": changed}),
    ]

    params = translated(*given, tools=[tool(long)]).params

    name = params["tools"][0]["function"]["name"]
    here, gone = f"The tool {name} is available now.", f"The tool {name} is no longer available."
    _, searched, result, _, told = (message["content"] for message in params["messages"])
    assert searched == f'<server_tool_result type="tool_search_tool_result">\n{here}\n</server_tool_result>'
    assert result == here
    assert told == f"{here}\n\n{gone}"


# --- the history of server tools ---

ENCODED = encode_encrypted_content("Found.")
HISTORY = [
    (
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "é"}},
        '<server_tool_call name="web_search">\n{"query":"é"}\n</server_tool_call>',
    ),
    (
        {
            "type": "web_search_tool_result",
            "tool_use_id": "srvtoolu_1",
            "content": [
                {"type": "web_search_result", "title": "X", "url": "https://x.test", "encrypted_content": ENCODED}
            ],
        },
        '<server_tool_result type="web_search_tool_result">\n<search_result source="https://x.test" title="X">\n'
        "Found.\n</search_result>\n</server_tool_result>",
    ),
    (
        {
            "type": "web_search_tool_result",
            "tool_use_id": "srvtoolu_1",
            "content": {"type": "web_search_tool_result_error", "error_code": "unavailable"},
        },
        '<server_tool_result type="web_search_tool_result">\nThe search failed: unavailable\n</server_tool_result>',
    ),
    (
        {
            "type": "web_fetch_tool_result",
            "tool_use_id": "srvtoolu_1",
            "content": {"type": "web_fetch_result", "url": "https://x.test", "content": plain("One.")},
        },
        '<server_tool_result type="web_fetch_tool_result">\n'
        "https://x.test\n<document>\nOne.\n</document>\n</server_tool_result>",
    ),
    (
        {
            "type": "code_execution_tool_result",
            "tool_use_id": "srvtoolu_1",
            "content": {
                "type": "code_execution_result",
                "stdout": "1\n",
                "stderr": "",
                "return_code": 0,
                "content": [],
            },
        },
        '<server_tool_result type="code_execution_tool_result">\n'
        '{"type":"code_execution_result","stdout":"1\\n","stderr":"","return_code":0,"content":[]}\n'
        "</server_tool_result>",
    ),
    (
        {
            "type": "tool_search_tool_result",
            "tool_use_id": "srvtoolu_1",
            "content": {"type": "tool_search_tool_result_error", "error_code": "unavailable"},
        },
        '<server_tool_result type="tool_search_tool_result">\n'
        '{"type":"tool_search_tool_result_error","error_code":"unavailable"}\n</server_tool_result>',
    ),
    (
        {"type": "mcp_tool_use", "id": "m", "name": "look", "server_name": "files", "input": {}},
        '<server_tool_call name="look">\n{}\n</server_tool_call>',
    ),
    (
        {"type": "mcp_tool_result", "tool_use_id": "m", "content": [text("A"), text("B")], "is_error": True},
        '<server_tool_result type="mcp_tool_result" is_error="true">\nA\nB\n</server_tool_result>',
    ),
    (
        {"type": "mcp_tool_result", "tool_use_id": "m"},
        '<server_tool_result type="mcp_tool_result">\n\n</server_tool_result>',
    ),
    (
        {
            "type": "advisor_tool_result",
            "tool_use_id": "srvtoolu_1",
            "content": {"type": "advisor_result", "text": "Do it."},
        },
        '<server_tool_result type="advisor_tool_result">\nDo it.\n</server_tool_result>',
    ),
]


@pytest.mark.parametrize(("block", "words"), HISTORY, ids=[words[20:52] for _, words in HISTORY])
def test_what_a_server_tool_did_earlier_can_be_read(block: Json, words: str) -> None:
    translation = translated(user("Hi"), assistant(text("Let me see."), block, text("So:")))

    assert translation.params["messages"][1]["content"] == f"Let me see.\n\n{words}\n\nSo:"
    assert translation.dropped == []


FOUND = {"type": "web_search_result", "title": "X", "url": "https://x.test"}
EXECUTED = {"type": "encrypted_code_execution_result", "stderr": "", "return_code": 0, "content": []}


@pytest.mark.parametrize("encrypted", ["", "ab=="])
@pytest.mark.parametrize(
    ("kind", "content", "field"),
    [
        ("web_search_tool_result", [FOUND], "encrypted_content"),
        ("code_execution_tool_result", EXECUTED, "encrypted_stdout"),
    ],
)
def test_what_only_its_maker_can_read_is_named(kind: str, content: Any, field: str, encrypted: str) -> None:
    made = (
        [{**each, field: encrypted} for each in content] if isinstance(content, list) else {**content, field: encrypted}
    )
    block = {"type": kind, "tool_use_id": "srvtoolu_1", "content": made}

    translation = translated(user("Hi"), assistant(text("So:"), block))

    assert translation.dropped == (["messages.1.content.1.content"] if encrypted else [])


@pytest.mark.parametrize(
    "source",
    [
        {"type": "base64", "media_type": "application/pdf", "data": "bm8gcGRm"},
        {"type": "url", "url": "https://x.test/a.pdf"},
        {"type": "hologram"},
    ],
    ids=["a PDF that cannot be read", "a URL", "something new"],
)
def test_a_page_that_an_earlier_server_read_does_not_end_the_conversation(source: Json) -> None:
    content = {"type": "web_fetch_result", "url": "https://x.test", "content": document(**source)}
    block = {"type": "web_fetch_tool_result", "tool_use_id": "srvtoolu_1", "content": content}

    translation = translated(user("Hi"), assistant(block))

    assert "https://x.test" in translation.params["messages"][1]["content"]
    assert translation.dropped == ["messages.1.content.0.content.content"]


# --- what cannot be carried ---


@pytest.mark.parametrize(
    "block",
    [
        {"type": "hologram", "depth": 3},
        {"type": "container_upload", "file_id": "file_1"},
        {"type": "compaction", "encrypted_content": "ab=="},
        {"type": "image", "source": {"type": "telepathy"}},
        {"type": "document", "source": {"type": "telepathy", "data": 1}},
        {"type": "tool_reference", "tool_name": "only in tool results"},
    ],
    ids=lambda block: str(block.get("source", block)["type"]),
)
def test_what_cannot_be_carried_is_dropped_and_named(block: Json) -> None:
    translation = translated(user(text("Hi"), block))

    assert translation.params["messages"] == [user("Hi")]
    assert translation.dropped == ["messages.0.content.1"]
    with pytest.raises(InvalidRequestError, match=r"^messages\.0\.content\.1: cannot be honoured"):
        translated(user(text("Hi"), block), options={"strict": True})


def test_an_unknown_block_in_a_tool_result_is_named_by_its_whole_path() -> None:
    result = tool_result("a", [text("A"), {"type": "hologram"}])

    translation = translated(user("Hi"), assistant(tool_use("a")), user(result))

    assert translation.params["messages"][2]["content"] == "A"
    assert translation.dropped == ["messages.2.content.0.content.1"]


def test_unknown_blocks_of_the_system_prompt_are_named_where_the_client_put_them() -> None:
    billing = "x-anthropic-billing-header: cc_version=1; cch=2;"
    system = [text(billing), {"type": "hologram"}, text("Be brief.")]

    translation = translated(system=system)

    assert translation.params["messages"][0] == {"role": "system", "content": "Be brief."}
    assert translation.dropped == ["system.1"]


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (image(type="file", file_id="file_1"), "this server has no files to take the image from"),
        (document(type="file", file_id="file_1"), "this server has no files to take the document from"),
        (document(type="url", url="https://x.test"), "this server does not fetch documents (translation.fetch_urls)"),
    ],
    ids=["an image file", "a document file", "a document URL"],
)
def test_what_would_change_the_answer_is_refused(block: Json, message: str) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        translated(user(block))

    assert refusal.value.message == f"messages.0.content.0.source: {message}"


@pytest.mark.parametrize(
    "block",
    [
        {"type": "redacted_thinking", "data": "x"},
        {"type": "mcp_tool_listing", "mcp_server_name": "files", "tools": []},
        {"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}},
    ],
    ids=lambda block: str(block["type"]),
)
def test_marks_of_other_servers_are_passed_over(block: Json) -> None:
    translation = translated(user("Hi"), assistant(block, text("Yes")))

    assert translation.params["messages"][1] == assistant("Yes")
    assert translation.dropped == []
