"""`max_tokens: 0` over the real host: the prompt is read, and nothing is said."""

import httpx
import pytest

from tests.conftest import Fleet
from tests.support.laws import assert_well_formed, fold
from tests.support.sse import events
from tests.support.wire import Json

BODY: Json = {"max_tokens": 0, "messages": [{"role": "user", "content": "Hello"}]}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("model", "upstream"),
    [
        ("vllm/vllm-model", "vllm"),
        ("llamacpp/llamacpp-model", "llamacpp"),
        ("vllm-translated/vllm-model", "vllm"),
        ("openai/openai-model", "openai"),
    ],
)
def test_a_prompt_is_warmed_up_by_one_token(fleet: Fleet, model: str, upstream: str, stream: bool) -> None:
    body = {**BODY, "model": model, "stream": stream}
    answer = httpx.post(f"{fleet.base_url}/v1/messages", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    sent = fleet.upstreams[upstream].last.json
    assert sent.get("max_tokens", sent.get("max_completion_tokens")) == 1
    if stream:
        assert_well_formed(events(answer.content))
    message = fold(events(answer.content)) if stream else answer.json()
    assert (message["content"], message["stop_reason"], message["model"]) == ([], "max_tokens", model)
    assert message["usage"]["output_tokens"] == 0
    assert message["usage"]["input_tokens"] > 0


def test_anthropic_is_asked_as_the_client_asked(fleet: Fleet) -> None:
    body = {**BODY, "model": "anthropic/anthropic-model"}
    httpx.post(f"{fleet.base_url}/v1/messages", json=body, timeout=60)
    assert fleet.upstreams["anthropic"].last.json["max_tokens"] == 0
