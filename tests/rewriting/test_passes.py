"""Passes: which ones run, what they leave alone, the way back, and how one is added."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.engines import ENGINES
from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.rewriting import SUPPLIED, RewriteOptions, Rewritten, passes, rewrite
from llama_stack_messages_provider.rewriting.call_ids import encode_call_id
from llama_stack_messages_provider.rewriting.rewrite import discover
from llama_stack_messages_provider.rewriting.signatures import Signer
from llama_stack_messages_provider.translation.request import TranslationOptions, to_chat_completion
from llama_stack_messages_provider.wire.request import CreateMessageRequest
from tests.translation.helpers import assistant, image, system, text, tool, tool_result, tool_use, user

type Json = dict[str, Any]

SIGNER = Signer(b"key", "m")
OPTIONS = RewriteOptions(tool_error_marker="! ", signer=SIGNER)
MARK: Json = {"cache_control": {"type": "ephemeral"}}
BROWSER: Json = {"type": "browser_toolset_20260801"}


def request_of(*messages: Json, **fields: Any) -> Json:
    request = {"model": "m", "max_tokens": 9, "messages": list(messages) or [user("Hi")], **fields}
    CreateMessageRequest.model_validate(request)
    return request


def rewritten(request: Json, *lacks: str, options: RewriteOptions = OPTIONS, strict: bool = False) -> Rewritten:
    before = orjson.dumps(request)
    made = rewrite(request, lacks=lacks or SUPPLIED, options=options, dropped=DroppedFields(strict=strict))
    assert orjson.dumps(request) == before
    return made


PLAIN = [
    request_of(),
    request_of(user("Hi"), assistant("Yes?"), user(text("So"), text("so"))),
    request_of(user("Look."), assistant(tool_use("t1")), user(tool_result("t1", "so")), tools=[tool(), tool("b")]),
    request_of(user("Hi"), assistant({"type": "thinking", "thinking": "Hm.", "signature": "x"}, text("Yes"))),
    request_of(system="Be brief.", temperature=0.5, stop_sequences=["x"]),
]


@pytest.mark.parametrize("request_", PLAIN)
def test_a_plain_request_is_the_same_object(request_: Json) -> None:
    assert rewritten(request_).request is request_


def test_what_an_engine_has_is_left_to_it() -> None:
    request = request_of(user("Hi"), system("Be brief."), user(image()), tools=[BROWSER, tool(**MARK)])

    assert rewritten(request, "document", "server_tool_history").request is request


def test_turns_that_no_pass_changes_stay_the_client_s_objects() -> None:
    request = request_of(user("Hi"), assistant("Yes?"), user(text("Look."), {"type": "hologram"}))

    made = rewritten(request).request

    assert made is not request
    assert made["messages"][:2] == request["messages"][:2]
    assert all(new is old for new, old in zip(made["messages"][:2], request["messages"], strict=False))


def test_a_toolset_is_custom_tools_and_its_calls_find_back() -> None:
    call = {**tool_use("t1", "navigate"), "toolset_name": "browser"}
    request = request_of(user("Hi"), assistant(call), user(tool_result("t1")), tools=[BROWSER])

    made = rewritten(request, "client_tool", "toolset_call")

    names = [each["name"] for each in made.request["tools"]]
    assert "browser_navigate" in names
    assert all(set(each) == {"name", "description", "input_schema"} for each in made.request["tools"])
    assert made.request["messages"][1]["content"] == [tool_use("t1", "browser_navigate")]
    answered = tool_use("t2", "browser_navigate")
    assert made.restore_block(answered) == {**answered, "name": "navigate", "toolset_name": "browser"}
    assert made.restore_block(other := tool_use("t3")) is other
    assert made.restore_block(said := text("so")) is said


def test_documents_and_history_are_text_for_a_native_engine() -> None:
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "One."}}
    query = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "otters"}}
    found = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
    request = request_of(user(document), assistant(text("Let me see."), query, found, text("So.")), user("Go on."))

    messages = rewritten(request, "document", "server_tool_history").request["messages"]

    assert messages[0]["content"] == [text("<document>\nOne.\n</document>")]
    words = [block["text"] for block in messages[1]["content"]]
    assert "".join(words) == (
        'Let me see.\n\n<server_tool_call name="web_search">\n{"query":"otters"}\n</server_tool_call>\n\n'
        '<server_tool_result type="web_search_tool_result">\nNothing was found.\n</server_tool_result>\n\nSo.'
    )


@pytest.mark.parametrize(
    ("where", "head", "turns"),
    [
        ("head", [text("A"), text("B")], [user("Hi"), assistant("Yes?"), user("So")]),
        ("user", "A", [user("Hi"), assistant("Yes?"), user(text("B")), user("So")]),
    ],
)
def test_system_turns_go_where_an_engine_takes_them(where: Any, head: Any, turns: list[Json]) -> None:
    request = request_of(user("Hi"), assistant("Yes?"), system("B"), user("So"), system="A")

    made = rewritten(request, "system_turn", options=RewriteOptions(system_turns=where)).request

    assert made["system"] == head
    assert made["messages"] == turns


def test_failed_calls_are_marked() -> None:
    failed = tool_result("t1", [image(), text("No such file.")], is_error=True)
    request = request_of(user("Hi"), assistant(tool_use("t1")), user(failed))

    [block] = rewritten(request, "is_error").request["messages"][2]["content"]

    assert block == tool_result("t1", [image(), text("! No such file.")], is_error=True)


def test_calls_and_results_are_paired() -> None:
    request = request_of(
        user(tool_result("gone", "What was left.")),
        assistant(tool_use("t1"), tool_use("t2")),
        user(text("Wait."), tool_result("t2", "two")),
        system("Be brief."),
        user(tool_result("t1", "one")),
        assistant(tool_use("t3")),
    )

    messages = rewritten(request, "unpaired_call").request["messages"]

    assert messages == [
        user(text("Result of the tool call gone:\nWhat was left.")),
        request["messages"][1],
        user(tool_result("t2", "two"), tool_result("t1", "one")),
        user(text("Wait.")),
        system("Be brief."),
        request["messages"][5],
        user(tool_result("t3", "! No result: the call was interrupted.")),
    ]
    with pytest.raises(InvalidRequestError, match=r"^messages\.0\.content\.0\.tool_use_id: "):
        rewritten(request, "unpaired_call", strict=True)


def test_a_result_keeps_only_what_results_hold() -> None:
    """A result in a result is judged by nobody, so nobody may read it."""
    inner = [text("so"), {"type": "tool_result", "tool_use_id": "t1", "content": True}, tool_use("t2")]
    request = request_of(user("Look."), assistant(tool_use("t1")), user(tool_result("t1", inner)), tools=[tool()])

    assert rewritten(request).request["messages"][2] == user(tool_result("t1", [text("so")]))
    with pytest.raises(InvalidRequestError, match=r"messages\.2\.content\.0\.content\.1"):
        rewritten(request, strict=True)


def test_cache_markers_are_taken_out_everywhere() -> None:
    inner = tool_result("t1", [text("so", **MARK)], **MARK)
    request = request_of(
        user(text("Hi", **MARK)),
        assistant(tool_use("t1")),
        user(inner),
        system=[text("A", **MARK)],
        tools=[tool(**MARK)],
        **MARK,
    )

    made = rewritten(request, "cache_control").request

    assert b"cache_control" not in orjson.dumps(made)
    assert made["messages"][2]["content"] == [tool_result("t1", [text("so")])]


def test_a_native_engine_gets_back_its_ids_and_its_thoughts() -> None:
    ident = encode_call_id("toolu_1_0", "functions.look:0", {}, "m")
    thinking = {"type": "thinking", "thinking": "", "signature": SIGNER("", {"text": "Hm."})}
    request = request_of(user("Hi"), assistant(thinking, tool_use(ident)), user(tool_result(ident, "so")))

    messages = rewritten(request, "carried_id", "carried_thinking").request["messages"]

    assert messages[1]["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        tool_use("functions.look:0"),
    ]
    assert messages[2]["content"] == [tool_result("functions.look:0", "so")]


def test_images_that_a_model_cannot_see_are_words() -> None:
    dropped = DroppedFields()
    request = request_of(user(image(), text("What is it?")))

    made = rewrite(request, lacks={"image"}, options=OPTIONS, dropped=dropped).request

    assert [block["type"] for block in made["messages"][0]["content"]] == ["text", "text"]
    assert dropped.names == ["messages.0.content.0"]


def test_paths_are_those_of_the_client_whatever_other_passes_did() -> None:
    dropped = DroppedFields()
    document = {"type": "document", "source": {"type": "content", "content": [text("One."), {"type": "x"}, image()]}}
    request = request_of(
        user({"type": "hologram"}, document, image(), {"type": "hologram"}),
        system=[text("x-anthropic-billing-header: cch=1;"), {"type": "hologram"}],
    )

    rewrite(request, lacks=SUPPLIED, options=OPTIONS, dropped=dropped)

    assert sorted(dropped.names) == [
        "messages.0.content.0",
        "messages.0.content.1.source.content.1",
        "messages.0.content.1.source.content.2",
        "messages.0.content.2",
        "messages.0.content.3",
        "system.1",
    ]


TOY = '''
"""Holograms as words."""

FEATURES = frozenset({"unknown_block"})
ORDER = 1


def rewrite(draft):
    draft.change_blocks({"hologram": lambda block, path, place: [(path, {"type": "text", "text": block["words"]})]})
'''


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[None]:
    (tmp_path / "toy_holograms.py").write_text(TOY)
    passes.__path__.append(str(tmp_path))
    yield
    passes.__path__.remove(str(tmp_path))
    sys.modules.pop(f"{passes.__name__}.toy_holograms", None)


@pytest.mark.usefixtures("toy")
def test_a_pass_is_one_file() -> None:
    found = discover()
    request = request_of(user({"type": "hologram", "words": "Help me."}))

    made = rewrite(request, lacks=SUPPLIED, options=OPTIONS, dropped=DroppedFields(strict=True), passes=found)

    assert made.request["messages"] == [user(text("Help me."))]


# --- the law of prefixes ---

WORDS = st.sampled_from(["so", "it is", "an otter"])


@st.composite
def exchanges(draw: st.DrawFn, number: int) -> list[Json]:
    """What a client adds to a conversation in one turn: what the model said, then its own."""
    said: list[Json] = [text(draw(WORDS))]
    answers: list[Json] = []
    if draw(st.booleans()):
        said.insert(0, {"type": "thinking", "thinking": "", "signature": SIGNER("", {"text": draw(WORDS)})})
    if draw(st.booleans()):
        ident = f"srvtoolu_{number}"
        said += [
            {"type": "server_tool_use", "id": ident, "name": "web_search", "input": {"query": draw(WORDS)}},
            {"type": "web_search_tool_result", "tool_use_id": ident, "content": []},
            text(draw(WORDS)),
        ]
    for index in range(draw(st.integers(0, 2))):
        ident = draw(st.sampled_from([f"t{number}_{index}", encode_call_id(f"t{number}_{index}", "f:0", {}, "m")]))
        said.append(tool_use(ident, draw(st.sampled_from(["look", "bash", "x" * 80])), at=draw(WORDS)))
        content = draw(
            st.sampled_from(["so", [text("so"), image()], [{"type": "tool_reference", "tool_name": "bash"}]])
        )
        answers.append(tool_result(ident, content, is_error=draw(st.booleans())))
    asked = draw(st.lists(st.sampled_from([text("Why?"), image(), {"type": "hologram"}]), max_size=2))
    turns = [assistant(*said), user(*answers, *asked, text(draw(WORDS)))]
    return [*turns, system(draw(WORDS))] if draw(st.booleans()) else turns


@given(st.data(), st.integers(1, 4), st.sampled_from(["unknown", "vllm", "ollama", "openai"]))
def test_each_turn_s_prompt_begins_with_that_of_the_turn_before(data: st.DataObject, turns: int, engine: str) -> None:
    messages: list[Json] = [user("Hi")]
    tools = [tool(), {"type": "bash_20250124", "name": "bash"}, tool("x" * 80)]
    sent: list[Json] = []
    for number in range(turns + 1):
        request = request_of(*messages, tools=tools, system="Be brief.")
        options = TranslationOptions()
        made = to_chat_completion(request, model="m", dialect=ENGINES[engine].chat, options=options, signer=SIGNER)
        if sent:
            before = sent[-1]
            assert made.params["messages"][: len(before["messages"])] == before["messages"]
            assert made.params["tools"] == before["tools"]
        sent.append(made.params)
        messages = [*messages, *data.draw(exchanges(number))]
