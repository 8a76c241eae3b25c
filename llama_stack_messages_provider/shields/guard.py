"""One call of a model, between its shields: what it is told, and what it says."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from llama_stack_messages_provider.adaptation.upstream_errors import malformed_upstream_errors
from llama_stack_messages_provider.shields.config import ShieldRule
from llama_stack_messages_provider.shields.held import HeldEvents
from llama_stack_messages_provider.shields.parts import parts_of
from llama_stack_messages_provider.shields.runs import Flagged, NotJudgedError, Shields, Side
from llama_stack_messages_provider.shields.said import CALLS, parts_in, text_of_call
from llama_stack_messages_provider.telemetry.observed import Observed
from llama_stack_messages_provider.translation.answer import message_skeleton
from llama_stack_messages_provider.translation.reasons import usage_of
from llama_stack_messages_provider.wire.sse import SSEDecoder, encode_all

__all__ = ["Guard", "refused_events", "refused_message"]


class Guard:
    """Judges one call of a model.

    Args:
        shields: The stack's shields.
        rule: Which of them judge.
        unjudged: Takes what passes without having been judged, as clients are told it.
        observed: What tells of the request; None where nobody listens.
        on_refusal: Called when something may not pass.
        offload: Runs a pure function of the request, beside the event loop if that is large.
    """

    def __init__(
        self,
        shields: Shields,
        rule: ShieldRule,
        unjudged: list[str],
        observed: Observed | None,
        on_refusal: Callable[[], None],
        offload: Callable[..., Awaitable[Any]],
    ) -> None:
        self._shields = shields
        self._config = shields.config
        self._rule = rule
        self._unjudged = unjudged
        self._observed = observed
        self._on_refusal = on_refusal
        self._offload = offload

    @property
    def reads_answers(self) -> bool:
        """Whether answers are judged."""
        return bool(self._rule.output)

    async def request(self, request: Mapping[str, Any]) -> Flagged | None:
        """What is found of a request; raises as `Shields.judge` does."""
        shields, config = self._rule.input, self._config
        if not shields:
            return None
        sizes = {"characters": config.characters, "overlap": config.overlap}
        parts, unread = await self._offload(parts_in, request, system=config.system, **sizes)
        self._shields.unread(shields, unread, self._unjudged)
        digests = [part.digest for part in parts]
        return await self._judge("input", shields, [part.text for part in parts], digests)

    async def message(self, message: dict[str, Any]) -> dict[str, Any]:
        """A whole message as it came, or ended before the first block that is flagged; raises as `Shields.judge`."""
        if not self._rule.output:
            return message
        with malformed_upstream_errors(message, "a message"):
            content = message["content"]
            parts = [(n, part) for n, block in enumerate(content) for part in self._parts(self._text_of(block))]
        flagged = await self._judge("output", self._rule.output, [part for _, part in parts])
        if flagged is None:
            return message
        return {**message, "content": content[: parts[flagged.place][0]], **_stop(flagged)}

    async def events(self, events: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        """The same of events, each piece ending at an event's end; raises as `Shields.judge` does."""
        decoder, held = SSEDecoder(), self._held()
        async with aclosing(events):
            async for piece in events:
                sent = b""
                for received in decoder.decode(piece):
                    sent += held.take(received)
                    if held.too_long:
                        self._shields.too_long("output", self._rule.output, self._unjudged)
                        sent += held.give_up()
                    elif parts := held.due():
                        if sent:
                            yield sent
                            sent = b""
                        if flagged := await self._judge("output", self._rule.output, parts):
                            yield held.refused(flagged.details)
                            return
                        sent = held.let_through()
                    elif held.is_over:
                        sent += held.let_through()
                if sent:
                    yield sent

    def _held(self) -> HeldEvents:
        config = self._config
        return HeldEvents(
            config.judged, config.hold_back, config.characters, config.overlap, config.characters * config.parts
        )

    def _parts(self, text: str) -> list[str]:
        return parts_of(text, self._config.characters, self._config.overlap)

    async def _judge(
        self, side: Side, shields: Sequence[str], texts: Sequence[str], digests: Sequence[bytes] = ()
    ) -> Flagged | None:
        try:
            flagged = await self._shields.judge(side, shields, texts, digests, self._unjudged, self._observed)
        except NotJudgedError:
            self._on_refusal()
            raise
        if flagged is not None:
            self._on_refusal()
        return flagged

    def _text_of(self, block: Mapping[str, Any]) -> str:
        kind, judged = block["type"], self._config.judged
        if kind in CALLS:
            return text_of_call(block) if "tool_use" in judged else ""
        return str(block.get(kind) or "") if kind in ("text", "thinking") and kind in judged else ""


def _stop(flagged: Flagged) -> dict[str, Any]:
    return {"stop_reason": "refusal", "stop_sequence": None, "stop_details": flagged.details}


def refused_message(flagged: Flagged, message_id: str, model: str) -> dict[str, Any]:
    """The message that answers a request which its model is not given."""
    return {**message_skeleton(message_id, model, usage_of(None)), **_stop(flagged)}


async def refused_events(flagged: Flagged, message_id: str, model: str, *, started: bool) -> AsyncGenerator[bytes]:
    """The same as events.

    Args:
        flagged: What was flagged.
        message_id: Id of the message.
        model: The name that the client used.
        started: Whether `message_start` has been sent.
    """
    start = (
        [] if started else [{"type": "message_start", "message": message_skeleton(message_id, model, usage_of(None))}]
    )
    end: dict[str, Any] = {"type": "message_delta", "delta": _stop(flagged), "usage": {"output_tokens": 0}}
    yield encode_all([*start, end, {"type": "message_stop"}])
