"""What to change in a chat completion that an upstream refused, so that it is taken the second time.

Nobody's documentation says which of OpenAI's optional parameters a server takes, and Anthropic's clients ask for more
output than small models have room for. The refusal says it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llama_stack_messages_provider.translate.errors import context_limits

__all__ = ["Remedy", "remedy_for"]

# Parameters without which the answer is still an answer to the request.
_OPTIONAL = (
    "chat_template_kwargs",
    "continue_final_message",
    "add_generation_prompt",
    "continuous_usage_stats",
    "thinking_token_budget",
    "reasoning_effort",
    "parallel_tool_calls",
    "top_k",
    "user",
    "temperature",
    "top_p",
)
_REFUSES = re.compile(
    r"unsupported|not support|unrecognized|unknown|unexpected|extra (inputs|fields)|not (permitted|allowed)|invalid",
    re.IGNORECASE,
)
_SYSTEM = re.compile(r"system (message|role|prompt)|roles? must alternate|unexpected (message )?role", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Remedy:
    """A change to a chat completion, worth remembering for its model.

    Args:
        drop: A parameter to leave out.
        rename: A parameter to send under another name: (from, to).
        max_tokens: A smaller output limit, for this request alone.
        merge_system: Move system messages of mid-conversation to the head.
    """

    drop: str | None = None
    rename: tuple[str, str] | None = None
    max_tokens: int | None = None
    merge_system: bool = False

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters with the change; `merge_system` is for the translation to apply."""
        changed = {k: v for k, v in params.items() if k != self.drop}
        if self.drop == "continuous_usage_stats":
            changed["stream_options"] = {"include_usage": True}
        if self.rename is not None and self.rename[0] in changed:
            changed[self.rename[1]] = changed.pop(self.rename[0])
        if self.max_tokens is not None:
            name = "max_tokens" if "max_tokens" in changed else "max_completion_tokens"
            changed[name] = min(self.max_tokens, changed.get(name, self.max_tokens))
        return changed


def remedy_for(message: str, params: Mapping[str, Any]) -> Remedy | None:
    """The change that a refusal asks for; None if there is none.

    Args:
        message: The upstream's words.
        params: What was refused.
    """
    if (limits := context_limits(message)) and limits[0] < limits[1]:
        return Remedy(max_tokens=limits[1] - limits[0])
    if "max_completion_tokens" in message and "max_tokens" in params:
        return Remedy(rename=("max_tokens", "max_completion_tokens"))
    if _SYSTEM.search(message) and any(m["role"] == "system" for m in params["messages"][1:]):
        return Remedy(merge_system=True)
    if not _REFUSES.search(message):
        return None
    present = {*params, *(params.get("stream_options") or ())}
    named = (name for name in _OPTIONAL if name in present and re.search(rf"\b{name}\b", message))
    return next((Remedy(drop=name) for name in named), None)
