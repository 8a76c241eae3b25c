"""No request and no answer costs more than its size: each shape doubled is twice the work."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from llama_stack_messages_provider.engines import ENGINES
from llama_stack_messages_provider.translation.request import TranslationOptions, to_chat_completion
from llama_stack_messages_provider.translation.response import to_message
from llama_stack_messages_provider.translation.stream import StreamTranslator
from tests.support.steps import Compared, assert_linear
from tests.translation.helpers import assistant, system, text, tool, tool_result, tool_use, user

type Json = dict[str, Any]
type Shape = Callable[[int], Json]


def turns(*messages: Json) -> Json:
    return {"messages": list(messages)}


def calls_in_turns(count: int) -> Json:
    return turns(*(assistant(tool_use(f"toolu_{n}")) for n in range(count)))


def calls_and_results(count: int) -> Json:
    pairs = ([assistant(tool_use(f"t{n}")), user(tool_result(f"t{n}", "so"))] for n in range(count))
    return turns(*(turn for pair in pairs for turn in pair))


def search(number: int) -> list[Json]:
    ident = f"srvtoolu_{number}"
    query: Json = {"type": "server_tool_use", "id": ident, "name": "web_search", "input": {"query": "otters"}}
    found: Json = {"type": "web_search_tool_result", "tool_use_id": ident, "content": []}
    return [query, found]


def many_searches(count: int) -> list[Json]:
    return [block for n in range(count) for block in search(n)]


def unknown(kind: str = "novelty") -> Json:
    return {"type": kind}


REQUESTS: dict[str, Shape] = {
    "unknown fields": lambda n: {Compared(f"field_{k}"): 1 for k in range(n)},
    "fields of a carried object": lambda n: {"metadata": {f"field_{k}": 1 for k in range(n)}},
    "small tools": lambda n: {"tools": [tool(f"tool_{k}") for k in range(n)]},
    "tools of one name": lambda n: {"tools": [tool("look") for _ in range(n)]},
    "tools with long names": lambda n: {"tools": [tool(f"{'x' * 70}{k}") for k in range(n)]},
    "toolsets": lambda n: {"tools": [{"type": "browser_20260424"} for _ in range(n)]},
    "tools added on the way": lambda n: turns(
        user("Hi"),
        *(
            system({"type": "tool_addition", "tool": {"type": "tool_definition", "definition": tool(f"t{k}")}})
            for k in range(n)
        ),
    ),
    "turns of one role": lambda n: turns(*(user("so") for _ in range(n))),
    "turns of one role, in blocks": lambda n: turns(*(user(text("so")) for _ in range(n))),
    "system turns": lambda n: turns(user("Hi"), *(system("so") for _ in range(n))),
    "assistant turns": lambda n: turns(user("Hi"), *(assistant("so") for _ in range(n))),
    "assistant turns that think": lambda n: turns(
        user("Hi"), *(assistant({"type": "thinking", "thinking": "so", "signature": "s"}, text("a")) for _ in range(n))
    ),
    "a call in each assistant turn": calls_in_turns,
    "calls and results": calls_and_results,
    "calls in one turn": lambda n: turns(assistant(*(tool_use(f"t{k}") for k in range(n)))),
    "results without calls": lambda n: turns(user(*(tool_result(f"t{k}", "so") for k in range(n)))),
    "text between calls and results": lambda n: turns(assistant(tool_use("a")), *(user("so") for _ in range(n))),
    "unknown blocks": lambda n: turns(user(text("Hi"), *(unknown() for _ in range(n)))),
    "unknown turns": lambda n: turns(user("Hi"), *(user(unknown()) for _ in range(n))),
    "texts of one turn": lambda n: turns(user(*(text("so") for _ in range(n)))),
    "texts of an assistant's turn": lambda n: turns(user("Hi"), assistant(*(text("so") for _ in range(n)))),
    "searches as text": lambda n: turns(user("Hi"), assistant(*many_searches(n))),
    "searches in turns": lambda n: turns(*(turn for k in range(n) for turn in (user("Hi"), assistant(*search(k))))),
    "stop sequences": lambda n: {"stop_sequences": [f"stop {k}" for k in range(n)]},
}


def translate(request: Json) -> object:
    given = {"model": "claude-x", "max_tokens": 64, "messages": [user("Hi")], **request}
    return to_chat_completion(given, model="m", dialect=ENGINES["unknown"].chat, options=TranslationOptions())


@pytest.mark.parametrize("shape", REQUESTS)
def test_a_request_costs_its_size(shape: str) -> None:
    def work(size: int) -> Callable[[], object]:
        request = REQUESTS[shape](size)
        return lambda: translate(request)

    assert_linear(work, 40 if shape == "toolsets" else 300)


def chunk(**delta: Any) -> Json:
    return {"choices": [{"index": 0, "delta": delta}]}


def fragments(count: int, calls: int) -> list[Json]:
    """Fragments of calls that all grow at the same time."""
    first = [{"index": k, "id": f"call_{k}", "function": {"name": "look", "arguments": '{"x":"'}} for k in range(calls)]
    more = [chunk(tool_calls=[{"index": k % calls, "function": {"arguments": "so "}}]) for k in range(count)]
    return [chunk(tool_calls=first), *more]


def whole_calls(count: int, **fields: Any) -> list[Json]:
    return [
        chunk(tool_calls=[{**fields, "id": f"call_{k}", "function": {"name": "look", "arguments": "{}"}}])
        for k in range(count)
    ]


STREAMS: dict[str, Callable[[int], list[Json]]] = {
    "fragments of one call": lambda n: fragments(n, 1),
    "fragments of parallel calls": lambda n: fragments(n, 7),
    "as many calls as fragments": lambda n: fragments(n, n),
    "calls under one index": lambda n: whole_calls(n, index=0),
    "calls without an index": lambda n: whole_calls(n),
    "calls of one id": lambda n: [
        chunk(tool_calls=[{"index": k, "id": "a", "function": {"name": "f", "arguments": "{}"}}]) for k in range(n)
    ],
    "objects in one fragment": lambda n: [
        chunk(tool_calls=[{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}]),
        *(chunk(tool_calls=[{"index": 0, "function": {"arguments": "{}{}"}}]) for _ in range(n)),
    ],
    "a string in fragments": lambda n: [
        chunk(tool_calls=[{"index": 0, "id": "a", "function": {"name": "f", "arguments": '"so'}}]),
        *(chunk(tool_calls=[{"index": 0, "function": {"arguments": "so"}}]) for _ in range(n)),
    ],
    "text": lambda n: [chunk(content="so ") for _ in range(n)],
    "white space": lambda n: [chunk(content=" ") for _ in range(n)],
    "text while a call is open": lambda n: [*fragments(1, 1), *(chunk(content="so ") for _ in range(n))],
    "reasoning": lambda n: [chunk(reasoning_content="so ") for _ in range(n)],
    "reasoning details": lambda n: [
        chunk(reasoning_details=[{"type": "reasoning.text", "text": "so ", "index": 0}]) for _ in range(n)
    ],
    "text and reasoning in turns": lambda n: [chunk(content="so ", reasoning_content="hm") for _ in range(n)],
    "beginnings of a stop sequence": lambda n: [chunk(content="</blo") for _ in range(n)],
    "halves of pairs": lambda n: [chunk(content="\ud83d") for _ in range(n)],
}


@pytest.mark.parametrize("shape", STREAMS)
def test_a_stream_costs_its_size(shape: str) -> None:
    def work(size: int) -> Callable[[], object]:
        chunks = STREAMS[shape](size)

        def translate() -> object:
            translator = StreamTranslator("msg_1", "claude-x", stop_sequences=["</block>", "</b"])
            return [translator.feed(each) for each in chunks] + [translator.close()]

        return translate

    assert_linear(work, 300)


@pytest.mark.parametrize("ids", ["call_{}", "call", "functions.look:{}"])
def test_a_whole_answer_costs_its_size(ids: str) -> None:
    def work(size: int) -> Callable[[], object]:
        calls = [
            {"id": ids.format(n), "type": "function", "function": {"name": "look", "arguments": json.dumps({"n": n})}}
            for n in range(size)
        ]
        completion = {"choices": [{"finish_reason": "tool_calls", "message": {"tool_calls": calls}}]}
        return lambda: to_message(completion, message_id="msg_1", model="claude-x")

    assert_linear(work, 300)
