"""The service, as the routes call it."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson
import pytest
from anthropic.types.messages import MessageBatch, MessageBatchIndividualResponse
from llama_stack.core.access_control.datatypes import AccessRule, Scope
from llama_stack.core.datatypes import User
from llama_stack.core.request_headers import RequestProviderDataContext, get_authenticated_user
from llama_stack.core.storage.datatypes import PostgresSqlStoreConfig, SqliteSqlStoreConfig
from sqlalchemy import Engine, event, func, select, text

from llama_stack_messages_provider.batches import BatchesConfig, BatchRuntime, BatchService, Identity
from llama_stack_messages_provider.batches.database import SqlBackend, StorageError, engine_of
from llama_stack_messages_provider.batches.identity import Action
from llama_stack_messages_provider.batches.tables import batches, requests, results, workers
from llama_stack_messages_provider.errors import (
    InvalidRequestError,
    MessagesError,
    NotFoundError,
    PermissionDeniedError,
    RequestTooLargeError,
)
from tests.batches.helpers import Json, Make, body_of, create, echo, ended, in_pieces, message, params, read
from tests.support.stack import free_port

ALICE, BOB = Identity("alice", {"teams": ["red"]}), Identity("bob", {"teams": ["red"]})


async def rows_left(backend: SqlBackend) -> int:
    engine = engine_of(backend)
    async with engine.connect() as connection:
        counts = [
            await connection.scalar(select(func.count()).select_from(table)) for table in (batches, requests, results)
        ]
    await engine.dispose()
    return sum(count or 0 for count in counts)


# --- a batch from its creation to its removal ---


async def test_a_batch_is_created_run_read_and_deleted(make: Make, backend: SqlBackend) -> None:
    service = make()

    batch = await create(service, 3)
    assert batch["type"] == "message_batch"
    assert batch["processing_status"] == "in_progress"
    assert batch["request_counts"] == {
        "processing": 3,
        "succeeded": 0,
        "errored": 0,
        "canceled": 0,
        "expired": 0,
    }
    assert (batch["ended_at"], batch["archived_at"], batch["results_url"]) == (None, None, None)

    batch = await ended(service, batch["id"])
    assert batch["request_counts"]["succeeded"] == 3
    assert batch["results_url"] == f"/v1/messages/batches/{batch['id']}/results"
    assert await read(service, batch["id"]) == [
        {"custom_id": f"r-{n}", "result": {"type": "succeeded", "message": message(f"text {n}")}} for n in range(3)
    ]

    deleted = await service.delete(batch["id"], None)
    assert deleted == {"id": batch["id"], "type": "message_batch_deleted"}
    with pytest.raises(NotFoundError):
        await service.retrieve(batch["id"], None)
    while await rows_left(backend):
        await asyncio.sleep(0.02)


async def test_batches_and_results_have_the_shapes_of_the_sdk(make: Make) -> None:
    async def fails(what: Json, identity: Identity | None, headers: Mapping[str, str]) -> Json:
        raise InvalidRequestError("max_tokens: Input should be greater than 0")

    service = make(fails)
    batch = await ended(service, (await create(service, 1))["id"])
    [line] = await read(service, batch["id"])

    assert batch.keys() == MessageBatch.model_fields.keys()
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", batch[at]) for at in ("created_at", "ended_at"))
    parsed = MessageBatchIndividualResponse.model_validate(line)
    assert parsed.result.type == "errored"
    assert parsed.result.error.error.type == "invalid_request_error"
    assert line == {
        "custom_id": "r-0",
        "result": {
            "type": "errored",
            "error": {
                "type": "error",
                "error": {
                    "type": "invalid_request_error",
                    "message": "max_tokens: Input should be greater than 0",
                },
                "request_id": None,
            },
        },
    }


async def test_a_batch_expires_a_day_after_its_creation(make: Make) -> None:
    batch = MessageBatch.model_validate(await create(make()))

    assert (batch.expires_at - batch.created_at).total_seconds() == pytest.approx(86_400)


async def test_a_public_url_makes_the_results_url_absolute(make: Make) -> None:
    service = make(public_url="https://stack.example.com/llm/")
    batch = await ended(service, (await create(service))["id"])

    path = f"/v1/messages/batches/{batch['id']}/results"
    assert batch["results_url"] == f"https://stack.example.com/llm{path}"


async def test_nothing_needs_a_request_to_go_on(make: Make) -> None:
    """A server that comes back finishes what it finds."""
    batch = await create(make(concurrency=0))
    await make().runtime.start()

    assert (await ended(make(concurrency=0), batch["id"]))["request_counts"]["succeeded"] == 3


async def test_the_service_works_in_one_event_loop_after_another(make: Make) -> None:
    """As in the library client, where nobody calls start."""
    service = make()

    def in_a_loop_of_its_own() -> Json:
        async def whole_life() -> Json:
            batch = await create(service)
            batch = await ended(service, batch["id"])
            await service.runtime.stop()
            return batch

        return asyncio.run(whole_life())

    for _ in range(2):
        assert (await asyncio.to_thread(in_a_loop_of_its_own))["request_counts"]["succeeded"] == 3


# --- what is refused at creation ---

OK = {"custom_id": "a", "params": params()}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b'{"requests":[{"custom_id":"a","params":{}}', "not valid JSON"),
        (b'{"requests":[{"custom_id":"a","params":{}}]} trailing', "not valid JSON"),
        (b'{"requests":[{"custom_id":"\xff","params":{}}]}', "not valid JSON"),
        (b"[]", "not valid JSON: expected an object"),
        (b"{}", "requests: Field required"),
        (b'{"requests":[]}', "requests: List should have at least 1 item"),
        (orjson.dumps({"requests": [OK, 7]}), "requests.1: Input should be an object"),
        (orjson.dumps({"requests": [OK, {"params": {}}]}), "requests.1.custom_id: Field required"),
        (orjson.dumps({"requests": [{"custom_id": "a"}]}), "requests.0.params: Field required"),
        (orjson.dumps({"requests": [{"custom_id": 1, "params": {}}]}), "requests.0.custom_id: Input should be"),
        (orjson.dumps({"requests": [{"custom_id": "a b", "params": {}}]}), "requests.0.custom_id: String should"),
        (orjson.dumps({"requests": [{"custom_id": "", "params": {}}]}), "requests.0.custom_id: String should"),
        (orjson.dumps({"requests": [{"custom_id": "x" * 65, "params": {}}]}), "requests.0.custom_id: String"),
        (orjson.dumps({"requests": [{"custom_id": "a\n", "params": {}}]}), "requests.0.custom_id: String"),
        (orjson.dumps({"requests": [OK, OK]}), "requests.1.custom_id: 'a' is also that of requests.0"),
        (orjson.dumps({"requests": [{**OK, "custom_id": str(n)} for n in range(6)]}), "at most 5 items"),
    ],
)
async def test_a_body_that_breaks_a_rule_is_refused_and_leaves_nothing(
    make: Make, backend: SqlBackend, body: bytes, told: str
) -> None:
    service = make(max_requests=5)

    with pytest.raises(InvalidRequestError, match=re.escape(told)):
        await service.create(in_pieces(body, 7), None)

    assert (await service.list(None))["data"] == []
    while await rows_left(backend):
        await asyncio.sleep(0.02)


async def test_a_late_fault_leaves_nothing_of_what_was_already_written(make: Make, backend: SqlBackend) -> None:
    service = make()
    body = body_of([*((f"r-{n}", params()) for n in range(3000)), ("r-17", params())])

    with pytest.raises(InvalidRequestError, match=r"requests\.3000\.custom_id: 'r-17'"):
        await service.create(in_pieces(body), None)

    while await rows_left(backend):
        await asyncio.sleep(0.02)


async def test_a_client_that_leaves_while_sending_leaves_nothing(make: Make, backend: SqlBackend) -> None:
    service = make()
    arrived = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield body_of((f"r-{n}", params()) for n in range(3000))[:-2]
        arrived.set()
        await asyncio.sleep(60)

    task = asyncio.create_task(service.create(body(), None))
    await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    while await rows_left(backend):
        await asyncio.sleep(0.02)


async def test_a_body_that_is_too_large_is_refused_before_its_end(make: Make) -> None:
    service = make(max_bytes=100_000)
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        async for piece in in_pieces(body_of((f"r-{n}", params("x" * 100)) for n in range(100_000)), 10_000):
            sent += len(piece)
            yield piece

    with pytest.raises(RequestTooLargeError):
        await service.create(body(), None)
    assert sent < 120_000


async def test_a_request_that_is_too_large_is_refused_before_its_end(make: Make) -> None:
    service = make(max_request_bytes=100_000)
    body = body_of([("a", params()), ("b", params("x" * 1_000_000))])

    with pytest.raises(RequestTooLargeError, match=r"requests\.1"):
        await service.create(in_pieces(body), None)


async def test_unknown_fields_are_no_fault(make: Make) -> None:
    service = make()
    body = orjson.dumps({"later": [1], "requests": [{**OK, "more": {}}], "last": None})

    assert (await service.create(in_pieces(body), None))["request_counts"]["processing"] == 1


async def test_a_body_that_arrives_slowly_is_kept_where_no_worker_runs(make: Make, backend: SqlBackend) -> None:
    """As in the library client: nobody calls start, and its lease is renewed all the same."""
    service = make(lease_seconds=9.0)
    service.runtime.works = False

    async def body() -> AsyncIterator[bytes]:
        yield body_of([("a", params())])[:-2]
        [first] = await leases(backend)
        while await leases(backend) == [first]:
            await asyncio.sleep(0.05)
        yield b"]}"

    assert (await service.create(body(), None))["request_counts"]["processing"] == 1
    assert await leases(backend) == []


async def leases(backend: SqlBackend) -> list[float]:
    """Until when each lease of a worker, or of a body that arrives, holds."""
    engine = engine_of(backend)
    async with engine.connect() as connection:
        found = list((await connection.scalars(select(workers.c.expires_at))).all())
    await engine.dispose()
    return found


# --- a database that cannot do its part ---


@contextmanager
def full_disk(backend: SqlBackend) -> Iterator[None]:
    """Within it a new connection finds no room for requests."""

    def limit(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA max_page_count=1")

    if isinstance(backend, SqliteSqlStoreConfig):
        event.listen(Engine, "connect", limit)
        yield
        event.remove(Engine, "connect", limit)
    else:
        yield


async def refuse_rows(backend: SqlBackend) -> None:
    """PostgreSQL says what it says of a full disk."""
    function = """CREATE OR REPLACE FUNCTION messages_test_full() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = '53100'; END $$"""
    trigger = """CREATE TRIGGER messages_test_full BEFORE INSERT ON messages_batch_requests
        FOR EACH ROW EXECUTE FUNCTION messages_test_full()"""
    engine = engine_of(backend)
    async with engine.begin() as connection:
        for statement in (function, trigger):
            await connection.execute(text(statement))
    await engine.dispose()


async def test_a_full_disk_is_said_and_nothing_remains(make: Make, backend: SqlBackend) -> None:
    service = make()
    await service.list(None)
    await service.runtime.stop()
    if isinstance(backend, PostgresSqlStoreConfig):
        await refuse_rows(backend)

    with full_disk(backend), pytest.raises(StorageError, match="the disk of the server's database is full") as caught:
        await service.create(in_pieces(body_of((f"r-{n}", params("x" * 1000)) for n in range(1000))), None)
    assert (caught.value.status, caught.value.error_type) == (503, "api_error")
    await service.runtime.stop()

    assert (await service.list(None))["data"] == []
    while await rows_left(backend):
        await asyncio.sleep(0.02)


async def test_a_database_that_is_not_there_is_said() -> None:
    nowhere = PostgresSqlStoreConfig(host="127.0.0.1", port=free_port(), user="nobody", password="x")

    with pytest.raises(StorageError, match="not available"):
        await BatchService(BatchesConfig(), BatchRuntime(BatchesConfig(), nowhere, echo)).list(None)


# --- params are the request's own affair ---


async def test_a_bad_request_is_an_errored_result_beside_the_good_ones(make: Make) -> None:
    service = make()
    body = orjson.dumps(
        {
            "requests": [
                {"custom_id": "good", "params": params()},
                {"custom_id": "stream", "params": {**params(), "stream": True}},
                {"custom_id": "no-stream", "params": {**params(), "stream": False}},
                {"custom_id": "text", "params": "hello"},
            ]
        }
    )
    batch = await ended(service, (await service.create(in_pieces(body), None))["id"])

    found = {line["custom_id"]: line["result"] for line in await read(service, batch["id"])}
    assert {name: result["type"] for name, result in found.items()} == {
        "good": "succeeded",
        "stream": "errored",
        "no-stream": "succeeded",
        "text": "errored",
    }
    assert found["stream"]["error"]["error"]["message"].startswith("stream:")
    assert found["text"]["error"]["error"]["type"] == "invalid_request_error"


async def test_params_arrive_as_they_were_sent(make: Make) -> None:
    seen: list[Json] = []

    async def look(what: Json, identity: Identity | None, headers: Mapping[str, str]) -> Json:
        seen.append({**what, "headers": dict(headers)})
        return message()

    odd = {**params("ünï \u0000 \U0001f600"), "temperature": 0.1, "n": 2**63, "big": 1e300, "deep": [[[{}]]]}
    service = make(look)
    body = orjson.dumps({"requests": [{"custom_id": "a", "params": {**odd, "huge": 0}}]})
    batch = await service.create(
        in_pieces(body.replace(b'"huge":0', b'"huge":' + b"9" * 30), 3), None, {"a-header": "ü"}
    )
    await ended(service, batch["id"])

    assert {**seen[0], "huge": 0} == {**odd, "huge": 0, "headers": {"a-header": "ü"}}


# --- lists ---


async def test_the_list_is_paged_in_both_directions(make: Make) -> None:
    service = make(concurrency=0)
    ids = [(await create(service, 1))["id"] for _ in range(7)][::-1]

    async def page(**cursor: Any) -> tuple[list[str], bool]:
        found = await service.list(None, **cursor)
        names = [batch["id"] for batch in found["data"]]
        assert (found["first_id"], found["last_id"]) == ((names[0], names[-1]) if names else (None, None))
        return names, found["has_more"]

    assert await page() == (ids, False)
    assert await page(limit=3) == (ids[:3], True)
    assert await page(limit=3, after_id=ids[2]) == (ids[3:6], True)
    assert await page(limit=3, after_id=ids[5]) == (ids[6:], False)
    assert await page(limit=3, before_id=ids[6]) == (ids[3:6], True)
    assert await page(limit=3, before_id=ids[3]) == (ids[:3], False)
    assert await page(limit=3, before_id=ids[0]) == ([], False)
    assert await page(limit=9, after_id=ids[1], before_id=ids[5]) == (ids[2:5], False)
    assert await page(limit=2, after_id=ids[1], before_id=ids[5]) == (ids[3:5], True)


async def test_a_cursor_may_be_deleted_meanwhile(make: Make) -> None:
    service = make()
    ids = [(await create(service, 1))["id"] for _ in range(3)][::-1]
    await ended(service, ids[1])
    await service.delete(ids[1], None)

    assert [batch["id"] for batch in (await service.list(None, after_id=ids[1]))["data"]] == [ids[2]]


@pytest.mark.parametrize("cursor", [{"limit": 0}, {"limit": 1001}])
async def test_a_list_that_makes_no_sense_is_refused(make: Make, cursor: Json) -> None:
    with pytest.raises(InvalidRequestError):
        await make().list(None, **cursor)


ODD_IDS = ["", "\x00", "msgbatch_\x00", "\ud800", "x" * 100_000, "msgbatch_" + "x" * 56, "ü", "a\n", "%00"]


@pytest.mark.parametrize("odd", [*ODD_IDS, "msgbatch_"], ids=repr)
async def test_what_is_no_id_is_no_batch(make: Make, odd: str) -> None:
    service = make()

    for call in (service.retrieve, service.cancel, service.delete, service.results, service.progress):
        with pytest.raises(NotFoundError) as caught:
            await call(odd, None)
        assert len(caught.value.message) < 100


@pytest.mark.parametrize("odd", ODD_IDS, ids=repr)
async def test_what_no_database_compares_is_no_cursor(make: Make, odd: str) -> None:
    service = make()

    for name in ("after_id", "before_id"):
        with pytest.raises(InvalidRequestError, match=f"{name}: Input should be the id of a message batch"):
            await service.list(None, **{name: odd})


# --- cancel, delete, results at the wrong time ---


async def test_cancel_ends_a_batch_and_may_be_repeated(make: Make) -> None:
    service = make(concurrency=0)
    batch = await create(service, 5)

    canceled = await service.cancel(batch["id"], None)
    assert canceled["processing_status"] == "canceling"
    assert canceled["cancel_initiated_at"] is not None
    assert canceled["request_counts"]["processing"] == 5
    again = await service.cancel(batch["id"], None)
    assert again["cancel_initiated_at"] == canceled["cancel_initiated_at"]

    batch = await ended(service, batch["id"])
    assert batch["request_counts"]["canceled"] == 5
    assert await service.cancel(batch["id"], None) == batch
    assert [line["result"] for line in await read(service, batch["id"])] == [{"type": "canceled"}] * 5


async def test_a_batch_that_has_not_ended_is_not_deleted_and_has_no_results(make: Make) -> None:
    service = make(concurrency=0)
    batch = await create(service)

    with pytest.raises(InvalidRequestError, match="has not ended yet"):
        await service.delete(batch["id"], None)
    with pytest.raises(InvalidRequestError, match="has not ended yet"):
        await service.results(batch["id"], None)


async def test_an_expired_batch_has_expired_results(make: Make) -> None:
    service = make(concurrency=0, expires_after_hours=0.2 / 3600, results_days=1)
    batch = await ended(service, (await create(service, 2))["id"])

    assert batch["request_counts"]["expired"] == 2
    assert [line["result"] for line in await read(service, batch["id"])] == [{"type": "expired"}] * 2


async def test_archived_results_are_gone_and_the_batch_is_not(make: Make) -> None:
    # Results are removed by one sweep in 32, and a sweep comes with each look for work.
    service = make(expires_after_hours=1 / 3600, results_days=1 / 86_400)
    batch = await ended(service, (await create(service, 2))["id"])
    while (batch := await service.retrieve(batch["id"], None))["archived_at"] is None:
        await asyncio.sleep(0.05)

    assert batch["results_url"] is None
    assert sum(batch["request_counts"].values()) == 2
    with pytest.raises(NotFoundError, match="no longer available"):
        await service.results(batch["id"], None)


async def test_progress_tells_what_the_counts_do_not(make: Make) -> None:
    service = make(concurrency=0)
    batch = await create(service, 4)
    assert await service.progress(batch["id"], None) == (0, 4)

    worker = make()
    await worker.runtime.start()
    await ended(service, batch["id"])
    assert await service.progress(batch["id"], None) == (4, 4)


# --- whose batch it is ---


async def test_two_identities_do_not_see_each_others_batches(make: Make) -> None:
    """Not even of one team, whose resources the host's default policy shares."""
    service = make()
    batch = await create(service, 1, ALICE)
    await ended(service, batch["id"], ALICE)

    for stranger in (BOB, None):
        assert (await service.list(stranger))["data"] == []
        for call in (service.retrieve, service.cancel, service.delete, service.results, service.progress):
            with pytest.raises(NotFoundError):
                await call(batch["id"], stranger)
    assert [found["id"] for found in (await service.list(ALICE))["data"]] == [batch["id"]]


