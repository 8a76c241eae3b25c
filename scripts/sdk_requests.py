"""JSON schemas of request bodies, from the types of the `anthropic` SDK.

The SDK says which fields, types and values there are. Where we take more than it says, that is said here, as data;
bounds, of which it knows nothing, come from Anthropic's OpenAPI document (`generate_schemas`) and from `BOUNDS_OF`.
"""

import typing
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from anthropic._types import SequenceNotStr
from anthropic.types.beta.message_count_tokens_params import MessageCountTokensParams
from anthropic.types.beta.message_create_params import MessageCreateParamsNonStreaming
from anthropic.types.beta.messages.batch_create_params import BatchCreateParams
from typing_extensions import is_typeddict

__all__ = ["ADDED", "BOUNDS_OF", "request_schemas"]

type Json = dict[str, Any]

OBJECT: Json = {"type": "object", "additionalProperties": True}
STRINGS: Json = {"type": "array", "items": {"type": "string"}}
UNKNOWN: Json = {"$ref": "UnknownType"}
NULL: Json = {"type": "null"}

NAMES: Mapping[str, str] = {
    "MessageCreateParamsNonStreaming": "CreateMessageRequest",
    "MessageCountTokensParams": "CountTokensRequest",
    "BatchCreateParams": "CreateBatchRequest",
    "Request": "BatchRequestItem",
    "InputSchemaTyped": "InputSchema",
}
"""Our names of types, where the SDK's say little; the others lose their `Beta`."""

