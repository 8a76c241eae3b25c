"""Requests made from our own OpenAPI document, valid and not: no 5xx, Anthropic's shape, the documented answers."""

import os
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.generation import GenerationMode

from tests.conftest import Fleet

EXAMPLES = int(os.environ.get("MESSAGES_FUZZ_EXAMPLES", "3"))
"""Of each operation; `make fuzz` asks for more."""
MODELS = ("vllm/vllm-model", "openai/openai-model", "no/such-model")
BATCH = "/v1/messages/batches/{message_batch_id}"
# An id in a path can be no other type than a string, so that those are never invalid.
OPERATIONS = (
    ("POST", "/v1/messages", "positive"),
    ("POST", "/v1/messages", "negative"),
    ("POST", "/v1/messages/count_tokens", "positive"),
    ("POST", "/v1/messages/count_tokens", "negative"),
    ("POST", "/v1/messages/batches", "positive"),
    ("POST", "/v1/messages/batches", "negative"),
    ("GET", "/v1/messages/batches", "positive"),
    ("GET", "/v1/messages/batches", "negative"),
    ("GET", BATCH, "positive"),
    ("DELETE", BATCH, "positive"),
    ("GET", f"{BATCH}/results", "positive"),
    ("POST", f"{BATCH}/cancel", "positive"),
)


@pytest.fixture(scope="module")
def document(_fleet: Fleet) -> Any:
    """The server's OpenAPI document, our paths only."""
    document = httpx.get(f"{_fleet.base_url}/openapi.json", timeout=100).json()
    ours = {path: item for path, item in document["paths"].items() if path.startswith("/v1/messages")}
    return {**document, "paths": ours}


def _aimed(case: Any, number: int) -> None:
    """Most requests name a model that is there: what a model name alone decides is over soon."""
    if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
        case.body["model"] = MODELS[number % len(MODELS)]


@pytest.mark.parametrize(("method", "path", "mode"), OPERATIONS, ids=[" ".join(each) for each in OPERATIONS])
def test_generated_requests(fleet: Fleet, document: Any, method: str, path: str, mode: str) -> None:
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=fleet.base_url)
    count = 0

    @given(case=schema[path][method].as_strategy(generation_mode=GenerationMode(mode)))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Any) -> None:
        nonlocal count
        _aimed(case, count)
        count += 1
        answer = case.call(timeout=60)
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400:
            error = answer.json()
            assert error["type"] == "error"
            assert isinstance(error["error"]["message"], str)
            assert error["request_id"].startswith("req_")

    check()
    assert count
