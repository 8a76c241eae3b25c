"""What a server exports over OTLP: the real host, a collector, and requests of every kind."""

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics

from llama_stack_messages_provider.rewriting.compaction import PROMPT
from tests.fidelity.claude_code import SAFEGUARDS, headers
from tests.support import personalities
from tests.support.otlp import Collector, Span
from tests.support.search import SearchServices, page
from tests.support.stack import Stack, openai_provider, run_config, search_provider, vllm_provider
from tests.support.upstream import (
    RecordedRequest,
    Reply,
    ScriptedUpstream,
    call,
    chat_reply,
    completion_usage,
    cut_reply,
    hang_reply,
    json_reply,
    stream_reply,
)
from tests.support.waiting import eventually
from tests.support.wire import Json, anthropic_message, anthropic_stream, encode_events

MESSAGES, CHAT = "/v1/messages", "/v1/chat/completions"
NATIVE, TRANSLATED = "vllm/native-model", "openai/chat-model"
SECRET = "the otters are plotting"
USAGE: Json = {"input_tokens": 11, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 7, "output_tokens": 5}
THEIRS = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{THEIRS}-b7ad6b7169203331-01"
OK, ERROR = 0, 2
SERVER, CLIENT, INTERNAL = 2, 3, 1
_numbers = count()
both = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


def native(upstream: ScriptedUpstream) -> Any:
    def answer(request: RecordedRequest) -> Reply:
        body = request.json or {}
        if not body.get("messages") or "max_tokens" not in body:
            probe = upstream.personality.answer("POST", MESSAGES)
            return probe(request) if callable(probe) else probe
        ident = f"msg_{next(_numbers)}"
        message = anthropic_message(f"Hello, {SECRET}", usage=USAGE, model=body["model"], id=ident)
        return stream_reply(encode_events(anthropic_stream(message))) if body.get("stream") else json_reply(message)

    return answer


def searcher(request: RecordedRequest) -> Reply:
    """A model that searches first."""
    usage = completion_usage(40, 9, cached_tokens=16)
    tools = [tool["function"]["name"] for tool in request.json.get("tools", ())]
    if "web_search" in tools and request.json["messages"][-1]["role"] != "tool":
        reply = chat_reply(tool_calls=[call("web_search", {"query": SECRET})], usage=usage)
    else:
        reply = chat_reply(f"Hello, {SECRET}", usage=usage)
    return reply(request) if callable(reply) else reply


@dataclass
class World:
    stack: Stack
    collector: Collector
    vllm: ScriptedUpstream
    openai: ScriptedUpstream

    def trace_of(self, message_id: str) -> list[Span]:
        """All spans of the trace that a message is in, once its own is there."""
        [own] = eventually(lambda: [s for s in self.collector.spans(gen_ai__response__id=message_id) if is_asked(s)])
        return [span for span in self.collector.spans() if span.trace == own.trace]


def is_asked(span: Span) -> bool:
    return span.kind != CLIENT and "llama_stack.messages.route" in span.attributes


def the(spans: list[Span], **attributes: Any) -> Span:
    wanted = {key.replace("__", "."): value for key, value in attributes.items()}
    [found] = [s for s in spans if all(s.attributes.get(k) == v for k, v in wanted.items())]
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("telemetry")
    with ExitStack() as opened:
        collector = opened.enter_context(Collector())
        web = opened.enter_context(SearchServices(folder))
        web.found(page("https://otters.test/a", "Otters", "They swim."))
        vllm = opened.enter_context(ScriptedUpstream(personalities.vllm(models=["native-model"])))
        openai = opened.enter_context(ScriptedUpstream(personalities.openai_style(models=["chat-model"])))
        config = run_config(
            folder,
            inference=[vllm_provider(vllm.url), openai_provider(openai.url, api_key="sk-very-secret")],
            tool_runtime=[search_provider("tavily")],
            messages={},
        )
        stack = opened.enter_context(Stack(config, folder, env={**web.env, **collector.env}))
        yield World(stack, collector, vllm, openai)


