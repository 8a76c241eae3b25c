"""See whether a real Claude Code gets what it needs in its auto mode: `python scripts/try_claude_code.py PATH`.

PATH is its executable; the `claude-agent-sdk` package brings one (`claude_agent_sdk/_bundled/claude`). The model behind
the server is scripted: it wants to delete a folder, and as a classifier it flags that or does not. Nothing leaves this
machine. A line for each route and verdict, and exit status 1 where the client did not do what it should.

With `--interactive` the client is started by `launch claude` at a terminal, as people do: its `/model` is read, the
same is asked of it, and the embedded SmolLM2 is asked too. This needs `pip install pexpect pyte`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.personalities import vllm
from tests.support.stack import Stack, run_config, vllm_provider
from tests.support.upstream import (
    RecordedRequest,
    Reply,
    ScriptedUpstream,
    anthropic_message,
    anthropic_stream,
    call,
    chat_reply,
    encode_events,
    json_reply,
    stream_reply,
    tool_use_block,
)

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
ROUTES = {"native": "/v1/messages", "translated": "/v1/chat/completions"}
EXPLANATION = "It deletes what nobody asked to delete"
OUTCOMES = ("flagged", "not_flagged")
QUESTION = "Tidy up."
SECONDS = 180
NOWHERE = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}


class Script(ScriptedUpstream):
    """An engine that deletes a folder when it may call Bash, and judges when it is asked to."""

    def __init__(self) -> None:
        super().__init__(vllm(models=["m"]))
        self.command, self.outcome = "", ""
        self.reply(MESSAGES, self._messages)
        self.reply(CHAT, self._chat)

    def judged(self) -> list[RecordedRequest]:
        """The requests for a verdict."""
        return [seen for seen in self.requests if b"You are a security reviewer" in seen.body]

    def asked(self) -> list[RecordedRequest]:
        """All requests for an answer."""
        return [seen for path in (CHAT, MESSAGES) for seen in self.requests_to(path) if "messages" in seen.json]

    def _said(self, request: RecordedRequest) -> str | None:
        """The text of the answer; None where it is the call."""
        if request in self.judged():
            return orjson.dumps({"explanation": EXPLANATION, "outcome": self.outcome}).decode()
        first = b'"Bash"' in request.body and b'"tool_result"' not in request.body and b'"tool"' not in request.body
        return None if first else "Done."

    def _messages(self, request: RecordedRequest) -> Reply:
        if "messages" not in request.json:  # the probe
            usual = self.personality.answer(request.method, request.path)
            return usual(request) if callable(usual) else usual
        block = tool_use_block("Bash", {"command": self.command, "description": "Delete it"}, id="toolu_1")
        message = anthropic_message(self._said(request) or [block], model="m")
        streamed = request.json.get("stream")
        return stream_reply(encode_events(anthropic_stream(message))) if streamed else json_reply(message)

    def _chat(self, request: RecordedRequest) -> Reply:
        made = call("Bash", {"command": self.command, "description": "Delete it"}, id="toolu_1")
        said = self._said(request)
        answer = chat_reply(None, tool_calls=[made]) if said is None else chat_reply(said)
        assert callable(answer)
        return answer(request)


def run(client: Path, stack: Stack, provider: str, folder: Path) -> dict[str, Any]:
    """What the client says of one turn, in a home of its own."""
    server = {"ANTHROPIC_BASE_URL": stack.base_url, "ANTHROPIC_AUTH_TOKEN": "any", "ANTHROPIC_MODEL": f"{provider}/m"}
    inherited = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    command = [client, "-p", QUESTION, "--permission-mode", "auto", "--output-format", "json"]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**inherited, **NOWHERE, **server, "HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def scripted(script: Script, folder: Path, **messages: Any) -> Stack:
    """A stack with the script behind it, by both routes."""
    providers = [vllm_provider(script.url, route) for route in ROUTES]
    settings = {"routes": {"translated": "translation"}, **messages}
    return Stack(run_config(folder, inference=providers, messages=settings), folder)


def set_up(script: Script, folder: Path, outcome: str) -> tuple[Path, Path]:
    """A folder to work in, and one beside it that is to be deleted: within its own the client deletes unasked."""
    work, victim = folder / "work", folder / "victim"
    work.mkdir(parents=True)
    victim.mkdir()
    script.requests.clear()
    script.command, script.outcome = f"rm -rf {victim}", outcome
    return work, victim


def observations(client: Path) -> Iterator[tuple[str, bool]]:
    """What was seen, in words, and whether it is as it should be."""
    with tempfile.TemporaryDirectory() as name, Script() as script:
        folder = Path(name)
        with scripted(script, folder) as stack:
            for route, path in ROUTES.items():
                for outcome in OUTCOMES:
                    work, victim = set_up(script, folder / f"{route}-{outcome}", outcome)
                    said = run(client, stack, route, work)
                    ran, denied = not victim.exists(), len(said["permission_denials"])
                    verdicts = len(script.judged())
                    own = len([seen for seen in script.asked() if seen.path == path]) - verdicts
                    right = (ran, denied, verdicts, own) == (outcome == "not_flagged", int(outcome == "flagged"), 1, 2)
                    yield f"{route:10} {outcome:11} ran {ran!s:5} denied {denied} verdicts {verdicts} own {own}", right


def main() -> int:
    """Say what was seen; 1 if something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("client", type=Path, help="the executable of Claude Code")
    parser.add_argument("--interactive", action="store_true", help="at a terminal, started by `launch claude`")
    parsed = parser.parse_args()
    if parsed.interactive:
        from scripts.claude_code_at_a_terminal import observations as seen
    else:
        seen = observations
    failed = 0
    for words, right in seen(parsed.client.absolute()):
        print(words, "as it should" if right else "WRONG", flush=True)
        failed += not right
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
