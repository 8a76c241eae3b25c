"""Every fault by name: what an upstream may do wrong with a request."""

import asyncio
import gzip
import zlib
from typing import Any

import brotli
import orjson
from backports import zstd

from tests.support.faulty import Connection, Fault

__all__ = ["FAULTS"]

FAULTS: dict[str, Fault] = {}

BOM = b"\xef\xbb\xbf"
FOREVER = 3600.0


def fault(name: str) -> Any:
    def named(function: Fault) -> Fault:
        FAULTS[name] = function
        return function

    return named


# --- the connection ---


@fault("closes without a byte")
async def _(c: Connection) -> None:
    return None


@fault("resets without a byte")
async def _(c: Connection) -> None:
    c.reset()


@fault("closes within the status line")
async def _(c: Connection) -> None:
    await c.write(b"HTTP/1.1 2")


@fault("does not speak HTTP")
async def _(c: Connection) -> None:
    await c.write(b"SSH-2.0-OpenSSH_9.6\r\n")


@fault("never answers")
async def _(c: Connection) -> None:
    await asyncio.sleep(FOREVER)


@fault("one header line without an end")
async def _(c: Connection) -> None:
    await c.write(b"HTTP/1.1 200 OK\r\nx-long: ")
    await c.for_ever([b"x" * 4096])


@fault("headers without an end")
async def _(c: Connection) -> None:
    await c.write(b"HTTP/1.1 200 OK\r\n")
    await c.for_ever([b"x-more: 1\r\n" * 100])


@fault("headers that drip")
async def _(c: Connection) -> None:
    await c.write(b"HTTP/1.1 200 OK\r\n")
    await c.for_ever([b"x-more: 1\r\n"], pause=0.3)


@fault("100 Continue for ever")
async def _(c: Connection) -> None:
    await c.for_ever([b"HTTP/1.1 100 Continue\r\n\r\n"], pause=0.3)


# --- statuses ---


def status(name: str, line: str, **headers: str) -> None:
    @fault(name)
    async def _(c: Connection) -> None:
        code = int(line.split()[0])
        bodiless = code in (101, 204, 304)
        await (c.head(line, **headers) if bodiless else c.answer(c.body, line, **headers))


status("status 101", "101 Switching Protocols", upgrade="websocket", connection="upgrade")
status("status 201", "201 Created")
status("status 204", "204 No Content")
status("status 206", "206 Partial Content")
status("status 301", "301 Moved Permanently", location="http://127.0.0.1:9/")
status("status 304", "304 Not Modified")
status("status 307", "307 Temporary Redirect", location="http://127.0.0.1:9/")
status("status 600", "600 Odd")
status("status 999", "999 Odd")


@fault("a proxy's page with status 520")
async def _(c: Connection) -> None:
    await c.answer(b"<html><title>Web server is down</title></html>", "520 Odd", content_type="text/html")


@fault("an error whose body has no end")
async def _(c: Connection) -> None:
    await c.head("503 Service Unavailable", content_type="text/plain")
    await c.for_ever([b"busy " * 10_000])


@fault("an error whose body stalls")
async def _(c: Connection) -> None:
    await c.head("503 Service Unavailable", content_type="text/plain")
    await c.write(b"busy ")
    await asyncio.sleep(FOREVER)


# --- the body's transport ---


@fault("the body stalls at once")
async def _(c: Connection) -> None:
    await c.head()
    await asyncio.sleep(FOREVER)