@pytest.fixture(autouse=True)
def _scripts(world: World) -> None:
    world.vllm.forget()
    world.openai.forget()
    world.vllm.reply(MESSAGES, native(world.vllm))
    world.openai.reply(CHAT, searcher)


@pytest.fixture
def client(world: World) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=world.stack.base_url, api_key="any", max_retries=0) as client:
        yield client


def answered(client: anthropic.Anthropic, streamed: bool, **more: Any) -> Any:
    asked: Any = {"model": NATIVE, "max_tokens": 100, "messages": [{"role": "user", "content": SECRET}], **more}
    if not streamed:
        return client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        return stream.get_final_message()


# --- names ---


def test_the_names_are_those_of_the_conventions() -> None:
    from llama_stack_messages_provider.telemetry import answers, calls, instruments, observed

    known = {v for k, v in vars(gen_ai_attributes).items() if k.startswith("GEN_AI_") and isinstance(v, str)}
    files = (answers, calls, observed)
    used = {word for module in files for word in _words(Path(module.__file__ or "").read_text())}
    cache = {f"gen_ai.usage.cache_{kind}.input_tokens" for kind in ("read", "creation")}
    sampling = {f"gen_ai.request.{name}" for name in ("temperature", "top_p", "top_k")}
    templates = {"gen_ai.usage.cache_{kind}.input_tokens", "gen_ai.request.{name}"}
    assert used - templates <= known
    assert cache | sampling <= known
    metrics = {v for k, v in vars(gen_ai_metrics).items() if k.startswith("GEN_AI_")}
    assert set(_words(Path(instruments.__file__ or "").read_text())) <= metrics


def _words(text: str) -> set[str]:
    return {part for part in text.split('"') if part.startswith("gen_ai.")}


# --- messages ---


@both
def test_a_native_message_is_a_span_with_a_call_below_it(
    world: World, client: anthropic.Anthropic, streamed: bool
) -> None:
    message = answered(client, streamed, extra_headers={"traceparent": TRACEPARENT})
    [own] = eventually(lambda: [s for s in world.collector.spans(gen_ai__response__id=message.id) if is_asked(s)])
    assert own.name == f"chat {NATIVE}"
    assert own.kind == INTERNAL
    assert own.status == OK
    told = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": NATIVE,
        "gen_ai.response.model": NATIVE,
        "gen_ai.request.max_tokens": 100,
        "gen_ai.response.id": message.id,
        "gen_ai.response.finish_reasons": ["end_turn"],
        "gen_ai.usage.input_tokens": 48,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 30,
        "gen_ai.usage.cache_creation.input_tokens": 7,
        "llama_stack.messages.route": "native",
        "llama_stack.messages.engine": "vllm",
    }
    streams = {"gen_ai.request.stream": True} if streamed else {}
    first = own.attributes.get("gen_ai.response.time_to_first_chunk")
    known = {k: v for k, v in own.attributes.items() if k != "gen_ai.response.time_to_first_chunk"}
    assert known == {**told, **streams}
    assert (first is not None) == streamed
    [below] = [s for s in world.collector.spans() if s.parent == own.id]
    assert below.name == "chat native-model"
    assert below.kind == CLIENT
    assert below.status == OK
    assert below.attributes["server.address"] == "127.0.0.1"
    assert below.attributes["server.port"] == int(world.vllm.url.rpartition(":")[2])
    assert below.attributes["gen_ai.usage.input_tokens"] == 48
    assert ("gen_ai.request.stream" in below.attributes) == streamed
    # FastAPI's own span of the request stands between the client's and ours.
    [http] = [s for s in world.collector.spans() if s.id == own.parent]
    assert http.kind == SERVER
    assert http.parent == TRACEPARENT.split("-")[2]
    assert own.trace == THEIRS
    assert world.vllm.last.headers["traceparent"] == f"00-{THEIRS}-{below.id}-01"


