"""The loop above the routes: a message in which the server runs tools is several calls of the model.

A route is asked for one message after another, each time with what the tools found behind it, and the answers are
joined into one: one numbering of blocks, one usage, one end. The model sees custom tools (see `plain`), the client the
blocks of Anthropic's server tools.

| a call of the model ends with | then |
| --- | --- |
| calls of server tools only | they are run, and the model is called again; after too many calls `pause_turn` |
| calls of the client's tools as well | the server tools are run, and the message ends with `tool_use` |
| anything else | the message ends as the call did; a call of a tool that was cut off is not run |
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import orjson

from llama_stack_messages_provider.adaptation.upstream_errors import malformed_upstream_errors
from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.server_tools.model_call import ModelCall
from llama_stack_messages_provider.server_tools.plain import plain_turns
from llama_stack_messages_provider.server_tools.tool import Block, ServerTool
from llama_stack_messages_provider.wire.sse import ServerSentEvent, SSEDecoder, encode, encode_all

__all__ = ["Loop", "complete_message", "stream_message"]

type Call[T] = Callable[[dict[str, Any], str], T]
type PendingCall = tuple[ServerTool, Block, dict[str, Any] | None]

_TOOLS_AT_ONCE = 8
_ID_PREFIXES = {"server_tool_use": "srvtoolu_", "mcp_tool_use": "mcptoolu_"}
_COUNTED = ("web_search_requests", "web_fetch_requests")


class Loop:
    """The state of one message; it calls nothing itself.

    Args:
        request: The request with custom tools in place of server tools.
        tools: The server tools.
        message_id: Id of the message.
        max_calls: Calls of the model after which the message is paused.

    Attributes:
        request: The request for the next call of the model.
        content: The blocks of the calls that have ended, as the client gets them.
        calls: How many have.
        failed: Whether an upstream ended its stream with an error.
    """

    def __init__(
        self, request: dict[str, Any], tools: Sequence[ServerTool], message_id: str, *, max_calls: int
    ) -> None:
        self.request: dict[str, Any] = request
        self._first_request = request
        self._tools = tools
        self._by_name = {definition["name"]: tool for tool in tools for definition in tool.definitions}
        self._message_id = message_id
        self._max_calls = max_calls
        self._uses: Counter[str] = Counter()
        self._tool_calls = 0
        self._usage: dict[str, Any] = {}
        self._first_id: str | None = None
        self._call = ModelCall(0, self._seen_by_client)
        self.content: list[dict[str, Any]] = []
        self.calls = 0
        self.failed = False

    @property
    def call_id(self) -> str:
        """Id of the message of the next call: each has its own, so that ids which routes make from it differ."""
        return f"{self._message_id}_{self.calls}" if self.calls else self._message_id

    def add_message(self, message: Mapping[str, Any]) -> None:
        """Take the whole answer of a call."""
        self._call.add_message(message)
        self._first_id = self._first_id or message.get("id")

    def add_events(self, received: Iterable[ServerSentEvent]) -> bytes:
        """Take events of a streamed answer; those that the client gets."""
        return b"".join(map(self._add_event, received))

    def _add_event(self, received: ServerSentEvent) -> bytes:
        with malformed_upstream_errors(received.data, "an event of a message"):
            event = orjson.loads(received.data)
            self.failed = self.failed or event.get("type") == "error"
            seen = self._call.add_event(event)
        if seen is event:
            return received.frame()
        return b"" if seen is None else encode(seen)

    def pending_calls(self) -> list[PendingCall]:
        """The calls of server tools to be answered, each with its result if it is not to be run: the others count."""
        if self._call.delta.get("stop_reason") != "tool_use":
            return []
        found = ((self._tool_of(block), block) for block in self._call.content)
        return [(tool, block, self._refusal(tool, block)) for tool, block in found if tool is not None]

    def _refusal(self, tool: ServerTool, call: Block) -> dict[str, Any] | None:
        refusal = tool.refusal(call, self._uses[tool.usage_field])
        if refusal is None:
            self._uses[tool.usage_field] += 1
        return refusal

    def end_call(self, results: Sequence[dict[str, Any]]) -> bool:
        """End a call with the results of its tools; whether the message has ended with it."""
        call = self._call
        self.content += [*call.content, *results]
        self._usage = _added(self._usage, call.usage)
        self.calls += 1
        if not results or any(block["type"] == "tool_use" for block in call.content):
            return True
        if self.calls >= self._max_calls:
            call.delta |= {"stop_reason": "pause_turn", "stop_sequence": None, "stop_details": None}
            return True
        self.request = self.next_request()
        self._call = ModelCall(len(self.content), self._seen_by_client)
        return False

    def next_request(self) -> dict[str, Any]:
        """The request with the message so far behind it, as its client would send it after a `pause_turn`."""
        first = self._first_request
        *before, last = first["messages"]
        content = [_without_null(block) for block in self.content]
        if last["role"] == "assistant":  # begun by the client
            begun = last["content"]
            content = [*([{"type": "text", "text": begun}] if isinstance(begun, str) else begun), *content]
        else:
            before, last = [*before, last], {"role": "assistant"}
        turns = plain_turns({**last, "content": content}, "messages", self._tools, DroppedFields())
        request = {**first, "messages": [*before, *turns]}
        if isinstance(limit := first.get("max_tokens"), int):  # which holds for the whole message
            request["max_tokens"] = max(1, limit - self._usage.get("output_tokens", 0))
        if (choice := first.get("tool_choice")) and choice["type"] in ("any", "tool"):
            request["tool_choice"] = {**{k: v for k, v in choice.items() if k != "name"}, "type": "auto"}
        return request

    def message(self) -> dict[str, Any]:
        """The message, once it has ended."""
        call = self._call
        return {**call.message, "id": self._first_id, **call.delta, "content": self.content, "usage": self.usage}

    def result_events(self, results: Iterable[Mapping[str, Any]]) -> bytes:
        """The events of the results of a call's tools, before its end."""
        events: list[Mapping[str, Any]] = []
        for index, block in enumerate(results, len(self.content) + len(self._call.content)):
            events.append({"type": "content_block_start", "index": index, "content_block": block})
            events.append({"type": "content_block_stop", "index": index})
        return encode_all(events)

    def end_events(self) -> bytes:
        """The events of the message's end."""
        delta = {"type": "message_delta", "delta": self._call.delta, "usage": self.usage}
        return encode_all([delta, {"type": "message_stop"}])

    @property
    def usage(self) -> dict[str, Any]:
        """What all calls cost, with the uses of tools."""
        uses = {name: self._uses[name] for name in _COUNTED}
        return {**self._usage, "server_tool_use": uses} if any(uses.values()) else self._usage

    def _tool_of(self, call: Block) -> ServerTool | None:
        is_ours = call["type"] in _ID_PREFIXES
        return next((tool for tool in self._tools if is_ours and tool.custom_name(call) is not None), None)

    def _seen_by_client(self, block: Block) -> dict[str, Any]:
        """A block of the model's; a call of a custom tool that stands for a server tool is one of that."""
        tool = self._by_name.get(block["name"]) if block["type"] == "tool_use" else None
        if tool is None:
            return dict(block)
        fields = tool.call_fields(block["name"])
        ident = f"{_ID_PREFIXES[fields['type']]}{self._message_id.removeprefix('msg_')}_{self._tool_calls}"
        self._tool_calls += 1
        return {"id": ident, "input": block["input"], "caller": {"type": "direct"}, **fields}


