"""Changes to a chat completion that its upstream refused, worth remembering for its model: each a small class."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = [
    "EFFORTS",
    "LIMITS",
    "OF_MESSAGES",
    "Anew",
    "Bridged",
    "Efforts",
    "Limited",
    "Loosened",
    "NoImages",
    "Remedy",
    "Renamed",
    "ShortIds",
    "SystemFirst",
    "Without",
    "bridged",
    "has_long_ids",
    "is_closed",
    "strict_schemas",
]

LIMITS = ("max_tokens", "max_completion_tokens")
OF_MESSAGES = frozenset({"reasoning_content", "reasoning"})
# In order, weakest first.
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
# What no client asked for.
_OURS = frozenset({"continuous_usage_stats", "stream_options", "verbose", "return_progress"})
# What a client calls the others, where it calls them otherwise.
_TOLD = {
    "chat_template_kwargs": "thinking",
    "continue_final_message": "prefill",
    "thinking_token_budget": "thinking.budget_tokens",
    "thinking_budget_tokens": "thinking.budget_tokens",
    "reasoning_effort": "output_config.effort",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "user": "metadata.user_id",
}
# Without the one, the other would leave the model without its cue.
_TOGETHER = {"continue_final_message": frozenset({"continue_final_message", "add_generation_prompt"})}
_BRIDGE = {"role": "assistant", "content": "Understood."}
_SHORT_ID = re.compile(r"[a-zA-Z0-9]{9}")


class Remedy:
    """A change to a chat completion; this one changes nothing."""

    __slots__ = ()

    @property
    def lasts(self) -> bool:
        """Whether it is worth remembering: whether the next request may need it as well."""
        return True

    def lost(self, params: Mapping[str, Any]) -> list[str]:
        """What the change takes from a request that its client is to be told of."""
        return []

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters with the change."""
        return dict(params)


class Anew(Remedy):
    """A change for which the request has to be translated again."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class SystemFirst(Anew):
    """System messages of mid-conversation move to the head."""


@dataclass(frozen=True, slots=True)
class NoImages(Anew):
    """Images are left out, and a word in their place says so."""


@dataclass(frozen=True, slots=True)
class Without(Remedy):
    """A parameter, or a field of messages, is left out."""

    name: str

    def lost(self, params: Mapping[str, Any]) -> list[str]:
        """The client's name for it."""
        if self.name not in params or self.name in _OURS:
            return []
        off = self.name == "reasoning_effort" and params[self.name] == "none"
        return ["thinking" if off else _TOLD.get(self.name, self.name)]

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters without it."""
        gone = _TOGETHER.get(self.name, frozenset({self.name}))
        changed = {k: v for k, v in params.items() if k not in gone}
        if self.name == "continuous_usage_stats" and "stream_options" in changed:
            changed["stream_options"] = {k: v for k, v in changed["stream_options"].items() if k != self.name}
        if self.name in OF_MESSAGES:
            changed["messages"] = [{k: v for k, v in m.items() if k != self.name} for m in params["messages"]]
        return changed


@dataclass(frozen=True, slots=True)
class Renamed(Remedy):
    """A parameter is sent under another name."""

    old: str
    new: str

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters with the new name."""
        return {self.new if name == self.old else name: value for name, value in params.items()}


@dataclass(frozen=True, slots=True)
class Limited(Remedy):
    """A smaller output limit, for this request alone.

    Args:
        max_tokens: The limit; 0 for none, which is what the window has room for.
        of_model: The limit is the model's own, and not what its window leaves.
    """

    max_tokens: int
    of_model: bool = False

    @property
    def lasts(self) -> bool:
        """Never: the next prompt leaves another room."""
        return False

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters with the limit."""
        if not self.max_tokens:
            return {k: v for k, v in params.items() if k not in LIMITS}
        return {k: min(v, self.max_tokens) if k in LIMITS else v for k, v in params.items()}


@dataclass(frozen=True, slots=True)
class Bridged(Remedy):
    """A word of the assistant's stands between results of tools and what the user says after them."""

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters with the words."""
        return {**params, "messages": list(bridged(params["messages"]))}


@dataclass(frozen=True, slots=True)
class ShortIds(Remedy):
    """Ids of calls have nine letters and digits, as Mistral's models know them; the same id is always the same one.

    Source: https://github.com/mistralai/mistral-common/blob/main/src/mistral_common/protocol/instruct/validator.py
    """

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters with the ids."""
        return {**params, "messages": list(map(_with_short_ids, params["messages"]))}


