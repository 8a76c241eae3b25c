"""What is changed in a request that is passed through, and that nothing else is."""

import json
import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.native.request import native_body, with_model
from llama_stack_messages_provider.rewriting.call_ids import encode_call_id
from llama_stack_messages_provider.rewriting.signatures import Signer
from tests.strategies import create_requests, json_values
from tests.translation.helpers import assistant, image, text, tool_result, tool_use, user

type Json = dict[str, Any]

LINE = "x-anthropic-billing-header: cc_version=2.1.330; cch=0f1e2;"
MARKER = "[tool error] "


def passed(request: Json, engine: str = "vllm") -> Json:
    raw = orjson.dumps(request)
    body = native_body(raw, request, model="upstream", engine=engine, error_marker=MARKER)
    sent: Json = orjson.loads(body)
    return sent


def request(*messages: Json, **fields: Any) -> Json:
    return {"model": "claude-x", "max_tokens": 9, "messages": list(messages) or [user("Hi")], **fields}


# --- the model's name ---


@pytest.mark.parametrize(
    ("raw", "sent"),
    [
        (b'{"model":"claude-x","a":1.0}', b'{"model":"upstream","a":1.0}'),
        (b' { "a" : 1e0 ,\n "model" : "claude-x" } ', b' { "a" : 1e0 ,\n "model" : "upstream" } '),
        (b'{"a":"\\"model\\":\\"x\\"","model":"claude-x"}', b'{"a":"\\"model\\":\\"x\\"","model":"upstream"}'),
        (b'{"model":"cl\\u0061ude-x"}', b'{"model":"upstream"}'),
        (b'{"model":"upstream", "a":1.0}', b'{"model":"upstream", "a":1.0}'),
    ],
    ids=["the first key", "white space", "quotes within text", "an escape", "the same name"],
)
def test_the_clients_bytes_are_kept_but_for_the_name(raw: bytes, sent: bytes) -> None:
    assert with_model(raw, orjson.loads(raw), "upstream") == sent


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"claude-x","tools":[{"model":"other"}]}',
        b'{"tools":[{"model":"other"}],"model":"claude-x"}',
        b'{"model":"claude-x","model":"claude-x"}',
        b'{"model":"claude-x","key":"model"}',
        b'{"mod\\u0065l":"claude-x","tools":[{"model":"other"}]}',
        b'{"mod\\u0065l":"claude-x"}',
    ],
)
def test_only_the_models_own_name_is_exchanged(raw: bytes) -> None:
    given = orjson.loads(raw)

    assert orjson.loads(with_model(raw, given, "upstream")) == {**given, "model": "upstream"}


@pytest.mark.parametrize("raw", [b'{"model":"secret","model":"mine"}', b'{"mod\\u0065l":"secret","model":"mine"}'])
@pytest.mark.parametrize("model", ["mine", "upstream"])
def test_a_second_name_never_reaches_the_upstream(raw: bytes, model: str) -> None:
    """Access was checked for the name that was read, and an upstream may read the other."""
    assert with_model(raw, orjson.loads(raw), model) == orjson.dumps({"model": model})


@pytest.mark.parametrize("model", ['with "quotes"', "back\\slash", "zürich/ü", "line\nfeed", "\\1"])
def test_any_name_can_be_put_in(model: str) -> None:
    raw = b'{"model":"claude-x","a":1}'

    assert orjson.loads(with_model(raw, orjson.loads(raw), model)) == {"model": model, "a": 1}


@given(create_requests(), st.booleans())
def test_nothing_but_the_name_changes_in_any_request(given: Json, spaced: bool) -> None:
    raw = json.dumps(given, indent=1 if spaced else None).encode()
    given = orjson.loads(raw)

    assert orjson.loads(with_model(raw, given, "upstream")) == {**given, "model": "upstream"}


