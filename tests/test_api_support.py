"""The table of support says what the translation does: rows are tried one by one, with strict mode off and on."""

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from llama_stack_messages_provider import metrics
from llama_stack_messages_provider.api_support import SUPPORT, Support, unknown_fields
from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.engines import ENGINES
from llama_stack_messages_provider.engines.features import features_of
from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.translation.reasons import FINISH_TO_STOP
from llama_stack_messages_provider.translation.request import Translation, TranslationOptions, to_chat_completion
from llama_stack_messages_provider.wire.request import CreateMessageRequest
from tests.server_tools.helpers import ALLOWED_SERVER, opened
from tests.support.sdk_types import fields, minimal, variants
from tests.wire.test_drift import CREATE, objects

type Json = dict[str, Any]

HELLO: Json = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
LOOK: Json = {"name": "look", "input_schema": {"type": "object"}}
CALL: Json = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
PICTURE: Json = {"type": "base64", "media_type": "image/png", "data": ""}
PLAIN: Json = {"type": "text", "media_type": "text/plain", "data": "words"}


def translate(request: Json, *, strict: bool = False, searches: bool = True) -> Translation:
    """The translation of a request, its searches made plain before it where the stack can search."""
    CreateMessageRequest.model_validate(request)
    dropped = DroppedFields(strict=strict)
    if searches:
        request, _ = asyncio.run(opened(request, dropped=dropped))
    options = TranslationOptions(strict=strict)
    translation = to_chat_completion(request, model="m", dialect=ENGINES["vllm"].chat, options=options)
    translation.dropped = [*dropped.names, *translation.dropped]
    return translation


SERVERS: Json = {"mcp_servers": [{"type": "url", "name": "a", "url": ALLOWED_SERVER}]}
TOOLSET: Json = {"type": "mcp_toolset", "mcp_server_name": "a", "tools": [LOOK]}


def check(support: Support, request: Json) -> None:
    """A request that says one thing fares as the table says of that thing."""
    if any(tool.get("type") == "mcp_toolset" for tool in request.get("tools") or ()):
        request = {**request, **SERVERS}
    if support.translated == "refused":
        with pytest.raises(InvalidRequestError):
            translate(request)
        return
    lost = support.translated == "dropped" and support.named
    assert bool(translate(request).dropped) == lost
    if lost:
        with pytest.raises(InvalidRequestError, match="strict"):
            translate(request, strict=True)
    else:
        assert translate(request, strict=True).dropped == []


PARAMETERS: Mapping[str, Any] = {
    "model": "m",
    "max_tokens": 5,
    "messages": HELLO["messages"],
    "system": "Be brief.",
    "stream": True,
    "stop_sequences": ["."],
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 5,
    "tools": [LOOK],
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "low"},
    "output_format": {"type": "json_schema", "schema": {"type": "object"}},
    "metadata": {"user_id": "u"},
    "cache_control": {"type": "ephemeral"},
    "service_tier": "auto",
    "container": "c",
    "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
    "compaction": {"type": "summarize"},
    "diagnostics": {"previous_message_id": "msg_1"},
    "fallbacks": "default",
    "inference_geo": "eu",
    "speed": "fast",
    **SERVERS,
    "billing_policy": {"type": "billing_policy"},
    "fallback_credit_token": "t",
    "thread": {"type": "create"},
    "safeguards": [{"type": "dangerous_tool_use"}],
}


@pytest.mark.parametrize("name", [name for name in SUPPORT["parameter"] if name in PARAMETERS])
def test_parameters_fare_as_declared(name: str) -> None:
    more = {"tools": [TOOLSET]} if name == "mcp_servers" else {}
    check(SUPPORT["parameter"][name], {**HELLO, name: PARAMETERS[name], **more})


def test_all_parameters_of_a_message_are_tried() -> None:
    assert set(SUPPORT["parameter"]) - set(PARAMETERS) == {"tool_choice"}


