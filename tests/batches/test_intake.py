"""The body of a batch, read as it arrives: what is accepted, what is refused, and at what cost."""

import random
import re
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_stack_messages_provider.batches import BatchesConfig
from llama_stack_messages_provider.batches.intake import SLICE, Intake
from llama_stack_messages_provider.batches.splitter import MAX_FIELDS
from llama_stack_messages_provider.errors import InvalidRequestError, MessagesError, RequestTooLargeError
from tests.batches.fuzz_intake import LIMITS, check, expected, random_body, read_in_pieces, run
from tests.batches.helpers import params


def around(value: bytes, field: bytes = b"params", before: int = 3) -> bytes:
    """A body whose request number `before` has this value in a field."""
    good = b"".join(b'{"custom_id":"r-%d","params":{}},' % number for number in range(before))
    return b'{"requests":[' + good + b'{"custom_id":"odd","' + field + b'":' + value + b"}]}"


def read(body: bytes, size: int = SLICE, **limits: Any) -> list[Any]:
    """The `params` of a body that arrives in pieces of this size."""
    intake = Intake(BatchesConfig(**limits))
    found = [request for start in range(0, len(body), size) for request in intake.feed(body[start : start + size])]
    intake.close()
    return [orjson.loads(request.params) for request in found]


def refused(body: bytes, size: int = SLICE, **limits: Any) -> str:
    """What the client of a body that breaks a rule is told."""
    with pytest.raises((InvalidRequestError, RequestTooLargeError)) as caught:
        read(body, size, **limits)
    return caught.value.message


# --- like the parser of the standard library, however the body is cut ---


@settings(deadline=None)
@given(st.integers(0, 2**32), st.data())
def test_a_body_is_read_as_a_parser_of_whole_bodies_reads_it(seed: int, data: st.DataObject) -> None:
    body = random_body(random.Random(seed))
    for at, noise in data.draw(st.lists(st.tuples(st.integers(0, len(body)), st.binary(max_size=3)), max_size=2)):
        body = body[:at] + noise + body[at + data.draw(st.integers(0, 3)) :]
    check(body, sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8))))


NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(deadline=None)
@given(VALUES, st.integers(1, 40))
def test_any_value_arrives_as_it_was_sent(value: Any, size: int) -> None:
    body = around(orjson.dumps(value))

    assert read(body, size)[-1] == value


def test_random_bodies() -> None:
    """A short part of `python -m tests.batches.fuzz_intake`."""
    accepted = sum(run(500, seed=7))

    assert 200 < accepted < 450


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_bytes_of_any_kind_are_refused(body: bytes) -> None:
    assert read_in_pieces(body, list(range(len(body)))) == expected(body) is None


# --- what is no text, no JSON, no batch ---


@pytest.mark.parametrize("size", [1, SLICE])
@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "not valid JSON: unexpected end of data"),
        (b" \n", "not valid JSON: unexpected end of data"),
        (b"\xef\xbb\xbf" + around(b"{}"), "not valid JSON: expected an object"),
        (around(b"{}").decode().encode("utf-16"), "not valid JSON: expected an object"),
        (around(b"{}").decode().encode("utf-16-le"), "not valid JSON: expected a field's name"),
        (b"7", "not valid JSON: expected an object"),
        (b"[]", "not valid JSON: expected an object"),
        (b"null", "not valid JSON: expected an object"),
        (around(b"{}") + b"{}", "unexpected data after the object"),
        (b"{}", "requests: Field required"),
        (b'{"requests.item":[{"custom_id":"a","params":{}}]}', "requests: Field required"),
        (b'{"Requests":[{"custom_id":"a","params":{}}]}', "requests: Field required"),
        (b'{"requests":{"item":[]}}', "requests: Input should be a list"),
        (b'{"requests":null}', "requests: Input should be a list"),
        (b'{"requests":[],"requests":[{"custom_id":"a","params":{}}]}', "requests: Field given twice"),
        (b'{"requests":[],"\\u0072equests":[]}', "requests: Field given twice"),
        (around(b"{},"), "requests.3: not valid JSON"),
        (around(b"0")[:-2] + b",]}", "requests.4: not valid JSON"),
        (around(b"1e999"), "requests.3: not valid JSON"),
        (around(b"1e99999999999999999999"), "requests.3: not valid JSON"),
        (around(b"NaN"), "requests.3: not valid JSON"),
        (around(b'"\xed\xa0\x80"'), "requests.3: not valid JSON"),
        (around(b'"\xff"'), "requests.3: not valid JSON"),
        (around(b'"\\ud800"'), "requests.3: not valid JSON"),
        (around(b'"\\udc00\\ud800"'), "requests.3: not valid JSON"),
        (around(b'"\x00"'), "requests.3: not valid JSON"),
        (around(b'"\n"'), "requests.3: not valid JSON"),
        (around(b'"\x7f\\x"'), "requests.3: not valid JSON"),
        (b'{"other":tru,"requests":[]}', "other: not valid JSON"),
        (b'{"\\ud800":1}', "The request body: not valid JSON"),
    ],
)  # fmt: skip
def test_a_body_that_is_no_batch_is_refused(body: bytes, text: str, size: int) -> None:
    assert text in refused(body, size)


