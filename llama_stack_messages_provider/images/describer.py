"""Descriptions of images, made once by a model that sees.

A description depends on the image, the model that describes and the words below, and on nothing of the conversation or
its client: so all clients share what was made once. Whoever may not use the model gets none, remembered or not.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Any, Protocol

from llama_stack_messages_provider.config import ImagesConfig
from llama_stack_messages_provider.documents.slots import FairSlots
from llama_stack_messages_provider.errors import MessagesError, UpstreamError
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.metrics import count_description
from llama_stack_messages_provider.remembered import Remembered
from llama_stack_messages_provider.telemetry.observed import Observed

__all__ = ["PROMPT", "Describer", "Find"]

logger = get_logger(name=__name__, category="providers")

PROMPT = (
    "Describe this image for somebody who cannot see it and has to work with what it shows. Say what it is, such as a "
    "screenshot, a diagram or a photograph. Copy all text in it word for word. Then name its parts and where they are, "
    "with numbers, states and colours where they matter. Write plainly, without an introduction, and guess nothing."
)
_WAITING = 256


class Model(Protocol):
    """A model of the stack.

    Attributes:
        model: Its identifier.
        ask: Gives its message in answer to a request; raises `MessagesError`.
    """

    @property
    def model(self) -> str: ...

    @property
    def ask(self) -> Callable[[dict[str, Any]], Awaitable[Mapping[str, Any]]]: ...


type Find = Callable[[Observed | None, str, dict[str, Any]], Awaitable[Model]]
"""The model that a request goes to, with the access of the current user: what tells of it, the name of the work, the
request. Raises `MessagesError`."""


class Describer:
    """Describes images.

    Args:
        config: Who does, and its bounds.

    Attributes:
        find: Finds the model; set once there is who does that.
    """

    def __init__(self, config: ImagesConfig) -> None:
        self.config = config
        self.find: Find | None = None
        self._texts: Remembered[str] = Remembered(config.remembered)
        self._slots = FairSlots(config.concurrency, _WAITING)

    @property
    def limits(self) -> tuple[int, int]:
        """How many images of a request are described, and the longest Base64 text of one."""
        return self.config.images, self.config.bytes * 4 // 3 + 4

    async def describe(
        self, sources: Mapping[str, Mapping[str, Any]], client: Hashable, observed: Observed | None, *, asks: bool
    ) -> dict[str, str]:
        """What is known of images, by their digests; one that cannot be described has nothing here.

        Args:
            sources: The images, by their digests.
            client: Whose request it is.
            observed: What tells of the request.
            asks: Whether the model may be asked; else what is remembered has to do.
        """
        if not sources or self.find is None or self.config.describe_with is None:
            return {}
        try:
            model = await self.find(observed, "describe", self._request(next(iter(sources.values()))))
        except MessagesError as exc:
            logger.info("Images are not described", model=self.config.describe_with, reason=exc.message)
            return {}
        known = {digest: self._texts.get((model.model, digest)) for digest in sources}
        if asks and (new := {digest: sources[digest] for digest, text in known.items() if text is None}):
            known |= await self._described(new, client, model)
        return {digest: text for digest, text in known.items() if text is not None}

    async def _described(
        self, sources: Mapping[str, Mapping[str, Any]], client: Hashable, model: Model
    ) -> dict[str, str | None]:
        """New descriptions, all in the time that there is for one request."""
        tasks = {
            digest: asyncio.create_task(self._text(digest, source, client, model)) for digest, source in sources.items()
        }
        try:
            done, late = await asyncio.wait(tasks.values(), timeout=self.config.seconds)
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
        if late:
            count_description("late", len(late))
            logger.warning("Images were not described in time", model=model.model, images=len(late))
        return {digest: task.result() if task in done else None for digest, task in tasks.items()}

    async def _text(self, digest: str, source: Mapping[str, Any], client: Hashable, model: Model) -> str | None:
        try:
            async with self._slots.slot(client):
                text = _text_of(await model.ask(self._request(source)))
        except MessagesError as exc:
            count_description("failed")
            logger.warning("An image was not described", model=model.model, error=exc.message)
            return None
        count_description("described")
        return self._texts.keep((model.model, digest), text[: self.config.characters], client)

    def _request(self, source: Mapping[str, Any]) -> dict[str, Any]:
        content = [{"type": "image", "source": dict(source)}, {"type": "text", "text": PROMPT}]
        return {
            "model": self.config.describe_with,
            "max_tokens": self.config.max_tokens,
            "messages": [{"role": "user", "content": content}],
        }


def _text_of(message: Mapping[str, Any]) -> str:
    text = "\n\n".join(block["text"] for block in message["content"] if block["type"] == "text").strip()
    if not text or message.get("stop_reason") == "refusal":
        raise UpstreamError("The upstream's answer describes nothing")
    return text