@both
def test_a_translated_message_is_the_same(world: World, client: anthropic.Anthropic, streamed: bool) -> None:
    message = answered(
        client,
        streamed,
        model=TRANSLATED,
        extra_headers={"traceparent": TRACEPARENT},
        extra_body={"top_k": 5, "speed": "fast"},
    )
    spans = eventually(lambda: world.trace_of(message.id))
    own = the(spans, gen_ai__response__id=message.id, llama_stack__messages__route="translation")
    assert own.attributes["gen_ai.provider.name"] == "openai"
    assert own.attributes["gen_ai.request.top_k"] == 5.0
    usage = message.usage
    assert own.attributes["gen_ai.usage.input_tokens"] == usage.input_tokens + (usage.cache_read_input_tokens or 0)
    assert own.attributes["gen_ai.usage.output_tokens"] == usage.output_tokens
    assert own.attributes["llama_stack.messages.dropped"] == ["speed"]
    [below] = [s for s in spans if s.parent == own.id]
    assert below.kind == CLIENT
    assert below.name == "chat chat-model"
    assert world.openai.last.headers["traceparent"] == f"00-{THEIRS}-{below.id}-01"


@both
def test_a_server_tool_is_a_span_beside_the_calls_of_the_model(
    world: World, client: anthropic.Anthropic, streamed: bool
) -> None:
    search: Any = {"type": "web_search_20250305", "name": "web_search"}
    message = answered(client, streamed, model=TRANSLATED, tools=[search])
    spans = eventually(lambda: world.trace_of(message.id))
    own = the(spans, gen_ai__response__id=message.id, llama_stack__messages__route="translation")
    below = [s for s in spans if s.parent == own.id]
    assert sorted(s.name for s in below) == ["chat chat-model", "chat chat-model", "execute_tool web_search"]
    tool = the(below, gen_ai__operation__name="execute_tool")
    assert tool.kind == INTERNAL
    assert tool.status == OK
    assert tool.attributes["gen_ai.tool.name"] == "web_search"
    assert tool.attributes["gen_ai.tool.call.id"] == message.content[0].id
    calls = [s for s in below if s.kind == CLIENT]
    assert sum(s.attributes["gen_ai.usage.output_tokens"] for s in calls) == message.usage.output_tokens
    assert own.attributes["gen_ai.usage.output_tokens"] == message.usage.output_tokens


def test_a_request_of_a_batch_is_a_trace_of_its_own_that_is_linked_to_its_creation(
    world: World, client: anthropic.Anthropic
) -> None:
    params: Any = {"model": NATIVE, "max_tokens": 100, "messages": [{"role": "user", "content": SECRET}]}
    batch = client.messages.batches.create(
        requests=[{"custom_id": "one", "params": params}], extra_headers={"traceparent": TRACEPARENT}
    )
    [own] = eventually(lambda: world.collector.spans(llama_stack__messages__batch__id=batch.id))
    assert own.name == f"chat {NATIVE}"
    assert own.links == (THEIRS,)
    assert own.trace != THEIRS
    assert [s.kind for s in world.collector.spans() if s.parent == own.id] == [CLIENT]
    eventually(lambda: world.collector.total("llama_stack.messages.batch_requests_total", outcome="succeeded"))


def test_a_count_is_a_span_too(world: World, client: anthropic.Anthropic) -> None:
    asked: Any = [{"role": "user", "content": SECRET}]
    client.messages.count_tokens(model=TRANSLATED, messages=asked)
    [own] = eventually(lambda: world.collector.spans(f"count_tokens {TRANSLATED}"))
    assert own.attributes["gen_ai.operation.name"] == "count_tokens"
    assert own.status == OK
    [below] = [s for s in world.collector.spans() if s.parent == own.id]
    assert below.attributes["gen_ai.usage.input_tokens"] > 0


def test_a_change_that_an_upstream_asked_for_is_named(world: World, client: anthropic.Anthropic) -> None:
    text = "Unsupported parameter: 'temperature' is not supported with this model."
    error = {"message": text, "type": "invalid_request_error", "param": "temperature", "code": "unsupported_parameter"}
    world.openai.queue(CHAT, json_reply({"error": error}, status=400))
    message = answered(client, False, model=TRANSLATED, extra_body={"temperature": 0.25})
    spans = eventually(lambda: world.trace_of(message.id))
    own = the(spans, gen_ai__response__id=message.id, llama_stack__messages__route="translation")
    [change] = own.attributes["llama_stack.messages.adaptations"]
    assert change.startswith("Drop")
    eventually(lambda: world.collector.total("llama_stack.messages.adaptations_total", change=change))


