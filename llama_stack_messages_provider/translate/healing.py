"""What to change in a chat completion that an upstream refused, so that it is taken the second time.

Nobody's documentation says which of OpenAI's optional parameters a server takes, and Anthropic's clients ask for more
output than small models have room for. The refusal says it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from llama_stack_messages_provider.translate.errors import context_limits, output_limit

__all__ = ["Remedy", "remedy_for", "translation_helps"]

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
# Words of other meanings too: they count only where the message calls them a parameter.
_AMBIGUOUS = frozenset({"user", "reasoning"})
# vLLM refuses the variables of a template that a Mistral tokenizer has not, and names the template.
_ALIASES = {"chat_template_kwargs": "chat_template(_?kwargs)?"}
_OF_MESSAGES = frozenset({"reasoning_content", "reasoning"})
# Without the one, the other would leave the model without its cue.
_TOGETHER = {"continue_final_message": frozenset({"continue_final_message", "add_generation_prompt"})}

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
_BRIDGE = {"role": "assistant", "content": "Understood."}
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
# Efforts in order, and the words before a list of those that a model takes.
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_TAKEN_EFFORTS = re.compile(
    r"reasoning_?effort\b.*?(supported values are|must be one of|input should be|expected one of)(?P<list>.{0,120})",
    re.IGNORECASE | re.DOTALL,
)
_USE_INSTEAD = re.compile(r"use ['\"`]?max_completion_tokens['\"`]? instead", re.IGNORECASE)
# vLLM stops counting where prompt and output no longer fit together: its number is a lower bound and no help.
_NO_ROOM = re.compile(r"contains at least \d+ input tokens|cannot be greater than max_model_len", re.IGNORECASE)
_LIMIT_NAMES = ("max_tokens", "max_completion_tokens")


@dataclass(frozen=True, slots=True)
class Remedy:
    """A change to a chat completion, worth remembering for its model.

    Args:
        drop: A parameter, or a field of messages, to leave out.
        rename: A parameter to send under another name: (from, to).
        max_tokens: A smaller output limit, for this request alone; 0 for none, which is what the window has room for.
        of_model: The limit is the model's own, and not what its window leaves.
        merge_system: Move system messages of mid-conversation to the head.
        no_images: Leave out images, and say so in their place.
        bridge: Put a word of the assistant's between results of tools and what the user says after them.
        efforts: The efforts that the model takes, weakest first; another becomes the next weaker one, or the weakest.
        loosen: Ask for schemas without `strict`: for `open` ones, which have optional properties; or for `all`, which
            is for this request alone.
    """

    drop: str | None = None
    rename: tuple[str, str] | None = None
    max_tokens: int | None = None
    of_model: bool = False
    merge_system: bool = False
    no_images: bool = False
    bridge: bool = False
    efforts: tuple[str, ...] = ()
    loosen: Literal["open", "all"] | None = None

    @property
    def translates_anew(self) -> bool:
        """Whether the request has to be translated again."""
        return self.merge_system or self.no_images

    @property
    def lasts(self) -> bool:
        """Whether it is worth remembering: whether the next request may need it as well."""
        return self.max_tokens is None and self.loosen != "all"

    def lost(self, params: Mapping[str, Any]) -> list[str]:
        """What the change takes from a request that its client is to be told of."""
        if self.drop and self.drop in params and self.drop not in _OURS:
            off = self.drop == "reasoning_effort" and params[self.drop] == "none"
            return ["thinking" if off else _TOLD.get(self.drop, self.drop)]
        if self.efforts and params.get("reasoning_effort") == "none":  # it will think all the same
            return ["thinking"]
        return [path for path, schema in _strict_schemas(params) if self._loosens(schema)]

    def _loosens(self, schema: Any) -> bool:
        return self.loosen == "all" or (self.loosen == "open" and not _is_closed(schema))

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters with the change, where it is not one to translate anew."""
        gone = _TOGETHER.get(self.drop or "", frozenset({self.drop}))
        changed = {k: v for k, v in params.items() if k not in gone}
        if self.drop == "continuous_usage_stats" and "stream_options" in changed:
            changed["stream_options"] = {k: v for k, v in changed["stream_options"].items() if k != self.drop}
        if self.drop in _OF_MESSAGES:
            changed["messages"] = [{k: v for k, v in m.items() if k != self.drop} for m in params["messages"]]
        if self.rename is not None and self.rename[0] in changed:
            changed[self.rename[1]] = changed.pop(self.rename[0])
        if self.max_tokens is not None:
            changed = _limited(changed, self.max_tokens)
        if self.efforts and "reasoning_effort" in changed:
            changed["reasoning_effort"] = self._effort(changed["reasoning_effort"])
        if self.loosen:
            changed = self._loosened(changed)
        if self.bridge:
            changed["messages"] = list(_bridged(params["messages"]))
        return changed

    def _effort(self, wanted: str) -> str:
        weaker = [effort for effort in self.efforts if _EFFORTS.index(effort) <= _EFFORTS.index(wanted)]
        return weaker[-1] if weaker else self.efforts[0]

    def _loosened(self, params: dict[str, Any]) -> dict[str, Any]:
        changed = dict(params)
        if form := params.get("response_format"):
            changed["response_format"] = {**form, "json_schema": self._loose(form["json_schema"], "schema")}
        if tools := params.get("tools"):
            changed["tools"] = [{**tool, "function": self._loose(tool["function"], "parameters")} for tool in tools]
        return changed

    def _loose(self, holder: dict[str, Any], key: str) -> dict[str, Any]:
        # Left out, for some engines with grammars take a false as a wish not to be guided.
        return {k: v for k, v in holder.items() if k != "strict"} if self._loosens(holder.get(key)) else holder


