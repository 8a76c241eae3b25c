"""Batches and outcomes for tests."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

import orjson
from sqlalchemy import select

from llama_stack_messages_provider.batches import BatchService
from llama_stack_messages_provider.batches.database import Database
from llama_stack_messages_provider.batches.identity import Identity
from llama_stack_messages_provider.batches.ids import new_batch_id
from llama_stack_messages_provider.batches.job_queue import Lease, Outcome
from llama_stack_messages_provider.batches.lifecycle import RequestState
from llama_stack_messages_provider.batches.store import BatchStore, NewRequest
from llama_stack_messages_provider.batches.tables import requests

__all__ = [
    "Make",
    "add_batch",
    "body_of",
    "create",
    "done",
    "echo",
    "ended",
    "failed",
    "in_pieces",
    "message",
    "new_requests",
    "params",
    "read",
    "retried",
    "states",
]

type Json = dict[str, Any]
type Make = Callable[..., BatchService]

DAY = 86_400.0


def params(text: str = "hi") -> Json:
    """A small request."""
    return {"model": "m", "max_tokens": 16, "messages": [{"role": "user", "content": text}]}


def message(text: str = "hello") -> Json:
    """A small Message."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }


def body_of(requests: Iterable[tuple[str, Json]]) -> bytes:
    """The body that creates a batch."""
    return orjson.dumps({"requests": [{"custom_id": name, "params": what} for name, what in requests]})


async def in_pieces(body: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    """A body as a server receives it."""
    for start in range(0, len(body), size):
        await asyncio.sleep(0)
        yield body[start : start + size]


def new_requests(count: int, *, start: int = 0) -> list[NewRequest]:
    """Rows with `custom_id`s r-0, r-1, ..."""
    return [
        NewRequest(position, f"r-{position}", orjson.dumps(params()).decode())
        for position in range(start, start + count)
    ]


async def add_batch(store: BatchStore, count: int, *, owner: Identity | None = None, expires_after: float = DAY) -> str:
    """A batch of `count` requests, published."""
    batch_id = new_batch_id()
    await store.begin(batch_id, owner, lease_seconds=DAY, expires_after=expires_after)
    assert await store.append(batch_id, new_requests(count))
    assert await store.publish(batch_id, count)
    return batch_id


def done(lease: Lease, text: str = "hello") -> Outcome:
    """The request succeeded."""
    return Outcome(lease, RequestState.SUCCEEDED, orjson.dumps(message(text)).decode())


def failed(lease: Lease) -> Outcome:
    """The request failed for good."""
    return Outcome(lease, RequestState.ERRORED, '{"type":"error"}')


def retried(lease: Lease, delay: float = 10.0, *, fault: bool = True) -> Outcome:
    """The request is to be tried again."""
    return Outcome(lease, RequestState.PENDING, delay=delay, fault=fault)


async def echo(what: Json, identity: Identity | None, headers: Mapping[str, str]) -> Json:
    """A model that says what it is told."""
    await asyncio.sleep(0)
    return message(what["messages"][0]["content"])


async def create(service: BatchService, count: int = 3, identity: Identity | None = None) -> Json:
    body = body_of((f"r-{n}", params(f"text {n}")) for n in range(count))
    return await service.create(in_pieces(body), identity)


async def ended(service: BatchService, batch_id: str, identity: Identity | None = None) -> Json:
    while (batch := await service.retrieve(batch_id, identity))["processing_status"] != "ended":
        await asyncio.sleep(0.02)
    return batch


async def read(service: BatchService, batch_id: str, identity: Identity | None = None) -> list[Json]:
    data = b"".join([chunk async for chunk in await service.results(batch_id, identity)])
    return [orjson.loads(line) for line in data.splitlines()]


async def states(database: Database, batch_id: str) -> Counter[str]:
    """How many requests of a batch are in each state."""
    async with database.read() as connection:
        found = await connection.scalars(select(requests.c.state).where(requests.c.batch_id == batch_id))
        return Counter(found.all())