# --- failures ---


def test_a_refusal_is_an_error_with_its_type(world: World, client: anthropic.Anthropic) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": f"No room for: {SECRET}"}}
    world.vllm.queue(MESSAGES, json_reply(error, status=529))
    with pytest.raises(anthropic.APIStatusError):
        answered(client, False)
    failed = eventually(lambda: pair(world, error__type="overloaded_error"))
    assert all(span.status == ERROR for span in failed)


def pair(world: World, **attributes: Any) -> list[Span]:
    """A message's span and that of its call, once both are there."""
    spans = world.collector.spans(**attributes)
    return spans if {CLIENT, INTERNAL} <= {span.kind for span in spans} else []


def test_a_model_that_is_not_there_is_an_error(world: World, client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError):
        answered(client, False, model="nobody's")
    [own] = eventually(lambda: world.collector.spans("chat nobody's"))
    assert own.attributes["error.type"] == "not_found_error"
    assert own.status == ERROR
    durations = eventually(
        lambda: [
            point
            for point in world.collector.metrics().get("gen_ai.server.request.duration", [])
            if point.attributes.get("error.type") == "not_found_error"
        ]
    )
    # A client's invention is no name in metrics.
    assert all("gen_ai.request.model" not in point.attributes for point in durations)


def test_an_upstream_that_dies_in_mid_stream_is_an_error_of_both(world: World, client: anthropic.Anthropic) -> None:
    events = encode_events(anthropic_stream(anthropic_message("Hello there")))
    world.vllm.queue(MESSAGES, cut_reply(events, after=4))
    with pytest.raises(anthropic.APIError):
        answered(client, True)
    failed = eventually(lambda: pair(world, error__type="api_error"))
    assert all(span.status == ERROR for span in failed)


def test_error_types_of_an_upstreams_own_are_no_names_in_metrics(world: World, client: anthropic.Anthropic) -> None:
    answered(client, False)  # the probe has been by
    start, *_ = encode_events(anthropic_stream(anthropic_message("Hello")))
    error = {"type": "error", "error": {"type": "invented_17", "message": "no"}}
    world.vllm.queue(MESSAGES, stream_reply([start, *encode_events([error])]))
    with pytest.raises(anthropic.APIError):
        answered(client, True)
    eventually(lambda: pair(world, error__type="_OTHER") or pair(world, error__type="api_error"))
    assert not world.collector.spans(error__type="invented_17")


@both
def test_a_client_that_leaves_is_told_as_cancelled(world: World, streamed: bool) -> None:
    before = {span.id for span in world.collector.spans(error__type="cancelled")}
    world.vllm.queue(MESSAGES, hang_reply())
    asked = {"model": NATIVE, "max_tokens": 9, "stream": streamed, "messages": [{"role": "user", "content": "Hi"}]}
    with suppress(httpx.ReadTimeout):
        httpx.post(world.stack.base_url + MESSAGES, json=asked, timeout=0.5)
    gone = eventually(
        lambda: [s for s in world.collector.spans(error__type="cancelled") if s.id not in before][1:] or None
    )
    assert all(span.status == ERROR for span in gone)


# --- metrics ---


def test_token_metrics_are_the_usage_of_the_answers(world: World, client: anthropic.Anthropic) -> None:
    def tokens(kind: str) -> float:
        return world.collector.total(
            "gen_ai.client.token.usage", gen_ai__token__type=kind, gen_ai__request__model=TRANSLATED
        )

    def calls() -> float:
        points = world.collector.metrics().get("gen_ai.client.operation.duration", [])
        return sum(p.count for p in points if p.attributes.get("gen_ai.request.model") == TRANSLATED)

    answered(client, False, model=TRANSLATED)
    eventually(lambda: calls() and tokens("input"))
    settled(lambda: (calls(), tokens("input"), tokens("output")))
    begun, before, generated = calls(), tokens("input"), tokens("output")
    messages = [answered(client, n % 2 == 0, model=TRANSLATED) for n in range(4)]
    eventually(lambda: calls() >= begun + 4)
    asked = sum(m.usage.input_tokens + (m.usage.cache_read_input_tokens or 0) for m in messages)
    eventually(lambda: tokens("input") - before == asked)
    assert tokens("output") - generated == sum(m.usage.output_tokens for m in messages)


