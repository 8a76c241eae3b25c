"""How our own requests reach an upstream: pooled, and with the network settings of its provider."""

from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.support.personalities import vllm
from tests.support.stack import Stack, run_config, vllm_provider
from tests.support.tls import TlsFront, self_signed
from tests.support.upstream import ScriptedUpstream, hang_reply
from tests.support.wire import Json

ROUTES = {"native": "", "translation": "-translated"}
PATHS = {"native": "/v1/messages", "translation": "/v1/chat/completions"}


@dataclass(frozen=True)
class Network:
    """One server whose providers have different network settings, all before one upstream."""

    stack: Stack
    upstream: ScriptedUpstream
    proxy: ScriptedUpstream


def post(stack: Stack, model: str, **more: Any) -> httpx.Response:
    body = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], **more}
    return httpx.post(f"{stack.base_url}/v1/messages", json=body, timeout=60)


@pytest.fixture(scope="module")
def _network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    folder = tmp_path_factory.mktemp("network")
    certificate, key = self_signed(folder)
    with ExitStack() as opened:
        upstream = opened.enter_context(ScriptedUpstream(vllm()))
        proxy = opened.enter_context(ScriptedUpstream(vllm()))
        tls = opened.enter_context(TlsFront(upstream.port, certificate, key))
        settings: dict[str, tuple[str, Json | None]] = {
            "headers": (upstream.url, {"headers": {"x-team": "blue"}}),
            "unverified": (tls, {"tls": {"verify": False}}),
            "own-ca": (tls, {"tls": {"verify": str(certificate), "min_version": "TLSv1.2"}}),
            "strict": (tls, None),
            "proxied": ("http://somewhere.invalid", {"proxy": {"url": proxy.url}}),
            "not-proxied": (upstream.url, {"proxy": {"url": "http://127.0.0.1:9", "no_proxy": ["127.0.0.1"]}}),
            "environment": ("http://elsewhere.invalid", None),
            "named": (upstream.url.replace("://", "://me:p%40ss@"), None),
            "hurried": (upstream.url, {"timeout": {"connect": 5, "read": 0.3}}),
        }
        providers, modes = [], {}
        for name, (url, network) in settings.items():
            for suffix in ROUTES.values():
                extra = {"network": network} if network else {}
                providers.append(vllm_provider(url, name + suffix, **extra))
            modes[f"{name}-translated"] = "translation"
        config = run_config(folder, inference=providers, messages={"routes": modes})
        stack = opened.enter_context(Stack(config, folder, env={"HTTP_PROXY": proxy.url, "NO_PROXY": "127.0.0.1"}))
        yield Network(stack, upstream, proxy)


@pytest.fixture
def network(_network: Network) -> Network:
    _network.upstream.forget()
    _network.proxy.forget()
    return _network


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", ["headers", "unverified", "own-ca", "not-proxied"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_network_settings_hold_on_both_routes(network: Network, name: str, route: str, stream: bool) -> None:
    answer = post(network.stack, f"{name}{ROUTES[route]}/test-model", stream=stream)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-messages-route"] == route
    seen = network.upstream.requests_to(PATHS[route])[-1]
    assert seen.headers["authorization"] == "Bearer fake"
    assert seen.headers.get("x-team") == ("blue" if name == "headers" else None)
    assert not network.proxy.requests


@pytest.mark.parametrize("route", ROUTES)
def test_a_name_and_a_password_in_the_base_url_are_used_in_place_of_a_key(network: Network, route: str) -> None:
    answer = post(network.stack, f"named{ROUTES[route]}/test-model")
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-messages-route"] == route
    seen = network.upstream.requests_to(PATHS[route])[-1]
    assert seen.headers["authorization"] == f"Basic {b64encode(b'me:p@ss').decode()}"


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(("name", "host"), [("proxied", "somewhere.invalid"), ("environment", "elsewhere.invalid")])
def test_a_proxy_is_used_on_both_routes(network: Network, name: str, host: str, route: str) -> None:
    """The provider's own, or the environment's."""
    answer = post(network.stack, f"{name}{ROUTES[route]}/test-model")
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-messages-route"] == route
    seen = network.proxy.requests_to(PATHS[route])[-1]
    assert seen.headers["host"] == host
    assert not network.upstream.requests


@pytest.mark.parametrize("suffix", ROUTES.values())
def test_a_certificate_that_nobody_vouches_for_is_refused(network: Network, suffix: str) -> None:
    answer = post(network.stack, f"strict{suffix}/test-model")
    assert answer.status_code == 502
    assert "could not be reached" in answer.json()["error"]["message"]
    assert not network.upstream.requests


@pytest.mark.parametrize("route", ROUTES)
def test_the_provider_s_time_limit_holds_on_both_routes(network: Network, route: str) -> None:
    assert post(network.stack, f"hurried{ROUTES[route]}/test-model").status_code == 200
    network.upstream.queue(PATHS[route], hang_reply())
    answer = post(network.stack, f"hurried{ROUTES[route]}/test-model")
    assert answer.status_code == 504
    assert answer.json()["error"]["type"] == "timeout_error"
    assert "0.3 s" in answer.json()["error"]["message"]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", ["headers", "own-ca"])
def test_connections_are_pooled(network: Network, name: str, route: str) -> None:
    """Whole answers and streams give theirs back; the probe has opened three at once."""
    for stream in [False, True, True, False] * 5:
        assert post(network.stack, f"{name}{ROUTES[route]}/test-model", stream=stream).status_code == 200
    used = {seen.peer for seen in network.upstream.requests_to(PATHS[route])}
    assert len(used) <= 3
