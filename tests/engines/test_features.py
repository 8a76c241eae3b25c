"""What a request needs of a native endpoint, and which engines lack it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.engines import ENGINES
from llama_stack_messages_provider.engines.features import features_of
from tests.strategies import create_requests, json_values
from tests.translation.helpers import assistant, image, text, tool, tool_result, tool_use, user

type Json = dict[str, Any]


def request(*messages: Json, **fields: Any) -> Json:
    return {"model": "m", "max_tokens": 9, "messages": list(messages), **fields}


DOCUMENT = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}

FEATURES: list[tuple[str, Json, set[str]]] = [
    ("plain text", request(user("Hi")), set()),
    ("blocks that every engine takes", request(user(text("Hi")), assistant(tool_use("a"))), set()),
    ("an image", request(user(text("Hi"), image())), {"image"}),
    ("thinking", request(assistant({"type": "thinking", "thinking": "x", "signature": ""})), set()),
    ("an image by URL", request(user(image(type="url", url="https://x.test"))), {"image", "image_url"}),
    ("a document", request(user(DOCUMENT)), {"document"}),
    ("a document in a result", request(user(tool_result("a", [DOCUMENT]))), {"document"}),
    ("a search result", request(user({"type": "search_result"})), {"search_result"}),
    ("a tool reference", request(user(tool_result("a", [{"type": "tool_reference"}]))), {"tool_reference"}),
    ("redacted thinking", request(assistant({"type": "redacted_thinking", "data": ""})), {"redacted_thinking"}),
    ("a failed result", request(user(tool_result("a", is_error=True))), {"is_error"}),
    ("a good result", request(user(tool_result("a", is_error=False))), set()),
    ("a server tool's call", request(assistant({"type": "server_tool_use"})), {"server_tool_history"}),
    ("a server tool's result", request(assistant({"type": "web_search_tool_result"})), {"server_tool_history"}),
    ("an MCP call", request(assistant({"type": "mcp_tool_use"})), {"server_tool_history"}),
    ("a container's file", request(user({"type": "container_upload"})), {"container_upload"}),
    ("a change of tools", request(user({"type": "tool_addition"}, {"type": "tool_removal"})), {"tool_change"}),
    ("something new", request(user({"type": "hologram"})), {"unknown_block"}),
    ("a system turn", request(user("Hi"), {"role": "system", "content": "Whisper."}), {"system_turn"}),
    ("the client's own tools", request(tools=[tool(), tool("count", type="custom")]), set()),
    ("a client tool", request(tools=[{"type": "bash_20250124", "name": "bash"}]), {"client_tool"}),
    ("a toolset", request(tools=[{"type": "browser_toolset_20260801"}]), {"client_tool"}),
    ("a web search", request(tools=[{"type": "web_search_20250305", "name": "web_search"}]), {"web_search"}),
    ("another server tool", request(tools=[{"type": "web_fetch_20250910", "name": "web_fetch"}]), {"server_tool"}),
    ("a prefill", request(user("Count."), assistant("One,")), {"prefill"}),
    ("a prefill in blocks", request(user("Count."), assistant(text("One,"))), {"prefill"}),
    ("a call at the end", request(user("Count."), assistant(text("One,"), tool_use("a"))), set()),
    ("stop sequences", request(stop_sequences=["END"]), {"stop_sequences"}),
    ("no stop sequences", request(stop_sequences=[]), set()),
    ("any tool", request(tool_choice={"type": "any"}), {"any_tool"}),
    ("one tool", request(tool_choice={"type": "tool", "name": "look"}), {"forced_tool"}),
    ("no tool", request(tool_choice={"type": "none"}), {"no_tool"}),
    ("auto", request(tool_choice={"type": "auto"}), set()),
    (
        "one call at a time",
        request(tool_choice={"type": "auto", "disable_parallel_tool_use": True}),
        {"no_parallel_tools"},
    ),
    ("no thinking", request(thinking={"type": "disabled"}), {"thinking_off"}),
    ("no thinking but between tools", request(thinking={"type": "between_tools"}), {"thinking_off"}),
    ("adaptive thinking", request(thinking={"type": "adaptive"}), set()),
    ("an effort", request(output_config={"effort": "high"}), {"effort"}),
    ("a schema", request(output_config={"format": {"type": "json_schema", "schema": {}}}), {"structured_output"}),
    ("its older spelling", request(output_format={"type": "json_schema", "schema": {}}), {"structured_output"}),
]


@pytest.mark.parametrize(("given", "features"), [row[1:] for row in FEATURES], ids=[row[0] for row in FEATURES])
def test_features_are_found(given: Json, features: set[str]) -> None:
    assert features_of(given) == features


def test_the_profiles_know_only_features_that_are_looked_for() -> None:
    found = {name for _, _, features in FEATURES for name in features}

    assert {name for engine in ENGINES.values() for name in engine.native.gaps} <= found


@given(create_requests())
def test_every_request_has_features_that_are_words(request: Json) -> None:
    assert all(isinstance(feature, str) for feature in features_of(request))


NAMES = ["messages", "tools", "tool_choice", "thinking", "output_config"]
KEYS = ["content", "type", "source", "is_error", "effort", "format"]


def odd(depth: int = 3) -> st.SearchStrategy[Any]:
    """JSON of roughly a request's shape, in which anything may stand anywhere."""
    if not depth:
        return json_values()
    inner = odd(depth - 1)
    kinds = st.sampled_from(["text", "image", "tool_result", "document", "x"])
    made = st.fixed_dictionaries({}, optional={**dict.fromkeys(KEYS, inner), "type": kinds | inner})
    return st.lists(made | inner, max_size=2) | made | json_values()


@given(st.dictionaries(st.sampled_from(NAMES), odd(), max_size=3))
def test_shapes_that_are_not_valid_count_for_nothing(request: Json) -> None:
    assert all(isinstance(feature, str) for feature in features_of(request))
