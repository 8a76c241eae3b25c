"""`GET /v1/models` as Anthropic's clients get it, beside the host's own, where nobody authenticates."""

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types import ModelInfo

from tests.conftest import Fleet
from tests.support.dialects import MAX_MODEL_LEN
from tests.support.wire import Json

VERSION = {"anthropic-version": "2023-06-01"}
PATHS = ("/v1/models", "/v1/v1/models", "/models")


@pytest.fixture
def client(fleet: Fleet) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=fleet.base_url, timeout=60) as client:
        yield client


@pytest.fixture
def sdk(fleet: Fleet) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=fleet.base_url, api_key="any", max_retries=0) as sdk:
        yield sdk


def identifiers(client: httpx.Client) -> list[str]:
    return [model["id"] for model in client.get("/v1/models").json()["data"]]


def test_the_sdk_lists_every_model_by_its_name_and_with_claude_before_it(
    client: httpx.Client, sdk: anthropic.Anthropic
) -> None:
    names = identifiers(client)
    listed = list(sdk.models.list())  # goes from page to page
    assert [model.id for model in listed] == sorted([*names, *(f"claude/{name}" for name in names)])
    assert len(names) > 20
    assert all(type(model) is ModelInfo and model.type == "model" and model.lifecycle == "active" for model in listed)


def test_the_async_sdk_does_too(fleet: Fleet) -> None:
    import asyncio

    async def both() -> tuple[list[str], ModelInfo]:
        async with anthropic.AsyncAnthropic(base_url=fleet.base_url, api_key="any", max_retries=0) as sdk:
            return [model.id async for model in sdk.models.list(limit=7)], await sdk.models.retrieve("vllm/vllm-model")

    listed, found = asyncio.run(both())
    assert len(listed) == len(set(listed)) > 20
    assert (found.id, found.max_input_tokens) == ("vllm/vllm-model", MAX_MODEL_LEN)


def test_pages_go_both_ways(sdk: anthropic.Anthropic) -> None:
    everything = [model.id for model in sdk.models.list(limit=1000)]
    page = sdk.models.list(limit=3, after_id=everything[4])
    assert [model.id for model in page.data] == everything[5:8]
    assert (page.first_id, page.last_id, page.has_more) == (everything[5], everything[7], True)
    page = sdk.models.list(limit=3, before_id=everything[4])
    assert [model.id for model in page.data] == everything[1:4]
    assert page.has_more
    assert [model.id for model in page] == [*everything[1:4], everything[0]]
    page = sdk.models.list(after_id="zzz")
    assert (page.data, page.first_id, page.last_id, page.has_more) == ([], None, None, False)
    assert sdk.models.list(lifecycle=["retired"]).data == []
    assert sdk.models.list(lifecycle=["active", "deprecated"]).data != []


@pytest.mark.parametrize(
    ("name", "shown", "window"),
    [
        ("vllm/vllm-model", "vllm/vllm-model", MAX_MODEL_LEN),
        ("claude/vllm/vllm-model", "claude/vllm/vllm-model", MAX_MODEL_LEN),
        ("claude-native-anything", "vllm/vllm-model", MAX_MODEL_LEN),
        ("openai/openai-model", "openai/openai-model", None),
        ("openai/nobody-registered-it", "openai/nobody-registered-it", None),
    ],
)
def test_the_sdk_retrieves_a_model_by_any_name(name: str, shown: str, window: int | None, sdk: Any) -> None:
    """Ids hold slashes, which the SDK escapes; a name that stands for another is told as that."""
    found = sdk.models.retrieve(name)
    assert (found.id, found.max_input_tokens) == (shown, window)
    assert found.display_name == shown.removeprefix("claude/")
    assert found.capabilities.batch.supported
    assert found.capabilities.context_management.clear_tool_uses_20250919.supported
    assert found.capabilities.thinking.types.disabled.supported


