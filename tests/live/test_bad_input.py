"""Broken bodies over the real host: none gives a 5xx, and every refusal has Anthropic's shape.

The upstreams answer 200 to whatever reaches them, so that every refusal here is the server's own.
"""

import copy
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Fleet
from tests.strategies import create_requests, json_values
from tests.support.upstream import (
    RecordedRequest,
    Reply,
    anthropic_message,
    anthropic_stream,
    chat_reply,
    encode_events,
    json_reply,
    stream_reply,
)
from tests.support.wire import Json

NATIVE = "vllm/vllm-model"
TRANSLATED = "openai/openai-model"
MENDED = "llamacpp/llamacpp-model"
ANTHROPIC = "anthropic/anthropic-model"
MODELS = (NATIVE, TRANSLATED, MENDED, ANTHROPIC)

PATHS = ("/v1/messages", "/v1/messages/count_tokens", "/v1/v1/messages", "/v1/v1/messages/count_tokens")
MESSAGES, COUNT = PATHS[:2]

ERROR_TYPES = {400: "invalid_request_error", 404: "not_found_error", 413: "request_too_large"}

Place = tuple[str | int, ...]


def greet(request: RecordedRequest) -> Reply:
    """A message to whatever was asked."""
    message = anthropic_message("Hello")
    streamed = isinstance(request.json, dict) and request.json.get("stream")
    return stream_reply(encode_events(anthropic_stream(message))) if streamed else json_reply(message)


@pytest.fixture(scope="module")
def _known(_fleet: Fleet) -> None:
    """The upstreams are known before they begin to answer everything."""
    _fleet.forget()
    for model in MODELS:
        answer = httpx.post(f"{_fleet.base_url}{MESSAGES}", json={**PLAIN, "model": model}, timeout=60)
        assert answer.headers["x-messages-route"] == ("translation" if model == TRANSLATED else "native")


@pytest.fixture
def http(_known: None, fleet: Fleet) -> Iterator[httpx.Client]:
    for name in ("vllm", "llamacpp", "anthropic"):
        fleet.upstreams[name].reply(MESSAGES, greet)
        fleet.upstreams[name].reply(COUNT, json_reply({"input_tokens": 7}))
    fleet.upstreams["openai"].reply("/v1/chat/completions", chat_reply("Hello"))
    # The server closes connections that are idle for five seconds; Hypothesis may think for longer.
    limits = httpx.Limits(keepalive_expiry=2)
    with httpx.Client(base_url=fleet.base_url, timeout=60, limits=limits) as http:
        yield http


def error_of(answer: httpx.Response) -> Json:
    """The error that an answer is, its shape checked; `{}` if it is none."""
    assert answer.status_code < 500, answer.text
    assert answer.headers["request-id"].startswith("req_")
    if answer.status_code == 200:
        return {}
    body = answer.json()
    assert body.keys() == {"type", "error", "request_id"}
    assert body["type"] == "error"
    assert body["request_id"] == answer.headers["request-id"]
    assert body["error"].keys() == {"type", "message"}
    assert body["error"]["type"] == ERROR_TYPES[answer.status_code]
    assert body["error"]["message"]
    found: Json = body["error"]
    return found


# --- no JSON object ---

RICH: Json = {
    "model": TRANSLATED,
    "max_tokens": 100,
    "system": [{"type": "text", "text": "Be terse.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look:"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
                {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
                {
                    "type": "document",
                    "source": {"type": "text", "media_type": "text/plain", "data": "Some text."},
                    "title": "A title",
                    "citations": {"enabled": False},
                },
                {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "x"}]},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "abc"},
                {"type": "redacted_thinking", "data": "abc"},
                {"type": "text", "text": "I see."},
                {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": ["sky"]}},
                {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "sky"}},
                {
                    "type": "web_search_tool_result",
                    "tool_use_id": "srvtoolu_1",
                    "content": [{"type": "web_search_result", "url": "u", "title": "t", "encrypted_content": "e"}],
                },
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "is_error": True,
                    "content": [{"type": "text", "text": "Clouds."}],
                }
            ],
        },
        {"role": "system", "content": "Now shout.", "output_config": {"effort": "low"}},
        {"role": "assistant", "content": "OK"},
        {"role": "user", "content": "So?"},
    ],
    "tools": [
        {
            "name": "look",
            "description": "Look at something.",
            "input_schema": {"type": "object", "properties": {"at": {"type": "array"}}, "required": ["at"]},
        },
        {"type": "bash_20250124", "name": "bash"},
    ],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "stop_sequences": ["END"],
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 5,
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
    "metadata": {"user_id": "ann"},
    "stream": False,
}

