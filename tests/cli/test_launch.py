"""`llama-stack-messages launch`: what a client is told, whether models are listed in Anthropic's shape or not."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llama_stack_messages_provider.cli import main
from llama_stack_messages_provider.cli.clients import CLIENTS, Target
from tests.support.replies import json_reply
from tests.support.stack import Stack
from tests.support.upstream import Personality, ScriptedUpstream

COMMAND = str(Path(sys.executable).with_name("llama-stack-messages"))
REFUSED = json_reply(
    {"type": "error", "error": {"type": "invalid_request_error", "message": "model: Field required"}},
    status=400,
    headers={"request-id": "req_1"},
)
MISSING = json_reply(
    {"type": "error", "error": {"type": "not_found_error", "message": "model: there is no model x"}}, status=404
)


def server(models: list[dict[str, Any]], **routes: Any) -> Personality:
    """A server of ours, as far as `launch` looks."""
    answers = {"GET /v1/models": json_reply({"data": models}), "POST /v1/messages": REFUSED}
    answers["POST /v1/messages/count_tokens"] = MISSING
    return Personality("stack", answers | routes)


ANTHROPIC = [
    {"id": "vllm/big", "max_input_tokens": 200000, "max_tokens": 64000},
    {"id": "claude/vllm/big", "max_input_tokens": 200000, "max_tokens": 64000},
    {"id": "an-alias", "max_input_tokens": 200000, "max_tokens": 64000},
]
HOST = [
    {"id": "vllm/small", "custom_metadata": {"model_type": "llm"}},
    {"id": "vllm/embed", "custom_metadata": {"model_type": "embedding"}},
]


@pytest.fixture
def listing() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(server(ANTHROPIC)) as upstream:
        yield upstream


@pytest.fixture(autouse=True)
def no_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, str | None]:
    """The variables that `--print` prints."""
    assert main(["launch", *arguments, "--print"]) == 0
    lines = [line.split(" ", 1) for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    pairs = [words[1].partition("=") for words in lines]
    return {name: value.strip("'") if equals else None for name, equals, value in pairs}


def test_claude_code_gets_the_only_model_by_the_name_that_it_shows(
    listing: ScriptedUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    variables = printed(capsys, "claude", "--url", f"{listing.url}/v1", "--token", "t")

    assert variables == {
        "ANTHROPIC_BASE_URL": listing.url,
        "ANTHROPIC_AUTH_TOKEN": "t",
        "ANTHROPIC_API_KEY": None,
        **{
            f"ANTHROPIC_{name}MODEL": "claude/vllm/big"
            for name in ("", "DEFAULT_FABLE_", "DEFAULT_OPUS_", "DEFAULT_SONNET_", "DEFAULT_HAIKU_", "SMALL_FAST_")
        },
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": "200000",
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "32000",
        "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1",
    }


def test_others_get_the_model_by_its_own_name(listing: ScriptedUpstream, capsys: pytest.CaptureFixture[str]) -> None:
    qwen = printed(capsys, "qwen", "--url", listing.url)
    opencode = printed(capsys, "opencode", "--url", listing.url)
    pi = printed(capsys, "pi", "--url", listing.url)
    sdk = printed(capsys, "sdk", "--url", listing.url)

    assert qwen["ANTHROPIC_MODEL"] == pi["LLAMA_STACK_MODEL"] == sdk["ANTHROPIC_MODEL"] == "vllm/big"
    content = json.loads(opencode["OPENCODE_CONFIG_CONTENT"] or "")
    assert content["model"] == "llama-stack/vllm/big"
    provider = content["provider"]["llama-stack"]
    assert provider["options"] == {"baseURL": f"{listing.url}/v1", "apiKey": "none"}
    assert provider["models"]["vllm/big"]["limit"] == {"context": 200000, "output": 32000}


def test_the_hosts_own_list_will_do_and_a_window_can_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedUpstream(server(HOST)) as upstream:
        unknown = printed(capsys, "claude", "--url", upstream.url)
        known = printed(capsys, "claude", "--url", upstream.url, "--window", "32768")

    assert unknown["ANTHROPIC_MODEL"] == "vllm/small"
    assert "CLAUDE_CODE_MAX_CONTEXT_TOKENS" not in unknown
    assert known["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "32768"
    assert known["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "8192"


def test_an_alias_that_no_list_has_is_tried(capsys: pytest.CaptureFixture[str]) -> None:
    counted = {"POST /v1/messages/count_tokens": json_reply({"input_tokens": 1})}
    with ScriptedUpstream(server(HOST, **counted)) as upstream:
        variables = printed(capsys, "claude", "--url", upstream.url, "--model", "claude-any")

    assert variables["ANTHROPIC_MODEL"] == "claude-any"


MANY = [{"id": f"vllm/m{number}"} for number in range(3)]
FAULTS: dict[str, tuple[Personality, list[str], str]] = {
    "several models": (server(MANY), ["claude"], "choose a model with --model: vllm/m0, vllm/m1, vllm/m2"),
    "no models": (server([]), ["claude"], "has no models: `llama-stack-messages doctor --url"),
    "an unknown model": (server(HOST), ["claude", "--model", "x"], "model: there is no model x"),
    "not enabled": (
        server(HOST, **{"POST /v1/messages": json_reply({"detail": "Not Found"}, status=404)}),
        ["claude"],
        "does not serve the Messages API (it answered with 404): `llama-stack-messages enable CONFIG` adds it",
    ),
    "a token is wanted": (
        server(HOST, **{"POST /v1/messages": json_reply({}, status=401)}),
        ["claude"],
        "wants a token: give it with --token, or in ANTHROPIC_AUTH_TOKEN",
    ),
    "another one is wanted": (
        server(HOST, **{"POST /v1/messages": json_reply({}, status=401)}),
        ["claude", "--token", "t"],
        "does not take the token that was given",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_in_a_line(fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    personality, arguments, words = FAULTS[fault]
    with ScriptedUpstream(personality) as upstream:
        assert main(["launch", *arguments, "--print", "--url", upstream.url]) == 2

    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_what_is_not_installed_is_told_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/no/such")

    assert main(["launch", "claude"]) == 127
    assert main(["launch", "sdk"]) == 127
    assert main(["launch", "sdk", "--", "no-such-program"]) == 127
    assert main(["launch"]) == 2
    assert main(["launch", "--list"]) == 0

    out, err = capsys.readouterr()
    assert err.splitlines() == [
        "launch: Claude Code is not installed: there is no `claude` here. npm install -g @anthropic-ai/claude-code",
        "launch: say what to start: launch sdk -- COMMAND",
        "launch: there is no program `no-such-program`",
        "launch: say what to start: claude, opencode, pi, qwen, sdk",
    ]
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [
        [name, "-" if name == "sdk" else "no"] for name in CLIENTS
    ]


def test_it_becomes_the_client_with_the_arguments_that_are_the_clients(embedded_stack: Stack, tmp_path: Path) -> None:
    """Against a real server, whose window of 8192 tokens is too small, which is told."""
    program = tmp_path / "claude"
    told = "$ANTHROPIC_BASE_URL $ANTHROPIC_MODEL $CLAUDE_CODE_MAX_CONTEXT_TOKENS"
    program.write_text(f'#!/bin/sh\necho "{told} $*"\nexit 7\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}

    run = subprocess.run(
        [COMMAND, "launch", "claude", "--url", embedded_stack.base_url, "--", "-p", "two words", "--model"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    url, model, window, *rest = run.stdout.split()
    assert (run.returncode, url, window, rest) == (
        7,
        embedded_stack.base_url,
        "8192",
        ["-p", "two", "words", "--model"],
    )
    assert model.removeprefix("claude/") == "llama-cpp/smollm2"
    assert "takes 8192 tokens, and Claude Code needs 16000 for its first request and an answer" in run.stderr


@pytest.mark.parametrize(
    ("window", "max_tokens", "output"),
    [(None, None, None), (8192, None, 2048), (8192, 1000, 1000), (400_000, 64_000, 32_000), (None, 64_000, 32_000)],
)
def test_answers_leave_room_for_a_conversation(window: int | None, max_tokens: int | None, output: int | None) -> None:
    assert Target("http://a", "t", "m", window, max_tokens).output == output
