"""Images that a model cannot see are described by one that can: once, for whoever may use it, and within bounds."""

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx
import pytest
from anthropic import Anthropic

from llama_stack_messages_provider.images.describer import PROMPT
from tests.fidelity.cases import CALL, HELLO, LOOK, Json
from tests.support import personalities
from tests.support.model import native_model
from tests.support.stack import Stack, custom_auth, openai_provider, run_config, vllm_provider
from tests.support.upstream import RecordedRequest, Reply, ScriptedUpstream, hang_reply, json_reply
from tests.support.waiting import eventually
from tests.support.wire import text_block

CHAT, MESSAGES, COUNT = "/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens"
UNSEEN = "[There is an image here, which you cannot see.]"
BLIND = "image input is not supported"
PICTURES = count()
BY = pytest.mark.parametrize("model", ["blind/m", "native/m"], ids=["translated", "native"])
STREAM = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


def picture(size: int = 8) -> Json:
    """An image that no other test has."""
    data = b64encode(f"{next(PICTURES):0{size}}".encode()).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}


def shown(text: str) -> str:
    told = "[There is an image here, which you cannot see. Another model has described it.]"
    return f"{told}\n<image_description>\n{text}\n</image_description>"


@dataclass
class Gallery:
    """A stack whose models see nothing, but for one.

    Args:
        stack: The server.
        blind: Upstream of `blind/m` (chat completions) and `native/m` (Messages); both refuse images.
        seer: Upstream of `seer/m`, which describes them.
    """

    stack: Stack
    blind: ScriptedUpstream
    seer: ScriptedUpstream

    def ask(self, *content: Json, model: str = "blind/m", user: str = "ann", **more: Any) -> httpx.Response:
        turns = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, *content]}]
        body = {"model": model, "max_tokens": 9, "messages": turns, **more}
        headers = {"authorization": f"Bearer {user}", **({"x-messages-strict": "true"} if more.get("strict") else {})}
        body.pop("strict", None)
        path = COUNT if body.get("max_tokens") is None else MESSAGES
        body = {name: value for name, value in body.items() if value is not None}
        return httpx.post(self.stack.base_url + path, json=body, headers=headers, timeout=60)

    @property
    def said(self) -> str:
        """What the blind model was told last."""
        content = self.blind.last.json["messages"][-1]["content"]
        return content if isinstance(content, str) else "\n\n".join(part["text"] for part in content)

    @property
    def described(self) -> list[Json]:
        """What the one that sees was asked."""
        return [seen.json for seen in self.seer.requests_to(MESSAGES) if PROMPT[:30] in seen.body.decode()]


def sees(request: Json) -> list[Json]:
    image, words = request["messages"][0]["content"]
    assert words == {"type": "text", "text": PROMPT}
    return [text_block(f"A picture of {image['source']['data']}.")]


def refuses_images(upstream: ScriptedUpstream, found: bytes) -> Any:
    def reply(request: RecordedRequest) -> Reply:
        if found in request.body:
            return json_reply({"error": {"message": BLIND, "type": "invalid_request_error"}}, status=400)
        usual = upstream.personality.answer(request.method, request.path)
        return usual(request) if callable(usual) else usual

    return reply


@pytest.fixture(scope="module")
def _gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    folder = tmp_path_factory.mktemp("gallery")
    users = {"ann": ("ann", {"roles": ["artist"]}), "bob": ("bob", {"roles": ["clerk"]})}
    policy: list[Json] = [
        *({"permit": {"actions": ["read"], "resource": f"model::{name}/m"}} for name in ("blind", "native")),
        {"permit": {"actions": ["read"], "resource": "model::native/plain"}},
        {"permit": {"actions": ["read"], "resource": "model::seer/m"}, "when": "user with artist in roles"},
        {"permit": {"actions": ["create", "read", "update", "delete"], "resource": "message_batch::*"}},
    ]
    with (
        ScriptedUpstream(personalities.identities(users)) as auth,
        ScriptedUpstream(personalities.vllm(models=["m", "plain"])) as blind,
        ScriptedUpstream(personalities.vllm(models=["m"])) as seer,
    ):
        config = run_config(
            folder,
            inference=[
                openai_provider(blind.url, "blind"),
                vllm_provider(blind.url, "native"),
                vllm_provider(seer.url, "seer"),
            ],
            messages={
                "routes": {"blind": "translation"},
                "images": {"describe_with": "seer/m", "images": 3, "bytes": 600, "characters": 500, "seconds": 2},
                "probe": {"yes_seconds": 86_400},
            },
            models=[
                {
                    "model_id": "plain",
                    "provider_id": "native",
                    "provider_model_id": "plain",
                    "model_type": "llm",
                    "metadata": {"image_input": False},
                    "model_validation": False,
                }
            ],
            auth=custom_auth(auth.url, policy),
        )
        with Stack(config, folder) as stack:
            yield Gallery(stack, blind, seer)


