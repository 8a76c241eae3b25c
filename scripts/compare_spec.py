"""Compare our OpenAPI schema with Anthropic's, endpoint by endpoint and property by property.

    python scripts/compare_spec.py                      the score, and every difference that is not justified
    python scripts/compare_spec.py --all                the justified ones too
    python scripts/compare_spec.py --reference FILE     against another reference than the one of the tests
    python scripts/compare_spec.py --trim FILE OUT      make such a reference: our endpoints, no prose

What the reference says must hold in ours: the type of each property, whether it may be null, the values and objects
that it may be, its default, its bounds, and whether it is required. Properties and values that ours has beyond the
reference are no difference: it keeps unknown fields and types on purpose, and follows the SDK, which is newer.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI

type Json = dict[str, Any]

REFERENCE = Path(__file__).parents[1] / "tests" / "fixtures" / "anthropic-openapi.json"
ENDPOINTS = re.compile(r"/v1/messages(/count_tokens|/batches.*)?")
PROSE = frozenset({"description", "title", "examples", "example", "summary", "deprecated"})
BOUNDS = (
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "pattern",
    "format",
)

JUSTIFIED: Mapping[str, str] = {
    r"CreateMessageParams\.max_tokens: minimum": "the SDK documents 0, which warms the prompt cache",
    r"\w+Params\.messages: (min|max)Items": "the limits are Anthropic's own, documented in words",
    r"\w+Params\.model: minLength": "no model has an empty name",
}
"""Differences that are meant: a pattern of the line, and why."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which ours is not what the reference says."""

    endpoint: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"

    @property
    def reason(self) -> str | None:
        """Why it is meant, if it is."""
        return next((why for pattern, why in JUSTIFIED.items() if re.match(pattern, str(self))), None)


@dataclass(slots=True)
class Comparison:
    """What was compared, as (endpoint, property), and what differs."""

    compared: set[tuple[str, str]] = field(default_factory=set)
    differences: set[Difference] = field(default_factory=set)

    @property
    def unexplained(self) -> list[Difference]:
        """The differences that nobody meant."""
        return sorted((each for each in self.differences if each.reason is None), key=str)

    @property
    def justified(self) -> list[Difference]:
        """The differences that are meant."""
        return sorted((each for each in self.differences if each.reason is not None), key=str)

    def score(self, *, justified: bool = True) -> float:
        """Percent of the properties that are as the reference says, justified differences left out or not."""
        differing = {(each.endpoint, each.where) for each in self.differences if not (justified and each.reason)}
        return 100 * (1 - len(differing & self.compared) / len(self.compared))


class Schema:
    """A JSON schema with its references followed and its alternatives laid side by side."""

    def __init__(self, schema: Json, document: Json) -> None:
        self._document = document
        self.parts = list(self._parts(schema))
        self.default = schema.get("default", self._resolved(schema).get("default"))

    def _resolved(self, schema: Json) -> Json:
        while "$ref" in schema:
            schema = self._named(schema["$ref"])
        return schema

    def _named(self, reference: str) -> Json:
        named: Json = self._document["components"]["schemas"][reference.rpartition("/")[2]]
        return named

    def _parts(self, schema: Json, name: str = "") -> Iterator[tuple[str, Json]]:
        if "$ref" in schema:
            yield from self._parts(self._named(schema["$ref"]), schema["$ref"].rpartition("/")[2])
        elif alternatives := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
            for alternative in alternatives:
                yield from self._parts(alternative, name)
        else:
            yield name, schema

    @property
    def types(self) -> set[str]:
        """Its JSON types, `null` among them."""
        return {each for _, part in self.parts for each in _types(part)}

    @property
    def values(self) -> set[Any] | None:
        """The strings that it may be; None if it may be any."""
        strings = [part for _, part in self.parts if "string" in _types(part)]
        if any("enum" not in part and "const" not in part for part in strings):
            return None
        return {value for part in strings for value in part.get("enum", [part.get("const")])}

    def bounds(self) -> Json:
        """Its bounds, if it is no union."""
        parts = [part for _, part in self.parts if part.get("type") != "null"]
        if len(parts) != 1:
            return {}
        bounds = {name: parts[0][name] for name in BOUNDS if name in parts[0]}
        # The reference words these as JSON schema did before draft 6, where `exclusiveMinimum` is a switch.
        if bounds.get("exclusiveMinimum") is True:
            bounds["exclusiveMinimum"] = bounds.pop("minimum")
        return bounds

    def items(self) -> "Schema | None":
        """What its arrays hold."""
        return next((Schema(part["items"], self._document) for _, part in self.parts if "items" in part), None)

    def objects(self) -> dict[str, tuple[str, Json]]:
        """Name and schema of the objects that it may be, by `type` or `role`; of those without either by ``."""
        found: dict[str, tuple[str, Json]] = {}
        for name, part in self.parts:
            if "properties" in part:
                for tag in self._tags(part) or [""]:
                    found.setdefault(tag, (name, part))
        return found

    def _tags(self, part: Json) -> list[str]:
        for name in ("type", "role"):
            if name in part["properties"]:
                tag = Schema(part["properties"][name], self._document)
                return sorted(tag.values or ())
        return []

    def sub(self, schema: Json) -> "Schema":
        """A schema of the same document."""
        return Schema(schema, self._document)


