"""What to change in a chat completion that an upstream refused, so that it is taken the second time.

Nobody's documentation says which of OpenAI's optional parameters a server takes, and Anthropic's clients ask for more
output than small models have room for. The refusal says it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from llama_stack_messages_provider.adaptation.changes import (
    EFFORTS,
    LIMITS,
    OF_MESSAGES,
    Bridged,
    Efforts,
    Limited,
    Loosened,
    NoImages,
    Remedy,
    Renamed,
    ShortIds,
    SystemFirst,
    Without,
    bridged,
    has_long_ids,
    is_closed,
    strict_schemas,
)
from llama_stack_messages_provider.adaptation.upstream_errors import context_limits, output_limit

__all__ = ["remedy_for", "translation_helps"]

# Parameters, and fields of messages, without which the answer is still an answer to the request.
_OPTIONAL = (
    "chat_template_kwargs",
    "continue_final_message",
    "add_generation_prompt",
    "continuous_usage_stats",
    "stream_options",
    "thinking_token_budget",
    "thinking_budget_tokens",
    "verbose",
    "return_progress",
    "reasoning_effort",
    "reasoning_content",
    "reasoning",
    "parallel_tool_calls",
    "top_k",
    "user",
    "temperature",
    "top_p",
)
# Words of other meanings too: they count only where the message calls them a parameter.
_AMBIGUOUS = frozenset({"user", "reasoning"})
# vLLM refuses the variables of a template that a Mistral tokenizer has not, and names the template.
_ALIASES = {"chat_template_kwargs": "chat_template(_?kwargs)?"}

_REFUSES = re.compile(
    r"unsupported|not support|unrecognized|unknown|unexpected|extra[_ ](inputs|fields|forbidden)|invalid"
    r"|not (permitted|allowed|configured|enabled)|must be one of",
    re.IGNORECASE,
)
_CALLED = r"(argument|field|key|option|param|parameter|property)s?( supplied)?"
_SYSTEM = re.compile(
    r"system message.{0,40}(begin|first|start|must|only|one)|only.{0,20}system message|roles? must alternate"
    r"|unexpected (message )?role|(got|role) ['\"`]?system|system role",
    re.IGNORECASE,
)
# Mistral's templates and its tokenizer want an answer to a tool's result before the user speaks again.
_ALTERNATE = re.compile(
    r"roles must alternate|unexpected role ['\"`]?user['\"`]? after role ['\"`]?tool", re.IGNORECASE
)
# A model without eyes; what is wrong with one image, its format or its size, is for the client to know.
_NO_IMAGES = re.compile(
    r"\b(images?|vision|multi-?modal)( (inputs?|content|data))? (is|are) not (supported|enabled|allowed)"
    r"|not support( the| any)? (images?|vision|multi-?modal)( (inputs?|content|data))?"
    r"\s*([.,;:\"'()]|$|-|(by|for|in|with)\b)"
    r"|image_url is only supported|not a multi-?modal|at most 0 images?\b|missing data required for image"
    r"|variant [`'\"]?image_url|content must be a string",
    re.IGNORECASE,
)
# OpenAI, and those who take after it, guarantee no schema with optional properties; Anthropic does.
_SCHEMA = re.compile(
    r"invalid (json )?schema for (response_format|function)|\b(required|additionalProperties)\W{0,3} is required to be"
    r" supplied|additionalProperties\W{0,3} must be (set to )?\W?false|\bjson_schema\b.{0,40}\bstrict\b",
    re.IGNORECASE | re.DOTALL,
)
# Mistral's API, its tokenizer and its templates; and OpenAI, which takes ids of 40 characters.
_IDS = re.compile(
    r"tool call ids? .{0,300}\blength (of )?9\b|tool_call(s\S*\.|_)id\b.{0,20}string too long",
    re.IGNORECASE | re.DOTALL,
)
# The words before a list of the efforts that a model takes.
_TAKEN_EFFORTS = re.compile(
    r"reasoning_?effort\b.*?(supported values are|must be one of|input should be|expected one of)(?P<list>.{0,120})",
    re.IGNORECASE | re.DOTALL,
)
_USE_INSTEAD = re.compile(r"use ['\"`]?max_completion_tokens['\"`]? instead", re.IGNORECASE)
# vLLM stops counting where prompt and output no longer fit together: its number is a lower bound and no help.
_NO_ROOM = re.compile(r"contains at least \d+ input tokens|cannot be greater than max_model_len", re.IGNORECASE)


def remedy_for(message: str, params: Mapping[str, Any]) -> Remedy | None:
    """The change that a refusal asks for; None if there is none.

    Args:
        message: The upstream's words.
        params: What was refused.
    """
    return next(_remedies(message, params), None)


def _remedies(message: str, params: Mapping[str, Any]) -> Iterator[Remedy]:
    if (room := _room(message)) is not None and room < _asked(params):
        yield Limited(room, of_model=output_limit(message) is not None)
    if "max_tokens" in params and _USE_INSTEAD.search(message):
        yield Renamed("max_tokens", "max_completion_tokens")
    if "max_completion_tokens" in params and _is_refused("max_completion_tokens", message):
        yield Renamed("max_completion_tokens", "max_tokens")
    if _SYSTEM.search(message) and any(m["role"] == "system" for m in params["messages"][1:]):
        yield SystemFirst()
    if _ALTERNATE.search(message) and len(list(bridged(params["messages"]))) > len(params["messages"]):
        yield Bridged()
    if _IDS.search(message) and has_long_ids(params["messages"]):
        yield ShortIds()
    if _NO_IMAGES.search(message) and _has_images(params):
        yield NoImages()
    if _SCHEMA.search(message) and (schemas := [schema for _, schema in strict_schemas(params)]):
        yield Loosened("all" if all(map(is_closed, schemas)) else "open")
    yield from _of_parameters(message, params)


def _of_parameters(message: str, params: Mapping[str, Any]) -> Iterator[Remedy]:
    efforts = _taken_efforts(message)
    if efforts and params.get("reasoning_effort", efforts[0]) not in efforts:
        yield Efforts(efforts)
    present = _present(params) - ({"reasoning_effort"} if efforts else set())
    for name in _OPTIONAL:
        if name in present and _is_refused(name, message):
            yield Without(name)


def translation_helps(message: str, request: Mapping[str, Any]) -> bool:
    """Whether a native upstream refuses what a translation has a remedy for: an order of turns, any image, or ids."""
    turns = request["messages"]
    if _SYSTEM.search(message) and any(isinstance(turn, Mapping) and turn.get("role") == "system" for turn in turns):
        return True
    # One turn alternates with nothing.
    refused = (_NO_IMAGES, _IDS, *([_ALTERNATE] if len(turns) > 1 else []))
    return any(pattern.search(message) for pattern in refused)


def _has_images(params: Mapping[str, Any]) -> bool:
    contents = (m.get("content") for m in params["messages"])
    return any(part["type"] == "image_url" for content in contents if isinstance(content, list) for part in content)


def _taken_efforts(message: str) -> tuple[str, ...]:
    """The efforts that a refusal of one lists; none where it lists no effort but `none`, as Groq does."""
    found = _TAKEN_EFFORTS.search(message)
    words = set(re.findall(r"\w+", found["list"].lower())) if found else set()
    efforts = tuple(effort for effort in EFFORTS if effort in words)
    return () if efforts == ("none",) else efforts


def _room(message: str) -> int | None:
    """What is left for output, in tokens; 0 where only the upstream knows."""
    if (limit := output_limit(message)) is not None:
        return limit
    limits = context_limits(message)
    if limits is not None and limits[0] >= limits[1]:  # the prompt alone is too long
        return None
    if _NO_ROOM.search(message):
        return 0
    return limits[1] - limits[0] if limits else None


def _asked(params: Mapping[str, Any]) -> int:
    return next((params[name] for name in LIMITS if name in params), 0)


def _present(params: Mapping[str, Any]) -> set[str]:
    of_messages = {name for message in params["messages"] for name in OF_MESSAGES & message.keys()}
    return {*params, *(params.get("stream_options") or ()), *of_messages}


def _is_refused(name: str, message: str) -> bool:
    if not _REFUSES.search(message):
        return False
    word = _ALIASES.get(name, name.replace("_", "_?"))  # some servers write reasoningEffort
    called = rf"{_CALLED}\b[:\s'\"`(\[]*{word}\b|(^|[\s;.]){word}: "
    named = called if name in _AMBIGUOUS else rf"\b{word}\b(?!\.\w)"  # nor what stands above the refused field
    return re.search(named, message, re.IGNORECASE) is not None
