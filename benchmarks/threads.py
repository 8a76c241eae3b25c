"""`python -m benchmarks.threads`: what it costs that conversations are not kept here.

The SDK's tool runner asks a server to keep its conversation. Ours refuses to go on with one, upon which the runner
sends it whole; after the second refusal it does so by itself. Printed: a run of thirty turns over a conversation of a
coding agent's size, with that wish and without it, interleaved.
"""

import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anthropic
from anthropic import beta_tool

from tests.support import personalities
from tests.support.replies import Reply
from tests.support.stack import Stack, openai_provider, run_config
from tests.support.upstream import RecordedRequest, ScriptedUpstream, call, chat_reply

TURNS, RUNS, RESULT_CHARACTERS = 30, 7, 5_000


@beta_tool
def look(at: str) -> str:
    """Look at something.

    Args:
        at: What to look at.
    """
    return "blue " * (RESULT_CHARACTERS // 5)


def _answer(request: RecordedRequest) -> Reply:
    results = sum(message["role"] == "tool" for message in request.json["messages"])
    found = chat_reply("Done.") if results >= TURNS else chat_reply(tool_calls=[call("look", {"at": "sky"})])
    reply = found(request) if callable(found) else found
    assert isinstance(reply, Reply)
    return reply


def _run(client: anthropic.Anthropic, **options: Any) -> float:
    begun = time.perf_counter()
    request: Any = {"model": "openai/m", "max_tokens": 64, "messages": [{"role": "user", "content": "Look."}]}
    for _ in client.beta.messages.tool_runner(**request, tools=[look], **options):
        pass
    return time.perf_counter() - begun


def main() -> None:
    """Run, and print the medians."""
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        upstream = opened.enter_context(ScriptedUpstream(personalities.openai_style(models=["m"])))
        config = run_config(folder, inference=[openai_provider(upstream.url)], messages={})
        stack = opened.enter_context(Stack(config, folder))
        upstream.reply("/v1/chat/completions", _answer)
        client = opened.enter_context(anthropic.Anthropic(base_url=stack.base_url, api_key="any"))
        _run(client)
        seconds: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(RUNS):
            for wished in seconds:
                seconds[wished].append(_run(client, **({} if wished else {"thread": False})))
    for wished, times in seconds.items():
        print(f"{'with' if wished else 'without'} the wish: {statistics.median(times):.3f} s for {TURNS} turns")


if __name__ == "__main__":
    main()
