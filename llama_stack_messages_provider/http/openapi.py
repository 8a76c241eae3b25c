"""What the routes publish beside their bodies: header parameters, errors, and answers that are not JSON.

Source: Anthropic's OpenAPI document, which the tests compare ours with.
"""

from typing import Annotated, Any

from fastapi import Query, Response
from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from llama_stack_messages_provider.wire.answers import ErrorResponse
from llama_stack_messages_provider.wire.base import reference

__all__ = ["Cursor", "Published", "documented"]

_JSON = "application/json"
_VERSION = "Version of the API, such as `2023-06-01`; any is accepted."
_KEY = "The key, where the server wants one; `Authorization: Bearer` does as well."

Cursor = Annotated[str | None, WithJsonSchema({"type": "string"}), Query()]
"""A query parameter that may be absent and is never null."""


class Published:
    """Of a body that FastAPI publishes and our routes read themselves: it needs no validator for it.

    Args:
        kind: What it is published as.
    """

    def __init__(self, kind: type[BaseModel]) -> None:
        self._kind = kind

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.any_schema()

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return reference(self._kind, handler)


class JSONLines(Response):
    """Answers that are one JSON object a line."""

    media_type = "application/x-jsonl"


def documented(answer: type | None, *, lines: bool = False) -> dict[str, Any]:
    """Arguments of `add_api_route` that document an endpoint.

    Args:
        answer: The type of its answer, or of each line of it.
        lines: Whether the answer is JSON lines.
    """
    error = {"description": "What went wrong", "model": ErrorResponse}
    if lines:  # FastAPI publishes all models of a route under one media type
        error = {"description": "What went wrong", "content": {_JSON: {"schema": _reference(ErrorResponse)}}}
    answers = {200: {"description": "The answer", "model": answer}} if answer else {}
    return {
        "responses": {**answers, "4XX": error},
        "openapi_extra": {"parameters": [_header("anthropic-version", _VERSION), _header("x-api-key", _KEY)]},
        **({"response_class": JSONLines} if lines else {}),
    }


def _reference(model: type) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _header(name: str, description: str) -> dict[str, Any]:
    return {"in": "header", "name": name, "required": False, "description": description, "schema": {"type": "string"}}