async def test_what_an_unauthenticated_server_accepted_belongs_to_no_identity(make: Make) -> None:
    service = make()
    batch = await create(service, 1, None)

    assert (await service.list(ALICE))["data"] == []
    with pytest.raises(NotFoundError):
        await service.retrieve(batch["id"], ALICE)


async def test_requests_run_with_the_access_of_their_creator(make: Make) -> None:
    seen: list[tuple[Identity | None, User | None]] = []

    async def look(what: Json, identity: Identity | None, headers: Mapping[str, str]) -> Json:
        seen.append((identity, get_authenticated_user()))
        return message()

    service = make(look)
    for identity in (ALICE, None):
        await ended(service, (await create(service, 1, identity))["id"], identity)

    assert seen == [(ALICE, User("alice", {"teams": ["red"]})), (None, None)]


async def test_the_hosts_policy_has_its_say(make: Make) -> None:
    def permit(*actions: Action) -> AccessRule:
        return AccessRule(permit=Scope(principal="alice", actions=list(actions), resource="message_batch::*"))

    service = make(policy=[permit(Action.CREATE, Action.READ)])
    batch = await create(service, 1, ALICE)
    await ended(service, batch["id"], ALICE)

    with pytest.raises(PermissionDeniedError):
        await create(service, 1, BOB)
    with pytest.raises(PermissionDeniedError):
        await service.cancel(batch["id"], ALICE)
    with pytest.raises(PermissionDeniedError):
        await service.delete(batch["id"], ALICE)


