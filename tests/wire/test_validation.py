"""Checks of bodies: what is refused, and that the work grows with the body and no faster."""

import sys
import tracemalloc
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.api_support import unknown_fields
from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.wire import validation
from llama_stack_messages_provider.wire.request import CountTokensRequest, CreateMessageRequest
from llama_stack_messages_provider.wire.validation import (
    MAX_NAME,
    check_names,
    check_top_level,
    validate,
    validate_in_steps,
    without_nulls,
)
from tests.strategies import create_requests, json_values

type Json = dict[str, Any]

HELLO: Json = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]}
LARGE = 10**9
"""As if the body were large: in steps."""


def said(content: Any) -> Json:
    return {**HELLO, "messages": [{"role": "user", "content": content}]}


def steps(request: Mapping[str, Any], size: int = LARGE) -> int:
    """How many steps a validation took; its refusal is no concern here."""
    made = validate_in_steps(CreateMessageRequest, request, size=size)
    try:
        return sum(1 for _ in made)
    except InvalidRequestError:
        return 0


def refusal(check: Callable[[], Any]) -> str | None:
    try:
        check()
    except InvalidRequestError as exc:
        return exc.message
    return None


TOP_LEVEL: Mapping[str, tuple[Json, str]] = {
    "no model": ({"model": ...}, "model: Field required"),
    "model null": ({"model": None}, "model: Input should be a valid string"),
    "model empty": ({"model": ""}, "model: String should have at least 1 character"),
    "no max_tokens": ({"max_tokens": ...}, "max_tokens: Field required"),
    "max_tokens null": ({"max_tokens": None}, "max_tokens: Input should be a valid integer"),
    "max_tokens true": ({"max_tokens": True}, "max_tokens: Input should be a valid integer"),
    "no messages": ({"messages": ...}, "messages: Field required"),
    "messages an object": ({"messages": {}}, "messages: Input should be an array"),
    "messages empty": ({"messages": []}, "messages: List should have between 1 and 100000 items, not 0"),
    "system a number": ({"system": 5}, "system: Input should be a string or an array"),
    "stream a number": ({"stream": 1}, "stream: Input should be a valid boolean"),
    "temperature a string": ({"temperature": "hot"}, "temperature: Input should be a valid number"),
    "tools an object": ({"tools": {}}, "tools: Input should be an array"),
    "metadata an array": ({"metadata": []}, "metadata: Input should be an object"),
    "container a number": ({"container": 1}, "container: Input should be a string or an object"),
    "thinking a boolean": ({"thinking": True}, "thinking: Input should be an object"),
    "thinking without a type": ({"thinking": {}}, "thinking.type: Field required"),
    "thinking of an unknown type": (
        {"thinking": {"type": "dreaming"}},
        "thinking.type: Input should be 'enabled', 'disabled', 'between_tools' or 'adaptive'",
    ),
    "two of them": (
        {"stream": 1, "messages": ...},
        "messages: Field required; stream: Input should be a valid boolean",
    ),
}


def changed(changes: Json) -> Json:
    return {name: value for name, value in {**HELLO, **changes}.items() if value is not ...}


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_the_top_level_is_checked(name: str) -> None:
    changes, says = TOP_LEVEL[name]
    assert refusal(lambda: check_top_level(changed(changes))) == says


def test_what_is_deeper_is_not_looked_at() -> None:
    check_top_level({**HELLO, "messages": [7], "tools": [None], "metadata": {"user_id": 5}, "temperature": 1})


def test_a_count_needs_no_limit() -> None:
    check_top_level(changed({"max_tokens": ...}), count=True)


@given(create_requests())
def test_the_top_level_of_what_is_valid_is_valid(request: Json) -> None:
    check_top_level(request)


@given(st.sampled_from(sorted(CreateMessageRequest.model_fields)), json_values())
def test_what_the_top_level_refuses_is_refused_as_a_whole(field: str, value: Any) -> None:
    request = {**HELLO, field: value}
    if says := refusal(lambda: check_top_level(request)):
        assert says.startswith(field)
        assert (refusal(lambda: validate(CreateMessageRequest, request)) or "").startswith(field)


OPTIONAL = [name for name, field in CreateMessageRequest.model_fields.items() if not field.is_required()]


@pytest.mark.parametrize("name", OPTIONAL)
def test_null_in_an_optional_parameter_is_as_if_it_were_absent(name: str) -> None:
    request = {**HELLO, name: None}
    check_top_level(request)
    for size in (0, LARGE):
        assert finished(request, size) == HELLO


def finished(request: Mapping[str, Any], size: int) -> Any:
    made = validate_in_steps(CreateMessageRequest, request, size=size)
    while True:
        try:
            next(made)
        except StopIteration as done:
            return done.value