def test_a_comma_before_the_end_is_refused_wherever_the_body_is_cut() -> None:
    body = b'{"requests":[{"custom_id":"r-0","params":0} ,\n]}'

    assert [read_in_pieces(body, [cut]) for cut in range(len(body))] == [None] * len(body)


# --- limits, by name ---

DIGITS = b"1" * 1001


@pytest.mark.parametrize("size", [1, 100, SLICE])
@pytest.mark.parametrize(
    ("body", "text"),
    [
        (around(b"[" * 201 + b"]" * 201), "requests.3.params: nested more than 200 levels deep"),
        (around(b"[" * 201), "requests.3.params: nested more than 200 levels deep"),
        (around(b'{"a":' * 201), "requests.3.params: nested more than 200 levels deep"),
        (around(b"[" * 201, b"later"), "requests.3.later: nested more than 200 levels deep"),
        (b'{"later":' + b"[" * 201, "later: nested more than 200 levels deep"),
        (around(DIGITS), "requests.3.params: a number of more than 1000 characters"),
        (around(b"-0." + DIGITS), "requests.3.params: a number of more than 1000 characters"),
        (around(b"1e" + DIGITS), "requests.3.params: a number of more than 1000 characters"),
        (around(b'{"messages":[{"n":' + DIGITS + b"}]}"), "requests.3.params: a number of more than 1000"),
        (around(b'[[[[[[[[[["' + DIGITS + b'",' + DIGITS), "requests.3.params: a number of more than 1000"),
        (b'{"requests":[' + DIGITS, "requests.0: a number of more than 1000 characters"),
        (b'{"later":' + DIGITS, "later: a number of more than 1000 characters"),
        (b'{"' + b"k" * 1000, "A field's name has more than 1000 bytes"),
        (b"{" + b",".join(b'"%d":0' % n for n in range(MAX_FIELDS + 1)), f"more than {MAX_FIELDS} fields"),
    ],
)  # fmt: skip
def test_what_is_beyond_a_limit_is_refused_before_its_end(body: bytes, text: str, size: int) -> None:
    assert text in refused(body, size)


@pytest.mark.parametrize("size", [1, 100, SLICE])
@pytest.mark.parametrize(
    "value",
    [b"[" * 200 + b"]" * 200, b'{"a":' * 199 + b"{}" + b"}" * 199, b"0." + b"1" * 998, b'"' + DIGITS * 9 + b'"'],
)
def test_what_is_at_a_limit_is_accepted(value: bytes, size: int) -> None:
    assert read(around(value), size)[-1] == orjson.loads(value)


def test_anthropics_own_limits_are_the_defaults() -> None:
    config = BatchesConfig()

    assert (config.max_requests, config.max_bytes, config.max_custom_id_length) == (100_000, 2**28, 64)
    hundred_thousand_messages = params() | {"messages": [{"role": "user", "content": "x"}] * 100_000}
    assert read(around(orjson.dumps(hundred_thousand_messages)))[-1] == hundred_thousand_messages


