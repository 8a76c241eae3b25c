"""The attribution line that Claude Code puts at the head of its system prompt.

It changes with each request, so that no prompt prefix would ever be found in an upstream's cache. It means something
to Anthropic alone and is taken out for everybody else.
"""

import re
from typing import Any

__all__ = ["MARK", "without_attribution"]

MARK = "x-anthropic-billing-header"
_LINE = re.compile(rf"\A\s*{MARK}:[^\n]*\n?")


def without_attribution(system: Any) -> Any:
    """A system prompt, string or blocks, without the line; the same object where there is none."""
    if isinstance(system, str):
        return _LINE.sub("", system, count=1)
    if not isinstance(system, list) or not system or MARK not in str(system[0].get("text", ""))[:200]:
        return system
    head = _LINE.sub("", system[0]["text"], count=1)
    return [{**system[0], "text": head}, *system[1:]] if head.strip() else system[1:]
