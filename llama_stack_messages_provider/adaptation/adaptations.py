"""Which changes a refusal asks for: what is changed follows from its kind."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from llama_stack_messages_provider.adaptation.changes import (
    EFFORTS,
    MAX_TOKENS_PARAMS,
    OF_MESSAGES,
    AskStream,
    CapMaxTokens,
    Change,
    DropImages,
    DropParameter,
    FillReasoning,
    FillThoughtSignature,
    InsertAssistantTurn,
    MergeSystem,
    NoEffortWithTools,
    RenameParameter,
    Retranslate,
    RoundEffort,
    ShortIds,
    SystemIntoUser,
    ThinkingOff,
    Translate,
    has_images,
)
from llama_stack_messages_provider.adaptation.refusals import Refusal
from llama_stack_messages_provider.adaptation.room import FitWindow
from llama_stack_messages_provider.adaptation.schemas import (
    AddProperties,
    DropKeywords,
    RelaxStrict,
    is_closed,
    strict_schemas,
)
from llama_stack_messages_provider.engines import ENGINES, Kind

__all__ = ["adaptations_for", "contradicts", "native_adaptations_for"]

type Params = Mapping[str, Any]

# Parameters, and fields of messages, without which the answer is still an answer to the request.
_OPTIONAL = frozenset(
    {
        "add_generation_prompt",
        "chat_template_kwargs",
        "continue_final_message",
        "continuous_usage_stats",
        "enable_thinking",
        "parallel_tool_calls",
        "prompt_cache_key",
        "reasoning",
        "reasoning_content",
        "reasoning_effort",
        "response_format",
        "return_progress",
        "stop",
        "stream_options",
        "temperature",
        "thinking",
        "thinking_budget",
        "thinking_budget_tokens",
        "thinking_token_budget",
        "tool_choice",
        "top_k",
        "top_p",
        "user",
        "verbose",
    }
)
# Fields of a Messages request that can go, where no translation carries them either.
_OPTIONAL_NATIVELY = frozenset(
    {"context_management", "inference_geo", "mcp_servers", "metadata", "service_tier", "temperature", "top_k", "top_p"}
)
# What a translation words otherwise, or does without.
_WORDED_OTHERWISE = frozenset(
    {
        "output_config",
        "output_format",
        "reasoning_effort",
        "stop_sequences",
        "thinking",
        "thinking_budget_tokens",
        "thinking_token_budget",
        "tool_choice",
    }
)
_KEYWORD = re.compile(r"unknown name \"([$\w]{1,60})\"", re.IGNORECASE)
_WORD = re.compile(r"\w+")
# No grammar can be made of the regular expressions and formats that schemas hold.
_UNGRAMMATICAL = frozenset({"pattern", "format"})


def adaptations_for(refusal: Refusal, params: Params) -> Iterator[Change]:
    """The changes to a chat completion that a refusal asks for, the best first; only such ones as change something."""
    for change in _BY_KIND.get(refusal.kind, _nothing)(refusal, params):
        if isinstance(change, Retranslate) or change.apply(params) != params:
            yield change


def native_adaptations_for(refusal: Refusal, request: Params) -> Iterator[Change]:
    """The changes to a Messages request that a native endpoint's refusal asks for, the last of which is `Translate`."""
    for change in _NATIVELY.get(refusal.kind, _nothing)(refusal, request):
        if change.apply(request) != request:
            yield change
    if _translation_helps(refusal, request):
        yield Translate()


def _translation_helps(refusal: Refusal, request: Params) -> bool:
    """Whether a native endpoint refuses what the translated route has a change for, or does not send."""
    if refusal.kind is Kind.SYSTEM_TURN:
        return _has_system_turn(request)
    if refusal.kind is Kind.TURN_ORDER:  # one turn alternates with nothing
        return len(request["messages"]) > 1
    if refusal.kind in (Kind.PARAMETER_UNKNOWN, Kind.VALUE_BAD):
        return refusal.parameter in _WORDED_OTHERWISE
    return refusal.kind in _TRANSLATED


def contradicts(refusal: Refusal, change: Change) -> bool:
    """Whether a refusal speaks against what was learned: a field is wanted that is left out, or an old name again."""
    if refusal.kind is Kind.SOMETHING_MISSING:
        return isinstance(change, DropParameter) and change.name == refusal.parameter
    if refusal.kind is Kind.PARAMETER_UNKNOWN:
        return isinstance(change, RenameParameter) and change.new == refusal.parameter
    return False


# --- chat completions ---


def _nothing(refusal: Refusal, params: Params) -> Iterator[Change]:
    return iter(())


def _unknown_parameter(refusal: Refusal, params: Params) -> Iterator[Change]:
    name = refusal.parameter
    if name in MAX_TOKENS_PARAMS:
        other = MAX_TOKENS_PARAMS[1 - MAX_TOKENS_PARAMS.index(name)]
        yield RenameParameter(name, other)
    elif name in _OPTIONAL and name in _present(params):
        yield DropParameter(name)


def _bad_value(refusal: Refusal, params: Params) -> Iterator[Change]:
    name = refusal.parameter
    if name == "reasoning_effort" and (taken := _efforts(refusal.values)):
        if params.get(name) not in taken:
            yield RoundEffort(taken) if taken != ("none",) else DropParameter(name)
    elif name in _OPTIONAL and name in _present(params):
        yield DropParameter(name, lasting=False)


def _missing(refusal: Refusal, params: Params) -> Iterator[Change]:
    if refusal.parameter in OF_MESSAGES:
        yield FillReasoning(refusal.parameter)
    elif refusal.parameter == "thought_signature":
        yield FillThoughtSignature()


