"""The model's name in a request that is passed through: nothing else of it is changed here."""

import re
from collections.abc import Mapping
from typing import Any

import orjson

__all__ = ["dumped_with_model", "with_model"]

_MODEL = re.compile(rb'"model"\s*:\s*(?=")')


def with_model(raw: bytes, request: Mapping[str, Any], model: str) -> bytes:
    """The bytes of a JSON object with its top-level `model` exchanged.

    Args:
        raw: The bytes.
        request: The object.
        model: The model's name.
    """
    # One occurrence can only be the top-level one: inside a string the quotes would be escaped. A second one may be
    # another top-level key, its letters escaped or not, and upstreams differ on which of two they take.
    alone = raw.count(b'"model"') == 1 and b"\\u006" not in raw
    if alone and request.get("model") == model:
        return raw
    found = _MODEL.search(raw) if alone else None
    given = orjson.dumps(request.get("model"))
    if found and raw.startswith(given, found.end()):  # otherwise its letters are escaped
        return b"".join((raw[: found.end()], orjson.dumps(model), raw[found.end() + len(given) :]))
    return dumped_with_model(request, model)


def dumped_with_model(request: Mapping[str, Any], model: str) -> bytes:
    """A request as JSON, under a model's name."""
    return orjson.dumps({**request, "model": model})