def _added(first: Any, second: Any) -> Any:
    """Two usages in one: numbers are added, at any depth."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        names = {**first, **second}
        return {name: _added(first.get(name), second.get(name)) for name in names}
    if type(first) is int and type(second) is int:
        return first + second
    return first if second is None else second


def _without_null(block: Block) -> dict[str, Any]:
    return {name: value for name, value in block.items() if value is not None}


# --- running it ---


async def complete_message(
    loop: Loop, call: Callable[[dict[str, Any], str], Awaitable[dict[str, Any]]]
) -> dict[str, Any]:
    """The whole message.

    Args:
        loop: Its state.
        call: Asks a route for the message that answers a request, under an id.
    """
    while True:
        loop.add_message(await call(loop.request, loop.call_id))
        if loop.end_call(await _results(loop.pending_calls(), loop.request)):
            return loop.message()


async def stream_message(
    loop: Loop, call: Callable[[dict[str, Any], str], AsyncGenerator[bytes]]
) -> AsyncGenerator[bytes]:
    """The events of a message, each piece ending at an event's end.

    Args:
        loop: Its state.
        call: Asks a route for the events that answer a request, under an id.
    """
    while True:
        decoder = SSEDecoder()
        async with aclosing(call(loop.request, loop.call_id)) as pieces:
            async for piece in pieces:
                if seen := loop.add_events(decoder.decode(piece)):
                    yield seen
        if loop.failed:
            return
        results = await _results(loop.pending_calls(), loop.request)
        if results:
            yield loop.result_events(results)
        if loop.end_call(results):
            yield loop.end_events()
            return


async def _results(calls: Sequence[PendingCall], request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The result blocks of calls that answered a request, some of which are run at the same time."""
    turn = asyncio.Semaphore(_TOOLS_AT_ONCE)

    async def run(tool: ServerTool, call: Block, refusal: dict[str, Any] | None) -> dict[str, Any]:
        if refusal is not None:
            return refusal
        async with turn:
            return await tool.run(call, request)

    return list(await asyncio.gather(*(run(*call) for call in calls)))
