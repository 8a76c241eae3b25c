"""Values of upstreams whose texts are cut within a character."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.wire.lenient_json import JSONReader, read_json
from tests.strategies import json_objects


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (rb'{"a": "\ud83d\ude00"}', {"a": "😀"}),
        (rb'{"a": "x\ud83d"}', {"a": "x"}),
        (rb'{"a": "x\ud83dy", "b": "\ude00"}', {"a": "x\ufffdy", "b": "\ufffd"}),
        (rb'{"a": "\ude00\ud83d"}', {"a": "\ufffd"}),
        (rb'{"a": "\ud83d\ud83d\ude00"}', {"a": "\ufffd😀"}),
        (rb'{"a": "\\ud83d", "b": "\uDE00"}', {"a": "\\ud83d", "b": "\ufffd"}),
        (b'{"a": "\xf0\x9f\x98"}', {"a": "\ufffd"}),
    ],
)
def test_what_is_half_a_character_breaks_nothing(data: bytes, value: Any) -> None:
    assert read_json(data) == value


@pytest.mark.parametrize("data", [b"", b"{", b'{"a": "\\ud83d"', b"\xff", b"nul"])
def test_what_is_not_json_is_told(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_json(data)


def test_halves_in_two_values_are_one_character() -> None:
    reader = JSONReader()
    assert [reader.read(data) for data in (rb'{"t": "Hi \ud83d"}', b'{"t": ""}', rb'{"t": "\ude00 you"}')] == [
        {"t": "Hi "},
        {"t": ""},
        {"t": "😀 you"},
    ]
    assert reader.read(rb'{"t": "\ude00"}') == {"t": "\ufffd"}


@given(json_objects())
def test_what_is_whole_is_read_as_it_is(value: Any) -> None:
    assert read_json(orjson.dumps(value)) == value


@given(st.text(st.sampled_from('a\\"\ud83d\ude00\u00e9'), max_size=9))
def test_any_text_with_halves_is_read_without_them(text: str) -> None:
    import json

    read = read_json(json.dumps({"t": text}).encode())["t"]
    assert orjson.loads(orjson.dumps(read)) == read
