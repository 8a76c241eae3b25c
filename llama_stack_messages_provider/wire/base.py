"""What every wire type shares: unknown fields kept, no coercion, precise error paths.

Kinds of optional field, told apart by their annotation:

- `x: Omittable[T] = None`: may be absent, must not be null. Reads as None when absent.
- `x: T | None = None`: may be absent, may be null.
- `x: T | None` without a default: always present, may be null.

Responses carry all their fields, null where there is nothing to say, but for those that are `Rare[T]`.

`exclude_unset=True` keeps them apart when dumping, so a dump gives back what came in.

Unions are told apart by one field (`ByField`) or by JSON kind (`ByShape`), never by trial: a bad field of a
known type is reported at its own path instead of once per member of the union.
"""

from collections.abc import Callable, Hashable, Iterable
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from llama_stack_messages_provider.wire.descriptions import FIELD_DESCRIPTIONS

__all__ = [
    "ByField",
    "ByShape",
    "Expected",
    "JsonObject",
    "NullTolerated",
    "Omittable",
    "Rare",
    "ResponseModel",
    "UnknownType",
    "WireModel",
    "describe",
    "error_path",
    "first_error",
    "known",
    "literal_values",
    "published",
]


T = TypeVar("T")

JsonObject = dict[str, Any]


def published(**keywords: Any) -> FieldInfo:
    """JSON schema keywords that Anthropic documents and that are published but not enforced."""
    field: FieldInfo = Field(json_schema_extra=keywords)
    return field


def known(*values: str) -> FieldInfo:
    """An open enumeration: the documented values are published, and a newer client's value is kept."""
    return published(enum=list(values))


class _NotNull:
    """Takes null out of the schema; with `accept` only out of the published one."""

    def __init__(self, *, accept: bool = False) -> None:
        self.accept = accept

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        inner: CoreSchema = schema["schema"] if schema["type"] == "nullable" and not self.accept else schema
        return inner

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonObject:
        return handler(schema["schema"] if schema["type"] == "nullable" else schema)


Omittable = Annotated[T | None, _NotNull()]
"""May be absent, must not be null."""

NullTolerated = Annotated[T | None, _NotNull(accept=True)]
"""Documented as never null, but sent as null by clients that replay a dumped response."""


class _Expected:
    """Marks a field that is published as required and accepted without."""


Expected = Annotated[T | None, _Expected()]
"""Documented as always present, but left out by clients that replay a response."""


class _Rare:
    """Marks a field of a response that may be left out."""


Rare = Annotated[T | None, _Rare()]
"""A field of a response that need not be there."""


def _tidy(schema: JsonObject, model: type[BaseModel]) -> None:
    """No generated titles, no null defaults; descriptions from the glossary; required as documented."""
    schema.pop("title", None)
    for name, prop in schema.get("properties", {}).items():
        prop.pop("title", None)
        if "description" not in prop and name in FIELD_DESCRIPTIONS:
            prop["description"] = FIELD_DESCRIPTIONS[name]
        if prop.get("default", "") is None:
            del prop["default"]
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    if issubclass(model, ResponseModel):
        required = [name for name, field in fields.items() if not _marked(field, _Rare)]
    else:
        required = [name for name, field in fields.items() if field.is_required() or _marked(field, _Expected)]
    if required:
        schema["required"] = required


class WireModel(BaseModel):
    """A JSON object of the Messages API; unknown fields are kept and dumped again."""

    model_config = ConfigDict(
        extra="allow",
        strict=True,
        serialize_by_alias=True,
        protected_namespaces=(),
        use_attribute_docstrings=True,
        json_schema_extra=_tidy,
    )

    def wire(self) -> JsonObject:
        """The JSON object this was made from: what was absent stays absent, null stays null."""
        return self.model_dump(mode="json", exclude_unset=True)

    def model_dump_json(self, **options: Any) -> str:
        """As `wire`, as text: what the host's in-process client keeps of a request."""
        return super().model_dump_json(**{"exclude_unset": True, **options})


class ResponseModel(WireModel):
    """An object that the server writes: fields that may be null are written as null, not left out."""

    def model_post_init(self, context: Any) -> None:
        self.__pydantic_fields_set__.update(self.always_present())

    @classmethod
    def always_present(cls) -> list[str]:
        """The fields that are in every such object: all but the rare ones."""
        return [name for name, field in cls.model_fields.items() if not _marked(field, _Rare)]


