"""Schemas and efforts: as the upstream takes them, and never a reason to fail."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.conftest import Fleet
from tests.fidelity.cases import CALL, HELLO, LOOK, Json, answer
from tests.support.upstream import RecordedRequest, Reply, Responder, ScriptedUpstream, call, chat_reply, json_reply

CHAT = "/v1/chat/completions"
CLOSED: Json = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
OPEN: Json = {**CLOSED, "properties": {**CLOSED["properties"], "country": {"type": "string"}}}
LOST = "output_config.format.strict"
ANSWER = '{"city": "Paris"}'


def played(reply: Responder, request: RecordedRequest) -> Reply:
    return reply(request) if callable(reply) else reply


def openai_like(request: RecordedRequest) -> Reply:
    """An upstream that guarantees no schema with optional properties, and says so as OpenAI does."""
    schema: Any = (request.json.get("response_format") or {}).get("json_schema", {})
    missing = set(schema.get("schema", {}).get("properties", ())) - set(schema.get("schema", {}).get("required", ()))
    if schema.get("strict") and missing:
        said = (
            "Invalid schema for response_format 'answer': In context=(), 'required' is required to be supplied and to "
            f"be an array including every key in properties. Missing '{missing.pop()}'."
        )
        return json_reply({"error": {"message": said, "type": "invalid_request_error"}}, status=400)
    return played(answer(ANSWER), request)


@dataclass
class Side:
    """A client, and a model of its own: what is learned of a model is kept."""

    http: httpx.Client
    upstream: ScriptedUpstream
    model: str

    def ask(self, schema: Json, *, stream: bool = False, strict: bool = False) -> httpx.Response:
        form = {"type": "json_schema", "schema": schema}
        return self.post({"output_config": {"format": form}, "stream": stream}, strict=strict)

    def post(self, more: Json, *, strict: bool = False) -> httpx.Response:
        body = {"model": self.model, "max_tokens": 99, "messages": [HELLO], **more}
        headers = {"x-messages-strict": "true"} if strict else {}
        return self.http.post("/v1/messages", json=body, headers=headers)


@pytest.fixture
def side(fleet: Fleet, request: pytest.FixtureRequest) -> Iterator[Side]:
    upstream = fleet.upstreams["fastapi"]
    upstream.reply(CHAT, openai_like)
    with httpx.Client(base_url=fleet.base_url, timeout=60) as http:
        yield Side(http, upstream, f"fastapi/{request.node.name}")


def sent(upstream: ScriptedUpstream) -> list[tuple[Json, bool | None]]:
    """Schema and strictness of each request."""
    forms = [request.json["response_format"]["json_schema"] for request in upstream.requests_to(CHAT)]
    return [(form["schema"], form.get("strict")) for form in forms]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_schema_that_is_refused_strictly_is_sent_without_and_that_is_remembered(stream: bool, side: Side) -> None:
    for _ in range(2):
        answered = side.ask(OPEN, stream=stream)
        assert answered.status_code == 200, answered.text
        assert answered.headers["x-messages-dropped"] == LOST
        assert "end_turn" in answered.text
    assert sent(side.upstream) == [(OPEN, True), (OPEN, None), (OPEN, None)]


def test_other_schemas_of_the_model_stay_strict(side: Side) -> None:
    side.ask(OPEN)
    answered = side.ask(CLOSED)
    assert answered.json()["content"][0]["text"] == ANSWER
    assert "x-messages-dropped" not in answered.headers
    assert sent(side.upstream)[-1] == (CLOSED, True)


def test_strict_mode_tells_the_refusal_at_first_and_later(side: Side) -> None:
    refused = side.ask(OPEN, strict=True)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"].startswith("Invalid schema for response_format")
    assert side.ask(OPEN).status_code == 200  # and now it is known
    refused = side.ask(OPEN, strict=True)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"].startswith(f"{LOST}: cannot be honoured")
    assert side.ask(CLOSED, strict=True).status_code == 200


def test_what_a_model_is_known_to_refuse_is_refused_in_strict_mode(side: Side) -> None:
    def no_temperature(request: RecordedRequest) -> Reply:
        if "temperature" in request.json:
            return json_reply({"error": {"message": "Unsupported parameter: 'temperature'"}}, status=400)
        return openai_like(request)

    side.upstream.reply(CHAT, no_temperature)
    assert side.post({"temperature": 0.5}).headers["x-messages-dropped"] == "temperature"
    for _ in range(2):
        refused = side.post({"temperature": 0.5}, strict=True)
        assert refused.status_code == 400
        assert "temperature" in refused.json()["error"]["message"]


def test_thinking_that_a_model_cannot_leave_off_is_as_little_as_it_can(side: Side) -> None:
    def thinker(request: RecordedRequest) -> Reply:
        effort = request.json.get("reasoning_effort")
        if effort not in (None, "low", "medium", "high"):
            said = f"Unsupported value: 'reasoning_effort' does not support '{effort}' with this model. "
            said += "Supported values are: 'low', 'medium', and 'high'."
            return json_reply({"error": {"message": said}}, status=400)
        return played(answer("Hello"), request)

    side.upstream.reply(CHAT, thinker)
    off = {"thinking": {"type": "disabled"}}
    for _ in range(2):
        assert side.post(off).headers["x-messages-dropped"] == "thinking"
    assert [request.json["reasoning_effort"] for request in side.upstream.requests_to(CHAT)] == ["none", "low", "low"]
    assert side.post(off, strict=True).status_code == 400
    assert "x-messages-dropped" not in side.post({"output_config": {"effort": "max"}}).headers
    assert side.upstream.last.json["reasoning_effort"] == "high"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_the_limit_of_a_model_is_no_end_of_its_window(stream: bool, side: Side) -> None:
    """An answer that a lower limit of the model's own cut off has reached its limit."""

    def small(request: RecordedRequest) -> Reply:
        if request.json["max_tokens"] > 5:
            said = "max_tokens is too large: 99. This model supports at most 5 completion tokens"
            return json_reply({"error": {"message": said}}, status=400)
        return played(answer("Hello", finish_reason="length"), request)  # five tokens

    side.upstream.reply(CHAT, small)
    assert '"stop_reason":"max_tokens"' in side.post({"stream": stream}).text