def test_the_limits_can_be_set() -> None:
    assert refused(around(b"[[[]]]"), max_depth=2) == "requests.3.params: nested more than 2 levels deep"
    assert "a number of more than 20" in refused(around(b"1" * 21), max_number_length=20)
    assert refused(around(b"{}"), max_custom_id_length=2).startswith("requests.0.custom_id: String should match")
    assert "at most 2 items" in refused(around(b"{}"), max_requests=2)
    assert "size of 99 bytes" in refused(around(b"{}"), max_bytes=99)
    assert refused(around(b'"' + b"x" * 100 + b'"'), max_request_bytes=99).startswith("requests.3: exceeds")
    assert refused(b'{"later":"' + b"x" * 100, max_request_bytes=99).startswith("later: exceeds")


def test_the_values_of_a_request_are_counted_without_those_in_its_strings() -> None:
    text = orjson.dumps({"a": ",[{" * 1000, "b": [0] * 40})

    assert read(around(text), max_values=50)[-1] == orjson.loads(text)
    assert refused(around(b"[" + b"0," * 60 + b"0]"), max_values=50) == "requests.3: more than 50 values"


# --- the cost is that of the bytes ---


def peak(body: bytes) -> int:
    """Bytes held at most while a body is read or refused, beside the body."""
    tracemalloc.start()
    try:
        read(body)
    except MessagesError:
        pass
    finally:
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return most


def steps(body: bytes) -> int:
    """Calls of functions while a body is read or refused."""
    count = 0

    def called(*_: Any) -> None:
        nonlocal count
        count += 1

    sys.setprofile(called)
    try:
        read(body)
    except MessagesError:
        pass
    finally:
        sys.setprofile(None)
    return count


HOSTILE: dict[str, Callable[[int], bytes]] = {
    "deep": lambda n: around(b"[" * n),
    "deep objects": lambda n: around(b'{"a":' * n),
    "deep again and again": lambda n: around(b"[" + b"[[[[[[[[[[]]]]]]]]]]," * (n // 20) + b"0]"),
    "digits": lambda n: around(b"1" * n),
    "one string": lambda n: around(b'"' + b"x" * n + b'"'),
    "escapes": lambda n: around(b'"' + b"\\n" * (n // 2) + b'"'),
    "a string without an end": lambda n: around(b'"' + b'\\"' * (n // 2)),
    "empty objects": lambda n: around(b"[" + b"{}," * (n // 3) + b"0]"),
    "zeros": lambda n: around(b"[" + b"0," * (n // 2) + b"0]"),
    "white space": lambda n: around(b" " * n + b"0"),
    "space between requests": lambda n: around(b"0").replace(b",{", b" " * n + b",{", 1),
    "another field": lambda n: b'{"later":"' + b"x" * n + b'","requests":[{"custom_id":"a","params":0}]}',
    "many requests": lambda n: around(b"0", before=n // 30),
    "requests that are none": lambda n: b'{"requests":[' + b"0," * (n // 2),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_body_of_twice_the_size_takes_at_most_twice_the_steps(name: str) -> None:
    small, large = HOSTILE[name](80_000), HOSTILE[name](160_000)
    steps(small)  # The first time patterns are compiled.

    assert steps(large) <= 2.2 * steps(small) + 100
    assert steps(large) < 15 * len(large)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_body_takes_a_small_multiple_of_its_bytes(name: str) -> None:
    small, large = HOSTILE[name](80_000), HOSTILE[name](160_000)
    peak(small)

    assert peak(large) <= 2.2 * peak(small) + 100_000
    # A value of two bytes takes up to 300 in the parser: hence `max_values`.
    most = 150 if name in ("empty objects", "deep again and again", "zeros") else 20
    assert peak(large) - peak(small) < most * (len(large) - len(small))


def test_a_body_is_not_kept() -> None:
    """Many requests take what their ids take."""
    small, large = (around(b"0", before=n) for n in (5_000, 10_000))
    intake = Intake(LIMITS.model_copy(update={"max_requests": 100_000}))

    tracemalloc.start()
    held = []
    for body in (small[:-2], b"," + re.sub(rb"r-|odd", b"s-", large.partition(b"[")[2])):
        for start in range(0, len(body), SLICE):
            intake.feed(body[start : start + SLICE])
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()

    assert intake.total == 15_002
    assert held[1] < 15_002 * 300
