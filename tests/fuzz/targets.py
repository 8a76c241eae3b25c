"""What is fuzzed: each target takes any bytes, and raises if what they make breaks a promise."""

import asyncio
import base64
import logging
import random
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import pairwise
from typing import Any, cast

import orjson

from llama_stack_messages_provider.adaptation.upstream_errors import from_event, from_status, malformed_upstream_errors
from llama_stack_messages_provider.config import RequestLimits
from llama_stack_messages_provider.documents import pdf_worker
from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.engines import ENGINES
from llama_stack_messages_provider.engines.features import features_of
from llama_stack_messages_provider.errors import MessagesError
from llama_stack_messages_provider.http.limits import parse_request
from llama_stack_messages_provider.http_client.connection import Connection
from llama_stack_messages_provider.http_client.content_encoding import ENCODINGS, Decoder
from llama_stack_messages_provider.http_client.failures import EncodingError, HttpError
from llama_stack_messages_provider.http_client.response import Response
from llama_stack_messages_provider.native.relay import Relay
from llama_stack_messages_provider.native.repair import StreamRepair
from llama_stack_messages_provider.native.request import with_model
from llama_stack_messages_provider.rewriting import RewriteOptions, marked_features, rewrite, rewrite_native
from llama_stack_messages_provider.rewriting.context_edits import compaction_of
from llama_stack_messages_provider.rewriting.rewrite import SUPPLIED
from llama_stack_messages_provider.server_tools.plain import plain_request
from llama_stack_messages_provider.translation.answer import unsigned
from llama_stack_messages_provider.translation.request import TranslationOptions, to_chat_completion
from llama_stack_messages_provider.translation.stream import StreamTranslator
from llama_stack_messages_provider.wire.request import CountTokensRequest, CreateMessageRequest
from llama_stack_messages_provider.wire.sse import ServerSentEvent, SSEDecoder, encode_all
from llama_stack_messages_provider.wire.validation import check_top_level, validate_in_steps
from tests.batches import fuzz_intake
from tests.server_tools.helpers import server_tools
from tests.support.laws import assert_well_formed
from tests.support.sse import parse

__all__ = ["TARGETS", "Target"]

# What an upstream sent that cannot be read is logged, each time.
logging.getLogger("llama_stack_messages_provider").setLevel(logging.CRITICAL)

type Target = Callable[[bytes], object]

LIMITS = RequestLimits()
SERVER_TOOLS = server_tools()
MAX_PIECES = 5
MAX_MESSAGE_CHARACTERS = 10_000
MAX_UNPACKED_PIECE = 512 * 1024
MAX_UNPACKED = 16 * 1024 * 1024
LOOP = asyncio.new_event_loop()


def _cuts(data: bytes) -> tuple[bytes, list[int]]:
    """The body behind the first byte, and places to cut it at, which the first byte decides."""
    seed, body = data[:1], data[1:]
    draw = random.Random(seed)
    count = min(len(body), draw.randrange(MAX_PIECES))
    return body, sorted(draw.sample(range(len(body)), count)) if count else []


def _pieces(data: bytes) -> Iterator[bytes]:
    body, cuts = _cuts(data)
    for start, end in pairwise([0, *cuts, len(body)]):
        yield body[start:end]


def _decoded(data: bytes) -> list[ServerSentEvent]:
    decoder = SSEDecoder()
    return [event for piece in _pieces(data) for event in decoder.decode(piece)] + decoder.flush()


def sse(data: bytes) -> None:
    """The same events however the bytes are cut, and again from their frames."""
    events = [(event.event, event.data) for event in _decoded(data)]
    whole = SSEDecoder()
    assert events == [(e.event, e.data) for e in [*whole.decode(data[1:]), *whole.flush()]]
    again = SSEDecoder()
    framed = b"".join(ServerSentEvent(*event).frame() for event in events)
    assert events == [(e.event, e.data) for e in again.decode(framed)]


def relay(data: bytes) -> None:
    """What is sent ends with an event's end, and nothing follows the message's."""
    relay_ = Relay("client-model", ping=b'event: ping\ndata: {"type":"ping"}\n\n', request_id="req_1")
    ended = False
    try:
        for piece in _pieces(data):
            sent = relay_.feed(piece)
            assert not sent or sent.endswith((b"\n\n", b"\n\r\n"))
            assert not (ended and sent), sent
            ended = relay_.ended
        relay_.close()
    except MessagesError:
        return


