"""`llama-stack-messages doctor`, run as an operator runs it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import orjson
import pytest
import yaml

from tests.conftest import ROOT
from tests.support import personalities
from tests.support.replies import hang_reply, json_reply
from tests.support.stack import (
    Stack,
    embedded_provider,
    free_port,
    llama_cpp_provider,
    openai_provider,
    run_config,
    search_provider,
    vllm_provider,
)
from tests.support.upstream import Personality, ScriptedUpstream
from tests.support.wire import Json

pytestmark = pytest.mark.timeout(600)  # a stack is built in each process, on a machine that may be busy

COMMAND = Path(sys.executable).with_name("llama-stack-messages")
ANSWERED = "(an invalid request was answered with {})"
SPEAKS, DOES_NOT = f"the upstream speaks Messages {ANSWERED}", f"the upstream does not speak Messages {ANSWERED}"
DOES_NOT_SAY = f"the upstream does not say whether it speaks Messages {ANSWERED}"


@dataclass(frozen=True)
class Told:
    """What the command printed, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def models(self) -> dict[str, Json]:
        """The findings of `--json`, by model."""
        return {finding["model"]: finding for finding in orjson.loads(self.out)["models"]}

    @property
    def problems(self) -> list[str]:
        """What `--json` says is wrong with the stack as a whole."""
        return [problem["what"] for problem in orjson.loads(self.out)["problems"]]


def doctor(folder: Path, config: Json, *arguments: str) -> Told:
    """Run the command on a configuration."""
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump(config))
    command = [str(COMMAND), "doctor", "--config", str(file), *arguments]
    env = {**os.environ, "LLAMA_STACK_PORT": str(free_port())}
    run = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env, timeout=500, check=False)
    return Told(run.returncode, run.stdout, run.stderr)


UPSTREAMS: dict[str, Personality] = {
    "vllm": personalities.vllm(["m"]),
    "sglang": personalities.sglang(["m"]),
    "ollama": personalities.ollama(["m"]),
    "llamacpp": personalities.llama_cpp(["m"]),
    "anthropic": personalities.anthropic(["m"]),
    "openai": personalities.openai_style(["m"]),
    "fastapi": personalities.fastapi_404(["m"]),
    "odd": personalities.answers_200_to_anything(["m"]),
    "tired": personalities.openai_style(["m"]).with_routes(
        {"POST /v1/messages": json_reply({"error": {"message": "Loading model"}}, status=503)}
    ),
    "locked": personalities.openai_style(["m"]).with_routes(
        {"POST /v1/messages": json_reply({"error": {"message": "bad key"}}, status=401)}
    ),
    "stuck": personalities.openai_style(["m"]).with_routes({"POST /v1/messages": hang_reply()}),
    "untokenized": personalities.vllm(["m"]).with_routes(
        {"POST /tokenize": json_reply({}, status=404), "POST /v1/messages/count_tokens": json_reply({}, status=404)}
    ),
}


def providers(urls: dict[str, str]) -> list[Json]:
    """One provider for each upstream, a real llama.cpp, and some that cannot work."""
    nobody = f"http://127.0.0.1:{free_port()}"
    special = {
        "vllm": vllm_provider,
        "untokenized": vllm_provider,
        "llamacpp": llama_cpp_provider,
    }
    return [
        embedded_provider("real"),
        *(special.get(name, openai_provider)(url, name) for name, url in urls.items()),
        openai_provider(urls["locked"], "keyless", api_key=None),
        vllm_provider(urls["vllm"], "forced"),
        openai_provider(urls["openai"], "impossible"),
        openai_provider(nobody, "dead"),
    ]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    folder = tmp_path_factory.mktemp("doctor")
    with ExitStack() as opened:
        urls = {name: opened.enter_context(ScriptedUpstream(kind)).url for name, kind in UPSTREAMS.items()}
        routes = {"forced": "translation", "impossible": "native"}
        messages = {"routes": routes, "probe": {"timeout_seconds": 1.5}}
        yield doctor(folder, run_config(folder, inference=providers(urls), messages=messages), "--json")


EXPECTED: dict[str, tuple[str, str, str | None, str | None, str]] = {
    "real/smollm2": ("ok", "llama.cpp", "native", "native", SPEAKS.format(500)),
    "vllm/m": ("ok", "vllm", "native", "native", SPEAKS.format(400)),
    "sglang/m": ("ok", "sglang", "native", "native", SPEAKS.format(400)),
    "ollama/m": ("ok", "ollama", "native", "estimate", SPEAKS.format(400)),
    "llamacpp/m": ("ok", "llama.cpp", "native", "native", SPEAKS.format(500)),
    "anthropic/m": ("ok", "anthropic", "native", "native", SPEAKS.format(400)),
    "untokenized/m": ("ok", "vllm", "native", "estimate", SPEAKS.format(400)),
    "openai/m": ("ok", "unknown", "translation", "estimate", DOES_NOT.format(404)),
    "fastapi/m": ("ok", "unknown", "translation", "estimate", DOES_NOT.format(404)),
    "odd/m": ("ok", "unknown", "translation", "estimate", DOES_NOT.format(200)),
    "forced/m": ("ok", "vllm", "translation", "tokenizer", "configured"),
    "tired/m": ("failing", "unknown", None, None, DOES_NOT_SAY.format(503)),
    "locked/m": ("refused", "unknown", None, None, DOES_NOT_SAY.format(401)),
    "keyless/*": ("keyless", "unknown", "translation", "estimate", DOES_NOT_SAY.format(401)),
    "stuck/m": ("dead", "unknown", None, None, "The upstream did not begin to answer within 1.5 s"),
    "dead/*": (
        "dead",
        "unknown",
        None,
        None,
        "The upstream of provider 'dead' could not be reached: Connection refused",
    ),
    "impossible/m": (
        "misconfigured",
        "unknown",
        None,
        None,
        f"model: its provider is configured for the native route, but {DOES_NOT.format(404)}",
    ),
}


