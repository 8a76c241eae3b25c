"""The short part of fuzzing: every target over its seeds, cut and mutated, the same each time."""

import random

import pytest

from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

MUTATIONS = 20
PIECES = (b"\n\n", b"data: ", b"event: error\n", b"null", b"{}", b"[", b"]", b'"', b"\\ud800", b"\xff", b"-1", b"1e999")


def mutated(data: bytes, draw: random.Random) -> bytes:
    """The bytes with a few changes."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        start = draw.randrange(len(changed) + 1)
        end = min(len(changed), start + draw.choice((0, 1, 5, 40)))
        changed[start:end] = draw.choice((b"", bytes([draw.randrange(256)]), draw.choice(PIECES), data[start:end] * 2))
    return bytes(changed)


@pytest.mark.parametrize("name", TARGETS)
def test_any_input_keeps_the_targets_promise(name: str) -> None:
    draw = random.Random(name)
    target, inputs = TARGETS[name], list(seeds(name))
    assert inputs
    for data in inputs:
        target(data)
        for _ in range(MUTATIONS):
            target(mutated(data, draw))