ARRAYS = (list, Iterable, Sequence, SequenceNotStr)
JSON_TYPES: Mapping[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
KNOWN = (*ARRAYS, dict, Literal, Union)
"""What is JSON; the SDK also takes files, and blocks of its answers."""

HEADERS = frozenset({"user_profile_id", "workspace_id"})
"""Parameters that the SDK sends as headers; what is in `betas` other clients put in the body."""

_MEMBERS: Json = {"type": "object", "additionalProperties": {"anyOf": [{"$ref": "MCPToolConfigParam"}, NULL]}}

REPLACED: Mapping[str, Json] = {
    "configs of BrowserToolset20260801Param": {"anyOf": [_MEMBERS, NULL]},
    "configs of ComputerToolset20260801Param": {"anyOf": [_MEMBERS, NULL]},
    **{name: {"anyOf": [OBJECT, NULL]} for name in ("compaction", "thread", "billing_policy")},
    "betas": STRINGS,
    "fallback_credit_token": {"anyOf": [{"type": "string"}, OBJECT, NULL]},
    "model": {"type": "string"},
    "params": {"$ref": "CreateMessageRequest"},
    "stream": {"type": "boolean"},
}
"""Fields of which we ask less than the SDK's types do, by name or by place."""

_FILE_ID: Json = {"file_id": {"anyOf": [{"type": "string"}, NULL]}}

ADDED: Mapping[str, Mapping[str, Json]] = {
    "CitationCharLocationParam": _FILE_ID,
    "CitationContentBlockLocationParam": _FILE_ID,
    "CitationPageLocationParam": _FILE_ID,
    "CreateMessageRequest": {
        "temperature": {"type": "number"},
        "top_p": {"type": "number"},
        "top_k": {"type": "integer"},
        "output_format": {"anyOf": [OBJECT, NULL]},
    },
}
"""Fields that are documented, or sent by older clients, and that the SDK's beta types do not have."""

CLOSED = frozenset({"thinking", "tool_choice", "content of SearchResultBlockParam"})
"""Fields whose objects have to be of a known type: what is not understood can neither be done nor left out."""

OPEN = frozenset({"system", "mcp_servers", "task_budget", "content of RequestMCPToolResultBlockParam"})
"""Fields that take objects of an unknown type, although the SDK knows one type only."""

BOUNDS_OF: Mapping[str, Json] = {
    "display_height_px": {"minimum": 1},
    "display_number": {"minimum": 0},
    "display_width_px": {"minimum": 1},
    "max_characters": {"minimum": 1},
    "max_content_tokens": {"exclusiveMinimum": 0},
    "max_tokens of AdvisorTool20260301Param": {"exclusiveMinimum": 0},
    "max_uses": {"exclusiveMinimum": 0},
    "max_tokens of CreateMessageRequest": {"minimum": 0},
    "messages": {"minItems": 1, "maxItems": 100_000},
    "model of CountTokensRequest": {"minLength": 1},
    "model of CreateMessageRequest": {"minLength": 1},
    "temperature": {"minimum": 0, "maximum": 1},
    "top_k": {"minimum": 0},
    "top_p": {"minimum": 0, "maximum": 1},
    "budget_tokens": {"minimum": 1024},
    "custom_id": {"minLength": 1, "maxLength": 64, "pattern": "^[a-zA-Z0-9_-]{1,64}$"},
    "name of ToolParam": {"minLength": 1, "maxLength": 128, "pattern": "^[a-zA-Z0-9_-]{1,128}$"},
    "requests": {"minItems": 1, "maxItems": 100_000},
}
"""Bounds where the OpenAPI document has none, or where we take more, by field."""


def request_schemas() -> dict[str, Json]:
    """The schemas of all bodies and their parts, by name; `$ref` holds a name."""
    made = _Schemas()
    for body in (MessageCreateParamsNonStreaming, MessageCountTokensParams, BatchCreateParams):
        made.of(body)
    turns = ("UserMessageParam", "AssistantMessageParam", "SystemMessageParam")
    return {name: schema for name, schema in made.by_name.items() if name not in turns}


class _Schemas:
    def __init__(self) -> None:
        self.by_name: dict[str, Json] = {"UnknownType": {"type": "object", "properties": {"type": {"type": "string"}}}}
        self._kinds: dict[str, Any] = {}

    def of(self, kind: Any) -> str:
        """The name of an object type, whose schema is made."""
        name = kind.__name__.removeprefix("Beta")
        name = NAMES.get(name, name)
        if name in self._kinds:
            assert self._kinds[name] is kind, f"two types are called {name}"
            return name
        self._kinds[name] = kind
        hints = typing.get_type_hints(kind, include_extras=True)
        properties = {field: self._field(name, field, hint) for field, hint in hints.items() if field not in HEADERS}
        needed = [field for field, hint in hints.items() if get_origin(hint) is typing.Required]
        self.by_name[name] = {
            "type": "object",
            "properties": {**properties, **deepcopy(ADDED.get(name, {}))},
            **({"required": needed} if needed else {}),
        }
        return name

    def _field(self, holder: str, field: str, hint: Any) -> Json:
        places = {field, f"{field} of {holder}"}
        made = deepcopy(REPLACED.get(f"{field} of {holder}", REPLACED.get(field))) or self._schema(hint)
        return made if places & CLOSED else _open(made, always=bool(places & OPEN))

    def _schema(self, hint: Any) -> Json:
        origin, args = get_origin(hint), get_args(hint)
        if origin in (typing.Required, typing.NotRequired, typing.Annotated):
            return self._schema(args[0])
        if origin in (Union, UnionType):
            return self._union(args)
        if origin is Literal:
            # Sorted, for `typing` takes literals of one set for the same, whichever comes first.
            return {"type": "string", **({"const": args[0]} if len(args) == 1 else {"enum": sorted(args)})}
        if origin in ARRAYS:
            return {"type": "array", "items": self._schema(args[0])}
        if origin is dict:
            return {"type": "object", "additionalProperties": self._schema(args[1]) or True}
        if is_typeddict(hint):
            return {"$ref": self.of(hint)}
        return {} if hint is object else {"type": JSON_TYPES[hint]}

    def _union(self, members: Sequence[Any]) -> Json:
        known = [each for each in members if each in JSON_TYPES or get_origin(each) in KNOWN or is_typeddict(each)]
        parts = [part for each in known for part in _parts(self._schema(each))]
        made = [part for index, part in enumerate(parts) if part not in parts[:index]]
        if any("$ref" in part for part in made):  # objects are open anyway
            made = [part for part in made if part != OBJECT]
        if all(self._is_turn(part) for part in made):
            return {"$ref": self._message([part["$ref"] for part in made])}
        return made[0] if len(made) == 1 else {"anyOf": made}

    def _is_turn(self, part: Json) -> bool:
        return "role" in self.by_name.get(part.get("$ref", ""), {}).get("properties", {})

    def _message(self, turns: Sequence[str]) -> str:
        """One object for the turns of all roles, as Anthropic publishes it."""
        schemas = [self.by_name[turn] for turn in turns]
        properties: Json = {}
        for schema in schemas:
            properties = schema["properties"] | properties
        roles = [schema["properties"]["role"]["const"] for schema in schemas]
        self.by_name["MessageParam"] = {
            "type": "object",
            "properties": properties | {"role": {"type": "string", "enum": roles}},
            "required": ["content", "role"],
        }
        return "MessageParam"


def _parts(schema: Json) -> list[Json]:
    return list(schema.get("anyOf", [schema]))


def _open(schema: Json, *, always: bool) -> Json:
    """With an unknown type beside the known ones, in unions of objects."""
    if "items" in schema:
        return {**schema, "items": _open(schema["items"], always=always)}
    parts = _parts(schema)
    objects = sum("$ref" in part for part in parts)
    if objects > 1 or (objects and always):
        return {"anyOf": [*parts, UNKNOWN]}
    return {"anyOf": [_open(part, always=always) for part in parts]} if len(parts) > 1 else schema
