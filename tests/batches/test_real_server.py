"""Batches in the real server: the official SDK, kills, replicas, identities, memory."""

import argparse
import asyncio
import random
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types.messages import MessageBatch, MessageBatchIndividualResponse
from llama_stack.core.storage.datatypes import SqliteSqlStoreConfig
from sqlalchemy import update

from llama_stack_messages_provider.batches.database import SqlBackend, engine_of
from llama_stack_messages_provider.batches.tables import workers
from llama_stack_messages_provider.cli.batches import register
from tests.batches.conftest import empty, postgres_backend
from tests.support.personalities import anthropic as anthropic_engine
from tests.support.personalities import identities, openai_style
from tests.support.replies import Reply
from tests.support.stack import Stack, custom_auth, openai_provider, postgres_storage, run_config
from tests.support.upstream import RecordedRequest, ScriptedUpstream, chat_reply
from tests.support.waiting import eventually
from tests.support.wire import Json

pytestmark = pytest.mark.timeout(600)

LEASE_SECONDS = 60.0
"""Longer than any stall of a busy machine: nobody loses a lease who is alive. Tests that kill end it themselves."""

MODEL = "openai/test-model"


def batch_settings(**settings: Any) -> Json:
    return {"batches": {"lease_seconds": LEASE_SECONDS, "poll_seconds": 0.2, **settings}}


_clients: list[anthropic.Anthropic] = []


def sdk(stack: Stack, **options: Any) -> anthropic.Anthropic:
    """A client, closed when the test is over."""
    options = {"base_url": stack.base_url, "api_key": "any", "max_retries": 0, **options}
    _clients.append(anthropic.Anthropic(**options))
    return _clients[-1]


@pytest.fixture(autouse=True)
def _closes_clients() -> Iterator[None]:
    yield
    while _clients:
        _clients.pop().close()


def request(name: str, model: str = MODEL) -> Any:
    """One whose text is its `custom_id`, so that the upstream knows it."""
    messages = [{"role": "user", "content": name}]
    return {"custom_id": name, "params": {"model": model, "max_tokens": 16, "messages": messages}}


def requests(count: int, model: str = MODEL) -> list[Any]:
    return [request(f"r-{number}", model) for number in range(count)]


def ended(client: anthropic.Anthropic, batch_id: str, within: float = 120.0) -> MessageBatch:
    def look() -> MessageBatch | None:
        batch = client.messages.batches.retrieve(batch_id)
        assert batch.request_counts.processing or batch.processing_status == "ended"
        return batch if batch.processing_status == "ended" else None

    return eventually(look, within=within, what="the end of the batch")


def results(client: anthropic.Anthropic, batch_id: str) -> dict[str, MessageBatchIndividualResponse]:
    """By `custom_id`; each has exactly one."""
    lines = list(client.messages.batches.results(batch_id))
    found = {line.custom_id: line for line in lines}
    assert len(found) == len(lines)
    return found


def slow_reply(seconds: float) -> Callable[[RecordedRequest], Reply]:
    answer = chat_reply("done")
    assert callable(answer)
    return lambda request: answer(request).delayed(seconds)


def executions(upstream: ScriptedUpstream) -> dict[str, list[RecordedRequest]]:
    """The requests of the upstream by `custom_id`."""
    found: dict[str, list[RecordedRequest]] = defaultdict(list)
    for seen in upstream.requests_to("/v1/chat/completions"):
        found[seen.json["messages"][-1]["content"]].append(seen)
    return found


def assert_never_twice_at_once(upstream: ScriptedUpstream) -> None:
    """No request began while another execution of it was still going on."""
    for name, runs in executions(upstream).items():
        for earlier, later in pairwise(runs):
            over = earlier.finished_at or earlier.disconnected_at
            assert over is not None, f"{name} began again while it ran"
            assert over <= later.received_at, f"{name} ran twice at once"


def end_leases(backend: SqlBackend, process: int) -> None:
    """As if a killed process had been silent for as long as its lease holds."""

    async def end() -> None:
        engine = engine_of(backend)
        async with engine.begin() as connection:
            await connection.execute(update(workers).where(workers.c.process == process).values(expires_at=0.0))
        await engine.dispose()

    asyncio.run(end())


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(openai_style()) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def backends(request: pytest.FixtureRequest) -> Json | None:
    """`storage.backends`; None for SQLite."""
    return None if request.param == "sqlite" else postgres_backends()


