"""Requests in few words, and their translation. Every request is one that the API accepts."""

from typing import Any

from llama_stack_messages_provider.engines import ENGINES
from llama_stack_messages_provider.translation.request import Translation, TranslationOptions, to_chat_completion
from llama_stack_messages_provider.wire.request import CreateMessageRequest

__all__ = [
    "assistant",
    "image",
    "messages_of",
    "system",
    "text",
    "tool",
    "tool_result",
    "tool_use",
    "translated",
    "user",
]

type Json = dict[str, Any]

PNG = "iVBORw0KGgo="


def user(*content: Any) -> Json:
    """A user turn: one string, or blocks."""
    return _turn("user", content)


def assistant(*content: Any) -> Json:
    """An assistant turn: one string, or blocks."""
    return _turn("assistant", content)


def system(*content: Any, **fields: Any) -> Json:
    """A system turn in mid-conversation: one string, or blocks."""
    return {**_turn("system", content), **fields}


def _turn(role: str, content: tuple[Any, ...]) -> Json:
    only = content[0] if len(content) == 1 else None
    return {"role": role, "content": only if isinstance(only, str) else list(content)}


def text(words: str, **fields: Any) -> Json:
    """A `text` block."""
    return {"type": "text", "text": words, **fields}


def image(**source: Any) -> Json:
    """An `image` block, of a tiny PNG if no source is given."""
    return {"type": "image", "source": source or {"type": "base64", "media_type": "image/png", "data": PNG}}


def tool_use(id: str, name: str = "look", **input: Any) -> Json:
    """A `tool_use` block."""
    return {"type": "tool_use", "id": id, "name": name, "input": input}


def tool_result(id: str, content: Any = None, **fields: Any) -> Json:
    """A `tool_result` block, without content if none is given."""
    given = {} if content is None else {"content": content}
    return {"type": "tool_result", "tool_use_id": id, **given, **fields}


def tool(name: str = "look", **fields: Any) -> Json:
    """A tool of the client's own."""
    return {"name": name, "input_schema": {"type": "object", "properties": {}}, **fields}


def translated(*messages: Json, dialect: str = "unknown", options: Json | None = None, **fields: Any) -> Translation:
    """The translation of a request that the API accepts."""
    request = {"model": "claude-x", "max_tokens": 64, "messages": list(messages) or [user("Hi")], **fields}
    CreateMessageRequest.model_validate(request)
    return to_chat_completion(
        request, model="m", dialect=ENGINES[dialect].chat, options=TranslationOptions(**options or {})
    )


def messages_of(*messages: Json, **fields: Any) -> list[Json]:
    """The messages that reach the upstream."""
    found: list[Json] = translated(*messages, **fields).params["messages"]
    return found