@fault("the body stalls half-way")
async def _(c: Connection) -> None:
    await c.head()
    await c.write(c.body[: len(c.body) // 2])
    await asyncio.sleep(FOREVER)


@fault("the body is shorter than its length")
async def _(c: Connection) -> None:
    await c.head(content_length="100000")
    await c.write(c.body[: len(c.body) // 2])


@fault("the body is reset half-way")
async def _(c: Connection) -> None:
    await c.head()
    await c.write(c.body[: len(c.body) // 2])
    await asyncio.sleep(0.2)
    c.reset()


@fault("a chunk is cut short")
async def _(c: Connection) -> None:
    await c.head(transfer_encoding="chunked")
    await c.write(b"ffff\r\n" + c.body[: len(c.body) // 2])


@fault("the last chunk is missing")
async def _(c: Connection) -> None:
    await c.head(transfer_encoding="chunked")
    await c.write(b"%x\r\n%b\r\n" % (len(c.body), c.body))


@fault("a chunk's size is not a number")
async def _(c: Connection) -> None:
    await c.head(transfer_encoding="chunked")
    await asyncio.sleep(0.1)
    await c.write(b"zz\r\n" + c.body)


@fault("a chunk's size is beyond all bounds")
async def _(c: Connection) -> None:
    await c.head(transfer_encoding="chunked")
    await asyncio.sleep(0.1)
    await c.write(b"f" * 40 + b"\r\n" + c.body)


@fault("HTTP/1.0 without a length")
async def _(c: Connection) -> None:
    await c.write(f"HTTP/1.0 200 OK\r\ncontent-type: {c.content_type}\r\n\r\n".encode() + c.body)


@fault("a body without an end")
async def _(c: Connection) -> None:
    await c.head()
    pieces = c.parts[:3] if c.streamed else [b'{"type": "message", "choices": "']
    for piece in pieces:
        await c.write(piece)
    await c.for_ever([c.parts[2] * 100 if c.streamed else b"x" * 10_000])


@fault("an event without an end")
async def _(c: Connection) -> None:
    await c.head()
    for piece in c.parts[:2]:
        await c.write(piece)
    await c.for_ever([b"data: x\n" * 1000])


@fault("a line without an end")
async def _(c: Connection) -> None:
    await c.head()
    await c.write(b"data: ")
    await c.for_ever([b"x" * 10_000])


# --- compression that nobody asked for ---


def compressed(name: str, encode: Any) -> None:
    @fault(f"compressed: {name}")
    async def _(c: Connection) -> None:
        await c.answer(encode(c.body), content_encoding=name)


compressed("gzip", gzip.compress)
compressed("deflate", zlib.compress)
compressed("br", brotli.compress)
compressed("zstd", zstd.compress)


@fault("a gzip bomb")
async def _(c: Connection) -> None:
    await c.answer(gzip.compress(b'{"type": "' + b"x" * 20_000_000), content_encoding="gzip")


@fault("gzip that is none")
async def _(c: Connection) -> None:
    await c.answer(c.body, content_encoding="gzip")


# --- the content ---


def content(name: str, change: Any, **headers: str) -> None:
    @fault(name)
    async def _(c: Connection) -> None:
        await c.head(**headers)
        await c.write(change(c))


def damaged(c: Connection, at: int, piece: bytes) -> bytes:
    """The good stream with another piece at one place; the good whole answer with it at the end."""
    return b"".join([*c.parts[:at], piece, *c.parts[at:]]) if c.streamed else piece


content("nothing", lambda c: b"")
content("a page", lambda c: b"<html><title>Welcome</title></html>", content_type="text/html")
content("content type text/plain", lambda c: c.body, content_type="text/plain")
content("no content type", lambda c: c.body, content_type="")
content("a whole answer for a stream, a stream for a whole one", lambda c: c.whole if c.streamed else b"".join(c.parts))
content("a byte order mark", lambda c: BOM + c.body)
content("lines that end with CR LF", lambda c: c.body.replace(b"\n", b"\r\n"))
content("empty data as a sign of life", lambda c: b"data:\n\ndata: \n\n" + c.body if c.streamed else b"\n\n" + c.body)
content("comments as a sign of life", lambda c: b": hi\n\n" + c.body if c.streamed else c.body)
content("JSON that is broken", lambda c: damaged(c, 2, b"event: x\ndata: {\n\n" if c.streamed else b"{"))
content("JSON of another type", lambda c: damaged(c, 2, b"event: x\ndata: [1]\n\n" if c.streamed else b"[1]"))
content("bytes that are not UTF-8", lambda c: c.body.replace(b"Hell", b"H\xffll"))
content("half of a surrogate pair", lambda c: c.body.replace(b"Hell", b"H\\ud83dll"))
content("content that is a number", lambda c: wrong_type(c))
content("more after the end", lambda c: c.body + b"".join(c.parts) if c.streamed else c.body)
content("no end", lambda c: b"".join(c.parts[:-1]) if c.streamed else c.body[:-1])


def wrong_type(c: Connection) -> bytes:
    """Content, or a delta, of a type that it cannot have."""
    if not c.streamed:
        message = orjson.loads(c.whole)
        if c.native:
            message["content"] = 5
        else:
            message["choices"] = 5
        return orjson.dumps(message)
    event: Any = {"type": "content_block_start", "index": 0, "content_block": 5} if c.native else {"choices": 5}
    return damaged(c, 2, b"data: " + orjson.dumps(event) + b"\n\n")


def error_of(c: Connection) -> bytes:
    """An error in the words of the route's dialect."""
    if c.native:
        event = {"type": "error", "error": {"type": "overloaded_error", "message": "too many"}}
        return b"event: error\ndata: " + orjson.dumps(event) + b"\n\n" if c.streamed else orjson.dumps(event)
    chunk: Any = {"error": {"code": 503, "message": "too many"}}
    choice = {"index": 0, "finish_reason": "error", "delta": {"content": ""}, "message": {"content": ""}}
    told = orjson.dumps({**chunk, "choices": [choice]})
    return b"data: " + told + b"\n\n" if c.streamed else told


content("an error with status 200", lambda c: error_of(c))
content("an error in mid-stream", lambda c: damaged(c, 3, error_of(c)) if c.streamed else error_of(c))
