"""Budgets, through the real server: on SQLite, and of two replicas on PostgreSQL."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest

from llama_stack_messages_provider.batches.database import engine_of
from llama_stack_messages_provider.budgets.store import metadata
from tests.batches.conftest import empty, postgres_backend
from tests.support import personalities
from tests.support.replies import json_reply
from tests.support.stack import Stack, custom_auth, openai_provider, postgres_storage, run_config
from tests.support.upstream import RecordedRequest, Reply, ScriptedUpstream, call, chat_reply, completion_usage
from tests.support.waiting import eventually
from tests.support.wire import Json

MODEL = "openai/m"
CHAT = "/v1/chat/completions"
USERS = {"any": ("ann", {"roles": ["user"]}), "key-bob": ("bob", {"roles": ["user"]})}
ASKED: Json = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
# A day: a minute may end in the middle of a test.
both = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(personalities.openai_style(models=["m", "n"])) as upstream:
        upstream.reply(CHAT, chat_reply("Hello", usage=completion_usage(30, 12, cached_tokens=10)))
        yield upstream


@pytest.fixture
def budgeted(scripted_stack: Callable[..., Stack], upstream: ScriptedUpstream) -> Callable[..., Stack]:
    def start(*rules: Json, aliases: Json | None = None, **more: Any) -> Stack:
        messages = {"budgets": {"rules": list(rules)}, "model_aliases": aliases or {}}
        return scripted_stack(inference=[openai_provider(upstream.url)], messages=messages, **more)

    return start


def ask(stack: Stack, *, streamed: bool = False, key: str = "any", **more: Any) -> httpx.Response:
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    return httpx.post(f"{stack.base_url}/v1/messages", json={**ASKED, "stream": streamed, **more}, headers=headers)


@both
def test_requests_are_counted_and_told_and_the_next_one_is_refused(
    budgeted: Callable[..., Stack], upstream: ScriptedUpstream, streamed: bool
) -> None:
    stack = budgeted({"requests_per_day": 2})
    left = [ask(stack, streamed=streamed).headers["anthropic-ratelimit-requests-remaining"] for _ in range(2)]
    assert left == ["1", "0"]
    refused = ask(stack, streamed=streamed)
    assert refused.status_code == 429
    assert refused.json()["error"]["type"] == "rate_limit_error"
    told = refused.headers
    assert told["anthropic-ratelimit-requests-limit"] == "2"
    assert told["anthropic-ratelimit-requests-remaining"] == "0"
    assert told["anthropic-ratelimit-requests-reset"].endswith("T00:00:00Z")
    assert 0 < int(told["retry-after"]) <= 86_400
    assert len(upstream.requests_to(CHAT)) == 2
    # What costs no generation is free.
    assert httpx.post(f"{stack.base_url}/v1/messages/count_tokens", json=ASKED | {"max_tokens": 1}).status_code == 200
    # Counts outlive the server.
    stack.restart()
    assert ask(stack).status_code == 429


@both
def test_tokens_are_counted_without_those_that_a_cache_gave(budgeted: Callable[..., Stack], streamed: bool) -> None:
    stack = budgeted({"tokens_per_day": 50})
    assert ask(stack, streamed=streamed).headers["anthropic-ratelimit-tokens-remaining"] == "50"
    second = eventually(lambda: found if (found := ask(stack)).headers[LEFT] != "50" else None)
    assert second.headers[LEFT] == "18"
    refused = eventually(lambda: found if (found := ask(stack)).status_code == 429 else None)
    assert refused.headers[LEFT] == "0"
    assert refused.headers["anthropic-ratelimit-tokens-limit"] == "50"


LEFT = "anthropic-ratelimit-tokens-remaining"


def test_advice_is_paid_for_by_the_budget_of_the_model_that_gives_it(
    budgeted: Callable[..., Stack], upstream: ScriptedUpstream
) -> None:
    def advised(request: RecordedRequest) -> Reply:
        said = str(request.json["messages"])
        if "You are asked for advice" in said or "Hello" in said:
            reply = chat_reply("Hello", usage=completion_usage(30, 12))
        else:
            reply = chat_reply(tool_calls=[call("advisor", {})])
        return reply(request) if callable(reply) else reply

    stack = budgeted({"models": "openai/n", "tokens_per_day": 100})
    upstream.reply(CHAT, advised)
    assert ask(stack, tools=[{"type": "advisor_20260301", "name": "advisor", "model": "openai/n"}]).status_code == 200
    upstream.reply(CHAT, chat_reply("Hello", usage=completion_usage(1, 1)))
    assert ask(stack, model="openai/n").headers[LEFT] == "58"


@both
def test_a_fallback_is_asked_as_long_as_its_own_budget_lasts(
    budgeted: Callable[..., Stack], upstream: ScriptedUpstream, streamed: bool
) -> None:
    def down(request: RecordedRequest) -> Reply:
        is_first = request.json["model"] == "m"
        reply = json_reply({"error": {"message": "Down"}}, status=503) if is_first else chat_reply("Hello")
        return reply(request) if callable(reply) else reply

    upstream.reply(CHAT, down)
    stack = budgeted({"models": "openai/n", "requests_per_day": 2})
    fallbacks = [{"model": "openai/n"}]
    answers = [ask(stack, streamed=streamed, fallbacks=fallbacks) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 529]
    assert ask(stack, model="openai/n").status_code == 429


def test_equal_replicas_have_one_budget(budgeted: Callable[..., Stack]) -> None:
    stack = budgeted({"requests_per_day": 3}, aliases={"both-*": ["openai/m", "openai/n"]})
    answers = [ask(stack, model=f"both-{n % 2}", metadata={"user_id": f"u-{n}"}, system=f"s-{n}") for n in range(8)]
    assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 5
    assert ask(stack, model="openai/m").status_code == 429
    assert ask(stack, model="openai/n").status_code == 200


def test_each_user_has_a_budget_of_each_model_and_the_first_rule_holds(budgeted: Callable[..., Stack]) -> None:
    with ScriptedUpstream(personalities.identities(USERS)) as auth:
        rules = [{"principals": "bob", "requests_per_day": 3}, {"models": "openai/*", "requests_per_day": 1}]
        stack = budgeted(*rules, auth=custom_auth(auth.url))
        assert [ask(stack).status_code for _ in range(2)] == [200, 429]
        assert [ask(stack, key="key-bob").status_code for _ in range(4)] == [200, 200, 200, 429]
        assert [ask(stack, model="openai/n").status_code for _ in range(2)] == [200, 429]
        # Names that nobody registered are one model, or each would be a new budget.
        assert [ask(stack, model=f"openai/invented-{n}").status_code for n in range(2)].count(429) == 1


def test_nobody_without_a_rule_has_a_budget(budgeted: Callable[..., Stack]) -> None:
    stack = budgeted({"models": "other/*", "requests_per_day": 1})
    answers = [ask(stack) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert "anthropic-ratelimit-requests-limit" not in answers[0].headers


def test_a_minute_ends(budgeted: Callable[..., Stack]) -> None:
    stack = budgeted({"requests_per_minute": 1, "requests_per_day": 100})
    while time.time() % 60 > 55:
        time.sleep(0.5)
    refused = [ask(stack), ask(stack)][1]
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) <= 60
    # What the minute refused, the day has not counted.
    time.sleep(int(refused.headers["retry-after"]) + 0.5)
    assert ask(stack).status_code == 200


def test_requests_of_batches_wait_for_their_budget(budgeted: Callable[..., Stack], upstream: ScriptedUpstream) -> None:
    stack = budgeted({"requests_per_day": 2})
    with anthropic.Anthropic(base_url=stack.base_url, api_key="any", max_retries=0) as client:
        requests: Any = [{"custom_id": str(n), "params": ASKED} for n in range(4)]
        batch = client.messages.batches.create(requests=requests)
        eventually(lambda: len(upstream.requests_to(CHAT)) == 2)
        time.sleep(1)
        assert len(upstream.requests_to(CHAT)) == 2
        assert client.messages.batches.retrieve(batch.id).processing_status == "in_progress"


async def burst(stacks: Sequence[Stack], times: int) -> list[int]:
    turn = asyncio.Semaphore(32)
    limits = httpx.Limits(max_connections=32)
    async with httpx.AsyncClient(timeout=60, limits=limits) as client:

        async def one(n: int) -> int:
            async with turn:
                url = f"{stacks[n % len(stacks)].base_url}/v1/messages"
                return (await client.post(url, json=ASKED)).status_code

        return await asyncio.gather(*(one(n) for n in range(times)))


def test_a_burst_passes_exactly_what_it_may(budgeted: Callable[..., Stack], upstream: ScriptedUpstream) -> None:
    stack = budgeted({"requests_per_day": 123})
    statuses = asyncio.run(burst([stack], 500))
    assert (statuses.count(200), statuses.count(429)) == (123, 377)
    assert len(upstream.requests_to(CHAT)) == 123


async def forget_budgets(backend: Any) -> None:
    engine = engine_of(backend)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.drop_all)
    await engine.dispose()


def test_two_replicas_share_one_budget(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    backend = postgres_backend()
    asyncio.run(empty(backend))
    asyncio.run(forget_budgets(backend))
    login = {"db": backend.db, "user": backend.user, "password": backend.password, "port": int(backend.port)}
    rules = {"budgets": {"rules": [{"requests_per_minute": 100_000, "requests_per_day": 123}]}}
    with ExitStack() as opened:
        stacks = []
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir()
            config = run_config(
                folder,
                inference=[openai_provider(upstream.url)],
                messages=rules,
                backends=postgres_storage(**login),
            )
            stacks.append(opened.enter_context(Stack(config, folder)))
        statuses = asyncio.run(burst(stacks, 500))
    assert (statuses.count(200), statuses.count(429)) == (123, 377)
    assert len(upstream.requests_to(CHAT)) == 123
