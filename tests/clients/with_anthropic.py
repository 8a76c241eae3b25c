# /// script
# requires-python = ">=3.12"
# dependencies = ["anthropic"]
# ///
"""The Python SDK, the newest there is: a text, a stream, and a tool with its result."""

import json
import sys
from functools import partial

from anthropic import Anthropic

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "weather", "description": "Of a city.", "input_schema": SCHEMA}
USER = {"role": "user", "content": "Hi"}


def result(block: object) -> dict:
    return {"type": "tool_result", "tool_use_id": block.id, "content": f"Sunny in {block.input['city']}."}


def report(base_url: str, model: str) -> dict:
    with Anthropic(base_url=base_url, api_key="any", max_retries=0) as client:
        create = partial(client.messages.create, model=model, max_tokens=64)
        text = create(messages=[USER])
        with client.messages.stream(model=model, max_tokens=64, messages=[USER]) as stream:
            streamed = stream.get_final_text()
        called = create(messages=[USER], tools=[WEATHER])
        results = [result(block) for block in called.content if block.type == "tool_use"]
        turns = [USER, {"role": "assistant", "content": called.content}, {"role": "user", "content": results}]
        told = create(messages=turns, tools=[WEATHER])
    return {
        "text": text.content[0].text,
        "streamed": streamed,
        "results": [each["content"] for each in results],
        "told": told.content[0].text,
    }


print(json.dumps([report(sys.argv[1], model) for model in sys.argv[2:]]))
