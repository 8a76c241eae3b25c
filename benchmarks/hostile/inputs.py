"""The inputs: each a name, a path and a function that makes the body."""

import base64
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

__all__ = ["INPUTS", "Input"]

MESSAGES, COUNT, BATCHES = "/v1/messages", "/v1/messages/count_tokens", "/v1/messages/batches"
NATIVE, TRANSLATED = "vllm/vllm-model", "openai/openai-model"
HELLO = [{"role": "user", "content": "hello"}]


@dataclass(frozen=True, slots=True)
class Input:
    """A request that is meant to hurt.

    Args:
        name: What it does.
        body: Makes the body, for a model.
        models: Whom it is sent to; each is one request.
        path: Where it is sent to.
        headers: Sent with it, beside the content type.
        reply: What the upstream answers; a greeting if not given.
        allowed: Statuses that are right.
    """

    name: str
    body: Callable[[str], bytes]
    models: tuple[str, ...] = (NATIVE, TRANSLATED)
    path: str = MESSAGES
    headers: dict[str, str] = field(default_factory=dict)
    reply: str = ""
    allowed: tuple[int, ...] = (200, 400, 413)


def _request(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 10, "messages": HELLO, **fields}


def _json(model: str, **fields: Any) -> bytes:
    return orjson.dumps(_request(model, **fields))


def _raw(model: str, name: str, value: bytes) -> bytes:
    return orjson.dumps({**_request(model), name: "@"}).replace(b'"@"', value)


def _tools(count: int) -> list[dict[str, Any]]:
    return [{"name": f"t{i}", "input_schema": {"type": "object"}} for i in range(count)]


def _turns(count: int, text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text} for _ in range(count)]


def _calls(count: int) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = [*HELLO]
    for i in range(count):
        turns.append({"role": "assistant", "content": [{"type": "tool_use", "id": f"t{i}", "name": "f", "input": {}}]})
    return turns


def _answered(count: int) -> list[dict[str, Any]]:
    turns = _calls(count)
    for i in range(count, 0, -1):
        turns.insert(i + 1, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": f"t{i - 1}"}]})
    return turns


def _searches(count: int) -> list[dict[str, Any]]:
    page = {"type": "web_search_result", "url": "https://example.com/", "title": "a", "encrypted_content": "b"}
    blocks: list[dict[str, Any]] = []
    for i in range(count):
        use = {"type": "server_tool_use", "id": f"srvtoolu_{i}", "name": "web_search", "input": {"query": "a"}}
        blocks += [use, {"type": "web_search_tool_result", "tool_use_id": f"srvtoolu_{i}", "content": [page]}]
    return [*HELLO, {"role": "assistant", "content": blocks}, *HELLO]


def _deferred(count: int) -> dict[str, Any]:
    """Tools that a search has found, each of them."""
    search = {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"}
    tools = [search, *({**tool, "defer_loading": True} for tool in _tools(count))]
    references = [{"type": "tool_reference", "tool_name": tool["name"]} for tool in tools[1:]]
    found = {"type": "tool_search_tool_search_result", "tool_references": references}
    call = {"type": "server_tool_use", "id": "srvtoolu_1", "name": search["name"], "input": {"query": "a"}}
    result = {"type": "tool_search_tool_result", "tool_use_id": "srvtoolu_1", "content": found}
    return {"tools": tools, "messages": [*HELLO, {"role": "assistant", "content": [call, result]}, *HELLO]}


def _batch(params: bytes, custom_id: str = "a") -> bytes:
    return b'{"requests":[{"custom_id":' + json.dumps(custom_id).encode() + b',"params":' + params + b"}]}"


def _pdf(objects: list[bytes]) -> bytes:
    out, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return bytes(out) + b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, start)


def _stream(data: bytes, filters: bytes) -> bytes:
    return b"<< /Length %d /Filter %s >>\nstream\n" % (len(data), filters) + data + b"\nendstream"


def shared_stream_pdf(pages: int = 600) -> bytes:
    """Pages that share one long content stream."""
    content = zlib.compress(b"BT /F1 12 Tf " + b"(aaaaaaaaaa) Tj 1 0 0 1 0 0 Tm " * 40_000 + b"ET", 9)
    kids = b" ".join(b"%d 0 R" % (5 + i) for i in range(pages))
    page = b"<< /Type /Page /Parent 2 0 R /Contents 3 0 R /Resources << /Font << /F1 4 0 R >> >> >>"
    return _pdf(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Count %d /Kids [%s] /MediaBox [0 0 600 800] >>" % (pages, kids),
            _stream(content, b"/FlateDecode"),
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
            *[page] * pages,
        ]
    )


def twice_compressed_pdf() -> bytes:
    """A page whose content grows to a gigabyte."""
    inner = zlib.compress(b"(a) Tj " * 70_000_000, 9)
    return _pdf(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Count 1 /Kids [5 0 R] /MediaBox [0 0 600 800] >>",
            _stream(zlib.compress(inner, 9), b"[/FlateDecode /FlateDecode]"),
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
            b"<< /Type /Page /Parent 2 0 R /Contents 3 0 R /Resources << /Font << /F1 4 0 R >> >> >>",
        ]
    )


