# /// script
# requires-python = ">=3.12"
# dependencies = ["strands-agents[anthropic]>=1.60,<2"]
# ///
"""Strands: an agent, which always streams, and a tool that it runs itself."""

import json
import sys

from strands import Agent, tool
from strands.models.anthropic import AnthropicModel


def report(base_url: str, name: str) -> dict:
    results: list[str] = []

    @tool
    def weather(city: str) -> str:
        """The weather of a city.

        Args:
            city: Its name.
        """
        results.append(f"Sunny in {city}.")
        return results[-1]

    def agent(*tools: object) -> Agent:
        # A model for each: a call has a loop of its own, and another loop's connections are of no use in it.
        client = {"base_url": base_url, "api_key": "any", "max_retries": 0}
        model = AnthropicModel(client_args=client, model_id=name, max_tokens=64)
        return Agent(model=model, tools=list(tools), callback_handler=None)

    streamed = agent()("Hi")
    told = agent(weather)("How is the weather in Paris?")
    return {"streamed": str(streamed).strip(), "results": results, "told": str(told).strip()}


print(json.dumps([report(sys.argv[1], model) for model in sys.argv[2:]]))
