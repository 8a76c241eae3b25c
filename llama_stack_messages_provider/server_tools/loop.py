"""The loop above the routes: a message in which the server runs tools is several calls of the model.

A route is asked for one message after another, each time with what the tools found behind it, and the answers are
joined into one: one numbering of blocks, one usage, one end. The model sees custom tools (see `plain`), the client the
blocks of Anthropic's server tools.

| a call of the model ends with | then |
| --- | --- |
| calls of server tools only | they are run, and the model is called again; after too many calls `pause_turn` |
| calls of the client's tools as well | the server tools are run, and the message ends with `tool_use` |
| anything else | the message ends as the call did; a last call, which may be cut off, is not run |

A tool is started as soon as its call is known to be complete: by the block after it, or by the end of the model's call.
Results stand behind all that the model said, in the order of their calls, and go out one by one.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import orjson

from llama_stack_messages_provider.adaptation.upstream_errors import malformed_upstream_errors
from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.server_tools.model_call import ModelCall
from llama_stack_messages_provider.server_tools.plain import plain_turns
from llama_stack_messages_provider.server_tools.runs import PendingCall, ToolRuns
from llama_stack_messages_provider.server_tools.tool import Block, ServerTool
from llama_stack_messages_provider.server_tools.usage import CallsModels, iteration
from llama_stack_messages_provider.telemetry.observed import Observed
from llama_stack_messages_provider.wire.sse import ServerSentEvent, SSEDecoder, encode, encode_all

__all__ = ["Loop", "complete_message", "stream_message"]

_ID_PREFIXES = {"server_tool_use": "srvtoolu_", "mcp_tool_use": "mcptoolu_"}
_COUNTED = ("web_search_requests", "web_fetch_requests")


class Loop:
    """The state of one message; it calls nothing itself.

    Args:
        request: The request with custom tools in place of server tools.
        tools: The server tools.
        message_id: Id of the message.
        max_calls: Calls of the model after which the message is paused.
        opening: Blocks that the message begins with.

    Attributes:
        request: The request for the next call of the model.
        tools: The server tools.
        content: The blocks of the calls that have ended, as the client gets them.
        calls: How many have.
        failed: Whether an upstream ended its stream with an error.
    """

    def __init__(
        self,
        request: dict[str, Any],
        tools: Sequence[ServerTool],
        message_id: str,
        *,
        max_calls: int,
        opening: Sequence[Block] = (),
    ) -> None:
        self.request: dict[str, Any] = request
        self._first_request = request
        self.tools = tools
        self._by_name = {definition["name"]: tool for tool in tools for definition in tool.definitions}
        self._message_id = message_id
        self._max_calls = max_calls
        self._uses: Counter[str] = Counter()
        self._tool_calls = 0
        self._usage: dict[str, Any] = {}
        self._iterations: list[dict[str, Any]] = []
        self._first_id: str | None = None
        self.content: list[dict[str, Any]] = [dict(block) for block in opening]
        self._opening = self.content[:]
        self.calls = 0
        self._looked_at = 0
        self._results: list[dict[str, Any]] = []
        self._call = self._next_call()
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
        if seen is None:
            return b""
        shown = received.frame() if seen is event else encode(seen)
        if self._opening and seen["type"] == "content_block_start":
            return self._opening_events() + shown
        return shown

    def _opening_events(self) -> bytes:
        opening, self._opening = self._opening, []
        return encode_all(_events_of(opening, 0))

    def ready_calls(self) -> list[PendingCall]:
        """The calls of server tools that are known to be complete since this was asked last; they count as made."""
        call = self._call
        complete = len(call.content) if call.delta.get("stop_reason") == "tool_use" else len(call.content) - 1
        blocks, self._looked_at = call.content[self._looked_at : complete], max(complete, self._looked_at)
        found = ((self._tool_of(block), block) for block in blocks)
        return [PendingCall(tool, block, self._refusal(tool, block)) for tool, block in found if tool is not None]

    def _refusal(self, tool: ServerTool, call: Block) -> dict[str, Any] | None:
        refusal = tool.refusal(call, self._uses[tool.usage_field])
        if refusal is None:
            self._uses[tool.usage_field] += 1
        return refusal

    def end_call(self) -> bool:
        """End a call whose tools have all been answered; whether the message has ended with it."""
        call = self._call
        self.content += [*call.content, *self._results]
        self._usage = _added(self._usage, call.usage)
        self._iterations.append(iteration(call.usage))
        for tool in self.tools:
            if isinstance(tool, CallsModels):
                self._iterations += tool.take_iterations()
        self.calls += 1
        of_client = any(block["type"] == "tool_use" for block in call.content)
        if of_client or not self._results or call.delta.get("stop_reason") != "tool_use":
            return True
        if self.calls >= self._max_calls:
            call.delta |= {"stop_reason": "pause_turn", "stop_sequence": None, "stop_details": None}
            return True
        self.request = self.next_request()
        self._call = self._next_call()
        return False

    def _next_call(self) -> ModelCall:
        self._looked_at, self._results = 0, []
        return ModelCall(len(self.content), self._seen_by_client, is_first=not self.calls)

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
        turns = plain_turns({**last, "content": content}, "messages", self.tools, DroppedFields())
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

    def add_result(self, result: dict[str, Any]) -> bytes:
        """Take the result of the next call that was ready, once the model has said all; its events."""
        first = len(self.content) + len(self._call.content) + len(self._results)
        self._results.append(result)
        return encode_all(_events_of([result], first))

    def end_events(self) -> bytes:
        """The events of the message's end."""
        delta = {"type": "message_delta", "delta": self._call.delta, "usage": self.usage}
        return (self._opening_events() if self._opening else b"") + encode_all([delta, {"type": "message_stop"}])

    @property
    def usage(self) -> dict[str, Any]:
        """What all calls cost, each by itself where there were several, and the uses of tools."""
        usage = dict(self._usage)
        if len(self._iterations) > 1:
            usage["iterations"] = self._iterations
        uses = {name: self._uses[name] for name in _COUNTED}
        return {**usage, "server_tool_use": uses} if any(uses.values()) else usage

    def _tool_of(self, call: Block) -> ServerTool | None:
        is_ours = call["type"] in _ID_PREFIXES
        return next((tool for tool in self.tools if is_ours and tool.custom_name(call) is not None), None)

    def _seen_by_client(self, block: Block) -> dict[str, Any]:
        """A block of the model's; a call of a custom tool that stands for a server tool is one of that."""
        tool = self._by_name.get(block["name"]) if block["type"] == "tool_use" else None
        if tool is None:
            return dict(block)
        fields = tool.call_fields(block["name"])
        ident = f"{_ID_PREFIXES[fields['type']]}{self._message_id.removeprefix('msg_')}_{self._tool_calls}"
        self._tool_calls += 1
        caller = {} if fields["type"] == "mcp_tool_use" else {"caller": {"type": "direct"}}
        return {"id": ident, "input": block["input"], **caller, **fields}


