"""What a case of the policy table is made of: see `test_policy.py`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llama_stack_messages_provider.api_support import Kind
from tests.support.upstream import (
    RecordedRequest,
    Reply,
    Responder,
    chat_chunks,
    chat_completion,
    completion_usage,
    encode_chunks,
    json_reply,
    stream_reply,
)

__all__ = ["CALL", "HELLO", "LOOK", "Case", "Json", "answer", "asks", "result", "says"]

type Json = dict[str, Any]

HELLO: Json = {"role": "user", "content": "Hi"}
LOOK: Json = {"name": "look", "description": "Look around.", "input_schema": {"type": "object", "properties": {}}}
CALL: Json = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "sky"}}


@dataclass(frozen=True)
class Case:
    """One thing said, what is to reach the upstream for it, and what is to come back.

    Args:
        kind, row: The policy's place in the table.
        request: What is added to a minimal request.
        sent: What the upstream's request must have; see `matching`.
        reply: What the upstream answers; "Hello" by default.
        returned: What the SDK's message must have, as a dict.
        events: What events of the stream must be there, in this order.
        upstream: The engine, a name of the fleet.
        model: The name that the client uses; the upstream's translated model by default.
        note: Tells cases of one row apart.
    """

    kind: Kind
    row: str
    request: Json = field(default_factory=dict)
    sent: Json = field(default_factory=dict)
    reply: Responder | None = None
    returned: Json = field(default_factory=dict)
    events: Sequence[Json] = ()
    upstream: str = "vllm"
    model: str | None = None
    note: str = ""

    @property
    def id(self) -> str:
        """The case's name."""
        return f"{self.kind}: {self.row}" + (f", {self.note}" if self.note else "")


def asks(*content: Json | str) -> Json:
    """A request with one turn of the user."""
    return {"messages": [{"role": "user", "content": content[0] if content == (str(content[0]),) else list(content)}]}


def says(*content: Json) -> Json:
    """A request in which the assistant has said this."""
    return {"messages": [HELLO, {"role": "assistant", "content": list(content)}, {"role": "user", "content": "Go on"}]}


def result(*content: Json, **more: Any) -> Json:
    """A request in which a call was answered with this."""
    block = {"type": "tool_result", "tool_use_id": "toolu_1", "content": list(content), **more}
    turns = [HELLO, {"role": "assistant", "content": [CALL]}, {"role": "user", "content": [block]}]
    return {"tools": [LOOK], "messages": turns}


def answer(
    content: str | None = None, *, choice: Json | None = None, usage: Json | None = None, **more: Any
) -> Responder:
    """A chat completion, streamed or not as asked; `choice` adds to the choice that ends it."""

    def reply(request: RecordedRequest) -> Reply:
        counted = usage or completion_usage()
        if not request.json.get("stream"):
            return json_reply(chat_completion(content, choice=choice, usage=counted, **more))
        chunks = chat_chunks(content, usage=counted, **more)
        return stream_reply(encode_chunks([_ended(chunk, choice or {}) for chunk in chunks]))

    return reply


def _ended(chunk: Json, choice: Mapping[str, Any]) -> Json:
    if not any(each["finish_reason"] for each in chunk["choices"]):
        return chunk
    return {**chunk, "choices": [{**chunk["choices"][0], **choice}]}
