"""What upstreams refuse, over the real host: each refusal times each operation, on both routes."""

import time
from typing import Any

import httpx
import orjson
import pytest

from llama_stack_messages_provider.cli import main
from tests.conftest import Fleet
from tests.live.raw import MESSAGES, Answer, post
from tests.support.dialects import CHAT, fake_count
from tests.support.refusing import HELLO, MUCH, REFUSING, SYSTEM_TURN, Refusing, refusing_upstream
from tests.support.replies import Reply, json_reply, stream_reply
from tests.support.upstream import RecordedRequest, chat_reply
from tests.support.wire import Json, anthropic_message, anthropic_stream, encode_events, text_block

COUNT = f"{MESSAGES}/count_tokens"
PATH = CHAT.partition(" ")[2]
each_case = pytest.mark.parametrize("case", REFUSING, ids=[case.id for case in REFUSING])
both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


def model_of(case: Refusing, operation: str) -> str:
    """A model of its own: what is learned of one is kept."""
    return f"{operation}-{REFUSING.index(case)}"


def sent(fleet: Fleet, model: str) -> list[Json]:
    """What the upstream was asked for this model."""
    return [seen.json for seen in fleet.upstreams["fastapi"].requests_to(PATH) if seen.json["model"] == model]


@each_case
@both_ways
def test_a_message_is_taken_in_the_end_and_what_was_learned_is_kept(fleet: Fleet, case: Refusing, stream: bool) -> None:
    fleet.upstreams["fastapi"].reply(PATH, refusing_upstream(case))
    model = model_of(case, "streamed" if stream else "whole")
    for _ in range(2):
        answer = post(fleet.stack, f"fastapi/{model}", stream=stream, **case.request)
        assert answer.status == 200, answer.body
        assert b"fine" in answer.body
        assert answer.headers.get("x-messages-dropped") == case.dropped
    asked = sent(fleet, model)
    refused = [body for body in asked if case.when(body)]
    # None where the request is worded so from the start.
    assert len(refused) in ((0, 1) if case.lasting else (len(asked) - 2,))
    assert case.more.items() <= asked[-1].items()
    assert asked[-1]["messages"][-1]["role"] in ("user", "tool")


@each_case
def test_a_count_is_made_all_the_same(fleet: Fleet, case: Refusing) -> None:
    fleet.upstreams["fastapi"].reply(PATH, refusing_upstream(case))
    request = {name: value for name, value in case.request.items() if name not in ("max_tokens", "stop_sequences")}
    answer = post(fleet.stack, f"fastapi/{model_of(case, 'count')}", path=COUNT, **request)
    assert answer.status == 200, answer.body
    assert answer.json["input_tokens"] > 0


def test_a_batch_learns_what_messages_learn(fleet: Fleet) -> None:
    def upstream(request: RecordedRequest) -> Reply:
        case = REFUSING[int(request.json["model"].partition("-")[2])]
        return refusing_upstream(case)(request)

    fleet.upstreams["fastapi"].reply(PATH, upstream)
    requests = [
        {
            "custom_id": f"r-{n}",
            "params": {"model": f"fastapi/batch-{n}", "max_tokens": 64, "messages": [HELLO], **case.request},
        }
        for n, case in enumerate(REFUSING)
    ]
    with httpx.Client(base_url=fleet.base_url, timeout=60) as http:
        batch = http.post("/v1/messages/batches", json={"requests": requests}).json()
        while batch["processing_status"] != "ended":
            time.sleep(0.1)
            batch = http.get(f"/v1/messages/batches/{batch['id']}").json()
        lines = http.get(f"/v1/messages/batches/{batch['id']}/results").text.splitlines()
    results = {line["custom_id"]: line["result"] for line in map(orjson.loads, lines)}
    assert {ident: result["type"] for ident, result in results.items()} == dict.fromkeys(results, "succeeded")
    assert len(results) == len(REFUSING)


# --- what must not be learned ---


