"""Each row of the policy table that says mapped or emulated, through the real server: what reached the upstream over
HTTP, and what the SDK returned, streamed and not. And that the native route forwards all of it as it came.
"""

from collections.abc import Callable, Sequence
from typing import Any

import anthropic
import pytest

from llama_stack_messages_provider.support_rows import SUPPORT
from tests.conftest import ROOT, Fleet
from tests.fidelity.cases import HELLO, Case, Json
from tests.fidelity.cases_of_answers import ANSWER_CASES
from tests.fidelity.cases_of_blocks import BLOCK_CASES
from tests.fidelity.cases_of_requests import REQUEST_CASES
from tests.fidelity.cases_of_tools import TOOL_CASES
from tests.fidelity.matching import ABSENT, differences
from tests.support.laws import assert_well_formed
from tests.support.upstream import (
    RecordedRequest,
    Reply,
    Wait,
    chat_chunks,
    chat_completion,
    encode_chunks,
    json_reply,
    stream_reply,
)
from tests.support.waiting import eventually

CASES = [*REQUEST_CASES, *BLOCK_CASES, *TOOL_CASES, *ANSWER_CASES]
CHAT = "/v1/chat/completions"

ELSEWHERE = {
    ("parameter", "stream"): "tests/fidelity/test_policy.py::test_a_stream_is_asked_for_with_its_usage",
    ("parameter", "safeguards"): "tests/fidelity/test_safeguards.py::test_each_call_has_a_verdict",
    **dict.fromkeys(
        [("parameter", "fallbacks"), ("response block", "fallback")],
        "tests/cases/test_fallbacks.py::test_a_refusal_before_any_word_is_answered_by_the_next",
    ),
    ("batch parameter", "requests"): "tests/fidelity/test_policy.py::test_a_batch_s_requests_are_requests_of_their_own",
    **dict.fromkeys(
        [("batch parameter", name) for name in ("limit", "after_id", "before_id")],
        "tests/batches/test_real_server.py::test_the_sdk_pages_through_the_list",
    ),
    **dict.fromkeys(
        [
            *(("tool", name) for name in SUPPORT["tool"] if name.startswith("web_search_")),
            *(("response block", name) for name in ("server_tool_use", "web_search_tool_result")),
        ],
        "tests/live/test_web_search.py::test_the_model_searches_and_answers",
    ),
    **dict.fromkeys(
        [
            *(("tool", name) for name in SUPPORT["tool"] if name.startswith("tool_search_")),
            ("response block", "tool_search_tool_result"),
        ],
        "tests/live/test_tool_search.py::test_of_many_deferred_tools_one_is_searched_for_and_called",
    ),
    **dict.fromkeys(
        [
            *(("tool", name) for name in SUPPORT["tool"] if name.startswith("web_fetch_")),
            ("response block", "web_fetch_tool_result"),
        ],
        "tests/live/test_web_fetch.py::test_a_page_is_fetched_and_read",
    ),
    **dict.fromkeys(
        [("tool", "advisor_20260301"), ("tool field", "max_tokens"), ("response block", "advisor_tool_result")],
        "tests/live/test_advisor.py::test_another_model_gives_advice",
    ),
    **dict.fromkeys(
        [
            *(("tool", name) for name in SUPPORT["tool"] if name.startswith("code_execution_")),
            ("response block", "code_execution_tool_result"),
        ],
        "tests/server_tools/test_code_execution.py::test_a_program_is_run_by_the_stack_s_tool",
    ),
    (
        "response block",
        "bash_code_execution_tool_result",
    ): "tests/server_tools/test_code_execution.py::test_a_command_is_run_by_the_tool_for_commands",
    ("tool field", "max_content_tokens"): "tests/live/test_web_fetch.py::test_a_page_is_cut_as_the_client_wants",
    ("tool field", "url_sources"): "tests/live/test_web_fetch.py::test_what_must_not_be_fetched_is_an_error",
    ("tool field", "max_uses"): "tests/live/test_web_search.py::test_no_more_searches_than_the_client_allows",
    **dict.fromkeys(
        [("tool field", name) for name in ("allowed_domains", "blocked_domains", "user_location")],
        "tests/live/test_web_search.py::test_pages_are_of_the_domains_that_the_client_wants",
    ),
    **dict.fromkeys(
        [
            ("parameter", "mcp_servers"),
            ("tool", "mcp_toolset"),
            ("tool field", "default_config"),
            *(("response block", name) for name in ("mcp_tool_use", "mcp_tool_result")),
        ],
        "tests/live/test_mcp.py::test_tools_of_two_servers_in_one_turn",
    ),
    **dict.fromkeys(
        [("block", "mcp_tool_listing"), ("response block", "mcp_tool_listing"), ("tool field", "tools")],
        "tests/live/test_mcp.py::test_listings_are_told_to_clients_that_know_them_and_pinned",
    ),
    ("parameter", "context_management"): "tests/cases/test_context.py::test_what_was_cleared_is_told",
    ("parameter", "diagnostics"): "tests/live/test_cache_diagnostics.py::test_a_change_is_told_and_growth_is_none",
    ("parameter", "compaction"): "tests/cases/test_compaction.py::test_a_summary_on_demand_with_words_of_the_clients",
    ("block field", "tool_changes"): "tests/cases/test_compaction.py::test_tools_that_are_gone_stay_so",
    ("response block", "compaction"): "tests/cases/test_compaction.py::test_the_sdk_reads_the_summary",
    ("delta", "compaction_delta"): "tests/cases/test_compaction.py::test_the_sdk_reads_the_summary",
    ("stop reason", "compaction"): "tests/cases/test_compaction.py::test_a_message_may_pause_after_its_summary",
    ("stop reason", "pause_turn"): "tests/live/test_web_search.py::test_a_message_is_paused_and_goes_on",
    ("event", "ping"): "tests/live/test_liveness.py::test_a_silence_within_the_answer_is_filled_with_pings",
    ("event", "error"): "tests/fidelity/test_policy.py::test_a_failure_in_mid_stream_is_an_error_event",
    **{
        ("error", name): "tests/fidelity/test_policy.py::test_an_upstream_s_error_has_its_type"
        for name, row in SUPPORT["error"].items()
        if row.translated == "mapped"
    },
}
"""Rows that are not of one request and one answer, and the tests that try them."""