def settled(look: Any) -> None:
    """Return when what was exported has not changed over several exports."""
    import time

    last, same = look(), 0
    while same < 5:
        time.sleep(0.2)
        now = look()
        last, same = now, same + 1 if now == last else 0


def test_metrics_have_the_buckets_of_the_conventions(world: World, client: anthropic.Anthropic) -> None:
    answered(client, True)
    names = ("gen_ai.client.token.usage", "gen_ai.client.operation.duration", "gen_ai.server.time_to_first_token")
    eventually(lambda: all(name in world.collector.metrics() for name in names))
    metrics = world.collector.metrics()
    assert metrics["gen_ai.client.token.usage"][0].bounds == tuple(4.0**n for n in range(14))
    assert metrics["gen_ai.client.operation.duration"][0].bounds[:3] == (0.01, 0.02, 0.04)
    assert metrics["gen_ai.server.time_to_first_token"][0].bounds[-1] == 10.0
    required = {"gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model"}
    for name in names:
        assert all(required <= set(point.attributes) for point in metrics[name])


def test_models_that_nobody_registered_share_one_name_in_metrics(world: World, client: anthropic.Anthropic) -> None:
    for n in range(3):
        answered(client, False, model=f"vllm/invented-{n}")
    eventually(
        lambda: world.collector.total("gen_ai.client.token.usage", gen_ai__request__model="vllm/other") >= 3 * 53
    )
    points = [point for found in world.collector.metrics().values() for point in found]
    assert not [point for point in points if "invented" in str(point.attributes)]


def test_nothing_that_was_said_is_told(world: World, client: anthropic.Anthropic) -> None:
    answered(client, False)
    told = [request.body for request in world.collector.requests]
    assert told
    assert not [body for body in told if SECRET.encode() in body or b"sk-very-secret" in body]


# --- the content switch, and a server that tells nobody ---


@both
def test_the_standards_switch_tells_what_was_said_and_no_more_than_fits(scripted_stack: Any, streamed: bool) -> None:
    from llama_stack_messages_provider.telemetry.content import MAX_CONTENT_CHARACTERS

    with Collector() as collector, ScriptedUpstream(personalities.openai_style(models=["chat-model"])) as upstream:
        upstream.reply(CHAT, chat_reply("Swim!"))
        stack = scripted_stack(
            inference=[openai_provider(upstream.url)],
            messages={},
            env={**collector.env, "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true"},
        )
        with anthropic.Anthropic(base_url=stack.base_url, api_key="any", max_retries=0) as client:
            turns: Any = [{"role": "user", "content": "x" * 100_000}, {"role": "user", "content": SECRET}]
            answered(client, streamed, model=TRANSLATED, messages=turns, system="Be brief.")
        [own] = eventually(lambda: collector.spans(f"chat {TRANSLATED}"))
    asked = own.attributes["gen_ai.input.messages"]
    assert asked.endswith('[{"type":"text","content":"the otters are plotting"}]}]')
    assert len(asked) < MAX_CONTENT_CHARACTERS + 1000
    assert own.attributes["gen_ai.system_instructions"] == '[{"type":"text","content":"Be brief."}]'
    part = '{"type":"text","content":"Swim!"}'
    assert own.attributes["gen_ai.output.messages"] == (
        f'[{{"role":"assistant","parts":[{part}],"finish_reason":"end_turn"}}]'
    )


def test_where_nobody_listens_a_clients_trace_is_handed_on(scripted_stack: Any) -> None:
    with ScriptedUpstream(personalities.openai_style(models=["chat-model"])) as upstream:
        stack = scripted_stack(inference=[openai_provider(upstream.url)], messages={})
        with anthropic.Anthropic(base_url=stack.base_url, api_key="any", max_retries=0) as client:
            for streamed in (False, True):
                answered(client, streamed, model=TRANSLATED, extra_headers={"traceparent": TRACEPARENT})
                assert upstream.last.headers["traceparent"] == TRACEPARENT
            answered(client, False, model=TRANSLATED)
            assert "traceparent" not in upstream.last.headers


