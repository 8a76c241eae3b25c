"""What a scripted upstream answers, as data.

A `Reply` is a status, headers and *steps*: bytes to write, `Wait(seconds)`, `FOREVER` (silence until the
client leaves or the test calls `upstream.release()`) and `CUT` (the TCP connection is reset there and then).
`before` holds the steps taken before the status line is sent.

```
json_reply({"ok": True})                    a body with a length
json_reply(error, status=429, headers={"retry-after": "7"})
stream_reply([b"data: {}\n\n", Wait(0.1), b"data: [DONE]\n\n"])
stream_reply(chunks, pause=0.02)            a pause after every chunk
stream_reply(lambda: endless())             a fresh iterator for each request, so it may be endless
cut_reply(chunks, after=3)                  three chunks, then the connection is gone
hang_reply()                                not even a status line
silent_reply()                              headers, then not one byte
json_reply(body).delayed(0.5)               the headers come half a second late
```
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

import orjson

__all__ = [
    "CUT",
    "FOREVER",
    "Pace",
    "Reply",
    "Step",
    "Wait",
    "cut_reply",
    "hang_reply",
    "json_reply",
    "raw_reply",
    "silent_reply",
    "stream_reply",
]


class Pace(Enum):
    """The two steps that carry no data."""

    FOREVER = "silence until the client leaves or the test releases it"
    CUT = "reset the connection"


FOREVER: Literal[Pace.FOREVER] = Pace.FOREVER
CUT: Literal[Pace.CUT] = Pace.CUT


@dataclass(frozen=True, slots=True)
class Wait:
    """Silence for `seconds`."""

    seconds: float


type Step = bytes | Wait | Pace
type Steps = Iterable[Step] | Callable[[], Iterable[Step]]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer.

    Args:
        status: HTTP status.
        headers: Response headers; `content-type` included.
        steps: What follows the headers; a callable is called anew for every request.
        before: What happens before the status line.
        pause: Seconds of silence after every bytes step.
        sized: Whether the body goes out at once with a `content-length`; otherwise it is chunked.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    steps: Steps = ()
    before: tuple[Step, ...] = ()
    pause: float = 0.0
    sized: bool = False

    def delayed(self, seconds: float) -> "Reply":
        """The same reply, its status line `seconds` later."""
        return dataclasses.replace(self, before=(Wait(seconds), *self.before))

    def with_headers(self, **headers: str) -> "Reply":
        """The same reply with more headers; `_` in a name stands for `-`."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return dataclasses.replace(self, headers={**self.headers, **more})

    def walk(self) -> Iterator[Step]:
        """The steps after the headers, pauses included."""
        for step in self.steps() if callable(self.steps) else self.steps:
            yield step
            if self.pause and isinstance(step, bytes):
                yield Wait(self.pause)


def raw_reply(body: bytes, *, content_type: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """These bytes and no others."""
    return Reply(status, {"content-type": content_type, **(headers or {})}, (body,), sized=True)


def json_reply(body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """A JSON body."""
    return raw_reply(orjson.dumps(body), content_type="application/json", status=status, headers=headers)


def stream_reply(
    chunks: Steps,
    *,
    pause: float = 0.0,
    status: int = 200,
    content_type: str = "text/event-stream",
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """A chunked body: one write for each bytes step."""
    return Reply(status, {"content-type": content_type, **(headers or {})}, chunks, pause=pause)


def cut_reply(chunks: Iterable[Step], *, after: int | None = None, pause: float = 0.0) -> Reply:
    """A stream that is reset after `after` chunks (all of them by default), with no end-of-body mark."""
    return stream_reply([*list(chunks)[:after], CUT], pause=pause)


def hang_reply() -> Reply:
    """Nothing at all, not even a status line."""
    return Reply(status=503, before=(FOREVER,), sized=True)


def silent_reply(*then: bytes) -> Reply:
    """The headers of a stream, then silence; `then` follows when the test releases it."""
    return stream_reply([FOREVER, *then])
