"""Deferred tools: kept from the model until the conversation names them, natively and translated."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.rewriting import SUPPLIED, RewriteOptions, rewrite, rewrite_native
from tests.strategies import json_values
from tests.support.wire import Json
from tests.translation.helpers import assistant, text, tool, tool_result, tool_use, user

HI = user("Hi")
LOOK, SEE, HEAR, FEEL = (tool(name) for name in ("look", "see", "hear", "feel"))
DEFERRED = [LOOK, *({**each, "defer_loading": True} for each in (SEE, HEAR, FEEL))]


def reference(name: str) -> Json:
    return {"type": "tool_reference", "tool_name": name}


def searched(*names: str) -> Json:
    """The turn of a client that searches itself."""
    return user(tool_result("t", list(map(reference, names))))


def found(*names: str) -> Json:
    """A search of a server's."""
    content = {"type": "tool_search_tool_search_result", "tool_references": list(map(reference, names))}
    call = {"type": "server_tool_use", "id": "s", "name": "tool_search_tool_bm25", "input": {"query": "q"}}
    return assistant(call, {"type": "tool_search_tool_result", "tool_use_id": "s", "content": content}, text("So."))


def added(**tool_: Any) -> Json:
    return {"role": "system", "content": [{"type": "tool_addition", "tool": tool_}]}


def request(*messages: Json, **more: Any) -> Json:
    return {"model": "m", "max_tokens": 9, "messages": [HI, *messages], "tools": DEFERRED, **more}


def rewritten(request: Json) -> Json:
    done = rewrite(request, lacks=SUPPLIED, options=RewriteOptions(), dropped=DroppedFields())
    return dict(done.request)


def natively(request: Json) -> Any:
    dropped, options = DroppedFields(strict=True), RewriteOptions()
    marked = ["deferred_tool"]
    return rewrite_native(request, marked=marked, lacks=frozenset(), options=options, dropped=dropped).request


def offered(request: Json) -> list[str]:
    """The names of what a model is offered, which is the same natively."""
    names = [each["name"] for each in rewritten(request)["tools"]]
    if not any(m["role"] == "system" for m in request["messages"]):
        assert [each["name"] for each in natively(request)["tools"]] == names
    return names


def test_what_nobody_names_is_not_offered() -> None:
    assert offered(request()) == ["look"]
    assert all("defer_loading" not in each for each in rewritten(request(searched("see")))["tools"])


CALLED = assistant(tool_use("t", "find"))
NEW: Json = {**tool("new"), "defer_loading": True}
COMPACTED: Json = {
    "type": "compaction",
    "content": "x",
    "tool_changes": added(type="tool_reference", name="see")["content"],
}


@pytest.mark.parametrize(
    ("messages", "names"),
    [
        ([CALLED, searched("hear", "see")], ["hear", "see"]),
        ([found("feel"), HI], ["feel"]),
        ([found("feel"), HI, CALLED, searched("see", "feel")], ["feel", "see"]),
        ([assistant(tool_use("t", "hear")), user(tool_result("t", "x"))], ["hear"]),
        ([added(type="tool_reference", name="see")], ["see"]),
        ([added(type="tool_definition", definition=NEW)], []),
        ([assistant(COMPACTED), HI], ["see"]),
    ],
    ids=["the client's search", "a server's", "both", "a call", "an addition", "a deferred addition", "a compaction"],
)  # fmt: skip
def test_what_is_named_is_offered_behind_the_others_in_that_order(messages: list[Json], names: list[str]) -> None:
    assert offered(request(*messages)) == ["look", *names]


def test_a_forced_tool_is_offered() -> None:
    assert offered(request(tool_choice={"type": "tool", "name": "see"})) == ["look", "see"]


def test_the_model_reads_that_a_tool_is_there_now() -> None:
    content = rewritten(request(CALLED, searched("see")))["messages"][-1]["content"]
    assert content[0]["content"] == [text("The tool see is available now.")]
    assert "new" not in str(rewritten(request(added(type="tool_definition", definition=NEW))))


def test_a_request_without_deferred_tools_is_its_own_object() -> None:
    plain = request(tools=[LOOK, {**SEE, "defer_loading": False}])
    assert natively(plain) is plain


# --- what Anthropic refuses ---


def test_where_all_tools_are_deferred_all_are_offered() -> None:
    """Anthropic refuses it, and the SDK's own tests send it."""
    assert rewritten(request(tools=DEFERRED[1:]))["tools"] == [SEE, HEAR, FEEL]


@pytest.mark.parametrize(
    ("messages", "path"),
    [
        ([CALLED, searched("see", "gone")], r"messages\.2\.content\.0\.content\.1\.tool_name"),
        ([found("gone"), HI], r"messages\.1\.content\.1\.content\.tool_references\.0\.tool_name"),
    ],
)
def test_a_reference_without_a_definition_is_refused(messages: list[Json], path: str) -> None:
    with pytest.raises(InvalidRequestError, match=rf"^{path}: Tool reference 'gone' has no"):
        rewritten(request(*messages))


@pytest.mark.parametrize("tools", [[], [LOOK, {"type": "mcp_toolset", "mcp_server_name": "docs"}]])
def test_a_reference_is_not_refused_where_its_definition_may_be_elsewhere(tools: list[Json]) -> None:
    given = request(CALLED, searched("docs_search"), tools=tools)
    done = rewrite(given, lacks=SUPPLIED, options=RewriteOptions(), dropped=DroppedFields())
    assert "docs_search is available now" in str(done.request)


# --- laws ---

NAMES = st.lists(st.sampled_from(["look", "see", "hear", "feel"]), max_size=4)
TURNS = st.lists(st.tuples(st.sampled_from(["client", "server", "call"]), NAMES), max_size=5)


def turns(drawn: list[tuple[str, list[str]]]) -> list[list[Json]]:
    pairs = []
    for kind, names in drawn:
        if kind == "server":
            pairs.append([found(*names), HI])
        elif kind == "client":
            pairs.append([CALLED, searched(*names)])
        else:
            pairs.append([assistant(*(tool_use(f"t{n}", name) for n, name in enumerate(names)), text("x")), HI])
    return pairs


@given(TURNS)
def test_tools_only_ever_grow_at_their_end(drawn: list[tuple[str, list[str]]]) -> None:
    pairs = turns(drawn)
    before: list[str] = []
    for count in range(len(pairs) + 1):
        now = offered(request(*(message for pair in pairs[:count] for message in pair)))
        assert now[: len(before)] == before
        assert len(set(now)) == len(now)
        before = now
    named = {name for _, names in drawn for name in names}
    assert set(before) == named | {"look"}


@given(st.dictionaries(st.sampled_from(["messages", "tools", "tool_choice", "model"]), json_values()))
def test_any_json_passes_through_natively(given_: Json) -> None:
    with suppress(InvalidRequestError):
        natively(given_)
