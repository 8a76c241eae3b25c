# /// script
# requires-python = ">=3.12"
# dependencies = ["langchain-anthropic>=1.7,<2"]
# ///
"""LangChain's chat model: a text, a stream, and a tool with its result."""

import json
import sys

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"Sunny in {city}."


def report(base_url: str, model: str) -> dict:
    chat = ChatAnthropic(model=model, base_url=base_url, api_key="any", max_tokens=64, max_retries=0)
    able = chat.bind_tools([weather])
    question = HumanMessage("How is the weather in Paris?")
    called = able.invoke([question])
    results = [ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"]) for call in called.tool_calls]
    return {
        "text": chat.invoke("Hi").text,
        "streamed": "".join(piece.text for piece in chat.stream("Hi")),
        "results": [result.content for result in results],
        "told": able.invoke([question, called, *results]).text,
    }


print(json.dumps([report(sys.argv[1], model) for model in sys.argv[2:]]))
