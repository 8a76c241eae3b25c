# /// script
# requires-python = ">=3.12"
# dependencies = ["pydantic-ai-slim[anthropic]>=2.60,<3"]
# ///
"""pydantic-ai: an agent's text, its stream, and a tool that the agent runs itself."""

import asyncio
import json
import sys

from anthropic import AsyncAnthropic
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.providers.anthropic import AnthropicProvider


async def report(base_url: str, name: str) -> dict:
    results: list[str] = []

    def weather(city: str) -> str:
        """The weather of a city."""
        results.append(f"Sunny in {city}.")
        return results[-1]

    async with AsyncAnthropic(base_url=base_url, api_key="any", max_retries=0) as client:
        model = AnthropicModel(name, provider=AnthropicProvider(anthropic_client=client))
        plain, able = Agent(model), Agent(model, tools=[weather])
        async with plain.run_stream("Hi") as stream:
            streamed = await stream.get_output()
        text = (await plain.run("Hi")).output
        told = (await able.run("How is the weather in Paris?")).output
    return {"text": text, "streamed": streamed, "results": results, "told": told}


async def main() -> None:
    print(json.dumps([await report(sys.argv[1], model) for model in sys.argv[2:]]))


asyncio.run(main())
