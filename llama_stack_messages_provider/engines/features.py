"""What native endpoints lack: one table, read from the engines' sources, that decides which requests they get.

A request that needs something in an engine's row is translated instead, where it can be carried.

Sources: vLLM 0.32 `entrypoints/anthropic`, SGLang 0.5.23 `entrypoints/anthropic`, llama.cpp `tools/server`,
Ollama `docs/api/anthropic-compatibility`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

__all__ = ["BLIND_TO_ERRORS", "GAPS", "PATCHES", "REPAIRED", "Engine", "features_of", "gaps_of"]

Engine = Literal["vllm", "sglang", "llama.cpp", "ollama", "anthropic", "unknown"]

_REFUSED = "refused with 400"
_DROPPED = "dropped in silence"
_IGNORED = "ignored"

GAPS: dict[Engine, dict[str, str]] = {
    "vllm": {
        "document": _REFUSED,
        "search_result": _REFUSED,
        "client_tool": _REFUSED,
        "server_tool": _REFUSED,
        "web_search": _REFUSED,
        "server_tool_history": _REFUSED,
        "container_upload": _REFUSED,
        "unknown_block": _REFUSED,
    },
    "sglang": {
        "document": _REFUSED,
        "redacted_thinking": _REFUSED,
        "client_tool": _DROPPED,
        "server_tool": _DROPPED,
        "web_search": _DROPPED,
        "server_tool_history": _REFUSED,
        "container_upload": _REFUSED,
        "tool_change": _REFUSED,
        "unknown_block": _REFUSED,
        "stop_sequences": "not told apart from the end of the turn",
    },
    "llama.cpp": {
        "document": _DROPPED,
        "search_result": _DROPPED,
        "tool_reference": _DROPPED,
        "container_upload": _DROPPED,
        "tool_change": _DROPPED,
        "unknown_block": _DROPPED,
        "system_turn": "refused by strict chat templates",
        "client_tool": "offered without a schema",
        "server_tool": "offered without a schema",
        "web_search": "offered without a schema",
        "server_tool_history": _DROPPED,
        "forced_tool": "the tool's name is lost",
        "no_tool": _IGNORED,
        "no_parallel_tools": _IGNORED,
        "thinking_off": _IGNORED,
        "effort": _IGNORED,
        "structured_output": _IGNORED,
    },
    "ollama": {
        "document": _DROPPED,
        "search_result": _DROPPED,
        "tool_reference": _DROPPED,
        "container_upload": _DROPPED,
        "tool_change": _DROPPED,
        "unknown_block": _DROPPED,
        "image_url": _REFUSED,
        "client_tool": "offered without a schema",
        "server_tool": "offered without a schema",
        "forced_tool": _IGNORED,
        "any_tool": _IGNORED,
        "no_tool": _IGNORED,
        "no_parallel_tools": _IGNORED,
        "structured_output": _IGNORED,
    },
    "anthropic": {},
    "unknown": {},
}

# Engines whose native streams and messages are parsed and mended; those of all others are relayed as bytes.
REPAIRED: dict[Engine, str] = {
    "llama.cpp": "blocks overlap, skeletons lack fields, signatures are empty, stop_sequence is reported as end_turn",
    "sglang": "thinking has no signature",
    "ollama": "thinking has no signature, errors come without an event",
    "unknown": "nobody knows what it breaks",
}

# What an engine always gets wrong in bytes that are relayed, and what is right; quotes are escaped in a model's text.
PATCHES: dict[Engine, tuple[tuple[bytes, bytes], ...]] = {
    "vllm": (
        (
            b'"content_block":{"type":"thinking","thinking":""}',
            b'"content_block":{"type":"thinking","thinking":"","signature":""}',
        ),
    ),
}

# Engines that do not show `is_error` to their model: a marker is written into the result instead.
BLIND_TO_ERRORS: frozenset[Engine] = frozenset({"vllm", "sglang", "llama.cpp", "ollama"})

_CLIENT_TOOLS = ("bash_", "text_editor_", "computer_", "memory_", "browser_")
# Blocks that every native endpoint takes; images and results are looked into.
_KNOWN_BLOCKS = frozenset({"text", "tool_use", "thinking"})
_FEATURE_BLOCKS = frozenset({"document", "search_result", "tool_reference", "redacted_thinking", "container_upload"})


def gaps_of(engine: Engine, features: frozenset[str]) -> dict[str, str]:
    """The features that an engine's native endpoint lacks, and what happens to them there."""
    row = GAPS[engine]
    return {name: row[name] for name in sorted(features) if name in row}


