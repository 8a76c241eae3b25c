"""Random bodies of batches against the whole-body parser of the standard library.

    python -m tests.batches.fuzz_intake --count 1000000 --seed 1

Each body is read in random pieces; what is accepted, and as what, must be what `json.loads` says, with the limits
applied afterwards. A refusal is one of Anthropic's errors, never anything else.
"""

import argparse
import json
import math
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from llama_stack_messages_provider.batches import BatchesConfig
from llama_stack_messages_provider.batches.intake import CUSTOM_ID, Intake
from llama_stack_messages_provider.errors import InvalidRequestError, RequestTooLargeError
from llama_stack_messages_provider.wire.request import CreateMessageRequest
from llama_stack_messages_provider.wire.validation import MAX_NAME

__all__ = ["LIMITS", "check", "damaged", "expected", "random_body", "read_in_pieces"]

type Accepted = list[tuple[str, Any]]

LIMITS = BatchesConfig(max_requests=6, max_depth=8, max_number_length=24)
"""Small ones, so that random bodies meet them."""


class Refused(Exception):
    """The oracle's verdict."""


# --- the oracle ---


def expected(body: bytes, limits: BatchesConfig = LIMITS) -> Accepted | None:
    """The requests of a body; None if it must be refused."""
    try:
        return _accepted(_parsed(body, limits), limits)
    except (Refused, UnicodeError, json.JSONDecodeError, RecursionError):
        return None


class _Pairs(list[tuple[str, Any]]):
    """An object whose keys may be repeated."""


