"""Write the JSON schemas of all bodies: what our routes publish, and what requests are checked with.

    python scripts/generate_schemas.py            write the data file
    python scripts/generate_schemas.py --check    say whether it is as the SDK has it (exit status 1: not)

The installed `anthropic` SDK's types say which fields and types there are; `sdk_requests` reads those of requests. What
they do not say comes from Anthropic's OpenAPI document, where it knows the object: bounds, defaults, and whether a
field may be null or left out. Descriptions are ours.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from anthropic.types.beta import BetaMessage, BetaMessageTokensCount, BetaRawMessageStreamEvent
from anthropic.types.beta.messages import (
    BetaDeletedMessageBatch,
    BetaMessageBatch,
    BetaMessageBatchIndividualResponse,
)
from anthropic.types.shared import ErrorResponse
from pydantic import TypeAdapter

from llama_stack_messages_provider.wire.schemas import SCHEMAS
from scripts.compare_spec import BOUNDS, REFERENCE, Schema
from scripts.descriptions import FIELD_DESCRIPTIONS, OBJECT_DESCRIPTIONS
from scripts.sdk_requests import BOUNDS_OF, request_schemas

type Json = dict[str, Any]

ROOTS: Mapping[str, Any] = {
    "Message": BetaMessage,
    "MessageTokensCount": BetaMessageTokensCount,
    "MessageBatch": BetaMessageBatch,
    "DeletedMessageBatch": BetaDeletedMessageBatch,
    "MessageBatchIndividualResponse": BetaMessageBatchIndividualResponse,
    "ErrorResponse": ErrorResponse,
    "MessageStreamEvent": BetaRawMessageStreamEvent,
}
"""Our names of the answers, and the SDK's types."""

ANSWERS: Mapping[str, tuple[str, str]] = {
    "Message": ("/v1/messages", "post"),
    "MessageTokensCount": ("/v1/messages/count_tokens", "post"),
    "MessageBatch": ("/v1/messages/batches/{message_batch_id}", "get"),
    "DeletedMessageBatch": ("/v1/messages/batches/{message_batch_id}", "delete"),
    "MessageBatchIndividualResponse": ("/v1/messages/batches/{message_batch_id}/results", "get"),
    "MessageBatchPage": ("/v1/messages/batches", "get"),
}
"""Where the reference has them."""

REQUESTS: Mapping[str, str] = {
    "CreateMessageRequest": "/v1/messages",
    "CountTokensRequest": "/v1/messages/count_tokens",
    "CreateBatchRequest": "/v1/messages/batches",
}
"""Our names of the bodies, and where the reference has them."""