def _added(first: Any, second: Any) -> Any:
    """Two usages in one: numbers are added, at any depth."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        names = {**first, **second}
        return {name: _added(first.get(name), second.get(name)) for name in names}
    if type(first) is int and type(second) is int:
        return first + second
    return first if second is None else second


def _events_of(blocks: Iterable[Block], first_index: int) -> list[dict[str, Any]]:
    """The events of blocks that come whole."""
    events: list[dict[str, Any]] = []
    for index, block in enumerate(blocks, first_index):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events.append({"type": "content_block_stop", "index": index})
    return events


def _without_null(block: Block) -> dict[str, Any]:
    return {name: value for name, value in block.items() if value is not None}


# --- running it ---


async def complete_message(
    loop: Loop, call: Callable[[dict[str, Any], str], Awaitable[dict[str, Any]]], observed: Observed | None = None
) -> dict[str, Any]:
    """The whole message.

    Args:
        loop: Its state.
        call: Asks a route for the message that answers a request, under an id.
        observed: What tells of the message; None where nobody listens.
    """
    async with aclosing(ToolRuns(loop.tools, observed)) as runs:
        while True:
            loop.add_message(await call(loop.request, loop.call_id))
            runs.start(loop.ready_calls(), loop.request)
            async for result in runs.results():
                loop.add_result(result)
            if loop.end_call():
                return loop.message()


async def stream_message(
    loop: Loop, call: Callable[[dict[str, Any], str], AsyncGenerator[bytes]], observed: Observed | None = None
) -> AsyncGenerator[bytes]:
    """The events of a message, each piece ending at an event's end.

    Args:
        loop: Its state.
        call: Asks a route for the events that answer a request, under an id.
        observed: What tells of the message; None where nobody listens.
    """
    async with aclosing(ToolRuns(loop.tools, observed)) as runs:
        while True:
            decoder = SSEDecoder()
            async with aclosing(call(loop.request, loop.call_id)) as pieces:
                async for piece in pieces:
                    seen = loop.add_events(decoder.decode(piece))
                    runs.start(loop.ready_calls(), loop.request)
                    if seen:
                        yield seen
            if loop.failed:
                return
            async for result in runs.results():
                yield loop.add_result(result)
            if loop.end_call():
                yield loop.end_events()
                return
