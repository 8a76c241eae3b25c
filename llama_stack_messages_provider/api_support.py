"""What becomes of everything the Messages API can say, on each route: one table, which the routes read.

On the native route all of it is forwarded as it came, where the upstream's engine has what it needs. Under translation
a thing is

- mapped: the inference API has it, and gets it;
- emulated: the inference API has nothing like it, and the model gets the same by other means;
- dropped: the model gets nothing of it, and `x-messages-dropped` names it, except where there is nothing to lose;
- refused: the request is answered with a 400 that names it.

Of what servers say, mapped and emulated things are made by a translation, and dropped ones never are. Strict mode
refuses what would be dropped.

The drift guard in the tests fails when the installed `anthropic` SDK knows something that is not here, or when
something is here that neither it nor `OBSERVED` knows.
"""

from collections.abc import Mapping

from llama_stack_messages_provider.support import Kind, Support
from llama_stack_messages_provider.support_rows import SUPPORT

__all__ = [
    "OBSERVED",
    "SUPPORT",
    "Kind",
    "Support",
    "carried_fields",
    "carried_parameters",
    "native_need",
    "unknown_fields",
]

OBSERVED: Mapping[Kind, Mapping[str, str]] = {
    "parameter": {
        "safeguards": "Claude Code 2.1.332 in its auto mode, beta `dangerous-tool-use-2026-09-03`",
        "temperature": "documented; sent as `extra_body` or by older and other clients",
        "top_p": "documented; sent as `extra_body` or by older and other clients",
        "top_k": "documented; sent as `extra_body` or by older and other clients",
        "output_format": "the older spelling of `output_config.format`, sent by older clients",
    },
    "event": {
        "ping": "sent by Anthropic and read by the SDK, though not among its event types",
        "error": "sent by Anthropic and read by the SDK, though not among its event types",
    },
    "error": {"request_too_large": "https://platform.claude.com/docs/en/api/errors"},
}
"""What the SDK's types do not have and was seen all the same: its kind, its name, and where."""

_MAX_UNKNOWN = 20
_MAX_NAME = 64


def native_need(kind: Kind, name: str, unknown: str) -> str | None:
    """What a native engine must have for a thing: a word of its profile, or None where every one has it.

    Args:
        kind: Kind of the thing.
        name: The thing.
        unknown: What is needed for a thing that is not known.
    """
    support = SUPPORT[kind].get(name)
    return support.needs if support else unknown


def carried_parameters() -> frozenset[str]:
    """The parameters of a message, and what the SDK sends as headers, that translation does not drop."""
    return frozenset(name for kind in ("parameter", "header") for name in _carried(kind))


def carried_fields() -> Mapping[str, frozenset[str]]:
    """For each parameter whose fields have rows of their own, those that translation does not drop."""
    holders = ("output_config", "metadata", "thinking")
    names = [name.split(":")[0].partition(".") for name in _carried("setting")]
    return {holder: frozenset(field for owner, _, field in names if owner == holder) for holder in holders}


def _carried(kind: Kind) -> list[str]:
    return [name for name, support in SUPPORT[kind].items() if support.translated != "dropped" or not support.named]


def unknown_fields(request: Mapping[str, object]) -> list[str]:
    """The top-level fields of a message that nobody knows, cut and printable: the first few of them."""
    names: list[str] = []
    for name in request:
        if name not in SUPPORT["parameter"] and name not in SUPPORT["header"]:
            names.append(ascii(name[:_MAX_NAME])[1:-1])
            if len(names) == _MAX_UNKNOWN:
                break
    return names
