"""What two real llama.cpp servers read from their caches: conversations pinned to one, and sent to each in turn.

Run: .venv/bin/python -m scripts.measure_pinning (some minutes; docs/context.md has the figures).
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx

from scripts.measure_context import recorded_texts
from tests.support.stack import Stack, embedded_provider, run_config

SESSIONS, TURNS, WINDOW = 6, 8, 16384
REPLICAS = ("one/smollm2", "two/smollm2")
PINNED = "pinned"

type Chosen = Callable[[int, int], str]


@dataclass
class Measured:
    """What was read of the prompts of a run, in tokens.

    Args:
        read: All of them.
        cached: Those from a cache.
        later: Those of second turns.
        later_cached: Those of second turns from a cache.
        seconds: How long it took.
    """

    read: int = 0
    cached: int = 0
    later: int = 0
    later_cached: int = 0
    seconds: float = 0.0

    def add(self, usage: dict[str, Any], turn: int) -> None:
        """Count a turn."""
        cached = usage.get("cache_read_input_tokens") or 0
        tokens = usage["input_tokens"] + cached
        self.read, self.cached = self.read + tokens, self.cached + cached
        if turn == 1:
            self.later, self.later_cached = self.later + tokens, self.later_cached + cached

    def told(self, name: str) -> str:
        """In a sentence."""
        return (
            f"{name}: {self.cached} of {self.read} prompt tokens from the cache, {self.cached / self.read:.0%}; "
            f"of second turns {self.later_cached / self.later:.0%}; {self.seconds:.0f} s"
        )


@contextmanager
def two_servers(sessions: int = SESSIONS, route: str = "auto") -> Iterator[httpx.Client]:
    """A client of a stack with two servers of the model, behind the one name `pinned` too."""
    folder = Path(tempfile.mkdtemp())
    # A place in the cache for every session, wherever it goes: what is measured is where they go.
    providers = [embedded_provider(name, context_size=WINDOW, parallel=sessions) for name in ("one", "two")]
    config = run_config(folder, inference=providers, messages={"route": route, "model_aliases": {PINNED: [*REPLICAS]}})
    with Stack(config, folder) as stack, httpx.Client(base_url=stack.base_url, timeout=300) as http:
        yield http


def measure(
    http: httpx.Client, chosen: Chosen, run: str, *, named: bool, sessions: int = SESSIONS, turns: int = TURNS
) -> Measured:
    """What some conversations cost that take turns.

    Args:
        http: A client of the stack.
        chosen: The model's name for a turn of a conversation, by their numbers.
        run: What this run's conversations begin with, so that none was read before.
        named: Whether requests name their session, as Claude Code's do.
        sessions: Conversations.
        turns: Turns of each.
    """
    texts, measured, began = recorded_texts(), Measured(), perf_counter()
    conversations: list[list[dict[str, Any]]] = [[] for _ in range(sessions)]
    for turn in range(turns):
        for n, messages in enumerate(conversations):
            said = " ".join(texts[(n + turn + k) % len(texts)] for k in range(3))
            messages.append({"role": "user", "content": f"{run} {n}, {turn}. {said}"})
            body = {"model": chosen(n, turn), "max_tokens": 8, "temperature": 0, "messages": messages}
            headers = {"x-claude-code-session-id": f"{run}-{n}"} if named else {}
            answer = http.post("/v1/messages", json=body, headers=headers).raise_for_status().json()
            measured.add(answer["usage"], turn)
            messages.append({"role": "assistant", "content": "I see."})
    measured.seconds = perf_counter() - began
    return measured


def main() -> None:
    """Print what both ways cost, on both routes."""
    for route in ("native", "translation"):
        with two_servers(route=route) as http:
            print(measure(http, pinned, "Otters", named=True).told(f"{route}, pinned by session"))
            print(measure(http, pinned, "Badgers", named=False).told(f"{route}, pinned by beginning"))
            print(measure(http, in_turn, "Herons", named=True).told(f"{route}, each in turn"), flush=True)


def pinned(conversation: int, turn: int) -> str:
    """The one name, always."""
    return PINNED


def in_turn(conversation: int, turn: int) -> str:
    """Another one for each turn of a conversation."""
    return REPLICAS[(conversation + turn) % len(REPLICAS)]


if __name__ == "__main__":
    main()
