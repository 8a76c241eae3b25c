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
    """A system prompt, string or blocks, without the line; the same object where there is none, whatever it is."""
    if isinstance(system, str):
        return _LINE.sub("", system, count=1) if _LINE.match(system) else system
    if not isinstance(system, list) or not system or not isinstance(system[0], dict):
        return system
    head, *others = system
    text = head.get("text")
    if not isinstance(text, str) or not _LINE.match(text):
        return system
    rest = _LINE.sub("", text, count=1)
    return [{**head, "text": rest}, *others] if rest.strip() else others
