"""One name for equal replicas, over the real host: a conversation stays at its own as long as that answers."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx
import pytest

from llama_stack_messages_provider.routing.replicas import pin_of, ranked
from llama_stack_messages_provider.routing.spill_over import MAX_FAILED
from tests.support.personalities import dead, identities, openai_style, vllm
from tests.support.replies import CUT, Reply, json_reply
from tests.support.stack import Stack, custom_auth, openai_provider, run_config, vllm_provider
from tests.support.upstream import ScriptedUpstream
from tests.support.waiting import eventually
from tests.support.wire import Json

POLICY: list[Json] = [
    {"forbid": {"actions": ["read"], "resource": "model::b/m"}, "unless": "user with admin in roles"},
    {"permit": {"actions": ["read", "create"]}},
    {"permit": {"actions": ["create", "read", "update", "delete"], "resource": "message_batch::*"}},
]
USERS = {"key-ann": ("ann", {"roles": ["admin"]}), "key-bob": ("bob", {"roles": ["user"]})}
REPLICAS = {"native": ["a/m", "b/m"], "translated": ["chat-a/m", "chat-b/m"]}
ALIASES = {
    **REPLICAS,
    "half-stuck": ["stuck/m", "a/m"],
    "half-dead": ["dead/m", "a/m"],
    "all-dead": ["dead/m", "dead-too/m"],
    "first-*": ["a/m", "b/m"],
    "four": [*REPLICAS["native"], *REPLICAS["translated"]],
}
PATHS = {"native": "/v1/messages", "translated": "/v1/chat/completions"}
BY = pytest.mark.parametrize("name", REPLICAS)
STREAM = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@dataclass(frozen=True)
class Pair:
    """A stack in front of two replicas, by the first letters of their providers."""

    stack: Stack
    upstreams: dict[str, ScriptedUpstream]

    def ask(
        self, name: str, session: str | None = None, *, key: str = "key-ann", path: str = "", **more: Any
    ) -> httpx.Response:
        body = {"model": name, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], **more}
        headers = {"x-api-key": key, **({"x-claude-code-session-id": session} if session else {})}
        return httpx.post(f"{self.stack.base_url}/v1/messages{path}", json=body, headers=headers, timeout=60)

    def place(self, name: str, session: str | None = None, **more: Any) -> str:
        answer = self.ask(name, session, **more)
        assert answer.status_code == 200, answer.text
        return answer.headers["x-messages-model"]

    def of(self, identifier: str) -> ScriptedUpstream:
        return self.upstreams[identifier.partition("/")[0].removeprefix("chat-")]


@pytest.fixture(scope="module")
def _pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("replicas")
    with ExitStack() as opened:
        upstreams = {name: opened.enter_context(ScriptedUpstream(vllm(["m"]))) for name in "ab"}
        down = opened.enter_context(ScriptedUpstream(dead(["m"])))
        auth = opened.enter_context(ScriptedUpstream(identities(USERS)))
        providers = [vllm_provider(upstream.url, name) for name, upstream in upstreams.items()]
        providers += [openai_provider(upstream.url, f"chat-{name}") for name, upstream in upstreams.items()]
        providers += [openai_provider(down.url, name) for name in ("dead", "dead-too")]
        # Of the native route, which its upstream does not have.
        providers.append(openai_provider(opened.enter_context(ScriptedUpstream(openai_style(["m"]))).url, "stuck"))
        # Asked once: a probe in the middle of a test would meet its scripts.
        messages = {
            "model_aliases": ALIASES,
            "routes": {"chat-a": "translation", "chat-b": "translation", "stuck": "native"},
            "probe": {"yes_seconds": 86_400},
        }
        config = run_config(folder, inference=providers, messages=messages, auth=custom_auth(auth.url, POLICY))
        stack = opened.enter_context(Stack(config, folder))
        pair = Pair(stack, upstreams)
        for name in REPLICAS:
            assert {pair.place(name, f"s-{n}") for n in range(20)} == set(REPLICAS[name])
        yield pair


@pytest.fixture
def pair(_pair: Pair) -> Iterator[Pair]:
    for upstream in _pair.upstreams.values():
        upstream.forget()
    yield _pair
    for upstream in _pair.upstreams.values():
        upstream.forget()


def first(name: str, session: str) -> str:
    return ranked(pin_of(session, {}), REPLICAS[name])[0]


@BY
@STREAM
def test_a_session_stays_at_one_replica_and_sessions_are_spread(pair: Pair, name: str, stream: bool) -> None:
    for n in range(8):
        session = f"s-{n}"
        places = {pair.place(name, session, stream=stream), pair.place(name, session, path="/count_tokens")}
        assert places == {first(name, session)}
    assert all(upstream.requests_to(PATHS[name]) for upstream in pair.upstreams.values())


@BY
def test_without_a_session_the_turns_of_a_conversation_meet(pair: Pair, name: str) -> None:
    seen = set()
    for n in range(8):
        messages: list[Json] = [{"role": "user", "content": f"Question {n}"}]
        places = {pair.place(name, messages=messages)}
        messages += [{"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Go on"}]
        places |= {pair.place(name, messages=messages), pair.place(name, messages=messages, path="/count_tokens")}
        assert len(places) == 1
        seen |= places
    assert seen == set(REPLICAS[name])


@BY
def test_the_answer_has_the_name_that_was_asked_for(pair: Pair, name: str) -> None:
    assert pair.ask(name).json()["model"] == name
    assert pair.ask("first-one").json()["model"] == "first-one"


FAILURES: dict[str, Reply] = {
    "429": json_reply({"error": {"message": "Too many requests", "type": "rate_limit"}}, status=429),
    "500": json_reply({"error": {"message": "Engine is dead", "type": "internal"}}, status=500),
    "503": json_reply({"error": {"message": "Loading model", "type": "unavailable_error"}}, status=503),
    "529": json_reply({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, status=529),
}


@BY
@STREAM
@pytest.mark.parametrize("failure", FAILURES)
def test_a_replica_that_is_down_or_full_has_its_sessions_answered_elsewhere(
    pair: Pair, name: str, stream: bool, failure: str
) -> None:
    home = first(name, "s-1")
    (other,) = set(REPLICAS[name]) - {home}
    pair.of(home).reply(PATHS[name], FAILURES[failure])
    answer = pair.ask(name, "s-1", stream=stream)
    assert (answer.status_code, answer.headers["x-messages-model"]) == (200, other)
    assert ("message_stop" if stream else "Hello from m") in answer.text
    assert "fallback" not in answer.text
    assert "iterations" not in answer.text
    pair.of(home).forget()
    assert pair.place(name, "s-1", stream=stream) == home


@pytest.mark.slow
@STREAM
def test_a_replica_that_was_not_reached_is_tried_again_after_a_time(pair: Pair, stream: bool) -> None:
    home = first("native", "s-1")
    pair.of(home).reply("/v1/messages", Reply(before=(CUT,)))
    assert pair.place("native", "s-1", stream=stream) != home
    asked = len(pair.of(home).requests_to("/v1/messages"))
    assert pair.place("native", "s-1", stream=stream) != home
    assert len(pair.of(home).requests_to("/v1/messages")) == asked
    pair.of(home).forget()
    eventually(lambda: pair.place("native", "s-1", stream=stream) == home)


@BY
def test_where_all_fail_the_last_one_s_words_are_told(pair: Pair, name: str) -> None:
    for upstream in pair.upstreams.values():
        upstream.reply(PATHS[name], FAILURES["503"])
    answer = pair.ask(name, "s-1")
    assert answer.status_code in (503, 529)
    assert "Loading model" in answer.text
    assert [len(upstream.requests_to(PATHS[name])) for upstream in pair.upstreams.values()] == [1, 1]


@pytest.mark.parametrize(("status", "tried"), [(500, MAX_FAILED), (429, 4), (529, 4)])
def test_a_request_that_may_break_engines_is_not_brought_to_all(pair: Pair, status: int, tried: int) -> None:
    for upstream in pair.upstreams.values():
        for path in PATHS.values():
            upstream.reply(path, json_reply({"error": {"message": "No"}}, status=status))
    assert pair.ask("four", "s-1").status_code == status
    asked = [seen for each in pair.upstreams.values() for path in PATHS.values() for seen in each.requests_to(path)]
    assert len(asked) == tried


@BY
def test_what_the_request_is_refused_for_is_no_other_replica_s_business(pair: Pair, name: str) -> None:
    home = first(name, "s-1")
    pair.of(home).reply(PATHS[name], json_reply({"error": {"message": "No such thing", "type": "x"}}, status=400))
    assert pair.ask(name, "s-1").status_code == 400
    assert len(pair.of(home).requests_to(PATHS[name])) == sum(
        len(upstream.requests_to(PATHS[name])) for upstream in pair.upstreams.values()
    )


@STREAM
def test_a_replica_that_is_dead_is_passed_over(pair: Pair, stream: bool) -> None:
    for n in range(6):
        assert pair.place("half-dead", f"s-{n}", stream=stream) == "a/m"
        assert pair.place("half-dead", f"s-{n}", path="/count_tokens") == "a/m"


def test_where_all_are_dead_that_is_told(pair: Pair) -> None:
    for _ in range(2):
        answer = pair.ask("all-dead")
        assert answer.status_code == 502
        assert "could not be reached" in answer.json()["error"]["message"]
        assert "provider 'dead" in answer.json()["error"]["message"]


def test_a_replica_that_one_may_not_use_is_not_among_the_choices(pair: Pair) -> None:
    assert {pair.place("native", f"s-{n}", key="key-bob") for n in range(8)} == {"a/m"}
    pair.of("a/m").reply("/v1/messages", FAILURES["503"])
    pair.of("b/m").forget()
    assert pair.ask("native", key="key-bob").status_code in (503, 529)
    assert not pair.of("b/m").requests_to("/v1/messages")


def test_the_list_of_models_has_the_name_once(pair: Pair) -> None:
    with anthropic.Anthropic(base_url=pair.stack.base_url, api_key="key-ann", max_retries=0) as sdk:
        listed = {model.id: model for model in sdk.models.list(limit=100)}
        assert listed["native"].display_name == "native (a/m, b/m)"
        assert [name for name in listed if "native" in name] == ["native"]
        assert sdk.models.retrieve("native").max_input_tokens == listed["a/m"].max_input_tokens
    with anthropic.Anthropic(base_url=pair.stack.base_url, api_key="key-bob", max_retries=0) as sdk:
        assert sdk.models.retrieve("native").display_name == "native (a/m)"


def test_a_batch_is_spread_over_all(pair: Pair) -> None:
    user = '{"device_id": "d", "account_uuid": "", "session_id": "s-1"}'
    with anthropic.Anthropic(base_url=pair.stack.base_url, api_key="key-ann", max_retries=0) as sdk:
        batch = sdk.messages.batches.create(
            requests=[
                {
                    "custom_id": f"r-{n}",
                    "params": {
                        "model": "native",
                        "max_tokens": 9,
                        "messages": [{"role": "user", "content": f"Question {n}"}],
                        "metadata": {"user_id": user},
                    },
                }
                for n in range(16)
            ]
        )
        eventually(lambda: sdk.messages.batches.retrieve(batch.id).processing_status == "ended", within=60)
    assert sum(len(upstream.requests_to("/v1/messages")) for upstream in pair.upstreams.values()) == 16
    assert all(upstream.requests_to("/v1/messages") for upstream in pair.upstreams.values())


@STREAM
def test_what_moved_is_no_other_model_to_diagnostics(pair: Pair, stream: bool) -> None:
    """It begins as the one before, and no cache has it: nobody can tell what was missed."""
    home = first("native", "s-1")
    with anthropic.Anthropic(
        base_url=pair.stack.base_url,
        api_key="key-ann",
        max_retries=0,
        default_headers={"x-claude-code-session-id": "s-1"},
    ) as sdk:

        def told(previous: str | None) -> tuple[str, Any]:
            body: Any = {"model": "native", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
            body["diagnostics"] = {"previous_message_id": previous}
            if not stream:
                message = sdk.beta.messages.create(**body)
            else:
                with sdk.beta.messages.stream(**body) as events:
                    message = events.get_final_message()
            found = message.diagnostics and message.diagnostics.cache_miss_reason
            return message.id, found and found.type

        one, reason = told(None)
        assert (reason, told(one)[1]) == (None, None)
        pair.of(home).reply("/v1/messages", FAILURES["503"])
        two, reason = told(one)
        assert reason == "unavailable"
        assert told(two)[1] is None
        pair.of(home).forget()
        assert told(two)[1] == "unavailable"


def test_where_the_next_one_cannot_take_it_the_failure_is_told(pair: Pair) -> None:
    names = ["stuck/m", "a/m"]
    session = next(s for s in map(str, range(99)) if ranked(pin_of(s, {}), names)[0] == "a/m")
    pair.upstreams["a"].reply("/v1/messages", FAILURES["503"])
    answer = pair.ask("half-stuck", session)
    assert (answer.status_code, answer.json()["error"]["message"]) == (529, "Loading model")
