"""A message of several upstream turns: the model asks for a search, gets what was found, and goes on.

Each further turn is asked for by the request with the message so far behind it, as a client itself would ask after a
`pause_turn`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llama_stack_messages_provider.server_tools.web_search import SearchTool, error_block, failure_of
from llama_stack_messages_provider.translation.calls import parse_arguments
from llama_stack_messages_provider.translation.reasons import StopReason

__all__ = ["Rounds"]

_DELTAS = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


class Rounds:
    """The rounds of one message.

    Args:
        request: The client's request.
        search: Its search.
        most: Rounds after which the message is paused.

    Attributes:
        request: The request for the current round.
        content: The blocks of the rounds that have ended.
        count: How many have.
    """

    def __init__(self, request: Mapping[str, Any], search: SearchTool, most: int) -> None:
        self.request = self._first_request = request
        self.search = search
        self._most = most
        self._round: list[dict[str, Any]] = []
        self._arguments = ""
        self._searches = 0
        self.content: list[dict[str, Any]] = []
        self.count = 0

    def read(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Take the events of a round that is streamed."""
        for event in events:
            if event["type"] == "content_block_start":
                self._round.append(dict(event["content_block"]))
                self._arguments = ""
            elif event["type"] == "content_block_delta":
                self._grow(event["delta"])
            elif event["type"] == "content_block_stop" and "input" in self._round[-1]:
                self._round[-1]["input"] = parse_arguments(self._arguments)

    def _grow(self, delta: Mapping[str, Any]) -> None:
        if delta["type"] == "input_json_delta":
            self._arguments += delta["partial_json"]
        else:
            name = _DELTAS[delta["type"]]
            self._round[-1][name] += delta[name]

    def take(self, content: Sequence[dict[str, Any]]) -> None:
        """Take the blocks of a whole round."""
        self._round += content

    def due(self, stop_reason: str) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
        """The `server_tool_use` blocks of a round that ended with calls, each with its answer if it is not to be made:
        the others count as uses.
        """
        if stop_reason != "tool_use":
            return []
        return [(block, self._refusal(block)) for block in self._round if block["type"] == "server_tool_use"]

    def _refusal(self, call: Mapping[str, Any]) -> dict[str, Any] | None:
        code = failure_of(call)
        if code is None and self.search.max_uses is not None and self._searches >= self.search.max_uses:
            code = "max_uses_exceeded"
        if code:
            return error_block(call["id"], code)
        self._searches += 1
        return None

    def end(self, stop_reason: StopReason, results: Sequence[dict[str, Any]]) -> StopReason | None:
        """End a round with the results of its searches: the message's `stop_reason`, or None if it goes on."""
        for_client = any(block["type"] == "tool_use" for block in self._round)
        self.content += [*self._round, *results]
        self._round = []
        self.count += 1
        if for_client or not results:
            return stop_reason
        return "pause_turn" if self.count >= self._most else None

    def go_on(self, output_tokens: int) -> None:
        """Make the request for the next round.

        Args:
            output_tokens: Written in the rounds before, which the limit counts too.
        """
        first = self._first_request
        *before, last = first["messages"]
        if last["role"] == "assistant":  # begun by the client
            begun = last["content"]
            begun = [{"type": "text", "text": begun}] if isinstance(begun, str) else begun
            messages = [*before, {**last, "content": [*begun, *self.content]}]
        else:
            messages = [*before, last, {"role": "assistant", "content": list(self.content)}]
        self.request = {**first, "messages": messages, "max_tokens": max(1, first["max_tokens"] - output_tokens)}
        if (choice := first.get("tool_choice")) and choice["type"] in ("any", "tool"):
            self.request["tool_choice"] = {**{k: v for k, v in choice.items() if k != "name"}, "type": "auto"}

    def counted(self, usage: Mapping[str, Any]) -> dict[str, Any]:
        """A usage with the searches in it."""
        if not self._searches:
            return dict(usage)
        return {**usage, "server_tool_use": {"web_fetch_requests": 0, "web_search_requests": self._searches}}
