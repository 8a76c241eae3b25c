"""The JSON schemas of all bodies: `schemas.json`, made from the `anthropic` SDK by `scripts/generate_schemas.py`."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["SCHEMAS", "Json", "schemas"]

Json = dict[str, Any]

SCHEMAS: Path = Path(__file__).with_name("schemas.json")


@cache
def schemas() -> Mapping[str, Json]:
    """The schema of each body and of its parts, by name; `$ref` holds a name."""
    found: Mapping[str, Json] = json.loads(SCHEMAS.read_text(encoding="utf-8"))
    return found