def test_every_model_and_every_silent_provider_is_told(told: Told) -> None:
    assert set(told.models) == set(EXPECTED)


@pytest.mark.parametrize("model", EXPECTED)
def test_a_model_is_told_as_it_is(told: Told, model: str) -> None:
    found = told.models[model]
    assert (found["state"], found["engine"], found["route"], found["count"], found["reason"]) == EXPECTED[model]


def test_gaps_are_told_where_requests_may_go_natively(told: Told) -> None:
    models = told.models
    assert models["vllm/m"]["gaps"] == {"prefill": "not continued"}
    assert "document" in models["vllm/m"]["rewritten"]
    assert models["ollama/m"]["gaps"]["forced_tool"] == "ignored"
    assert models["real/smollm2"]["gaps"]["forced_tool"] == "the tool's name is lost"
    assert models["real/smollm2"]["mended"]
    assert models["vllm/m"]["mended"] is None
    assert [models[name]["gaps"] for name in ("anthropic/m", "openai/m", "forced/m")] == [{}, {}, {}]


def test_who_searches_the_web_is_told(told: Told, tmp_path: Path) -> None:
    searching = {name for name, found in told.models.items() if found["web_search"] == "upstream"}
    assert searching == {"ollama/m", "anthropic/m"}
    with (
        ScriptedUpstream(personalities.ollama(["m"])) as ollama,
        ScriptedUpstream(personalities.anthropic(["m"])) as own,
    ):
        inference = [openai_provider(ollama.url, "ollama"), openai_provider(own.url, "anthropic")]
        inference.append(openai_provider(ollama.url, "native"))
        config = run_config(
            tmp_path,
            inference=inference,
            tool_runtime=[search_provider("tavily")],
            messages={"routes": {"native": "native"}},
        )
        found = doctor(tmp_path, config, "--json").models
        words = doctor(tmp_path, config).out
    assert {name: each["web_search"] for name, each in found.items()} == {
        "ollama/m": "stack",
        "anthropic/m": "upstream",
        "native/m": "stack",
    }
    assert "WEB SEARCH" in words.splitlines()[0]


def test_what_is_dead_makes_the_status(told: Told) -> None:
    assert told.status == 1
    assert told.err == ""


def test_a_healthy_stack_is_told_in_words(tmp_path: Path) -> None:
    with ScriptedUpstream(personalities.vllm(["m"])) as vllm, ScriptedUpstream() as openai:
        inference = [vllm_provider(vllm.url), openai_provider(openai.url)]
        config = run_config(tmp_path, inference=inference, messages={})
        healthy = doctor(tmp_path, config, "--verbose")
    assert (healthy.status, healthy.err) == (0, "")
    assert healthy.out == WORDS.format(openai=openai.url, vllm=vllm.url)


WORDS = """\
MODEL              STATE  ENGINE   ROUTE        WINDOW  COUNT
openai/test-model  ok     unknown  translation  -       estimate
vllm/m             ok     vllm     native       262144  native

server tools are run by
  web_search        nobody: named as dropped
  web_fetch         nobody: named as dropped
  tool_search_tool  this provider
  advisor           models of the stack
  mcp_toolset       nobody: named as dropped
  code_execution    nobody: named as dropped

openai/test-model
  upstream       {openai}/v1
  because        the upstream does not speak Messages (an invalid request was answered with 404)

vllm/m
  upstream       {vllm}/v1
  because        the upstream speaks Messages (an invalid request was answered with 400)
  rewritten for  client_tool, container_upload, document, search_result, server_tool, server_tool_history, \
unknown_block, web_search
  translated for prefill (not continued)

All is well: 2 models can be used.
"""


