"""A run configuration: its text, then the stack that it makes, built in this process without serving."""

import argparse
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from llama_stack_messages_provider.cli.doctor.command import NotThereError
from llama_stack_messages_provider.cli.doctor.live import try_models
from llama_stack_messages_provider.cli.doctor.port import port_problem
from llama_stack_messages_provider.cli.doctor.text import problems_of_text
from llama_stack_messages_provider.findings import Diagnosis

__all__ = ["examine_config"]


async def examine_config(config: str, port: int, parsed: argparse.Namespace) -> tuple[Diagnosis, bool]:
    """What is found of a configuration, and whether it serves the Messages API at all.

    Raises:
        NotThereError: There is no such configuration, or no stack can be built of it.
    """
    file, run = _read(config)
    problems = problems_of_text(run, str(file))
    if any(problem.severity == "error" for problem in problems):
        return Diagnosis(problems=problems), False
    host = (run.get("server") or {}).get("host")
    if (taken := port_problem(host, port)) is not None:
        problems.append(taken)
    # Llama Stack and the client libraries report each failed connection at length; it is told in one line.
    logging.disable(logging.CRITICAL)
    try:
        diagnosis = await _built(str(file), config, parsed)
    finally:
        logging.disable(logging.NOTSET)
    return replace(diagnosis, problems=[*problems, *diagnosis.problems]), True


def _read(config: str) -> tuple[Path, Mapping[str, Any]]:
    from llama_stack_messages_provider.host.distributions import distribution_file, distributions, with_variables

    file = distribution_file(config)
    if file is None:
        raise NotThereError(
            f"there is no file {config} and no distribution of that name; there are {', '.join(distributions())}"
        )
    try:
        run = with_variables(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise NotThereError(f"{config} cannot be read: {exc}") from exc
    if not isinstance(run.get("providers"), dict):
        raise NotThereError(f"{config} is no run configuration: it has no `providers`")
    return file, run


async def _built(file: str, config: str, parsed: argparse.Namespace) -> Diagnosis:
    try:
        from llama_stack_messages_provider.host.stack import running_stack

        async with running_stack(file) as impls:
            messages = next((impl for api, impl in impls.items() if api.value == "messages"), None)
            if messages is None:
                raise NotThereError(f"the stack of {config} has no Messages API")
            diagnosis = Diagnosis.from_json(await messages.diagnosis())
            return await _live(messages, diagnosis, parsed) if parsed.live else diagnosis
    except NotThereError:
        raise
    except ModuleNotFoundError as exc:
        raise NotThereError(
            f"the stack of {config} cannot be built: the module {exc.name} is not installed. "
            f"`llama stack list-deps {config}` prints what it needs"
        ) from exc
    except Exception as exc:
        raise NotThereError(f"the stack of {config} cannot be built: {' '.join(str(exc).split())}") from exc


async def _live(messages: Any, diagnosis: Diagnosis, parsed: argparse.Namespace) -> Diagnosis:
    import httpx2
    from anthropic import AsyncAnthropic

    from llama_stack_messages_provider.in_process import AsyncInProcessTransport

    http = httpx2.AsyncClient(transport=AsyncInProcessTransport(messages))
    async with AsyncAnthropic(base_url="http://stack", api_key="none", max_retries=0, http_client=http) as client:
        return await try_models(client, diagnosis, parsed.model)
