"""The body of `POST /v1/messages/batches`, read as it arrives: requests out, memory bounded.

Source: https://platform.claude.com/docs/en/api/creating-message-batches
"""

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from decimal import Decimal
from typing import Any

import ijson  # type: ignore[import-untyped]
import orjson

from llama_stack_messages_provider.batches.config import BatchesConfig
from llama_stack_messages_provider.batches.store import NewRequest
from llama_stack_messages_provider.errors import InvalidRequestError, RequestTooLargeError

__all__ = ["Intake", "read_requests"]

CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")

SLICE = 64 * 1024
"""Bytes parsed in one go: about two milliseconds in which the event loop does nothing else."""


class Intake:
    """Feed it the body's bytes and it gives back the requests that are complete; `close` after the last.

    Args:
        config: The limits.

    Raises:
        InvalidRequestError: The body is not JSON, or a request breaks a rule; names the request.
        RequestTooLargeError: The body, or one request, is larger than allowed.
    """

    def __init__(self, config: BatchesConfig) -> None:
        self._config = config
        self._bytes = 0
        self._bytes_at_last_request = 0
        self._positions: dict[str, int] = {}
        self._items: Any = ijson.sendable_list()
        # Numbers as `int` and `Decimal`: as floats, integers beyond 64 bits are refused.
        self._parser = ijson.items_coro(self._items, "requests.item", use_float=False)

    @property
    def total(self) -> int:
        """Requests seen so far."""
        return len(self._positions)

    def feed(self, data: bytes) -> list[NewRequest]:
        """The requests that these bytes complete."""
        self._bytes += len(data)
        if self._bytes > self._config.max_bytes:
            raise RequestTooLargeError(f"The batch exceeds the maximum size of {self._config.max_bytes} bytes")
        self._parse(data)
        found = [self._accept(item) for item in self._items]
        if found:
            del self._items[:]
            self._bytes_at_last_request = self._bytes
        if self._bytes - self._bytes_at_last_request > self._config.max_request_bytes + SLICE:
            raise RequestTooLargeError(
                f"requests.{self.total}: exceeds the maximum size of {self._config.max_request_bytes} bytes"
            )
        return found

    def close(self) -> None:
        """The body is complete."""
        self._parse(None)
        if not self._positions:
            raise InvalidRequestError("requests: List should have at least 1 item")

    def _parse(self, data: bytes | None) -> None:
        try:
            if data is None:
                self._parser.close()
            elif data:
                self._parser.send(data)
        except ijson.JSONError as error:
            detail = error.args[0] if error.args else ""
            text = detail.decode(errors="replace") if isinstance(detail, bytes) else str(detail)
            raise InvalidRequestError(f"The request body is not valid JSON: {text.splitlines()[0]}") from error

    def _accept(self, item: Any) -> NewRequest:
        position = self.total
        path = f"requests.{position}"
        if position >= self._config.max_requests:
            raise InvalidRequestError(f"requests: List should have at most {self._config.max_requests} items")
        if not isinstance(item, dict):
            raise InvalidRequestError(f"{path}: Input should be an object")
        custom_id = _custom_id(path, item)
        first = self._positions.setdefault(custom_id, position)
        if first != position:
            raise InvalidRequestError(f"{path}.custom_id: {custom_id!r} is also that of requests.{first}")
        if "params" not in item:
            raise InvalidRequestError(f"{path}.params: Field required")
        return NewRequest(position, custom_id, _json_text(path, item["params"]))


def _custom_id(path: str, item: dict[str, Any]) -> str:
    if "custom_id" not in item:
        raise InvalidRequestError(f"{path}.custom_id: Field required")
    custom_id = item["custom_id"]
    if not isinstance(custom_id, str):
        raise InvalidRequestError(f"{path}.custom_id: Input should be a string")
    if not CUSTOM_ID.fullmatch(custom_id):
        raise InvalidRequestError(f"{path}.custom_id: String should match pattern '^{CUSTOM_ID.pattern}$'")
    return custom_id


def _json_text(path: str, params: Any) -> str:
    try:
        return orjson.dumps(params, default=_number).decode()
    except TypeError:
        pass  # An integer beyond 64 bits, or more nesting than orjson writes.
    try:
        return json.dumps(params, default=_number, separators=(",", ":"))
    except RecursionError as error:
        raise InvalidRequestError(f"{path}.params: nested too deeply") from error


def _number(value: object) -> float:
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(value)


async def read_requests(intake: Intake, body: AsyncIterator[bytes]) -> AsyncGenerator[list[NewRequest]]:
    """The requests of a body in the pieces in which they arrive; ends after a complete and valid body."""
    async for data in body:
        for start in range(0, len(data), SLICE):
            found = intake.feed(data[start : start + SLICE])
            if found:
                yield found
    intake.close()
