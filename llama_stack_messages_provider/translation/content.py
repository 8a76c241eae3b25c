"""Content blocks to OpenAI message parts.

A part is one of OpenAI's: `text`, `image_url`, `file`. Where all parts are text they become one string, since many
chat templates take nothing else.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.rewriting.documents import (
    document_text,
    search_result_text,
    server_tool_text,
    tagged,
)
from llama_stack_messages_provider.translation.tools import can_be_called

__all__ = ["Part", "Place", "joined", "to_parts"]

Part = dict[str, Any]
Block = Mapping[str, Any]
Place = Literal["user", "assistant", "system", "prompt", "result"]

_BETWEEN = "\n\n"
_UNSEEN = "[There is an image here, which you cannot see.]"


@dataclass(frozen=True, slots=True)
class _Context:
    losses: DroppedFields
    place: Place
    files: bool
    images: bool
    sent: Callable[[str], str]


def _as_it_is(name: str) -> str:
    return name


def to_parts(
    content: str | Iterable[Block],
    path: str,
    losses: DroppedFields,
    *,
    place: Place = "user",
    files: bool = False,
    images: bool = True,
    sent: Callable[[str], str] = _as_it_is,
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
        sent: Gives the name by which the model knows a tool.
        offset: Where the first of these blocks stands in its content.

    Raises:
        InvalidRequestError: A block that nothing can be made of, with its path.
    """
    if isinstance(content, str):
        return [_text(content)] if content else []
    context = _Context(losses, place, files and place in _WITH_MEDIA, images, sent)
    parts: list[Part] = []
    for index, block in enumerate(content, offset):
        parts += _block_parts(block, f"{path}.{index}", context)
    return parts


def joined(parts: list[Part]) -> str | list[Part]:
    """One string where all parts are text, else the parts."""
    if all(part["type"] == "text" for part in parts):
        return _BETWEEN.join(part["text"] for part in parts)
    return parts


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
        return _file(block)
    if source["type"] == "content" and not isinstance(source["content"], str):
        pictures = _pictures(source["content"], f"{path}.source.content", context)
        return [_text(document_text(block, path, context.losses)), *pictures]
    if source["type"] == "base64":
        raise InvalidRequestError(f"{path}.source.data: the PDF could not be read")
    if source["type"] in {"text", "content"}:
        return [_text(document_text(block, path, context.losses))]
    if source["type"] == "url":
        raise InvalidRequestError(f"{path}.source: this server does not fetch documents (translation.fetch_urls)")
    return _without_source(source, path, "document", context)


def _file(block: Block) -> list[Part]:
    source, title = block["source"], block.get("title") or "document"
    name = title if title.lower().endswith(".pdf") else f"{title}.pdf"
    file = {"filename": name, "file_data": f"data:{source['media_type']};base64,{source['data']}"}
    context = [_text(tagged("context", text, title=block.get("title")))] if (text := block.get("context")) else []
    return [*context, {"type": "file", "file": file}]


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
    return [_text(_available(block["tool_name"], context))]


def _available(name: str, context: _Context) -> str:
    return f"The tool {context.sent(name)} is available now."


def _browser_state(block: Block, path: str, context: _Context) -> list[Part]:
    downloads = filter(None, map(_download, block.get("state_changes") or ()))
    return [_text(tagged("browser_state", "\n".join([*map(_tab, block["tabs"]), *downloads])))]


def _tab(tab: Block) -> str:
    return f"{tab['tab_id']}: {tab['title']} ({tab['url']})" + (", active" if tab.get("active") else "")


def _download(change: Block) -> str:
    """What became of a download; a tab that was opened is in the list of tabs."""
    state = {"download_started": "started", "download_completed": "completed", "download_failed": "failed"}
    if (kind := change["type"]) not in state:
        return ""
    more = change.get("path") or change.get("error")
    return f"Download of {change['url']} {state[kind]}" + (f": {more}" if more else "")


def _compaction(block: Block, path: str, context: _Context) -> list[Part]:
    if content := block.get("content"):
        return [_text(tagged("summary", content))]
    context.losses.drop(path, "the summary is encrypted")
    return []


def _tool_change(block: Block, path: str, context: _Context) -> list[Part]:
    tool = block["tool"]
    definition = tool["definition"] if tool["type"] == "tool_definition" else {}
    name = str(tool.get("name") or definition.get("name") or definition.get("type") or tool.get("server_name"))
    if block["type"] == "tool_removal":
        return [_text(f"The tool {context.sent(name)} is no longer available.")]
    if tool["type"].startswith("mcp_"):
        context.losses.drop(path, "nothing here calls MCP servers")
        return []
    if definition and not can_be_called(definition):  # named where tools are looked at
        return []
    return [_text(_available(name, context))]


def _server_tool(block: Block, path: str, context: _Context) -> list[Part]:
    return [_text(server_tool_text(block, path, context.losses))]


def _tool_search(block: Block, path: str, context: _Context) -> list[Part]:
    if block["content"]["type"] != "tool_search_tool_search_result":
        return _server_tool(block, path, context)
    names = "\n".join(_available(each["tool_name"], context) for each in block["content"]["tool_references"])
    return [_text(tagged("server_tool_result", names, type=block["type"]))]


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
    "tool_search_tool_result": _tool_search,
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
