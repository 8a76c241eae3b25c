"""A safety provider that looks for prompt injection by patterns: `module` of a run file.

The server has to find it: start it with `PYTHONPATH` at the repository's root.
"""

import re
from typing import Any

from llama_stack_api import (
    GetShieldRequest,
    ModerationObject,
    RunModerationRequest,
    RunShieldRequest,
    RunShieldResponse,
    SafetyViolation,
    Shield,
    ViolationLevel,
)
from pydantic import BaseModel

__all__ = ["InjectionConfig", "InjectionShield", "get_provider_impl"]

_WORDS = r"(?:ignore|disregard|forget)\s+(?:all\s+|any\s+)?(?:the\s+|your\s+)?(?:previous|prior|above|earlier)"
_ORDERS = re.compile(_WORDS + r"\s+(?:instructions|rules|prompts?)", re.IGNORECASE)
_ROLES = re.compile(r"<\|im_start\|>|\[/?INST\]|^\s*system\s*:", re.IGNORECASE | re.MULTILINE)
_ODD = re.compile(r"\byou are now\b", re.IGNORECASE)


class InjectionConfig(BaseModel):
    """Nothing to configure."""


class InjectionShield:
    """Reads the last message. What orders a model about is an error, what only sounds odd a warning."""

    shield_store: Any

    async def initialize(self) -> None:
        """Nothing."""

    async def shutdown(self) -> None:
        """Nothing."""

    async def register_shield(self, shield: Shield) -> None:
        """Any name will do."""

    async def unregister_shield(self, identifier: str) -> None:
        """Nothing is kept."""

    async def run_shield(self, request: RunShieldRequest) -> RunShieldResponse:
        """What is found, as the host's own providers tell it: the shield has to be one that its caller may read."""
        await self.shield_store.get_shield(GetShieldRequest(identifier=request.shield_id))
        text = str(request.messages[-1].content)
        if _ORDERS.search(text) or _ROLES.search(text):
            return _found(ViolationLevel.ERROR, "This looks like a prompt injection.", "prompt_injection")
        if _ODD.search(text):
            return _found(ViolationLevel.WARN, "This sounds odd.", "odd")
        return RunShieldResponse(violation=None)

    async def run_moderation(self, request: RunModerationRequest) -> ModerationObject:
        """Not what this is for."""
        raise NotImplementedError


def _found(level: ViolationLevel, said: str, kind: str) -> RunShieldResponse:
    metadata = {"violation_type": kind}
    return RunShieldResponse(violation=SafetyViolation(violation_level=level, user_message=said, metadata=metadata))


async def get_provider_impl(config: InjectionConfig, _deps: Any) -> InjectionShield:
    """What the host calls."""
    return InjectionShield()
