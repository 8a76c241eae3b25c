"""Content blocks to OpenAI message parts.

A part is one of OpenAI's: `text`, `image_url`, `file`. Where all parts are text they become one string, since many
chat templates take nothing else.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from llama_stack_messages_provider.api.errors import InvalidRequestError
from llama_stack_messages_provider.translate.documents import (
    document_text,
    search_result_text,
    server_tool_text,
    tagged,
)
from llama_stack_messages_provider.translate.losses import Losses

__all__ = ["Part", "joined", "to_parts", "tool_result_parts"]

Part = dict[str, Any]
Block = Mapping[str, Any]
Place = Literal["user", "assistant", "system", "prompt", "result"]

_BETWEEN = "\n\n"
_UNSEEN = "[There is an image here, which you cannot see.]"


class _Context:
    __slots__ = ("files", "images", "losses", "place")

    def __init__(self, losses: Losses, place: Place, *, files: bool, images: bool) -> None:
        self.losses = losses
        self.place = place
        self.files = files
        self.images = images


def to_parts(
    content: str | Iterable[Block],
    path: str,
    losses: Losses,
    *,
    place: Place = "user",
    files: bool = False,
    images: bool = True,
    offset: int = 0,
) -> list[Part]:
    """The parts of a turn, of the system prompt, or of a tool result.

    Args:
        content: A string or blocks.
        path: Where the content stands in the request, for errors and losses.
        losses: Takes what cannot be carried.
        place: Whose content it is: a turn's by its role, the system `prompt`'s, or a tool `result`'s. OpenAI's API
            takes more than text from users only.
        files: Whether the upstream takes `file` parts.
        images: Whether the model takes images.
        offset: Where the first of these blocks stands in its content.

    Raises:
        InvalidRequestError: A block that nothing can be made of, with its path.
    """
    if isinstance(content, str):
        return [_text(content)] if content else []
    context = _Context(losses, place, files=files and place in _WITH_MEDIA, images=images)
    parts: list[Part] = []
    for index, block in enumerate(content, offset):
        parts += _block_parts(block, f"{path}.{index}", context)
    return parts


def joined(parts: list[Part]) -> str | list[Part]:
    """One string where all parts are text, else the parts."""
    if all(part["type"] == "text" for part in parts):
        return _BETWEEN.join(part["text"] for part in parts)
    return parts


def tool_result_parts(
    block: Block, path: str, losses: Losses, *, files: bool = False, images: bool = True
) -> list[Part]:
    """The parts of a `tool_result`; an absent content is an empty result."""
    content = block.get("content") or ""
    return to_parts(content, f"{path}.content", losses, place="result", files=files, images=images)


def _block_parts(block: Block, path: str, context: _Context) -> list[Part]:
    # Blocks are validated only where Anthropic's API has them; elsewhere their shape is anybody's guess.
    translate = _BLOCKS.get(context.place, _TURN_BLOCKS).get(block["type"])
    if translate is None:
        context.losses.drop(path, f"{block['type']} blocks are not understood here")
        return []
    return translate(block, path, context)


def _text(text: str) -> Part:
    return {"type": "text", "text": text}


def _text_block(block: Block, path: str, context: _Context) -> list[Part]:
    return [_text(block["text"])] if block["text"] else []


def _image(block: Block, path: str, context: _Context) -> list[Part]:
    source = block["source"]
    if context.place not in _WITH_MEDIA:
        context.losses.drop(path, "the inference API takes images from users and tools only")
        return []
    if not context.images:
        context.losses.drop(path, "the model takes no images")
        return [_text(_UNSEEN)]
    if source["type"] == "base64":
        url = f"data:{source['media_type']};base64,{source['data']}"
    elif source["type"] == "url":
        url = source["url"]
    else:
        return _without_source(source, path, "image", context)
    return [{"type": "image_url", "image_url": {"url": url}}]


def _document(block: Block, path: str, context: _Context) -> list[Part]:
    source = block["source"]
    _check_citations(block, path, context)
    if source["type"] == "base64" and context.files:
        data = f"data:{source['media_type']};base64,{source['data']}"
        return [{"type": "file", "file": {"filename": block.get("title") or "document.pdf", "file_data": data}}]
    if source["type"] == "content" and not isinstance(source["content"], str):
        pictures = _pictures(source["content"], f"{path}.source.content", context)
        return [_text(document_text(block, path, context.losses)), *pictures]
    if source["type"] in {"text", "base64", "content"}:
        return [_text(document_text(block, path, context.losses))]
    if source["type"] == "url":
        raise InvalidRequestError(f"{path}.source: this server does not fetch documents (translation.fetch_urls)")
    return _without_source(source, path, "document", context)


def _pictures(content: Iterable[Block], path: str, context: _Context) -> list[Part]:
    """What is not text in a document's content."""
    parts: list[Part] = []
    for index, block in enumerate(content):
        if block["type"] == "image":
            parts += _image(block, f"{path}.{index}", context)
        elif block["type"] != "text":
            context.losses.drop(f"{path}.{index}", f"{block['type']} blocks are not understood here")
    return parts


