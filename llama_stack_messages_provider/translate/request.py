"""A Messages request to the parameters of an OpenAI chat completion; one small function a field.

The input is the JSON of a request that `api.models.CreateMessageRequest` has accepted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llama_stack_messages_provider.translate.attribution import without_attribution
from llama_stack_messages_provider.translate.conversation import Conversation
from llama_stack_messages_provider.translate.dialects import Dialect
from llama_stack_messages_provider.translate.losses import Losses
from llama_stack_messages_provider.translate.thinking import reasoning_params, shows_thinking
from llama_stack_messages_provider.translate.tools import ToolPlan, tool_plan

__all__ = ["Translation", "TranslationOptions", "to_chat_completion"]

# Carried by a function below, or without effect on a model's answer.
_CARRIED = frozenset(
    {
        "model",
        "messages",
        "max_tokens",
        "system",
        "stop_sequences",
        "stream",
        "temperature",
        "top_p",
        "top_k",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "output_format",
        "metadata",
        # Upstreams cache prefixes by themselves; a marker must never change the prompt.
        "cache_control",
        "betas",
        "service_tier",
        "user_profile_id",
        "workspace_id",
    }
)


@dataclass(frozen=True, slots=True)
class TranslationOptions:
    """What the configuration says about translations.

    Args:
        strict: Refuse what would be dropped.
        tool_error_marker: Put before a tool result whose `is_error` is true.
        merge_system: Move system turns of mid-conversation to the head, for templates that take no others.
    """

    strict: bool = False
    tool_error_marker: str = "[tool error] "
    merge_system: bool = False


@dataclass(slots=True)
class Translation:
    """A chat completion to send, and what is needed to translate its answer.

    Args:
        params: The parameters, plain JSON, in a stable order.
        dropped: Paths of what does not reach the model.
        plan: The tools that were offered.
        stop_sequences: What the client asked to stop at.
        max_tokens: The output limit that is sent, in tokens.
        show_thinking: Whether the client wants to read the thinking.
        strict: Whether what would be dropped is refused.
    """

    params: dict[str, Any]
    plan: ToolPlan
    dropped: list[str] = field(default_factory=list)
    stop_sequences: tuple[str, ...] = ()
    max_tokens: int | None = None
    show_thinking: bool = True
    strict: bool = False


def to_chat_completion(
    request: Mapping[str, Any], *, model: str, dialect: Dialect, options: TranslationOptions
) -> Translation:
    """The chat completion that stands for a request.

    Args:
        request: The request's JSON, validated.
        model: The upstream's name of the model.
        dialect: The upstream's row.
        options: The configuration.

    Raises:
        InvalidRequestError: Something cannot be made sense of, or would be dropped in strict mode.
    """
    losses = Losses(strict=options.strict)
    plan = tool_plan(request, losses)
    params: dict[str, Any] = {"model": model, "messages": _messages(request, plan, dialect, losses, options)}
    if (max_tokens := request.get("max_tokens")) is not None:
        params[dialect.max_tokens] = max_tokens
    params |= _sampling(request, dialect, losses)
    params |= _tools(plan)
    effort = (request.get("output_config") or {}).get("effort")
    params |= reasoning_params(request.get("thinking"), effort, dialect)
    params |= _response_format(request)
    params |= _user(request)
    params |= _stream(request, dialect)
    if request["messages"][-1]["role"] == "assistant":
        params |= dialect.prefill
    for name in request:
        if name not in _CARRIED and request[name] is not None:
            losses.drop(name, "the inference API has nothing like it")
    return Translation(
        params,
        plan,
        dropped=losses.names,
        stop_sequences=tuple(request.get("stop_sequences") or ()),
        max_tokens=max_tokens,
        show_thinking=shows_thinking(request.get("thinking")),
        strict=options.strict,
    )


def _messages(
    request: Mapping[str, Any], plan: ToolPlan, dialect: Dialect, losses: Losses, options: TranslationOptions
) -> list[dict[str, Any]]:
    conversation = Conversation(dialect, losses, plan.names, plan.client_tools, options.tool_error_marker)
    if system := without_attribution(request.get("system")):
        conversation.system(system, "system")
    turns = [(f"messages.{i}.content", m["role"], m["content"]) for i, m in enumerate(request["messages"])]
    if options.merge_system:
        turns.sort(key=lambda turn: turn[1] != "system")
    for path, role, content in turns:
        getattr(conversation, role)(content, path)
    return conversation.close("messages")


def _sampling(request: Mapping[str, Any], dialect: Dialect, losses: Losses) -> dict[str, Any]:
    params = {name: request[name] for name in ("temperature", "top_p") if request.get(name) is not None}
    if (top_k := request.get("top_k")) is not None:
        if dialect.top_k:
            params["top_k"] = top_k
        else:
            losses.drop("top_k", f"{dialect.name} has no top_k")
    if stop := request.get("stop_sequences"):
        params["stop"] = stop
    return params


def _tools(plan: ToolPlan) -> dict[str, Any]:
    params: dict[str, Any] = {}
    if plan.functions:
        params["tools"] = plan.functions
    if plan.choice is not None:
        params["tool_choice"] = plan.choice
    if plan.parallel is not None:
        params["parallel_tool_calls"] = plan.parallel
    return params


def _response_format(request: Mapping[str, Any]) -> dict[str, Any]:
    form = (request.get("output_config") or {}).get("format") or request.get("output_format")
    if not form:
        return {}
    schema = {"name": form.get("name") or "answer", "schema": form["schema"], "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _user(request: Mapping[str, Any]) -> dict[str, Any]:
    user_id = (request.get("metadata") or {}).get("user_id")
    return {"user": user_id} if user_id else {}


def _stream(request: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    if not request.get("stream"):
        return {}
    return {"stream": True, "stream_options": {"include_usage": True, **dialect.stream_options}}