@dataclass(frozen=True, slots=True)
class Efforts(Remedy):
    """The efforts that the model takes, weakest first; another becomes the next weaker one, or the weakest."""

    taken: tuple[str, ...]

    def lost(self, params: Mapping[str, Any]) -> list[str]:
        """Thinking, where it was to be off: the model will think all the same."""
        return ["thinking"] if params.get("reasoning_effort") == "none" else []

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters with an effort that is taken."""
        if "reasoning_effort" not in params:
            return dict(params)
        wanted = EFFORTS.index(params["reasoning_effort"])
        weaker = [effort for effort in self.taken if EFFORTS.index(effort) <= wanted]
        return {**params, "reasoning_effort": weaker[-1] if weaker else self.taken[0]}


@dataclass(frozen=True, slots=True)
class Loosened(Remedy):
    """Schemas are asked for without `strict`: `open` ones, which have optional properties; or `all`, this once."""

    schemas: Literal["open", "all"]

    @property
    def lasts(self) -> bool:
        """Whether it is for schemas of a kind."""
        return self.schemas == "open"

    def lost(self, params: Mapping[str, Any]) -> list[str]:
        """The places that said `strict`."""
        return [path for path, schema in strict_schemas(params) if self._loosens(schema)]

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters without `strict` there."""
        changed = dict(params)
        if form := params.get("response_format"):
            changed["response_format"] = {**form, "json_schema": self._loose(form["json_schema"], "schema")}
        if tools := params.get("tools"):
            changed["tools"] = [{**tool, "function": self._loose(tool["function"], "parameters")} for tool in tools]
        return changed

    def _loose(self, holder: dict[str, Any], key: str) -> dict[str, Any]:
        # Left out, for some engines with grammars take a false as a wish not to be guided.
        return {k: v for k, v in holder.items() if k != "strict"} if self._loosens(holder.get(key)) else holder

    def _loosens(self, schema: Any) -> bool:
        return self.schemas == "all" or not is_closed(schema)


def bridged(messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The messages with the assistant's words among them, where they are missing."""
    last = None
    for message in messages:
        if last == "tool" and message["role"] == "user":
            yield _BRIDGE
        yield message
        last = message["role"]


def has_long_ids(messages: list[dict[str, Any]]) -> bool:
    """Whether any call has an id that is not of Mistral's form."""
    return any(_with_short_ids(message) != message for message in messages)


def _with_short_ids(message: dict[str, Any]) -> dict[str, Any]:
    if message["role"] == "tool":
        return {**message, "tool_call_id": _short_id(message["tool_call_id"])}
    if calls := message.get("tool_calls"):
        return {**message, "tool_calls": [{**call, "id": _short_id(call["id"])} for call in calls]}
    return message


def _short_id(ident: str) -> str:
    return ident if _SHORT_ID.fullmatch(ident) else hashlib.sha256(ident.encode()).hexdigest()[:9]


def strict_schemas(params: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The schemas that are asked for strictly, and what a client is told if they no longer are."""
    form = (params.get("response_format") or {}).get("json_schema") or {}
    if form.get("strict"):
        yield "output_config.format.strict", form.get("schema")
    for tool in params.get("tools") or ():
        if tool["function"].get("strict"):
            yield f"tools.{tool['function']['name']}.strict", tool["function"].get("parameters")


def is_closed(schema: Any) -> bool:
    """Whether all objects of a schema name all their properties as required and allow no others.

    Source: https://platform.openai.com/docs/guides/structured-outputs (supported schemas).
    """
    if isinstance(schema, list):
        return all(map(is_closed, schema))
    if not isinstance(schema, Mapping):
        return True
    properties = schema.get("properties")
    if isinstance(properties, Mapping) or schema.get("type") == "object":
        closed = schema.get("additionalProperties") is False
        if not closed or set(properties or ()) - set(schema.get("required") or ()):
            return False
    return all(map(is_closed, schema.values()))