def _without_source(source: Block, path: str, what: str, context: _Context) -> list[Part]:
    if source["type"] == "file":
        raise InvalidRequestError(f"{path}.source: this server has no files to take the {what} from")
    context.losses.drop(path, f"{source['type']} sources are not known")
    return []


def _check_citations(block: Block, path: str, context: _Context) -> None:
    if (block.get("citations") or {}).get("enabled"):
        context.losses.drop(f"{path}.citations", "models that are translated to do not cite")


def _search_result(block: Block, path: str, context: _Context) -> list[Part]:
    _check_citations(block, path, context)
    return [_text(search_result_text(block))]


def _tool_reference(block: Block, path: str, context: _Context) -> list[Part]:
    return [_text(f"The tool {block['tool_name']} is available now.")]


def _browser_state(block: Block, path: str, context: _Context) -> list[Part]:
    tabs = "\n".join(f"{tab['tab_id']}: {tab['title']} ({tab['url']})" for tab in block["tabs"])
    return [_text(tagged("browser_state", tabs))]


def _compaction(block: Block, path: str, context: _Context) -> list[Part]:
    if content := block.get("content"):
        return [_text(tagged("summary", content))]
    context.losses.drop(path, "the summary is encrypted")
    return []


def _tool_change(block: Block, path: str, context: _Context) -> list[Part]:
    tool = block["tool"]
    definition = tool["definition"] if tool["type"] == "tool_definition" else {}
    name = tool.get("name") or definition.get("name") or definition.get("type") or tool.get("server_name")
    state = "available now" if block["type"] == "tool_addition" else "no longer available"
    return [_text(f"The tool {name} is {state}.")]


def _server_tool(block: Block, path: str, context: _Context) -> list[Part]:
    return [_text(server_tool_text(block, path, context.losses))]


def _nothing(block: Block, path: str, context: _Context) -> list[Part]:
    return []


def _container_upload(block: Block, path: str, context: _Context) -> list[Part]:
    context.losses.drop(path, "there is no container to upload to")
    return []


_WITH_MEDIA = frozenset({"user", "result"})

_Translate = Callable[[Block, str, _Context], list[Part]]

_TURN_BLOCKS: dict[str, _Translate] = {
    "text": _text_block,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
    "container_upload": _container_upload,
    "compaction": _compaction,
    "tool_addition": _tool_change,
    "tool_removal": _tool_change,
    # Made by servers that run tools themselves; here they are history to be read.
    "server_tool_use": _server_tool,
    "web_search_tool_result": _server_tool,
    "web_fetch_tool_result": _server_tool,
    "code_execution_tool_result": _server_tool,
    "bash_code_execution_tool_result": _server_tool,
    "text_editor_code_execution_tool_result": _server_tool,
    "tool_search_tool_result": _server_tool,
    "advisor_tool_result": _server_tool,
    "mcp_tool_use": _server_tool,
    "mcp_tool_result": _server_tool,
    # Nothing to read in them: meant for the server that wrote them.
    "redacted_thinking": _nothing,
    "thinking": _nothing,
    "fallback": _nothing,
    "mcp_tool_listing": _nothing,
}
_BLOCKS: dict[Place, dict[str, _Translate]] = {
    "prompt": {"text": _text_block},
    "result": {
        "text": _text_block,
        "image": _image,
        "document": _document,
        "search_result": _search_result,
        "tool_reference": _tool_reference,
        "browser_state": _browser_state,
    },
}
