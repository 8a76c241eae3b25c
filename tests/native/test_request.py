"""The model's name is exchanged in a request that is passed through, and nothing else."""

import json
import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.native.request import with_model
from tests.strategies import create_requests

type Json = dict[str, Any]


@pytest.mark.parametrize(
    ("raw", "sent"),
    [
        (b'{"model":"claude-x","a":1.0}', b'{"model":"upstream","a":1.0}'),
        (b' { "a" : 1e0 ,\n "model" : "claude-x" } ', b' { "a" : 1e0 ,\n "model" : "upstream" } '),
        (b'{"a":"\\"model\\":\\"x\\"","model":"claude-x"}', b'{"a":"\\"model\\":\\"x\\"","model":"upstream"}'),
        (b'{"model":"cl\\u0061ude-x"}', b'{"model":"upstream"}'),
        (b'{"model":"upstream", "a":1.0}', b'{"model":"upstream", "a":1.0}'),
    ],
    ids=["the first key", "white space", "quotes within text", "an escape", "the same name"],
)
def test_the_clients_bytes_are_kept_but_for_the_name(raw: bytes, sent: bytes) -> None:
    assert with_model(raw, orjson.loads(raw), "upstream") == sent


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"claude-x","tools":[{"model":"other"}]}',
        b'{"tools":[{"model":"other"}],"model":"claude-x"}',
        b'{"model":"claude-x","model":"claude-x"}',
        b'{"model":"claude-x","key":"model"}',
        b'{"mod\\u0065l":"claude-x","tools":[{"model":"other"}]}',
        b'{"mod\\u0065l":"claude-x"}',
    ],
)
def test_only_the_models_own_name_is_exchanged(raw: bytes) -> None:
    given = orjson.loads(raw)

    assert orjson.loads(with_model(raw, given, "upstream")) == {**given, "model": "upstream"}


@pytest.mark.parametrize("raw", [b'{"model":"secret","model":"mine"}', b'{"mod\\u0065l":"secret","model":"mine"}'])
@pytest.mark.parametrize("model", ["mine", "upstream"])
def test_a_second_name_never_reaches_the_upstream(raw: bytes, model: str) -> None:
    """Access was checked for the name that was read, and an upstream may read the other."""
    assert with_model(raw, orjson.loads(raw), model) == orjson.dumps({"model": model})


@pytest.mark.parametrize("model", ['with "quotes"', "back\\slash", "zürich/ü", "line\nfeed", "\\1"])
def test_any_name_can_be_put_in(model: str) -> None:
    raw = b'{"model":"claude-x","a":1}'

    assert orjson.loads(with_model(raw, orjson.loads(raw), model)) == {"model": model, "a": 1}


@given(create_requests(), st.booleans())
def test_nothing_but_the_name_changes_in_any_request(given: Json, spaced: bool) -> None:
    raw = json.dumps(given, indent=1 if spaced else None).encode()
    given = orjson.loads(raw)

    assert orjson.loads(with_model(raw, given, "upstream")) == {**given, "model": "upstream"}


def test_a_long_name_takes_memory_in_proportion() -> None:
    raw = b'{"model":"%s","messages":[]}' % (b'\\"a' * 300_000)
    given = orjson.loads(raw)
    tracemalloc.start()
    try:
        assert with_model(raw, given, "upstream") == b'{"model":"upstream","messages":[]}'
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * len(raw)
