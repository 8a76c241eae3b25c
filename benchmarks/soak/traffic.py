"""The kinds of traffic: each an endless loop of one client."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import orjson

__all__ = ["KINDS", "Client"]

MODELS = ("vllm/vllm-model", "openai/openai-model", "llamacpp/llamacpp-model")
FAULTY = ("faulty/faulty-model", "dead/dead-model")
VERSION = {"anthropic-version": "2023-06-01"}
POLL_SECONDS, POLLS = 0.5, 120


class Client:
    """A session, where it points to, and what came back.

    Attributes:
        seen: Counts by kind and status; 0 is a connection that broke.
        wrong: Answers that are not what they should be, a few of them.
    """

    def __init__(self, session: aiohttp.ClientSession, base_url: str, random_: random.Random) -> None:
        self.session = session
        self.base_url = base_url
        self.random = random_
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []

    async def post(self, kind: str, path: str, body: Any, *, allowed: tuple[int, ...] = (200,)) -> bytes:
        """The answer's body; a status that is not allowed, or an error of another shape, is noted."""
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        headers = {"content-type": "application/json", **VERSION}
        async with self.session.post(self.base_url + path, data=data, headers=headers) as answer:
            text = await answer.read()
        self.note(kind, answer.status, text, allowed)
        return text

    def note(self, kind: str, status: int, text: bytes, allowed: tuple[int, ...]) -> None:
        """Count an answer."""
        self.seen[f"{kind} {status}"] += 1
        shaped = status < 400 or b'"type":"error"' in text
        if (status not in allowed or not shaped) and len(self.wrong) < 20:
            self.wrong.append(f"{kind}: {status} {text[:200]!r}")

    def request(self, **fields: Any) -> dict[str, Any]:
        """A message for one of the models."""
        words = " ".join(["word"] * self.random.randint(1, 2000))
        turns = [{"role": "user", "content": words}]
        return {"model": self.random.choice(MODELS), "max_tokens": 100, "messages": turns, **fields}


async def whole(client: Client) -> None:
    """A message."""
    await client.post("whole", "/v1/messages", client.request())


async def streamed(client: Client) -> None:
    """A stream, read to its end."""
    text = await client.post("stream", "/v1/messages", client.request(stream=True))
    if not text.rstrip().endswith(b"}") or b"message_stop" not in text:
        client.wrong.append(f"stream: {text[-200:]!r}")


async def counted(client: Client) -> None:
    """A count of tokens."""
    request = client.request()
    del request["max_tokens"]
    await client.post("count", "/v1/messages/count_tokens", request)


async def left(client: Client) -> None:
    """A stream that its client leaves, before its first byte or after it."""
    data = orjson.dumps(client.request(stream=True))
    call = client.session.post(client.base_url + "/v1/messages", data=data, headers=VERSION)
    try:
        async with asyncio.timeout(client.random.uniform(0.0, 0.2)), call as answer:
            await answer.content.readany()
            answer.close()
    except TimeoutError:
        pass
    client.seen["left"] += 1


async def faulty(client: Client) -> None:
    """Upstreams that fail or are not there."""
    request = client.request(model=client.random.choice(FAULTY), stream=client.random.random() < 0.5)
    await client.post("fault", "/v1/messages", request, allowed=(200, 500, 502, 504, 529))


async def batch(client: Client) -> None:
    """A batch of twenty, to its results and its removal."""
    requests = [{"custom_id": f"r{i}", "params": client.request()} for i in range(20)]
    made = orjson.loads(await client.post("batch", "/v1/messages/batches", {"requests": requests}))
    url = f"{client.base_url}/v1/messages/batches/{made['id']}"
    for _ in range(POLLS):
        await asyncio.sleep(POLL_SECONDS)
        async with client.session.get(url, headers=VERSION) as answer:
            state = orjson.loads(await answer.read())
        if state["processing_status"] == "ended":
            break
    async with client.session.get(url + "/results", headers=VERSION) as answer:
        lines = (await answer.read()).splitlines()
        client.note("results", answer.status if len(lines) == 20 else 599, b"", (200,))
    async with client.session.delete(url, headers=VERSION) as answer:
        client.note("delete", answer.status, await answer.read(), (200,))


def _hostile() -> list[tuple[str, bytes]]:
    head = b'{"model":"openai/openai-model","max_tokens":5,"messages":'
    names = ",".join(f'"u{i}":1' for i in range(20_000)).encode()
    return [
        ("/v1/messages", head + b"[" * 50_000 + b"]" * 50_000 + b"}"),
        ("/v1/messages", head + b'[{"role":"user","content":"a"}],' + names + b"}"),
        ("/v1/messages", head + b"[" + b"0," * 100_000 + b"0]}"),
        ("/v1/messages", head + b'"\xff"}'),
        ("/v1/messages", b"{" * 1000),
        ("/v1/messages", b'{"model":"' + b"a" * 1_000_000 + b'","max_tokens":1,"messages":[]}'),
        ("/v1/messages/count_tokens", head + b"[]}"),
        ("/v1/messages/batches", b'{"requests":[{"custom_id":"a","params":{"n":' + b"1" * 5000 + b"}}]}"),
        ("/v1/messages/batches", b'{"requests":[{"custom_id":"a","params":' + b"[" * 20_000),
    ]


_HOSTILE = _hostile()


async def hostile(client: Client) -> None:
    """Bodies that are meant to hurt."""
    path, body = client.random.choice(_HOSTILE)
    await client.post("hostile", path, body, allowed=(200, 400, 404, 413))


type Kind = Callable[[Client], Awaitable[None]]

# Clients of each kind, and the seconds that each waits between its requests.
KINDS: tuple[tuple[Kind, int, float], ...] = (
    (whole, 3, 0.05),
    (streamed, 6, 0.05),
    (counted, 2, 0.1),
    (left, 3, 0.05),
    (faulty, 2, 0.2),
    (batch, 2, 1.0),
    (hostile, 1, 0.5),
)


async def loop_of(kind: Kind, pause: float, client: Client) -> None:
    """One client, for ever."""
    for _ in itertools.count():
        try:
            await kind(client)
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            client.note(f"{kind.__name__} broke ({type(exc).__name__})", 0, b"", ())
        await asyncio.sleep(pause)


async def until(seconds: float, client: Client) -> AsyncIterator[float]:
    """All kinds together; yields the seconds gone, every ten."""
    tasks = [asyncio.create_task(loop_of(kind, pause, client)) for kind, count, pause in KINDS for _ in range(count)]
    loop = asyncio.get_running_loop()
    start = loop.time()
    while (gone := loop.time() - start) < seconds:
        yield gone
        await asyncio.sleep(min(10.0, seconds - gone))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