# --- what is done for a message beside its calls ---


@both
def test_advice_is_a_message_below_the_tool_that_asked_for_it(
    world: World, client: anthropic.Anthropic, streamed: bool
) -> None:
    def advised(request: RecordedRequest) -> Reply:
        said = str(request.json["messages"])
        if "You are asked for advice" in said:
            reply = chat_reply("Test first.")
        else:
            reply = chat_reply("I test.") if "Test first." in said else chat_reply(tool_calls=[call("advisor", {})])
        return reply(request) if callable(reply) else reply

    world.openai.reply(CHAT, advised)
    tool: Any = {"type": "advisor_20260301", "name": "advisor", "model": TRANSLATED}
    message = answered(client, streamed, model=TRANSLATED, tools=[tool])
    spans = eventually(lambda: world.trace_of(message.id))
    own = the(spans, gen_ai__response__id=message.id, llama_stack__messages__route="translation")
    [tool_span] = [s for s in spans if s.parent == own.id and s.name == "execute_tool advisor"]
    [inner] = [s for s in spans if s.parent == tool_span.id]
    assert inner.name == f"chat {TRANSLATED}"
    assert [s.kind for s in spans if s.parent == inner.id] == [CLIENT]


@both
def test_a_summary_is_below_its_message(world: World, client: anthropic.Anthropic, streamed: bool) -> None:
    def summarising(request: RecordedRequest) -> Reply:
        is_asked = PROMPT[:40] in str(request.json["messages"][-1])
        reply = chat_reply("<summary>Otters.</summary>" if is_asked else "fine")
        return reply(request) if callable(reply) else reply

    world.openai.reply(CHAT, summarising)
    edit = {"type": "compact_20260112", "trigger": {"type": "input_tokens", "value": 50_000}}
    turns: Any = [
        {"role": "user", "content": "Look at the otters. " * 20_000},
        {"role": "assistant", "content": "They swim."},
        {"role": "user", "content": "What else?"},
    ]
    more = {"context_management": {"edits": [edit]}}
    message = answered(client, streamed, model=TRANSLATED, messages=turns, extra_body=more)
    spans = eventually(lambda: world.trace_of(message.id))
    own = the(spans, gen_ai__response__id=message.id, llama_stack__messages__route="translation")
    below = [s for s in spans if s.parent == own.id]
    assert sorted(s.name for s in below) == ["chat chat-model", "compact"]
    [compact] = [s for s in below if s.name == "compact"]
    assert [(s.name, s.kind) for s in spans if s.parent == compact.id] == [("chat chat-model", CLIENT)]


@both
def test_a_verdict_is_below_the_message_whose_call_it_is_about(world: World, streamed: bool) -> None:
    def judged(request: RecordedRequest) -> Reply:
        if b"You are a security reviewer" in request.body:
            reply = chat_reply('{"outcome": "not_flagged"}')
        else:
            reply = chat_reply(tool_calls=[call("Bash", {"command": "ls"})])
        return reply(request) if callable(reply) else reply

    world.openai.reply(CHAT, judged)
    body = {
        "model": TRANSLATED,
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "List."}],
        "tools": [{"name": "Bash", "input_schema": {"type": "object"}}],
        "safeguards": SAFEGUARDS,
        "stream": streamed,
    }
    before = {span.id for span in world.collector.spans("judge")}
    httpx.post(world.stack.base_url + MESSAGES, json=body, headers=headers("332"), timeout=30).raise_for_status()
    [judge] = eventually(lambda: [s for s in world.collector.spans("judge") if s.id not in before])
    spans = [s for s in world.collector.spans() if s.trace == judge.trace]
    [inner] = [s for s in spans if s.parent == judge.id]
    assert inner.name.startswith("chat ")
    [own] = eventually(lambda: [s for s in world.collector.spans() if s.id == judge.parent])
    assert is_asked(own)
    assert own.name == f"chat {TRANSLATED}"
