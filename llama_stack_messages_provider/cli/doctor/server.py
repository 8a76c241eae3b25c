"""A running server, looked at from outside."""

import argparse
import asyncio
from typing import Any

from llama_stack_messages_provider.cli.doctor.command import NotThereError
from llama_stack_messages_provider.cli.doctor.live import try_models
from llama_stack_messages_provider.cli.running_server import RunningServer, ServerError
from llama_stack_messages_provider.findings import Diagnosis, Finding, Problem

__all__ = ["examine_server"]


def examine_server(parsed: argparse.Namespace) -> tuple[Diagnosis, list[Any]]:
    """What is found of a server, and what it has learned of its models.

    Raises:
        NotThereError: It is not there, or does not serve the Messages API.
    """
    server = RunningServer(parsed.url, parsed.token)
    try:
        server.check()
        diagnosis, learned = _told(server)
    except ServerError as exc:
        raise NotThereError(str(exc)) from exc
    return asyncio.run(_live(server, diagnosis, parsed.model)) if parsed.live else diagnosis, learned


def _told(server: RunningServer) -> tuple[Diagnosis, list[Any]]:
    try:
        diagnosis = Diagnosis.from_json(server.get("/v1/messages/diagnosis"))
        learned: list[Any] = server.get("/v1/messages/adaptations")["adaptations"]
    except (ServerError, KeyError, TypeError):
        return _listed(server), []
    return diagnosis, learned


def _listed(server: RunningServer) -> Diagnosis:
    """What its list of models tells, where it says no more: it does so on its own machine only."""
    names = server.own_names()
    if not names:
        return Diagnosis(problems=[Problem("error", "The server lists no models for this token")])
    reason = "it is listed; how it is served the server tells on its own machine only, and --live tries it"
    return Diagnosis([Finding(name, "untried", reason=reason) for name in names])


async def _live(server: RunningServer, diagnosis: Diagnosis, only: list[str]) -> Diagnosis:
    from anthropic import AsyncAnthropic

    async with AsyncAnthropic(base_url=server.url, api_key=server.token, auth_token=None, max_retries=0) as client:
        return await try_models(client, diagnosis, only)