@pytest.mark.parametrize("engine", ["vllm", "sglang", "llama.cpp", "ollama", "anthropic", "unknown"])
def test_a_request_without_need_of_repair_keeps_its_bytes(engine: str) -> None:
    raw = (
        b'{"model": "claude-x", "system": "Be  brief.", "messages": [{"role":"user","content":"is_error"}], "new": 1e0}'
    )

    body = native_body(raw, orjson.loads(raw), model="upstream", engine=engine, error_marker=MARKER)

    assert body == raw.replace(b"claude-x", b"upstream")


# --- Claude Code's line ---


@pytest.mark.parametrize("system", [f"{LINE}\nBe brief.", [text(LINE), text("Be brief.")]])
def test_the_attribution_goes_to_anthropic_only(system: Any) -> None:
    given = request(system=system)

    assert LINE not in str(passed(given, "llama.cpp"))
    assert LINE not in str(passed(given, "unknown"))
    assert passed(given, "anthropic") == {**given, "model": "upstream"}


def test_the_line_in_a_conversation_is_left_there() -> None:
    given = request(user(f"What is {LINE}"))

    assert passed(given) == {**given, "model": "upstream"}


@pytest.mark.parametrize("key", ["Model", "MODEL", "mOdEl"])
def test_another_model_is_not_asked_for_under_a_key_of_other_case(key: str) -> None:
    """Go's decoder takes the last of either."""
    for raw in (b'{"model":"claude-x","%s":"secret"}', b'{"%s":"secret","model":"claude-x"}'):
        body = raw % key.encode()
        assert orjson.loads(with_model(body, orjson.loads(body), "upstream")) == {"model": "upstream"}


def test_a_long_name_takes_memory_in_proportion() -> None:
    raw = b'{"model":"%s","messages":[]}' % (b'\\"a' * 300_000)
    given = orjson.loads(raw)
    tracemalloc.start()
    try:
        assert with_model(raw, given, "upstream") == b'{"model":"upstream","messages":[]}'
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * len(raw)


# --- failed results ---

FAILED = [assistant(tool_use("a")), user(tool_result("a", "No file", is_error=True), text("Hm."))]


@pytest.mark.parametrize(
    ("content", "marked"),
    [
        ("No file", f"{MARKER}No file"),
        ("", MARKER),
        (None, MARKER),
        ([text("No file")], [text("[tool error]"), text("No file")]),
        ([image()], [text("[tool error]"), image()]),
    ],
)
def test_a_failed_result_is_marked_for_engines_that_do_not_show_it(content: Any, marked: Any) -> None:
    given = request(assistant(tool_use("a")), user(tool_result("a", content, is_error=True), text("Hm.")))

    sent = passed(given)

    assert sent["messages"][1]["content"] == [tool_result("a", marked, is_error=True), text("Hm.")]
    assert sent["messages"][0] == given["messages"][0]


@pytest.mark.parametrize("engine", ["anthropic", "unknown"])
def test_others_see_it_themselves(engine: str) -> None:
    given = request(*FAILED)

    assert passed(given, engine) == {**given, "model": "upstream"}


def test_good_results_beside_a_failed_one_are_left() -> None:
    good, failed = tool_result("a", "ok"), tool_result("b", "no", is_error=True)

    [_, turn] = passed(request(assistant(tool_use("a"), tool_use("b")), user(good, failed)))["messages"]

    assert turn["content"] == [good, tool_result("b", f"{MARKER}no", is_error=True)]


# --- thinking that was signed here ---


def thought(signature: str) -> Json:
    return {"type": "thinking", "thinking": "Hm.", "signature": signature}


THINKING = {"type": "enabled", "budget_tokens": 1024}
SIGNED_HERE, SIGNED_ELSEWHERE = thought(Signer(b"key", "m")("Hm.")), thought("c2lnbmVk")


