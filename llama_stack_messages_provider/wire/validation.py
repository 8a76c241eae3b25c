"""Checks of request bodies that take as long as the body is large, and can be done a step at a time.

`check_top_level` is for every request, on both routes: types of the documented parameters and nothing below them.
`validate_in_steps` looks at all of it: what a translation reads needs no further check.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError, create_model
from pydantic.fields import FieldInfo

from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.wire.base import (
    Array,
    ByField,
    JsonObject,
    WireModel,
    describe,
    union_members,
)
from llama_stack_messages_provider.wire.request import (
    MAX_MESSAGES,
    CountTokensRequest,
    CreateMessageRequest,
    MessageParam,
)
from llama_stack_messages_provider.wire.schemas import schemas

__all__ = [
    "MAX_NAME",
    "STEP",
    "WHOLE_BYTES",
    "check_names",
    "check_top_level",
    "goes_on_with_thread",
    "validate",
    "validate_in_steps",
    "without_nulls",
]

STEP: int = 4000
"""How many fields and items of arrays are looked at in one step: a few milliseconds."""
MAX_NAME: int = 1024
"""Characters in the name of a top-level field."""
_SHOWN = 64
WHOLE_BYTES: int = 64 * 1024
"""A body up to this size is one step."""
_FREE_JSON = frozenset({"input", "input_schema", "input_examples", "schema"})
"""Fields that hold JSON of the client's own, in which null is a value."""

_FIELDS = CreateMessageRequest.model_fields.keys()

Location = tuple[int | str, ...]


# --- the top level ---

_EXPECTED: Mapping[type, str] = {
    str: "a string",
    list: "an array",
    dict: "an object",
}
_EXPECTED_ALONE: Mapping[type, str] = {
    str: "a valid string",
    int: "a valid integer",
    float: "a valid number",
    bool: "a valid boolean",
}


def check_top_level(request: Mapping[str, Any], *, count: bool = False) -> None:
    """Required parameters, the types of all that are known, whether the kind of thinking is known; and `check_names`.

    Null in a parameter that is not required is as if it were absent.

    Args:
        request: The body.
        count: Whether its tokens are to be counted only.

    Raises:
        InvalidRequestError: It names the parameters that are wrong.
    """
    check_names(request)
    kinds = _kinds(CountTokensRequest if count else CreateMessageRequest)
    wrong = [
        f"{name}: {said}"
        for name, (types, is_required) in kinds.items()
        if (is_required or name in request) and (said := _wrong(request, name, types, is_required))
    ]
    if not wrong and (thinking := request.get("thinking")) is not None:
        wrong = _wrong_thinking(thinking)
    if wrong:
        raise InvalidRequestError("; ".join(wrong))


def _wrong(request: Mapping[str, Any], name: str, types: tuple[type, ...], is_required: bool) -> str | None:
    value: Any = request.get(name)
    if value is None and not is_required:
        return None
    if name not in request:
        return "Field required"
    if type(value) not in types and not (type(value) is int and float in types):
        return f"Input should be {_expected(types)}"
    if name == "messages" and not (0 < len(value) <= MAX_MESSAGES or (not value and goes_on_with_thread(request))):
        return f"List should have between 1 and {MAX_MESSAGES} items, not {len(value)}"
    return "String should have at least 1 character" if name == "model" and not value else None


def goes_on_with_thread(request: Mapping[str, Any]) -> bool:
    """Whether a server is said to hold the conversation: then no turn need be new, as after a `pause_turn`."""
    thread = request.get("thread")
    return isinstance(thread, Mapping) and thread.get("type") == "continue"


def check_names(request: Mapping[str, Any]) -> None:
    """Refuse names that a decoder which ignores case takes for others: Go's does, and lets the last one count, so that
    a model could be asked for that was never checked. So are names longer than any.

    Raises:
        InvalidRequestError: There is one.
    """
    for name in request.keys() - _FIELDS:
        if len(name) > MAX_NAME:
            raise InvalidRequestError(f"{name[:_SHOWN]}: Field names should have at most {MAX_NAME} characters")
        # All that Go folds to an ASCII letter: its capital, and two others (long s, and the Kelvin sign by `lower`).
        known = name.replace("\u017f", "s").lower()
        if known in _FIELDS:
            raise InvalidRequestError(f"{name}: Extra inputs are not permitted beside {known}")


