"""Which passes run, and what they leave."""

import importlib
import pkgutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.engines import NativeProfile
from llama_stack_messages_provider.engines.features import features_of
from llama_stack_messages_provider.rewriting import passes
from llama_stack_messages_provider.rewriting.attribution import without_attribution
from llama_stack_messages_provider.rewriting.call_ids import MARK
from llama_stack_messages_provider.rewriting.context_edits import FIELD
from llama_stack_messages_provider.rewriting.draft import Draft, RewriteOptions
from llama_stack_messages_provider.rewriting.passes.other_blocks import HOMES, IN_RESULTS, KNOWN
from llama_stack_messages_provider.rewriting.signatures import is_ours

__all__ = [
    "PASSES",
    "SUPPLIED",
    "Rewritten",
    "discover",
    "marked_features",
    "rewrite",
    "rewrite_native",
    "wanted_features",
]


def discover() -> tuple[ModuleType, ...]:
    """Every pass of the folder, in its order."""
    names = (found.name for found in pkgutil.iter_modules(passes.__path__))
    modules = (importlib.import_module(f"{passes.__name__}.{name}") for name in names)
    return tuple(sorted(modules, key=lambda module: (module.ORDER, module.__name__)))


_OF_TURNS = KNOWN - IN_RESULTS

PASSES = discover()
"""The passes, in their order."""

SUPPLIED: frozenset[str] = frozenset().union(*(each.FEATURES for each in PASSES))
"""All features that passes supply."""

_MARKS: Mapping[str, bytes] = {name: mark for each in PASSES for name, mark in getattr(each, "MARKS", {}).items()}


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A plainer request, and the way back.

    Args:
        request: The request; the client's own object where nothing was changed.
        restored: For the name of a function, the fields of the `tool_use` block that the client knows.
        applied_edits: What context editing cleared, as the client is told it; None where it asked for nothing.
    """

    request: Mapping[str, Any]
    restored: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    applied_edits: list[dict[str, Any]] | None = None

    @property
    def way_back(self) -> "Rewritten":
        """The same without the request, for as long as an answer comes."""
        return replace(self, request={})

    def restore(self, function_name: str) -> dict[str, Any]:
        """The `name` of a call's block, and the `toolset_name` of a toolset's member."""
        return dict(self.restored.get(function_name) or {"name": function_name})

    def restore_block(self, block: Mapping[str, Any]) -> Mapping[str, Any]:
        """A block of an answer as the client knows it; the same object where it is."""
        if block.get("type") != "tool_use" or block.get("name") not in self.restored:
            return block
        return {**block, **self.restored[block["name"]]}


def rewrite(
    request: Mapping[str, Any],
    *,
    lacks: Collection[str],
    options: RewriteOptions,
    dropped: DroppedFields,
    passes: Sequence[ModuleType] | None = None,
) -> Rewritten:
    """The plainer request for an engine.

    Args:
        request: The client's request, validated.
        lacks: The features that the engine does not know.
        options: What is decided outside of the passes.
        dropped: Takes what cannot be carried, or refuses it.
        passes: The passes to choose from.

    Raises:
        InvalidRequestError: Something cannot be made sense of, or would be dropped in strict mode.
    """
    wanted = wanted_features(request) & frozenset(lacks)
    return _run(request, wanted, frozenset(lacks), options, dropped, PASSES if passes is None else passes)


def marked_features(raw: bytes | None, profile: NativeProfile) -> list[str]:
    """The features that an engine never gets, and that a request may have.

    Args:
        raw: The request's bytes, in which features are looked for by their marks; None if there are none.
        profile: What the engine's endpoint is like.
    """
    return [name for name in profile.rewritten if raw is None or _MARKS[name] in raw]


def rewrite_native(
    request: Mapping[str, Any],
    *,
    marked: Collection[str],
    lacks: frozenset[str],
    options: RewriteOptions,
    dropped: DroppedFields,
) -> Rewritten:
    """The request for an engine's own Messages endpoint; its own object where nothing in it concerns the engine.

    Args:
        request: The request, validated if the engine lacks something that it uses; any JSON object otherwise.
        marked: What `marked_features` found.
        lacks: Features of the request that the endpoint lacks, and passes supply.
        options: What is decided outside of the passes.
        dropped: Takes what cannot be carried, or refuses it.

    Raises as `rewrite` does.
    """
    found = wanted_features(request) & lacks if lacks else lacks
    return _run(request, found.union(marked), lacks.union(marked), options, dropped, PASSES)


def _run(
    request: Mapping[str, Any],
    wanted: frozenset[str],
    lacks: frozenset[str],
    options: RewriteOptions,
    dropped: DroppedFields,
    passes: Sequence[ModuleType],
) -> Rewritten:
    chosen = [each for each in passes if each.FEATURES & wanted] if wanted else []
    if not chosen:
        return Rewritten(request)
    draft = Draft(request, lacks, options, dropped)
    for each in chosen:
        each.rewrite(draft)
    return Rewritten(draft.finished(), draft.restored, draft.applied_edits)


def wanted_features(request: Mapping[str, Any]) -> frozenset[str]:
    """What a validated request uses: the features of the engines' profiles, and what only passes ask for."""
    features = features_of(request) | frozenset(_more_features(request))
    # What is added on the way may be any tool.
    more = {"client_tool", "deferred_tool", "server_tool", "tools_of_one_name"}
    return features | more if "tool_change" in features else features