def test_what_one_conversation_lacks_is_not_taken_from_another(fleet: Fleet) -> None:
    """A refusal of what is missing is none of the field itself."""
    case = next(case for case in REFUSING if case.id == "DeepSeek: reasoning that must come back")
    fleet.upstreams["fastapi"].reply(PATH, refusing_upstream(case))
    thinking: Json = {"type": "thinking", "thinking": "hm", "signature": "s"}
    first, call, result = case.request["messages"]
    whole = [first, {**call, "content": [thinking, *call["content"]]}, result]
    for messages in (whole, [*whole, call, result], whole):
        answer = post(fleet.stack, "fastapi/poisoned", messages=messages, tools=case.request["tools"])
        assert answer.status == 200, answer.body
    assert sent(fleet, "poisoned")[-1]["messages"][1]["reasoning_content"] == "hm"
    assert len(sent(fleet, "poisoned")) == 4


def test_a_bad_value_costs_this_request_alone(fleet: Fleet) -> None:
    case = next(case for case in REFUSING if case.id == "a value")
    fleet.upstreams["fastapi"].reply(PATH, refusing_upstream(case))
    assert post(fleet.stack, "fastapi/value", top_k=500).headers["x-messages-dropped"] == "top_k"
    assert "x-messages-dropped" not in post(fleet.stack, "fastapi/value", top_k=40).headers
    assert [body.get("top_k") for body in sent(fleet, "value")] == [500, None, 40]


POISON = [
    "Invalid schema for function 'get_weather': In context=('properties', 'temperature'), array schema missing items.",
    "Invalid value for 'temperature': 0.0",
    "Unsupported value: 'messages[0].temperature' is not a field",
]


@pytest.mark.parametrize("said", POISON)
def test_one_clients_mistake_takes_no_parameter_from_the_others(fleet: Fleet, said: str) -> None:
    model = f"poison-{POISON.index(said)}"
    fleet.upstreams["fastapi"].queue(PATH, json_reply({"error": {"message": said}}, status=400))
    fleet.upstreams["fastapi"].reply(PATH, chat_reply("fine"))
    post(fleet.stack, f"fastapi/{model}", temperature=0.0)
    answer = post(fleet.stack, f"fastapi/{model}", temperature=0.5)
    assert answer.status == 200
    assert sent(fleet, model)[-1]["temperature"] == 0.5