def _bridged(messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    last = None
    for message in messages:
        if last == "tool" and message["role"] == "user":
            yield _BRIDGE
        yield message
        last = message["role"]


def _limited(params: dict[str, Any], max_tokens: int) -> dict[str, Any]:
    if not max_tokens:
        return {k: v for k, v in params.items() if k not in _LIMIT_NAMES}
    return {k: min(v, max_tokens) if k in _LIMIT_NAMES else v for k, v in params.items()}


def _strict_schemas(params: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The schemas that are asked for strictly, and what a client is told if they no longer are."""
    form = (params.get("response_format") or {}).get("json_schema") or {}
    if form.get("strict"):
        yield "output_config.format.strict", form.get("schema")
    for tool in params.get("tools") or ():
        if tool["function"].get("strict"):
            yield f"tools.{tool['function']['name']}.strict", tool["function"].get("parameters")


def _is_closed(schema: Any) -> bool:
    """Whether all objects of a schema name all their properties as required and allow no others.

    Source: https://platform.openai.com/docs/guides/structured-outputs (supported schemas).
    """
    if isinstance(schema, list):
        return all(map(_is_closed, schema))
    if not isinstance(schema, Mapping):
        return True
    properties = schema.get("properties")
    if isinstance(properties, Mapping) or schema.get("type") == "object":
        closed = schema.get("additionalProperties") is False
        if not closed or set(properties or ()) - set(schema.get("required") or ()):
            return False
    return all(map(_is_closed, schema.values()))


def remedy_for(message: str, params: Mapping[str, Any]) -> Remedy | None:
    """The change that a refusal asks for; None if there is none.

    Args:
        message: The upstream's words.
        params: What was refused.
    """
    return next(_remedies(message, params), None)


def _remedies(message: str, params: Mapping[str, Any]) -> Iterator[Remedy]:
    if (room := _room(message)) is not None and room < _asked(params):
        yield Remedy(max_tokens=room, of_model=output_limit(message) is not None)
    if "max_tokens" in params and _USE_INSTEAD.search(message):
        yield Remedy(rename=("max_tokens", "max_completion_tokens"))
    if "max_completion_tokens" in params and _is_refused("max_completion_tokens", message):
        yield Remedy(rename=("max_completion_tokens", "max_tokens"))
    if _SYSTEM.search(message) and any(m["role"] == "system" for m in params["messages"][1:]):
        yield Remedy(merge_system=True)
    if _ALTERNATE.search(message) and len(list(_bridged(params["messages"]))) > len(params["messages"]):
        yield Remedy(bridge=True)
    if _NO_IMAGES.search(message) and _has_images(params):
        yield Remedy(no_images=True)
    if _SCHEMA.search(message) and (schemas := [schema for _, schema in _strict_schemas(params)]):
        yield Remedy(loosen="all" if all(map(_is_closed, schemas)) else "open")
    yield from _of_parameters(message, params)


def _of_parameters(message: str, params: Mapping[str, Any]) -> Iterator[Remedy]:
    efforts = _taken_efforts(message)
    if efforts and params.get("reasoning_effort", efforts[0]) not in efforts:
        yield Remedy(efforts=efforts)
    present = _present(params) - ({"reasoning_effort"} if efforts else set())
    for name in _OPTIONAL:
        if name in present and _is_refused(name, message):
            yield Remedy(drop=name)


def translation_helps(message: str, request: Mapping[str, Any]) -> bool:
    """Whether a native upstream refuses what a translation has a remedy for: an order of turns, or any image."""
    turns = request["messages"]
    if _SYSTEM.search(message) and any(isinstance(turn, Mapping) and turn.get("role") == "system" for turn in turns):
        return True
    # One turn alternates with nothing.
    return _NO_IMAGES.search(message) is not None or (len(turns) > 1 and _ALTERNATE.search(message) is not None)


def _has_images(params: Mapping[str, Any]) -> bool:
    contents = (m.get("content") for m in params["messages"])
    return any(part["type"] == "image_url" for content in contents if isinstance(content, list) for part in content)


def _taken_efforts(message: str) -> tuple[str, ...]:
    """The efforts that a refusal of one lists; none where it lists no effort but `none`, as Groq does."""
    found = _TAKEN_EFFORTS.search(message)
    words = set(re.findall(r"\w+", found["list"].lower())) if found else set()
    efforts = tuple(effort for effort in _EFFORTS if effort in words)
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
    return next((params[name] for name in _LIMIT_NAMES if name in params), 0)


def _present(params: Mapping[str, Any]) -> set[str]:
    of_messages = {name for message in params["messages"] for name in _OF_MESSAGES & message.keys()}
    return {*params, *(params.get("stream_options") or ()), *of_messages}


def _is_refused(name: str, message: str) -> bool:
    if not _REFUSES.search(message):
        return False
    word = _ALIASES.get(name, name.replace("_", "_?"))  # some servers write reasoningEffort
    called = rf"{_CALLED}\b[:\s'\"`(\[]*{word}\b|(^|[\s;.]){word}: "
    named = called if name in _AMBIGUOUS else rf"\b{word}\b(?!\.\w)"  # nor what stands above the refused field
    return re.search(named, message, re.IGNORECASE) is not None