def _assert_ordered(sent: bytes) -> None:
    """Blocks are numbered and one is open at a time; what stands in them, and unknown events, are the upstream's."""
    open_, index, over = False, -1, False
    for name, event in parse(sent):
        assert not over, name
        match name:
            case "content_block_start":
                index += 1
                assert not open_
                assert event["index"] == index
                open_ = True
            case "content_block_delta" | "content_block_stop":
                assert open_
                assert event["index"] == index
                open_ = name != "content_block_stop"
            case "message_delta" | "message_stop":
                assert not open_
                over = name == "message_stop"
            case "error":
                over = True


def repair(data: bytes) -> None:
    """A stream that was begun obeys the grammar; an upstream that speaks something else is told so."""
    repair_ = StreamRepair(unsigned, message_id="msg_1", model="client-model", request_id="req_1")
    sent = b""
    try:
        with malformed_upstream_errors(None, "a stream"):
            sent = b"".join(map(repair_.mended, _decoded(data)))
    except MessagesError:
        return
    if repair_.started:
        _assert_ordered(sent)


def translator(data: bytes) -> None:
    """Any chunks make a stream that obeys the grammar, or an error of the upstream's."""
    stream = StreamTranslator("msg_1", "client-model", stop_sequences=("STOP",), max_tokens=10)
    events = []
    try:
        for event in _decoded(data):
            try:
                chunk = orjson.loads(event.data)
            except orjson.JSONDecodeError:
                continue
            if isinstance(chunk, dict):
                with malformed_upstream_errors(chunk, "a chunk"):
                    events += stream.feed(chunk)
        with malformed_upstream_errors(None, "a chunk"):
            events += stream.close()
    except MessagesError:
        assert_well_formed(parse(encode_all(events)), complete=False)
    else:
        assert_well_formed(parse(encode_all(events)))


def intake(data: bytes) -> None:
    """A batch's body is what the standard library says that it is."""
    body, cuts = _cuts(data)
    fuzz_intake.check(body, cuts)


def refusal(data: bytes) -> None:
    """Whatever an upstream says, the client gets an error of Anthropic's shape and a bounded text."""
    try:
        body = orjson.loads(data[2:])
    except orjson.JSONDecodeError:
        body = data[2:].decode(errors="replace")
    status = 400 + int.from_bytes(data[:2]) % 600
    errors = [from_status(status, {}, body)]
    if isinstance(body, Mapping):
        errors.append(from_event(body))
    for error in errors:
        assert 400 <= error.status < 600, error.status
        assert len(error.message) <= MAX_MESSAGE_CHARACTERS
        orjson.dumps(error.body("req_1"))


def request(data: bytes) -> bool:
    """What a client sends is refused with a status below 500, or makes a request for either route of any engine.

    Returns:
        Whether it was taken.
    """
    engine = list(ENGINES)[data[0] % len(ENGINES)] if data else ENGINES.generic.name
    try:
        _prepare(data[1:], engine, CountTokensRequest if data[:1] > b"\x7f" else CreateMessageRequest)
    except MessagesError as error:
        if not 400 <= error.status < 500:
            raise
        orjson.dumps(error.body("req_1"))
        return False
    return True


def _done[T](work: Coroutine[Any, Any, T] | Generator[None, None, T]) -> T:
    """What steps come to that nobody waits between."""
    while True:
        try:
            work.send(None)
        except StopIteration as done:
            found: T = done.value
            return found


def _prepare(body: bytes, engine: str, kind: type[CreateMessageRequest] | type[CountTokensRequest]) -> None:
    request = _done(parse_request(body, LIMITS))
    check_top_level(request, count=kind is CountTokensRequest)
    orjson.dumps(sorted(features_of(request)))
    with_model(body, request, "model")
    # As it goes natively: nobody has looked at it.
    plain = plain_request(request, _done(SERVER_TOOLS.open(request, DroppedFields())), DroppedFields())
    compaction_of(plain)
    marked = marked_features(body, ENGINES[engine].native)
    rewrite_native(plain, marked=marked, lacks=frozenset(), options=RewriteOptions(), dropped=DroppedFields())
    request = _done(validate_in_steps(kind, request, size=len(body), has_null=b"null" in body))
    if kind is CountTokensRequest:
        request = {name: request[name] for name in kind.model_fields if name in request}
    with suppress(MessagesError):
        rewritten = rewrite(request, lacks=SUPPLIED, options=RewriteOptions(), dropped=DroppedFields())
        orjson.dumps(rewritten.request)
    orjson.dumps(
        to_chat_completion(request, model="m", dialect=ENGINES[engine].chat, options=TranslationOptions()).params
    )