def test_parameters_that_are_refused_one_at_a_time_all_go_in_the_first_request(fleet: Fleet) -> None:
    """Bounded by progress, not by a number of rounds."""
    unknown = ("temperature", "top_p", "top_k", "user", "reasoning_effort", "parallel_tool_calls", "stop")

    def upstream(request: RecordedRequest) -> Reply:
        name = next((name for name in unknown if name in request.json), None)
        if name is None:
            fine = chat_reply("fine")
            return fine(request) if callable(fine) else fine
        return json_reply({"error": {"message": f"Unsupported parameter: '{name}'"}}, status=400)

    fleet.upstreams["fastapi"].reply(PATH, upstream)
    request: Json = {
        "temperature": 0.5,
        "top_p": 0.5,
        "top_k": 5,
        "metadata": {"user_id": "u"},
        "output_config": {"effort": "high"},
        "stop_sequences": ["x"],
        "tools": [{"name": "look", "input_schema": {"type": "object", "properties": {}}}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    }
    assert post(fleet.stack, "fastapi/one-by-one", **request).status == 200
    assert len(sent(fleet, "one-by-one")) == len(unknown) + 1


def test_a_refusal_that_no_change_helps_is_told_and_not_learned(fleet: Fleet) -> None:
    said = json_reply({"error": {"message": "Unsupported parameter: 'temperature'"}}, status=400)
    fleet.upstreams["fastapi"].reply(PATH, said)
    refused = post(fleet.stack, "fastapi/stubborn", temperature=0.5)
    assert refused.error == (400, "invalid_request_error", "Unsupported parameter: 'temperature'")
    fleet.upstreams["fastapi"].reply(PATH, chat_reply("fine"))
    assert post(fleet.stack, "fastapi/stubborn", temperature=0.5).status == 200
    assert sent(fleet, "stubborn")[-1]["temperature"] == 0.5


# --- counts ---


def test_a_model_that_needs_more_than_a_token_is_estimated(fleet: Fleet) -> None:
    said = (
        "Could not finish the message because max_tokens or model output limit was reached. Please try again with "
        "higher max_tokens."
    )
    fleet.upstreams["fastapi"].reply(PATH, json_reply({"error": {"message": said}}, status=400))
    answer = post(fleet.stack, "fastapi/short", path=COUNT)
    assert (answer.status, answer.headers["x-messages-count-source"]) == (200, "estimate")


# --- native endpoints ---


def native(case: Refusing) -> Any:
    """The same refusal from a Messages endpoint."""
    message = anthropic_message([text_block("fine")], usage={"input_tokens": 3, "output_tokens": 1}, model="m")

    def fine(request: RecordedRequest) -> Reply:
        if "messages" not in request.json:  # the probe
            return json_reply({"error": {"message": "messages: Field required", "type": "Bad Request"}}, status=400)
        if request.json.get("stream"):
            return stream_reply(encode_events(anthropic_stream(message)))
        return json_reply(message)

    return refusing_upstream(case, fine)


@pytest.fixture
def probed(fleet: Fleet) -> Fleet:
    """The fleet, its native upstreams known before a script answers their probes."""
    for model in ("vllm/vllm-model", "vllm-native/vllm-model", "anthropic/anthropic-model", "llamacpp/llamacpp-model"):
        assert post(fleet.stack, model).headers["x-messages-route"] == "native"
    fleet.forget()
    return fleet


LIMITS = [case for case in REFUSING if "max_tokens" in case.request]


@pytest.mark.parametrize("case", LIMITS, ids=[case.id for case in LIMITS])
@both_ways
def test_a_limit_that_a_native_endpoint_names_is_kept(fleet: Fleet, case: Refusing, stream: bool) -> None:
    fleet.upstreams["vllm"].reply(MESSAGES, native(case))
    model = model_of(case, "streamed" if stream else "whole")
    for _ in range(2):
        answer = native_post(fleet, model, stream=stream, **case.request)
        assert answer.status == 200, answer.body
        assert answer.headers["x-messages-route"] == "native"
    asked = [seen.json for seen in fleet.upstreams["vllm"].requests_to(MESSAGES) if "messages" in seen.json]
    assert asked[-1]["max_tokens"] == case.more["max_tokens"]
    assert len(asked) == (3 if case.lasting else 4)


def native_post(fleet: Fleet, model: str, **request: Any) -> Answer:
    fleet.upstreams["vllm"].reply("POST /v1/messages/count_tokens", count)
    return post(fleet.stack, f"vllm-native/{model}", **request)


def count(request: RecordedRequest) -> Reply:
    return json_reply({"input_tokens": fake_count(request.json)})


def test_a_window_alone_is_enough_to_ask_for_less(probed: Fleet) -> None:
    """vLLM does not say how long the prompt is: it is estimated."""
    said = "max_completion_tokens=64000 cannot be greater than max_model_len=4096. Please request fewer output tokens."
    case = Refusing("vLLM", said, lambda body: max(body.get("max_tokens", 0), 0) > 4096)
    probed.upstreams["vllm"].reply(MESSAGES, native(case))
    probed.upstreams["vllm"].reply(PATH, refusing_upstream(case))
    answer = post(probed.stack, "vllm/vllm-model", **MUCH)
    assert (answer.status, answer.headers["x-messages-route"]) == (200, "native"), answer.body
    assert 3900 < probed.upstreams["vllm"].last.json["max_tokens"] < 4096


SYSTEM_REFUSED: list[tuple[int, Any]] = [
    (
        400,
        {
            "error": {
                "message": "1 validation error:\n  {'type': 'literal_error', 'loc': ('body', 'messages', 1, 'role'), "
                "'msg': \"Input should be 'user' or 'assistant'\", 'input': 'system', ...}",
                "type": "Bad Request",
                "code": 400,
            }
        },
    ),
    (
        400,
        {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "message": "Invalid request body: 1 validation error for AnthropicRequest\nmessages.1.role\n  Input "
                "should be 'user' or 'assistant' [type=literal_error, input_value='system', input_type=str]",
            },
        },
    ),
    (
        422,
        {
            "detail": [
                {
                    "type": "literal_error",
                    "loc": ["body", "messages", 1, "role"],
                    "msg": "Input should be 'user' or 'assistant'",
                    "input": "system",
                }
            ]
        },
    ),
]


@pytest.mark.parametrize(("status", "said"), SYSTEM_REFUSED, ids=["vLLM", "mlx-vlm", "FastAPI"])
@both_ways
def test_a_system_turn_that_a_native_endpoint_refuses_is_translated(
    probed: Fleet, status: int, said: Any, stream: bool
) -> None:
    probed.upstreams["vllm"].reply(MESSAGES, json_reply(said, status=status))
    answer = post(probed.stack, "vllm/vllm-model", messages=SYSTEM_TURN, stream=stream)
    assert (answer.status, answer.headers["x-messages-route"]) == (200, "translation"), answer.body
    # The client's own mistake stays its own.
    assert post(probed.stack, "vllm/vllm-model", stream=stream).status == 400