def features_of(request: Mapping[str, Any]) -> frozenset[str]:
    """What a request uses, in the table's words. Shapes that are not valid count for nothing."""
    return frozenset([*_block_features(request.get("messages")), *_tool_features(request), *_other_features(request)])


def _block_features(messages: Any) -> Iterator[str]:
    if not isinstance(messages, list):
        return
    for message in messages:
        if not isinstance(message, dict):
            continue
        if message.get("role") == "system":
            yield "system_turn"
        if isinstance(content := message.get("content"), list):
            for block in content:
                if isinstance(block, dict):
                    yield from _features_of_block(block)


def _features_of_block(block: Mapping[str, Any]) -> Iterator[str]:
    kind = block.get("type")
    if not isinstance(kind, str) or kind in _KNOWN_BLOCKS:
        return
    if kind == "image":
        source = block.get("source")
        if isinstance(source, dict) and source.get("type") == "url":
            yield "image_url"
    elif kind == "tool_result":
        if block.get("is_error"):
            yield "is_error"
        yield from _block_features([block])
    elif kind in _FEATURE_BLOCKS:
        yield kind
    elif kind in {"tool_addition", "tool_removal"}:
        yield "tool_change"
    elif kind.endswith("_tool_result") or kind in {"server_tool_use", "mcp_tool_use"}:
        yield "server_tool_history"
    else:
        yield "unknown_block"


def _tool_features(request: Mapping[str, Any]) -> Iterator[str]:
    tools = request.get("tools")
    tools = tools if isinstance(tools, list) else []
    yield from filter(None, map(_kind_of_tool, tools))
    choice = request.get("tool_choice")
    if not isinstance(choice, dict) or _forces_search(choice, tools):
        return
    if feature := {"tool": "forced_tool", "any": "any_tool", "none": "no_tool"}.get(str(choice.get("type"))):
        yield feature
    if choice.get("disable_parallel_tool_use"):
        yield "no_parallel_tools"


def _forces_search(choice: Mapping[str, Any], tools: list[Any]) -> bool:
    # Claude Code asks for a search so. An engine that searches need not be forced to, and no other can be.
    named = [tool for tool in tools if isinstance(tool, dict) and tool.get("name") == choice.get("name")]
    return choice.get("type") == "tool" and any(_kind_of_tool(tool) == "web_search" for tool in named)


def _kind_of_tool(tool: Any) -> str | None:
    kind = tool.get("type") if isinstance(tool, dict) else None
    if not isinstance(kind, str) or kind == "custom" or "input_schema" in tool:
        return None
    if kind.startswith(_CLIENT_TOOLS):
        return "client_tool"
    # Ollama searches the web itself; no engine has any other of Anthropic's own tools.
    return "web_search" if kind.startswith("web_search_") else "server_tool"


def _other_features(request: Mapping[str, Any]) -> Iterator[str]:
    if request.get("stop_sequences"):
        yield "stop_sequences"
    thinking, output = request.get("thinking"), request.get("output_config")
    if isinstance(thinking, dict) and thinking.get("type") in ("disabled", "between_tools"):
        yield "thinking_off"
    output = output if isinstance(output, dict) else {}
    if output.get("format") or request.get("output_format"):
        yield "structured_output"
    if output.get("effort"):
        yield "effort"