@pytest.fixture
def gallery(_gallery: Gallery) -> Gallery:
    blind, seer = _gallery.blind, _gallery.seer
    for upstream in (blind, seer):
        upstream.forget()
    blind.reply(CHAT, refuses_images(blind, b"image_url"))
    blind.reply(MESSAGES, refuses_images(blind, b'"image"'))
    seer.reply(MESSAGES, native_model(seer, sees))
    return _gallery


@STREAM
@BY
def test_an_image_is_described_once(model: str, stream: bool, gallery: Gallery) -> None:
    image = picture()
    for _ in range(2):
        answered = gallery.ask(image, model=model, stream=stream)
        assert answered.status_code == 200, answered.text
        assert answered.headers["x-messages-dropped"] == "messages.0.content.1 (described)"
        assert gallery.said == f"What is it?\n\n{shown(f'A picture of {image["source"]["data"]}.')}"
    (asked,) = gallery.described
    assert (asked["temperature"], asked["max_tokens"]) == (0, 1024)
    assert asked["messages"][0]["content"][0] == image


@BY
def test_later_turns_begin_as_the_first_one_did(model: str, gallery: Gallery) -> None:
    first, second = picture(), picture()
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [second, {"type": "text", "text": "x"}]}
    turns: list[Json] = [
        {"role": "user", "content": [first]},
        {"role": "assistant", "content": [CALL]},
        {"role": "user", "content": [result]},
        {"role": "assistant", "content": "So."},
        {"role": "user", "content": [first, {"type": "text", "text": "Again?"}]},
    ]
    prompts = []
    for end in (1, 3, 5):
        answered = gallery.ask(model=model, messages=turns[:end], tools=[LOOK])
        assert answered.status_code == 200, answered.text
        prompts.append(gallery.blind.last.json["messages"])
    assert prompts[1][: len(prompts[0])] == prompts[0]
    assert prompts[2][: len(prompts[1])] == prompts[1]
    paths = ("messages.0.content.0", "messages.2.content.0.content.0", "messages.4.content.0")
    assert set(answered.headers["x-messages-dropped"].split(", ")) == {f"{path} (described)" for path in paths}
    assert len(gallery.described) == 2


@STREAM
def test_what_cannot_be_described_is_named_as_before(stream: bool, gallery: Gallery) -> None:
    image = picture()
    for failure in (json_reply({"error": {"message": "busy"}}, status=503), hang_reply()):
        gallery.seer.reply(MESSAGES, failure)
        answered = gallery.ask(image, stream=stream)
        assert answered.status_code == 200, answered.text
        assert answered.headers["x-messages-dropped"] == "messages.0.content.1"
        assert gallery.said.endswith(UNSEEN)
    gallery.seer.release()
    gallery.seer.reply(MESSAGES, native_model(gallery.seer, sees))
    assert "(described)" in gallery.ask(image, stream=stream).headers["x-messages-dropped"]


def test_a_model_that_sees_nothing_describes_nothing(gallery: Gallery) -> None:
    """It would be told that there is an image, and describe that; nor does it ask itself."""
    gallery.seer.reply(MESSAGES, refuses_images(gallery.seer, b'"image"'))
    gallery.seer.reply(CHAT, refuses_images(gallery.seer, b"image_url"))
    answered = gallery.ask(picture())
    assert (answered.status_code, answered.headers["x-messages-dropped"]) == (200, "messages.0.content.1")
    assert gallery.said.endswith(UNSEEN)
    assert len(gallery.seer.requests) <= 4


