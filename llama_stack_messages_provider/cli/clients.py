"""The clients that `llama-stack-messages launch` starts, and how each is told where its models are.

| client | told by | source |
|---|---|---|
| Claude Code | variables | its documentation of environment variables; tried with 2.1.332 |
| OpenCode | `OPENCODE_CONFIG_CONTENT`, JSON merged over its files | its documentation of configuration |
| Qwen Code | variables and `--auth-type anthropic` | its documentation of authentication |
| pi | a small extension, which reads our variables | its documentation of custom providers |
| anything else | `ANTHROPIC_BASE_URL` and a token, which Anthropic's SDKs read | the SDKs |
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["CLIENTS", "Client", "Settings", "Target"]

# What Claude Code asks for as an answer's length where nobody says more: no model needs to be able to do more.
_MOST_OUTPUT = 32_000
_PROVIDER = "llama-stack"
_PI_EXTENSION = Path(__file__).with_name("pi_extension.js")


@dataclass(frozen=True, slots=True)
class Target:
    """What a client is to use.

    Args:
        url: The server, without `/v1`.
        token: A token for it.
        model: The model's name.
        window: Tokens that prompt and answer may fill, where they are known.
        max_tokens: Tokens of an answer, where they are known.
    """

    url: str
    token: str
    model: str
    window: int | None = None
    max_tokens: int | None = None

    @property
    def output(self) -> int | None:
        """Tokens to ask for: at most a quarter of the window, so that a conversation has room."""
        room = None if self.window is None else max(self.window // 4, 1)
        known = [limit for limit in (self.max_tokens, room) if limit is not None]
        return min(*known, _MOST_OUTPUT) if known else None


@dataclass(frozen=True, slots=True)
class Settings:
    """What a client is started with.

    Args:
        variables: Of its environment; None removes one.
        arguments: Before those that the user gives.
    """

    variables: Mapping[str, str | None]
    arguments: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Client:
    """A program that can be started.

    Args:
        title: Its name for people.
        command: What it is called in a shell; None: what the user gives after `--`.
        install: What installs it.
        settings: What it is started with.
        least_window: Tokens that its first request and a short answer take.
    """

    title: str
    command: str | None
    install: str
    settings: Callable[[Target], Settings]
    least_window: int = field(default=0)


def _sdk(target: Target) -> dict[str, str | None]:
    """What Anthropic's SDKs read; of two tokens that are both set, each client prefers another one."""
    return {"ANTHROPIC_BASE_URL": target.url, "ANTHROPIC_AUTH_TOKEN": target.token, "ANTHROPIC_API_KEY": None}


def _claude(target: Target) -> Settings:
    names = ["", "DEFAULT_FABLE_", "DEFAULT_OPUS_", "DEFAULT_SONNET_", "DEFAULT_HAIKU_", "SMALL_FAST_"]
    counts = {
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": target.window,
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": target.output,
    }
    return Settings(
        {
            **_sdk(target),
            **{f"ANTHROPIC_{name}MODEL": target.model for name in names},
            **{name: str(count) for name, count in counts.items() if count is not None},
            "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1",
        }
    )


def _opencode(target: Target) -> Settings:
    limits = {"context": target.window, "output": target.output}
    model = {"name": target.model} | ({"limit": limits} if all(limits.values()) else {})
    provider = {
        "npm": "@ai-sdk/anthropic",
        "name": "Llama Stack",
        "options": {"baseURL": f"{target.url}/v1", "apiKey": target.token},
        "models": {target.model: model},
    }
    content = {"provider": {_PROVIDER: provider}, "model": f"{_PROVIDER}/{target.model}"}
    return Settings({"OPENCODE_CONFIG_CONTENT": json.dumps(content)})


def _qwen(target: Target) -> Settings:
    variables = {"ANTHROPIC_BASE_URL": target.url, "ANTHROPIC_API_KEY": target.token, "ANTHROPIC_MODEL": target.model}
    return Settings(variables, ["--auth-type", "anthropic", "--model", target.model])


def _pi(target: Target) -> Settings:
    counts = {"LLAMA_STACK_WINDOW": target.window, "LLAMA_STACK_OUTPUT": target.output}
    variables = {
        "LLAMA_STACK_URL": target.url,
        "LLAMA_STACK_TOKEN": target.token,
        "LLAMA_STACK_MODEL": target.model,
        **{name: str(count) for name, count in counts.items() if count is not None},
    }
    return Settings(variables, ["--extension", str(_PI_EXTENSION), "--provider", _PROVIDER, "--model", target.model])


CLIENTS: Mapping[str, Client] = {
    "claude": Client("Claude Code", "claude", "npm install -g @anthropic-ai/claude-code", _claude, 16_000),
    "opencode": Client("OpenCode", "opencode", "npm install -g opencode-ai", _opencode),
    "pi": Client("pi", "pi", "npm install -g @earendil-works/pi-coding-agent", _pi),
    "qwen": Client("Qwen Code", "qwen", "npm install -g @qwen-code/qwen-code", _qwen),
    "sdk": Client(
        "a program with Anthropic's SDK, as in `launch sdk -- python agent.py`",
        None,
        "pip install anthropic",
        lambda target: Settings({**_sdk(target), "ANTHROPIC_MODEL": target.model}),
    ),
}