def test_anthropic_does_not_get_signatures_that_are_not_its_own() -> None:
    given = request(user("Hi"), assistant(SIGNED_HERE, SIGNED_ELSEWHERE, text("Yes")), user("?"))

    assert passed(given, "anthropic")["messages"][1] == assistant(SIGNED_ELSEWHERE, text("Yes"))
    assert passed(given, "vllm") == {**given, "model": "upstream"}


def test_a_turn_of_nothing_else_is_left_out_of_anthropics_request() -> None:
    given = request(user("Hi"), assistant(SIGNED_HERE), user("?"), {"role": "assistant", "content": []})

    assert passed(given, "anthropic")["messages"] == [user("Hi"), user("?"), {"role": "assistant", "content": []}]


@pytest.mark.parametrize(
    ("turn", "sent"),
    [
        (assistant(SIGNED_HERE, tool_use("a")), {"type": "disabled"}),
        (assistant(SIGNED_HERE, SIGNED_ELSEWHERE, tool_use("a")), THINKING),
        (assistant(SIGNED_ELSEWHERE, tool_use("a")), THINKING),
        (assistant(tool_use("a")), THINKING),
    ],
    ids=["ours", "both", "theirs", "none"],
)
def test_anthropic_is_not_asked_to_think_on_where_others_began(turn: Json, sent: Json) -> None:
    given = {**request(user("Hi"), turn, user(tool_result("a", "1"))), "thinking": THINKING}
    assert passed(given, "anthropic")["thinking"] == sent
    # A new turn begins with thinking of its own.
    answered = {**given, "messages": [*given["messages"], assistant(text("So.")), user("?")]}
    assert passed(answered, "anthropic")["thinking"] == THINKING


# --- shapes that are their upstream's to judge ---


def odd(depth: int = 3) -> st.SearchStrategy[Any]:
    if not depth:
        return json_values() | st.just(SIGNED_HERE["signature"]) | st.just(f"{LINE}\n")
    inner = odd(depth - 1)
    kinds = st.sampled_from(["text", "thinking", "tool_result"])
    fields = dict.fromkeys(["content", "text", "signature"], inner)
    made = st.fixed_dictionaries({}, optional={**fields, "type": kinds | inner, "is_error": st.just(True) | inner})
    return st.lists(made | inner, max_size=2) | made | inner


@given(
    st.fixed_dictionaries({"messages": odd()}, optional={"system": odd(), "tools": odd()}),
    st.sampled_from(["vllm", "anthropic", "unknown"]),
)
def test_no_shape_is_too_odd_to_pass(given: Json, engine: str) -> None:
    given = {"model": "claude-x", **given}
    before = orjson.dumps(given)

    sent = passed(given, engine)

    assert sent["model"] == "upstream"
    assert sent.keys() == given.keys()
    assert orjson.dumps(given) == before


def test_what_another_engine_wanted_back_does_not_go_to_anthropic() -> None:
    ident = encode_call_id(
        "toolu_1_0", "functions.look:0", {"extra_content": {"google": {"thought_signature": "c2"}}}, "m"
    )
    signer = Signer(b"key", "m")
    content = [
        {"type": "redacted_thinking", "data": signer("", {"details": [{"type": "reasoning.encrypted", "data": "x"}]})},
        {"type": "thinking", "thinking": "", "signature": signer("", {"text": "Hm."})},
        {"type": "tool_use", "id": ident, "name": "look", "input": {}},
    ]
    result = {"type": "tool_result", "tool_use_id": ident, "content": "so"}
    messages = [{"role": "assistant", "content": content}, {"role": "user", "content": [result]}]
    request = {"model": "m", "max_tokens": 1, "messages": messages}

    sent = orjson.loads(native_body(orjson.dumps(request), request, model="m", engine="anthropic", error_marker=""))

    assert sent["messages"][0]["content"] == [{**content[2], "id": "toolu_1_0"}]
    assert sent["messages"][1]["content"] == [{**result, "tool_use_id": "toolu_1_0"}]