def test_nulls_go_everywhere_but_in_json_of_the_client_s_own() -> None:
    call = {"type": "tool_use", "id": "a", "name": "b", "input": {"x": None}}
    schema = {"type": "object", "default": None}
    tool = {"name": "b", "input_schema": schema, "input_examples": [{"x": None}]}
    output = {"format": {"type": "json_schema", "schema": schema}}
    request = {
        **said([{"type": "text", "text": "a", "citations": None}, {**call, "caller": None, "cache_control": None}]),
        "tools": [{**tool, "description": None, "strict": None}],
        "output_config": {**output, "effort": None},
    }
    plain = {**said([{"type": "text", "text": "a"}, call]), "tools": [tool], "output_config": output}
    assert without_nulls(request) == plain
    assert [finished(request, size) for size in (0, LARGE)] == [plain, plain]


def test_thinking_without_a_signature_is_history_too() -> None:
    validate(CreateMessageRequest, said([{"type": "thinking", "thinking": "Hm."}]))


def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "STEP", 5)


@given(create_requests())
def test_in_steps_all_is_accepted_that_is_accepted_whole(request: Json) -> None:
    with pytest.MonkeyPatch.context() as patch:
        few_at_once(patch)
        assert finished(request, LARGE) == without_nulls(request)


WRONG_BLOCKS: Mapping[str, tuple[Any, str]] = {
    "a number": (7, ": Input should be an object"),
    "a text": ({"type": "text"}, ".text: Field required"),
    "a result": ({"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text"}]}, ".content.0.text:"),
    "a long result": (
        {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "a"}] * 9 + [7]},
        ".content.9: Input should be an object",
    ),
    "a long document": (
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "a"}] * 9 + [7]}},
        ".source.content.9: Input should be an object",
    ),
}


@pytest.mark.parametrize("before", [0, 1, 4, 30])
@pytest.mark.parametrize("name", WRONG_BLOCKS)
def test_in_steps_the_paths_are_those_of_the_whole(name: str, before: int, monkeypatch: pytest.MonkeyPatch) -> None:
    few_at_once(monkeypatch)
    block, says = WRONG_BLOCKS[name]
    turns = [{"role": "user", "content": "Hi"}] * before
    content = [{"type": "text", "text": "a"}] * before + [block]
    request = {**HELLO, "messages": [*turns, {"role": "user", "content": content}]}
    whole = refusal(lambda: validate(CreateMessageRequest, request))
    assert whole is not None
    assert whole.startswith(f"messages.{before}.content.{before}{says}")
    assert refusal(lambda: finished(request, LARGE)) == whole


@given(create_requests(), json_values())
def test_in_steps_all_is_refused_that_is_refused_whole(request: Json, block: Any) -> None:
    request["messages"].append({"role": "user", "content": [block]})
    with pytest.MonkeyPatch.context() as patch:
        few_at_once(patch)
        assert refusal(lambda: finished(request, LARGE)) == refusal(lambda: validate(CreateMessageRequest, request))


# --- how the work grows ---

TEXT: Json = {"type": "text", "text": "a"}

