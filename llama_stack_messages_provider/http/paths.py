"""Which requests are ours, by whatever path a client makes."""

import re

from starlette.types import Scope

__all__ = ["BATCHES", "MAY_BE_OURS", "MODELS", "path_of", "speaks_anthropic"]

BATCHES = "/v1/messages/batches"
MODELS = "/v1/models"

MAY_BE_OURS = ("/v1/m", "/v1/v1/m", "/messages", "/models")
"""What every path of ours begins with."""

# Clients append `/v1/messages` to a base URL that may end with `/v1` already, or `/messages` to one that does not.
_OURS = re.compile(r"(?:/v1){0,2}(/(?:messages|models)(?:/.*)?)", re.DOTALL)
_VERSION = b"anthropic-version"


def path_of(scope: Scope) -> str | None:
    """The path of ours that a request means; None if it is for another route."""
    found = _OURS.fullmatch(scope["path"])
    if found is None:
        return None
    path = "/v1" + found[1]
    if path.startswith(MODELS):  # the host's own, to everybody else
        return path if scope["method"] == "GET" and speaks_anthropic(scope) else None
    return path.rstrip("/")


def speaks_anthropic(scope: Scope) -> bool:
    """Whether a request is that of a client of Anthropic's API, which always names the API's version."""
    return any(name == _VERSION for name, _ in scope["headers"])
