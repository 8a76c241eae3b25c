"""What every wire type shares: unknown fields kept, no coercion, precise error paths.

A dump gives back what came in: what was absent stays absent, null stays null. What is published of a type is its JSON
schema of `schemas.json`.

Unions are told apart by one field (`ByField`) or by JSON kind (`ByShape`), never by trial: a bad field of a
known type is reported at its own path instead of once per member of the union. Arrays (`Array`) are checked up to
their first bad item, so that the time for a refusal does not depend on how much is wrong.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    FailFast,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Tag,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from typing_extensions import TypedDict

from llama_stack_messages_provider.wire.schemas import schemas

__all__ = [
    "Array",
    "ByField",
    "ByShape",
    "JsonObject",
    "Named",
    "UnknownType",
    "WireModel",
    "describe",
    "error_path",
    "literal_values",
    "named_type",
    "reference",
    "register",
    "union_members",
]


T = TypeVar("T")

JsonObject = dict[str, Any]


class _FirstErrorOnly(FailFast):
    """Pydantic's own, but hashable: a part of a union must be."""

    __hash__ = object.__hash__


Array = Annotated[list[T], _FirstErrorOnly()]
"""An array, checked up to its first bad item."""


MAX_NAMED: int = 10_000
"""The most entries of an object whose fields the client names."""


