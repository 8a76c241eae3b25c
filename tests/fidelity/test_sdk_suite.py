"""The official SDK's own tests of messages, counts and batches, from its source archive, against our server."""

import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.fidelity.sdk_archive import run_sdk_tests, sdk_archive
from tests.support.personalities import anthropic as anthropic_itself
from tests.support.personalities import openai_style
from tests.support.stack import Stack, openai_provider
from tests.support.upstream import Personality, RecordedRequest, Reply, ScriptedUpstream, raw_reply

MESSAGES = ("test_messages.py", "beta/test_messages.py")
BATCHES = ("messages/test_batches.py", "beta/messages/test_batches.py")
ANY_MODEL = {"model_aliases": {"*": "openai/test-model"}}
UPSTREAMS = {"translation": openai_style, "native": anthropic_itself}
"""Personalities that send every request of the suite one way."""

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("route", UPSTREAMS)
def test_the_sdk_s_own_tests_of_messages_and_counts_pass(
    route: str, scripted_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    """Strict response validation, raw and streamed responses, sync, async and aiohttp clients are among them."""
    sdk_archive()
    with ScriptedUpstream(UPSTREAMS[route]()) as upstream:
        stack = scripted_stack(inference=[openai_provider(upstream.url)], messages=ANY_MODEL)
        assert run_sdk_tests(stack.base_url, tmp_path, *MESSAGES) == {}
        translated = upstream.requests_to("/v1/chat/completions")
    assert bool(translated) == (route == "translation")


def test_the_sdk_s_own_tests_of_batches_pass(scripted_stack: Callable[..., Stack], tmp_path: Path) -> None:
    """They name a batch `message_batch_id`, which only a mock server has: a front puts a real one's id there."""
    sdk_archive()
    with ScriptedUpstream() as upstream:
        stack = scripted_stack(inference=[openai_provider(upstream.url)], messages=ANY_MODEL)
        with (
            httpx.Client(base_url=stack.base_url, headers={"content-type": "application/json"}) as server,
            ScriptedUpstream(Personality("front", not_found=Front(server))) as front,
        ):
            assert run_sdk_tests(front.url, tmp_path, *BATCHES) == {}


class Front:
    """Relays requests to a server with the name of the tests' batch exchanged."""

    NAME = "message_batch_id"

    def __init__(self, server: httpx.Client) -> None:
        self._server = server
        self._ended = ""

    def __call__(self, request: RecordedRequest) -> Reply:
        target = request.target
        if self.NAME in target:
            # Deleting needs one of its own, and a deleted one is of no further use.
            batch_id = self._batch() if request.method == "DELETE" or not self._ended else self._ended
            self._ended = "" if request.method == "DELETE" else batch_id
            target = target.replace(self.NAME, batch_id)
        answer = self._server.request(request.method, target, content=request.body)
        return raw_reply(answer.content, content_type=answer.headers["content-type"], status=answer.status_code)

    def _batch(self) -> str:
        """The id of a new batch that has ended."""
        params = {"model": "any", "max_tokens": 1, "messages": [{"role": "user", "content": "Hello"}]}
        requests = [{"custom_id": "my-custom-id-1", "params": params}]
        batch = self._server.post("/v1/messages/batches", json={"requests": requests}).json()
        while batch["processing_status"] != "ended":
            time.sleep(0.01)
            batch = self._server.get(f"/v1/messages/batches/{batch['id']}").json()
        return str(batch["id"])