def pdf(data: bytes) -> None:
    """Pages of text, or a reason why there are none."""
    answer = pdf_worker.answer(base64.b64encode(data), 20, 100_000)
    assert answer.keys() <= {"pages", "error"}, answer
    assert answer.get("error", "base64") in pdf_worker.ERRORS


class _Wire:
    """The transport of a connection that only ever receives."""

    def __init__(self) -> None:
        self.closing = self.paused = False

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.closing = True

    def write(self, data: bytes) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False


def _received(pieces: Iterable[bytes]) -> tuple[int, Mapping[str, str], bytes, type[Exception] | None, int]:
    """A request is sent and a server answers: status, headers, body, failure, and how often it was free again."""
    wire, buffer = _Wire(), memoryview(bytearray(65536))
    released: list[Connection] = []
    connection = Connection(LOOP, buffer, released.append, lambda _: None)
    connection.connection_made(cast("asyncio.Transport", wire))
    waiting = LOOP.create_task(connection.send(b"POST / HTTP/1.1\r\n\r\n", b"", 3600))
    LOOP.call_soon(LOOP.stop)
    LOOP.run_forever()
    for piece in pieces:
        if not wire.closing and piece:
            buffer[: len(piece)] = piece
            connection.buffer_updated(len(piece))
    if not wire.closing:
        connection.eof_received()
    connection.connection_lost(None)
    return LOOP.run_until_complete(_read(waiting, len(released)))


async def _read(
    waiting: asyncio.Task[Response], released: int
) -> tuple[int, Mapping[str, str], bytes, type[Exception] | None, int]:
    status, headers, body, failure = 0, {}, b"", None
    try:
        response = await waiting
        status, headers = response.status, response.headers
        while piece := await response.read():
            assert len(piece) <= MAX_UNPACKED_PIECE or "content-encoding" not in headers
            body += piece
            if len(body) > MAX_UNPACKED:
                response.close()
                break
    except HttpError as exc:
        failure = type(exc)
    return status, headers, body, failure, released


def http_answer(data: bytes) -> None:
    """Whatever a server sends is an answer or a failure of HTTP, the same however it is cut, and at most one answer."""
    *head, body, failure, released = _received(_pieces(data[:65536]))
    *other_head, other_body, other_failure, other_released = _received([data[1:65536]])
    assert (head, released) == (other_head, other_released)
    is_broken = EncodingError in (failure, other_failure)
    assert is_broken or failure == other_failure
    _assert_same(body, other_body, is_broken=is_broken)
    assert released <= 1


def unpacking(data: bytes) -> None:
    """A packed body comes in bounded pieces, the same bytes however it was cut."""
    coding = list(ENCODINGS)[data[0] % len(ENCODINGS)] if data else "gzip"
    body, is_broken = _unpacked(coding, _pieces(data[1:]))
    other_body, other_is_broken = _unpacked(coding, [data[2:]])
    _assert_same(body, other_body, is_broken=is_broken or other_is_broken)  # zstd is stricter with a whole frame


def _assert_same(body: bytes, other: bytes, *, is_broken: bool) -> None:
    """What comes with the bytes that break it is lost, so how much there was before may differ."""
    if is_broken:
        assert body.startswith(other) or other.startswith(body)
    else:
        assert body == other


def _unpacked(coding: str, pieces: Iterable[bytes]) -> tuple[bytes, bool]:
    """What comes out, and whether it broke off."""
    decoder, body = Decoder(coding), b""
    try:
        for piece in pieces:
            decoder.feed(piece)
            while unpacked := decoder.take():
                assert len(unpacked) <= MAX_UNPACKED_PIECE
                body += unpacked
                if len(body) > MAX_UNPACKED:
                    return body[:MAX_UNPACKED], False
    except EncodingError:
        return body, True
    return body, False


_FUNCTIONS = (sse, relay, repair, translator, intake, refusal, request, pdf, http_answer, unpacking)
TARGETS: Mapping[str, Target] = {function.__name__: function for function in _FUNCTIONS}
