"""Writes the parts of README.md that come from the code: `python scripts/docs.py`, or `--check`.

Each part stands between `<!-- begin NAME -->` and `<!-- end NAME -->`.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from llama_stack_messages_provider.config import MessagesConfig
from llama_stack_messages_provider.policy import feature_table

sys.path.insert(0, str(Path(__file__).parents[1]))

from scripts.compare_spec import REFERENCE, compare, score_line

README = Path(__file__).parents[1] / "README.md"


def configuration_table() -> str:
    """Every setting of `inline::messages`, with its default and meaning."""
    rows = [f"| `{name}` | `{default}` | {text} |" for name, default, text in _settings(MessagesConfig)]
    return "\n".join(["| setting | default | meaning |", "|---|---|---|", *rows])


def _settings(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            yield from _settings(nested, f"{prefix}{name}.")
        else:
            yield prefix + name, _default(field), field.description or ""


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if value is None or isinstance(value, SecretStr):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | dict | list):
        return repr(value).replace("'", '"')
    return f"{value:g}" if value < 1e6 else str(value)


def conformance() -> str:
    """How far our OpenAPI document is Anthropic's."""
    return f"Of Anthropic's published API, {score_line(compare(json.loads(REFERENCE.read_text())))}."


PARTS: dict[str, Callable[[], str]] = {
    "configuration": configuration_table,
    "conformance": conformance,
    "features": feature_table,
}


def written(text: str) -> str:
    """The README with its generated parts made anew."""
    for name, make in PARTS.items():
        pattern = rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)"
        text = re.sub(pattern, lambda found, make=make: f"{found[1]}\n{make()}\n\n{found[2]}", text, flags=re.DOTALL)
    return text


def main() -> int:
    """Write, or check."""
    old = README.read_text()
    new = written(old)
    if "--check" in sys.argv:
        return int(old != new)
    README.write_text(new)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
