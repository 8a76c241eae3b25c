"""What an upstream wants back in the next turn."""

import pytest

from tests.cases.bench import FINE, HELLO, MESSAGES, TOOLS, Bench, refusing
from tests.support.upstream import (
    Json,
    anthropic_message,
    anthropic_stream,
    call,
    call_delta,
    chat_completion,
    chat_reply,
    chat_stream_reply,
    delta,
    encode_events,
    json_reply,
    stream_reply,
    tool_use_block,
)

PARIS = {"city": "Paris"}


def assistant(body: Json) -> Json:
    """The model's own turn of a request."""
    return next(message for message in body["messages"] if message["role"] == "assistant")


# --- call ids ---

IDS = ["functions.get_weather:0", "get_weather:0", "call 1", "", "läuft/1", "chatcmpl-tool-0123456789abcdef", "x" * 80]


@pytest.mark.parametrize("given", IDS)
def test_kimi_ids(given: str, bench: Bench) -> None:
    """Kimi K2 names its calls functions.NAME:N, and its template shows the model the id: it comes back as it was.

    vybestack/llxprt-code#713, MoonshotAI/kimi-code#2503, ml-explore/mlx-lm#821, getkimchi/kimchi#1066
    """
    bench.says(chat_reply(tool_calls=[{**call("get_weather", PARIS), "id": given}]))
    first = bench.ask(tools=TOOLS)
    assert first.content[0]["id"].replace("_", "").replace("-", "").isalnum()
    assert first.content[0]["id"].isascii()
    bench.says(chat_reply("fine"))
    assert bench.next_turn(first, tools=TOOLS).text == "fine"
    said, result = bench.sent()[-1]["messages"][-2:]
    assert said["tool_calls"][0]["id"] == result["tool_call_id"]
    if given:
        assert result["tool_call_id"] == given


@pytest.mark.parametrize("by", ["messages", "vllm"])
def test_kimi_ids_natively(by: str, bench: Bench) -> None:
    """The same on a native route, whose endpoint gives the id as it is."""
    message = anthropic_message([tool_use_block("get_weather", PARIS, id="functions.get_weather:0")])
    stream = stream_reply(encode_events(anthropic_stream(message)))
    bench.says(stream if bench.stream else json_reply(message), by=by, path=MESSAGES)
    first = bench.ask(by=by, tools=TOOLS)
    assert first.route == "native"
    bench.says(FINE, by=by, path=MESSAGES)
    assert bench.next_turn(first, by=by, tools=TOOLS).error is None
    said, result = bench.sent(by=by, path=MESSAGES)[-1]["messages"][-2:]
    used = next(block for block in said["content"] if block["type"] == "tool_use")
    assert used["id"] == result["content"][0]["tool_use_id"] == "functions.get_weather:0"


# --- signatures ---


def google(signature: str) -> Json:
    return {"extra_content": {"google": {"thought_signature": signature}}}


def signature_of(made: Json) -> str | None:
    found = (made.get("extra_content") or {}).get("google", {}).get("thought_signature")
    return str(found) if found else None


MISSING = [
    {
        "error": {
            "code": 400,
            "message": "Function call is missing a thought_signature in functionCall parts. Function call "
            "`default_api:get_weather`, position 2.",
            "status": "INVALID_ARGUMENT",
        }
    }
]


