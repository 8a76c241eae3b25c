"""Hypothesis strategies for the JSON of the Messages API, made from type annotations.

```
json_values()  json_objects()        any JSON
wire_objects(model)                  valid objects of one of our models, with unknown fields and types mixed in
sdk_objects(kind)                    valid objects of a type of the `anthropic` SDK, as JSON
create_requests()  count_requests()  bodies of the two POSTs
```
Both walk annotations, so a field or type added to either side is generated from then on without a change here.
"""

import typing
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from os import PathLike
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Len, MinLen
from hypothesis import settings
from hypothesis import strategies as st
from pydantic import AfterValidator
from pydantic.fields import FieldInfo
from typing_extensions import is_typeddict

from llama_stack_messages_provider.wire.base import WireModel, literal_values
from llama_stack_messages_provider.wire.request import (
    CountTokensRequest,
    CreateMessageRequest,
    MessageParam,
)

__all__ = [
    "count_requests",
    "create_requests",
    "json_objects",
    "json_values",
    "sdk_objects",
    "wire_objects",
]

settings.register_profile("steady", deadline=None)  # a busy machine is no failure
settings.load_profile("steady")

type Json = dict[str, Any]

MAX_ITEMS = 2
"""Lists stay short and objects sparse: breadth comes from many examples, not from large ones."""

TRICKY_KEYS = ("schema_", "from_", "model_dump", "model_extra", "__class__", "__dict__", "self", "copy", "", "<text>")
"""Names that a careless model would trip over."""

FILES = (typing.IO[bytes], PathLike)
"""What the SDK takes in place of base64 text and encodes itself."""

TOOL_NAMES = st.from_regex(r"[a-zA-Z0-9_-]{1,9}", fullmatch=True)
NEW_TYPES = st.from_regex(r"x_[a-z]{0,8}_29991231", fullmatch=True)


@cache
def json_values() -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | st.text(max_size=8)
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=MAX_ITEMS) | st.dictionaries(st.text(max_size=6), inner, max_size=MAX_ITEMS)
        ),
        max_leaves=4,
    )


@cache
def json_objects() -> st.SearchStrategy[Json]:
    return st.dictionaries(st.text(max_size=6), json_values(), max_size=MAX_ITEMS)


def create_requests() -> st.SearchStrategy[Json]:
    return wire_objects(CreateMessageRequest)


def count_requests() -> st.SearchStrategy[Json]:
    return wire_objects(CountTokensRequest)


@st.composite
def wire_objects(draw: st.DrawFn, model: type[WireModel]) -> Json:
    """Objects that the model must accept, with a few of its optional fields and a few unknown ones."""
    fields = model.model_fields
    # Turns of the system alone may have no content.
    always = {"type", "content"} if model is MessageParam else {"type"}
    names = [name for name, field in fields.items() if field.is_required() or name in always]
    names += draw(_subset([name for name in fields if name not in names]))
    made = {fields[name].alias or name: draw(_field(model, name)) for name in names}
    known = {field.alias or name for name, field in fields.items()}
    new = draw(_new_fields())
    return made | {key: value for key, value in new.items() if key not in known}


@st.composite
def sdk_objects(draw: st.DrawFn, kind: Any) -> Json:
    """Objects that a type of the SDK allows: a TypedDict or a pydantic model."""
    fields, required = _sdk_fields(kind)
    names = [name for name in fields if name in required]
    names += draw(_subset([name for name in fields if name not in required]))
    return {name.removesuffix("_"): draw(fields[name]) for name in names}


@cache
def _new_fields() -> st.SearchStrategy[Json]:
    return st.dictionaries(st.sampled_from(TRICKY_KEYS) | st.text(max_size=6), json_values(), max_size=1)