@both_ways
def test_what_a_native_endpoint_has_no_parser_for_is_translated_and_named(probed: Fleet, stream: bool) -> None:
    said = (
        "thinking_token_budget is set but reasoning_config is not configured. Please set --reasoning-parser and/or "
        "--reasoning-config to use thinking_token_budget."
    )
    refused = json_reply({"error": {"message": said, "type": "BadRequestError", "code": 400}}, status=400)
    budget = Refusing("vLLM", said, lambda body: "thinking_token_budget" in body)
    probed.upstreams["vllm"].reply(MESSAGES, refused)
    probed.upstreams["vllm"].reply(PATH, refusing_upstream(budget))
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2048}
    answer = post(probed.stack, "vllm/vllm-model", stream=stream, **thinking)
    assert (answer.status, answer.headers["x-messages-route"]) == (200, "translation"), answer.body
    assert answer.headers["x-messages-dropped"] == "thinking.budget_tokens"


@both_ways
def test_a_schema_that_a_native_endpoint_makes_no_grammar_of_is_translated(probed: Fleet, stream: bool) -> None:
    case = next(case for case in REFUSING if case.id == "llama.cpp: a pattern")
    refused = json_reply({"error": {"message": case.said, "type": "invalid_request_error", "code": 400}}, status=400)
    probed.upstreams["llamacpp"].reply(MESSAGES, refused)
    probed.upstreams["llamacpp"].reply(PATH, refusing_upstream(case))
    answer = post(probed.stack, "llamacpp/llamacpp-model", stream=stream, **case.request)
    assert (answer.status, answer.headers["x-messages-route"]) == (200, "translation"), answer.body
    assert answer.headers["x-messages-dropped"] == case.dropped


@both_ways
def test_a_fault_of_the_engines_own_is_not_told_as_the_clients(probed: Fleet, stream: bool) -> None:
    said = "1 validation error for AnthropicContentBlock\ninput\n  Input should be a valid dictionary"
    fault = json_reply({"error": {"message": said, "type": "BadRequestError", "code": 400}}, status=400)
    probed.upstreams["vllm"].reply(MESSAGES, fault)
    assert post(probed.stack, "vllm/vllm-model", stream=stream).headers["x-messages-route"] == "translation"
    answer = post(probed.stack, "vllm-native/vllm-model", stream=stream)
    assert answer.error == (500, "api_error", said)
    assert answer.headers["x-should-retry"] == "false"


def test_what_anthropic_itself_refuses_is_its_clients_to_know(probed: Fleet) -> None:
    said = "max_tokens: 64000 > 8192, which is the maximum allowed number of output tokens for some-model"
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": said}}
    probed.upstreams["anthropic"].reply(MESSAGES, json_reply(error, status=400))
    assert post(probed.stack, "anthropic/anthropic-model", **MUCH).error == (400, "invalid_request_error", said)


# --- doctor ---


def test_doctor_says_what_a_running_server_has_learned(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    case = next(case for case in REFUSING if case.id == "xAI: stop")
    fleet.upstreams["fastapi"].reply(PATH, refusing_upstream(case))
    doctor = ["doctor", "--url", fleet.base_url]
    assert main(doctor) == 1  # one of the upstreams is down
    assert "told-by-doctor" not in capsys.readouterr().out
    post(fleet.stack, "fastapi/told-by-doctor", **case.request)
    main(doctor)
    told = capsys.readouterr().out
    assert "told-by-doctor" in told
    assert fleet.upstreams["fastapi"].url in told
    assert "DropParameter(name='stop'" in told
    assert "Model grok-4.6 does not support parameter stop." in told
    main([*doctor, "--json"])
    (learned,) = [
        each for each in orjson.loads(capsys.readouterr().out)["learned"] if each["model"] == "told-by-doctor"
    ]
    assert learned["words"] == "Model grok-4.6 does not support parameter stop."


def test_doctor_says_what_is_no_server(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--url", fleet.upstreams["dead"].url]) == 2
    assert "doctor: " in capsys.readouterr().err