def test_the_repository_s_own_configuration_is_the_default(tmp_path: Path) -> None:
    command = [str(COMMAND), "doctor"]
    env = {"SQLITE_STORE_DIR": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    env["LLAMA_STACK_PORT"] = str(free_port())
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, timeout=500, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert "llama-cpp/smollm2  ok " in run.stdout
    assert "All is well: 1 model can be used." in run.stdout


@pytest.mark.parametrize("text", ["providers: [", "version: 2", "version: ${env.NOT_SET}"])
def test_a_configuration_that_is_none_is_told_in_a_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    run = subprocess.run([str(COMMAND), "doctor"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("doctor: run.yaml ")
    assert run.stderr.count("\n") == 1


def test_what_is_wrong_with_the_stack_is_told_beside_its_models(tmp_path: Path) -> None:
    """Two models of one name, a search without a key, an alias to nothing, a provider that is gone since."""
    with ScriptedUpstream(personalities.vllm(["m"])) as one, ScriptedUpstream(personalities.vllm(["m"])) as other:
        inference = [vllm_provider(one.url), vllm_provider(other.url, "other"), vllm_provider(other.url, "gone")]
        search = [search_provider("tavily", api_key="")]
        aliases = {
            "model_aliases": {"claude-*": "no-such", "good": "vllm/m"},
            "fallbacks": {"vllm/*": ["other/m", "nobody"]},
            "compaction": {"model": "good"},
        }
        config = run_config(tmp_path, inference=inference, tool_runtime=search, messages=aliases)
        doctor(tmp_path, config)
        del config["providers"]["inference"][2]
        live = doctor(tmp_path, config, "--json", "--live")
    assert live.status == 1
    assert live.problems == [
        "m stands for several models: other/m, vllm/m",
        "The alias claude-* stands for no-such, which cannot be used: there is no model no-such",
        "fallbacks of vllm/* names nobody, which cannot be used: there is no model nobody",
        "gone/m is registered, but the stack has no provider 'gone' any more",
        "The stack's web search, provider 'tavily', has no key: searches fail unless requests bring one",
    ]
    assert {found["web_search"] for found in live.models.values()} == {None}
    assert all(found["first_token_seconds"] > 0 for found in live.models.values())


def test_replicas_are_shown_and_what_is_unequal_in_them(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(personalities.vllm(["m"])) as one,
        ScriptedUpstream(personalities.vllm(["m"])) as two,
        ScriptedUpstream(personalities.llama_cpp(["m"])) as other,
    ):
        inference = [vllm_provider(one.url, "one"), vllm_provider(two.url, "two"), openai_provider(other.url, "other")]
        aliases = {"equal": ["one/m", "two/m"], "mixed": ["one/m", "other/m", "no-such"], "single": "two/m"}
        config = run_config(tmp_path, inference=inference, messages={"model_aliases": aliases})
        told = doctor(tmp_path, config, "--json")
        shown = doctor(tmp_path, config).out
    assert orjson.loads(told.out)["replicas"] == {"equal": ["one/m", "two/m"], "mixed": ["one/m", "other/m"]}
    assert "equal replicas, each conversation at its own\n  equal: one/m, two/m\n  mixed: one/m, other/m\n" in shown
    assert told.status == 1
    assert "The alias mixed stands for no-such, which cannot be used: there is no model no-such" in told.problems
    assert "The replicas of mixed have different engines: llama.cpp, vllm" in told.problems
    assert not [problem for problem in told.problems if "equal " in problem]


def test_a_stack_without_models_is_ill(tmp_path: Path) -> None:
    told = doctor(tmp_path, run_config(tmp_path, inference=[], messages={}))
    assert told.status == 1
    assert "error: There are no models: no provider of the inference API lists one\n  Switch one on" in told.out


def test_a_running_server_is_told_and_tried(embedded_stack: Stack) -> None:
    command = [str(COMMAND), "doctor", "--url", f"{embedded_stack.base_url}/v1", "--live"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    head, model, *_ = run.stdout.splitlines()
    assert head.split() == ["MODEL", "STATE", "ENGINE", "ROUTE", "WINDOW", "COUNT", "FIRST", "TOKEN"]
    assert model.split()[:6] == ["llama-cpp/smollm2", "ok", "llama.cpp", "native", "8192", "native"]


def test_what_the_server_may_not_tell_over_a_proxy_its_list_of_models_does(embedded_stack: Stack) -> None:
    with httpx.Client(base_url=embedded_stack.base_url, headers={"x-forwarded-for": "10.0.0.1"}) as proxy:
        statuses = [proxy.get(f"/v1/messages/{name}").status_code for name in ("diagnosis", "adaptations")]
    assert statuses == [404, 404]


def test_nobody_there_is_told_in_a_line() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    run = subprocess.run([str(COMMAND), "doctor", "--url", url], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == f"doctor: {url} cannot be reached: Connection refused\n"


@pytest.mark.parametrize("folder", [None, "/no/such/folder"])
def test_a_server_that_does_not_know_the_api_says_what_helps_in_its_last_line(
    tmp_path: Path, folder: str | None
) -> None:
    config = run_config(tmp_path, inference=[], messages={}) | {"external_apis_dir": folder}
    stack = Stack(config, tmp_path)

    with pytest.raises(AssertionError):
        stack.start()

    last = stack.log().strip().splitlines()[-1]
    state = "is not set" if folder is None else f"is {folder}, where the Messages API is not declared"
    assert f"MessagesNotDeclaredError: `external_apis_dir` {state}. Set it to {ROOT}/llama_stack_messages_pro" in last
    assert "`llama-stack-messages enable" in last
