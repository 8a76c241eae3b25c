"""Prints what the status page costs each request, in CPU time: `python scripts/status_cost.py`."""

import sys
import time
import timeit
from collections.abc import Callable
from pathlib import Path

import orjson

sys.path.insert(0, str(Path(__file__).parents[1]))

from llama_stack_messages_provider.status.noted import Noted
from llama_stack_messages_provider.status.tally import Tally
from tests.support.wire import anthropic_message, anthropic_stream, encode_events

MESSAGE = anthropic_message("x" * 400)
EVENTS = 1000


def cost(call: Callable[[], object], number: int) -> float:
    """Microseconds of one call, the least of many."""
    return min(timeit.repeat(call, number=number, repeat=15, timer=time.process_time)) / number * 1e6


def main() -> None:
    """Measure."""
    tally, whole, pieces = Tally(), orjson.dumps(MESSAGE), list(encode_events(anthropic_stream(MESSAGE)))
    delta = next(piece for piece in pieces if b"content_block_delta" in piece)

    def noted() -> Noted:
        made = Noted("chat", "req_1", {"model": "m", "stream": True}, tally=tally)
        made.label = "p/m"
        return made

    def message() -> None:
        with noted() as one:
            one.answered(whole)

    def stream(more: int = 0) -> None:
        with noted() as one:
            for piece in (*pieces[:3], *[delta] * more, *pieces[-3:]):
                one.see(piece)

    base = cost(stream, 2000)
    each = (cost(lambda: stream(EVENTS), 200) - base) / EVENTS
    print(
        f"a whole message {cost(message, 2000):.1f} µs, a stream {base:.1f} µs and {each * 1000:.0f} ns for each event"
    )


if __name__ == "__main__":
    main()