def test_every_row_that_is_mapped_or_emulated_has_a_test() -> None:
    promised = {
        (kind, name)
        for kind, rows in SUPPORT.items()
        for name, policy in rows.items()
        if policy.translated in {"mapped", "emulated"}
    }
    assert {(case.kind, case.row) for case in CASES} | set(ELSEWHERE) == promised


@pytest.mark.parametrize("place", sorted(set(ELSEWHERE.values())))
def test_the_tests_that_are_named_exist(place: str) -> None:
    file, name = place.split("::")
    assert f"def {name}(" in (ROOT / file).read_text()


def test_cases_have_names_of_their_own() -> None:
    ids = [case.id for case in CASES]
    assert len(ids) == len(set(ids))


def whole(client: anthropic.Anthropic, body: Json) -> Json:
    """The message as the SDK reads it."""
    return _ask(client.beta.messages.create, body).to_dict(mode="json")


def streamed(client: anthropic.Anthropic, body: Json) -> tuple[list[Json], Json]:
    """The events and the message that the SDK makes of them."""
    with _ask(client.beta.messages.stream, body) as stream:
        events = [event.to_dict(mode="json") for event in _ask(client.beta.messages.create, {**body, "stream": True})]
        return events, stream.get_final_message().to_dict(mode="json")


def _ask(method: Callable[..., Any], body: Json) -> Any:
    """By what every version of the SDK takes as an argument; the rest as it stands in the body."""
    named = {name: body[name] for name in ("model", "max_tokens", "messages", "stream") if name in body}
    return method(**named, extra_body={name: value for name, value in body.items() if name not in named})


def body_of(case: Case, model: str) -> Json:
    return {"model": case.model or model, "max_tokens": 16, "messages": [HELLO], **case.request}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_it_reaches_the_upstream_and_comes_back_as_promised(
    case: Case, client: anthropic.Anthropic, fleet: Fleet
) -> None:
    upstream = fleet.upstreams[case.upstream]
    if case.reply is not None:
        upstream.reply(CHAT, case.reply)
    body = body_of(case, f"{case.upstream}-translated/{case.upstream}-model")

    message = whole(client, body)
    events, folded = streamed(client, body)

    seen = [request.json for request in upstream.requests_to(CHAT)]
    assert [request.get("stream", False) for request in seen] == [False, True, True]
    for request in seen:
        assert differences(case.sent, request) == []
    for returned in (message, folded):
        assert differences(case.returned, returned) == []
    assert_well_formed(events)
    assert missing(case.events, events) == []