def _expected(types: tuple[type, ...]) -> str:
    if len(types) == 1 and types[0] in _EXPECTED_ALONE:
        return _EXPECTED_ALONE[types[0]]
    return " or ".join(said for kind, said in _EXPECTED.items() if kind in types)


def _wrong_thinking(thinking: Mapping[str, Any]) -> list[str]:
    known = THINKING_TYPES
    if thinking.get("type") in known:
        return []
    if "type" not in thinking:
        return ["thinking.type: Field required"]
    return [f"thinking.type: Input should be {', '.join(map(repr, known[:-1]))} or {known[-1]!r}"]


def _thinking_types() -> tuple[str, ...]:
    kinds = schemas()["CreateMessageRequest"]["properties"]["thinking"]["anyOf"]
    return tuple(schemas()[kind["$ref"]]["properties"]["type"]["const"] for kind in kinds)


# At import: the schemas are let go when the server starts.
THINKING_TYPES = _thinking_types()
"""The documented values of `thinking.type`."""


@cache
def _kinds(model: type[WireModel]) -> Mapping[str, tuple[tuple[type, ...], bool]]:
    """For each field the types of its JSON values, and whether it is required."""
    return {
        name: (tuple(_json_types(field.annotation)), field.is_required()) for name, field in model.model_fields.items()
    }


def _json_types(annotation: Any) -> Iterator[type]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _json_types(get_args(annotation)[0])
    elif len(members := union_members(annotation)) > 1:
        yield from dict.fromkeys(each for member in members for each in _json_types(member))
    elif origin is Literal:
        yield str
    elif annotation is not type(None):
        yield dict if isinstance(annotation, type) and issubclass(annotation, BaseModel) else origin or annotation


# --- all of it ---


def validate(kind: type[WireModel], request: Mapping[str, Any]) -> None:
    """All of it in one go.

    Raises:
        InvalidRequestError: It names the fields that are wrong.
    """
    try:
        kind.model_validate(request)
    except ValidationError as exc:
        raise InvalidRequestError(describe(exc)) from None


def validate_in_steps(
    kind: type[WireModel], request: Mapping[str, Any], *, size: int, has_null: bool = True
) -> Generator[None, None, Mapping[str, Any]]:
    """Validate, in steps of a few milliseconds between which others may go on. The models that are made are not kept.

    Args:
        kind: What the request is.
        request: The body.
        size: Its length in bytes, which says whether steps are worth their while.
        has_null: Whether there may be a null in it.

    Returns:
        The request, without optional fields that are null.

    Raises:
        InvalidRequestError: It names the fields that are wrong, up to the first bad item of an array.
    """
    if size <= WHOLE_BYTES:
        validate(kind, request)
        return without_nulls(request) if has_null else request
    check_top_level(request, count=kind is CountTokensRequest)
    yield from _steps(kind, request)
    result = (yield from _without_nulls_in_steps(request)) if has_null else request
    assert isinstance(result, Mapping)
    return result


def without_nulls(value: Any) -> Any:
    """JSON of a request without fields that are null; a tool's input and schemas are the client's and stay."""
    if isinstance(value, dict):
        return {
            name: each if name in _FREE_JSON else without_nulls(each)
            for name, each in value.items()
            if each is not None
        }
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


def _without_nulls_in_steps(value: Any) -> Generator[None, None, Any]:
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    made: dict[Any, Any] = {}
    since = 0
    for name, each in entries:
        if each is None and isinstance(value, dict):
            continue
        weight = 1 if name in _FREE_JSON else 1 + _weight(each)
        if weight > STEP:
            made[name] = yield from _without_nulls_in_steps(each)
        else:
            made[name] = each if name in _FREE_JSON else without_nulls(each)
        since += weight
        if since >= STEP:
            yield
            since = 0
    return made if isinstance(value, dict) else list(made.values())


