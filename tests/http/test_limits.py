"""Limits of requests: each named, each refused by its path, and each kept by what Anthropic documents."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.config import RequestLimits
from llama_stack_messages_provider.errors import InvalidRequestError, MessagesError, RequestTooLargeError
from llama_stack_messages_provider.http import limits as module
from llama_stack_messages_provider.http.limits import check_head, check_request, parse_request
from tests.support.wire import Json

DEFAULT = RequestLimits()
SMALL = RequestLimits(
    max_header_bytes=500,
    max_header_value_bytes=100,
    max_url_bytes=50,
    max_depth=10,
    max_values=100,
    max_number_length=20,
    max_fields=8,
    max_model_characters=30,
    max_messages=5,
    max_blocks=7,
    max_tools=3,
    max_stop_sequences=2,
)


def asking(**more: Any) -> Json:
    return {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}], **more}


async def refusal(body: bytes | Json, limits: RequestLimits = SMALL) -> MessagesError:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    with pytest.raises(MessagesError) as caught:
        await parse_request(raw, limits)
    return caught.value


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


BLOCKS = [{"type": "text", "text": "a"}] * 4
TOO_MUCH: dict[str, tuple[Json, str]] = {
    "depth": (asking(x=deep(10)), "The request body is nested too deeply"),
    "fields": (asking(**{f"f{n}": 0 for n in range(6)}), "The request body should have at most 8 fields"),
    "model": (asking(model="m" * 31), "model: "),
    "messages": (asking(messages=asking()["messages"] * 6), "messages: "),
    "blocks": (asking(messages=[{"role": "user", "content": BLOCKS}] * 2), "messages.1.content: "),
    "tools": (asking(tools=[{}] * 4), "tools: "),
    "stop sequences": (asking(stop_sequences=["a"] * 3), "stop_sequences: "),
}


@pytest.mark.parametrize("name", TOO_MUCH)
async def test_what_is_beyond_a_limit_is_refused_by_its_path(name: str) -> None:
    body, words = TOO_MUCH[name]
    error = await refusal(body)
    assert isinstance(error, InvalidRequestError)
    assert error.message.startswith(words)


async def test_what_is_at_its_limit_passes() -> None:
    body = asking(
        model="m" * 30,
        x=deep(9),
        tools=[{}] * 3,
        stop_sequences=["a"] * 2,
        messages=[{"role": "user", "content": BLOCKS}, {"role": "user", "content": BLOCKS[:3]}],
    )
    assert await parse_request(orjson.dumps(body), SMALL) == body


async def test_anthropic_s_own_limits_are_taken() -> None:
    """100,000 messages; 32 MB of text, whatever is in it; 10,000 tools."""
    turn = {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
    for body in (
        asking(messages=[turn] * 100_000),
        asking(system='[{","}],\\' * 1_500_000),
        asking(tools=[{"name": f"t{n}", "input_schema": {"type": "object"}} for n in range(10_000)]),
    ):
        raw = orjson.dumps(body)
        assert len(raw) < DEFAULT.body_bytes
        assert len(await parse_request(raw, DEFAULT)) == len(body)


# --- before anything is parsed ---

DENSE: dict[str, bytes] = {
    "objects": b"{},",
    "arrays": b"[],",
    "arrays of one": b"[0],",
    "objects of one": b'{"a":0},',
    "numbers": b"9,",
    "texts": b'"a",',
    "texts of quotes": b'"\\"",',
    "backslashes": b'"\\\\",',
}


@pytest.mark.parametrize("name", DENSE)
async def test_a_body_of_the_largest_size_takes_less_than_ten_times_its_size(name: str) -> None:
    """30 MB of `{},` took 850 MB while they were there."""
    unit = DENSE[name]
    body = b'{"x":[' + unit * (DEFAULT.body_bytes // 2 // len(unit)) + b"0]}"
    tracemalloc.start()
    try:
        error = await refusal(body, DEFAULT)
        assert isinstance(error, RequestTooLargeError)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["objects of one", "arrays of one", "texts"])
async def test_as_many_values_as_are_allowed_take_less_than_ten_times_the_largest_size(name: str) -> None:
    unit = DENSE[name]
    values = sum(unit.count(mark) for mark in (b",", b"[", b"{"))
    body = b'{"x":[' + unit * (DEFAULT.max_values // values - 2) + b"0]}"
    tracemalloc.start()
    try:
        await parse_request(body, DEFAULT)
        assert tracemalloc.get_traced_memory()[1] < 10 * DEFAULT.body_bytes
    finally:
        tracemalloc.stop()


async def test_what_is_in_a_string_is_no_value_wherever_the_pieces_end(monkeypatch: pytest.MonkeyPatch) -> None:
    text = '[{,\\"' * 40 + "\\" * 7 + "9" * 40
    raw = orjson.dumps(asking(system=text, tail=[text, "\\", '"', "\\\\"]))
    for step in range(1, 40):
        monkeypatch.setattr(module, "_STEP", step)
        assert (await parse_request(raw, SMALL))["system"] == text
    crowded = orjson.dumps(asking(system=text, x=[0] * 100))
    long = raw[:-1] + b',"x":' + b"1" * 21 + b"}"
    for step in range(1, 40):
        monkeypatch.setattr(module, "_STEP", step)
        assert isinstance(await refusal(crowded), RequestTooLargeError)
        assert "20 digits" in (await refusal(long)).message


@given(st.recursive(st.none() | st.text('a",{[\\') | st.integers(0, 9), lambda each: st.lists(each, max_size=5)))
def test_values_are_counted_as_they_are(value: Any) -> None:
    raw = orjson.dumps(value)

    def count(value: Any) -> int:
        if not isinstance(value, list):
            return 0
        return 1 + max(0, len(value) - 1) + sum(map(count, value))

    outside = b"".join(module._outside_strings(raw))
    assert sum(outside.count(mark) for mark in (b",", b"[", b"{")) == count(value)


@pytest.mark.parametrize("length", [19, 20, 21, 22, 43, 4000])
@pytest.mark.parametrize("before", range(25))
async def test_long_numbers_are_found_wherever_they_are(length: int, before: int) -> None:
    raw = b'{"x":"%s","y":0.%s}' % (b"x" * before, b"1" * length)
    if length > 20:
        assert "20 digits" in (await refusal(raw)).message
    else:
        assert await parse_request(raw, SMALL)


async def test_long_numbers_in_texts_are_texts() -> None:
    body = asking(system="9" * 10_000)
    assert await parse_request(orjson.dumps(body), DEFAULT) == body


# --- heads ---

HEADS: dict[str, tuple[int, list[tuple[bytes, bytes]], int]] = {
    "a URL": (51, [], 413),
    "many headers": (1, [(b"a", b"b")] * 100, 413),
    "a long header": (1, [(b"a", b"b" * 500)], 413),
    "a long beta": (1, [(b"anthropic-beta", b"b" * 101)], 400),
    "the second of two": (1, [(b"anthropic-beta", b"b" * 101), (b"anthropic-beta", b"b")], 400),
    "no ASCII": (1, [(b"anthropic-version", b"\xff")], 400),
}
PROVIDER_DATA: dict[str, bytes] = {
    "no JSON": b"{",
    "an array": b"[1]",
    "a text": b'"x"',
    "null": b"null",
    "deep": b'{"a":' * 200 + b"[" * 200 + b"]" * 200 + b"}" * 200,
    "a number of many digits": b'{"a":' + b"1" * 5000 + b"}",
    "a line feed": b'{"openai_api_key":"a\\nb"}',
    "a zero, deep down": b'{"a":[{"b":["\\u0000"]}]}',
    "a control character in a name": b'{"a\\u0007":1}',
    "half a character": b'{"a":"\\ud800"}',
    "a key that is no ASCII": '{"vllm_api_token":"é"}'.encode(),
    "the host's own user": b'{"__authenticated_user":"ann"}',
    "bytes": b"\xff\xfe",
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_have_limits(name: str) -> None:
    url_bytes, headers, status = HEADS[name]
    with pytest.raises(MessagesError) as caught:
        check_head(url_bytes, headers, SMALL)
    assert caught.value.status == status


@pytest.mark.parametrize("name", PROVIDER_DATA)
def test_provider_data_that_would_break_its_readers_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"^x-llamastack-provider-data"):
        check_head(1, [(b"x-llamastack-provider-data", PROVIDER_DATA[name])], DEFAULT)


@pytest.mark.parametrize("value", [b"", b"{}", b'{"openai_api_key":"sk-1","who":"\xc3\xa9","n":[1,{"a":null}]}'])
def test_other_provider_data_passes(value: bytes) -> None:
    check_head(1, [(b"x-llamastack-provider-data", value)], DEFAULT)


SHAPES: dict[str, Callable[[Any], Json]] = {
    "model": lambda value: asking(model=value),
    "messages": lambda value: asking(messages=value),
    "content": lambda value: asking(messages=[{"content": value}]),
    "tools": lambda value: asking(tools=value),
    "stop_sequences": lambda value: asking(stop_sequences=value),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("value", [None, 7, "x" * 20, {}, [], [None, "x"]])
def test_shapes_are_judged_elsewhere(name: str, value: Any) -> None:
    check_request(SHAPES[name](value), SMALL)
