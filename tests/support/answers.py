"""Holds answers against the published schema, strictly: what is unknown to it is a mistake of ours.

```
complaints(name, value) -> [line]   what is wrong with an answer or an event, by the name of its type
tags(name, field) -> {value}        the `type`s of the objects that a field may hold
```
"""

from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from llama_stack_messages_provider.wire.answers import SHARED, answer_schemas

__all__ = ["complaints", "tags"]

type Json = dict[str, Any]


@cache
def _definitions() -> Json:
    shared = {name: model.model_json_schema() for name, model in SHARED.items() if name != "UnknownType"}
    return {name: _strict(schema) for name, schema in {**answer_schemas(), **shared}.items()}


def _strict(value: Any) -> Any:
    if isinstance(value, list):
        return [_strict(each) for each in value if each != {"$ref": "UnknownType"}]
    if not isinstance(value, dict):
        return value
    made = {key: _strict(each) for key, each in value.items()}
    if isinstance(name := value.get("$ref"), str):
        made["$ref"] = f"#/$defs/{name.rpartition('/')[2]}"
    return made


@cache
def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": _definitions()})


def complaints(name: str, value: Any) -> list[str]:
    return [f"{'.'.join(map(str, each.absolute_path))}: {each.message}" for each in _validator(name).iter_errors(value)]


def tags(name: str, field: str) -> set[str]:
    schema = answer_schemas()[name]["properties"][field]
    parts = [answer_schemas()[each["$ref"]] for each in schema["anyOf"] if each["$ref"] not in SHARED]
    return {part["properties"]["type"]["const"] for part in parts}