def _each_entry(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    if not isinstance(value, dict):
        return handler(value)
    if len(value) > MAX_NAMED:
        raise PydanticCustomError("too_long", f"Object should have at most {MAX_NAMED} fields")
    made: JsonObject = {}
    for name, entry in value.items():
        made |= handler({name: entry})
    return made


Named = Annotated[dict[str, T], WrapValidator(_each_entry)]
"""An object with a name for each entry, checked up to its first bad one."""


_BY_NAME: dict[str, type[BaseModel]] = {}


def named_type(name: str) -> type[Any] | None:
    """The type of that name, if there is one yet."""
    return _BY_NAME.get(name)


def register(kind: type[BaseModel]) -> None:
    """Let a type be found by its name."""
    _BY_NAME[kind.__name__] = kind


class WireModel(BaseModel):
    """A JSON object of the Messages API; unknown fields are kept and dumped again."""

    model_config = ConfigDict(
        extra="allow",
        strict=True,
        serialize_by_alias=True,
        protected_namespaces=(),
        # A process that passes requests through needs no validators.
        defer_build=True,
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonObject:
        published: JsonObject = _referring(schemas()[cls.__name__], handler)
        return published

    def wire(self) -> JsonObject:
        """The JSON object this was made from: what was absent stays absent, null stays null."""
        return self.model_dump(mode="json", exclude_unset=True)

    def model_dump_json(self, **options: Any) -> str:
        """As `wire`, as text: what the host's in-process client keeps of a request."""
        return super().model_dump_json(**{"exclude_unset": True, **options})


def _referring(value: Any, handler: GetJsonSchemaHandler) -> Any:
    """The schema with its references made to the document's."""
    if isinstance(value, list):
        return [_referring(each, handler) for each in value]
    if not isinstance(value, dict):
        return value
    if isinstance(name := value.get("$ref"), str):
        if name not in _BY_NAME:
            register(create_model(name, __base__=WireModel))
        return reference(_BY_NAME[name], handler) | {key: each for key, each in value.items() if key != "$ref"}
    return {key: _referring(each, handler) for key, each in value.items()}


def reference(kind: type[BaseModel], handler: GetJsonSchemaHandler) -> JsonObject:
    """What refers to a type's schema in a document."""
    schema: Any = kind.__pydantic_core_schema__
    if schema["type"] == "definitions":  # what it refers to itself, and it
        handler(schema)
        schema = schema["schema"]
    # Inside another schema, or it would be laid out here and not referred to.
    items: JsonObject = handler(core_schema.list_schema(schema))["items"]
    return items


class UnknownType(WireModel):
    """Fallback of an open union: a `type` that this version does not know, kept as it came."""

    type: str


register(UnknownType)


class ByField:
    """Tell the members of a union apart by the value of one field.

    A member that declares the field as plain `str` takes every unknown value; without such a member
    the union is closed and an unknown value is refused at the field's own path.

    A member's validator is made when a value needs it: together they take 3 MB, and 50 ms.

    Args:
        field: The field that every member declares as a literal.
        absent: The value to assume where the field is absent or null.
        misplaced: Values known elsewhere in the API that are refused here instead of kept as unknown.
    """

    def __init__(self, field: str = "type", *, absent: str | None = None, misplaced: Iterable[str] = ()) -> None:
        self.field = field
        self.absent = absent
        self.misplaced = tuple(misplaced)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        find, refuse = self._members(source)

        def validate(value: Any) -> Any:
            member = find(value)
            return refuse(value) if member is None else member.__pydantic_validator__.validate_python(value)

        return core_schema.no_info_plain_validator_function(validate)

    def picker(self, source: Any) -> Callable[[Any], type[BaseModel] | None]:
        """Finds the member that a value is to be validated as; None for what is refused."""
        find, _ = self._members(source)
        return lambda value: find(value) if isinstance(value, dict) else None

    def _members(self, source: Any) -> tuple[Callable[[Any], type[BaseModel] | None], Callable[[Any], Any]]:
        """What finds the member for a value, and what refuses a value that has none."""
        members: dict[Any, type[BaseModel] | None] = {}
        fallback = None
        for member in union_members(source):
            values = literal_values(member, self.field)
            members.update(dict.fromkeys(values, member))
            if not values:
                fallback = member
        refuse = _refusal(self.field, tuple(members))
        members.update(dict.fromkeys(self.misplaced))
        if self.absent is not None:
            members[None] = members[self.absent]
        return _by_field(self.field, members, fallback), refuse


class ByShape:
    """Tell the members of a union apart by JSON kind: string, array or object."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        members = {_shape_tag(member): member for member in union_members(source)}
        names = " or ".join(name for tag, name in _SHAPE_NAMES.items() if tag in members)
        discriminator = Discriminator(
            _by_shape,
            custom_error_type="shape",
            custom_error_message=f"Input should be {names}",
        )
        union: Any = Union[tuple(Annotated[member, Tag(tag)] for tag, member in members.items())]  # noqa: UP007
        return handler.generate_schema(Annotated[union, discriminator])


_SHAPE_NAMES = {"<str>": "a string", "<list>": "an array", "<object>": "an object"}


def _shape_tag(member: Any) -> str:
    while get_origin(member) is Annotated:
        member = get_args(member)[0]
    if member is str or get_origin(member) is Literal:
        return "<str>"
    return "<list>" if member is list or get_origin(member) is list else "<object>"


def _by_shape(value: Any) -> str | None:
    if isinstance(value, str):
        return "<str>"
    if isinstance(value, list):
        return "<list>"
    return "<object>" if isinstance(value, dict | BaseModel) else None


def _by_field[T](field: str, members: Mapping[Any, T], fallback: T) -> Callable[[Any], T]:
    def find(value: Any) -> T:
        try:
            return members.get(value[field] if type(value) is dict else getattr(value, field), fallback)
        except KeyError:
            return members.get(None, fallback)
        except (TypeError, AttributeError):  # an unhashable value, or no object at all
            return fallback

    return find


def _refusal(field: str, values: tuple[str, ...]) -> Callable[[Any], Any]:
    """Refuses all that reaches it, which has none of the values in its field, at the field's path."""
    fields: Any = {field: Literal[values]}
    refused: Any = TypedDict("Refused", fields)  # type: ignore[misc]
    check = cache(lambda: TypeAdapter(refused))
    return lambda value: check().validate_python(value)


def union_members(source: Any) -> tuple[Any, ...]:
    """The members of a union; anything else is its own only member."""
    return get_args(source) if get_origin(source) in (Union, UnionType) else (source,)


def literal_values(model: Any, field: str) -> tuple[str, ...]:
    """The values of a model's literal field; none where the field is open."""
    while get_origin(model) is Annotated:
        model = get_args(model)[0]
    annotation = model.model_fields[field].annotation
    parts = [annotation, *get_args(annotation)]
    return tuple(value for part in parts if get_origin(part) is Literal for value in get_args(part) if value)


_MESSAGES: dict[str, str] = {
    "model_type": "Input should be an object",
    "dict_type": "Input should be an object",
    "list_type": "Input should be an array",
}
_SHOWN_ERRORS: int = 3
_MAX_KEY: int = 64


def error_path(loc: Iterable[int | str]) -> str:
    """Pydantic's location as the client writes it: `messages.0.content.1.text`, without union tags."""
    return ".".join(_shown(part) for part in loc if not _is_tag(part))


def _shown(part: int | str) -> str:
    """A step of a path; keys that the client chose are cut and escaped, since they may hold anything."""
    text = str(part)
    return text if len(text) <= _MAX_KEY and text.isprintable() else ascii(text[:_MAX_KEY])


def _is_tag(part: int | str) -> bool:
    return isinstance(part, str) and part.startswith("<") and part.endswith(">")


def describe(error: ValidationError, within: tuple[int | str, ...] = (), start: int = 0) -> str:
    """One line that names the offending fields, such as `messages.0.content: Field required`.

    Args:
        error: What is wrong.
        within: Where in the request the value is that was validated.
        start: The index of its first item, where it is a part of an array.
    """
    lines = [f"{path}: {message}" if path else message for path, message in _errors(error, within, start)]
    more = len(lines) - _SHOWN_ERRORS
    return "; ".join(lines[:_SHOWN_ERRORS]) + (f"; and {more} more" if more > 0 else "")


def _errors(error: ValidationError, within: tuple[int | str, ...] = (), start: int = 0) -> list[tuple[str, str]]:
    found = []
    for each in error.errors(include_url=False, include_context=False, include_input=False):
        place = each["loc"]
        if place and isinstance(place[0], int):
            place = (place[0] + start, *place[1:])
        found.append((error_path((*within, *place)), _MESSAGES.get(each["type"], each["msg"])))
    return found
