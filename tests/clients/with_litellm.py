# /// script
# requires-python = ">=3.12"
# dependencies = ["litellm>=1.80,<2"]
# ///
"""LiteLLM's `anthropic/` provider: OpenAI's dialect to its users, Messages to us."""

import json
import os
import sys
from functools import partial

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it fetches a list of prices from the network

import litellm

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Of a city.", "parameters": PARAMETERS}}
USER = {"role": "user", "content": "Hi"}


def result(call: object) -> dict:
    content = f"Sunny in {json.loads(call.function.arguments)['city']}."
    return {"role": "tool", "tool_call_id": call.id, "content": content}


def report(base_url: str, model: str) -> dict:
    where = {"model": f"anthropic/{model}", "api_base": base_url, "api_key": "any"}
    complete = partial(litellm.completion, **where, max_tokens=64, num_retries=0)
    chunks = list(complete(messages=[USER], stream=True))
    called = complete(messages=[USER], tools=[WEATHER]).choices[0].message
    results = [result(call) for call in called.tool_calls]
    told = complete(messages=[USER, called.model_dump(), *results], tools=[WEATHER])
    return {
        "text": complete(messages=[USER]).choices[0].message.content,
        "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in chunks),
        "results": [each["content"] for each in results],
        "told": told.choices[0].message.content,
    }


print(json.dumps([report(sys.argv[1], model) for model in sys.argv[2:]]))
