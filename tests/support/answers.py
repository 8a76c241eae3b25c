"""Holds answers against the published schema, strictly: what is unknown to it is a mistake of ours.

```
complaints(name, value) -> [line]   what is wrong with an answer or an event, by the name of its type
tags(name, field) -> {value}        the `type`s of the objects that a field may hold
```
"""

from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from llama_stack_messages_provider.wire.schemas import schemas
from scripts.compare_spec import BOUNDS

__all__ = ["complaints", "tags"]

type Json = dict[str, Any]


def _definitions(complete: bool) -> Json:
    return {name: _strict(schema, complete) for name, schema in schemas().items()}


def _strict(value: Any, complete: bool) -> Any:
    if isinstance(value, list):
        return [_strict(each, complete) for each in value if each != {"$ref": "UnknownType"}]
    if not isinstance(value, dict):
        return value
    # A property may have such a name; its schema is an object.
    left_out = [] if complete else [key for key in ("required", *BOUNDS) if not isinstance(value.get(key), dict)]
    made = {key: _strict(each, complete) for key, each in value.items() if key not in left_out}
    if not complete and isinstance(properties := made.get("properties"), dict):
        needed = {key for key in value.get("required", ()) if "default" not in properties[key]}
        made["properties"] = {
            key: each if key in needed else {"anyOf": [each, {"type": "null"}]} for key, each in properties.items()
        }
    if isinstance(name := value.get("$ref"), str):
        made["$ref"] = f"#/$defs/{name.rpartition('/')[2]}"
    return made


@cache
def _validator(name: str, complete: bool) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": _definitions(complete)})


def complaints(name: str, value: Any, *, complete: bool = True) -> list[str]:
    """With `complete` off, fields may be missing and of any size, and null where optional: the SDK's types say
    little of bounds, and None for what is absent.
    """
    errors = _validator(name, complete).iter_errors(value)
    return [f"{'.'.join(map(str, each.absolute_path))}: {each.message}" for each in errors]


def tags(name: str, field: str) -> set[str]:
    schema = schemas()[name]["properties"][field]
    parts = [schemas()[each["$ref"]] for each in schema["anyOf"] if each["$ref"] != "UnknownType"]
    return {part["properties"]["type"]["const"] for part in parts}