def _marked(field: FieldInfo, marker: type) -> bool:
    return any(isinstance(item, marker) for item in field.metadata)


class UnknownType(WireModel):
    """Fallback of an open union: a `type` that this version does not know, kept as it came."""

    type: str


class ByField:
    """Tell the members of a union apart by the value of one field.

    A member that declares the field as plain `str` takes every unknown value; without such a member
    the union is closed and an unknown value is refused at the field's own path.

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
        choices: dict[Hashable, CoreSchema] = {}
        tags: dict[Any, str] = {}
        fallback = ""
        for member in _members(source):
            values = literal_values(member, self.field)
            tag = f"<{values[0] if values else '*'}>"
            choices[tag] = handler.generate_schema(member)
            tags.update(dict.fromkeys(values, tag))
            fallback = fallback if values else tag
        if not fallback or self.misplaced:
            choices["<!>"] = _never(self.field, tuple(tags))
            tags.update({value: "<!>" for value in self.misplaced if value not in tags})
        if self.absent is not None:
            tags[None] = tags[self.absent]
        return core_schema.tagged_union_schema(choices, _by_field(self.field, tags, fallback or "<!>"))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonObject:
        members: dict[Hashable, CoreSchema] = schema["choices"]
        choices = {tag: choice for tag, choice in members.items() if tag != "<!>"}
        published_schema = handler({**schema, "choices": choices})
        # The fallback matches known types too, and `oneOf` would forbid that.
        if "<*>" in choices and "oneOf" in published_schema:
            published_schema["anyOf"] = published_schema.pop("oneOf")
        return published_schema


class ByShape:
    """Tell the members of a union apart by JSON kind: string, array or object."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        choices: dict[Hashable, CoreSchema] = {}
        for member in _members(source):
            choices[_shape_tag(member)] = handler.generate_schema(member)
        names = " or ".join(_SHAPE_NAMES[str(tag)] for tag in choices)
        return core_schema.tagged_union_schema(
            choices,
            _by_shape,
            custom_error_type="shape",
            custom_error_message=f"Input should be {names}",
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonObject:
        published_schema = handler(schema)
        if "oneOf" in published_schema:
            published_schema["anyOf"] = published_schema.pop("oneOf")
        return published_schema


_SHAPE_NAMES = {"<str>": "a string", "<list>": "an array", "<object>": "an object"}


def _shape_tag(member: Any) -> str:
    origin = get_origin(member)
    if member is str or origin is Literal or (origin is Annotated and get_args(member)[0] is str):
        return "<str>"
    return "<list>" if origin is list else "<object>"


def _by_shape(value: Any) -> str | None:
    if isinstance(value, str):
        return "<str>"
    if isinstance(value, list):
        return "<list>"
    return "<object>" if isinstance(value, dict | BaseModel) else None


def _by_field(field: str, tags: dict[Any, str], fallback: str) -> Callable[[Any], str]:
    def tag(value: Any) -> str:
        try:
            return tags.get(value[field] if type(value) is dict else getattr(value, field), fallback)
        except KeyError:
            return tags.get(None, fallback)
        except (TypeError, AttributeError):  # an unhashable value, or no object at all
            return fallback

    return tag


def _never(field: str, values: tuple[str, ...]) -> CoreSchema:
    """An object whose field has one of the values: refuses all that reaches it, at the field's path."""
    refusal = core_schema.typed_dict_field(core_schema.literal_schema(list(values)))
    return core_schema.typed_dict_schema({field: refusal}, extra_behavior="ignore")


def _members(source: Any) -> tuple[Any, ...]:
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


def first_error(error: ValidationError) -> tuple[str, str]:
    """Path and message of the first thing wrong; the path is empty for the body as a whole."""
    return _errors(error)[0]


def describe(error: ValidationError) -> str:
    """One line that names the offending fields, such as `messages.0.content: Field required`."""
    lines = [f"{path}: {message}" if path else message for path, message in _errors(error)]
    more = len(lines) - _SHOWN_ERRORS
    return "; ".join(lines[:_SHOWN_ERRORS]) + (f"; and {more} more" if more > 0 else "")


def _errors(error: ValidationError) -> list[tuple[str, str]]:
    details = error.errors(include_url=False, include_context=False, include_input=False)
    return [(error_path(each["loc"]), _MESSAGES.get(each["type"], each["msg"])) for each in details]