def missing(expected: Sequence[Json], events: Sequence[Json]) -> list[Json]:
    """The first of the expected events that does not come, in their order."""
    rest = iter(events)
    return next(([each] for each in expected if not any(not differences(each, event) for event in rest)), [])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_native_route_forwards_it_as_it_came(case: Case, client: anthropic.Anthropic, fleet: Fleet) -> None:
    body = body_of(case, "anthropic-native/anthropic-model")
    body["model"] = "anthropic-native/anthropic-model"
    whole(client, body)
    _ask(client.beta.messages.create, {**body, "stream": True}).close()
    seen = fleet.upstreams["anthropic"].requests_to("/v1/messages")[-2:]
    for request, stream in zip(seen, (False, True), strict=True):
        assert request.json == {**body, "model": "anthropic-model"} | ({"stream": True} if stream else {})


# --- rows of more than one request, or of none that succeeds ---


def test_a_stream_is_asked_for_with_its_usage(client: anthropic.Anthropic, fleet: Fleet) -> None:
    for name in ("openai", "vllm"):
        body = {"model": f"{name}-translated/{name}-model", "max_tokens": 9, "messages": [HELLO]}
        _, message = streamed(client, body)
        sent = {"stream": True, "stream_options": {"include_usage": True}}
        assert differences(sent, fleet.upstreams[name].last.json) == []
        assert differences({"usage": {"input_tokens": 11, "output_tokens": 5}}, message) == []
        whole(client, body)
        assert differences({"stream": ABSENT, "stream_options": ABSENT}, fleet.upstreams[name].last.json) == []


def test_a_batch_s_requests_are_requests_of_their_own(client: anthropic.Anthropic, fleet: Fleet) -> None:
    def echo(request: RecordedRequest) -> Reply:
        return json_reply(chat_completion(f"You said {request.json['messages'][0]['content']}."))

    fleet.upstreams["openai"].reply(CHAT, echo)
    words = ("one", "two")
    requests: list[Any] = [
        {
            "custom_id": word,
            "params": {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": word}]},
        }
        for word in words
    ]
    batch_id = client.messages.batches.create(requests=requests).id
    eventually(lambda: client.messages.batches.retrieve(batch_id).processing_status == "ended")
    results = {each.custom_id: each.result.to_dict() for each in client.messages.batches.results(batch_id)}
    assert set(results) == set(words)
    for word, result in results.items():
        content = [{"type": "text", "text": f"You said {word}."}]
        assert differences({"type": "succeeded", "message": {"model": "claude-x", "content": content}}, result) == []


FAILURES = {
    "invalid_request_error": (400, 409, 422, 451),
    "authentication_error": (401,),
    "billing_error": (402,),
    "permission_error": (403,),
    "not_found_error": (404,),
    "request_too_large": (413,),
    "rate_limit_error": (429,),
    "api_error": (500, 502),
    "overloaded_error": (503, 529),
    "timeout_error": (408, 504),
}


def test_every_error_type_that_is_mapped_is_tried() -> None:
    assert set(FAILURES) == {name for name, row in SUPPORT["error"].items() if row.translated == "mapped"}


@pytest.mark.parametrize(("kind", "status"), [(kind, status) for kind, all_ in FAILURES.items() for status in all_])
def test_an_upstream_s_error_has_its_type(client: anthropic.Anthropic, fleet: Fleet, kind: str, status: int) -> None:
    fleet.upstreams["openai"].reply(CHAT, json_reply({"error": {"message": "Not today."}}, status=status))
    body = {"model": "openai/openai-model", "max_tokens": 9, "messages": [HELLO]}
    for stream in (False, True):
        with pytest.raises(anthropic.APIStatusError) as caught:
            _ask(client.beta.messages.create, {**body, "stream": stream})
        assert caught.value.type == kind


def test_a_failure_in_mid_stream_is_an_error_event(client: anthropic.Anthropic, fleet: Fleet) -> None:
    broken = [
        *encode_chunks(chat_chunks("Hello")[:-1], done=False),
        b'data: {"error": {"message": "Out of luck.", "code": 503}}\n\n',
    ]
    # Later than the first event: an error before it is a status.
    fleet.upstreams["openai"].reply(CHAT, stream_reply([*broken[:-1], Wait(0.1), broken[-1]]))
    body = {"model": "openai/openai-model", "max_tokens": 9, "messages": [HELLO], "stream": True}
    with pytest.raises(anthropic.APIStatusError, match=r"Out of luck\.") as caught:
        list(_ask(client.beta.messages.create, body))
    assert caught.value.type == "overloaded_error"