@pytest.mark.parametrize("size", [8, 3000], ids=["short", "long"])
def test_gemini_signature(size: int, bench: Bench) -> None:
    """Gemini 3 gives each call a thought signature, and refuses the next turn without it.

    Gitlawb/openclaude#67, farion1231/cc-switch#5725, sipeed/picoclaw#3230
    """
    signature = "Q3RoaW5r" * (size // 8)
    made = {**call("get_weather", PARIS, id="call_g1"), **google(signature)}
    head = call_delta(0, id="call_g1", name="get_weather", arguments='{"city"')
    parts = [{**head, **google(signature)}, call_delta(0, arguments=':"Paris"}')]
    chunks = [*(delta(tool_calls=[part]) for part in parts), delta(finish_reason="tool_calls")]
    bench.says(chat_stream_reply(chunks) if bench.stream else json_reply(chat_completion(tool_calls=[made])))
    first = bench.ask(tools=TOOLS)
    assert first.calls == [("get_weather", PARIS)]

    def unsigned(body: Json) -> bool:
        calls = [made for message in body["messages"] for made in message.get("tool_calls") or ()]
        return any(signature_of(made) != signature for made in calls)

    bench.says(refusing(MISSING, unsigned))
    assert bench.next_turn(first, tools=TOOLS).text == "fine"


def test_calls_of_another_model_have_no_signature(bench: Bench) -> None:
    """The history began with another model: Google documents a signature for such calls, that skips the check."""

    def unsigned(body: Json) -> bool:
        calls = [made for message in body["messages"] for made in message.get("tool_calls") or ()]
        return any(signature_of(made) is None for made in calls)

    bench.says(refusing(MISSING, unsigned))
    used = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": PARIS}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "18"}
    turns = [HELLO, {"role": "assistant", "content": [used]}, {"role": "user", "content": [result]}]
    assert bench.ask(*turns, tools=TOOLS).text == "fine"


# --- reasoning ---

THINKS = {
    "omitted": {"type": "adaptive", "display": "omitted"},
    "omitted, with a budget": {"type": "enabled", "budget_tokens": 1024, "display": "omitted"},
    "shown": {"type": "adaptive"},
}


@pytest.mark.parametrize("thinking", THINKS.values(), ids=THINKS)
def test_deepseek_display_omitted(thinking: Json, bench: Bench) -> None:
    """Thinking that the client does not see, an empty block with our signature, reaches the model again.

    github/copilot-cli#2995; eclipse-theia/theia#18044 and pipecat-ai/pipecat#5183 for what display omitted means
    """
    bench.says(chat_reply(reasoning_content="The user wants weather.", tool_calls=[call("get_weather", PARIS)]))
    first = bench.ask(tools=TOOLS, thinking=thinking, max_tokens=4000)
    shown = "" if "display" in thinking else "The user wants weather."
    assert first.content[0]["thinking"] == shown
    said = "The `reasoning_content` in the thinking mode must be passed back to the API."
    bench.says(refusing(said, lambda body: assistant(body).get("reasoning_content") != "The user wants weather."))
    assert bench.next_turn(first, tools=TOOLS, thinking=thinking, max_tokens=4000).text == "fine"


PARTS = {
    "text between": [
        delta(reasoning_content="First I think."),
        delta("Let me see."),
        delta(reasoning_content=" Then more."),
    ],
    "line ends": [delta(reasoning_content="First.\n\n"), delta("Let me see."), delta(reasoning_content="\n\nThen.\n")],
    "three": [
        delta(reasoning_content="One"),
        delta("a"),
        delta(reasoning_content="Two"),
        delta("b"),
        delta(reasoning_content="Three"),
    ],
}


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_interleaved_replay(parts: list[Json], bench: Bench) -> None:
    """Reasoning, text, reasoning, call: what goes back is what the upstream wrote, so that its prefix cache holds.

    BerriAI/litellm#40288, MiniMax's and Kimi's interleaved thinking
    """
    bench.stream = True
    made = delta(tool_calls=[call_delta(0, id="c1", name="Bash", arguments='{"command": "ls"}')])
    bench.says(chat_stream_reply([*parts, made, delta(finish_reason="tool_calls")]))
    first = bench.ask(tools=TOOLS)
    bench.says(chat_reply("fine"))
    assert bench.next_turn(first, tools=TOOLS).text == "fine"
    back = assistant(bench.sent()[-1])
    said = [part["choices"][0]["delta"] for part in parts]
    assert back["reasoning_content"] == "".join(each.get("reasoning_content", "") for each in said)
    assert back["content"] == "".join(each.get("content", "") for each in said)


# --- a conversation that goes on natively ---


@pytest.mark.parametrize("display", ["omitted", "summarized"])
def test_what_was_carried_is_restored_natively(display: str, bench: Bench) -> None:
    """A turn was translated, since the native endpoint cannot do what it asked for; the next one is native."""
    made = {**call("get_weather", PARIS), "id": "functions.get_weather:0"}
    bench.says(chat_reply(reasoning_content="The user wants weather.", tool_calls=[made]), by="vllm")
    begun = {"role": "assistant", "content": "The weather"}
    thinking = {"type": "adaptive", "display": display}
    first = bench.ask(HELLO, begun, by="vllm", tools=TOOLS, thinking=thinking)
    assert first.route == "translation"
    bench.says(FINE, by="vllm", path=MESSAGES)
    assert first.content[0]["thinking"] == ("" if display == "omitted" else "The user wants weather.")
    second = bench.next_turn(first, by="vllm", tools=TOOLS, thinking=thinking)
    assert second.route == "native"
    said, result = bench.sent(by="vllm", path=MESSAGES)[-1]["messages"][-2:]
    assert said["content"][0]["thinking"] == "The user wants weather."
    assert said["content"][1]["id"] == result["content"][0]["tool_use_id"] == "functions.get_weather:0"