class _LongArray(NamedTuple):
    """An array that was taken out of its object, to be validated a part at a time."""

    location: Location
    model: type[BaseModel]
    field: str
    items: list[Any]


def _steps(kind: type[WireModel], request: Mapping[str, Any]) -> Iterator[None]:
    pending: list[_LongArray] = []
    _checked(_hollow_adapter(kind), _hollowed(kind, request, (), pending))
    while pending:
        yield
        yield from _array_steps(pending.pop(), pending)


def _array_steps(array: _LongArray, pending: list[_LongArray]) -> Iterator[None]:
    adapter, pick = _items(array.model, array.field)
    portion: list[Any] = []
    weight = 0
    for index, item in enumerate(array.items):
        more = 1 + _weight(item)
        if more > STEP and (model := pick(item)):
            item = _hollowed(model, item, (*array.location, index), pending)
        portion.append(item)
        weight += more
        if weight >= STEP:
            _checked(adapter, portion, array.location, index + 1 - len(portion))
            portion, weight = [], 0
            yield
    _checked(adapter, portion, array.location, len(array.items) - len(portion))


def _checked(adapter: TypeAdapter[Any], value: Any, within: Location = (), start: int = 0) -> None:
    try:
        adapter.validate_python(value)
    except ValidationError as exc:
        raise InvalidRequestError(describe(exc, within, start)) from None


def _hollowed(model: type[BaseModel], value: Mapping[str, Any], at: Location, pending: list[_LongArray]) -> JsonObject:
    """An object's documented fields, long arrays emptied and put aside."""
    made: JsonObject = {}
    for name, field in model.model_fields.items():
        key = field.alias or name
        if key not in value:
            continue
        each = made[key] = value[key]
        if _weight(each) < STEP:
            continue
        item, pick = _alternatives(_annotation(field))
        if isinstance(each, list) and item is not None:
            pending.append(_LongArray((*at, key), model, name, each))
            made[key] = []
        elif inner := pick(each):
            made[key] = _hollowed(inner, each, (*at, key), pending)
    return made


def _weight(value: Any) -> int:
    """How many fields and items there are in a value; counting ends at a step's worth."""
    found, pending = 0, [value]
    while pending:
        each = pending.pop()
        if type(each) is not dict and type(each) is not list:
            continue
        found += len(each)
        if found >= STEP:
            break
        pending += each.values() if type(each) is dict else each
    return found


Pick = Callable[[Any], type[BaseModel] | None]
"""The model that an object is an instance of; None for what is no object, or an object of any kind."""


@cache
def _hollow_adapter(kind: type[WireModel]) -> TypeAdapter[Any]:
    """The request, whose messages may have been taken out."""
    messages: Any = Array[MessageParam]
    return TypeAdapter(create_model(kind.__name__, __base__=kind, messages=(messages, ...)))


@cache
def _items(model: type[BaseModel], field: str) -> tuple[TypeAdapter[Any], Pick]:
    """What validates a part of an array, and the models of its items."""
    item, _ = _alternatives(_annotation(model.model_fields[field]))
    array: Any = Array[item]  # type: ignore[valid-type]
    return TypeAdapter(array), _alternatives(item)[1]


def _annotation(field: FieldInfo) -> Any:
    return Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation


def _alternatives(annotation: Any, by: ByField | None = None) -> tuple[Any, Pick]:
    """What the items of an array of this type are, if it may be an array; and the models that objects of it are."""
    if get_origin(annotation) is Annotated:
        told_apart = next((each for each in get_args(annotation)[1:] if isinstance(each, ByField)), by)
        return _alternatives(get_args(annotation)[0], told_apart)
    if by is not None:
        return None, by.picker(annotation)
    if len(members := union_members(annotation)) > 1:
        found = [_alternatives(member) for member in members]
        item = next((item for item, _ in found if item is not None), None)
        return item, next((pick for _, pick in found if pick is not _none), _none)
    if get_origin(annotation) is list:
        return get_args(annotation)[0], _none
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return None, lambda value: annotation if isinstance(value, dict) else None
    return None, _none


def _none(value: Any) -> None:
    return None