def _types(part: Json) -> list[str]:
    if "type" in part:
        return list(part["type"]) if isinstance(part["type"], list) else [part["type"]]
    return ["string"] if isinstance(part.get("const"), str) or "enum" in part else []


class Comparer:
    """Walks the reference's endpoints, and ours beside them."""

    def __init__(self, reference: Json, ours: Json) -> None:
        self._reference = reference
        self._ours = ours
        self._endpoint = ""
        self._seen: set[tuple[str, str, str]] = set()
        self.result = Comparison()

    def run(self) -> Comparison:
        """Compare all endpoints that are the Messages API's."""
        for path, operations in self._reference["paths"].items():
            if ENDPOINTS.fullmatch(path):
                for method, operation in operations.items():
                    self._endpoint = f"{method.upper()} {path}"
                    self._operation(operation, self._ours["paths"].get(path, {}).get(method))
        return self.result

    def _operation(self, theirs: Json, ours: Json | None) -> None:
        if self._check("endpoint", ours is not None, "missing") and ours is not None:
            self._parameters(theirs.get("parameters", []), ours.get("parameters", []))
            if "requestBody" in theirs:
                self._content("body", theirs["requestBody"], ours.get("requestBody", {}))
            for status, answer in theirs["responses"].items():
                self._content(f"answer {status}", answer, ours["responses"].get(status, {}))

    def _parameters(self, theirs: list[Json], ours: list[Json]) -> None:
        known = {(each["in"], each["name"].lower()): each for each in ours}
        for parameter in theirs:
            where = f"{parameter['in']} {parameter['name']}"
            mine = known.get((parameter["in"], parameter["name"].lower()))
            if self._check(where, mine is not None, "missing") and mine is not None:
                required = parameter.get("required", False)
                self._check(where, mine.get("required", False) == required, f"required should be {required}")
                self._schema(where, Schema(parameter["schema"], self._reference), Schema(mine["schema"], self._ours))

    def _content(self, where: str, theirs: Json, ours: Json) -> None:
        for media_type, content in theirs.get("content", {}).items():
            mine = ours.get("content", {}).get(media_type)
            if self._check(where, mine is not None, f"{media_type} is missing") and mine is not None:
                self._schema(where, Schema(content["schema"], self._reference), Schema(mine["schema"], self._ours))

    def _check(self, where: str, holds: bool, what: str) -> bool:
        self.result.compared.add((self._endpoint, where))
        if not holds:
            self.result.differences.add(Difference(self._endpoint, where, what))
        return holds

    def _schema(self, where: str, theirs: Schema, ours: Schema) -> None:
        self._check(where, theirs.types <= ours.types, f"type should be {_list(theirs.types)}, is {_list(ours.types)}")
        if "null" not in theirs.types:
            self._check(where, "null" not in ours.types, "null should not be allowed")
        self._check(where, ours.default == theirs.default, f"default should be {theirs.default}, is {ours.default}")
        self._values(where, theirs, ours)
        if (items := theirs.items()) and (mine := ours.items()):
            self._schema(where, items, mine)
        self._objects(where, theirs, ours)

    def _values(self, where: str, theirs: Schema, ours: Schema) -> None:
        if theirs.values is None:
            known = None if not ours.values else ours.values
            self._check(where, known is None, f"any string should do, only {_list(known or ())} do")
        elif theirs.values:
            missing = theirs.values - (ours.values or set())
            self._check(where, not missing, f"values {_list(missing)} are missing")
        bounds, mine = theirs.bounds(), ours.bounds()
        for name in bounds | mine:
            bound = bounds.get(name)
            self._check(where, mine.get(name) == bound, f"{name} should be {bound}, is {mine.get(name)}")

    def _objects(self, where: str, theirs: Schema, ours: Schema) -> None:
        known = ours.objects()
        for tag, (name, schema) in theirs.objects().items():
            mine = known.get(tag)
            if self._check(where, mine is not None, f"{tag or name} is missing") and mine is not None:
                self._object(name or where, theirs, _tagged(schema, tag), ours, _tagged(mine[1], tag))

    def _object(self, name: str, theirs: Schema, schema: Json, ours: Schema, mine: Json) -> None:
        key = (self._endpoint, json.dumps(schema, sort_keys=True), json.dumps(mine, sort_keys=True))
        if key in self._seen:
            return
        self._seen.add(key)
        for prop in set(mine.get("required", ())) - set(schema["properties"]):
            self._check(f"{name}.{prop}", False, "is required, and not documented")
        for prop, described in schema["properties"].items():
            where = f"{name}.{prop}"
            if self._check(where, prop in mine["properties"], "missing"):
                required = prop in schema.get("required", ())
                self._check(where, (prop in mine.get("required", ())) == required, f"required should be {required}")
                self._schema(where, theirs.sub(described), ours.sub(mine["properties"][prop]))


