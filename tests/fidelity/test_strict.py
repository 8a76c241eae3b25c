"""Strict mode: what a translation would drop is refused by its name. The native route drops and refuses nothing."""

from collections.abc import Callable, Iterator, Mapping

import httpx
import pytest

from llama_stack_messages_provider.support import Kind
from llama_stack_messages_provider.support_rows import SUPPORT
from tests.conftest import Fleet
from tests.fidelity.cases import CALL, HELLO, LOOK, Json
from tests.support.personalities import anthropic
from tests.support.stack import Stack, openai_provider
from tests.support.upstream import ScriptedUpstream
from tests.test_api_support import BLOCK_FIELDS, BLOCKS, PARAMETERS, SETTINGS, TOOL_FIELDS, TOOLS
from tests.test_api_support import HELLO as MINIMAL

STRICT = {"x-messages-strict": "true"}
EXAMPLES: Mapping[Kind, Mapping[str, Json]] = {
    "parameter": {name: {**MINIMAL, name: value} for name, value in PARAMETERS.items()},
    "setting": {name: {**MINIMAL, **more} for name, more in SETTINGS.items()},
    "block": BLOCKS,
    "block field": BLOCK_FIELDS,
    "tool field": {n: {**MINIMAL, "tools": [tool, {**LOOK, "name": "see"}]} for n, tool in TOOL_FIELDS.items()},
    "tool": {name: {**MINIMAL, "tools": [tool, {**LOOK, "name": "see"}]} for name, tool in TOOLS.items()},
}
DROPPED = {
    f"{kind}: {name}": EXAMPLES[kind][name]
    for kind, rows in SUPPORT.items()
    for name, policy in rows.items()
    if policy.translated == "dropped" and policy.named
}
REPAIRED: Mapping[str, list[Json]] = {
    "messages.2.content": [HELLO, {"role": "assistant", "content": [CALL]}],
    "messages.0.content.0.tool_use_id": [
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_9", "content": "x"}]}
    ],
}


@pytest.fixture
def client(fleet: Fleet) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=fleet.base_url) as client:
        yield client


def post(client: httpx.Client, model: str, request: Json, **headers: str) -> httpx.Response:
    return client.post("/v1/messages", json={**request, "model": model}, headers=headers)


def refusal(response: httpx.Response) -> str:
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    return str(error["message"])


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("row", DROPPED)
def test_what_is_dropped_is_named_and_refused_where_that_is_wanted(
    row: str, stream: bool, client: httpx.Client, fleet: Fleet
) -> None:
    request = {**DROPPED[row], "stream": stream}
    answered = post(client, "vllm-translated/vllm-model", request)
    assert answered.status_code == 200, answered.text
    dropped = answered.headers["x-messages-dropped"].split(", ")
    assert dropped
    fleet.forget()
    message = refusal(post(client, "vllm-translated/vllm-model", request, **STRICT))
    assert message.startswith(f"{dropped[0]}: cannot be honoured")
    assert fleet.upstreams["vllm"].requests_to("/v1/chat/completions") == []


@pytest.mark.parametrize("row", DROPPED)
def test_the_native_route_drops_nothing_and_refuses_nothing(row: str, client: httpx.Client) -> None:
    answered = post(client, "anthropic/anthropic-model", DROPPED[row], **STRICT)
    assert answered.status_code == 200, answered.text
    assert answered.headers["x-messages-route"] == "native"
    assert "x-messages-dropped" not in answered.headers


@pytest.mark.parametrize("path", REPAIRED)
def test_what_would_be_mended_is_refused_too(path: str, client: httpx.Client) -> None:
    request: Json = {"max_tokens": 9, "messages": REPAIRED[path]}
    if path == "messages.2.content":  # a call that the next turn does not answer
        request["messages"] = [*request["messages"], HELLO]
    assert post(client, "vllm-translated/vllm-model", request).status_code == 200
    refusal(post(client, "vllm-translated/vllm-model", request, **STRICT))


@pytest.mark.parametrize("value", ["false", "0", ""])
def test_the_header_switches_nothing_on_unless_it_says_so(value: str, client: httpx.Client) -> None:
    answered = post(client, "vllm-translated/vllm-model", DROPPED["parameter: speed"], **{"x-messages-strict": value})
    assert answered.status_code == 200


DOCUMENT: Json = {
    "type": "document",
    "source": {"type": "text", "media_type": "text/plain", "data": "Otters."},
    "citations": {"enabled": True},
}
LOSSY: Json = {"messages": [{"role": "user", "content": [DOCUMENT]}]}


def count(client: httpx.Client, model: str, **headers: str) -> httpx.Response:
    return client.post("/v1/messages/count_tokens", json={**LOSSY, "model": model}, headers=headers)


def test_a_count_is_named_and_refused_as_its_message_would_be(client: httpx.Client) -> None:
    model = "vllm-translated/vllm-model"
    named = count(client, model)
    assert named.headers["x-messages-dropped"] == "messages.0.content.0.citations"
    assert (
        post(client, model, {**MINIMAL, **LOSSY}).headers["x-messages-dropped"] == named.headers["x-messages-dropped"]
    )
    assert "strict mode is on" in refusal(count(client, model, **STRICT))


def test_a_count_for_a_message_that_goes_natively_loses_nothing(client: httpx.Client) -> None:
    text = {"messages": [HELLO], "thinking": {"type": "adaptive", "display": "omitted"}, "model": "ollama/ollama-model"}
    counted = client.post("/v1/messages/count_tokens", json=text, headers=STRICT)
    assert counted.status_code == 200
    assert counted.headers["x-messages-route"] == "native"
    assert counted.headers["x-messages-count-source"] != "native"
    assert "x-messages-dropped" not in counted.headers


def test_a_server_can_be_strict_with_everybody(scripted_stack: Callable[..., Stack]) -> None:
    with ScriptedUpstream() as plain, ScriptedUpstream(anthropic()) as native:
        stack = scripted_stack(
            inference=[openai_provider(plain.url, "plain"), openai_provider(native.url, "native")],
            messages={"strict": True},
        )
        with httpx.Client(base_url=stack.base_url) as client:
            for request in DROPPED.values():
                assert "strict mode is on" in refusal(post(client, "plain/test-model", request))
                assert post(client, "native/test-model", request).status_code == 200
            assert post(client, "plain/test-model", MINIMAL).status_code == 200
            assert post(client, "plain/test-model", MINIMAL, **{"x-messages-strict": "false"}).status_code == 200