def _document(data: bytes) -> list[dict[str, Any]]:
    source = {"type": "base64", "media_type": "application/pdf", "data": base64.b64encode(data).decode()}
    return [{"role": "user", "content": [{"type": "document", "source": source}, {"type": "text", "text": "?"}]}]


def _inputs() -> Iterator[Input]:
    deep, digits = b"[" * 100_000 + b"]" * 100_000, b"1" * 5000
    for path in (MESSAGES, COUNT):
        tail = "" if path == MESSAGES else " (count)"
        yield Input(
            f"80,000 unknown fields{tail}", lambda m: _json(m, **{f"u{i}": 1 for i in range(80_000)}), path=path
        )
        yield Input(f"16,000 tools{tail}", lambda m: _json(m, tools=_tools(16_000)), path=path)
        yield Input(
            f"50,000 turns of one role{tail}", lambda m: _json(m, messages=_turns(50_000, "a" * 280)), path=path
        )
        yield Input(f"a call in each of 40,000 turns{tail}", lambda m: _json(m, messages=_calls(40_000)), path=path)
    yield Input("20,000 calls and their results", lambda m: _json(m, messages=_answered(20_000)))
    mysteries = [{"type": "mystery", "a": 1}] * 40_000
    yield Input("40,000 unknown blocks", lambda m: _json(m, messages=[{"role": "user", "content": mysteries}]))
    zeros = b"[" + b"0," * 1_000_000 + b"0]"
    yield Input("tools of a million zeros", lambda m: _raw(m, "tools", zeros))
    yield Input("messages of a million zeros", lambda m: _raw(m, "messages", zeros))
    in_content = b'[{"role":"user","content":' + zeros + b"}]"
    yield Input("content of a million zeros", lambda m: _raw(m, "messages", in_content))
    yield Input("5,000 searches in the history", lambda m: _json(m, messages=_searches(5000)))
    yield Input(
        "a model name of 10 MB", lambda m: orjson.dumps(_request("vllm/" + "a" * 10_000_000)), allowed=(400, 404)
    )
    yield Input("a body of 30 MB of {},{}", lambda m: _raw(m, "x", b"[" + b"{}," * 10_000_000 + b"{}]"))
    yield Input("31 MB of text", lambda m: _json(m, messages=_turns(1, "a" * 31_000_000)))
    edits = [{"type": "clear_tool_uses_20250919", "trigger": {"type": "tool_uses", "value": 1}}]
    answered = _answered(20_000)
    yield Input("20,000 tool uses to clear", lambda m: _json(m, messages=answered, context_management={"edits": edits}))
    yield Input("9,000 deferred tools and their references", lambda m: _json(m, **_deferred(9000)))
    compacted = [{"type": "compaction", "content": "a", "encrypted_content": None}]
    turns = [*HELLO, {"role": "assistant", "content": compacted}] * 20_000
    yield Input("20,000 summaries in the history", lambda m: _json(m, messages=[*turns, *HELLO]))
    yield Input("100,000 short turns", lambda m: _json(m, messages=_turns(100_000, "a")))
    yield Input("100,000 nested arrays", lambda m: _raw(m, "metadata", deep), allowed=(400,))
    yield Input("a number of 5,000 digits", lambda m: _raw(m, "max_tokens", digits), allowed=(400,))
    yield Input("600 pages that share a stream", lambda m: _json(m, messages=_document(shared_stream_pdf())))
    yield Input("a PDF compressed twice", lambda m: _json(m, messages=_document(twice_compressed_pdf())))
    ok = _json(TRANSLATED)
    for name, body in {
        "a number of 5,000 digits": _batch(_raw(TRANSLATED, "max_tokens", digits)),
        "100,000 nested arrays": _batch(deep),
        "900 nested arrays": _batch(_raw(TRANSLATED, "metadata", b"[" * 900 + b"]" * 900)),
        "1e99999999999999999999": _batch(_raw(TRANSLATED, "max_tokens", b"1e99999999999999999999")),
        "surrogates the wrong way round": _batch(_raw(TRANSLATED, "system", b'"\\udc00\\ud800"')),
        "raw surrogates": _batch(_raw(TRANSLATED, "system", b'"\xed\xa0\x80"')),
        "requests.item": b'{"requests.item": {"custom_id": "a", "params": ' + ok + b"}}",
        "a second requests": _batch(ok)[:-1] + b',"requests":[]}',
        "a custom id of 10 MB": _batch(ok, "a" * 10_000_000),
        "a key of 30 MB": _batch(b'{"' + b"k" * 30_000_000 + b'": 1}'),
    }.items():
        yield Input(f"batch: {name}", lambda m, body=body: body, (TRANSLATED,), BATCHES, allowed=(400, 413))
    data = {"x-llamastack-provider-data": "[1, 2]"}
    yield Input("provider data that is no object", _json, headers=data)
    yield Input("answer: a 502 page of titles", _json, reply="titles", allowed=(502,))
    yield Input("answer: a 502 page of <<<<", _json, reply="brackets", allowed=(502,))
    yield Input("answer: an event of 60 MB", lambda m: _json(m, stream=True), reply="long line", allowed=(200, 502))
    yield Input("answer: 20,000 fragments of two calls", lambda m: _json(m, stream=True), (TRANSLATED,), reply="calls")


INPUTS = tuple(_inputs())
