"""A Messages request to the parameters of an OpenAI chat completion; one small function a field.

The input is the JSON of a request that `api.models.CreateMessageRequest` has accepted.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llama_stack_messages_provider.api_support import carried_fields, carried_parameters
from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.engines import ChatWording
from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.rewriting import SUPPLIED, RewriteOptions, Rewritten, rewrite
from llama_stack_messages_provider.rewriting.signatures import Signer
from llama_stack_messages_provider.translation.answer import Thinking
from llama_stack_messages_provider.translation.conversation import Conversation
from llama_stack_messages_provider.translation.thinking import (
    EFFORTS,
    is_thinking_unsupported,
    reasoning_params,
    thinking_in_answer,
)
from llama_stack_messages_provider.translation.tools import ToolNames, ToolPlan, tool_plan
from llama_stack_messages_provider.wire.token_estimate import BYTES_PER_TOKEN

__all__ = ["Translation", "TranslationOptions", "to_chat_completion"]

# MCP servers that are called here are gone by now.
_CARRIED = carried_parameters() - {"mcp_servers"}
_CARRIED_FIELDS = carried_fields()
_NOTHING: tuple[Any, ...] = (None, [], {})
_MAX_USER = 64
# What is translated here, or makes no difference: the rest of what passes supply is supplied by them.
_PLAIN = frozenset({"redacted_thinking", "cache_control", "carried_id"})


@dataclass(frozen=True, slots=True)
class TranslationOptions:
    """What the configuration says about translations.

    Args:
        strict: Refuse what would be dropped.
        tool_error_marker: Put before a tool result whose `is_error` is true.
        merge_system: Move system turns of mid-conversation to the head, for templates that take no others.
        window: The model's context window in tokens, if it is known.
        bytes_per_token: What a token of the model has, in bytes, where tokens are estimated.
        descriptions: Texts that stand for images which the model cannot see, by the images' digests.
        salt: What keeps others from its cached prompt, where the engine can; None where nothing is to.
    """

    strict: bool = False
    tool_error_marker: str = "[tool error] "
    merge_system: bool = False
    window: int | None = None
    bytes_per_token: float = BYTES_PER_TOKEN
    descriptions: Mapping[str, str] = field(default_factory=dict)
    salt: str | None = None


@dataclass(slots=True)
class Translation:
    """A chat completion to send, and what is needed to translate its answer.

    Args:
        params: The parameters, plain JSON, in a stable order.
        dropped: Paths of what does not reach the model.
        plan: The tools that were offered.
        rewritten: The plainer request that was translated, and the way back from it.
        stop_sequences: What the client asked to stop at.
        max_tokens: The output limit that is sent, in tokens.
        thinking: Whether thinking is in the answer.
        window: The model's context window in tokens, if it is known.
        strict: Whether what would be dropped is refused.
    """

    params: dict[str, Any]
    plan: ToolPlan
    rewritten: Rewritten
    dropped: list[str] = field(default_factory=list)
    stop_sequences: tuple[str, ...] = ()
    max_tokens: int | None = None
    thinking: Thinking = "shown"
    window: int | None = None
    strict: bool = False

    @property
    def restore(self) -> Callable[[str], dict[str, Any]]:
        """Gives the `name`, and for a toolset's member the `toolset_name`, of a call's `tool_use` block, by the name of
        the function. It keeps nothing of the prompt.
        """
        names, back = self.plan.names.restored, self.rewritten.way_back
        return lambda function_name: back.restore(names.get(function_name, function_name))


def to_chat_completion(
    request: Mapping[str, Any],
    *,
    model: str,
    dialect: ChatWording,
    options: TranslationOptions,
    signer: Signer | None = None,
) -> Translation:
    """The chat completion that stands for a request.

    Args:
        request: The request's JSON, validated.
        model: The upstream's name of the model.
        dialect: The upstream's row.
        options: The configuration.
        signer: The model's: reads what signatures and ids of earlier answers carry.

    Raises:
        InvalidRequestError: Something cannot be made sense of, or would be dropped in strict mode.
    """
    dropped, names = DroppedFields(strict=options.strict), ToolNames()
    rewritten = _rewritten(request, names, dialect, options, dropped, signer)
    plain = rewritten.request
    plan = tool_plan(plain, names)
    conversation = Conversation(dialect.reasoning_field, names, model=signer.model if signer else "")
    params: dict[str, Any] = {"model": model, "messages": _messages(plain, conversation)}
    if max_tokens := _max_tokens(plain):
        params[dialect.max_tokens] = max_tokens
    params |= _sampling(plain, dialect, dropped)
    params |= plan.params
    params |= _reasoning(request, dialect, dropped)
    params |= _response_format(plain, dialect, dropped)
    params |= _user(plain, dialect)
    if options.salt and dialect.cache_salt:
        params[dialect.cache_salt] = options.salt
    params |= _stream(plain, dialect)
    if params["messages"][-1]["role"] == "assistant":
        params |= dialect.prefill
    _drop_the_rest(plain, dialect, dropped)
    return Translation(
        params,
        plan,
        rewritten,
        dropped=dropped.names,
        stop_sequences=tuple(sequence for sequence in plain.get("stop_sequences") or () if sequence),
        max_tokens=max_tokens,
        thinking=thinking_in_answer(request),
        window=options.window,
        strict=options.strict,
    )


def _rewritten(
    request: Mapping[str, Any],
    names: ToolNames,
    dialect: ChatWording,
    options: TranslationOptions,
    dropped: DroppedFields,
    signer: Signer | None,
) -> Rewritten:
    """The plain request: chat completions have nothing of what passes supply, but for what is named here."""
    has = {"image"} if dialect.images else set()
    has |= set() if options.merge_system else {"system_turn"}
    wanted = RewriteOptions(
        options.tool_error_marker,
        tool_name=names.sent,
        files=dialect.files,
        signer=signer,
        reasoning_details=True,
        bytes_per_token=options.bytes_per_token,
        descriptions=options.descriptions,
    )
    return rewrite(request, lacks=SUPPLIED - has - _PLAIN, options=wanted, dropped=dropped)


def _messages(request: Mapping[str, Any], conversation: Conversation) -> list[dict[str, Any]]:
    conversation.add("system", request.get("system"))
    for message in request["messages"]:
        conversation.add(message["role"], message.get("content"))
    if messages := conversation.messages:
        return messages
    raise InvalidRequestError("messages: at least one message must have content")


def _max_tokens(request: Mapping[str, Any]) -> int | None:
    """The output limit; 0, which asks Anthropic for a warm cache alone, is one token elsewhere."""
    max_tokens = request.get("max_tokens")
    return None if max_tokens is None else max(1, max_tokens)


def _sampling(request: Mapping[str, Any], dialect: ChatWording, dropped: DroppedFields) -> dict[str, Any]:
    params = {name: request[name] for name in ("temperature", "top_p") if request.get(name) is not None}
    if (top_k := request.get("top_k")) is not None:
        if dialect.top_k:
            params["top_k"] = top_k
        else:
            dropped.drop("top_k", f"{dialect.name} has no top_k")
    if stop := [sequence for sequence in request.get("stop_sequences") or () if sequence]:
        params["stop"] = stop[: dialect.max_stops]
        params |= dialect.report_stop_params
    return params


def _reasoning(request: Mapping[str, Any], dialect: ChatWording, dropped: DroppedFields) -> dict[str, Any]:
    thinking, effort = request.get("thinking"), _effort(request)
    if is_thinking_unsupported(thinking, dialect):
        dropped.drop("thinking", f"{dialect.name} has nothing like it")
    if effort is not None and not (dialect.effort and effort in EFFORTS):
        dropped.drop("output_config.effort", f"{dialect.name} has no effort {effort}")
        effort = None
    return reasoning_params(thinking, effort, dialect)


def _effort(request: Mapping[str, Any]) -> str | None:
    """The effort of this answer: the one that a system message set last, else the request's."""
    systems = (message for message in request["messages"] if message["role"] == "system")
    efforts = [(holder.get("output_config") or {}).get("effort") for holder in (request, *systems)]
    return next((effort for effort in reversed(efforts) if effort), None)


