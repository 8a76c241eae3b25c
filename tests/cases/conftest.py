"""One stack for all cases."""

from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.cases.bench import CHAT, HELLO, Bench, speaks_messages
from tests.cases.windows import with_windows
from tests.support import personalities
from tests.support.dialects import COUNT, MESSAGES, answer_count
from tests.support.stack import Stack, openai_provider, run_config, vllm_provider
from tests.support.upstream import ScriptedUpstream, chat_reply

MODES = {"": None, "-translated": "translation"}
CHAINS = {"*/test-configured-*": ["chat/nobody-may", "messages/spare", "vllm-translated/spare"]}


@pytest.fixture(scope="session")
def _cases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, dict[str, ScriptedUpstream]]]:
    speaks = {MESSAGES: speaks_messages(), COUNT: answer_count}
    engines = {
        "chat": personalities.fastapi_404(["m"]),
        "messages": personalities.fastapi_404(["m"]).with_routes(speaks),
        "vllm": personalities.vllm(["m"]),
        "llamacpp": personalities.llama_cpp(["m"]),
        "windows": with_windows(),
    }
    folder = tmp_path_factory.mktemp("cases")
    with ExitStack() as opened:
        upstreams = {name: opened.enter_context(ScriptedUpstream(engine)) for name, engine in engines.items()}
        providers, routes = [], {}
        for name, upstream in upstreams.items():
            make = vllm_provider if name in ("vllm", "windows") else openai_provider
            providers += [make(upstream.url, name + suffix) for suffix in MODES]
            routes[f"{name}-translated"] = "translation"
        messages = {"routes": routes, "probe": {"yes_seconds": 86_400}, "fallbacks": CHAINS}
        config = run_config(folder, inference=providers, messages=messages)
        stack = opened.enter_context(Stack(config, folder))
        http = opened.enter_context(httpx.Client(base_url=stack.base_url, timeout=60))
        for name in upstreams:  # asked once: a probe in the middle of a test would meet its script
            http.post("/v1/messages", json={"model": f"{name}/m", "max_tokens": 9, "messages": [HELLO]})
        yield http, upstreams


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def bench(request: pytest.FixtureRequest, _cases: tuple[httpx.Client, dict[str, ScriptedUpstream]]) -> Iterator[Bench]:
    http, upstreams = _cases
    for name, upstream in upstreams.items():
        upstream.forget()
        if name != "windows":
            upstream.reply(CHAT, chat_reply("fine"))  # whatever the model's name
    yield Bench(http, upstreams, _model(request.node.name), request.param)
    for upstream in upstreams.values():
        upstream.forget()


def _model(name: str) -> str:
    """A model's name made of a test's."""
    return "".join(letter if letter.isalnum() else "-" for letter in name)
