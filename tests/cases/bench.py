"""A client, and upstreams that say what a case has them say."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.support.dialects import Dialect, checked
from tests.support.laws import assert_well_formed, fold
from tests.support.sse import events
from tests.support.upstream import Json, RecordedRequest, Reply, Responder, ScriptedUpstream, chat_reply, json_reply

__all__ = [
    "BASH",
    "CHAT",
    "CITY",
    "FINE",
    "HELLO",
    "MESSAGES",
    "TOOLS",
    "WEATHER",
    "Answer",
    "Bench",
    "refusing",
    "speaks_messages",
]

FINE = Dialect().answer
"""What a Messages endpoint answers."""
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
HELLO: Json = {"role": "user", "content": "What is the weather in Paris?"}
CITY: Json = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
COMMAND: Json = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
WEATHER: Json = {"name": "get_weather", "description": "Weather of a city.", "input_schema": CITY}
BASH: Json = {"name": "Bash", "description": "Run a command.", "input_schema": COMMAND}
TOOLS = [WEATHER, BASH]


@dataclass(frozen=True)
class Answer:
    """What a client got.

    Args:
        status: HTTP status.
        headers: Of the answer.
        message: The message, streamed or not; None where it failed.
        error: The error, before or within a stream; None where it did not fail.
        events: Of a stream.
    """

    status: int
    headers: httpx.Headers
    message: Json | None = None
    error: Json | None = None
    events: list[Json] = field(default_factory=list)

    @property
    def route(self) -> str | None:
        return self.headers.get("x-messages-route")

    @property
    def dropped(self) -> str | None:
        return self.headers.get("x-messages-dropped")

    @property
    def content(self) -> list[Json]:
        assert self.message is not None, self.error
        return list(self.message["content"])

    @property
    def text(self) -> str:
        return "".join(block["text"] for block in self.content if block["type"] == "text")

    @property
    def calls(self) -> list[tuple[str, Any]]:
        return [(block["name"], block["input"]) for block in self.content if block["type"] == "tool_use"]

    @property
    def stop_reason(self) -> str:
        assert self.message is not None, self.error
        return str(self.message["stop_reason"])


@dataclass
class Bench:
    """The stack as a case sees it; what is learned of a model is learned in one test only.

    Args:
        http: To the stack.
        upstreams: `chat`, of an engine that nobody knows; `messages`, the same with a Messages endpoint; `vllm`,
            `llamacpp`; `windows`, a vLLM whose models have windows of several sizes.
        model: A model that no other test names.
        stream: Whether answers are streamed.
    """

    http: httpx.Client
    upstreams: dict[str, ScriptedUpstream]
    model: str
    stream: bool

    def ask(self, *messages: Json, by: str = "chat", strict: bool = False, **fields: Any) -> Answer:
        """Send a request; `HELLO` by default."""
        body = {"model": f"{by}/{self.model}", "max_tokens": 1000, "messages": messages or [HELLO], **fields}
        headers = {"x-messages-strict": "true"} if strict else {}
        response = self.http.post("/v1/messages", json={"stream": self.stream, **body}, headers=headers)
        return _answer(response)

    def count(self, *messages: Json, by: str = "chat", **fields: Any) -> httpx.Response:
        body = {"model": f"{by}/{self.model}", "messages": messages or [HELLO], **fields}
        return self.http.post("/v1/messages/count_tokens", json=body)

    def next_turn(self, first: Answer, result: str = "18 degrees", **fields: Any) -> Answer:
        """The turn that answers the calls of an answer."""
        used = [block["id"] for block in first.content if block["type"] == "tool_use"]
        results = [{"type": "tool_result", "tool_use_id": each, "content": result} for each in used]
        said = {"role": "assistant", "content": first.content}
        return self.ask(HELLO, said, {"role": "user", "content": results}, **fields)

    def says(self, answer: Responder, *, by: str = "chat", path: str = CHAT) -> None:
        """Answer this path so; a Messages endpoint still refuses what is no request, by which it is known."""
        self.upstreams[by].reply(path, speaks_messages(answer) if path == MESSAGES else answer)

    def sent(self, *, by: str = "chat", path: str = CHAT) -> list[Json]:
        """The bodies that an upstream got, oldest first."""
        return [request.json for request in self.upstreams[by].requests_to(path) if "messages" in request.json]


def _no_request(request: RecordedRequest) -> Reply | None:
    if "messages" in request.json:
        return None
    error = {"type": "invalid_request_error", "message": "messages: Field required"}
    return json_reply({"type": "error", "error": error}, status=400)


def speaks_messages(answer: Responder = FINE) -> Responder:
    """A Messages endpoint."""
    return checked(_no_request, answer)


def _answer(response: httpx.Response) -> Answer:
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        seen = events(response.content)
        if (last := seen[-1])["type"] == "error":
            return Answer(response.status_code, response.headers, error=last["error"], events=seen)
        assert_well_formed(seen)
        return Answer(response.status_code, response.headers, fold(seen), events=seen)
    body = response.json()
    key = "error" if body.get("type") == "error" else "message"
    return Answer(response.status_code, response.headers, **{key: body.get("error", body)})


def refusing(
    said: Any, when: Callable[[Json], bool], *, status: int = 400, then: Responder | None = None
) -> Callable[[RecordedRequest], Reply]:
    """An upstream that refuses some requests, and says "fine" to the others.

    Args:
        said: The text of its refusal, or the body.
        when: Whether a request is refused.
        status: Of the refusal.
        then: What it says instead of "fine".
    """
    fine = then or chat_reply("fine")

    def answer(request: RecordedRequest) -> Reply:
        if when(request.json):
            body = {"error": {"message": said, "type": "invalid_request_error"}} if isinstance(said, str) else said
            return json_reply(body, status=status)
        return fine(request) if callable(fine) else fine

    return answer