GOOD = orjson.dumps(RICH)
HEAD = b'{"model":"%s","max_tokens":9,"messages":' % TRANSLATED.encode()
DEEP = 100_000

NO_JSON: dict[str, bytes] = {
    "nothing": b"",
    "white space": b" \n\t ",
    "a word": b"hello",
    "a string": b'"hello"',
    "null": b"null",
    "true": b"true",
    "a number": b"7",
    "an array": b"[]",
    "an array of bodies": b"[" + GOOD + b"]",
    "half a body": GOOD[: len(GOOD) // 2],
    "an open string": b'{"model": "x',
    "a trailing comma": b'{"model":"x",}',
    "single quotes": b"{'model':'x'}",
    "a comment": b'{"model":"x"/* hm */}',
    "two bodies": GOOD + GOOD,
    "something behind the body": GOOD + b"x",
    "no colon": b'{"model" "x"}',
    "no quotes": b'{model:"x"}',
    "NaN": HEAD + b'[{"role":"user","content":"Hi"}],"temperature":NaN}',
    "Infinity": HEAD + b'[{"role":"user","content":"Hi"}],"temperature":Infinity}',
    "minus Infinity": HEAD + b'[{"role":"user","content":"Hi"}],"top_p":-Infinity}',
    "a number that is too large": HEAD + b'[{"role":"user","content":"Hi"}],"temperature":1e400}',
    "a leading zero": HEAD + b'[],"top_k":007}',
    "a bare surrogate": HEAD + b'[{"role":"user","content":"\\ud800"}]}',
    "a reversed pair": HEAD + b'[{"role":"user","content":"\\udc00\\ud800"}]}',
    "half a pair": HEAD + b'[{"role":"user","content":"\\ud83d"}]}',
    "a surrogate in a key": b'{"\\udfff":1}',
    "an encoded surrogate": HEAD + b'[{"role":"user","content":"\xed\xa0\x80"}]}',
    "invalid UTF-8": HEAD + b'[{"role":"user","content":"\xff\xfe"}]}',
    "cut UTF-8": HEAD + b'[{"role":"user","content":"\xc3"}]}',
    "overlong UTF-8": HEAD + b'[{"role":"user","content":"\xc0\xaf"}]}',
    "Latin-1": HEAD + '[{"role":"user","content":"café"}]}'.encode("latin-1"),
    "UTF-16": GOOD.decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "a control character": HEAD + b'[{"role":"user","content":"a\x00b"}]}',
    "a line feed in a string": HEAD + b'[{"role":"user","content":"a\nb"}]}',
    "an unknown escape": HEAD + b'[{"role":"user","content":"\\x41"}]}',
    "a short escape": HEAD + b'[{"role":"user","content":"\\u12"}]}',
    "binary": bytes(range(256)),
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    "a form": b"model=x&max_tokens=7",
    "a multipart form": b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nx\r\n--x--\r\n',
    "XML": b"<model>x</model>",
    "arrays without an end": HEAD + b"[" * DEEP,
    "arrays, very deep": HEAD + b"[" * DEEP + b"]" * DEEP + b"}",
    "objects, very deep": HEAD + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
}


@pytest.mark.parametrize("name", NO_JSON)
def test_what_is_no_json_object_is_refused(http: httpx.Client, name: str) -> None:
    for path in PATHS:
        error = error_of(http.post(path, content=NO_JSON[name], headers={"content-type": "application/json"}))
        assert error["message"].startswith("The request body is not ")


CONTENT_TYPES = (None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x")


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
def test_the_body_counts_and_not_its_content_type(http: httpx.Client, content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    for path in PATHS:
        assert error_of(http.post(path, content=GOOD, headers=headers)) == {}
        assert error_of(http.post(path, content=b"{", headers=headers))


# --- a JSON object that is no request ---


def deep(levels: int, leaf: Any = "x") -> Any:
    """Arrays within arrays."""
    for _ in range(levels):
        leaf = [leaf]
    return leaf


def results(levels: int) -> Any:
    """Tool results within tool results."""
    content: Any = "x"
    for _ in range(levels):
        content = [{"type": "tool_result", "tool_use_id": "toolu_1", "content": content}]
    return content


def user(content: Any) -> list[Json]:
    return [{"role": "user", "content": content}]


WRONG: dict[str, tuple[Json, str]] = {
    # The fields that change, and the path that is named; "" where a model may go its own way.
    "no model": ({"model": ...}, "model"),
    "model null": ({"model": None}, "model"),
    "model a number": ({"model": 7}, "model"),
    "model an object": ({"model": {}}, "model"),
    "model empty": ({"model": ""}, "model"),
    "model unknown": ({"model": "no-such-model"}, "model"),
    "model with a slash": ({"model": "nobody/nothing"}, "model"),
    "model a provider": ({"model": "openai/"}, "model"),
    "model a slash": ({"model": "/"}, "model"),
    "model with odd characters": ({"model": "\x00\n\r\u2028[*]?"}, "model"),
    "model very long": ({"model": "x" * 100_000}, "model"),
    "no messages": ({"messages": ...}, "messages"),
    "messages null": ({"messages": None}, "messages"),
    "messages a string": ({"messages": "Hello"}, "messages"),
    "messages an object": ({"messages": {"role": "user", "content": "Hello"}}, "messages"),
    "messages a number": ({"messages": 1}, "messages"),
    "no messages at all": ({"messages": []}, "messages"),
    "a way of thinking that nobody knows": ({"thinking": {"type": "dreaming"}}, "thinking.type"),
    "tools a string": ({"tools": "look"}, "tools"),
}
TRANSLATED_WRONG: dict[str, tuple[Json, str]] = {
    "a message null": ({"messages": [None]}, "messages.0"),
    "a message a string": ({"messages": ["Hello"]}, "messages.0"),
    "a message an array": ({"messages": [[]]}, "messages.0"),
    "a message empty": ({"messages": [{}]}, "messages.0"),
    "no role": ({"messages": [{"content": "Hi"}]}, "messages.0.role"),
    "role null": ({"messages": [{"role": None, "content": "Hi"}]}, "messages.0.role"),
    "role unknown": ({"messages": [{"role": "tool", "content": "Hi"}]}, "messages.0.role"),
    "role an array": ({"messages": [{"role": ["user"], "content": "Hi"}]}, "messages.0.role"),
    "no content": ({"messages": [{"role": "user"}]}, "messages.0.content"),
    "content null": ({"messages": user(None)}, "messages.0.content"),
    "content a number": ({"messages": user(7)}, "messages.0.content"),
    "content an object": ({"messages": user({"type": "text", "text": "Hi"})}, "messages.0.content"),
    "content nothing": ({"messages": user([])}, "messages"),
    "a block null": ({"messages": user([None])}, "messages.0.content.0"),
    "a block a string": ({"messages": user(["Hi"])}, "messages.0.content.0"),
    "a block empty": ({"messages": user([{}])}, "messages.0.content.0"),
    "type a number": ({"messages": user([{"type": 7}])}, "messages.0.content.0.type"),
    "type an array": ({"messages": user([{"type": []}])}, "messages.0.content.0.type"),
    "no text": ({"messages": user([{"type": "text"}])}, "messages.0.content.0.text"),
    "text a number": ({"messages": user([{"type": "text", "text": 7}])}, "messages.0.content.0.text"),
    "no source": ({"messages": user([{"type": "image"}])}, "messages.0.content.0.source"),
    "source a string": ({"messages": user([{"type": "image", "source": "x"}])}, "messages.0.content.0.source"),
    "no data": (
        {"messages": user([{"type": "image", "source": {"type": "base64", "media_type": "image/png"}}])},
        "messages.0.content.0.source.data",
    ),
    "no url": (
        {"messages": user([{"type": "image", "source": {"type": "url"}}])},
        "messages.0.content.0.source.url",
    ),
    "no tool_use_id": ({"messages": user([{"type": "tool_result"}])}, "messages.0.content.0.tool_use_id"),
    "no input": (
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b"}]}]},
        "messages.0.content.0.input",
    ),
    "the second message": ({"messages": [*user("Hi"), {"role": "user"}]}, "messages.1.content"),
    "max_tokens a string": ({"max_tokens": "9"}, "max_tokens"),
    "max_tokens a fraction": ({"max_tokens": 1.5}, "max_tokens"),
    "max_tokens negative": ({"max_tokens": -1}, "max_tokens"),
    "max_tokens null": ({"max_tokens": None}, "max_tokens"),
    "max_tokens true": ({"max_tokens": True}, "max_tokens"),
    "max_tokens beyond 64 bits": ({"max_tokens": 1e30}, "max_tokens"),
    "no max_tokens": ({"max_tokens": ...}, "max_tokens"),
    "temperature a string": ({"temperature": "hot"}, "temperature"),
    "temperature too high": ({"temperature": 1.5}, "temperature"),
    "temperature negative": ({"temperature": -0.1}, "temperature"),
    "top_p too high": ({"top_p": 2}, "top_p"),
    "top_k negative": ({"top_k": -1}, "top_k"),
    "top_k a fraction": ({"top_k": 0.5}, "top_k"),
    "stop_sequences a string": ({"stop_sequences": "END"}, "stop_sequences"),
    "a stop sequence null": ({"stop_sequences": ["END", None]}, "stop_sequences.1"),
    "system a number": ({"system": 7}, "system"),
    "system an object": ({"system": {"type": "text", "text": "Hi"}}, "system"),
    "a system block without text": ({"system": [{"type": "text"}]}, "system.0.text"),
    "tools an object": ({"tools": {"name": "look"}}, "tools"),
    "a tool null": ({"tools": [None]}, "tools.0"),
    "a tool without a name": ({"tools": [{"input_schema": {"type": "object"}}]}, "tools.0.name"),
    "a tool whose schema is a string": ({"tools": [{"name": "a", "input_schema": "x"}]}, "tools.0.input_schema"),
    "tool_choice a string": ({"tool_choice": "auto"}, "tool_choice"),
    "tool_choice without a type": ({"tool_choice": {}}, "tool_choice"),
    "a chosen tool without a name": ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
    "thinking a string": ({"thinking": "hard"}, "thinking"),
    "thinking true": ({"thinking": True}, "thinking"),
    "no budget": ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    "metadata a string": ({"metadata": "ann"}, "metadata"),
    "user_id a number": ({"metadata": {"user_id": 7}}, "metadata.user_id"),
    "stream a string": ({"stream": "yes"}, "stream"),
    "stream a number": ({"stream": 1}, "stream"),
    "output_config a string": ({"output_config": "json"}, "output_config"),
    "a format without a schema": ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format"),
}

PLAIN: Json = {"model": TRANSLATED, "max_tokens": 9, "messages": user("Hello")}


def changed(changes: Json, **base: Any) -> Json:
    return {name: value for name, value in {**PLAIN, **base, **changes}.items() if value is not ...}


@pytest.mark.parametrize("name", WRONG)
def test_what_every_route_needs_is_asked_for_by_its_path(http: httpx.Client, name: str) -> None:
    changes, named = WRONG[name]
    for model in MODELS:
        for path in PATHS:
            error = error_of(http.post(path, json=changed(changes, model=model)))
            assert error["message"].startswith(f"{named}: ")


@pytest.mark.parametrize("name", TRANSLATED_WRONG)
def test_a_wrong_field_is_named_by_its_path(http: httpx.Client, name: str) -> None:
    changes, named = TRANSLATED_WRONG[name]
    error = error_of(http.post(MESSAGES, json=changed(changes)))
    assert error["message"].startswith((f"{named}: ", f"{named}."))
    # Native requests are their upstream's to judge, and a count needs less: no crash is all that is asked.
    for model in MODELS:
        for path in PATHS:
            error_of(http.post(path, json=changed(changes, model=model)))


LINE = "x-anthropic-billing-header: cc_version=2.1.0; cch=00000;"
ODD: dict[str, Json] = {
    "arrays, 200 deep": {"messages": user(deep(200))},
    "arrays, 300 deep": {"extra": deep(300)},
    "arrays, 1000 deep": {"extra": deep(1000)},
    "input, 200 deep": {
        "messages": [
            {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": {"x": deep(200)}}]}
        ]
    },
    "input, 1000 deep": {
        "messages": [
            {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": {"x": deep(980)}}]}
        ]
    },
    "a schema, 1000 deep": {"tools": [{"name": "a", "input_schema": {"type": "object", "x": deep(980)}}]},
    "tool results, 100 deep": {"messages": user(results(100))},
    "tool results, 500 deep": {"messages": user(results(500))},
    "an unknown block, 900 deep": {"messages": user([{"type": "new", "x": deep(900)}])},
    "a server's result, 900 deep": {
        "messages": [
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": [
                    {"type": "web_search_tool_result", "tool_use_id": "a", "content": {"type": "x", "y": deep(900)}}
                ],
            },
        ]
    },
    "1000 messages": {"messages": user("Hi") * 1000},
    "many empty blocks": {"messages": user([{"type": "text", "text": ""}] * 500)},
    "a million characters": {"messages": user("x" * 1_000_000)},
    "keys of all kinds": {
        "": 1,
        "__class__": {},
        "self": [],
        "model_dump": "x",
        "messages.0": 7,
        "\x00\x1f\r\n\x7f\u2028é": 1,
    },
    "a key of 100,000 characters": {"x" * 100_000: 1},
    "10,000 keys": {f"key{n}": n for n in range(10_000)},
    "numbers at the edge": {"extra": [2**63 - 1, 2**64 - 1, -(2**63), 1e308, -0.0, 5e-324], "top_k": 2**62},
    "control characters": {"messages": user("\x00\x01\x1b[31m\x7f\u0085\u2028\u2029\ufeff\uffff")},
    "odd ids": {
        "messages": [
            {"role": "assistant", "content": [{"type": "tool_use", "id": "\n", "name": "\x00", "input": {}}]},
            *user([{"type": "tool_result", "tool_use_id": "\n", "content": "x"}]),
        ]
    },
    # What is rewritten on the native route, in shapes that it does not expect.
    "a client's line in an odd system": {
        "system": [None, 7, {"type": "text", "text": LINE}, {"type": "text", "text": [LINE]}, [LINE]]
    },
    "a client's line as an object": {"system": {"type": "text", "text": LINE}},
    "errors in odd places": {
        "messages": [
            *user([{"type": "tool_result", "is_error": True, "content": 7}, None, "is_error", {"is_error": True}]),
            *user([{"type": "tool_result", "is_error": True, "content": [None, 7]}, {"type": ["tool_result"]}]),
            *user([{"type": "tool_result", "is_error": 1, "tool_use_id": {}}]),
            *user({"type": "tool_result", "is_error": True}),
            None,
            [],
        ]
    },
    "our signatures in odd places": {
        "messages": [
            {"role": "assistant", "content": [{"type": "thinking", "signature": "lsm1.x"}]},
            {"role": "assistant", "content": [{"type": "thinking", "signature": ["lsm1.x"]}, None, "lsm1.x"]},
            {"role": "assistant", "content": {"type": "thinking", "signature": "lsm1.x"}},
            "lsm1.x",
            None,
        ]
    },
    "our searches in odd places": {
        "messages": [
            {
                "role": "assistant",
                "content": [{"type": "web_search_tool_result", "content": content, "tool_use_id": []}],
            }
            for content in ([{"encrypted_content": "lst1."}], [None, {"encrypted_content": ["lst1."]}], "lst1.", {})
        ]
    },
    "a result without a call": {"messages": user([{"type": "tool_result", "tool_use_id": "toolu_9"}])},
    "the same id twice": {
        "messages": [
            {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": {}}] * 2},
            *user([{"type": "tool_result", "tool_use_id": "a", "content": "x"}] * 3),
        ]
    },
    "an image that is none": {
        "messages": user([{"type": "image", "source": {"type": "base64", "media_type": "text/plain", "data": "%%"}}])
    },
    "a PDF that is none": {
        "messages": user(
            [{"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="}}]
        )
    },
    "a PDF in broken base64": {
        "messages": user(
            [{"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "a"}}]
        )
    },
    "a file": {"messages": user([{"type": "document", "source": {"type": "file", "file_id": "file_1"}}])},
    "a URL that is none": {"messages": user([{"type": "image", "source": {"type": "url", "url": "not a url"}}])},
    "tools of the same name": {"tools": [{"name": "a", "input_schema": {"type": "object"}}] * 2},
    "a chosen tool that is not there": {"tool_choice": {"type": "tool", "name": "nope"}},
    "a choice without tools": {"tool_choice": {"type": "any"}},
    "a schema that is none": {"tools": [{"name": "a", "input_schema": {"type": 7, "$ref": "#/nowhere"}}]},
    "a tool's name of a thousand characters": {"tools": [{"name": "a" * 1000, "input_schema": {"type": "object"}}]},
    "a tool whose name is an array": {"tools": [{"type": "code_execution_20250522", "name": []}]},
    "a thousand tools": {"tools": [{"name": f"t{n}", "input_schema": {"type": "object"}} for n in range(1000)]},
    "empty stop sequences": {"stop_sequences": ["", " "]},
    "unknown roles": {"messages": [{"role": "developer", "content": "Hi"}]},
    "only an assistant": {"messages": [{"role": "assistant", "content": "Hi"}]},
    "only a system message": {"messages": [{"role": "system", "content": "Hi"}]},
    "an old format without a schema": {"output_format": {"type": "json_schema"}},
    "all of it null": dict.fromkeys(RICH.keys() - PLAIN.keys()),
    "a budget above the limit": {"thinking": {"type": "enabled", "budget_tokens": 10**15}},
    "no tokens": {"max_tokens": 0},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_bodies_crash_nothing(http: httpx.Client, name: str) -> None:
    for model in MODELS:
        for path in PATHS[:2]:
            error_of(http.post(path, content=orjson_or_json(changed(ODD[name], model=model))))


def orjson_or_json(value: Any) -> bytes:
    """orjson writes no more than 254 levels."""
    try:
        return orjson.dumps(value)
    except TypeError:
        import json

        return json.dumps(value).encode()


DUPLICATES = (
    b'{"model":"nope","model":"%s","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}',
    b'{"messages":7,"model":"%s","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}',
    b'{"max_tokens":"x","model":"%s","max_tokens":9,"messages":[{"role":"user","role":"user","content":"Hi"}]}',
)


@pytest.mark.parametrize("raw", DUPLICATES)
def test_of_two_keys_the_last_one_counts(http: httpx.Client, raw: bytes) -> None:
    for model in MODELS:
        assert error_of(http.post(MESSAGES, content=raw % model.encode())) == {}


# --- heads, limits and names ---


@pytest.mark.parametrize("name", ["Model", "\u017ftream", "TOOLS"])
def test_a_name_that_differs_by_case_reaches_nobody(http: httpx.Client, fleet: Fleet, name: str) -> None:
    for model in MODELS:
        for path in PATHS:
            seen = sum(len(upstream.requests) for upstream in fleet.upstreams.values())
            error = error_of(http.post(path, json={**PLAIN, "model": model, name: "vllm/other"}))
            assert error["message"].startswith(f"{name}: ")
            assert sum(len(upstream.requests) for upstream in fleet.upstreams.values()) == seen


BROKEN_DATA = (b"[1]", b"7", b'{"vllm_api_token":"a\\nb"}', b"{", b"\xff", b'{"__authenticated_user":1}', b"[" * 5000)


@pytest.mark.parametrize("value", BROKEN_DATA)
def test_broken_provider_data_is_refused(http: httpx.Client, value: bytes) -> None:
    for path in PATHS:
        error = error_of(http.post(path, json=PLAIN, headers={b"x-llamastack-provider-data": value}))
        assert error["message"].startswith("x-llamastack-provider-data")


def test_headers_in_latin_1_are_taken(http: httpx.Client) -> None:
    assert error_of(http.post(MESSAGES, json=PLAIN, headers={b"user-agent": b"caf\xe9", b"x-y": b"\xff\xfe"})) == {}


def test_every_answer_names_its_version(http: httpx.Client) -> None:
    for body in (PLAIN, {}, {**PLAIN, "stream": True}):
        for path in (*PATHS, "/v1/messages/nope"):
            assert http.post(path, json=body).headers.get_list("anthropic-version") == ["2023-06-01"]
            headers = {"anthropic-version": "2024-01-31"}
            assert http.post(path, json=body, headers=headers).headers["anthropic-version"] == "2024-01-31"


def test_a_body_of_too_many_values_is_too_large(http: httpx.Client) -> None:
    answer = http.post(MESSAGES, content=HEAD + b"[" + b"{}," * 1_000_000 + b"0]}")
    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "request_too_large")


# --- below the routes ---


def raw(fleet: Fleet, *pieces: bytes) -> bytes:
    """What comes back on a connection of its own until it is closed, or the server has heard it all."""
    with socket.create_connection(("127.0.0.1", fleet.stack.port), timeout=60) as connection:
        for piece in pieces:
            connection.sendall(piece)
        found = b""
        while (data := connection.recv(65536)) and b"}" not in found:
            found += data
        return found + data


def told(answer: bytes) -> tuple[int, str]:
    head, body = answer.split(b"\r\n\r\n", 1)
    error = orjson.loads(body)
    assert error["request_id"].encode() in head
    assert b"anthropic-version: 2023-06-01" in head
    return int(head.split()[1]), error["error"]["type"]


ILL_HTTP = {
    "no length": b"POST /v1/messages HTTP/1.1\r\ncontent-length: x\r\n\r\n",
    "a broken header": b"POST /v1/v1/messages HTTP/1.1\r\nhost\x00: x\r\n\r\n",
    "a broken version": b"POST /v1/messages/batches HTTP/9\r\n\r\n",
}


@pytest.mark.parametrize("name", ILL_HTTP)
def test_what_is_no_http_is_told_so_in_anthropic_s_shape(fleet: Fleet, name: str) -> None:
    assert told(raw(fleet, ILL_HTTP[name])) == (400, "invalid_request_error")
    other = ILL_HTTP[name].replace(b"messages", b"models")
    assert b"text/plain" in raw(fleet, other[:-2] + b"}\r\n\r\n")


HEADERS = {
    "many lines": b"a: b\r\n" * 20_000,
    "a line": b"a: " + b"x" * 200_000 + b"\r\n",
    "a name": b"x" * 200_000 + b": a\r\n",
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_head_that_is_too_large_is_refused_whether_it_ends_or_not(fleet: Fleet, name: str) -> None:
    start = b"GET /v1/messages/batches HTTP/1.1\r\n"
    for end in (b"", b"\r\n"):
        assert told(raw(fleet, start + HEADERS[name] + end)) == (413, "request_too_large")
    url = b"GET /v1/messages/batches?" + b"x" * 200_000
    for end in (b"", b" HTTP/1.1\r\n\r\n"):
        assert told(raw(fleet, url + end)) == (413, "request_too_large")


def test_headers_without_an_end_cost_no_memory(fleet: Fleet) -> None:
    """400 MB of them took 650 MB, before authentication. A fifth of that is enough to see it."""
    before = peak(fleet)
    for path in (b"/v1/messages", b"/v1/models"):
        pieces = [b"a: bcdefgh\r\n" * 100_000] * 64
        with suppress(OSError):
            raw(fleet, b"GET " + path + b" HTTP/1.1\r\n", *pieces)
    trailers = b"POST /v1/messages HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    with suppress(OSError):
        raw(fleet, trailers, *[b"a: bcdefgh\r\n" * 100_000] * 64)
    assert peak(fleet) - before < 60_000


def peak(fleet: Fleet) -> int:
    """The most memory that the server ever had, in KiB."""
    status = Path(f"/proc/{fleet.stack.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


# --- every field, every wrong type ---

SUBSTITUTES: tuple[Any, ...] = (None, True, -7, 1.5, "", "x", [], [None], {}, {"type": 7}, {"type": []}, {"type": "x"})


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """The paths of all values within a value."""
    if at:
        yield at
    if isinstance(value, dict):
        for key, each in value.items():
            yield from places(each, (*at, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from places(each, (*at, index))


def spoiled(body: Any, at: Place, value: Any) -> Json:
    whole = copy.deepcopy(body)
    target = whole
    for part in at[:-1]:
        target = target[part]
    target[at[-1]] = value
    found: Json = whole
    return found


PATH = re.compile(r"([a-z_]+(?:\.[\w$-]+)*): ")


def names(message: str, at: Place) -> bool:
    """Whether a message speaks of the spoiled place, of what holds it or of what is in it.

    Another type asks for other fields beside it, and a choice of tools is wrong where there are none.
    """
    found = PATH.match(message)
    if found is None:
        return False
    named, spoiled_at = found[1].split("."), [str(part) for part in at if part != "type"]
    if at[0] == "tools" and named == ["tool_choice"]:
        return True
    shared = min(len(named), len(spoiled_at))
    return named[:shared] == spoiled_at[:shared]


@pytest.mark.parametrize("top", sorted(RICH))
def test_any_value_in_any_place_is_taken_or_named(http: httpx.Client, top: str) -> None:
    wrong = []
    for at in places({top: RICH[top]}):
        for value in SUBSTITUTES:
            body = spoiled(RICH, at, value)
            error = error_of(http.post(MESSAGES, json=body))
            if error and not names(error["message"], at):
                wrong.append((".".join(map(str, at)), value, error["message"]))
            if at != ("model",):
                error_of(http.post(MESSAGES, json={**body, "model": MENDED}))
    assert not wrong


# --- anything else ---


@st.composite
def broken_requests(draw: st.DrawFn) -> bytes:
    """A valid request with a few values replaced by anything, and sometimes its bytes damaged."""
    body = draw(create_requests())
    for _ in range(draw(st.integers(1, 3))):
        found = list(places(body))
        body = spoiled(body, draw(st.sampled_from(found)), draw(json_values()))
    body = {**body, "model": draw(st.sampled_from(MODELS)) if draw(st.integers(0, 9)) else body.get("model")}
    raw = orjson.dumps(body)
    if draw(st.integers(0, 5)):
        return raw
    at = draw(st.integers(0, len(raw) - 1))
    return raw[:at] + draw(st.binary(max_size=3)) + raw[at + 1 :]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(raw=broken_requests(), path=st.sampled_from(PATHS))
def test_no_body_at_all_gives_a_server_error(http: httpx.Client, raw: bytes, path: str) -> None:
    answer = http.post(path, content=raw)
    if not answer.headers["content-type"].startswith("text/event-stream"):
        error_of(answer)


# --- not our methods, not our paths ---


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", PATHS)
def test_another_method_is_refused_in_anthropic_s_shape(http: httpx.Client, method: str, path: str) -> None:
    answer = http.request(method, path)
    assert answer.status_code in (404, 405)
    assert answer.json()["type"] == "error"
    assert answer.json()["request_id"] == answer.headers["request-id"]


@pytest.mark.parametrize("path", ["/v1/messages/nope", "/v1/messages/count_tokens/x"])
def test_an_unknown_path_below_ours_is_not_found(http: httpx.Client, path: str) -> None:
    assert error_of(http.post(path, json=PLAIN))["type"] == "not_found_error"


def test_a_body_that_is_too_large_is_refused(http: httpx.Client) -> None:
    answer = http.post(MESSAGES, content=b'{"model":"' + b"x" * (33 * 1024 * 1024) + b'"}')
    assert answer.status_code == 413
    assert answer.json()["error"]["type"] == "request_too_large"
    assert answer.json()["request_id"] == answer.headers["request-id"]
