"""Cases of content blocks, their fields and sources."""

import base64

from tests.fidelity.cases import HELLO, LOOK, Case, Json, answer, asks, result, says
from tests.fidelity.documents import pdf, png
from tests.fidelity.matching import ANY, Has, Lacks
from tests.support.upstream import call

__all__ = ["BLOCK_CASES"]

PNG = base64.b64encode(png()).decode()
PICTURE: Json = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
IMAGE_PART: Json = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}


def text(words: str, **more: object) -> Json:
    return {"type": "text", "text": words, **more}


def document(**more: object) -> Json:
    return {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Otters swim."}, **more}


def user(content: object) -> Json:
    """The upstream's request with this one user message."""
    return {"messages": [{"role": "user", "content": content}]}


FOUND: Json = {"type": "web_search_result", "title": "Otters", "url": "https://o.test", "encrypted_content": "ZZZ"}
RAN: Json = {"stdout": "42", "stderr": "", "return_code": 0, "content": []}
HISTORY: dict[str, tuple[Json, Has]] = {
    "server_tool_use": ({"id": "s1", "name": "web_search", "input": {"query": "otters"}}, Has("web_search", "otters")),
    "web_search_tool_result": ({"tool_use_id": "s1", "content": [FOUND]}, Has("https://o.test", "Otters")),
    "web_fetch_tool_result": (
        {"tool_use_id": "s1", "content": {"type": "web_fetch_result", "url": "https://o.test", "content": document()}},
        Has("https://o.test", "Otters swim."),
    ),
    "code_execution_tool_result": (
        {"tool_use_id": "s1", "content": {"type": "code_execution_result", **RAN}},
        Has("stdout", "42"),
    ),
    "bash_code_execution_tool_result": (
        {"tool_use_id": "s1", "content": {"type": "bash_code_execution_result", **RAN}},
        Has("stdout", "42"),
    ),
    "text_editor_code_execution_tool_result": (
        {
            "tool_use_id": "s1",
            "content": {"type": "text_editor_code_execution_view_result", "content": "a line", "file_type": "text"},
        },
        Has("a line"),
    ),
    "tool_search_tool_result": (
        {
            "tool_use_id": "s1",
            "content": {
                "type": "tool_search_tool_search_result",
                "tool_references": [{"type": "tool_reference", "tool_name": "look"}],
            },
        },
        Has("look"),
    ),
    "advisor_tool_result": (
        {"tool_use_id": "s1", "content": {"type": "advisor_result", "text": "Think twice."}},
        Has("Think twice."),
    ),
    "mcp_tool_use": ({"id": "m1", "name": "find", "server_name": "s", "input": {"q": "otters"}}, Has("find", "otters")),
    "mcp_tool_result": (
        {"tool_use_id": "m1", "is_error": False, "content": [text("It is there.")]},
        Has("It is there."),
    ),
}

BLOCKS = [
    Case("block", "text", asks(text("One."), text(""), text("Two.")), user("One.\n\nTwo.")),
    Case("block", "image", asks(text("What is it?"), PICTURE), user([text("What is it?"), IMAGE_PART])),
    Case(
        "block",
        "image",
        result(text("A picture:"), PICTURE),
        {
            "messages": [
                ANY,
                ANY,
                {"role": "tool", "tool_call_id": "toolu_1", "content": "A picture:"},
                {"role": "user", "content": [text("From the result of the tool call toolu_1:"), IMAGE_PART]},
            ]
        },
        note="in a result",
    ),
    Case(
        "block",
        "document",
        asks(document(title="Otters"), text("Do they?")),
        user(Has('<document title="Otters">', "Otters swim.", "</document>", "Do they?")),
    ),
    Case(
        "block",
        "document",
        result(document()),
        {"messages": [ANY, ANY, {"role": "tool", "content": Has("Otters swim.")}]},
        note="in a result",
    ),
    Case(
        "block",
        "search_result",
        asks({"type": "search_result", "source": "https://o.test", "title": "Otters", "content": [text("They swim.")]}),
        user(Has("https://o.test", "Otters", "They swim.")),
    ),
    Case(
        "block",
        "search_result",
        result(
            {"type": "search_result", "source": "https://o.test", "title": "Otters", "content": [text("They swim.")]}
        ),
        {"messages": [ANY, ANY, {"role": "tool", "content": Has("https://o.test", "Otters", "They swim.")}]},
        note="in a result",
    ),
    Case(
        "block",
        "thinking",
        says({"type": "thinking", "thinking": "Greet back.", "signature": "s"}, text("Hello.")),
        {"messages": [ANY, {"role": "assistant", "reasoning": "Greet back.", "content": "Hello."}, ANY]},
    ),
    Case(
        "block",
        "thinking",
        says({"type": "thinking", "thinking": "Greet back.", "signature": "s"}, text("Hello.")),
        {"messages": [ANY, {"role": "assistant", "reasoning_content": "Greet back.", "content": "Hello."}, ANY]},
        upstream="sglang",
        note="under its other name",
    ),
    Case(
        "block",
        "tool_use",
        result(text("Blue.")),
        {
            "messages": [
                ANY,
                {
                    "role": "assistant",
                    "tool_calls": [
                        {"id": "toolu_1", "type": "function", "function": {"name": "look", "arguments": '{"at":"sky"}'}}
                    ],
                },
                ANY,
            ]
        },
    ),
    Case(
        "block",
        "tool_result",
        result(text("Blue."), text("And white.")),
        {"messages": [ANY, ANY, {"role": "tool", "tool_call_id": "toolu_1", "content": "Blue.\n\nAnd white."}]},
    ),
    Case(
        "block",
        "tool_reference",
        result({"type": "tool_reference", "tool_name": "look"}),
        {"messages": [ANY, ANY, {"role": "tool", "content": Has("look")}]},
    ),
    Case(
        "block",
        "browser_state",
        result(
            {
                "type": "browser_state",
                "tabs": [{"tab_id": "t1", "title": "LateMessageStart", "url": "https://o.test", "active": True}],
            }
        ),
        {"messages": [ANY, ANY, {"role": "tool", "content": Has("t1", "LateMessageStart", "https://o.test")}]},
    ),
    Case(
        "block",
        "tool_addition",
        {
            "messages": [
                HELLO,
                {
                    "role": "system",
                    "content": [{"type": "tool_addition", "tool": {"type": "tool_definition", "definition": LOOK}}],
                },
            ]
        },
        {
            "tools": [{"function": {"name": "look"}}],
            "messages": [ANY, {"role": "system", "content": Has("look", "available")}],
        },
    ),
    Case(
        "block",
        "tool_removal",
        {
            "tools": [LOOK],
            "messages": [
                HELLO,
                {
                    "role": "system",
                    "content": [{"type": "tool_removal", "tool": {"type": "tool_reference", "name": "look"}}],
                },
            ],
        },
        {"messages": [ANY, {"role": "system", "content": Has("look", "no longer")}]},
    ),
    Case(
        "block",
        "compaction",
        says({"type": "compaction", "content": "They spoke of otters."}),
        {"messages": [{"role": "user", "content": Has("They spoke of otters.", "Go on")}]},
    ),
    *(
        Case(
            "block",
            kind,
            says({"type": kind, **block}),
            {"messages": [ANY, {"role": "assistant", "content": words}, ANY]},
        )
        for kind, (block, words) in HISTORY.items()
    ),
    Case(
        "block",
        "web_search_tool_result",
        says({"type": "web_search_tool_result", "tool_use_id": "s1", "content": [FOUND]}),
        {"messages": [ANY, {"content": Lacks("ZZZ")}, ANY]},
        note="without what cannot be read",
    ),
]

DOWNLOADED: Json = {
    "type": "download_completed",
    "download_id": "d1",
    "url": "https://o.test/a.pdf",
    "path": "/tmp/a.pdf",
}
BLOCK_FIELDS = [
    Case("block field", "title", asks(document(title="Otters")), user(Has('title="Otters"'))),
    Case("block field", "context", asks(document(context="From a zoo.")), user(Has("From a zoo.", "Otters swim."))),
    Case(
        "block field",
        "toolset_name",
        {
            "tools": [{"type": "browser_toolset_20260801"}],
            "messages": [
                HELLO,
                {
                    "role": "assistant",
                    "content": [
                        {
                            "type": "tool_use",
                            "id": "toolu_1",
                            "name": "find",
                            "toolset_name": "browser",
                            "input": {"query": "x"},
                        }
                    ],
                },
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "Here."}]},
            ],
        },
        {"messages": [ANY, {"tool_calls": [{"function": {"name": "browser_find"}}]}, ANY]},
        answer(tool_calls=[call("browser_find", {"query": "y"})]),
        {"content": [{"type": "tool_use", "name": "find", "toolset_name": "browser", "input": {"query": "y"}}]},
    ),
    Case(
        "block field",
        "state_changes",
        result({"type": "browser_state", "tabs": [], "state_changes": [DOWNLOADED]}),
        {"messages": [ANY, ANY, {"role": "tool", "content": Has("https://o.test/a.pdf", "/tmp/a.pdf")}]},
    ),
    Case(
        "block field", "content", result(text("Blue.")), {"messages": [ANY, ANY, {"role": "tool", "content": "Blue."}]}
    ),
    Case(
        "block field",
        "is_error",
        result(text("No sky."), is_error=True),
        {"messages": [ANY, ANY, {"role": "tool", "content": "[tool error] No sky."}]},
    ),
]

TWO_PAGES = base64.b64encode(pdf(["Otters swim.", "Badgers dig."])).decode()
SOURCES = [
    Case("source", "image base64", asks(PICTURE), user([IMAGE_PART])),
    Case(
        "source",
        "image url",
        asks({"type": "image", "source": {"type": "url", "url": "https://o.test/o.png"}}),
        user([{"type": "image_url", "image_url": {"url": "https://o.test/o.png"}}]),
    ),
    Case(
        "source",
        "document base64",
        asks({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": TWO_PAGES}}),
        user(Has('<page number="1">', "Otters swim.", '<page number="2">', "Badgers dig.")),
    ),
    Case("source", "document text", asks(document()), user(Has("Otters swim."))),
    Case(
        "source",
        "document content",
        asks({"type": "document", "source": {"type": "content", "content": [text("Look:"), PICTURE]}}),
        user([{"type": "text", "text": Has("Look:")}, IMAGE_PART]),
    ),
]

BLOCK_CASES = [*BLOCKS, *BLOCK_FIELDS, *SOURCES]
