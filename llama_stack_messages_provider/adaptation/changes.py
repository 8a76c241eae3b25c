"""Changes to a refused request, each a small class; those of schemas are in `schemas`."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from llama_stack_messages_provider.adaptation.change import Change

__all__ = [
    "EFFORTS",
    "MAX_TOKENS_PARAMS",
    "OF_MESSAGES",
    "AskStream",
    "CapMaxTokens",
    "Change",
    "DropImages",
    "DropParameter",
    "FillReasoning",
    "FillThoughtSignature",
    "InsertAssistantTurn",
    "MergeSystem",
    "NoEffortWithTools",
    "RenameParameter",
    "Retranslate",
    "RoundEffort",
    "ShortIds",
    "SystemIntoUser",
    "ThinkingOff",
    "Translate",
    "has_images",
]

MAX_TOKENS_PARAMS = ("max_tokens", "max_completion_tokens")
OF_MESSAGES = frozenset({"reasoning_content", "reasoning"})
# In order, weakest first.
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
# What no client asked for; stop sequences are enforced here, whoever else is told of them.
_NOBODYS = frozenset(
    {"continuous_usage_stats", "prompt_cache_key", "return_progress", "stop", "stream_options", "verbose"}
)
# What a client calls the others, where it calls them otherwise.
_CLIENTS_NAMES = {
    "chat_template_kwargs": "thinking",
    "enable_thinking": "thinking",
    "continue_final_message": "prefill",
    "thinking_token_budget": "thinking.budget_tokens",
    "thinking_budget_tokens": "thinking.budget_tokens",
    "thinking_budget": "thinking.budget_tokens",
    "reasoning_effort": "output_config.effort",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "user": "metadata.user_id",
    "response_format": "output_config.format",
}
# Without the one, the other would leave the model without its cue.
_TOGETHER = {"continue_final_message": frozenset({"continue_final_message", "add_generation_prompt"})}
_BRIDGE = {"role": "assistant", "content": "Understood."}
_SHORT_ID = re.compile(r"[a-zA-Z0-9]{9}")
# Some look whether there is anything in it.
_NO_REASONING = " "
# https://ai.google.dev/gemini-api/docs/thought-signatures: for calls that another model made.
_NO_SIGNATURE = {"google": {"thought_signature": "skip_thought_signature_validator"}}


class Retranslate(Change):
    """A change for which the request has to be translated again."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Translate(Change):
    """A native request goes by the translated route, this once."""

    @property
    def lasting(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class MergeSystem(Retranslate):
    """System messages of mid-conversation move to the head."""


@dataclass(frozen=True, slots=True)
class DropImages(Retranslate):
    """Images are left out, and a word in their place says so."""


@dataclass(frozen=True, slots=True)
class DropParameter(Change):
    """A parameter, or a field of messages, is left out.

    Args:
        name: The parameter.
        lasting: Whether the model takes no value of it.
    """

    name: str
    lasting: bool = True

    def dropped(self, params: Mapping[str, Any]) -> list[str]:
        if self.name not in params or self.name in _NOBODYS:
            return []
        off = self.name == "reasoning_effort" and params[self.name] == "none"
        return ["thinking" if off else _CLIENTS_NAMES.get(self.name, self.name)]

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        gone = _TOGETHER.get(self.name, frozenset({self.name}))
        changed = {k: v for k, v in params.items() if k not in gone}
        if self.name in (options := changed.get("stream_options") or {}):
            changed["stream_options"] = {k: v for k, v in options.items() if k != self.name}
        if self.name in OF_MESSAGES:
            changed["messages"] = [{k: v for k, v in m.items() if k != self.name} for m in params["messages"]]
        return changed


@dataclass(frozen=True, slots=True)
class RenameParameter(Change):
    """A parameter is sent under another name."""

    old: str
    new: str

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {self.new if name == self.old else name: value for name, value in params.items()}


@dataclass(frozen=True, slots=True)
class CapMaxTokens(Change):
    """A smaller output limit.

    Args:
        max_tokens: The limit; 0 for none, which is what the window has room for.
        of_model: The limit is the model's own, and not what its window leaves to this prompt.
    """

    max_tokens: int
    of_model: bool = False

    @property
    def lasting(self) -> bool:
        return self.of_model

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        if not self.max_tokens:
            return {k: v for k, v in params.items() if k not in MAX_TOKENS_PARAMS}
        capped = {k: min(v, self.max_tokens) if k in MAX_TOKENS_PARAMS else v for k, v in params.items()}
        thinking = params.get("thinking")
        budget = thinking.get("budget_tokens") if isinstance(thinking, Mapping) else None
        if type(budget) is int and budget >= self.max_tokens:
            capped["thinking"] = {**params["thinking"], "budget_tokens": max(1, self.max_tokens - 1)}
        return capped


@dataclass(frozen=True, slots=True)
class InsertAssistantTurn(Change):
    """A word of the assistant's stands between results of tools and what the user says after them."""

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {**params, "messages": list(_bridged(params["messages"]))}


@dataclass(frozen=True, slots=True)
class SystemIntoUser(Change):
    """What the system message at the head says begins the first turn of the user: the model knows no system."""

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        head, *rest = params["messages"]
        if head["role"] != "system" or not rest or rest[0]["role"] != "user":
            return dict(params)
        said = [*_parts(head["content"]), *_parts(rest[0]["content"])]
        content = "\n\n".join(part["text"] for part in said) if all(map(_is_text, said)) else said
        return {**params, "messages": [{**rest[0], "content": content}, *rest[1:]]}


@dataclass(frozen=True, slots=True)
class ShortIds(Change):
    """Ids of calls have nine letters and digits, as Mistral's models know them; the same id is always the same one.

    Source: https://github.com/mistralai/mistral-common/blob/main/src/mistral_common/protocol/instruct/validator.py
    """

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {**params, "messages": list(map(_with_short_ids, params["messages"]))}


@dataclass(frozen=True, slots=True)
class FillReasoning(Change):
    """Turns of the assistant that have no reasoning get an empty one, where the model insists on it.

    Args:
        name: The field.
    """

    name: str = "reasoning_content"

    @property
    def lasting(self) -> bool:
        return False

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {**params, "messages": [self._filled(message) for message in params["messages"]]}

    def _filled(self, message: dict[str, Any]) -> dict[str, Any]:
        missing = message["role"] == "assistant" and not message.get(self.name)
        return {**message, self.name: _NO_REASONING} if missing else message


@dataclass(frozen=True, slots=True)
class FillThoughtSignature(Change):
    """Calls without a thought signature get the one that says that there is none."""

    @property
    def lasting(self) -> bool:
        return False

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {**params, "messages": [_with_signatures(message) for message in params["messages"]]}


@dataclass(frozen=True, slots=True)
class RoundEffort(Change):
    """The efforts that the model takes, weakest first; another becomes the next weaker one, or the weakest."""

    taken: tuple[str, ...]

    def dropped(self, params: Mapping[str, Any]) -> list[str]:
        """Thinking, where it was to be off: the model will think all the same."""
        return ["thinking"] if params.get("reasoning_effort") == "none" and "none" not in self.taken else []

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        if params.get("reasoning_effort") not in EFFORTS:
            return dict(params)
        wanted = EFFORTS.index(params["reasoning_effort"])
        weaker = [effort for effort in self.taken if EFFORTS.index(effort) <= wanted]
        return {**params, "reasoning_effort": weaker[-1] if weaker else self.taken[0]}


@dataclass(frozen=True, slots=True)
class NoEffortWithTools(Change):
    """With functions there is no reasoning: `reasoning_effort` is `none`."""

    def dropped(self, params: Mapping[str, Any]) -> list[str]:
        asked = params.get("tools") and params.get("reasoning_effort") not in (None, "none")
        return ["thinking", "output_config.effort"] if asked else []

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {**params, "reasoning_effort": "none"} if params.get("tools") else dict(params)


@dataclass(frozen=True, slots=True)
class AskStream(Change):
    """An answer is asked for as a stream, whose pieces are joined here."""

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        if params.get("stream"):
            return dict(params)
        return {**params, "stream": True, "stream_options": {"include_usage": True}}


@dataclass(frozen=True, slots=True)
class ThinkingOff(Change):
    """The model is kept from thinking, this once.

    Args:
        switch: The parameters that do it.
    """

    switch: Mapping[str, Any] = field(hash=False)

    @property
    def lasting(self) -> bool:
        return False

    def dropped(self, params: Mapping[str, Any]) -> list[str]:
        return ["thinking"] if _thinks(params) else []

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        budgets = ("thinking_budget", "thinking_token_budget", "thinking_budget_tokens")
        kept = {k: v for k, v in params.items() if k not in budgets}
        if kept.get("reasoning_effort") != "none":
            kept.pop("reasoning_effort", None)
        return {**kept, **self.switch}


def has_images(params: Mapping[str, Any]) -> bool:
    """Whether any message of a chat completion has an image."""
    contents = (m.get("content") for m in params["messages"])
    return any(part["type"] == "image_url" for content in contents if isinstance(content, list) for part in content)


def _thinks(params: Mapping[str, Any]) -> bool:
    thinking, template = params.get("thinking"), params.get("chat_template_kwargs")
    return any(
        [
            params.get("reasoning_effort") not in (None, "none"),
            params.get("enable_thinking") is True,
            isinstance(thinking, Mapping) and thinking.get("type") != "disabled",
            isinstance(template, Mapping) and template.get("enable_thinking") is True,
        ]
    )


def _bridged(messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    last = None
    for message in messages:
        if last == "tool" and message["role"] == "user":
            yield _BRIDGE
        yield message
        last = message["role"]


def _with_short_ids(message: dict[str, Any]) -> dict[str, Any]:
    if message["role"] == "tool":
        return {**message, "tool_call_id": _short_id(message["tool_call_id"])}
    if calls := message.get("tool_calls"):
        return {**message, "tool_calls": [{**call, "id": _short_id(call["id"])} for call in calls]}
    return message


def _short_id(ident: str) -> str:
    return ident if _SHORT_ID.fullmatch(ident) else hashlib.sha256(ident.encode(errors="replace")).hexdigest()[:9]


def _with_signatures(message: dict[str, Any]) -> dict[str, Any]:
    if not (calls := message.get("tool_calls")):
        return message
    signed = [call if "extra_content" in call else {**call, "extra_content": _NO_SIGNATURE} for call in calls]
    return {**message, "tool_calls": signed}


def _parts(content: Any) -> list[dict[str, Any]]:
    return content if isinstance(content, list) else [{"type": "text", "text": content or ""}]


def _is_text(part: Mapping[str, Any]) -> bool:
    return bool(part["type"] == "text")
