"""Which way a request goes: the engine's gaps, the configured mode, and what is rewritten on the native route."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from llama_stack_messages_provider.engines import ENGINES as KNOWN
from llama_stack_messages_provider.rewriting import SUPPLIED
from llama_stack_messages_provider.server_tools.web_search import SearchResult, result_block
from tests.conftest import Fleet
from tests.live.raw import Answer, post
from tests.support import personalities
from tests.support.stack import Stack, openai_provider, vllm_provider
from tests.support.upstream import ScriptedUpstream
from tests.support.waiting import eventually
from tests.support.wire import Json, text_block, thinking_block, tool_use_block

MESSAGES, CHAT = "/v1/messages", "/v1/chat/completions"
ENGINES = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama.cpp", "ollama": "ollama", "anthropic": "anthropic"}
"""The fleet's names and the table's."""

MARKER = "[tool error] "
ATTRIBUTION = "x-anthropic-billing-header: cc_version=2.1.0; cch=1a2b3;"
TOOL: Json = {"name": "look", "input_schema": {"type": "object"}}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PLAIN = {"type": "text", "media_type": "text/plain", "data": "some words"}
SEARCHED = {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "found"}]}


def user(*blocks: Json) -> Json:
    """A request whose last turn has these blocks."""
    return {"messages": [{"role": "user", "content": [text_block("Hi"), *blocks]}]}


def history(*blocks: Json) -> Json:
    """A request after an assistant's turn with these blocks."""
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": [*blocks, text_block("So.")]}]
    return {"messages": [*turns, {"role": "user", "content": "Go on"}]}


def result(content: Any = "words", **more: Any) -> Json:
    """A request that brings a tool's result."""
    answered = {"type": "tool_result", "tool_use_id": "toolu_1", "content": content, **more}
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [tool_use_block("look", {}, id="toolu_1")]},
        {"role": "user", "content": [answered]},
    ]
    return {"messages": turns, "tools": [TOOL]}


SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}}
FEATURES: Mapping[str, list[Json]] = {
    "document": [user({"type": "document", "source": PLAIN}), result([{"type": "document", "source": PLAIN}])],
    "search_result": [user(SEARCHED), result([SEARCHED])],
    "tool_reference": [result([{"type": "tool_reference", "tool_name": "look"}])],
    "container_upload": [user({"type": "container_upload", "file_id": "file_1"})],
    "tool_change": [user({"type": "tool_addition", "tool": {"type": "tool_reference", "name": "look"}})],
    "unknown_block": [user({"type": "hologram", "data": "?"})],
    "system_turn": [{"messages": [{"role": "user", "content": "Hi"}, {"role": "system", "content": "Whisper."}]}],
    "image_url": [user({"type": "image", "source": {"type": "url", "url": "http://127.0.0.1:9/a.png"}})],
    "redacted_thinking": [history({"type": "redacted_thinking", "data": "abc"})],
    "client_tool": [
        {"tools": [{"type": "bash_20250124", "name": "bash"}]},
        {"tools": [TOOL, {"type": "memory_20250818", "name": "memory"}]},
    ],
    "server_tool": [{"tools": [TOOL, {"type": "web_fetch_20250910", "name": "web_fetch"}]}],
    "web_search": [{"tools": [TOOL, {"type": "web_search_20250305", "name": "web_search"}]}],
    "server_tool_history": [
        history(SEARCH, {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []})
    ],
    "forced_tool": [{"tools": [TOOL], "tool_choice": {"type": "tool", "name": "look"}}],
    "any_tool": [{"tools": [TOOL], "tool_choice": {"type": "any"}}],
    "no_tool": [{"tools": [TOOL], "tool_choice": {"type": "none"}}],
    "no_parallel_tools": [{"tools": [TOOL], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}],
    "thinking_off": [{"thinking": {"type": "disabled"}}],
    "effort": [{"output_config": {"effort": "low"}}],
    "structured_output": [
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object", "properties": {}}}}}
    ],
    "stop_sequences": [{"stop_sequences": ["END"]}],
    "prefill": [{"messages": [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "One,"}]}],
}
PLAIN_REQUESTS: list[Json] = [
    {},
    user({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}),
    result(),
    {"tools": [TOOL], "tool_choice": {"type": "auto"}},
    {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 4096, "metadata": {"user_id": "u"}},
    {"system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}], "temperature": 0.5},
    {"never_heard_of": {"a": 1}, "context_management": {"edits": []}},
]

each_engine = pytest.mark.parametrize("name", ENGINES)


def sent(fleet: Fleet, name: str, request: Json, **more: Any) -> tuple[Answer, list[str]]:
    """The answer, and the paths that the upstream was asked by; the probe's requests are not counted."""
    upstream = fleet.upstreams[name]
    upstream.forget()
    answer = post(fleet.stack, f"{name}/{name}-model", **request, **more)
    asked = [seen.path for seen in upstream.requests if seen.json and "messages" in seen.json]
    return answer, [path for path in asked if path != f"{MESSAGES}/count_tokens"]


@each_engine
def test_a_request_that_the_engine_can_take_goes_to_it(fleet: Fleet, name: str) -> None:
    for request in PLAIN_REQUESTS:
        answer, paths = sent(fleet, name, request)
        assert (answer.status, answer.headers["x-messages-route"]) == (200, "native"), request
        assert paths == [MESSAGES]
        assert "x-messages-dropped" not in answer.headers


@each_engine
@pytest.mark.parametrize("feature", FEATURES)
def test_a_request_for_what_the_engine_lacks_is_rewritten_or_translated(fleet: Fleet, name: str, feature: str) -> None:
    """It stays native where a pass supplies what is lacking."""
    lacking = feature in KNOWN[ENGINES[name]].native.gaps.keys() - SUPPLIED
    for request in FEATURES[feature]:
        for stream in (False, True):
            answer, paths = sent(fleet, name, request, stream=stream)
            assert answer.status == 200, answer.body
            assert answer.headers["x-messages-route"] == ("translation" if lacking else "native")
            assert paths == [CHAT if lacking else MESSAGES]


def test_every_gap_of_the_table_is_tried() -> None:
    assert {feature for engine in KNOWN.values() for feature in engine.native.gaps} <= set(FEATURES)


@each_engine
def test_what_is_carried_by_neither_route_is_named(fleet: Fleet, name: str) -> None:
    if "unknown_block" not in KNOWN[ENGINES[name]].native.gaps:
        return
    answer, _ = sent(fleet, name, FEATURES["unknown_block"][0])
    assert answer.headers["x-messages-dropped"] == "messages.0.content.1"


@pytest.mark.parametrize("name", ["vllm", "ollama", "llamacpp", "sglang"])
def test_a_configured_route_is_kept_whatever_the_request_needs(fleet: Fleet, name: str) -> None:
    for feature, (request, *_) in FEATURES.items():
        native = post(fleet.stack, f"{name}-native/{name}-model", **request)
        assert native.headers["x-messages-route"] == "native", feature
        translated = post(fleet.stack, f"{name}-translated/{name}-model", **request)
        assert translated.headers["x-messages-route"] == "translation", feature


def test_a_search_that_is_forced_goes_to_an_engine_that_searches(fleet: Fleet) -> None:
    """Claude Code asks so. Ollama ignores the choice, and may still search; a translation never can."""
    search = {"tools": FEATURES["web_search"][0]["tools"], "tool_choice": {"type": "tool", "name": "web_search"}}
    assert sent(fleet, "ollama", search)[1] == [MESSAGES]
    assert sent(fleet, "ollama", {**search, "tools": [*search["tools"], TOOL]})[1] == [MESSAGES]


def test_a_count_goes_the_way_of_its_request(fleet: Fleet) -> None:
    path = f"{MESSAGES}/count_tokens"
    for request, route in (
        ({}, "native"),
        (FEATURES["document"][0], "native"),
        (FEATURES["prefill"][0], "translation"),
    ):
        answer = post(fleet.stack, "vllm/vllm-model", path=path, **request)
        assert answer.status == 200
        assert answer.headers["x-messages-route"] == route


# --- what is rewritten ---


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_a_native_engine_gets_a_document_as_text_and_a_client_s_tool_as_a_custom_one(fleet: Fleet, name: str) -> None:
    tools = {"tools": [TOOL, {"type": "bash_20250124", "name": "bash"}]}
    body = native_body(fleet, name, {**FEATURES["document"][0], **tools})
    blocks = [block for turn in body["messages"] for block in turn["content"] if isinstance(block, dict)]
    assert "document" not in {block["type"] for block in blocks}
    assert any("<document" in block.get("text", "") for block in blocks)
    assert "type" not in body["tools"][1]
    assert "command" in body["tools"][1]["input_schema"]["properties"]


def test_strict_mode_refuses_what_a_pass_would_drop(fleet: Fleet) -> None:
    answer = post(fleet.stack, "vllm/vllm-model", headers={"x-messages-strict": "true"}, **FEATURES["unknown_block"][0])
    assert answer.status == 400
    assert answer.error[2].startswith("messages.0.content.1: ")


NOT_ANTHROPIC = [name for name in ENGINES if name != "anthropic"]


def native_body(fleet: Fleet, name: str, request: Json) -> Json:
    """What the upstream of a native request got."""
    answer, paths = sent(fleet, name, request)
    assert (answer.status, paths) == (200, [MESSAGES])
    body = fleet.upstreams[name].last.json
    assert isinstance(body, dict)
    return body


@each_engine
def test_the_attribution_line_goes_to_anthropic_only(fleet: Fleet, name: str) -> None:
    """It changes with each request, and no prefix cache would ever be hit."""
    rest = {"type": "text", "text": "You are an agent.", "cache_control": {"type": "ephemeral"}}
    request = {"system": [{"type": "text", "text": ATTRIBUTION}, rest]}
    seen = native_body(fleet, name, request)["system"]
    assert seen == (request["system"] if name == "anthropic" else [rest])


@each_engine
def test_a_failed_result_says_so_where_the_engine_does_not(fleet: Fleet, name: str) -> None:
    answered = native_body(fleet, name, result("no such file", is_error=True))["messages"][2]["content"][0]
    assert answered["is_error"] is True
    assert answered["content"] == ("no such file" if name == "anthropic" else f"{MARKER}no such file")


@each_engine
def test_thinking_that_was_signed_here_does_not_go_to_anthropic(fleet: Fleet, name: str) -> None:
    """Anthropic refuses signatures that are not its own, the other engines take any."""
    ours, theirs = thinking_block("Hm.", "lsm1.c2lnbmVk"), thinking_block("So.", "EqQBCgIYAhIM")
    seen = native_body(fleet, name, history(ours, theirs))["messages"][1]["content"]
    kept = [theirs] if name == "anthropic" else [ours, theirs]
    assert seen == [*kept, text_block("So.")]


def test_searches_that_were_made_here_go_to_anthropic_as_text(fleet: Fleet) -> None:
    """Anthropic takes no `encrypted_content` but its own; the other engines' native routes take no searches."""
    mark: Json = {"cache_control": {"type": "ephemeral"}}
    hits = [SearchResult("https://o.test", "Otters", "They swim.")]
    found = {**result_block("srvtoolu_1", hits, most_characters=99), **mark}
    theirs: Json = {**SEARCH, "id": "srvtoolu_2"}
    page = {"type": "web_search_result", "url": "u", "title": "t", "encrypted_content": "EqQBCgIYAhIM"}
    answer = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_2", "content": [page]}
    seen = native_body(fleet, "anthropic", history(SEARCH, found, theirs, answer))["messages"][1]["content"]
    assert [block["type"] for block in seen[:2]] == ["text", "text"]
    assert '{"query":"q"}' in seen[0]["text"]
    assert "They swim." in seen[1]["text"]
    assert seen[1]["cache_control"] == mark["cache_control"]
    assert seen[2:] == [theirs, answer, text_block("So.")]


# --- why ---


def test_the_log_says_which_way_each_request_goes_and_why(scripted_stack: Callable[..., Stack]) -> None:
    with (
        ScriptedUpstream(personalities.vllm(["m"])) as vllm,
        ScriptedUpstream(personalities.fastapi_404(["m"])) as other,
    ):
        stack = scripted_stack(
            inference=[vllm_provider(vllm.url), vllm_provider(vllm.url, "forced"), openai_provider(other.url)],
            messages={"routes": {"forced": "translation"}},
            env={"LLAMA_STACK_LOGGING": "providers=debug"},
        )
        post(stack, "vllm/m")
        post(stack, "vllm/m", **FEATURES["document"][0])
        post(stack, "vllm/m", **FEATURES["prefill"][0])
        post(stack, "forced/m")
        post(stack, "openai/m")
        asked = "(an invalid request was answered with {})"
        expected = [
            ("vllm/m", "native", f"the upstream speaks Messages {asked.format(400)}"),
            ("vllm/m", "native", f"the upstream speaks Messages {asked.format(400)}; rewritten: document"),
            ("vllm/m", "translation", f"prefill is {KNOWN['vllm'].native.gaps['prefill']}"),
            ("forced/m", "translation", "configured"),
            ("openai/m", "translation", f"the upstream does not speak Messages {asked.format(404)}"),
        ]

        def told() -> list[tuple[str, str, str]]:
            lines = [line for line in stack.records() if line["event"] == "Messages request"]
            return [(line["model"], line["route"], line["reason"]) for line in lines]

        eventually(lambda: len(told()) == len(expected))
        assert told() == expected
