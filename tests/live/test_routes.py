"""What every answer carries, and what the host publishes of the routes."""

import httpx
import pytest

from tests.conftest import Fleet
from tests.support.wire import Json

BODY: Json = {"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
MODELS = ("vllm/vllm-model", "vllm-translated/vllm-model", "nobody/nothing", "dead/dead-model")


def test_every_answer_has_an_id_of_its_own(fleet: Fleet) -> None:
    answers = [
        httpx.post(
            f"{fleet.base_url}{prefix}/messages{path}", json={**BODY, "model": model, "stream": stream}, timeout=60
        )
        for prefix in ("/v1", "/v1/v1")
        for path in ("", "/count_tokens")
        for model in MODELS
        for stream in (False, True)
    ]
    ids = [answer.headers["request-id"] for answer in answers]
    assert all(ident.startswith("req_") for ident in ids)
    assert len(set(ids)) == len(ids)
    assert {answer.status_code for answer in answers} == {200, 404, 502}


@pytest.fixture
def schema(fleet: Fleet) -> Json:
    found: Json = httpx.get(f"{fleet.base_url}/openapi.json", timeout=60).raise_for_status().json()
    return found


def test_the_routes_are_published_once(schema: Json) -> None:
    ours = {path for path in schema["paths"] if "messages" in path}
    assert {"/v1/messages", "/v1/messages/count_tokens"} <= ours
    assert not [path for path in ours if path.startswith("/v1/v1")]


@pytest.mark.parametrize(
    ("path", "request_model", "answer_model"),
    [
        ("/v1/messages", "CreateMessageRequest", "Message"),
        ("/v1/messages/count_tokens", "CountTokensRequest", "MessageTokensCount"),
    ],
)
def test_bodies_and_answers_are_published(schema: Json, path: str, request_model: str, answer_model: str) -> None:
    post = schema["paths"][path]["post"]
    body = post["requestBody"]["content"]["application/json"]["schema"]
    answer = post["responses"]["200"]["content"]["application/json"]["schema"]
    assert body["$ref"].rpartition("/")[2] == request_model
    assert answer["$ref"].rpartition("/")[2] == answer_model
    assert {request_model, answer_model} <= schema["components"]["schemas"].keys()