def _too_much_output(refusal: Refusal, params: Params) -> Iterator[Change]:
    if refusal.limit:
        yield CapMaxTokens(refusal.limit, of_model=True)


def _too_little_room(refusal: Refusal, params: Params) -> Iterator[Change]:
    """The room that is left, exactly or by an estimate of the prompt; at last no limit, which is all that is left."""
    yield from _native_room(refusal, params)
    if not _is_exact(refusal):
        yield CapMaxTokens(0)


def _strict_schema(refusal: Refusal, params: Params) -> Iterator[Change]:
    if schemas := [schema for _, schema in strict_schemas(params)]:
        yield RelaxStrict("all" if all(map(is_closed, schemas)) else "open")


def _schema_keywords(refusal: Refusal, params: Params) -> Iterator[Change]:
    yield DropKeywords(frozenset(_KEYWORD.findall(refusal.words)))


def _ungrammatical_schema(refusal: Refusal, params: Params) -> Iterator[Change]:
    yield DropKeywords(_UNGRAMMATICAL, lasting=False)


def _turn_order(refusal: Refusal, params: Params) -> Iterator[Change]:
    if _has_late_system(params):
        yield MergeSystem()
    yield InsertAssistantTurn()


def _system_turn(refusal: Refusal, params: Params) -> Iterator[Change]:
    if _has_late_system(params):
        yield MergeSystem()
    elif "not supported" in refusal.words.lower():
        yield SystemIntoUser()


def _no_images(refusal: Refusal, params: Params) -> Iterator[Change]:
    if has_images(params):
        yield DropImages()


def _no_thinking(refusal: Refusal, params: Params) -> Iterator[Change]:
    """The switch of the engine whose words these are; then, behind a gateway, every other that there is."""
    switches = [refusal.engine.chat.thinking_off] if refusal.engine else []
    switches += [{"reasoning_effort": "none"}, *(engine.chat.thinking_off for engine in ENGINES.values())]
    yield from (ThinkingOff(switch) for n, switch in enumerate(switches) if switch and switch not in switches[:n])


def _forced_tool(refusal: Refusal, params: Params) -> Iterator[Change]:
    choice = params.get("tool_choice")
    if choice not in (None, "auto", "none"):
        yield from _no_thinking(refusal, params)
        yield DropParameter("tool_choice", lasting=False)


def _thinking_needs_stream(refusal: Refusal, params: Params) -> Iterator[Change]:
    if not params.get("stream"):
        yield AskStream()
        yield from _no_thinking(refusal, params)


_BY_KIND: Mapping[Kind, Callable[[Refusal, Params], Iterator[Change]]] = {
    Kind.PARAMETER_UNKNOWN: _unknown_parameter,
    Kind.VALUE_BAD: _bad_value,
    Kind.SOMETHING_MISSING: _missing,
    Kind.OUTPUT_LIMIT: _too_much_output,
    Kind.ROOM: _too_little_room,
    Kind.SCHEMA_STRICT: _strict_schema,
    Kind.SCHEMA_PROPERTIES: lambda refusal, params: iter([AddProperties()]),
    Kind.SCHEMA_KEYWORDS: _schema_keywords,
    Kind.SCHEMA_GRAMMAR: _ungrammatical_schema,
    Kind.RESPONSE_FORMAT: lambda refusal, params: iter([DropParameter("response_format")]),
    Kind.TURN_ORDER: _turn_order,
    Kind.SYSTEM_TURN: _system_turn,
    Kind.IMAGES: _no_images,
    Kind.IDS: lambda refusal, params: iter([ShortIds()]),
    Kind.TOOL_CHOICE_VS_THINKING: _forced_tool,
    Kind.TOOLS_VS_EFFORT: lambda refusal, params: iter([NoEffortWithTools()]),
    Kind.THINKING_NEEDS_STREAM: _thinking_needs_stream,
}


# --- native requests ---


def _native_room(refusal: Refusal, request: Params) -> Iterator[Change]:
    if refusal.limit is None:
        return
    if _is_exact(refusal):
        yield CapMaxTokens(refusal.limit - (refusal.used or 0))
    else:
        yield FitWindow(refusal.limit, least=refusal.used or 0)


def _is_exact(refusal: Refusal) -> bool:
    return refusal.used is not None and refusal.limit is not None and not refusal.at_least


def _native_parameter(refusal: Refusal, request: Params) -> Iterator[Change]:
    if refusal.parameter in _OPTIONAL_NATIVELY:
        yield DropParameter(refusal.parameter, lasting=refusal.kind is Kind.PARAMETER_UNKNOWN)


_NATIVELY: Mapping[Kind, Callable[[Refusal, Params], Iterator[Change]]] = {
    Kind.OUTPUT_LIMIT: _too_much_output,
    Kind.ROOM: _native_room,
    Kind.PARAMETER_UNKNOWN: _native_parameter,
    Kind.VALUE_BAD: _native_parameter,
}
_TRANSLATED = frozenset(_BY_KIND) | {Kind.ENGINE_FAULT}


# --- looking ---


def _present(params: Params) -> set[str]:
    of_messages = {name for message in params["messages"] for name in OF_MESSAGES & message.keys()}
    return {*params, *(params.get("stream_options") or ()), *of_messages}


def _efforts(values: str) -> tuple[str, ...]:
    """The efforts that a text lists, weakest first."""
    words = set(_WORD.findall(values.lower()))
    return tuple(effort for effort in EFFORTS if effort in words)


def _has_late_system(params: Params) -> bool:
    return any(message["role"] == "system" for message in params["messages"][1:])


def _has_system_turn(request: Params) -> bool:
    turns = request["messages"]
    return any(isinstance(turn, Mapping) and turn.get("role") == "system" for turn in turns)