SETTINGS: Mapping[str, Json] = {
    "thinking.type: enabled": {"thinking": {"type": "enabled", "budget_tokens": 2000}},
    "thinking.type: adaptive": {"thinking": {"type": "adaptive"}},
    "thinking.type: disabled": {"thinking": {"type": "disabled"}},
    "thinking.type: between_tools": {"thinking": {"type": "between_tools"}},
    "thinking.budget_tokens": {"thinking": {"type": "enabled", "budget_tokens": 100}},
    "thinking.display": {"thinking": {"type": "adaptive", "display": "omitted"}},
    "thinking.block_binding": {"thinking": {"type": "adaptive", "block_binding": {}}},
    "output_config.effort": {"output_config": {"effort": "max"}},
    "output_config.format": {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
    "output_config.task_budget": {"output_config": {"task_budget": {"type": "tokens", "total": 5}}},
    "metadata.user_id": {"metadata": {"user_id": "u"}},
    "tool_choice.disable_parallel_tool_use": {
        "tools": [LOOK],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    },
    "tool_choice.name": {"tools": [LOOK], "tool_choice": {"type": "tool", "name": "look"}},
    "message.system": {"messages": [*HELLO["messages"], {"role": "system", "content": "Now in French."}]},
    "message.output_config": {"messages": [*HELLO["messages"], {"role": "system", "output_config": {"effort": "low"}}]},
    "message.clear_at": {
        "messages": [*HELLO["messages"], {"role": "system", "content": "x", "clear_at": "next_user_message"}]
    },
}


@pytest.mark.parametrize("name", SUPPORT["setting"])
def test_settings_fare_as_declared(name: str) -> None:
    check(SUPPORT["setting"][name], {**HELLO, **SETTINGS[name]})


def says(block: Json, role: str = "user") -> Json:
    return {**HELLO, "messages": [*HELLO["messages"], {"role": role, "content": [block]}]}


def answers(*content: Json, **more: Any) -> Json:
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": list(content), **more}
    return {
        **HELLO,
        "messages": [
            *HELLO["messages"],
            {"role": "assistant", "content": [CALL]},
            {"role": "user", "content": [result]},
        ],
    }


TURNS = objects(CREATE, "messages")
MINIMAL = {tag: minimal(kinds[0]) for turn in TURNS for tag, kinds in variants(fields(turn)["content"]).items()}

FOR_USERS = ("search_result", "container_upload")

BLOCKS: Mapping[str, Json] = {
    **{tag: says(block, "user" if tag in FOR_USERS else "assistant") for tag, block in MINIMAL.items()},
    "text": says({"type": "text", "text": "words"}),
    "image": says({"type": "image", "source": PICTURE}),
    "document": says({"type": "document", "source": PLAIN}),
    "tool_use": answers(),
    "tool_result": answers(),
    "tool_reference": answers({"type": "tool_reference", "tool_name": "look"}),
    "browser_state": answers({"type": "browser_state", "tabs": []}),
    "compaction": says({"type": "compaction", "content": "A summary."}),
}


@pytest.mark.parametrize("name", SUPPORT["block"])
def test_blocks_fare_as_declared(name: str) -> None:
    check(SUPPORT["block"][name], BLOCKS[name])


BLOCK_FIELDS: Mapping[str, Json] = {
    "cache_control": says({"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}),
    "citations": says({"type": "document", "source": PLAIN, "citations": {"enabled": True}}),
    "title": says({"type": "document", "source": PLAIN, "title": "x"}),
    "context": says({"type": "document", "source": PLAIN, "context": "x"}),
    "transformations": says({"type": "image", "source": PICTURE, "transformations": {"oversized_image": "error"}}),
    "is_error": answers(is_error=True),
    "content": answers({"type": "text", "text": "x"}),
    "state_changes": answers(
        {"type": "browser_state", "tabs": [], "state_changes": [{"type": "tab_opened", "tab_id": "t"}]}
    ),
    "encrypted_content": says({"type": "compaction", "encrypted_content": "x"}),
    "signature": says({"type": "compaction", "content": "x", "signature": "x"}),
    "tool_changes": says({"type": "compaction", "content": "x", "tool_changes": []}),
}


@pytest.mark.parametrize("name", BLOCK_FIELDS)
def test_fields_of_blocks_fare_as_declared(name: str) -> None:
    check(SUPPORT["block field"][name], BLOCK_FIELDS[name])


def test_all_fields_of_blocks_are_tried_but_those_that_only_other_models_write() -> None:
    assert set(SUPPORT["block field"]) - set(BLOCK_FIELDS) == {"caller", "toolset_name", "trigger"}


SOURCES: Mapping[str, Json] = {
    "image base64": PICTURE,
    "image url": {"type": "url", "url": "https://example.com/a.png"},
    "image file": {"type": "file", "file_id": "file_1"},
    "document text": PLAIN,
    "document content": {"type": "content", "content": "words"},
    "document url": {"type": "url", "url": "https://example.com/a.pdf"},
    "document file": {"type": "file", "file_id": "file_1"},
}


@pytest.mark.parametrize("name", SOURCES)
def test_sources_fare_as_declared(name: str) -> None:
    check(SUPPORT["source"][name], says({"type": name.split()[0], "source": SOURCES[name]}))


TOOLS: Mapping[str, Json] = {
    tag: minimal(kinds[0], tag) for each in CREATE for tag, kinds in variants(fields(each)["tools"]).items()
} | {"custom": LOOK, "mcp_toolset": TOOLSET}


@pytest.mark.parametrize("name", SUPPORT["tool"])
def test_tools_fare_as_declared(name: str) -> None:
    check(SUPPORT["tool"][name], {**HELLO, "tools": [TOOLS[name], {**LOOK, "name": "see"}]})


SEARCHES = [
    name for name in SUPPORT["tool"] if name.startswith(("web_search_", "web_fetch_", "advisor_", "code_execution_"))
]


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_is_dropped_where_the_stack_cannot_search(name: str) -> None:
    request = {**HELLO, "tools": [{**LOOK, "name": "see"}, TOOLS[name]]}
    assert translate(request, searches=False).dropped == ["tools.1"]
    with pytest.raises(InvalidRequestError, match="strict"):
        translate(request, strict=True, searches=False)


@pytest.mark.parametrize("name", [*SEARCHES, *(n for n, p in SUPPORT["tool"].items() if p.translated == "dropped")])
def test_a_tool_that_nothing_runs_is_refused_where_a_tool_is_forced(name: str) -> None:
    with pytest.raises(InvalidRequestError, match="cannot run"):
        translate({**HELLO, "tools": [TOOLS[name]], "tool_choice": {"type": "any"}}, searches=False)


TOOL_FIELDS: Mapping[str, Json] = {
    "type": {**LOOK, "type": "custom"},
    "description": {**LOOK, "description": "x"},
    "cache_control": {**LOOK, "cache_control": {"type": "ephemeral"}},
    "strict": {**LOOK, "strict": True},
    "defer_loading": {**LOOK, "defer_loading": True},
    "allowed_callers": {**LOOK, "allowed_callers": ["direct"]},
    "eager_input_streaming": {**LOOK, "eager_input_streaming": True},
    "input_examples": {**LOOK, "input_examples": [{}]},
    "max_characters": {**TOOLS["text_editor_20250728"], "max_characters": 5},
    "display_number": {**TOOLS["computer_20251124"], "display_number": 1},
    "enable_zoom": {**TOOLS["computer_20251124"], "enable_zoom": True},
    "configs": {**TOOLS["browser_toolset_20260801"], "configs": {"zoom": {"enabled": False}}},
    "max_uses": {**TOOLS["web_search_20260318"], "max_uses": 1},
    "allowed_domains": {**TOOLS["web_search_20260318"], "allowed_domains": ["a.test"]},
    "blocked_domains": {**TOOLS["web_search_20260318"], "blocked_domains": ["a.test"]},
    "user_location": {**TOOLS["web_search_20260318"], "user_location": {"type": "approximate", "city": "Bergen"}},
    "max_tokens": {**TOOLS["advisor_20260301"], "max_tokens": 9},
    "caching": {**TOOLS["advisor_20260301"], "caching": {"type": "ephemeral"}},
    "max_content_tokens": {**TOOLS["web_fetch_20260318"], "max_content_tokens": 9},
    "url_sources": {**TOOLS["web_fetch_20260318"], "url_sources": {"user_input": {"type": "none"}}},
    "use_cache": {**TOOLS["web_fetch_20260318"], "use_cache": False},
    "citations": {**TOOLS["web_fetch_20260318"], "citations": {"enabled": True}},
    "response_inclusion": {**TOOLS["web_search_20260318"], "response_inclusion": "excluded"},
    "default_config": {**TOOLSET, "default_config": {"enabled": False}},
    "tools": TOOLSET,
}


@pytest.mark.parametrize("name", SUPPORT["tool field"])
def test_fields_of_tools_fare_as_declared(name: str) -> None:
    check(SUPPORT["tool field"][name], {**HELLO, "tools": [TOOL_FIELDS[name], {**LOOK, "name": "see"}]})


@pytest.mark.parametrize("name", SUPPORT["tool choice"])
def test_tool_choices_fare_as_declared(name: str) -> None:
    choice = {"type": name, **({"name": "look"} if name == "tool" else {})}
    check(SUPPORT["tool choice"][name], {**HELLO, "tools": [LOOK], "tool_choice": choice})


def test_caching_never_changes_the_prompt() -> None:
    mark = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    plain = {"tools": [LOOK], "system": [{"type": "text", "text": "x"}], **answers({"type": "text", "text": "x"})}
    marked = {
        **mark,
        "tools": [{**LOOK, **mark}],
        "system": [{"type": "text", "text": "x", **mark}],
        **answers({"type": "text", "text": "x", **mark}, **mark),
    }
    assert translate(marked).params == translate(plain).params


def test_stop_reasons_that_are_mapped_have_a_finish_reason() -> None:
    made = {reason for reason in FINISH_TO_STOP.values() if reason is not None}
    assert made <= {name for name, support in SUPPORT["stop reason"].items() if support.translated != "dropped"}


def test_what_nobody_knows_is_named_shortly() -> None:
    assert unknown_fields({**HELLO, "safeguards": [], "betas": []}) == []
    assert unknown_fields({**HELLO, "new": [], "a\n": 1, "x" * 999: 1}) == ["new", r"a\n", "x" * 64]
    assert len(unknown_fields({f"f{n}": n for n in range(99)})) == 20


def test_unknown_fields_are_counted_by_name_and_their_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []
    counter = SimpleNamespace(add=lambda n, attributes: counted.append(attributes["parameter"]))
    monkeypatch.setattr(metrics, "_unknown", counter)
    monkeypatch.setattr(metrics, "_names", set())
    monkeypatch.setattr(metrics, "MAX_UNKNOWN_NAMES", 2)
    for name in ("a", "b", "c", "a"):
        metrics.count_unknown_fields({**HELLO, name: 1})
    assert counted == ["a", "b", "other", "a"]


@pytest.mark.parametrize("block", [*SUPPORT["block"], "newer_tool_result", "newer"])
def test_what_a_native_engine_needs_is_what_the_table_says(block: str) -> None:
    needed = features_of(says({"type": block}))
    row = SUPPORT["block"].get(block)
    newer = {"newer_tool_result": "server_tool_history", "newer": "unknown_block"}
    assert needed == frozenset(filter(None, [row.needs if row else newer[block]]))
