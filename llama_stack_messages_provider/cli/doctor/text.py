"""What can be seen in a run configuration before anything is built of it."""

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from llama_stack_messages_provider.cli.folders import APIS_DIR, declares_messages
from llama_stack_messages_provider.config import MessagesConfig
from llama_stack_messages_provider.findings import Problem

__all__ = ["problems_of_text"]

_PROVIDER = "inline::messages"
# What the host takes for the id of a provider that is switched off.
_DISABLED = (None, "", "__disabled__")


def problems_of_text(run: Mapping[str, Any], name: str) -> list[Problem]:
    """What is wrong with a run configuration.

    Args:
        run: Its content, with the variables put in.
        name: What it is called for a command.
    """
    provider = _messages_provider(run)
    if provider is None:
        what = "No provider of the Messages API is configured"
        return [Problem("error", what, f"`llama-stack-messages enable {name}` adds it.")]
    return [
        *_of_apis(run, name),
        *_of_apis_dir(run, name),
        *_of_settings(provider.get("config") or {}, MessagesConfig, ""),
    ]


def _messages_provider(run: Mapping[str, Any]) -> Mapping[str, Any] | None:
    listed = run["providers"].get("messages") or []
    given = [each for each in listed if isinstance(each, dict) and each.get("provider_type") == _PROVIDER]
    return next((each for each in given if each.get("provider_id") not in _DISABLED), None)


def _of_apis(run: Mapping[str, Any], name: str) -> Iterator[Problem]:
    apis = run.get("apis")
    for api in ("inference", "messages"):
        if apis and api not in apis:
            remedy = f"Add it there; `llama-stack-messages enable {name}` does so."
            yield Problem("error", f"`apis` does not name `{api}`: the server answers such requests with 404", remedy)


def _of_apis_dir(run: Mapping[str, Any], name: str) -> Iterator[Problem]:
    given = run.get("external_apis_dir")
    remedy = (
        f"Set it to {APIS_DIR}, which `llama-stack-messages apis-dir` prints; "
        f"`llama-stack-messages enable {name}` does so."
    )
    if not given:
        yield Problem("error", "`external_apis_dir` is not set: the host does not know the Messages API", remedy)
        return
    folder = Path(str(given)).expanduser()
    if not folder.is_dir():
        yield Problem("error", f"`external_apis_dir` is {given}, which is no folder", remedy)
    elif not declares_messages(folder):
        what = f"`external_apis_dir` is {given}, where no file declares the Messages API"
        yield Problem("error", what, f"Copy {APIS_DIR / 'messages.yaml'} there. Or: {remedy}")


def _of_settings(given: Mapping[str, Any], model: type[BaseModel], prefix: str) -> Iterator[Problem]:
    """Settings that there are not, with the nearest that there is; then values that do not fit."""
    unknown = list(_unknown_settings(given, model, prefix))
    yield from unknown
    if unknown:
        return
    try:
        model.model_validate(dict(given))
    except ValidationError as exc:
        for error in exc.errors():
            path = ".".join(map(str, error["loc"]))
            yield Problem("error", f"The setting {path} of {_PROVIDER}: {error['msg']}", _allowed(error))


def _unknown_settings(given: Mapping[str, Any], model: type[BaseModel], prefix: str) -> Iterator[Problem]:
    for key, value in given.items():
        field = model.model_fields.get(key)
        if field is None:
            near = difflib.get_close_matches(str(key), model.model_fields, n=1, cutoff=0.5)
            remedy = f"Did you mean {prefix}{near[0]}?" if near else f"There are {', '.join(model.model_fields)}."
            yield Problem("error", f"{_PROVIDER} has no setting {prefix}{key}", remedy)
        elif isinstance(value, dict) and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _unknown_settings(value, field.annotation, f"{prefix}{key}.")


def _allowed(error: Any) -> str:
    given = error.get("input")
    return f"It is {given!r} now." if isinstance(given, str | int | float | bool) else ""
