"""Changes to the JSON Schemas of tools and of answers."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from llama_stack_messages_provider.adaptation.change import Change

__all__ = ["AddProperties", "DropKeywords", "RelaxStrict", "is_closed", "strict_schemas"]

# Keywords that tell a model nothing by which its answer could be wrong.
_ANNOTATIONS = frozenset({"$schema", "$id", "$comment", "title", "examples", "default", "deprecated", "readOnly"})
# Under these stand names of the schema's own, each with a schema.
_NAMED = frozenset({"properties", "$defs", "definitions", "patternProperties", "dependentSchemas"})
# Under these stand values, which are no schemas.
_VALUES = frozenset({"const", "enum", "default", "examples", "required"})
_DEEPEST = 64


@dataclass(frozen=True, slots=True)
class RelaxStrict(Change):
    """Schemas are asked for without `strict`: `open` ones, which have optional properties; or `all`, this once."""

    schemas: Literal["open", "all"]

    @property
    def lasting(self) -> bool:
        return self.schemas == "open"

    def dropped(self, params: Mapping[str, Any]) -> list[str]:
        return [path for path, schema in strict_schemas(params) if self._relaxes(schema)]

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        changed = dict(params)
        if form := params.get("response_format"):
            changed["response_format"] = {**form, "json_schema": self._relaxed(form.get("json_schema") or {}, "schema")}
        if tools := params.get("tools"):
            changed["tools"] = [{**tool, "function": self._relaxed(tool["function"], "parameters")} for tool in tools]
        return changed

    def _relaxed(self, holder: dict[str, Any], key: str) -> dict[str, Any]:
        # Left out, for some engines with grammars take a false as a wish not to be guided.
        return {k: v for k, v in holder.items() if k != "strict"} if self._relaxes(holder.get(key)) else holder

    def _relaxes(self, schema: Any) -> bool:
        return self.schemas == "all" or not is_closed(schema)


@dataclass(frozen=True, slots=True)
class AddProperties(Change):
    """An object without properties says so: `properties: {}`."""

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return _with_schemas(params, lambda schema: _mapped(schema, _with_properties))


@dataclass(frozen=True, slots=True)
class DropKeywords(Change):
    """Keywords of JSON Schema are left out.

    Args:
        keywords: Their names.
        lasting: Whether the upstream knows them in no schema.
    """

    keywords: frozenset[str]
    lasting: bool = True

    def dropped(self, params: Mapping[str, Any]) -> list[str]:
        reported = self.keywords - _ANNOTATIONS
        schemas = _schemas(params)
        return [f"{path}.{keyword}" for path, schema in schemas for keyword in sorted(reported & _keywords(schema))]

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        def without(schema: dict[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in schema.items() if name not in self.keywords}

        return _with_schemas(params, lambda schema: _mapped(schema, without))


def strict_schemas(params: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The schemas that are asked for strictly, and what a client is told if they no longer are."""
    form = (params.get("response_format") or {}).get("json_schema") or {}
    if form.get("strict"):
        yield "output_config.format.strict", form.get("schema")
    for tool in params.get("tools") or ():
        if tool["function"].get("strict"):
            yield f"tools.{tool['function']['name']}.strict", tool["function"].get("parameters")


def is_closed(schema: Any, depth: int = 0) -> bool:
    """Whether all objects of a schema name all their properties as required and allow no others.

    Source: https://platform.openai.com/docs/guides/structured-outputs (supported schemas).
    """
    if depth > _DEEPEST:
        return False
    if isinstance(schema, list):
        return all(is_closed(part, depth + 1) for part in schema)
    if not isinstance(schema, Mapping):
        return True
    properties = schema.get("properties")
    if isinstance(properties, Mapping) or schema.get("type") == "object":
        closed = schema.get("additionalProperties") is False
        if not closed or set(properties or ()) - set(schema.get("required") or ()):
            return False
    return all(is_closed(part, depth + 1) for part in schema.values())


def _schemas(params: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """All schemas of a chat completion, and their places in the client's request."""
    form = (params.get("response_format") or {}).get("json_schema") or {}
    if "schema" in form:
        yield "output_config.format.schema", form["schema"]
    for tool in params.get("tools") or ():
        yield f"tools.{tool['function']['name']}.input_schema", tool["function"].get("parameters")


def _with_schemas(params: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    changed = dict(params)
    form = params.get("response_format") or {}
    if "schema" in (inner := form.get("json_schema") or {}):
        changed["response_format"] = {**form, "json_schema": {**inner, "schema": change(inner["schema"])}}
    if tools := params.get("tools"):
        changed["tools"] = [_with_parameters(tool, change) for tool in tools]
    return changed


def _with_parameters(tool: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    function = tool["function"]
    if "parameters" not in function:
        return tool
    return {**tool, "function": {**function, "parameters": change(function["parameters"])}}


def _mapped(schema: Any, change: Callable[[dict[str, Any]], dict[str, Any]], depth: int = 0) -> Any:
    """A schema with each schema in it changed; names of properties are not keywords."""
    if depth > _DEEPEST:
        return schema
    if isinstance(schema, list):
        return [_mapped(part, change, depth + 1) for part in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {}
    for name, value in schema.items():
        if name in _NAMED and isinstance(value, dict):
            changed[name] = {key: _mapped(part, change, depth + 1) for key, part in value.items()}
        else:
            changed[name] = value if name in _VALUES else _mapped(value, change, depth + 1)
    return change(changed)


def _keywords(schema: Any) -> set[str]:
    found: set[str] = set()

    def look(part: dict[str, Any]) -> dict[str, Any]:
        found.update(part)
        return part

    _mapped(schema, look)
    return found


def _with_properties(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "properties": {}} if schema.get("type") == "object" and "properties" not in schema else schema
