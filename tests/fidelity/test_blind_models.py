"""Models without eyes and templates without system turns: told by a refusal, worked around on both routes."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import httpx
import pytest

from tests.conftest import Fleet
from tests.fidelity.cases import CALL, HELLO, LOOK, Json, answer
from tests.fidelity.cases_of_blocks import PICTURE
from tests.fidelity.matching import ANY, Has, differences
from tests.support.upstream import RecordedRequest, Reply, Responder, ScriptedUpstream, json_reply

CHAT, MESSAGES, COUNT = "/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens"
UNSEEN = "[There is an image here, which you cannot see.]"
WORDS = (
    "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",  # llama.cpp
    "weights is not a multimodal model",  # vLLM
    "At most 0 image(s) may be provided in one prompt.",  # vLLM
    "Invalid content type. image_url is only supported by certain models.",  # OpenAI
    "model is missing data required for image input",  # Ollama
    "Image input is not enabled for this model",  # Mistral
    "unknown variant `image_url`, expected `text` at line 1 column 90",  # DeepSeek
    "'messages.0.content' : content must be a string",  # Groq
)
OF_THE_IMAGE = (
    "Unsupported image format: image/tiff",
    "Invalid base64 image in user message",
    "This model does not support images larger than 5 MB",
    "image exceeds 5 MB maximum: 6291456 bytes > 5242880 bytes",
)
NAMES = count()


@pytest.fixture
def client(fleet: Fleet) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=fleet.base_url) as client:
        yield client


def model_of(provider: str) -> str:
    """A model that nothing has been learned about yet; its provider serves any."""
    return f"{provider}/blind-{next(NAMES)}"


def ask(model: str, **more: Any) -> Json:
    shown = {"role": "user", "content": [{"type": "text", "text": "What is it?"}, PICTURE]}
    return {"model": model, "max_tokens": 9, "messages": [shown], **more}


def refuses(upstream: ScriptedUpstream, words: str, found: bytes = b"image_url") -> Responder:
    """An upstream that refuses requests with this in them, in these words."""

    def reply(request: RecordedRequest) -> Reply:
        if found in request.body:
            return json_reply({"error": {"message": words, "type": "invalid_request_error"}}, status=400)
        usual = upstream.personality.answer(request.method, request.path)
        return usual(request) if callable(usual) else usual

    return reply


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("words", WORDS)
def test_an_image_that_a_model_cannot_see_is_named_and_the_rest_is_answered(
    words: str, stream: bool, client: httpx.Client, fleet: Fleet
) -> None:
    upstream, model = fleet.upstreams["fastapi"], model_of("fastapi")
    upstream.reply(CHAT, refuses(upstream, words))
    for tries in (2, 1):  # the second time it is known
        upstream.requests.clear()
        answered = client.post(MESSAGES, json=ask(model, stream=stream))
        assert answered.status_code == 200, answered.text
        assert answered.headers["x-messages-dropped"] == "messages.0.content.1"
        sent = upstream.requests_to(CHAT)
        assert len(sent) == tries
        assert sent[-1].json["messages"] == [{"role": "user", "content": f"What is it?\n\n{UNSEEN}"}]
    assert client.post(COUNT, json={**ask(model), "max_tokens": None} | {"model": model}).status_code == 200


def test_an_image_in_a_result_is_named_by_its_path(client: httpx.Client, fleet: Fleet) -> None:
    upstream, model = fleet.upstreams["fastapi"], model_of("fastapi")
    upstream.reply(CHAT, refuses(upstream, WORDS[0]))
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [PICTURE, {"type": "text", "text": "x"}]}
    turns = [HELLO, {"role": "assistant", "content": [CALL]}, {"role": "user", "content": [result]}]
    answered = client.post(MESSAGES, json=ask(model, messages=turns, tools=[LOOK]))
    assert answered.headers["x-messages-dropped"] == "messages.2.content.0.content.0"
    expected = [ANY, ANY, {"role": "tool", "content": f"{UNSEEN}\n\nx"}]
    assert differences(expected, upstream.last.json["messages"]) == []


def test_strict_mode_refuses_the_image(client: httpx.Client, fleet: Fleet) -> None:
    upstream, model = fleet.upstreams["fastapi"], model_of("fastapi")
    upstream.reply(CHAT, refuses(upstream, WORDS[0]))
    for _ in range(2):
        answered = client.post(MESSAGES, json=ask(model), headers={"x-messages-strict": "true"})
        assert answered.status_code == 400
        message = answered.json()["error"]["message"]
        assert message.startswith("messages.0.content.1: cannot be honoured (the model takes no images)")


@pytest.mark.parametrize("words", OF_THE_IMAGE)
def test_what_is_wrong_with_one_image_is_for_the_client_to_know(words: str, client: httpx.Client, fleet: Fleet) -> None:
    for model, path in ((model_of("fastapi"), CHAT), ("sglang/any", MESSAGES)):
        client.post(MESSAGES, json={**ask(model), "messages": [HELLO]})  # the probe is over
        upstream = fleet.upstreams[model.partition("/")[0]]
        upstream.reply(path, refuses(upstream, words, b"What is it?"))
        answered = client.post(MESSAGES, json=ask(model))
        assert (answered.status_code, answered.json()["error"]["message"]) == (400, words)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_native_endpoint_without_eyes_is_left_for_the_request(
    stream: bool, client: httpx.Client, fleet: Fleet
) -> None:
    upstream, model = fleet.upstreams["sglang"], model_of("sglang")
    assert client.post(MESSAGES, json=ask(model)).headers["x-messages-route"] == "native"
    upstream.reply(MESSAGES, refuses(upstream, WORDS[0], b'"image"'))
    upstream.reply(COUNT, refuses(upstream, WORDS[0], b'"image"'))
    upstream.reply(CHAT, refuses(upstream, WORDS[0]))
    answered = client.post(MESSAGES, json=ask(model, stream=stream))
    assert answered.status_code == 200, answered.text
    assert answered.headers["x-messages-route"] == "translation"
    assert answered.headers["x-messages-dropped"] == "messages.0.content.1"
    counted = client.post(COUNT, json={name: value for name, value in ask(model).items() if name != "max_tokens"})
    assert counted.json()["input_tokens"] > 0
    assert client.post(MESSAGES, json=ask(model, messages=[HELLO])).headers["x-messages-route"] == "native"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_native_endpoint_whose_template_takes_no_system_turns_is_left_for_the_request(
    stream: bool, client: httpx.Client, fleet: Fleet
) -> None:
    upstream, model = fleet.upstreams["sglang"], model_of("sglang")
    turns = [HELLO, {"role": "system", "content": "Whisper."}, HELLO]
    assert client.post(MESSAGES, json=ask(model, messages=turns)).headers["x-messages-route"] == "native"
    strict = "System message must be at the beginning."
    upstream.reply(MESSAGES, refuses(upstream, strict, b'"role":"system"'))
    upstream.reply(CHAT, refuses(upstream, strict, b'},{"role":"system"'))
    answered = client.post(MESSAGES, json=ask(model, messages=turns, stream=stream))
    assert answered.status_code == 200, answered.text
    assert answered.headers["x-messages-route"] == "translation"
    assert "x-messages-dropped" not in answered.headers
    expected = [{"role": "system", "content": "Whisper."}, {"role": "user", "content": Has("Hi", "Hi")}]
    assert differences(expected, upstream.last.json["messages"]) == []


def test_a_provider_that_is_bound_to_the_native_route_is_not_left(client: httpx.Client, fleet: Fleet) -> None:
    upstream, model = fleet.upstreams["sglang"], model_of("sglang-native")
    client.post(MESSAGES, json=ask(model))
    upstream.reply(MESSAGES, refuses(upstream, WORDS[0], b'"image"'))
    upstream.reply(CHAT, answer("Never."))
    answered = client.post(MESSAGES, json=ask(model))
    assert (answered.status_code, answered.json()["error"]["message"]) == (400, WORDS[0])