async def test_provider_credentials_are_refused_and_nothing_is_stored(make: Make, backend: SqlBackend) -> None:
    service = make()
    await service.runtime.start()

    with (
        RequestProviderDataContext({"openai_api_key": "sk-secret"}, User("alice", None)),
        pytest.raises(InvalidRequestError, match="x-llamastack-provider-data"),
    ):
        await create(service, 1, ALICE)
    assert await rows_left(backend) == 0

    with RequestProviderDataContext({}, User("alice", None)):
        await create(service, 1, ALICE)


async def test_the_work_of_a_request_does_not_inherit_the_access_of_another(make: Make) -> None:
    """The first call starts the worker, from within its request."""
    users: list[User | None] = []

    async def look(what: Json, identity: Identity | None, headers: Mapping[str, str]) -> Json:
        users.append(get_authenticated_user())
        return message()

    service = make(look)
    with RequestProviderDataContext({}, User("alice", None)):
        await service.list(ALICE)
    await ended(service, (await create(service, 1, None))["id"])

    assert users == [None]


async def test_no_error_of_a_stranger_tells_whether_the_batch_exists(make: Make) -> None:
    service = make()
    batch = await create(service, 1, ALICE)
    texts = set()
    for batch_id in (batch["id"], "msgbatch_unknown"):
        with pytest.raises(MessagesError) as caught:
            await service.retrieve(batch_id, BOB)
        texts.add(caught.value.message.replace(batch_id, "ID"))

    assert len(texts) == 1


async def test_without_a_server_around_it_a_batch_is_accepted_and_waits(make: Make) -> None:
    service = make()
    service.runtime.works = False

    batch = await service.create(in_pieces(body_of([("a", {})])), None)
    await asyncio.sleep(0.3)

    assert (await service.progress(batch["id"], None)) == (0, 1)
