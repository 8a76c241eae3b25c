"""`llama-stack-messages launch`: start Claude Code, or another client of Anthropic's API, on a model of the stack."""

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from llama_stack_messages_provider.cli.clients import CLIENTS, Client, Settings, Target
from llama_stack_messages_provider.cli.running_server import (
    Model,
    RunningServer,
    ServerError,
    add_options,
)
from llama_stack_messages_provider.wire.names import CLAUDE_PREFIX

__all__ = ["register"]

_FAILED, _NOT_INSTALLED = 2, 127
_SHOWN = 20


def register(commands: Any) -> None:
    """Add the command to an `argparse` parser's subcommands."""
    parser = commands.add_parser(
        "launch",
        help="start Claude Code or another client on a model of the stack",
        description="Finds a running server's model and its window, sets what the client reads, and becomes the "
        "client. What stands after -- goes to the client.",
        usage="%(prog)s [options] {" + ",".join(CLIENTS) + "} [-- ARGUMENTS]",
    )
    parser.add_argument("client", nargs="?", choices=CLIENTS, help="what to start")
    parser.add_argument("--model", help="the model (default: the server's only one)")
    parser.add_argument("--window", type=int, help="tokens that prompt and answer may fill (default: asked)")
    parser.add_argument("--print", action="store_true", help="print the variables for a shell, and start nothing")
    parser.add_argument("--list", action="store_true", help="list the clients, and whether they are installed")
    add_options(parser)
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> int:
    if parsed.list:
        return _list()
    if parsed.client is None:
        print(f"launch: say what to start: {', '.join(CLIENTS)}", file=sys.stderr)
        return _FAILED
    client = CLIENTS[parsed.client]
    command = _command(client, parsed.rest)
    if command is None and not parsed.print:
        print(_not_installed(client, parsed.rest), file=sys.stderr)
        return _NOT_INSTALLED
    try:
        target = _target(parsed)
    except ServerError as exc:
        print(f"launch: {exc}", file=sys.stderr)
        return _FAILED
    _warn(client, target)
    settings = client.settings(target)
    if parsed.print or command is None:
        print(_for_shell(client, settings, parsed.rest))
        return 0
    own, *given = command
    return _become([own, *settings.arguments, *given], settings)


def _list() -> int:
    print(f"{'NAME':10} {'INSTALLED':10} WHAT")
    for name, client in CLIENTS.items():
        found = "-" if client.command is None else "yes" if shutil.which(client.command) else "no"
        how = f"; {client.install}" if found == "no" else ""
        print(f"{name:10} {found:10} {client.title}{how}")
    return 0


def _command(client: Client, rest: Sequence[str]) -> list[str] | None:
    """What is to be run; None where it is not installed."""
    name, *arguments = (client.command, *rest) if client.command else (rest or ("",))
    found = shutil.which(name) if name else None
    return [found, *arguments] if found else None


def _not_installed(client: Client, rest: Sequence[str]) -> str:
    if client.command is not None:
        return f"launch: {client.title} is not installed: there is no `{client.command}` here. {client.install}"
    return f"launch: there is no program `{rest[0]}`" if rest else "launch: say what to start: launch sdk -- COMMAND"


def _target(parsed: argparse.Namespace) -> Target:
    """The server and the model to use.

    Raises:
        ServerError: The server is not there, or the model is not.
    """
    server = RunningServer(parsed.url, parsed.token)
    server.check()
    model = _model(server, parsed.model, prefix=CLAUDE_PREFIX if parsed.client == "claude" else "")
    window = parsed.window or model.window or _window(server, model.id)
    return Target(server.url, server.token, model.id, window, model.max_tokens)


def _model(server: RunningServer, wanted: str | None, *, prefix: str) -> Model:
    listed = {model.id: model for model in server.models()}
    if wanted is None:
        wanted = _only(server, server.own_names())
    found = listed.get(f"{prefix}{wanted}") or listed.get(wanted)
    if found is None:
        # An alias, or a model that is not registered: whoever counts its tokens knows it.
        server.post("/v1/messages/count_tokens", {"model": wanted, "messages": [{"role": "user", "content": "a"}]})
        return Model(wanted)
    return found


def _only(server: RunningServer, names: Sequence[str]) -> str:
    if not names:
        raise ServerError(f"{server.url} has no models: `llama-stack-messages doctor --url {server.url}` says why")
    if len(names) > 1:
        more = ", ..." if len(names) > _SHOWN else ""
        raise ServerError(f"choose a model with --model: {', '.join(names[:_SHOWN])}{more}")
    return names[0]


def _window(server: RunningServer, model: str) -> int | None:
    """The model's window, as `doctor` knows it."""
    try:
        found = server.get("/v1/messages/diagnosis")["models"]
    except (ServerError, KeyError, TypeError):
        return None
    plain = model.removeprefix(CLAUDE_PREFIX)
    return next((entry.get("window") for entry in found if entry.get("model") == plain), None)


def _warn(client: Client, target: Target) -> None:
    if target.window is None:
        print(
            f"launch: the server does not say how many tokens {target.model} takes; --window tells {client.title}",
            file=sys.stderr,
        )
    elif target.window < client.least_window:
        print(
            f"launch: {target.model} takes {target.window} tokens, and {client.title} needs {client.least_window} for "
            "its first request and an answer: point the stack at a larger model",
            file=sys.stderr,
        )


def _for_shell(client: Client, settings: Settings, rest: Sequence[str]) -> str:
    lines = [
        f"unset {name}" if value is None else f"export {name}={shlex.quote(value)}"
        for name, value in settings.variables.items()
    ]
    command = [*([client.command] if client.command else []), *settings.arguments, *rest]
    return "\n".join([*lines, *([f"# {shlex.join(command)}"] if command else [])])


def _become(command: Sequence[str], settings: Settings) -> NoReturn:
    """Become the client."""
    environment = {name: value for name, value in os.environ.items() if name not in settings.variables}
    environment |= {name: value for name, value in settings.variables.items() if value is not None}
    sys.stdout.flush()
    os.execve(command[0], list(command), environment)
