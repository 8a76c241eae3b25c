"""Hold an engine that runs against its module, and print where they disagree.

    python -m tests.engines.compare http://127.0.0.1:8000             the engine is the one that answers
    python -m tests.engines.compare URL --model NAME --engine vllm    a model of several; a module by name
    python -m tests.engines.compare URL --markdown                    the table of docs/engines.md

Each row is something that the module says and the engine shows: how it is recognised, its window, its tokenizer, the
features that its Messages endpoint lacks, the parameters that its chat completions are sent, the words of its refusals,
and whether a request gives the same by both routes. A row is `?` where the model cannot show it: a small one neither
thinks nor calls tools of its own accord. The status is the number of rows that disagree.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import httpx

from llama_stack_messages_provider.adaptation.adaptations import native_adaptations_for
from llama_stack_messages_provider.adaptation.changes import Translate
from llama_stack_messages_provider.adaptation.refusals import read_refusal
from llama_stack_messages_provider.engines import ENGINES, Engine, Kind
from llama_stack_messages_provider.engines.features import features_of
from llama_stack_messages_provider.rewriting import SUPPLIED
from llama_stack_messages_provider.translation.request import TranslationOptions, to_chat_completion
from llama_stack_messages_provider.translation.response import to_message
from tests.support.laws import assert_well_formed, fold
from tests.support.sse import events

type Json = dict[str, Any]

MESSAGES, CHAT = "/v1/messages", "/v1/chat/completions"
HELLO: Json = {"role": "user", "content": "Say hello."}
TOOL: Json = {
    "name": "look",
    "description": "Look at a thing.",
    "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]},
}
CALL: Json = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "the sky"}}
NO_PROPERTIES: Json = {"type": "object", "properties": {}}
ANSWER_SCHEMA: Json = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 10}},
    "required": ["city"],
    "additionalProperties": False,
}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
IMAGE: Json = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}


def user(*blocks: Any) -> Json:
    return {"role": "user", "content": list(blocks)}


def text(words: str) -> Json:
    return {"type": "text", "text": words}


def called(content: Any = "It is blue.", **more: Any) -> list[Json]:
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": content, **more}
    return [HELLO, {"role": "assistant", "content": [CALL]}, user(result)]


WORDS = "Otters hold hands while they sleep, so that none of them drifts away from the others in the night."
DOCUMENT: Json = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": WORDS}}
FOUND: Json = {"type": "search_result", "source": "https://o.test", "title": "Otters", "content": [text(WORDS)]}
SEARCH: Json = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": WORDS}}
RESULTS: Json = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
ADDED: Json = {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "look"}}
BASH: Json = {"type": "bash_20250124", "name": "bash"}
FETCH: Json = {"type": "web_fetch_20250910", "name": "web_fetch"}
WEB: Json = {"type": "web_search_20250305", "name": "web_search"}

# A feature, a request that has it, and the same request without it: what is shown to the model makes its prompt longer.
SHOWN: Mapping[str, tuple[Json, Json]] = {
    "document": ({"messages": [user(text("Hi"), DOCUMENT)]}, {"messages": [user(text("Hi"))]}),
    "search_result": ({"messages": [user(text("Hi"), FOUND)]}, {"messages": [user(text("Hi"))]}),
    "tool_reference": (
        {"messages": called([text("So."), {"type": "tool_reference", "tool_name": "look"}]), "tools": [TOOL]},
        {"messages": called([text("So.")]), "tools": [TOOL]},
    ),
    "container_upload": (
        {"messages": [user(text("Hi"), {"type": "container_upload", "file_id": "file_1"})]},
        {"messages": [user(text("Hi"))]},
    ),
    "tool_change": (
        {"messages": [HELLO, {"role": "system", "content": [ADDED]}], "tools": [TOOL]},
        {"messages": [HELLO], "tools": [TOOL]},
    ),
    "unknown_block": (
        {"messages": [user(text("Hi"), {"type": "hologram", "data": WORDS})]},
        {"messages": [user(text("Hi"))]},
    ),
    "system_turn": (
        {"messages": [HELLO, {"role": "system", "content": WORDS}, {"role": "user", "content": "Go on."}]},
        {"messages": [HELLO, {"role": "user", "content": "Go on."}]},
    ),
    "client_tool": ({"messages": [HELLO], "tools": [BASH]}, {"messages": [HELLO]}),
    "server_tool": ({"messages": [HELLO], "tools": [TOOL, FETCH]}, {"messages": [HELLO], "tools": [TOOL]}),
    "web_search": ({"messages": [HELLO], "tools": [TOOL, WEB]}, {"messages": [HELLO], "tools": [TOOL]}),
    "server_tool_history": (
        {"messages": [HELLO, {"role": "assistant", "content": [SEARCH, RESULTS, text("So.")]}, user(text("Go on."))]},
        {"messages": [HELLO, {"role": "assistant", "content": [text("So.")]}, user(text("Go on."))]},
    ),
    "is_error": ({"messages": called(is_error=True), "tools": [TOOL]}, {"messages": called(), "tools": [TOOL]}),
}
# A feature, and a request of which only what comes back tells.
HONOURED: Mapping[str, Json] = {
    "forced_tool": {"messages": [HELLO], "tools": [TOOL], "tool_choice": {"type": "tool", "name": "look"}},
    "any_tool": {"messages": [HELLO], "tools": [TOOL], "tool_choice": {"type": "any"}},
    "structured_output": {
        "messages": [{"role": "user", "content": "Name a city."}],
        "output_config": {"format": {"type": "json_schema", "schema": ANSWER_SCHEMA}},
    },
}
NOT_TO_BE_SEEN = ("no_tool", "no_parallel_tools", "thinking_off", "effort", "image_url", "redacted_thinking")
PREFILLED: Json = {"messages": [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "One, two,"}]}
# What README promises of both routes alike.
SHAPES: Mapping[str, Json] = {
    "a turn": {"messages": [HELLO]},
    "a system prompt": {"messages": [HELLO], "system": [text("Be brief."), text("Be kind.")]},
    "turns": {"messages": [HELLO, {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "Again."}]},
    "a call and its result": {"messages": called(), "tools": [TOOL]},
    "a result of blocks": {"messages": called([text("It is"), text("blue.")]), "tools": [TOOL]},
    "a system turn": SHOWN["system_turn"][0],
    "a trailing assistant turn": PREFILLED,
    "max_tokens": {"messages": [HELLO], "max_tokens": 3},
    "a forced tool": HONOURED["forced_tool"],
    "a schema": HONOURED["structured_output"],
    "thinking": {
        "messages": [HELLO],
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "max_tokens": 1100,
        "stop_sequences": [" "],
    },
}


@dataclass(frozen=True)
class Row:
    """What is compared.

    Args:
        what: The fact.
        module: What the module says.
        engine: What the engine shows.
        agrees: Whether they agree; None if it cannot be told.
    """

    what: str
    module: str
    engine: str
    agrees: bool | None


@dataclass
class Running:
    """An engine that runs."""

    http: httpx.Client
    engine: Engine
    model: str
    window: int

    def post(self, path: str, body: Json) -> tuple[int, Any]:
        """The status and the JSON of an answer."""
        answer = self.http.post(path, json={"model": self.model, "temperature": 0, "max_tokens": 48, **body})
        try:
            return answer.status_code, answer.json()
        except ValueError:
            return answer.status_code, answer.text

    def native(self, body: Json) -> tuple[int, Any]:
        return self.post(MESSAGES, body)

    def translated(self, body: Json) -> tuple[int, Any]:
        """The message that comes of a chat completion, or what refused it."""
        request = {"model": self.model, "temperature": 0, "max_tokens": 48, **body}
        options = TranslationOptions(window=self.window)
        made = to_chat_completion(request, model=self.model, dialect=self.engine.chat, options=options)
        status, answer = self.post(CHAT, made.params)
        if status != 200:
            return status, answer
        back = {"stop_sequences": made.stop_sequences, "max_tokens": made.max_tokens, "window": made.window}
        return status, to_message(answer, message_id="msg_1", model=self.model, **back)

    def chunks(self, body: Json) -> list[Json]:
        """The chunks of a streamed chat completion."""
        answer = self.http.post(CHAT, json={"model": self.model, "max_tokens": 8, "stream": True, **body})
        lines = (line.removeprefix("data:").strip() for line in answer.text.splitlines() if line.startswith("data:"))
        return [json.loads(line) for line in lines if line.startswith("{")]


# --- who it is ---


def identity(on: Running, server: str, models: Any) -> Iterator[Row]:
    found = ENGINES.answering(server, models)
    yield Row("recognised by its answers", on.engine.name, found.name, found is on.engine)
    window = ENGINES.window(on.engine, models, on.model)
    yield Row("window", ", ".join(on.engine.window) or "nowhere", str(window), bool(window) == bool(on.engine.window))


def tokenizer(on: Running) -> Iterator[Row]:
    if (known := on.engine.tokenizer) is None:
        return
    for name, body in (("of a turn", {"messages": [HELLO]}), ("of tools", {"messages": [HELLO], "tools": [TOOL]})):
        request = {"model": on.model, "max_tokens": 1, **body}
        params = to_chat_completion(
            request, model=on.model, dialect=on.engine.chat, options=TranslationOptions()
        ).params
        answer: Any = None
        for step in known.steps:
            answer = on.http.post(step.path, json=step.request(params, answer)).json()
        counted = known.count(answer)
        used = on.post(CHAT, params)[1]["usage"]["prompt_tokens"]
        yield Row(f"tokenizer: {name}", str(counted), str(used), counted == used)


# --- its Messages endpoint ---


def features(on: Running) -> Iterator[Row]:
    plain = {"messages": [HELLO]}
    takes_tools = _shown(on, {**plain, "tools": [TOOL]}, plain) == "taken"
    yield Row("its template shows tools", "", "yes" if takes_tools else "no: what is about tools cannot be told", None)
    for name, (having, without) in SHOWN.items():
        row = _feature(on, name, lambda having=having, without=without: _shown(on, having, without))
        told = takes_tools or "tools" not in having or row.engine.startswith("refused")
        yield row if told else replace(row, agrees=None)
    for name, body in HONOURED.items():
        yield _honoured_row(on, name, body)
    yield _feature(on, "stop_sequences", lambda: _stops(on))
    yield _feature(on, "prefill", lambda: _continues(on))
    for name in NOT_TO_BE_SEEN:
        yield Row(f"native: {name}", _claim(on.engine, name), "?", None)


def _claim(engine: Engine, feature: str) -> str:
    if feature in engine.native.rewritten:
        return "rewritten"
    return engine.native.gaps.get(feature, "taken")


def _feature(on: Running, name: str, look: Callable[[], str]) -> Row:
    claim, shown = _claim(on.engine, name), look()
    how = f"{claim} ({'a pass' if name in SUPPLIED else 'translated'})" if claim != "taken" else claim
    # What one template takes, another one refuses: a claim that is more careful than this model needs is none too many.
    careful = shown == "taken" and "template" in claim
    return Row(f"native: {name}", how, shown, None if careful else (claim == "taken") == (shown == "taken"))


def _honoured_row(on: Running, name: str, body: Json) -> Row:
    native, translated = (_honoured(name, *send(body)) for send in (on.native, on.translated))
    row = _feature(on, name, lambda: native)
    # What it does by neither route no module can do anything about.
    return (
        row
        if translated == "taken"
        else replace(row, engine=f"{native}; by a chat completion {translated}", agrees=None)
    )


def _shown(on: Running, having: Json, without: Json) -> str:
    (status, answer), (_, other) = on.native(having), on.native(without)
    if status != 200:
        return f"refused with {status}: {_words(answer)}"
    longer = _input_tokens(answer) - _input_tokens(other)
    given = having.get("tools", [])[-1:]
    if longer > 0 and given and "input_schema" not in given[0]:
        bare = {**having, "tools": [*having["tools"][:-1], {"name": given[0]["name"], "input_schema": NO_PROPERTIES}]}
        if longer <= _input_tokens(on.native(bare)[1]) - _input_tokens(other):
            return "offered without a schema"
    return "taken" if longer > 0 else "not shown to the model"


def _honoured(name: str, status: int, answer: Any) -> str:
    if status != 200:
        return f"refused with {status}: {_words(answer)}"
    blocks = answer["content"]
    if name == "structured_output":
        try:
            return "taken" if json.loads(blocks[0]["text"]).keys() == {"city"} else "not honoured"
        except (ValueError, LookupError):
            return "not honoured"
    return "taken" if any(b["type"] == "tool_use" and b["name"] == "look" for b in blocks) else "not honoured"


def _stops(on: Running) -> str:
    whole = on.native({"messages": [HELLO]})[1]["content"][0]["text"]
    word = whole.split()[1] if len(whole.split()) > 1 else whole[-2:]
    status, answer = on.native({"messages": [HELLO], "stop_sequences": [word]})
    if status != 200:
        return f"refused with {status}: {_words(answer)}"
    told = (answer.get("stop_reason"), answer.get("stop_sequence"))
    if told == ("stop_sequence", word) or (on.engine.native.repaired and told[1] == word):
        return "taken"
    return f"not told apart: {told}"


def _continues(on: Running) -> str:
    status, answer = on.native(PREFILLED)
    if status != 200:
        return f"refused with {status}: {_words(answer)}"
    closed = on.native({"messages": [*PREFILLED["messages"], {"role": "user", "content": ""}]})[1]
    said = "".join(block.get("text", "") for block in answer["content"])
    continued = on.translated(PREFILLED)[1]
    same = _input_tokens(answer) == _input_tokens(continued)
    return "taken" if same and _input_tokens(answer) < _input_tokens(closed) else f"not continued: {said[:40]!r}"


def streams(on: Running) -> Iterator[Row]:
    """What is relayed has to be sound; of what is mended, whatever is wrong is expected."""
    relayed = on.engine.native.repaired is None
    bodies = {"a turn": {"messages": [HELLO]}, "a forced tool": HONOURED["forced_tool"]}
    for name, body in bodies.items():
        answer = on.http.post(MESSAGES, json={"model": on.model, "max_tokens": 48, "stream": True, **body})
        if answer.status_code != 200:
            yield Row(f"stream: {name}", "", f"refused with {answer.status_code}", None)
            continue
        try:
            found = events(answer.content)
            assert_well_formed(found)
            fold(found)
            wrong = ""
        except (AssertionError, LookupError, ValueError, TypeError) as exc:
            wrong = (str(exc) or repr(exc)).splitlines()[0][:90]
        says = "relayed" if relayed else f"repaired: {on.engine.native.repaired}"
        yield Row(f"stream: {name}", says, wrong or "sound", not (relayed and wrong))


# --- its chat completions ---


def wording(on: Running) -> Iterator[Row]:
    chat = on.engine.chat
    asked: dict[str, Json] = {
        "thinking_on": dict(chat.thinking_on),
        "thinking_off": dict(chat.thinking_off),
        "report_stop_params": dict(chat.report_stop_params),
        "top_k": {"top_k": 40} if chat.top_k else {},
        "budget": {chat.budget: 1024} if chat.budget else {},
        "max_tokens": {chat.max_tokens: 8},
        "efforts": {"reasoning_effort": chat.efforts[-1]} if chat.effort else {},
        "max_stops": {"stop": [f"stop {n}" for n in range(chat.max_stops or 20)]},
        "reasoning_field": {"messages": _replayed(chat.reasoning_field)} if chat.reasoning_field else {},
    }
    for name, params in asked.items():
        if params:
            status, answer = on.post(CHAT, {"messages": [HELLO], **params})
            yield _taken(f"chat: {name}", status, answer)
    if chat.schemas:
        form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": ANSWER_SCHEMA, "strict": True}}
        status, answer = on.post(CHAT, {"messages": HONOURED["structured_output"]["messages"], "response_format": form})
        yield _taken("chat: schemas", status, answer)
    yield from _streamed_wording(on)


def _replayed(field: str) -> list[Json]:
    return [HELLO, {"role": "assistant", "content": "Hello.", field: "Hm."}, {"role": "user", "content": "Again."}]


def _taken(what: str, status: int, answer: Any) -> Row:
    """What is sent and refused must at least be understood, so that it is sent again without."""
    if status == 200:
        return Row(what, "sent", "taken", True)
    kind = read_refusal(status, answer).kind
    return Row(what, "sent", f"refused, read as {kind}: {_words(answer)}", kind is not Kind.UNKNOWN)


def _streamed_wording(on: Running) -> Iterator[Row]:
    chat = on.engine.chat
    if chat.stream_options:
        chunks = on.chunks({"messages": [HELLO], "stream_options": {"include_usage": True, **chat.stream_options}})
        early = bool(chunks and chunks[0].get("usage"))
        yield Row("chat: stream_options", "usage comes first", "it does" if early else "it does not", early)
    if chat.report_prompt_params:
        chunks = on.chunks({"messages": [HELLO], **chat.report_prompt_params})
        early = any(chunk.get("prompt_progress") for chunk in chunks[:2])
        yield Row("chat: report_prompt_params", "progress comes first", "it does" if early else "it does not", early)


# --- its refusals ---


def refusals(on: Running) -> Iterator[Row]:
    long = {"messages": [{"role": "user", "content": "otter " * (on.window + 200)}], "max_tokens": 16}
    soon = {"messages": [HELLO], "stop_sequences": [" ", "o"]}  # where it is taken
    much = {**soon, "max_tokens": on.window * 8}
    room = {**soon, "max_tokens": on.window - 1}
    seen = {"messages": [user(text("Hi"), IMAGE)]}
    about_length = {Kind.PROMPT_TOO_LONG, Kind.ROOM, Kind.OUTPUT_LIMIT}
    tried: tuple[tuple[str, Json, set[Kind]], ...] = (
        ("a long prompt", long, {Kind.PROMPT_TOO_LONG}),
        ("much output", much, about_length),
        ("more output than there is room", room, about_length),
        ("an image", seen, {Kind.IMAGES}),
    )
    for name, body, kinds in tried:
        for route, send in (("native", on.native), ("chat", on.translated)):
            status, answer = send(body)
            if status == 200:
                yield Row(f"refusal: {name}, {route}", "", "taken", None)
                continue
            refusal = read_refusal(status, answer)
            numbers = f"used {refusal.used}, limit {refusal.limit}"
            yield Row(
                f"refusal: {name}, {route}",
                " or ".join(sorted(kinds)),
                f"{refusal.kind} ({numbers}): {_words(answer)}",
                refusal.kind in kinds,
            )


# --- both routes ---


def routes(on: Running) -> Iterator[Row]:
    for name, body in SHAPES.items():
        status, answer = on.native(body)
        native, translated = _said(status, answer), _said(*on.translated(body))
        other = [feature for feature in features_of(body) & on.engine.native.gaps.keys() if feature not in SUPPLIED]
        if status != 200:
            changes = native_adaptations_for(read_refusal(status, answer), body)
            other += ["a refusal"] if any(isinstance(change, Translate) for change in changes) else []
        # Such a request is never answered natively.
        native += f", and translated for {', '.join(other)}" if other else ""
        yield Row(
            f"both routes: {name}",
            f"native: {native}",
            f"translated: {translated}",
            native == translated or bool(other),
        )


def _said(status: int, answer: Any) -> str:
    if status != 200:
        return f"{status} {read_refusal(status, answer).kind}"
    kinds = [block["type"] for block in answer["content"]]
    return f"{_input_tokens(answer)} tokens in, {kinds}, {answer['stop_reason']}"


def _input_tokens(answer: Any) -> int:
    usage = answer.get("usage", {}) if isinstance(answer, dict) else {}
    return sum(usage.get(name) or 0 for name in ("input_tokens", "cache_read_input_tokens"))


def _words(answer: Any) -> str:
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    message = error.get("message", error) if isinstance(error, dict) else error
    return " ".join(str(message).split())[:160]


def compared(on: Running, server: str, models: Any) -> Iterator[Row]:
    """All rows."""
    yield from identity(on, server, models)
    for part in (tokenizer, features, streams, wording, refusals, routes):
        yield from part(on)


def printed(row: Row, *, markdown: bool) -> str:
    """A row as a line."""
    mark = {True: "yes", False: "**no**", None: "?"}[row.agrees]
    cells = [cell.replace("|", "\\|") for cell in (row.what, row.module, row.engine, mark)]
    return f"| {' | '.join(cells)} |" if markdown else f"{mark:7}{row.what}: {row.module} / {row.engine}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--model")
    parser.add_argument("--engine", choices=list(ENGINES))
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    # Some close a connection that is idle for seconds, in the middle of the next request.
    with httpx.Client(base_url=args.url, timeout=120, limits=httpx.Limits(max_keepalive_connections=0)) as http:
        listed = http.get("/v1/models")
        models, server = listed.json(), listed.headers.get("server", "")
        engine = ENGINES[args.engine] if args.engine else ENGINES.answering(server, models)
        model = args.model or models["data"][0]["id"]
        window = ENGINES.window(engine, models, model) or 4096
        disagreeing = 0
        if args.markdown:
            print("| what | the module | the engine | agree |\n|---|---|---|---|")
        for row in compared(Running(http, engine, model, window), server, models):
            print(printed(row, markdown=args.markdown), flush=True)
            disagreeing += row.agrees is False
    return disagreeing


if __name__ == "__main__":
    sys.exit(main())