def test_a_refusal_and_an_empty_answer_are_no_descriptions(gallery: Gallery) -> None:
    for block in (text_block(""), text_block("  \n")):
        gallery.seer.reply(MESSAGES, native_model(gallery.seer, lambda request, block=block: [block]))
        assert gallery.ask(picture()).headers["x-messages-dropped"] == "messages.0.content.1"


def test_the_bounds_hold(gallery: Gallery) -> None:
    images = [picture() for _ in range(5)]
    large = picture(700)
    answered = gallery.ask(large, images[0], *images)
    paths = [f"messages.0.content.{n}" for n in range(1, 8)]
    described = {paths[1], paths[2], paths[3], paths[4]}
    told = [f"{path} (described)" if path in described else path for path in paths]
    assert answered.headers["x-messages-dropped"] == ", ".join(told)
    assert len(gallery.described) == 3
    gallery.seer.reply(MESSAGES, native_model(gallery.seer, lambda request: [text_block("x" * 10_000)]))
    gallery.ask(picture())
    assert "x" * 500 in gallery.said
    assert "x" * 501 not in gallery.said


def test_images_that_are_given_by_their_url_are_not_fetched(gallery: Gallery) -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    assert gallery.ask(image).headers["x-messages-dropped"] == "messages.0.content.1"
    assert gallery.described == []


def test_strict_mode_wants_the_image_itself(gallery: Gallery) -> None:
    answered = gallery.ask(picture(), strict=True)
    assert answered.status_code == 400
    assert answered.json()["error"]["message"].startswith("messages.0.content.1: cannot be honoured")
    assert gallery.described == []


def test_a_count_asks_nobody(gallery: Gallery) -> None:
    image = picture()
    before = gallery.ask(image, max_tokens=None)
    assert before.status_code == 200, before.text
    assert gallery.described == []
    gallery.ask(image)
    after = gallery.ask(image, max_tokens=None)
    assert after.json()["input_tokens"] > before.json()["input_tokens"]
    assert len(gallery.described) == 1


def test_who_may_not_use_the_model_gets_no_description(gallery: Gallery) -> None:
    image = picture()
    assert "(described)" in gallery.ask(image, user="ann").headers["x-messages-dropped"]
    assert gallery.ask(image, user="bob").headers["x-messages-dropped"] == "messages.0.content.1"
    assert gallery.said.endswith(UNSEEN)
    assert len(gallery.described) == 1


def test_a_request_of_a_batch_has_its_images_described(gallery: Gallery) -> None:
    image = picture()
    params: Any = {"model": "blind/m", "max_tokens": 9, "messages": [{"role": "user", "content": [image]}]}
    with Anthropic(base_url=gallery.stack.base_url, auth_token="ann", max_retries=0) as client:
        batch = client.messages.batches.create(requests=[{"custom_id": "a", "params": params}])
        eventually(lambda: client.messages.batches.retrieve(batch.id).processing_status == "ended")
        (result,) = client.messages.batches.results(batch.id)
    assert result.result.type == "succeeded"
    assert gallery.said == shown(f"A picture of {image['source']['data']}.")


def test_a_model_that_is_registered_as_one_that_sees_nothing_is_not_tried(gallery: Gallery) -> None:
    image = picture()
    answered = gallery.ask(image, model="native/plain")
    assert answered.headers["x-messages-dropped"] == "messages.0.content.1 (described)"
    assert answered.headers["x-messages-route"] == "translation"
    assert not any(image["source"]["data"].encode() in seen.body for seen in gallery.blind.requests_to(MESSAGES))
    assert gallery.ask(model="native/plain").headers["x-messages-route"] == "native"
    head = {"authorization": "Bearer ann", "anthropic-version": "2023-06-01"}
    told = httpx.get(f"{gallery.stack.base_url}/v1/models/native/plain", headers=head).json()
    assert told["capabilities"]["image_input"]["supported"] is False


def test_a_request_without_images_asks_nobody(gallery: Gallery) -> None:
    assert "x-messages-dropped" not in gallery.ask(messages=[HELLO]).headers
    assert gallery.seer.requests == []