def _more_features(request: Mapping[str, Any]) -> Iterator[str]:
    yield from _features_of_head(request)
    if len(tools := request.get("tools") or ()) > 1:
        yield "tools_of_one_name"
    if any(tool.get("type") not in (None, "custom") for tool in tools):
        yield from ("client_tool", "server_tool")
    marked = "cache_control" in request or any("cache_control" in tool for tool in tools)
    for message in request["messages"]:
        if message.get("clear_at"):
            yield "clear_at"
        if isinstance(content := message.get("content"), list):
            marked = marked or any("cache_control" in block for block in content)
            for block in content:
                yield from _features_of_block(block, message["role"])
    if marked:
        yield "cache_control"


def _features_of_head(request: Mapping[str, Any]) -> Iterator[str]:
    if request.get(FIELD):
        yield "context_edits"
    system = request.get("system")
    if system and without_attribution(system) is not system:
        yield "attribution"
    if isinstance(system, list):
        if any(block["type"] != "text" for block in system):
            yield "unknown_system_block"
        if any("cache_control" in block for block in system):
            yield "cache_control"


def _features_of_block(block: Mapping[str, Any], role: str) -> Iterator[str]:
    kind = block["type"]
    if HOMES.get(kind, role) != role or (kind == "tool_result" and _holds_turns_blocks(block.get("content"))):
        yield "misplaced_block"
    if kind in ("tool_use", "tool_result"):
        yield "unpaired_call"
        if MARK in str(block.get("id") or block.get("tool_use_id")):
            yield "carried_id"
    if kind in ("thinking", "redacted_thinking") and is_ours(block.get("signature") or block.get("data")):
        yield "carried_thinking"
    if kind == "tool_use" and block.get("toolset_name"):
        yield "toolset_call"
    if _has_image(block):
        yield "image"
        yield "image_elsewhere"


def _holds_turns_blocks(content: Any) -> bool:
    """Whether a result holds blocks that only a turn can."""
    return isinstance(content, list) and any(block["type"] in _OF_TURNS for block in content)


def _has_image(block: Any) -> bool:
    kind = block.get("type")
    if kind == "image":
        return True
    holder = block.get("source") if kind == "document" else block
    content = holder.get("content") if kind in ("document", "tool_result") and isinstance(holder, Mapping) else None
    return isinstance(content, list) and any(map(_has_image, content))