PAGE: Json = {
    "type": "object",
    "properties": {
        "data": {"type": "array", "items": {"$ref": "MessageBatch"}},
        "has_more": {"type": "boolean"},
        "first_id": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "last_id": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
    "required": ["data", "has_more", "first_id", "last_id"],
}
"""The SDK has pages of anything, and no type for this one."""

EXTRA_EVENTS: Mapping[str, Json] = {
    "PingEvent": {
        "type": "object",
        "properties": {"type": {"const": "ping", "type": "string"}},
        "required": ["type"],
    },
    "ErrorEvent": {"$ref": "ErrorResponse"},
}
"""Sent by Anthropic and read by the SDK, though not among its event types."""

DESCRIPTIONS: Mapping[str, str] = {
    **FIELD_DESCRIPTIONS,
    "applied_edits": "What context management removed.",
    "cache_creation": "Tokens written to the cache, by time to live.",
    "cache_creation_input_tokens": "Input tokens written to the cache.",
    "cache_read_input_tokens": "Input tokens read from the cache.",
    "canceled": "Requests that were canceled before they ran.",
    "cancel_initiated_at": "When cancellation was asked for.",
    "category": "Kind of the refusal, where it has one.",
    "citation": "The citation to append to the text block.",
    "container": "The container that code runs in.",
    "content_block": "The block at its start; deltas complete it.",
    "created_at": "When the batch was made.",
    "custom_id": "The client's own name for the request; unique within the batch.",
    "delta": "What to add to the open block or to the message.",
    "document_index": "Counts the documents of the whole request from 0.",
    "ended_at": "When the last request was done.",
    "ephemeral_1h_input_tokens": "Input tokens written to the cache for an hour.",
    "ephemeral_5m_input_tokens": "Input tokens written to the cache for five minutes.",
    "errored": "Requests that failed.",
    "expired": "Requests that had not run when the batch expired.",
    "expires_at": "When it expires.",
    "explanation": "The refusal in words.",
    "fallback_credit": "What became of a fallback credit token.",
    "fallback_has_prefill_claim": "Whether a fallback may go on from the refused text.",
    "first_id": "Id of the first batch of the page, a cursor for `before_id`.",
    "has_more": "Whether there are more in this direction.",
    "index": "Position of the block in the message, from 0.",
    "input_tokens": "Input tokens, those of the cache not included.",
    "input_transformations": "What was changed in the request before the model saw it.",
    "iterations": "Usage of each model call behind this answer.",
    "last_id": "Id of the last batch of the page, a cursor for `after_id`.",
    "message": "The message, or the error in words.",
    "original_input_tokens": "Input tokens before context management.",
    "output_tokens": "Tokens generated.",
    "output_tokens_details": "What the generated tokens were spent on.",
    "partial_json": "A piece of the input's JSON text.",
    "processing": "Requests that wait or run.",
    "processing_status": "Where the batch is: running, being canceled, or done.",
    "recommended_model": "A model that might answer.",
    "request_counts": "How many requests are in which state.",
    "request_id": "Identifies the request in logs.",
    "result": "What became of the request.",
    "server_tool_use": "How often server tools were used.",
    "status": "What became of it.",
    "stop_details": "More about the stop, where there is more.",
    "stop_sequence": "The one of `stop_sequences` that ended the answer.",
    "thinking_tokens": "Tokens spent on thinking.",
    "usage": "Tokens of the request.",
    "web_fetch_requests": "Pages fetched.",
    "web_search_requests": "Searches made.",
    "archived_at": "When the results were removed.",
    "cache_miss_reason": "Why the prompt cache was missed.",
    "cache_missed_input_tokens": "Input tokens that were not read from the cache.",
    "cleared_input_tokens": "Input tokens that were removed.",
    "cleared_thinking_turns": "Turns whose thinking was removed.",
    "cleared_tool_uses": "Calls that were removed.",
    "end_block_index": "Exclusive.",
    "end_char_index": "Exclusive.",
    "end_page_number": "Exclusive.",
    "reason": "Why.",
    "remove_to_redeem": "Fields of the request that stand in the way.",
    "results_url": "Where the results are, in JSON lines, once the batch has ended.",
    "retrieved_at": "ISO 8601.",
    "search_result_index": "Counts the `search_result` blocks of the whole request from 0.",
    "start_page_number": "Counts from 1.",
    "succeeded": "Zero until the batch ends, as the next three.",
    "Message.model": "The name that the client asked for.",
    "Message.stop_reason": "Null only in `message_start`.",
    "MessageBatch.expires_at": "24 hours after creation; what has not run by then is expired.",
    "MessageBatch.id": "Id of the batch, such as `msgbatch_...`.",
    "MessageTokensCount.input_tokens": "Tokens of the whole prompt: messages, system and tools.",
}
"""What a field of an answer means, by its name or by its object's name and its own."""

EXTRA_ERRORS: tuple[str, ...] = ("request_too_large",)
"""https://platform.claude.com/docs/en/api/errors"""

RENAMED: Mapping[str, str] = {"Diagnostics": "MessageDiagnostics"}
"""Objects of answers that have the name of one of requests."""


def generate() -> dict[str, Json]:
    """The schemas of all bodies and their parts, by name."""
    requests = request_schemas()
    answers = _answer_schemas()
    assert not (twice := set(requests) & set(answers)), twice
    schemas = requests | answers
    _follow_reference(schemas)
    for name in requests:
        _set_bounds(name, schemas[name])
    described = {name: _described(name, schemas[name], FIELD_DESCRIPTIONS) for name in requests}
    kept = sorted(_reachable(schemas, ["MessageBatchPage", *ROOTS]) - set(requests))
    return described | {name: _described(name, schemas[name], DESCRIPTIONS) for name in kept}


def _answer_schemas() -> dict[str, Json]:
    schemas: dict[str, Json] = {"MessageBatchPage": deepcopy(PAGE), **deepcopy(EXTRA_EVENTS)}
    for name, kind in ROOTS.items():
        made = TypeAdapter(kind).json_schema(ref_template="{model}")
        schemas |= {_ours(each): schema for each, schema in made.pop("$defs", {}).items()}
        schemas[name] = made
    schemas = {name: _plain(schema) for name, schema in schemas.items()}
    _extend(schemas)
    schemas["Message"]["properties"]["model"] = {"type": "string"}
    return schemas


def _set_bounds(name: str, schema: Json) -> None:
    for field, described in schema["properties"].items():
        bounds = BOUNDS_OF.get(f"{field} of {name}", BOUNDS_OF.get(field))
        if bounds:
            part = next(part for part in described.get("anyOf", [described]) if part.get("type") != "null")
            part.pop("minimum", None)
            part |= deepcopy(bounds)


def _ours(name: str) -> str:
    plain = name.removeprefix("Beta")
    return RENAMED.get(plain, plain)


def _plain(value: Any) -> Any:
    """Without generated titles, and with our names; unions of tagged objects stay open to newer ones."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        return {"$ref": _ours(value["$ref"])}
    made = {
        key: {name: _plain(each) for name, each in inner.items()} if key == "properties" else _plain(inner)
        for key, inner in value.items()
        if not (key == "title" and isinstance(inner, str)) and not (key == "default" and inner is None)
    }
    made.pop("additionalProperties", None) if "properties" in made else None
    if "oneOf" in made:
        made["anyOf"] = made.pop("oneOf")
    if sum("$ref" in each for each in made.get("anyOf", ())) > 1:
        made["anyOf"].append({"$ref": "UnknownType"})
    return made


def _extend(schemas: dict[str, Json]) -> None:
    schemas["MessageStreamEvent"]["anyOf"] += [{"$ref": name} for name in EXTRA_EVENTS]
    error = schemas["ErrorResponse"]["properties"]["error"]
    for name in EXTRA_ERRORS:
        type_ = {"type": "string", "const": name}
        title = "".join(map(str.capitalize, name.split("_"))) + "Error"
        schemas[title] = {
            "type": "object",
            "properties": {"type": type_, "message": {"type": "string"}},
            "required": ["type", "message"],
        }
        error["anyOf"].append({"$ref": title})


def _reachable(schemas: Mapping[str, Json], roots: list[str]) -> set[str]:
    found: set[str] = set()
    while roots:
        name = roots.pop()
        if name not in found:
            found.add(name)
            roots += _references(schemas[name])
    return found


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _references(each)


# --- what the reference says of them ---


def _follow_reference(schemas: dict[str, Json]) -> None:
    reference: Json = json.loads(REFERENCE.read_text())
    ours = {"components": {"schemas": schemas}}
    seen: set[int] = set()
    for name, (path, method) in ANSWERS.items():
        content = next(iter(reference["paths"][path][method]["responses"]["200"]["content"].values()))
        _follow(Schema(schemas[name], ours), Schema(content["schema"], reference), seen)
    for name, path in REQUESTS.items():
        content = reference["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        _follow(Schema(schemas[name], ours), Schema(content["schema"], reference), seen)
    failed = reference["paths"]["/v1/messages"]["post"]["responses"]["4XX"]["content"]["application/json"]["schema"]
    _follow(Schema(schemas["ErrorResponse"], ours), Schema(failed, reference), seen)


def _follow(ours: Schema, theirs: Schema, seen: set[int]) -> None:
    known = ours.objects()
    for tag, (_, documented) in theirs.objects().items():
        if tag in known and id(mine := known[tag][1]) not in seen:
            seen.add(id(mine))
            _follow_object(ours, mine, theirs, documented, seen)
    if (items := ours.items()) and (their_items := theirs.items()):
        _follow(items, their_items, seen)


def _follow_object(ours: Schema, mine: Json, theirs: Schema, documented: Json, seen: set[int]) -> None:
    required = set(mine.get("required", ())) - set(documented["properties"]) | set(documented.get("required", ()))
    mine["required"] = [name for name in mine["properties"] if name in required]
    for name, schema in documented["properties"].items():
        if name in mine["properties"]:
            their = theirs.sub(schema)
            mine["properties"][name] = _bounded(mine["properties"][name], their)
            _follow(ours.sub(mine["properties"][name]), their, seen)


def _bounded(schema: Json, theirs: Schema) -> Json:
    parts = [part for part in schema.get("anyOf", [schema]) if part != {"type": "null"}]
    bounds = theirs.bounds()
    if len(parts) == 1:
        parts = [{key: value for key, value in parts[0].items() if key not in BOUNDS} | bounds]
    if "null" in theirs.types:
        parts.append({"type": "null"})
    made = parts[0] if len(parts) == 1 else {"anyOf": parts}
    return made | ({} if theirs.default is None else {"default": theirs.default})


def _described(name: str, schema: Json, descriptions: Mapping[str, str]) -> Json:
    if name in OBJECT_DESCRIPTIONS:
        schema = {"description": OBJECT_DESCRIPTIONS[name], **schema}
    for field, described in schema.get("properties", {}).items():
        if text := descriptions.get(f"{name}.{field}", descriptions.get(field)):
            described["description"] = text
    return schema


def _written(schemas: Mapping[str, Json]) -> str:
    """As JSON, a line for each field of an object."""
    return "{\n" + ",\n".join(f"{json.dumps(name)}: {_lines(schema)}" for name, schema in schemas.items()) + "\n}\n"


def _lines(schema: Json) -> str:
    if "properties" not in schema:
        return json.dumps(schema)
    fields = ",\n".join(f"  {json.dumps(name)}: {json.dumps(part)}" for name, part in schema["properties"].items())
    head = [f" {json.dumps(key)}: {json.dumps(part)}" for key, part in schema.items() if key != "properties"]
    return "{\n" + ",\n".join([*head, f' "properties": {{\n{fields}\n }}']) + "\n}"


def main(arguments: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    text = _written(generate())
    if not options.check:
        Path(SCHEMAS).write_text(text)
        return 0
    if same := Path(SCHEMAS).read_text() == text:
        print("The schemas are those of the installed SDK")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
