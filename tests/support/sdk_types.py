"""Walks the type annotations of the `anthropic` SDK, beside ours.

```
variants(annotation) -> {tag: [type]}   the objects of a union, by their `type` or `role`
fields(kind) -> {name: annotation}      of a TypedDict or a pydantic model; `Required` taken off
required(kind) -> {name}
literals(annotation) -> {value}         all strings that an annotation names
minimal(kind) -> object                 the smallest object of a type, as JSON
unknown_to(ours, theirs) -> [line]      what the SDK's type has and ours does not know
```
"""

import typing
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from typing_extensions import is_typeddict

__all__ = ["fields", "literals", "minimal", "required", "unknown_to", "variants"]

CUSTOM = "custom"
"""What a tool without a type is."""


def variants(annotation: Any) -> Mapping[str, list[Any]]:
    """The object types in an annotation, by the value of their `type` or `role`; those without either by `""`."""
    found: dict[str, list[Any]] = {}
    for kind in _objects(annotation):
        for tag in sorted(_tags(kind)):
            found.setdefault(tag, []).append(kind)
    return found


def fields(kind: Any) -> Mapping[str, Any]:
    """The fields of an object type, by their names on the wire."""
    if is_typeddict(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        return {name: _without_required(hint) for name, hint in hints.items()}
    return {field.alias or name: Annotated[field.annotation, field] for name, field in kind.model_fields.items()}


def required(kind: Any) -> Collection[str]:
    """The fields that an object must have."""
    if is_typeddict(kind):  # `__required_keys__` is empty under postponed annotations
        hints = typing.get_type_hints(kind, include_extras=True)
        return {name for name, hint in hints.items() if get_origin(hint) is typing.Required}
    return {field.alias or name for name, field in kind.model_fields.items() if field.is_required()}


def literals(annotation: Any) -> Collection[str]:
    """The strings that an annotation names: as literals, or as the published values of an open enumeration."""
    return set(_literals(annotation))


def unknown_to(ours: Any, theirs: Any) -> list[str]:
    """Paths of the SDK's fields, types and values that ours lacks. An open object of ours knows everything below it."""
    seen: set[tuple[int, int]] = set()
    return sorted(set(_unknown(ours, theirs, "", seen)))


def _unknown(ours: Any, theirs: Any, path: str, seen: set[tuple[int, int]]) -> Iterator[str]:
    if missing := _unknown_values(ours, theirs):
        yield f"{path}: values {', '.join(sorted(missing))}"
    known = variants(ours)
    for tag, kinds in variants(theirs).items():
        here = f"{path}<{tag}>" if tag else path
        for kind in kinds:
            if tag in known:
                yield from _unknown_fields(known[tag][0], kind, here, seen)
            elif not _is_open(ours):
                yield f"{here}: type"


def _unknown_fields(ours: Any, theirs: Any, path: str, seen: set[tuple[int, int]]) -> Iterator[str]:
    if (id(ours), id(theirs)) in seen:
        return
    seen.add((id(ours), id(theirs)))
    known = fields(ours)
    for name, annotation in fields(theirs).items():
        where = f"{path}.{name}".lstrip(".")
        if name not in known:
            yield f"{where}: field"
        else:
            yield from _unknown(known[name], annotation, where, seen)


def _unknown_values(ours: Any, theirs: Any) -> Collection[str]:
    known = literals(ours)
    # Ours names no values: any string is as good as another to us.
    return set(literals(theirs)) - set(known) if known else set()


def _is_open(annotation: Any) -> bool:
    """Whether ours takes the object as it is, with nothing said about its fields, or any name as a field."""
    return any(part is Any or get_origin(part) is dict for part in _parts(annotation))


def _objects(annotation: Any) -> Iterator[Any]:
    for part in _parts(annotation):
        if is_typeddict(part) or hasattr(part, "model_fields"):
            yield part


def _tags(kind: Any) -> Collection[str]:
    known = fields(kind)
    if "input_schema" in known and "type" in known:
        return {CUSTOM}
    for name in ("type", "role"):
        if name in known and (values := literals(known[name])):
            return values
    return {""}


def _parts(annotation: Any) -> Iterator[Any]:
    """The alternatives of an annotation, seen through `Annotated` and lists."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _parts(args[0])
    elif origin in (Union, UnionType):
        for arg in args:
            yield from _parts(arg)
    elif origin is dict:
        yield annotation
    elif origin is not None and origin is not Literal:
        yield from _parts(args[0])
    else:
        yield annotation


def _literals(annotation: Any) -> Iterator[str]:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        yield from (value for value in args if isinstance(value, str))
    elif origin is Annotated:
        yield from _literals(args[0])
        for item in args[1:]:
            yield from _published(item)
    elif origin is dict:
        return
    else:
        for arg in args:
            yield from _literals(arg)


def _published(item: Any) -> Iterator[str]:
    extra = item.json_schema_extra if isinstance(item, FieldInfo) else None
    if isinstance(extra, dict):
        yield from extra.get("enum", [])
        yield from [extra["const"]] if "const" in extra else []


def _without_required(hint: Any) -> Any:
    while get_origin(hint) in (typing.Required, typing.NotRequired):
        hint = get_args(hint)[0]
    return hint


def minimal(kind: Any, tag: str | None = None) -> dict[str, Any]:
    """The smallest object of an object type; with `tag` as its `type`."""
    known = fields(kind)
    made = {name: _smallest(known[name]) for name in known if name in required(kind)}
    return made if tag is None or "type" not in made else {**made, "type": tag}


def _smallest(annotation: Any) -> Any:
    alternatives = get_args(annotation) if get_origin(annotation) is Union else (annotation,)
    if any(get_origin(each) in (list, Iterable, Sequence) for each in alternatives):
        return []
    if values := literals(annotation):
        return min(values)
    part = next(_parts(annotation))
    if part is str or part is Any or part is object:
        return "x"
    if part in (int, float, bool):
        return part(1)
    if get_origin(part) is dict:
        return {}
    return minimal(part)