def _subset(names: Sequence[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(names), max_size=3, unique=True) if names else st.just([])


@cache
def _field(model: type[WireModel], name: str) -> st.SearchStrategy[Any]:
    field = model.model_fields[name]
    if name == "type" and not literal_values(model, "type"):
        return NEW_TYPES
    annotation = field.annotation
    if model is MessageParam and name == "content":
        return _values(get_args(annotation)[0])
    return _values(annotation, field.metadata)


def _values(annotation: Any, metadata: Iterable[Any] = ()) -> st.SearchStrategy[Any]:
    if any(isinstance(item, AfterValidator) for item in metadata):  # the one there is: a tool's input schema
        return json_objects().map(lambda schema: {**schema, "type": "object"})
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _values(args[0], [*args[1:], *metadata])
    if origin in (Union, UnionType):
        return st.one_of(*(_values(arg, metadata) for arg in args if arg not in FILES))
    if origin is Literal:
        return st.sampled_from([arg for arg in args if arg is not None] or [None])
    if origin is not None:
        return _containers(origin, args, metadata)
    return _plain(annotation, metadata)


def _containers(origin: Any, args: tuple[Any, ...], metadata: Iterable[Any]) -> st.SearchStrategy[Any]:
    if origin is dict:
        return st.dictionaries(st.text(max_size=6), _values(args[1]), max_size=MAX_ITEMS)
    return st.lists(_values(args[0]), min_size=int(_bound(metadata, MinLen, "min_length", 0)), max_size=MAX_ITEMS)


def _plain(kind: Any, metadata: Iterable[Any]) -> st.SearchStrategy[Any]:
    if kind is str:
        return _texts(metadata)
    if kind is int:
        return st.integers(max(int(_bound(metadata, Ge, "ge", 0)), int(_bound(metadata, Gt, "gt", -1)) + 1), 2**31)
    if kind is float:
        return st.floats(_bound(metadata, Ge, "ge", 0), _bound(metadata, Le, "le", 1)) | st.integers(0, 1)
    if kind is bool:
        return st.booleans()
    if kind is datetime:
        return st.just("2026-11-24T08:12:00Z")
    if kind in (Any, object):
        return json_values()
    if kind is type(None):
        return st.none()
    return wire_objects(kind) if issubclass(kind, WireModel) else sdk_objects(kind)


def _texts(metadata: Iterable[Any]) -> st.SearchStrategy[str]:
    for item in _flat(metadata):
        if isinstance(pattern := getattr(item, "pattern", None), str):
            return st.from_regex(pattern.replace("{1,128}", "{1,9}"), fullmatch=True).filter(str.isascii)
    return st.text(min_size=int(_bound(metadata, MinLen, "min_length", 0)), max_size=8)


def _bound(metadata: Iterable[Any], kind: type, name: str, default: float) -> float:
    found = [getattr(item, name) for item in _flat(metadata) if isinstance(item, kind | Len) and hasattr(item, name)]
    return found[0] if found else default


def _flat(metadata: Iterable[Any]) -> list[Any]:
    return [part for item in metadata for part in (item.metadata if isinstance(item, FieldInfo) else (item,))]


SDK_FIELDS: Mapping[str, st.SearchStrategy[Any]] = {
    "model": st.just("claude-opus-4-8"),
    "custom_id": st.from_regex(r"[a-zA-Z0-9_-]{1,64}", fullmatch=True),
    "input_schema": json_objects().map(lambda schema: {**schema, "type": "object"}),
    **dict.fromkeys(
        ("max_uses", "max_tokens", "max_characters", "max_content_tokens", "display_width_px", "display_height_px"),
        st.integers(1, 2**31),
    ),
}
"""Fields whose documented bounds the SDK's types do not carry."""


@cache
def _sdk_fields(kind: Any) -> tuple[Mapping[str, st.SearchStrategy[Any]], frozenset[str]]:
    """A strategy for each field, and which fields are required."""
    if is_typeddict(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        # `__required_keys__` is empty under postponed annotations.
        required = frozenset(name for name, hint in hints.items() if get_origin(hint) is typing.Required)
    else:
        hints = {name: field.annotation for name, field in kind.model_fields.items()}
        required = frozenset(name for name, field in kind.model_fields.items() if field.is_required())
    made = {name: _sdk_field(name, hint) for name, hint in hints.items()}
    if "input_schema" in made:
        made["name"] = TOOL_NAMES
    return made, required


def _sdk_field(name: str, annotation: Any) -> st.SearchStrategy[Any]:
    while get_origin(annotation) is typing.Required:
        annotation = get_args(annotation)[0]
    if name in ("messages", "requests"):
        return st.lists(_values(get_args(annotation)[0]), min_size=1, max_size=MAX_ITEMS)
    return SDK_FIELDS.get(name, _values(annotation))