def postgres_backends() -> Json:
    backend = postgres_backend()
    asyncio.run(empty(backend))
    return postgres_storage(
        db=backend.db,
        user=backend.user,
        password=backend.password or "",
        host=backend.host,
        port=int(backend.port),
    )


# --- the SDK ---


@pytest.fixture(scope="module")
def native() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(anthropic_engine(models=["native-model"])) as server:
        yield server


@pytest.fixture(scope="module")
def shared(native: ScriptedUpstream) -> Iterator[tuple[Stack, ScriptedUpstream]]:
    """One server for the tests of the SDK: an OpenAI-style upstream, and one that speaks the Messages API."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as name, ScriptedUpstream(openai_style()) as translated:
        folder = Path(name)
        inference = [openai_provider(translated.url), openai_provider(native.url, "native")]
        config = run_config(folder, inference=inference, messages=batch_settings())
        with Stack(config, folder) as stack:
            yield stack, translated


@pytest.mark.parametrize("suffix", ["", "/v1"])
@pytest.mark.parametrize("model", [MODEL, "native/native-model"], ids=["translation", "native"])
def test_the_sdk_runs_a_batch_from_its_creation_to_its_removal(
    shared: tuple[Stack, ScriptedUpstream], model: str, suffix: str
) -> None:
    stack, _ = shared
    client = sdk(stack, base_url=stack.base_url + suffix)
    bad = request("bad", model)
    del bad["params"]["max_tokens"]
    streamed = request("streamed", model)
    streamed["params"]["stream"] = True

    batch = client.messages.batches.create(requests=[*requests(3, model), bad, streamed])
    assert batch.processing_status == "in_progress"
    batch = ended(client, batch.id)

    assert batch.request_counts.model_dump() == {
        "processing": 0,
        "succeeded": 3,
        "errored": 2,
        "canceled": 0,
        "expired": 0,
    }
    found = results(client, batch.id)
    for name in ("r-0", "r-1", "r-2"):
        result = found[name].result
        assert result.type == "succeeded"
        assert result.message.content[0].type == "text"
    for name in ("bad", "streamed"):
        result = found[name].result
        assert result.type == "errored"
        assert result.error.error.type == "invalid_request_error"

    assert client.messages.batches.delete(batch.id).type == "message_batch_deleted"
    with pytest.raises(anthropic.NotFoundError):
        client.messages.batches.retrieve(batch.id)


@pytest.mark.parametrize("suffix", ["", "/v1"])
async def test_the_async_sdk_does_the_same(shared: tuple[Stack, ScriptedUpstream], suffix: str) -> None:
    stack, _ = shared
    async with anthropic.AsyncAnthropic(base_url=stack.base_url + suffix, api_key="any") as client:
        batches = client.messages.batches
        batch = await batches.create(requests=requests(3))
        while (batch := await batches.retrieve(batch.id)).processing_status != "ended":
            await asyncio.sleep(0.05)
        found = [line.custom_id async for line in await batches.results(batch.id)]
        assert sorted(found) == ["r-0", "r-1", "r-2"]
        assert batch.id in [listed.id async for listed in batches.list(limit=1)]
        await batches.delete(batch.id)


def test_the_beta_resource_of_the_sdk_works_too_and_its_betas_go_with_each_request(
    shared: tuple[Stack, ScriptedUpstream], native: ScriptedUpstream
) -> None:
    client = sdk(shared[0])
    before = len(native.requests_to("/v1/messages"))
    batch = client.beta.messages.batches.create(requests=requests(2, "native/native-model"), betas=["of-the-batch"])
    ended(client, batch.id)

    assert {line.custom_id for line in client.beta.messages.batches.results(batch.id)} == {"r-0", "r-1"}
    seen = [request for request in native.requests_to("/v1/messages")[before:] if "messages" in request.json]
    assert ["of-the-batch" in request.headers["anthropic-beta"] for request in seen] == [True, True]


def test_the_sdk_pages_through_the_list(shared: tuple[Stack, ScriptedUpstream]) -> None:
    client = sdk(shared[0])
    made = [client.messages.batches.create(requests=requests(1)).id for _ in range(7)][::-1]

    listed = [batch.id for batch in client.messages.batches.list(limit=3)]
    assert listed[:7] == made

    backwards = [batch.id for batch in client.messages.batches.list(limit=2, before_id=made[5])]
    assert Counter(backwards) == Counter(made[:5])


def test_the_sdk_cancels(shared: tuple[Stack, ScriptedUpstream]) -> None:
    stack, upstream = shared
    client = sdk(stack)
    upstream.forget()  # what an earlier test sent would pass for a request of this batch
    upstream.reply("/v1/chat/completions", slow_reply(1.0))
    batch = client.messages.batches.create(requests=requests(500))
    eventually(lambda: executions(upstream))

    canceling = client.messages.batches.cancel(batch.id)
    assert canceling.processing_status == "canceling"
    assert client.messages.batches.cancel(batch.id).cancel_initiated_at == canceling.cancel_initiated_at
    batch = ended(client, batch.id)
    upstream.forget()

    assert batch.request_counts.canceled > 0
    assert batch.request_counts.canceled + batch.request_counts.succeeded == 500
    kinds = Counter(line.result.type for line in results(client, batch.id).values())
    counts = batch.request_counts
    assert kinds == Counter({"canceled": counts.canceled, "succeeded": counts.succeeded})


HOSTILE = {
    "a long number": (b"1" * 5000, "requests.0.params: a number of more than 1000 characters"),
    "20,000 levels": (b"[" * 20_000 + b"]" * 20_000, "requests.0.params: nested more than 200 levels deep"),
    "100,000 levels": (b"[" * 100_000 + b"]" * 100_000, "requests.0.params: nested more than 200 levels deep"),
    "900 levels": (b"[" * 900 + b"]" * 900, "requests.0.params: nested more than 200 levels deep"),
    "beyond a double": (b"1e99999999999999999999", "requests.0: not valid JSON"),
    "half a surrogate pair": (b'"\xed\xa0\x80"', "requests.0: not valid JSON"),
    "a reversed pair": (b'"\\udc00\\ud800"', "requests.0: not valid JSON"),
    "no UTF-8": (b'"\xff"', "requests.0: not valid JSON"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bodies_are_refused_and_the_server_lives_on(shared: tuple[Stack, ScriptedUpstream], name: str) -> None:
    stack, _ = shared
    value, told = HOSTILE[name]
    before = stack.pid, stack.resident_megabytes
    answer = httpx.post(
        f"{stack.base_url}/v1/messages/batches", content=b'{"requests":[{"custom_id":"a","params":' + value + b"}]}"
    )

    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert told in answer.json()["error"]["message"]
    assert (stack.pid, sdk(stack).messages.batches.list(limit=1).data is not None) == (before[0], True)
    assert stack.resident_megabytes - before[1] < 50


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/%00", 404),
        ("GET", "/msgbatch_%00/results", 404),
        ("POST", "/msgbatch_%00/cancel", 404),
        ("DELETE", "/%ff", 404),
        ("GET", "/" + "x" * 5000, 404),
        ("GET", "?after_id=%00", 400),
        ("GET", "?before_id=%ed%a0%80", 400),
        ("GET", "?after_id=", 400),
        ("GET", "?limit=%00", 400),
        ("GET", "?limit=" + "9" * 5000, 400),
        ("GET", "?limit=-1", 400),
        ("GET", "?limit=1e2", 400),
    ],
    ids=lambda value: str(value)[:30],
)
def test_odd_ids_cursors_and_limits_are_refused(
    shared: tuple[Stack, ScriptedUpstream], method: str, path: str, status: int
) -> None:
    answer = httpx.request(method, f"{shared[0].base_url}/v1/messages/batches{path}")

    assert answer.status_code == status
    assert answer.json()["type"] == "error"


def test_refusals_have_the_shape_of_the_sdk(shared: tuple[Stack, ScriptedUpstream]) -> None:
    client = sdk(shared[0])

    with pytest.raises(anthropic.BadRequestError, match=r"requests\.1\.custom_id") as caught:
        client.messages.batches.create(requests=[request("a"), request("a")])
    assert caught.value.request_id
    with pytest.raises(anthropic.NotFoundError):
        client.messages.batches.cancel("msgbatch_unknown")
    with pytest.raises(anthropic.BadRequestError, match="limit"):
        client.messages.batches.list(limit=1001)
    with pytest.raises(anthropic.BadRequestError, match="x-llamastack-provider-data"):
        client.with_options(
            default_headers={"x-llamastack-provider-data": '{"openai_api_key": "sk-1"}'}
        ).messages.batches.create(requests=requests(1))


# --- the command line ---


def command(stack: Stack, *words: str) -> int:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    given = parser.parse_args(["batches", *words, "--base-url", stack.base_url])
    status: int = given.run(given)
    return status


def test_the_command_line_shows_waits_for_and_reads_a_batch(
    shared: tuple[Stack, ScriptedUpstream], capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    stack, upstream = shared
    upstream.reply("/v1/chat/completions", slow_reply(0.2))
    batch = sdk(stack).messages.batches.create(requests=requests(50))
    assert command(stack, "results", batch.id) == 1
    assert b"has no results" in capfdbinary.readouterr().err

    assert command(stack, "wait", batch.id, "--interval", "0.1") == 0
    upstream.forget()
    captured = capfdbinary.readouterr()
    assert captured.out == b"50 succeeded\n"
    assert b"50/50" in captured.err

    assert command(stack, "list", "--limit", "1") == 0
    listed = capfdbinary.readouterr().out.decode().splitlines()[1]
    assert listed.split()[:2] == [batch.id, "ended"]
    assert listed.endswith("50 succeeded")
    assert command(stack, "show", batch.id) == 0
    assert b'"processing_status": "ended"' in capfdbinary.readouterr().out
    assert command(stack, "results", batch.id) == 0
    lines = capfdbinary.readouterr().out
    assert lines.count(b"\n") == 50
    assert command(stack, "results", batch.id, "-o", str(tmp_path / "results.jsonl")) == 0
    assert (tmp_path / "results.jsonl").read_bytes() == lines


def test_the_command_line_says_what_is_wrong(
    shared: tuple[Stack, ScriptedUpstream], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(shared[0], "show", "msgbatch_unknown") == 1
    assert "Message batch msgbatch_unknown not found" in capsys.readouterr().err


# --- nothing is lost ---


def test_five_kills_lose_nothing(upstream: ScriptedUpstream, backends: Json | None, tmp_path: Path) -> None:
    total = 2000
    backend = postgres_backend() if backends else SqliteSqlStoreConfig(db_path=str(tmp_path / "sql_store.db"))
    upstream.reply("/v1/chat/completions", slow_reply(0.2))
    settings = batch_settings(concurrency=32, max_attempts=20)
    config = run_config(tmp_path, inference=[openai_provider(upstream.url)], messages=settings, backends=backends)
    with Stack(config, tmp_path) as stack:
        client = sdk(stack)
        batch_id = client.messages.batches.create(requests=requests(total)).id
        for _ in range(5):
            seen = len(upstream.requests)
            eventually(lambda seen=seen: len(upstream.requests) > seen, within=60)
            time.sleep(random.uniform(0.0, 1.0))
            process = stack.pid
            stack.kill()
            end_leases(backend, process)
            stack.start()
        assert client.messages.batches.retrieve(batch_id).processing_status == "in_progress"
        batch = ended(client, batch_id)

        assert batch.request_counts.succeeded == total
        assert set(results(client, batch_id)) == {f"r-{number}" for number in range(total)}
    runs = executions(upstream)
    assert set(runs) == {f"r-{number}" for number in range(total)}
    # Only what a dead server held was run again: twice its concurrency, and what it had not recorded.
    assert sum(map(len, runs.values())) - total <= 5 * 2 * 32
    assert_never_twice_at_once(upstream)


def test_the_survivors_finish_the_work_of_a_killed_replica(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    total = 600
    upstream.reply("/v1/chat/completions", slow_reply(0.3))
    settings = batch_settings(concurrency=8, concurrency_per_batch=64)
    backends = postgres_backends()
    with ExitStack() as opened:
        stacks = []
        for number in range(3):
            folder = tmp_path / str(number)
            config = run_config(folder, inference=[openai_provider(upstream.url)], messages=settings, backends=backends)
            stacks.append(opened.enter_context(Stack(config, folder)))
        client = sdk(stacks[0])
        batch_id = client.messages.batches.create(requests=requests(total)).id
        eventually(lambda: len(upstream.requests) > 100, within=60)
        process = stacks[2].pid
        stacks[2].kill()
        end_leases(postgres_backend(), process)
        ended(client, batch_id)

        assert set(results(sdk(stacks[1]), batch_id)) == {f"r-{number}" for number in range(total)}
    runs = executions(upstream)
    assert sum(map(len, runs.values())) - total <= 2 * 8
    assert_never_twice_at_once(upstream)


def serving(file: Path) -> set[int]:
    """The processes that registered in a SQLite file."""
    with closing(sqlite3.connect(file)) as connection:
        try:
            return {row[0] for row in connection.execute("SELECT process FROM messages_batch_workers")}
        except sqlite3.OperationalError:  # The tables are being made.
            return set()


def test_two_server_processes_share_a_sqlite_file(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    upstream.reply("/v1/chat/completions", slow_reply(0.05))
    config = run_config(
        tmp_path, inference=[openai_provider(upstream.url)], messages=batch_settings(concurrency=4), workers=2
    )
    with Stack(config, tmp_path) as stack:
        file = tmp_path / "sql_store.batches.db"
        eventually(lambda: file.exists() and len(serving(file)) == 2, within=60, what="a second process")
        client = sdk(stack)
        made = [client.messages.batches.create(requests=requests(200)).id for _ in range(3)]
        for batch_id in made:
            ended(client, batch_id)
            assert len(results(client, batch_id)) == 200
    assert {len(runs) for runs in executions(upstream).values()} == {3}


# --- whose batch it is ---


def test_two_identities_do_not_reach_each_others_batches(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    users = {"alice-token": ("alice", {"teams": ["red"]}), "bob-token": ("bob", {"teams": ["red"]})}
    with ScriptedUpstream(identities(users)) as auth:
        config = run_config(
            tmp_path,
            inference=[openai_provider(upstream.url)],
            messages=batch_settings(),
            auth=custom_auth(auth.url),
        )
        with Stack(config, tmp_path) as stack:
            alice, bob = sdk(stack, api_key="alice-token"), sdk(stack, api_key="bob-token")
            batch = alice.messages.batches.create(requests=requests(3))
            assert ended(alice, batch.id).request_counts.succeeded == 3

            assert [found.id for found in alice.messages.batches.list()] == [batch.id]
            assert [found.id for found in bob.messages.batches.list()] == []
            for call in ("retrieve", "cancel", "delete", "results"):
                with pytest.raises(anthropic.NotFoundError):
                    getattr(bob.messages.batches, call)(batch.id)
            direct = httpx.get(
                f"{stack.base_url}/v1/messages/batches/{batch.id}/results",
                headers={"authorization": "Bearer bob-token"},
            )
            assert direct.status_code == 404
            assert len(results(alice, batch.id)) == 3


# --- memory ---


def test_memory_does_not_grow_with_the_batch(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """64 MB of requests are sent, and results of another 64 MB read, within a fraction of it.

    The whole measure, 100,000 requests run and read back, is `benchmarks/batches`.
    """
    total, filler = 1000, "x" * 65_536
    upstream.reply("/v1/chat/completions", chat_reply(filler))
    config = run_config(tmp_path, inference=[openai_provider(upstream.url)], messages=batch_settings())
    with Stack(config, tmp_path) as stack:
        client = sdk(stack)
        client.messages.batches.list()
        idle = stack.resident_megabytes
        batch = client.messages.batches.create(requests=[request(f"r-{n}") for n in range(10)])
        ended(client, batch.id)
        large = requests(total)
        for each in large:
            each["params"]["system"] = filler
        batch = client.messages.batches.create(requests=large)
        peaks = [stack.resident_megabytes]
        while client.messages.batches.retrieve(batch.id).processing_status != "ended":
            peaks.append(stack.resident_megabytes)
            time.sleep(0.1)
        for _ in client.messages.batches.results(batch.id):
            pass
        peaks.append(stack.resident_megabytes)
        assert max(peaks) - idle < 100
