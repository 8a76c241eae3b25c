"""What a request needs of a native endpoint, in the words of the engines' profiles."""

from collections.abc import Iterator, Mapping
from typing import Any

from llama_stack_messages_provider.api_support import native_need

__all__ = ["features_of"]

_HISTORY = "server_tool_history"


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
    if not isinstance(kind, str):
        return
    if kind == "image":
        yield "image"
        source = block.get("source")
        if isinstance(source, dict) and source.get("type") == "url":
            yield "image_url"
    elif kind == "tool_result":
        if block.get("is_error"):
            yield "is_error"
        yield from _block_features([block])
    elif kind == "compaction" and block.get("tool_changes"):
        yield from ("unknown_block", "tool_change", "system_turn")
    # A block of a newer server tool is history as theirs are.
    elif need := native_need("block", kind, _HISTORY if kind.endswith("_tool_result") else "unknown_block"):
        yield need


def _tool_features(request: Mapping[str, Any]) -> Iterator[str]:
    tools = request.get("tools")
    tools = tools if isinstance(tools, list) else []
    yield from filter(None, map(_kind_of_tool, tools))
    if any(isinstance(tool, dict) and tool.get("defer_loading") is True for tool in tools):
        yield "deferred_tool"
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
    # Ollama searches the web itself; no engine has any other of Anthropic's own tools.
    return native_need("tool", kind, "web_search" if kind.startswith("web_search_") else "server_tool")


def _other_features(request: Mapping[str, Any]) -> Iterator[str]:
    if request.get("stop_sequences"):
        yield "stop_sequences"
    if _is_prefilled(request.get("messages")):
        yield "prefill"
    thinking, output = request.get("thinking"), request.get("output_config")
    if isinstance(thinking, dict) and thinking.get("type") in ("disabled", "between_tools"):
        yield "thinking_off"
    output = output if isinstance(output, dict) else {}
    if output.get("format") or request.get("output_format"):
        yield "structured_output"
    if output.get("effort"):
        yield "effort"


def _is_prefilled(messages: Any) -> bool:
    """Whether the last turn is one of the assistant's that goes on: its text, and no call."""
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, dict) or last.get("role") != "assistant":
        return False
    content = last.get("content")
    if isinstance(content, list):
        return bool(content) and isinstance(content[-1], dict) and content[-1].get("type") == "text"
    return isinstance(content, str) and bool(content)
