"""Types of requests, made from their JSON schemas. Of what a schema says, this is enforced:

- required fields, JSON types, bounds of numbers, constants, and the values of `type`, `role` and `media_type`;
- not lengths, patterns and other enumerations: Anthropic changes those, and a newer client's value is kept.

What departs from that rule is listed here by its place. Null in an optional field is as if it were absent.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Union

from pydantic import AfterValidator, BaseModel, Field, ValidationInfo, create_model
from pydantic_core import PydanticCustomError

from llama_stack_messages_provider.wire.base import (
    Array,
    ByField,
    ByShape,
    JsonObject,
    Named,
    UnknownType,
    WireModel,
    named_type,
    register,
)
from llama_stack_messages_provider.wire.schemas import Json, schemas

__all__ = ["wire_type"]

_NULL = {"type": "null"}
_PLAIN: Mapping[str, Any] = {"string": str, "integer": int, "number": float, "boolean": bool}

_MAY_BE_ABSENT = frozenset(
    {
        "document_title",
        "title of CitationSearchResultLocationParam",
        "title of CitationWebSearchResultLocationParam",
        "signature of ThinkingBlockParam",
        "url of RequestMCPServerURLDefinitionParam",
    }
)
"""Documented as required, and left out by clients that send an answer back, whose thinking another server wrote, or
that name an MCP server which the stack knows.
"""

_ANY_VALUE = frozenset(
    {
        "fallbacks of CreateMessageRequest",
        "keep of ClearThinking20251015EditParam",
        "type of CacheControlEphemeralParam",
        "type of SkillParams",
        "type of UserLocationParam",
        "type of WebFetchURLSourceToolReferenceParam",
    }
)
"""Constants and types that need not be the documented ones."""

_CLOSED_ENUMERATIONS = frozenset({"type", "role", "media_type"})

_ANY_NUMBER = frozenset({"budget_tokens", "start_page_number"})
"""Numbers below their documented bounds are taken as long as they are not negative: clients send smaller budgets."""

_ENFORCED_TEXTS = frozenset({"model", "name of ToolParam", "custom_id"})
"""Texts whose length and pattern are enforced: our own limits, and what upstreams refuse in words of their own."""

_WITHOUT_TYPE: Mapping[str, str] = {"tools": "custom", "definition": "custom"}
"""What an object without a `type` is."""

_MISPLACED: Mapping[str, Sequence[str]] = {
    "system": (
        "image",
        "document",
        "search_result",
        "thinking",
        "redacted_thinking",
        "tool_use",
        "tool_result",
        "server_tool_use",
    )
}
"""Types that are known elsewhere in the API, and refused here."""


def _object_schema(schema: JsonObject) -> JsonObject:
    if schema.get("type", "object") != "object":
        raise PydanticCustomError("literal_error", "type should be 'object'")
    return schema


def _content(content: Any, info: ValidationInfo) -> Any:
    """A turn of the system that only changes settings has none."""
    if content is None and info.data.get("role") in ("user", "assistant"):
        raise PydanticCustomError("missing", "Field required")
    return content


_OTHER_TYPES: Mapping[str, Any] = {
    "input_schema of ToolParam": Annotated[JsonObject, AfterValidator(_object_schema)],
    "params of BatchRequestItem": JsonObject,  # checked when the request is run
}
"""Fields of another type than the published one."""


def wire_type(name: str) -> type[WireModel]:
    """The type of that name."""
    if name == "UnknownType":
        return UnknownType
    if (known := named_type(name)) is not None:
        return known
    schema = schemas()[name]
    required = schema.get("required", ())
    fields = dict(_field(name, field, part, field in required) for field, part in schema["properties"].items())
    made = create_model(name, __base__=WireModel, __module__=__name__, **fields)
    made.__doc__ = schema.get("description")
    register(made)
    return made


def _field(holder: str, name: str, schema: Json, is_required: bool) -> tuple[str, Any]:
    place = f"{name} of {holder}"
    kind: Any = _OTHER_TYPES.get(place) or _type(schema, name, place)
    # A name that is a method of pydantic's models, such as `schema`.
    python_name, alias = (f"{name}_", name) if hasattr(BaseModel, name) else (name, None)
    if place == "content of MessageParam":
        return name, (Annotated[kind | None, Field(validate_default=True), AfterValidator(_content)], None)
    if is_required and not {name, place} & _MAY_BE_ABSENT:
        return python_name, (kind, Field(alias=alias))
    return python_name, (kind | None, Field(None, alias=alias))


def _type(schema: Json, name: str, place: str) -> Any:
    if "anyOf" in schema:
        return _union([part for part in schema["anyOf"] if part != _NULL], _NULL in schema["anyOf"], name, place)
    if "$ref" in schema:
        return wire_type(schema["$ref"])
    match schema.get("type"):
        case "string":
            return _text(schema, name, place)
        case "array":
            items: Any = _type(schema["items"], name, place)
            return _bounded(Array[items], min_length=schema.get("minItems"), max_length=schema.get("maxItems"))
        case "object":
            entries: Any = schema["additionalProperties"]
            return JsonObject if entries is True else Named[_type(entries, name, place)]  # type: ignore[misc]
        case "integer" | "number" | "boolean" as kind:
            least = 0 if name in _ANY_NUMBER else schema.get("minimum")
            return _bounded(_PLAIN[kind], ge=least, gt=schema.get("exclusiveMinimum"), le=schema.get("maximum"))
    return Any


def _text(schema: Json, name: str, place: str) -> Any:
    values = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    if values and place not in _ANY_VALUE and ("const" in schema or name in _CLOSED_ENUMERATIONS):
        return Literal[tuple(values)]
    if not {name, place} & _ENFORCED_TEXTS:
        return str
    lengths = {"min_length": schema.get("minLength"), "max_length": schema.get("maxLength")}
    return _bounded(str, **lengths, pattern=schema.get("pattern"))


def _bounded(kind: Any, **bounds: Any) -> Any:
    given = {name: bound for name, bound in bounds.items() if bound is not None}
    return Annotated[kind, Field(**given)] if given else kind


def _union(parts: Sequence[Json], nullable: bool, name: str, place: str) -> Any:
    objects = [part for part in parts if "$ref" in part]
    kinds = [_type(part, name, place) for part in parts if "$ref" not in part]
    if len(objects) == 1:
        kinds.append(wire_type(objects[0]["$ref"]))
    elif objects:
        members: Any = Union[tuple(wire_type(part["$ref"]) for part in objects)]  # noqa: UP007
        kinds.append(Annotated[members, ByField(absent=_WITHOUT_TYPE.get(name), misplaced=_MISPLACED.get(name, ()))])
    made: Any = Union[tuple(kinds)]  # noqa: UP007
    if len(kinds) > 1 and not any(part.get("type") == "boolean" for part in parts):
        made = Annotated[made, ByShape()]
    return made | None if nullable else made
