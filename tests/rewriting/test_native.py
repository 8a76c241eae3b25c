"""What is rewritten in a request that is passed through, for whom, and that nothing else is."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.engines import ENGINES
from llama_stack_messages_provider.rewriting import PASSES, RewriteOptions, marked_features, rewrite_native
from llama_stack_messages_provider.rewriting.call_ids import encode_call_id
from llama_stack_messages_provider.rewriting.encrypted_content import encode_encrypted_content
from llama_stack_messages_provider.rewriting.signatures import Signer
from tests.strategies import json_values
from tests.translation.helpers import assistant, image, text, tool_result, tool_use, user

type Json = dict[str, Any]

LINE = "x-anthropic-billing-header: cc_version=2.1.330; cch=0f1e2;"
MARKER = "[tool error] "


def passed(request: Json, engine: str = "vllm", *, has_bytes: bool = True) -> Json:
    """What an engine's endpoint is sent; the request's own object where nothing is rewritten."""
    profile = ENGINES[engine].native
    signer = None if profile.first_party else Signer(b"key", "m")
    rewritten = rewrite_native(
        request,
        marked=marked_features(orjson.dumps(request) if has_bytes else None, profile),
        lacks=frozenset(),
        options=RewriteOptions(MARKER, system_turns="user", signer=signer),
        dropped=DroppedFields(),
    )
    assert not rewritten.restored
    sent = rewritten.request
    assert isinstance(sent, dict)
    return sent


def request(*messages: Json, **fields: Any) -> Json:
    return {"model": "claude-x", "max_tokens": 9, "messages": list(messages) or [user("Hi")], **fields}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("has_bytes", [True, False])
def test_a_request_that_concerns_no_engine_stays_the_same_object(engine: str, has_bytes: bool) -> None:
    words = [text('"is_error" and "lst1." and "lsm1." and _lsi1_'), {"type": "hologram"}]
    given = request(user(*words), assistant(tool_use("a")), user(tool_result("a", is_error=False)), system="Be  brief.")

    assert passed(given, engine, has_bytes=has_bytes) is given


def test_what_profiles_rewrite_has_marks() -> None:
    marked = {name for each in PASSES for name in getattr(each, "MARKS", ())}

    assert {name for engine in ENGINES.values() for name in engine.native.rewritten} == marked


# --- Claude Code's line ---


@pytest.mark.parametrize("system", [f"{LINE}\nBe brief.", [text(LINE), text("Be brief.")]])
def test_the_attribution_goes_to_anthropic_only(system: Any) -> None:
    given = request(system=system)

    assert LINE not in str(passed(given, "llama.cpp"))
    assert LINE not in str(passed(given, "unknown"))
    assert passed(given, "anthropic") is given


def test_the_line_in_a_conversation_is_left_there() -> None:
    given = request(user(f"What is {LINE}"))

    assert passed(given) is given


# --- failed results ---

FAILED = [assistant(tool_use("a")), user(tool_result("a", "No file", is_error=True), text("Hm."))]


@pytest.mark.parametrize(
    ("content", "marked"),
    [
        ("No file", f"{MARKER}No file"),
        ("", MARKER),
        (None, MARKER),
        ([text("No file")], [text("[tool error] No file")]),
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

    assert passed(given, engine) is given


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
    assert passed(given, "vllm") is given


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

    assert sent.keys() == given.keys()
    assert orjson.dumps(given) == before
    assert passed(given, engine, has_bytes=False) == sent


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

    sent = passed(request(*messages), "anthropic")

    assert sent["messages"][0]["content"] == [{**content[2], "id": "toolu_1_0"}]
    assert sent["messages"][1]["content"] == [{**result, "tool_use_id": "toolu_1_0"}]


def test_searches_that_were_made_here_are_text_for_anthropic() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    query = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}}
    page = {"type": "web_search_result", "url": "u", "title": "t", "encrypted_content": encode_encrypted_content("So.")}
    found = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [page], **mark}
    theirs = [{**query, "id": "srvtoolu_2"}, {**found, "tool_use_id": "srvtoolu_2", "content": []}]

    blocks = passed(request(user("Hi"), assistant(query, found, *theirs), user("?")), "anthropic")["messages"][1][
        "content"
    ]

    assert blocks[0] == text('<server_tool_call name="web_search">\n{"query":"q"}\n</server_tool_call>')
    assert "So." in blocks[1]["text"]
    assert blocks[1]["cache_control"] == mark["cache_control"]
    assert blocks[2:] == theirs