def mistral(request: RecordedRequest) -> Reply:
    """A model that knows ids of nine letters and digits only, and makes such ones itself."""
    calls = [each for message in request.json["messages"] for each in message.get("tool_calls", ())]
    results = [message["tool_call_id"] for message in request.json["messages"] if message["role"] == "tool"]
    for ident in [*(each["id"] for each in calls), *results]:
        if not re.fullmatch("[a-zA-Z0-9]{9}", ident):
            said = f"Tool call id was {ident} but must be a-z, A-Z, 0-9, with a length of 9."
            return json_reply({"object": "error", "message": said, "type": "invalid_function_call"}, status=400)
    return played(chat_reply(tool_calls=[call("look", {}, id="aB3dE6gH9")]), request)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_conversation_with_other_ids_goes_on_with_a_mistral_model(stream: bool, side: Side) -> None:
    side.upstream.reply(CHAT, mistral)
    turns: list[Json] = [HELLO]
    for ident in ("toolu_01A09q90qw90lq917835lq9", "aB3dE6gH9"):
        turns.append({"role": "assistant", "content": [{**CALL, "id": ident}]})
        turns.append({"role": "user", "content": [{"type": "tool_result", "tool_use_id": ident, "content": "sky"}]})
    for _ in range(2):
        answered = side.post({"messages": turns, "tools": [LOOK], "stream": stream})
        assert answered.status_code == 200, answered.text
        assert "aB3dE6gH9" in answered.text
        assert "x-messages-dropped" not in answered.headers
    requests = side.upstream.requests_to(CHAT)
    assert len(requests) == 3  # it is remembered
    _, one, first, two, second = requests[-1].json["messages"]
    assert one["tool_calls"][0]["id"] == first["tool_call_id"] != "aB3dE6gH9"
    assert two["tool_calls"][0]["id"] == second["tool_call_id"] == "aB3dE6gH9"


def test_a_native_endpoint_that_knows_no_other_ids_is_left(fleet: Fleet) -> None:
    vllm = fleet.upstreams["vllm"]
    said = "Tool call id was toolu_1 but must be a-z, A-Z, 0-9, with a length of 9."
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": said}}
    vllm.reply("/v1/messages", json_reply(error, status=400))
    vllm.reply(CHAT, mistral)
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sky"}
    turns = [HELLO, {"role": "assistant", "content": [CALL]}, {"role": "user", "content": [result]}]
    body = {"model": "vllm/vllm-model", "max_tokens": 99, "messages": turns, "tools": [LOOK]}
    answered = httpx.post(f"{fleet.base_url}/v1/messages", json=body, timeout=60)
    assert answered.status_code == 200, answered.text
    assert answered.headers["x-messages-route"] == "translation"
