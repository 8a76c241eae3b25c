"""The status page of the real server: who sees it, and that its numbers are those of the metrics."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest

from tests.conftest import ROOT
from tests.support import personalities
from tests.support.otlp import Collector
from tests.support.stack import Stack, custom_auth, openai_provider, run_config, vllm_provider
from tests.support.upstream import ScriptedUpstream, chat_reply, completion_usage, json_reply
from tests.support.waiting import eventually
from tests.support.wire import Json

PAGE, NUMBERS = "/v1/messages/status", "/v1/messages/status.json"
SECRET = "the otters are plotting"
KEY = "sk-very-secret"
USERS = {
    "admin-key": ("ada", {"roles": ["user", "admin"]}),
    "user-key": ("ulf", {"roles": ["user"]}),
    "bare-key": ("eve", {}),
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """With authentication."""
    with ExitStack() as opened:
        auth = opened.enter_context(ScriptedUpstream(personalities.identities(USERS)))
        upstream = opened.enter_context(ScriptedUpstream(personalities.openai_style(models=["guarded-model"])))
        folder = tmp_path_factory.mktemp("guarded")
        inference = [openai_provider(upstream.url, api_key=KEY)]
        config = run_config(folder, inference=inference, messages={}, auth=custom_auth(auth.url))
        yield opened.enter_context(Stack(config, folder))


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def openai() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(personalities.openai_style(models=["chat-model"])) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def open_stack(
    tmp_path_factory: pytest.TempPathFactory, collector: Collector, openai: ScriptedUpstream
) -> Iterator[Stack]:
    """Without authentication."""
    folder = tmp_path_factory.mktemp("open")
    with ScriptedUpstream(personalities.vllm(models=["native-model", "<script>alert(1)</script>"])) as vllm:
        inference = [vllm_provider(vllm.url), openai_provider(openai.url, api_key=KEY)]
        config = run_config(folder, inference=inference, messages={})
        with Stack(config, folder, env=collector.env) as stack:
            yield stack


def get(stack: Stack, path: str, **options: Any) -> httpx.Response:
    return httpx.get(stack.base_url + path, timeout=30, **options)


# --- who sees it ---


@pytest.mark.parametrize(
    ("headers", "status", "error"),
    [
        ({}, 401, "authentication_error"),
        ({"x-api-key": "unknown"}, 401, "authentication_error"),
        ({"x-api-key": "user-key"}, 403, "permission_error"),
        ({"authorization": "Bearer bare-key"}, 403, "permission_error"),
    ],
)
def test_who_is_no_administrator_gets_no_numbers(
    guarded: Stack, headers: dict[str, str], status: int, error: str
) -> None:
    answer = get(guarded, NUMBERS, headers=headers)
    assert answer.status_code == status
    assert answer.json()["error"]["type"] == error
    assert answer.json()["request_id"].startswith("req_")
    assert "guarded-model" not in answer.text


@pytest.mark.parametrize("headers", [{"x-api-key": "admin-key"}, {"authorization": "Bearer admin-key"}])
def test_an_administrator_gets_the_numbers_and_no_credentials(guarded: Stack, headers: dict[str, str]) -> None:
    answer = get(guarded, NUMBERS, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    [model] = answer.json()["models"]
    assert model["model"] == "openai/guarded-model"
    assert KEY not in answer.text
    assert "admin-key" not in answer.text


@pytest.mark.parametrize("path", [PAGE, f"{PAGE}/", "/messages/status", "/v1/v1/messages/status"])
def test_the_page_is_there_without_a_key_and_holds_nothing(guarded: Stack, path: str) -> None:
    answer = get(guarded, path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["cache-control"] == "no-store"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "guarded-model" not in answer.text


def test_a_key_for_a_machine_of_the_same_address_is_still_needed(guarded: Stack) -> None:
    assert get(guarded, NUMBERS, headers={"x-forwarded-for": "127.0.0.1"}).status_code == 401


def test_without_authentication_only_this_machine_sees_it(open_stack: Stack) -> None:
    assert get(open_stack, PAGE).status_code == get(open_stack, NUMBERS).status_code == 200
    # Another address of the loopback interface stands for another machine.
    with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.2")) as other:
        for path in (PAGE, NUMBERS):
            answer = other.get(open_stack.base_url + path)
            assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")


@pytest.mark.parametrize(
    "headers",
    [
        {"x-forwarded-for": "127.0.0.1"},
        {"forwarded": "for=127.0.0.1"},
        {"x-real-ip": "127.0.0.1"},
        {"x-forwarded-proto": "https"},
        {"cf-connecting-ip": "127.0.0.1"},
        {"host": "attacker.example"},
        {"host": "localhost.attacker.example"},
        {"host": "[::1"},
    ],
)
def test_what_a_proxy_or_a_foreign_page_asks_is_not_answered(open_stack: Stack, headers: dict[str, str]) -> None:
    assert get(open_stack, NUMBERS, headers=headers).status_code == 404
    assert get(open_stack, PAGE, headers=headers).status_code == 404


def test_a_proxy_that_adds_no_header_is_known_by_its_version_of_http(open_stack: Stack) -> None:
    at = httpx.URL(open_stack.base_url)
    with socket.create_connection((at.host, at.port), timeout=30) as proxy:
        proxy.sendall(f"GET {NUMBERS} HTTP/1.0\r\nHost: 127.0.0.1:{at.port}\r\nConnection: close\r\n\r\n".encode())
        assert proxy.makefile("rb").readline().split()[1] == b"404"


def test_it_can_be_off(scripted_stack: Any, tmp_path: Path) -> None:
    with ScriptedUpstream() as upstream:
        stack = scripted_stack(inference=[openai_provider(upstream.url)], messages={"status": {"enabled": False}})
        assert get(stack, PAGE).status_code == get(stack, NUMBERS).status_code == 404
        assert len(httpx.post(f"{stack.base_url}/v1/messages", json={}, timeout=10).json()["request_id"]) > 4


def test_it_is_in_no_schema(open_stack: Stack) -> None:
    assert not [path for path in get(open_stack, "/openapi.json").json()["paths"] if "status" in path]


# --- its numbers ---


def test_the_numbers_are_those_of_the_metrics(
    open_stack: Stack, collector: Collector, openai: ScriptedUpstream
) -> None:
    openai.reply("/v1/chat/completions", chat_reply("Hello", usage=completion_usage(40, 9, cached_tokens=16)))
    asked: Any = {"max_tokens": 100, "messages": [{"role": "user", "content": SECRET}]}
    models = ("openai/chat-model", "vllm/native-model")
    with anthropic.Anthropic(base_url=open_stack.base_url, api_key="any", max_retries=0) as client:
        for model in models * 3:
            client.messages.create(model=model, extra_body={"container": "c"}, **asked)
            with client.messages.stream(model=model, **asked) as stream:
                stream.get_final_message()
        openai.queue("/v1/chat/completions", json_reply({"error": {"message": SECRET}}, status=500))
        with pytest.raises(anthropic.InternalServerError) as failed:
            client.messages.create(model="openai/chat-model", **asked)
        with pytest.raises(anthropic.NotFoundError):
            client.messages.create(model="no-such-model", **asked)

    tally = get(open_stack, NUMBERS).json()["tally"]

    def total(name: str) -> int:
        return sum(minute[name] for minute in tally["minutes"])

    assert (total("requests"), total("failures"), total("first_tokens")) == (14, 2, 6)
    tokens, kind = "gen_ai.client.token.usage", "gen_ai__token__type"
    eventually(lambda: _told(collector, "gen_ai.server.request.duration") == 14)
    assert total("input_tokens") == collector.total(tokens, **{kind: "input"}) > 0
    assert total("output_tokens") == collector.total(tokens, **{kind: "output"}) > 0
    assert total("cached_tokens") == collector.total("llama_stack.messages.cached_tokens_total", kind="read") == 6 * 16
    assert _told(collector, "gen_ai.server.time_to_first_token") == total("first_tokens")
    unknown, upstream = tally["failures"]
    assert (unknown["model"], unknown["status"]) == ("no-such-model", 404)
    assert upstream["request_id"] == failed.value.response.headers["request-id"]
    assert (upstream["status"], upstream["model"]) == (failed.value.status_code, "openai/chat-model")
    dropped = collector.total("llama_stack.messages.dropped_total", part="container")
    assert tally["dropped"] == {"container": dropped}
    assert dropped > 0
    assert SECRET not in str(tally)


def _told(collector: Collector, name: str) -> int:
    """How often a histogram was recorded."""
    return sum(point.count for point in collector.metrics().get(name, ()))


def test_each_process_tells_its_own_numbers_and_how_many_there_are(tmp_path: Path) -> None:
    patient: Any = {"module": "tests.support.patient_host", "env": {"PYTHONPATH": str(ROOT)}}
    with ExitStack() as opened:
        upstream = opened.enter_context(ScriptedUpstream(personalities.openai_style(models=["m"])))
        config = run_config(tmp_path, inference=[openai_provider(upstream.url)], messages={}, workers=2)
        stack = opened.enter_context(Stack(config, tmp_path, **patient))
        asked = {"model": "openai/m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
        for _ in range(12):
            assert httpx.post(f"{stack.base_url}/v1/messages", json=asked, timeout=30).status_code == 200
        found: dict[str, Json] = {}

        def look() -> bool:
            report = get(stack, NUMBERS).json()
            found[report["process"]["id"]] = report
            return len(found) == report["process"]["workers"] == 2

        eventually(look, what="an answer of every process")
        minutes = [minute for report in found.values() for minute in report["tally"]["minutes"]]
        assert sum(minute["requests"] for minute in minutes) == 12
        assert len({report["process"]["pid"] for report in found.values()}) == 2
