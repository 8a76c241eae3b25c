"""What a turn cost, over HTTP: early where the upstream tells it early, always at the end, never added up."""

from typing import Any

import anthropic
import pytest

from tests.conftest import Fleet
from tests.fidelity.cases import HELLO, Json
from tests.support.upstream import (
    RecordedRequest,
    Reply,
    chat_completion,
    delta,
    encode_chunks,
    json_reply,
    stream_reply,
)

CHAT = "/v1/chat/completions"


def counted(output: int) -> Json:
    """A usage of eleven tokens read, eight of them from the cache, half of what was written being thoughts."""
    return {
        "prompt_tokens": 11,
        "completion_tokens": output,
        "total_tokens": 11 + output,
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": output // 2},
    }


def counting(request: RecordedRequest) -> Reply:
    """An upstream that tells the usage so far in each chunk if it is asked to, else at the end."""
    if not request.json.get("stream"):
        return json_reply(chat_completion("Hello", reasoning_content="Hm", usage=counted(4)))
    always = request.json["stream_options"].get("continuous_usage_stats")
    chunks = [delta(reasoning_content="Hm"), delta("Hel"), delta("lo"), delta(finish_reason="stop")]
    told = [{**chunk, "usage": counted(n + 1) if always else None} for n, chunk in enumerate(chunks)]
    progress = {"total": 11, "cache": 8, "processed": 8, "time_ms": 0}  # llama.cpp's
    reading = [{**delta(role="assistant"), "prompt_progress": progress}] if request.json.get("return_progress") else []
    return stream_reply(encode_chunks([*reading, *told, {**delta(), "choices": [], "usage": counted(4)}]))


@pytest.mark.parametrize(("name", "early"), [("vllm", True), ("sglang", True), ("openai", False), ("llamacpp", True)])
def test_usage_is_told_early_if_at_all_and_in_full_at_the_end(
    name: str, early: bool, client: anthropic.Anthropic, fleet: Fleet
) -> None:
    fleet.upstreams[name].reply(CHAT, counting)
    request: Any = {"model": f"{name}-translated/{name}-model", "max_tokens": 99, "messages": [HELLO]}
    whole = client.messages.create(**request)
    events = list(client.messages.create(**request, stream=True))
    with client.messages.stream(**request) as stream:
        folded = stream.get_final_message()

    started: Any = events[0]
    assert (started.message.usage.input_tokens, started.message.usage.cache_read_input_tokens) == (
        (3, 8) if early else (0, 0)
    )
    ended: Any = next(event for event in events if event.type == "message_delta")
    usages: list[Any] = [whole.usage, ended.usage, folded.usage]
    for usage in usages:
        assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (3, 8, 4)
        assert usage.output_tokens_details.thinking_tokens == 2