def _response_format(request: Mapping[str, Any], dialect: ChatWording, dropped: DroppedFields) -> dict[str, Any]:
    form = (request.get("output_config") or {}).get("format") or request.get("output_format")
    if not form:
        return {}
    if not isinstance(form.get("schema"), dict):  # the older spelling is not validated
        raise InvalidRequestError("output_format.schema: Input should be an object")
    if not dialect.schemas:
        dropped.drop("output_config.format", f"{dialect.name} takes no schema")
        return {}
    # Strict, as Anthropic guarantees the schema; where an upstream refuses it so, it is sent again without.
    schema = {"name": "answer", "schema": form["schema"], "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _user(request: Mapping[str, Any], dialect: ChatWording) -> dict[str, Any]:
    user_id = (request.get("metadata") or {}).get("user_id")
    params = {"user": _shortened(user_id)} if user_id else {}
    if dialect.cache_key:
        # Claude Code's user id has its session in it: its turns find their prompt where they left it.
        key = request.get(dialect.cache_key) or user_id
        params |= {dialect.cache_key: _shortened(key)} if isinstance(key, str) and key else {}
    return params


def _shortened(name: str) -> str:
    """A name as long as OpenAI takes; it is opaque, so that a digest tells users apart as well."""
    return name if len(name) <= _MAX_USER else hashlib.sha256(name.encode(errors="replace")).hexdigest()


def _stream(request: Mapping[str, Any], dialect: ChatWording) -> dict[str, Any]:
    if not request.get("stream"):
        return {}
    options = {"include_usage": True, **dialect.stream_options}
    return {"stream": True, "stream_options": options, **dialect.report_prompt_params}


def _drop_the_rest(request: Mapping[str, Any], dialect: ChatWording, dropped: DroppedFields) -> None:
    for name, value in request.items():
        if name not in _CARRIED and name != dialect.cache_key and value not in _NOTHING:
            dropped.drop(name, "the inference API has nothing like it")
    for holder, carried in _CARRIED_FIELDS.items():
        for name, value in (request.get(holder) or {}).items():
            if name not in carried and value not in _NOTHING:
                dropped.drop(f"{holder}.{name}", "the inference API has nothing like it")
