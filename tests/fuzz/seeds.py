"""Where fuzzing begins: recorded streams, batches, refusals, a PDF, answers by HTTP, and what the corpus keeps."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import orjson

from tests.fidelity.documents import pdf

__all__ = ["CORPUS", "requests", "seeds"]

CORPUS = Path(__file__).parent / "corpus"
REQUESTS = Path(__file__).parents[1] / "engines" / "requests"
FIXTURES = Path(__file__).parents[1] / "fixtures"

BATCHES = (
    b'{"requests": [{"custom_id": "a", "params": {"model": "m", "max_tokens": 1, "messages": []}}]}',
    b'{"x": [1.5e3, "\\ud83d\\ude00", null], "requests": []}',
)
REFUSALS = (
    {"error": {"message": "Unsupported parameter: 'top_k'", "param": "top_k", "code": "unsupported_parameter"}},
    {"object": "error", "message": "maximum context length is 4096 tokens, you requested 5000 tokens", "code": 400},
    {"detail": [{"loc": ["body", "messages"], "msg": "Field required", "type": "missing"}]},
    {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
)

JSON = b'{"type": "message"}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n"
ANSWERS = (
    HEAD + b"Content-Length: 19\r\n\r\n" + JSON,
    CHUNKED + b"\r\n13\r\n" + JSON + b"\r\n0\r\nx: y\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Connection: close\r\n\r\n" + JSON,
    HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(JSON, mtime=0),
    b"HTTP/1.0 429 Slow down\nRetry-After: 1\n\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
)
# In the order of `ENCODINGS`, by the first byte.
PACKED = (
    gzip.compress(JSON, mtime=0) * 2,
    zlib.compress(JSON),
    b"\x0b\x09\x80" + JSON + b"\x03",
    b"\x28\xb5\x2f\xfd\x20\x13\x99\x00\x00" + JSON,
)


def _streams(folder: str) -> Iterator[bytes]:
    for file in sorted((FIXTURES / folder).iterdir()):
        if file.suffix == ".jsonl":
            yield b"".join(b"data: %b\n\n" % line for line in file.read_bytes().splitlines())
        elif file.suffix == ".txt":
            yield file.read_bytes()


def requests() -> Iterator[bytes]:
    """The bodies of messages whose translations the golden tests hold."""
    for file in sorted(REQUESTS.glob("*.json")):
        if "." not in file.stem:
            yield file.read_bytes()


def seeds(target: str) -> Iterator[bytes]:
    """The inputs that a target begins with."""
    match target:
        case "translator":
            yield from (b"0" + stream for stream in _streams("chunks"))
        case "sse" | "relay" | "repair":
            yield from (b"0" + stream for stream in _streams("sse"))
        case "intake":
            yield from (b"0" + body for body in BATCHES)
        case "refusal":
            yield from (b"\0\0" + orjson.dumps(body) for body in REFUSALS)
        case "request":
            yield from (b"0" + body for body in requests())
        case "pdf":
            yield pdf(["One page."])
        case "http_answer":
            yield from (b"0" + answer for answer in ANSWERS)
        case "unpacking":
            yield from (bytes([number]) + b"0" + packed for number, packed in enumerate(PACKED))
    kept = CORPUS / target
    if kept.is_dir():
        yield from (file.read_bytes() for file in sorted(kept.iterdir()))
