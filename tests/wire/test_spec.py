"""Our OpenAPI document against Anthropic's, for all six paths of messages and batches."""

import json
from copy import deepcopy
from typing import Any

import pytest

from scripts.compare_spec import JUSTIFIED, REFERENCE, Comparison, compare, main, our_schema, report, trim

type Json = dict[str, Any]

ANTHROPIC: Json = json.loads(REFERENCE.read_text())


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare(ANTHROPIC)


def test_everything_documented_is_published_as_documented(comparison: Comparison) -> None:
    assert [str(each) for each in comparison.unexplained] == []
    assert comparison.score() == 100


def test_all_endpoints_are_compared(comparison: Comparison) -> None:
    assert {endpoint for endpoint, _ in comparison.compared} == {
        "POST /v1/messages",
        "POST /v1/messages/count_tokens",
        "POST /v1/messages/batches",
        "GET /v1/messages/batches",
        "GET /v1/messages/batches/{message_batch_id}",
        "DELETE /v1/messages/batches/{message_batch_id}",
        "POST /v1/messages/batches/{message_batch_id}/cancel",
        "GET /v1/messages/batches/{message_batch_id}/results",
    }


def test_every_justification_is_needed(comparison: Comparison) -> None:
    assert {each.reason for each in comparison.justified} == set(JUSTIFIED.values())


def test_the_document_of_the_routes_can_be_made() -> None:
    document = our_schema()
    assert json.loads(json.dumps(document))["components"]["schemas"]["CreateMessageRequest"]


BODY = ("paths", "/v1/messages", "post", "requestBody", "content", "application/json", "schema")

HELLO: Json = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "age": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "mood": {"type": "string", "enum": ["good", "bad"], "default": "good"},
        "pets": {"type": "array", "items": {"$ref": "#/components/schemas/Pet"}},
    },
}
CAT: Json = {"type": "object", "properties": {"type": {"const": "cat"}, "lives": {"type": "integer"}}}
DOG: Json = {"type": "object", "properties": {"type": {"const": "dog"}}}


def document(schema: Json, *, pets: list[Json] | None = None, **operation: Any) -> Json:
    body = {"content": {"application/json": {"schema": schema}}}
    return {
        "paths": {"/v1/messages": {"post": {"requestBody": body, "responses": {}, **operation}}},
        "components": {"schemas": {"Pet": {"oneOf": [CAT, DOG] if pets is None else pets}}},
    }


def changed(*path: str, to: Any) -> Json:
    schema = deepcopy(HELLO)
    holder = schema
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = to
    return schema


@pytest.mark.parametrize(
    ("ours", "says"),
    [
        (document(HELLO), None),
        (document(changed("properties", "new", to={"type": "string"})), None),
        (document(changed("required", to=[])), "body.name: required should be True"),
        (document(changed("required", to=["name", "age"])), "body.age: required should be False"),
        (document(changed("properties", "name", "minLength", to=2)), "body.name: minLength should be 1, is 2"),
        (
            document(changed("properties", "name", to={"type": "string", "minLength": 1, "maxLength": 9})),
            "body.name: maxLength should be None, is 9",
        ),
        (document(changed("properties", "name", "type", to="integer")), "body.name: type should be string, is integer"),
        (
            document(changed("properties", "name", to={"type": "string", "minLength": 1, "enum": ["x"]})),
            "body.name: any string should do, only x do",
        ),
        (
            document(
                changed("properties", "name", to={"anyOf": [{"type": "string", "minLength": 1}, {"type": "null"}]})
            ),
            "body.name: null should not be allowed",
        ),
        (
            document(changed("properties", "age", to={"type": "integer"})),
            "body.age: type should be integer, null, is integer",
        ),
        (
            document(changed("properties", "mood", "enum", to=["good", "great"])),
            "body.mood: values bad are missing",
        ),
        (document(changed("properties", "mood", "default", to="bad")), "body.mood: default should be good, is bad"),
        (document(changed("properties", to={"name": HELLO["properties"]["name"]})), "body.age: missing"),
        (document(HELLO, pets=[CAT]), "body.pets: dog is missing"),
        (document(HELLO, pets=[DOG, {**CAT, "properties": {"type": {"const": "cat"}}}]), "Pet.lives: missing"),
        ({"paths": {}}, "endpoint: missing"),
    ],
)
def test_the_comparison_sees_what_differs(ours: Json, says: str | None) -> None:
    lines = [str(each) for each in compare(document(HELLO), ours).unexplained]
    assert (says in lines) if says else lines == []


def test_the_comparison_sees_parameters_and_answers() -> None:
    header = {"in": "header", "name": "anthropic-version", "required": False, "schema": {"type": "string"}}
    theirs = document(HELLO, parameters=[header], responses={"4XX": {"content": {"application/json": {"schema": CAT}}}})
    lines = {str(each) for each in compare(theirs, document(HELLO)).unexplained}
    assert lines == {"header anthropic-version: missing", "answer 4XX: application/json is missing"}


def properties_of(schema: Json) -> list[str]:
    return list(schema.get("properties", ()))


@pytest.mark.parametrize("kind", ["removed", "made nullable", "given a default", "required the other way"])
def test_no_property_of_a_message_s_body_can_change_unseen(kind: str) -> None:
    """Ours, changed at each of its documented properties in turn."""
    documented = properties_of(ANTHROPIC["components"]["schemas"]["CreateMessageParams"])
    reference = {**ANTHROPIC, "paths": {"/v1/messages": ANTHROPIC["paths"]["/v1/messages"]}}
    published = our_schema()
    unseen = []
    for name in documented:
        ours = deepcopy(published)
        schema = ours["components"]["schemas"]["CreateMessageRequest"]
        change(schema, name, kind)
        if not any(name in str(each) for each in compare(reference, ours).unexplained):
            unseen.append(name)
    nullable = {name for name in documented if "null" in json.dumps(schema["properties"].get(name, "null"))}
    assert set(unseen) <= (nullable if kind == "made nullable" else set())


def change(schema: Json, name: str, kind: str) -> None:
    properties, required = schema["properties"], schema["required"]
    if kind == "removed":
        del properties[name]
    elif kind == "made nullable":
        properties[name] = {"anyOf": [properties[name], {"type": "null"}]}
    elif kind == "given a default":
        properties[name] = {**properties[name], "default": "another"}
    else:
        schema["required"] = [*required, name] if name not in required else [n for n in required if n != name]


def test_a_trimmed_document_compares_like_the_whole() -> None:
    whole = {**ANTHROPIC, "paths": {**ANTHROPIC["paths"], "/v1/files": {}}, "info": {"title": "x"}}
    assert trim(whole) == ANTHROPIC


def test_the_command_line_prints_the_score(capsys: pytest.CaptureFixture[str], comparison: Comparison) -> None:
    assert main(["--all"]) == (1 if comparison.unexplained else 0)
    assert capsys.readouterr().out == report(comparison, everything=True) + "\n"