SHAPES: Mapping[str, Callable[[int], Json]] = {
    "zeros": lambda n: said([0] * n),
    "a zero at the end": lambda n: said([TEXT] * n + [0]),
    "zeros as tools": lambda n: {**HELLO, "tools": [0] * n},
    "zeros in a result": lambda n: said([{"type": "tool_result", "tool_use_id": "a", "content": [0] * n}]),
    "blocks": lambda n: said([TEXT] * n),
    "unknown blocks": lambda n: said([{"type": "x"}] * n),
    "unknown fields": lambda n: {**HELLO, **{f"f{i}": 1 for i in range(n)}},
    "unknown fields of a block": lambda n: said([{**TEXT, **{f"f{i}": 1 for i in range(n)}}]),
    "turns": lambda n: {**HELLO, "messages": [{"role": "user", "content": "a"}] * n},
    "turns with blocks": lambda n: {**HELLO, "messages": [{"role": "user", "content": [TEXT] * 9}] * (n // 10)},
    "tools": lambda n: {**HELLO, "tools": [{"name": f"f{i}", "input_schema": {}} for i in range(n)]},
    "system blocks": lambda n: {**HELLO, "system": [TEXT] * n},
    "blocks of a result": lambda n: said([{"type": "tool_result", "tool_use_id": "a", "content": [TEXT] * n}]),
    "blocks of a document": lambda n: said(
        [{"type": "document", "source": {"type": "content", "content": [TEXT] * n}}]
    ),
    "citations": lambda n: said([{**TEXT, "citations": [{"type": "x"}] * n}]),
    "nulls": lambda n: said([{**TEXT, "citations": None}] * n),
    "members of a toolset": lambda n: {
        **HELLO,
        "tools": [{"type": "browser_toolset_20260801", "configs": {f"f{i}": 3 for i in range(n)}}],
    },
    "stop sequences": lambda n: {**HELLO, "stop_sequences": [1] * n},
    "domains": lambda n: {
        **HELLO,
        "tools": [{"type": "web_search_20250305", "name": "web_search", "allowed_domains": [1] * n}],
    },
}


def calls(run: Callable[[], Any]) -> int:
    """How many functions were called, Python's and C's: pydantic calls one of ours for every item it looks at."""
    made = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal made
        made += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(before)
    return made


def peak(run: Callable[[], Any]) -> int:
    """The most memory that was taken at once, in bytes."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


CHECKS: Mapping[str, Callable[[Json], Any]] = {
    "whole": lambda request: refusal(lambda: validate(CreateMessageRequest, request)),
    "in steps": steps,
    "top level": lambda request: refusal(lambda: check_top_level(request)),
    "unknown": unknown_fields,
}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", SHAPES)
def test_twice_the_body_is_at_most_twice_the_work(name: str, check: str) -> None:
    once, twice = SHAPES[name](4000), SHAPES[name](8000)
    run = CHECKS[check]
    run(once)  # what is made at the first request
    assert calls(lambda: run(twice)) <= 2.1 * calls(lambda: run(once)) + 200
    assert peak(lambda: run(twice)) <= 2.1 * peak(lambda: run(once)) + 500_000  # a dict grows by leaps


@pytest.mark.parametrize("name", [name for name in SHAPES if name.startswith("zeros")])
def test_a_million_mistakes_are_one(name: str) -> None:
    request = SHAPES[name](1_000_000)
    for check in ("whole", "top level"):
        assert calls(lambda check=check: CHECKS[check](request)) < 500  # type: ignore[misc]
        assert peak(lambda check=check: CHECKS[check](request)) < 100_000  # type: ignore[misc]


@pytest.mark.parametrize("name", ["blocks", "turns with blocks", "blocks of a result", "blocks of a document"])
def test_a_step_is_small_and_keeps_nothing(name: str) -> None:
    request = SHAPES[name](40_000)
    made = validate_in_steps(CreateMessageRequest, request, size=LARGE, has_null=False)
    counts = []
    while calls(lambda: counts.append(next(made, "done"))) and counts[-1] != "done":
        pass
    assert len(counts) > 20
    assert peak(lambda: steps(request)) < 40 * len(orjson.dumps(request))


def test_steps_are_bounded_in_calls() -> None:
    made = validate_in_steps(CreateMessageRequest, SHAPES["blocks"](40_000), size=LARGE, has_null=False)
    done: list[Any] = []
    while not done or done[-1] is None:
        assert calls(lambda: done.append(next(made, "done"))) < 20 * validation.STEP


def test_a_count_is_validated_in_steps_too() -> None:
    request = changed({"max_tokens": ..., "messages": [{"role": "user", "content": [TEXT] * 9000}]})
    assert list(validate_in_steps(CountTokensRequest, request, size=LARGE))


# --- names that differ by case ---


@pytest.mark.parametrize(
    "name", ["Model", "MODEL", "mODEL", "Messages", "\u017ftream", "\u017fy\u017ftem", "top_\u212a", "Max_Tokens"]
)
@pytest.mark.parametrize("count", [False, True])
def test_a_name_that_ignores_case_is_another_s_is_refused(name: str, count: bool) -> None:
    """A Go decoder takes `"Model"` for `model`, and the last of both: access was checked for one of them."""
    with pytest.raises(InvalidRequestError) as caught:
        check_top_level({**HELLO, name: "x"}, count=count)
    assert caught.value.message.startswith(f"{name}: ")


def test_a_name_that_is_longer_than_any_is_refused_and_not_told_whole() -> None:
    check_top_level({**HELLO, "k" * MAX_NAME: 1})
    with pytest.raises(InvalidRequestError, match=r"^k{64}: "):
        check_top_level({**HELLO, "k" * (MAX_NAME + 1): 1})


@pytest.mark.parametrize("name", ["modell", "model ", "mödel", "model_", "İnput", "meßages", "x"])
def test_other_unknown_names_pass(name: str) -> None:
    check_top_level({**HELLO, name: 1})


def test_names_within_the_request_are_nobody_s_business() -> None:
    check_names({**HELLO, "metadata": {"Model": 1, "model": 2}})