def _parsed(body: bytes, limits: BatchesConfig) -> Any:
    def number(text: str) -> float:
        if len(text.lstrip("-")) > limits.max_number_length:
            raise Refused
        if text.lstrip("-").isdecimal() and -(2**63) <= int(text) < 2**64:
            return int(text)
        value = float(text)
        if not math.isfinite(value):
            raise Refused
        return value

    def constant(_: str) -> None:
        raise Refused

    value = json.loads(
        body.decode(), object_pairs_hook=_Pairs, parse_int=number, parse_float=number, parse_constant=constant
    )
    json.dumps(value, ensure_ascii=False).encode()  # A half of a surrogate pair is no text.
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, _Pairs):
        return {key: _plain(each) for key, each in value}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _depth(value: Any) -> int:
    if isinstance(value, _Pairs):
        return 1 + max((_depth(each) for _, each in value), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


def _accepted(value: Any, limits: BatchesConfig) -> Accepted:
    if not isinstance(value, _Pairs):
        raise Refused
    # What is given twice counts with its last value, but its earlier ones are read as well.
    requests = [each for key, each in value if key == "requests"]
    others = [each for key, each in value if key != "requests"]
    if len(requests) != 1 or type(requests[0]) is not list or any(_depth(each) > limits.max_depth for each in others):
        raise Refused
    found: dict[str, Any] = {}
    for item in requests[0]:
        if not isinstance(item, _Pairs) or any(_depth(each) > limits.max_depth for _, each in item):
            raise Refused
        plain = _plain(item)
        custom_id = plain.get("custom_id")
        if not isinstance(custom_id, str) or not CUSTOM_ID.fullmatch(custom_id) or len(custom_id) > 64:
            raise Refused
        if "params" not in plain or custom_id in found or _has_false_name(plain["params"]):
            raise Refused
        found[custom_id] = plain["params"]
    if not 1 <= len(found) <= limits.max_requests:
        raise Refused
    return list(found.items())


def _has_false_name(params: Any) -> bool:
    """Whether a decoder that ignores case would take a field for another, as `Model` for `model`."""
    names = CreateMessageRequest.model_fields.keys()
    return isinstance(params, dict) and any(
        len(name) > MAX_NAME or name.replace("\u017f", "s").replace("\u212a", "k").lower() in names
        for name in params.keys() - names
    )


# --- the subject ---


def read_in_pieces(body: bytes, cuts: Sequence[int], limits: BatchesConfig = LIMITS) -> Accepted | None:
    """What the intake makes of a body; None if it refuses it."""
    intake = Intake(limits)
    found = []
    try:
        for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
            found += intake.feed(body[start:end])
        intake.close()
    except (InvalidRequestError, RequestTooLargeError):
        return None
    assert [request.position for request in found] == list(range(intake.total))
    return [(request.custom_id, orjson.loads(request.params)) for request in found]


def check(body: bytes, cuts: Sequence[int], limits: BatchesConfig = LIMITS) -> bool:
    """Whether the body is accepted; both must agree."""
    wanted, found = expected(body, limits), read_in_pieces(body, cuts, limits)
    assert found == wanted, (body, cuts, wanted, found)
    return found is not None


# --- bodies ---

_TEXTS = [
    "",
    "a",
    "requests",
    "custom_id",
    "params",
    "ü",
    "\\n",
    '\\"',
    "\\\\",
    "\\u00fc",
    "\\ud83d\\ude00",
    "[{",
    "]}",
]
_ODD = ["\\ud800", "\\udc00\\ud800", "\n", "\x00", "\\x", "\ufeff", "\\u00"]
_SCALARS = ["0", "-1", "1.5", "true", "false", "null", "1e5", "12345678901234567890", "1" * 24]
_ODD_SCALARS = ["01", "-", "1.", "NaN", "-Infinity", "1e999", "1e99999999999999999999", "1" * 25, "nul", "+1", "tru e"]
_NOISE = [b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b" ", b"0", b"\xff", b"\xed\xa0\x80", b"\x00", b"e", b"-"]


class _Bodies:
    """Bodies that are nearly right."""

    def __init__(self, seed: random.Random) -> None:
        self.random = seed

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def space(self) -> str:
        return self.random.choice(" \n\t\r") * self.random.randrange(3) if self.chance(0.1) else ""

    def text(self) -> str:
        parts = self.random.choices(_TEXTS, k=self.random.randrange(4))
        if self.chance(0.004):
            parts.append(self.random.choice(_ODD))
        return '"' + "".join(parts) + '"'

    def value(self, depth: int = 0) -> str:
        kind = self.random.random()
        if kind < 0.25 + depth / 12:
            return self.random.choice(_ODD_SCALARS if self.chance(0.004) else _SCALARS)
        if kind < 0.5 + depth / 16:
            return self.text()
        inner = [self.value(depth + 1) for _ in range(self.random.randrange(4))]
        if self.chance(0.5):
            return self.listed("[", inner, "]")
        return self.listed("{", [f"{self.text()}{self.space()}:{self.space()}{each}" for each in inner], "}")

    def listed(self, opening: str, inner: Sequence[str], closing: str) -> str:
        comma = self.space() + "," + self.space()
        return opening + self.space() + comma.join(inner) + self.space() + closing

    def request(self, number: int) -> str:
        custom_id = f'"r-{number if self.chance(0.97) else 0}"' if self.chance(0.98) else self.value()
        nested = self.random.randrange(11) if self.chance(0.05) else 0
        fields = [f'"custom_id"{self.space()}:{custom_id}', f'"params":{"[" * nested}{self.value()}{"]" * nested}']
        if self.chance(0.1):
            fields.append(f"{self.text()}:{self.value()}")
        if self.chance(0.02):
            fields.pop(0)
        self.random.shuffle(fields)
        return self.listed("{", fields, "}")

    def body(self) -> bytes:
        requests = [self.request(number) for number in range(self.random.randrange(1, 5))]
        if self.chance(0.02):
            requests.append(self.value())
        fields = [f'"requests"{self.space()}:{self.space()}{self.listed("[", requests, "]")}']
        while self.chance(0.15):
            fields.append(f"{self.text()}:{self.value()}")
        self.random.shuffle(fields)
        text = self.space() + self.listed("{", fields, "}") + self.space()
        return damaged(self.random, text.encode("utf-8", "surrogatepass"))


def damaged(seed: random.Random, body: bytes) -> bytes:
    """A body of which, one time in four, a few bytes are replaced, left out or put in."""
    while seed.random() < 0.25:
        at, size = seed.randrange(len(body) + 1), seed.choice([0, 0, 1, 1, 2, 9])
        body = body[:at] + seed.choice([b"", *_NOISE]) + body[at + size :]
    return body


def random_body(seed: random.Random) -> bytes:
    """A body, right or nearly so."""
    return _Bodies(seed).body()


def random_cuts(seed: random.Random, size: int) -> list[int]:
    """Where it is cut into pieces: nowhere, somewhere, or everywhere."""
    return sorted(seed.choices(range(size + 1), k=seed.choice([0, 1, 1, 2, 3, 8, size])))


def run(count: int, seed: int) -> Iterator[bool]:
    source = random.Random(seed)
    for _ in range(count):
        body = random_body(source)
        yield check(body, random_cuts(source, len(body)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    begun = time.perf_counter()
    verdicts = Counter(run(given.count, given.seed))
    seconds = time.perf_counter() - begun
    print(f"{verdicts.total():,} bodies in {seconds:.0f} s: {verdicts[True]:,} accepted, {verdicts[False]:,} refused")


if __name__ == "__main__":
    main()
