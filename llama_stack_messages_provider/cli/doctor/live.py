"""A message to each model, and how long it took to begin."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llama_stack_messages_provider.findings import Diagnosis, Finding, Problem

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

__all__ = ["try_models"]

_MAX_TOKENS = 16
# A model may have to be loaded first.
_SECONDS = 180.0


async def try_models(client: "AsyncAnthropic", diagnosis: Diagnosis, only: Sequence[str]) -> Diagnosis:
    """The diagnosis, with what became of a message to each model that is said to be well.

    Args:
        client: Where messages go.
        diagnosis: What is known so far.
        only: Names of the models to try; none: all of them, one after the other.
    """
    from rich.console import Console
    from rich.progress import Progress

    names = only or [found.model for found in diagnosis.models if found.state in ("ok", "untried")]
    names = [name for name in names if not name.endswith("/*")]
    tried: dict[str, Finding] = {}
    known = {found.model: found for found in diagnosis.models}
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        for name in progress.track(names, description="A message to each model"):
            tried[name] = await _try(client, known.get(name) or Finding(name, "untried"))
    models = [tried.pop(found.model, found) for found in diagnosis.models]
    problems = list(diagnosis.problems)
    if not names:
        problems.append(Problem("error", "There is no model to send a message to", ""))
    return replace(diagnosis, models=[*models, *tried.values()], problems=problems)


async def _try(client: "AsyncAnthropic", found: Finding) -> Finding:
    from anthropic import APIError

    start = time.monotonic()
    first: float | None = None
    request: dict[str, Any] = {
        "model": found.model,
        "max_tokens": _MAX_TOKENS,
        "messages": [{"role": "user", "content": "Say hello."}],
        "timeout": _SECONDS,
    }
    try:
        async with client.messages.stream(**request) as stream:
            async for event in stream:
                if event.type == "content_block_delta" and first is None:
                    first = time.monotonic() - start
            await stream.get_final_message()
    except APIError as exc:
        return replace(found, state="failing", route=None, reason=f"a message was refused: {_words(exc)}")
    return replace(found, state="ok", first_token_seconds=first or time.monotonic() - start)


def _words(exc: Any) -> str:
    match exc.body:
        case {"error": {"message": str(text)}}:
            return text
        case _:
            return str(exc.message)
