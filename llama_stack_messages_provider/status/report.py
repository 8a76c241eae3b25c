"""What the page shows, as JSON: counts of this process, and what all processes share."""

import asyncio
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from llama_stack_messages_provider.errors import MessagesError
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.status.config import StatusConfig
from llama_stack_messages_provider.status.tally import MAX_MODELS, TALLY, Tally

__all__ = ["MAX_BATCHES", "StatusReport"]

logger = get_logger(name=__name__, category="providers")

MAX_BATCHES: int = 20
_MAX_REASON = 200
# However many look at it, this is how often the database is asked; what is known of upstreams is kept by others.
_KEPT_SECONDS = 2.0

type Rows = Sequence[dict[str, Any]]


class StatusReport:
    """Reports what goes on.

    Args:
        config: Who may see it.
        models: Gives so many models, each with `model`, `label`, `provider`, `engine`, `route` and `window`, for the
            current user.
        upstreams: Says what is wrong with the upstream of each provider; None where nothing is.
        batches: Gives so many batches of everybody; None where batches are off.
        tally: What was counted in this process.

    Attributes:
        workers: How many processes serve the port of this one.
    """

    def __init__(
        self,
        config: StatusConfig,
        models: Callable[[int], Awaitable[Rows]],
        upstreams: Callable[[], Awaitable[Mapping[str, str | None]]],
        batches: Callable[[int], Awaitable[Rows]] | None,
        tally: Tally = TALLY,
    ) -> None:
        self.who = config.who
        self.workers = 1
        self._models = models
        self._upstreams = upstreams
        self._batches = batches
        self._tally = tally
        # Ids of processes are given again, and those of several machines are alike.
        self._process = secrets.token_hex(8)
        self._kept: tuple[float, Rows | None] = (-_KEPT_SECONDS, None)

    async def current(self) -> dict[str, Any]:
        """The report. `process` says whose counts `tally` has; the rest is of the whole stack."""
        return {
            "process": {"id": self._process, "pid": os.getpid(), "workers": self.workers},
            "version": version("llama-stack-messages-provider"),
            "tally": self._tally.report(),
            **await self._of_stack(),
        }

    async def _of_stack(self) -> dict[str, Any]:
        models, upstreams, batches = await asyncio.gather(
            self._models(MAX_MODELS), self._upstreams(), self._newest_batches()
        )
        return {
            "models": models,
            "upstreams": [
                {"provider": name, "well": wrong is None, "reason": (wrong or "")[:_MAX_REASON]}
                for name, wrong in sorted(upstreams.items())[:MAX_MODELS]
            ],
            "batches": batches,
        }

    async def _newest_batches(self) -> Rows | None:
        """None where there are none to be had."""
        if self._batches is not None and time.monotonic() >= self._kept[0] + _KEPT_SECONDS:
            try:
                batches: Rows | None = await self._batches(MAX_BATCHES)
            except MessagesError as exc:
                logger.warning("The status page has no batches", reason=exc.message)
                batches = None
            self._kept = time.monotonic(), batches
        return self._kept[1]