def _tagged(schema: Json, tag: str) -> Json:
    """The object schema of one tag, where it is one of several that share it: its `type` or `role` is that tag."""
    for name in ("type", "role"):
        described = schema["properties"].get(name, {})
        if tag in described.get("enum", ()):
            one = {key: value for key, value in described.items() if key != "enum"} | {"const": tag}
            return {**schema, "properties": {**schema["properties"], name: one}}
    return schema


def _list(values: Any) -> str:
    return ", ".join(sorted(map(str, values))) or "nothing"


class _Nobody:
    """Answers no call; a router is made around it for its schema only."""

    def __getattr__(self, name: str) -> None:
        return None


def our_schema() -> Json:
    """The OpenAPI document of our routes alone."""
    # The routes need the data file that is made with what stands here.
    from llama_stack_messages_provider.http.routes import create_router

    app = FastAPI()
    app.include_router(create_router(_Nobody()))  # type: ignore[arg-type]
    return app.openapi()


def compare(reference: Json, ours: Json | None = None) -> Comparison:
    """Compare a schema of ours with a reference."""
    return Comparer(reference, ours or our_schema()).run()


def trim(document: Json) -> Json:
    """The document's part that is about our endpoints, without prose."""
    paths = {path: _bare(item) for path, item in document["paths"].items() if ENDPOINTS.fullmatch(path)}
    schemas: Json = {}
    wanted = set(_references(paths))
    while wanted:
        name = wanted.pop()
        schemas[name] = _bare(document["components"]["schemas"][name])
        wanted |= set(_references(schemas[name])) - set(schemas)
    return {"paths": paths, "components": {"schemas": dict(sorted(schemas.items()))}}


def _bare(value: Any, *, names: bool = False) -> Any:
    """Without prose; keys of `properties` are names and stay."""
    if isinstance(value, list):
        return [_bare(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _bare(item, names=key == "properties" and not names)
        for key, item in value.items()
        if names or not (key in PROSE or key.startswith("x-"))
    }


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _references(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "$ref":
                yield item.rpartition("/")[2]
            elif key != "discriminator":
                yield from _references(item)


def score_line(comparison: Comparison) -> str:
    """The score in one line: what README says."""
    properties = len(comparison.compared)
    endpoints = len({endpoint for endpoint, _ in comparison.compared})
    meant = len({str(each) for each in comparison.justified})
    return (
        f"{comparison.score():.1f} % of {properties} properties in {endpoints} endpoints are as documented"
        f" ({comparison.score(justified=False):.1f} % before {meant} justified difference{'s' * (meant != 1)})"
    )


def report(comparison: Comparison, *, everything: bool = False) -> str:
    """The score and the differences, for people."""
    lines = [score_line(comparison)]
    lines += sorted({f"- {each}" for each in comparison.unexplained})
    if everything:
        lines += sorted({f"= {each} ({each.reason})" for each in comparison.justified})
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """The command line; the exit status is 1 if something differs that is not justified."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--reference", type=Path, default=REFERENCE)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--trim", nargs=2, type=Path, metavar=("FILE", "OUT"))
    options = parser.parse_args(arguments)
    if options.trim:
        source, target = options.trim
        target.write_text(json.dumps(trim(json.loads(source.read_text())), indent=1) + "\n")
        return 0
    comparison = compare(json.loads(options.reference.read_text()))
    print(report(comparison, everything=options.all))
    return 1 if comparison.unexplained else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
