"""The session that a request belongs to, for routers that send all of a session to one replica of an engine."""

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import orjson

__all__ = ["session_of"]

_HEADERS = ("x-session-id", "x-claude-code-session-id")
_MAX_USER_ID = 1024
_USABLE = re.compile(r"[!-~]{1,256}")


def session_of(headers: Mapping[str, str], request: Mapping[str, Any]) -> str | None:
    """The name of a request's session, 1 to 256 printable ASCII characters; None where there is none that is so.

    Args:
        headers: What came with it, by lower-case name: `x-session-id` goes before `x-claude-code-session-id`.
        request: Its JSON, not validated; Claude Code's `metadata.user_id` is JSON with a `session_id`.
    """
    for name in _HEADERS:
        if (found := _usable(headers.get(name))) is not None:
            return found
    metadata = request.get("metadata")
    user = metadata.get("user_id") if isinstance(metadata, dict) else None
    if not isinstance(user, str) or len(user) > _MAX_USER_ID or not user.startswith("{"):
        return None
    with suppress(orjson.JSONDecodeError):
        return _usable(orjson.loads(user).get("session_id"))
    return None


def _usable(value: Any) -> str | None:
    return value if isinstance(value, str) and _USABLE.fullmatch(value) else None
