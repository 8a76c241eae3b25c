"""What the real SmolLM2 reads from its cache: in a session as Claude Code's, and in one edited to fit 4,096 tokens.

Run: .venv/bin/python -m scripts.measure_context (some minutes; docs/context.md has the figures), with `--long` for a
session of 200 turns alone, which is summarised as well: what is left of 200 calls does not fit such a window.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from llama_stack_messages_provider.embedded.config import LlamaCppConfig
from llama_stack_messages_provider.embedded.llama_cpp import start_server, stop_server
from tests.support.stack import Stack, embedded_provider, run_config

ROOT = Path(__file__).resolve().parents[1]
TURNS, LONG, WINDOW = 40, 200, 4096
AGENT_TURNS, AGENT_WINDOW = 20, 8192
TOOLS = [
    {
        "name": "read",
        "description": "Read a file.",
        "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}},
    }
]
EDIT = {
    "type": "clear_tool_uses_20250919",
    "trigger": {"type": "input_tokens", "value": 2400},
    "keep": {"type": "tool_uses", "value": 3},
    "clear_at_least": {"type": "input_tokens", "value": 700},
    "clear_tool_inputs": True,
}
COMPACT = {"type": "compact_20260112", "trigger": {"type": "input_tokens", "value": 2900}}


def session(turns: int, texts: list[str]) -> list[dict[str, Any]]:
    """A question, and files that are read."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Read the files, and say a sentence about each."}]
    for n in range(turns):
        call = {"type": "tool_use", "id": f"toolu_{n}", "name": "read", "input": {"path": f"{n}.txt"}}
        found = " ".join(texts[(n + k) % len(texts)] for k in range(3))
        messages.append({"role": "assistant", "content": [{"type": "text", "text": f"Reading file {n}."}, call]})
        result = {"type": "tool_result", "tool_use_id": f"toolu_{n}", "content": found}
        messages.append({"role": "user", "content": [result]})
    return messages


def measure(http: httpx.Client, model: str, texts: list[str], turns: int, edits: list[dict[str, Any]]) -> str:
    """What a session costs, in a sentence; any error ends it."""
    read = cached = most = steps = before = summaries = 0
    messages, files = session(0, texts), session(turns, texts)[1:]
    for turn in range(turns):
        messages += files[2 * turn : 2 * turn + 2]
        body = {"model": model, "max_tokens": 8, "messages": messages, "tools": TOOLS}
        body["context_management"] = {"edits": edits}
        answer = http.post("/v1/messages", json=body).raise_for_status().json()
        usage, applied = answer["usage"], answer["context_management"]["applied_edits"]
        from_cache = usage.get("cache_read_input_tokens") or 0
        tokens = usage["input_tokens"] + from_cache
        read, cached, most = read + tokens, cached + from_cache, max(most, tokens)
        cleared = sum(edit.get("cleared_tool_uses", 0) for edit in applied)
        steps, before = steps + (cleared != before), cleared
        if answer["content"] and answer["content"][0]["type"] == "compaction":
            summaries += 1
            # From now on the prompt begins with the summary.
            going_on = [answer["content"][0], {"type": "text", "text": "I go on."}]
            messages += [{"role": "assistant", "content": going_on}, {"role": "user", "content": "Go on."}]
    return (
        f"{model}: {turns} turns, {steps} steps, {summaries} summaries, largest prompt {most}, "
        f"{cached / read:.0%} of {read} from the cache"
    )


@contextmanager
def both_routes(window: int) -> Iterator[httpx.Client]:
    """A client of a stack with the model at `native/` and `translated/`, each a server of its own."""
    folder = Path(tempfile.mkdtemp())
    providers = [embedded_provider(name, context_size=window, parallel=1) for name in ("native", "translated")]
    config = run_config(folder, inference=providers, messages={"routes": {"translated": "translation"}})
    with Stack(config, folder) as stack, httpx.Client(base_url=stack.base_url, timeout=300) as http:
        yield http


def agent_turn(model: str, turns: int, texts: list[str], *, direct: bool) -> dict[str, Any]:
    """A request in Claude Code's shape; asked directly, it is without the line that changes each time."""
    mark = {"cache_control": {"type": "ephemeral"}}
    line = f"x-anthropic-billing-header: cc_version=2.1.330.b2c; cc_entrypoint=cli; cch={turns:05x};"
    rules = " ".join(f"Rule {n}: an otter that swims past buoy {n} is greeted once." for n in range(30))
    system = [
        {"type": "text", "text": "You are Claude Code, Anthropic's official CLI for Claude."},
        {"type": "text", "text": rules, **mark},
    ]
    messages = session(turns, texts)
    if turns:
        messages[-1]["content"][-1] |= mark
    return {
        "model": model,
        "max_tokens": 8,
        "system": system if direct else [{"type": "text", "text": line}, *system],
        "messages": messages,
        "tools": TOOLS,
        "metadata": {"user_id": json.dumps({"device_id": "d", "account_uuid": "", "session_id": "s"})},
    }


def measure_agent(
    http: httpx.Client, model: str, texts: list[str], turns: int, *, direct: bool = False
) -> tuple[int, int]:
    """What a session in Claude Code's shape reads, in tokens of its prompts: from the cache, and in all."""
    read = cached = 0
    for turn in range(turns):
        body = agent_turn(model, turn, texts, direct=direct)
        usage = http.post("/v1/messages", json=body).raise_for_status().json()["usage"]
        from_cache = usage.get("cache_read_input_tokens") or 0
        read, cached = read + usage["input_tokens"] + from_cache, cached + from_cache
    return cached, read


def agents(turns: int = AGENT_TURNS) -> Iterator[tuple[str, int, int]]:
    """What `measure_agent` gives: of the engine that is asked directly, and of both routes; each has its own server."""
    texts = recorded_texts()
    process, address, alias = start_server(LlamaCppConfig(context_size=AGENT_WINDOW, parallel=1))
    try:
        with httpx.Client(base_url=address, timeout=300) as http:
            yield "asked directly", *measure_agent(http, alias, texts, turns, direct=True)
    finally:
        stop_server(process)
    with both_routes(AGENT_WINDOW) as http:
        for name in ("native", "translated"):
            yield name, *measure_agent(http, f"{name}/smollm2", texts, turns)


def recorded_texts() -> list[str]:
    """Texts in English that files and messages are made of."""
    recorded = json.loads((ROOT / "tests/fixtures/conversations.json").read_text())["conversations"]["english"]
    return [text for text in recorded["texts"] if len(text) > 150]


def main() -> None:
    """Print what both routes cost."""
    is_long = "--long" in sys.argv
    turns, edits = (LONG, [EDIT, COMPACT]) if is_long else (TURNS, [EDIT])
    texts = recorded_texts()
    for way, cached, read in () if is_long else agents():
        print(f"{way}: {AGENT_TURNS} turns, {cached} of {read} from the cache, {cached / read:.1%}", flush=True)
    with both_routes(WINDOW) as http:
        for name in ("native", "translated"):
            print(measure(http, f"{name}/smollm2", texts, turns, edits), flush=True)
        body = {"model": "native/smollm2", "max_tokens": 8, "messages": session(TURNS, texts), "tools": TOOLS}
        refused = http.post("/v1/messages", json=body).json()
        print("without edits:", (refused.get("error") or refused)["message"])


if __name__ == "__main__":
    main()
