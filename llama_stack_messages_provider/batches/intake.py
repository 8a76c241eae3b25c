"""The body of `POST /v1/messages/batches`, read as it arrives: requests out, memory bounded.

Source: https://platform.claude.com/docs/en/api/creating-message-batches
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any

import orjson

from llama_stack_messages_provider.batches.config import BatchesConfig
from llama_stack_messages_provider.batches.splitter import RequestSplitter, SplitterLimits
from llama_stack_messages_provider.batches.store import NewRequest
from llama_stack_messages_provider.errors import InvalidRequestError, RequestTooLargeError
from llama_stack_messages_provider.wire.validation import check_names

__all__ = ["Intake", "Keep", "read_requests"]

type Keep = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Raises an `InvalidRequestError` for the parameters of a request, with the path of the field."""

CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]+")
"""Anthropic's; at most 64 of them, see `batches.max_custom_id_length`."""

SLICE = 64 * 1024
"""Bytes read in one go: about a millisecond in which the event loop does nothing else."""

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


class Intake:
    """Feed it the body's bytes and it gives back the requests that are complete; `close` after the last.

    Args:
        config: The limits.
        keep: Makes of the parameters of a request what may be kept for later, or refuses them.

    Raises:
        InvalidRequestError: The body is not JSON, or a request breaks a rule; names the request.
        RequestTooLargeError: The body, or one request, is larger than allowed.
    """

    def __init__(self, config: BatchesConfig, keep: Keep | None = None) -> None:
        self._config = config
        self._keep = keep
        self._bytes = 0
        self._positions: dict[str, int] = {}
        self._splitter = RequestSplitter(
            SplitterLimits(config.max_depth, config.max_number_length, config.max_request_bytes)
        )

    @property
    def total(self) -> int:
        """Requests seen so far."""
        return len(self._positions)

    def feed(self, data: bytes) -> list[NewRequest]:
        """The requests that these bytes complete."""
        self._bytes += len(data)
        if self._bytes > self._config.max_bytes:
            raise RequestTooLargeError(f"The batch exceeds the maximum size of {self._config.max_bytes} bytes")
        return [self._accept(text) for text in self._splitter.feed(data)]

    def close(self) -> None:
        """The body is complete."""
        self._splitter.close()
        if not self._positions:
            raise InvalidRequestError("requests: List should have at least 1 item")

    def _accept(self, text: bytes) -> NewRequest:
        position = self.total
        path = f"requests.{position}"
        if position >= self._config.max_requests:
            raise InvalidRequestError(f"requests: List should have at most {self._config.max_requests} items")
        item = self._parse(path, text)
        if not isinstance(item, dict):
            raise InvalidRequestError(f"{path}: Input should be an object")
        custom_id = self._custom_id(path, item)
        first = self._positions.setdefault(custom_id, position)
        if first != position:
            raise InvalidRequestError(f"{path}.custom_id: {custom_id!r} is also that of requests.{first}")
        if "params" not in item:
            raise InvalidRequestError(f"{path}.params: Field required")
        if isinstance(item["params"], dict):
            try:
                check_names(item["params"])
                if self._keep is not None:
                    item["params"] = self._keep(item["params"])
            except InvalidRequestError as exc:
                raise InvalidRequestError(f"{path}.params.{exc.message}") from None
        return NewRequest(position, custom_id, orjson.dumps(item["params"]).decode())

    def _parse(self, path: str, text: bytes) -> Any:
        most = self._config.max_values
        # What is said of the length, or of the strings as well, is quicker and enough for almost every request.
        if len(text) > most and _values(text) > most and _values(_STRING.sub(b"", text)) > most:
            raise RequestTooLargeError(f"{path}: more than {most} values")
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise InvalidRequestError(f"{path}: not valid JSON: {error.msg}") from None

    def _custom_id(self, path: str, item: dict[str, Any]) -> str:
        if "custom_id" not in item:
            raise InvalidRequestError(f"{path}.custom_id: Field required")
        custom_id = item["custom_id"]
        if not isinstance(custom_id, str):
            raise InvalidRequestError(f"{path}.custom_id: Input should be a string")
        longest = self._config.max_custom_id_length
        if not CUSTOM_ID.fullmatch(custom_id) or len(custom_id) > longest:
            raise InvalidRequestError(f"{path}.custom_id: String should match pattern '^[a-zA-Z0-9_-]{{1,{longest}}}$'")
        return custom_id


def _values(text: bytes) -> int:
    """No fewer than the values in a JSON text, but for the one around them all."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


async def read_requests(intake: Intake, body: AsyncIterator[bytes]) -> AsyncGenerator[list[NewRequest]]:
    """The requests of a body in the pieces in which they arrive; ends after a complete and valid body."""
    async for data in body:
        for start in range(0, len(data), SLICE):
            if start:
                await asyncio.sleep(0)
            found = intake.feed(data[start : start + SLICE])
            if found:
                yield found
    intake.close()
