"""The upstream: a deterministic HTTP server that costs next to nothing, as every server in the race calls it.

It speaks one dialect, so that a right answer proves the route: OpenAI's chat completions, or Anthropic's
Messages in the manner of vLLM (its version, its model list, its refusal of an invalid request). Answers are
encoded beforehand; each event of a stream is a write and a turn of the loop of its own, as engines send them.
"""

import argparse
import asyncio
import re

import orjson

from benchmarks.payloads import AGENT_CALL, CASES, PATHS, Case, Dialect, Json, token

Answers = dict[tuple[bytes, bytes], list[bytes]]
"""The writes of an answer by path and model."""

MODEL = re.compile(rb'"model"\s*:\s*"(?:[^"/]*/)?(bench-[a-z]+)"')
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
HEAD = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
USAGE = {"input_tokens": 12, "output_tokens": 34}
CHAT_USAGE = {"prompt_tokens": 12, "completion_tokens": 34, "total_tokens": 46}


def response(body: Json, status: bytes = b"200 OK") -> bytes:
    """A whole JSON response."""
    data = orjson.dumps(body)
    return HEAD % (status, len(data)) + data


def chunk(data: bytes) -> bytes:
    """``data`` as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def message(case: Case) -> Json:
    """The native answer, or the skeleton that a stream starts with."""
    content: list[Json] = [] if case.events else [{"type": "text", "text": case.text}]
    if case.model == "bench-agent":
        content.append({"type": "tool_use", "id": "toolu_bench", "name": "Bash", "input": AGENT_CALL})
    reason = None if case.events else "tool_use" if case.model == "bench-agent" else "end_turn"
    head = {"id": "msg_bench", "type": "message", "role": "assistant", "model": case.model}
    return {**head, "content": content, "stop_reason": reason, "stop_sequence": None, "usage": USAGE}


def completion(case: Case) -> Json:
    """The answer as a chat completion."""
    said: Json = {"role": "assistant", "content": case.text}
    if case.model == "bench-agent":
        call = {"name": "Bash", "arguments": orjson.dumps(AGENT_CALL).decode()}
        said["tool_calls"] = [{"id": "call_bench", "type": "function", "function": call}]
    reason = "tool_calls" if case.model == "bench-agent" else "stop"
    choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": reason}
    return {**chat_head(case, "chat.completion"), "choices": [choice], "usage": CHAT_USAGE}


def chat_head(case: Case, kind: str) -> Json:
    """The fields that a completion and its chunks share."""
    return {"id": "chatcmpl-bench", "object": kind, "created": 1760000000, "model": case.model}


def message_events(case: Case) -> list[list[Json]]:
    """The native stream: the events of each write."""
    start = {"type": "message_start", "message": message(case)}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    end = {"type": "message_delta", "delta": stop, "usage": USAGE}
    deltas: list[list[Json]] = [
        [{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": token(i)}}]
        for i in range(case.events)
    ]
    deltas[0][:0] = [start, block]
    return [*deltas, [{"type": "content_block_stop", "index": 0}, end, {"type": "message_stop"}]]


def chat_chunks(case: Case) -> list[list[Json]]:
    """The chat stream: the chunks of each write."""
    head = chat_head(case, "chat.completion.chunk")

    def piece(delta: Json, reason: str | None = None) -> Json:
        return {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]}

    writes = [[piece({"content": token(i)})] for i in range(case.events)]
    writes[0].insert(0, piece({"role": "assistant", "content": ""}))
    return [*writes, [piece({}, "stop"), {**head, "choices": [], "usage": CHAT_USAGE}]]


def named_event(event: Json) -> bytes:
    """An event as Messages streams have it."""
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event))


def encode_stream(case: Case, dialect: Dialect) -> list[bytes]:
    """The writes of a stream, the response's head before the first and the end after the last."""
    if dialect == "anthropic":
        writes = [b"".join(map(named_event, events)) for events in message_events(case)]
    else:
        writes = [b"".join(b"data: %b\n\n" % orjson.dumps(each) for each in chunks) for chunks in chat_chunks(case)]
        writes[-1] += b"data: [DONE]\n\n"
    chunked = [chunk(write) for write in writes]
    return [STREAM_HEAD + chunked[0], *chunked[1:-1], chunked[-1] + b"0\r\n\r\n"]


def encode_answers(dialect: Dialect) -> Answers:
    """Every answer to a valid request."""
    path, whole = PATHS[dialect].encode(), message if dialect == "anthropic" else completion
    answers: Answers = {}
    for name, case in CASES.items():
        model = name.encode()
        answers[path, model] = encode_stream(case, dialect) if case.events else [response(whole(case))]
        if dialect == "anthropic":
            answers[path + b"/count_tokens", model] = [response({"input_tokens": 12})]
    return answers


ENTRY = {"object": "model", "created": 1760000000, "owned_by": "vllm"}
MODELS = response({"object": "list", "data": [{"id": name, **ENTRY} for name in CASES]})
VERSION = response({"version": "0.32.0"})
HEALTH = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
NOT_FOUND = response({"detail": "Not Found"}, b"404 Not Found")
REFUSED = response(
    {"type": "error", "error": {"type": "invalid_request_error", "message": "messages: Field required"}},
    b"400 Bad Request",
)


class Upstream(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.simple = {b"/v1/models": MODELS, b"/version": VERSION, b"/health": HEALTH}
        self.paths = {path for path, _ in answers}
        self.received = bytearray()
        self.loop = asyncio.get_running_loop()
        self.next: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.next:
            self.next.cancel()

    def data_received(self, data: bytes) -> None:
        self.received += data
        head_end = self.received.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = bytes(self.received[:head_end])
        length = LENGTH.search(head)
        end = head_end + 4 + (int(length[1]) if length else 0)
        if len(self.received) < end:
            return
        body = bytes(self.received[head_end + 4 : end])
        del self.received[:end]
        self.answer(head.split(b" ", 2)[1].partition(b"?")[0], body)

    def answer(self, path: bytes, body: bytes) -> None:
        """Answer the request for ``path``."""
        if path not in self.paths:
            self.transport.write(self.simple.get(path, NOT_FOUND))
            return
        model = MODEL.search(body)
        writes = self.answers.get((path, model[1])) if model else None
        if model is None or writes is None or b'"messages"' not in body:
            self.transport.write(REFUSED)
            return
        self.play(writes, CASES[model[1].decode()].gap, 0, self.loop.time())

    def play(self, writes: list[bytes], gap: float, index: int, start: float) -> None:
        """Write one event and plan the next; times count from the start, so that nothing drifts.

        Without a gap the next comes in the loop's next turn: streams that run at once take turns.
        """
        self.transport.write(writes[index])
        following = index + 1
        if following == len(writes):
            return
        if gap:
            when = start + following * gap
            self.next = self.loop.call_at(when, self.play, writes, gap, following, start)
        else:
            self.next = self.loop.call_soon(self.play, writes, gap, following, start)


async def serve(port: int, dialect: Dialect) -> None:
    """Serve on 127.0.0.1 until killed."""
    answers = encode_answers(dialect)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(answers), "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dialect", choices=list(PATHS), required=True)
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.port, arguments.dialect))