def test_every_name_that_is_listed_can_be_asked_for(client: httpx.Client, sdk: anthropic.Anthropic) -> None:
    for model in sdk.models.list(limit=1000):
        if "odd" in model.id or "-native" in model.id:  # the native route is forced on upstreams that have none
            continue
        body: Json = {"model": model.id, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
        answer = client.post("/v1/messages", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["model"] == model.id
        assert answer.headers["x-messages-model"] == model.display_name


@pytest.mark.parametrize("path", PATHS)
def test_the_answer_is_one_of_ours_by_any_path(path: str, client: httpx.Client) -> None:
    for tail in ("?limit=1", "/vllm/vllm-model", "/vllm%2Fvllm-model"):
        answer = client.get(path + tail, headers=VERSION)
        assert answer.status_code == 200, answer.text
        assert answer.headers["request-id"].startswith("req_")
        assert answer.headers["anthropic-version"] == "2023-06-01"


def test_everybody_else_gets_the_host_s_own_answer(client: httpx.Client) -> None:
    for path in ("/v1/models", "/v1/models/vllm/vllm-model", "/v1/models/nobody"):
        answer = client.get(path, headers={"x-api-key": "any"})
        assert not {"request-id", "anthropic-version"} & answer.headers.keys()
        assert "lifecycle" not in answer.text
    assert client.get("/v1/models").json().keys() == {"data"}
    assert client.get("/v1/models/vllm/vllm-model").json()["identifier"] == "vllm/vllm-model"
    assert client.get("/models").status_code == client.get("/v1/v1/models").status_code == 404
    assert client.post("/v1/models", headers=VERSION).status_code == 405


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("limit=x", "limit: Input should be a valid integer"),
        ("limit=0", "limit: Input should be between 1 and 1000"),
        ("limit=1001", "limit: Input should be between 1 and 1000"),
        ("after_id=a&before_id=b", "before_id: Extra inputs are not permitted beside after_id"),
    ],
)
def test_a_bad_query_is_told_in_anthropic_s_shape(query: str, told: str, client: httpx.Client) -> None:
    answer = client.get(f"/v1/models?{query}", headers=VERSION)
    assert answer.status_code == 400
    assert answer.json()["error"] == {"type": "invalid_request_error", "message": told}


def test_a_model_that_is_not_there_is_a_404(sdk: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match=r"model: there is no model vlm/vllm-model; did you mean vllm/"):
        sdk.models.retrieve("vlm/vllm-model")


def test_the_host_s_routes_are_documented_as_they_were(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()["paths"]
    assert schema["/v1/models"]["get"]["summary"] == "List models using the OpenAI API."


@pytest.mark.parametrize("prefix", ["/v1", "/v1/v1", ""])
def test_every_endpoint_is_there_by_any_path_that_clients_make(prefix: str, client: httpx.Client) -> None:
    """A base URL may end in `/v1` for clients that add it again, or lack it for those that do not."""
    hello: Json = {"model": "vllm/vllm-model", "messages": [{"role": "user", "content": "Hi"}]}
    params = {**hello, "max_tokens": 9}
    for tail in ("", "/"):
        assert client.post(f"{prefix}/messages{tail}", json=params).json()["type"] == "message"
    assert client.post(f"{prefix}/messages/count_tokens", json=hello).json()["input_tokens"] > 0
    batch = client.post(f"{prefix}/messages/batches", json={"requests": [{"custom_id": "a", "params": params}]}).json()
    assert batch["type"] == "message_batch"
    assert client.get(f"{prefix}/messages/batches/{batch['id']}").json()["id"] == batch["id"]
    assert client.get(f"{prefix}/messages/batches", headers=VERSION).json()["data"][0]["id"] == batch["id"]
    missing = client.get(f"{prefix}/messages/nothing-here")
    assert missing.status_code == 404
    assert missing.json()["error"]["type"] == "not_found_error"
