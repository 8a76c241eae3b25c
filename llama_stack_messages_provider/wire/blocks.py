"""Content blocks of requests; the blocks that server tools leave behind are in `server_blocks`.

Source: https://platform.claude.com/docs/en/api/messages and the `anthropic` SDK's `*_block_param` types.
"""

from typing import Annotated, Literal

from llama_stack_messages_provider.wire.base import (
    Array,
    ByField,
    ByShape,
    Expected,
    JsonObject,
    Omittable,
    UnknownType,
    WireModel,
    known,
    published,
)
from llama_stack_messages_provider.wire.citations import CitationsConfigParam, TextCitationParam

__all__ = [
    "IMAGE_MEDIA_TYPES",
    "Base64ImageSource",
    "Base64PDFSource",
    "BrowserStateBlockParam",
    "BrowserStateChangeDownloadCompleted",
    "BrowserStateChangeDownloadFailed",
    "BrowserStateChangeDownloadStarted",
    "BrowserStateChangeTabOpened",
    "BrowserStateTabEntry",
    "CacheControlEphemeral",
    "CachedBlock",
    "Caller",
    "ContentBlockSource",
    "DirectCaller",
    "DocumentBlockParam",
    "FileSource",
    "ImageBlockParam",
    "ImageTransformations",
    "PlainTextSource",
    "RedactedThinkingBlockParam",
    "SearchResultBlockParam",
    "ServerToolCaller",
    "ServerToolCaller20260120",
    "TextBlockParam",
    "ThinkingBlockParam",
    "ToolReferenceBlockParam",
    "ToolResultBlockParam",
    "ToolResultContent",
    "ToolUseBlockParam",
    "URLSource",
    "UnknownBlock",
    "UnknownSource",
]


IMAGE_MEDIA_TYPES = Literal["image/jpeg", "image/png", "image/gif", "image/webp"]


class UnknownBlock(UnknownType):
    """A content block of a type that this version does not know."""


class UnknownSource(UnknownType):
    """An image or document source of a type that this version does not know."""


class CacheControlEphemeral(WireModel):
    """Marks the end of a prompt prefix worth caching; never changes the prompt."""

    type: Annotated[str, published(const="ephemeral")]
    ttl: Omittable[Annotated[str, known("5m", "1h")]] = None
    """How long the prefix is kept."""


class CachedBlock(WireModel):
    cache_control: CacheControlEphemeral | None = None
    """Cache the prompt up to and including this block."""


class TextBlockParam(CachedBlock):
    type: Literal["text"]
    text: Annotated[str, published(minLength=1)]
    citations: Array[TextCitationParam] | None = None


class Base64ImageSource(WireModel):
    type: Literal["base64"]
    media_type: IMAGE_MEDIA_TYPES
    data: Annotated[str, published(format="byte")]


class URLSource(WireModel):
    type: Literal["url"]
    url: str


class FileSource(WireModel):
    """An image or document uploaded through the Files API."""

    type: Literal["file"]
    file_id: str


class ImageTransformations(WireModel):
    oversized_image: Omittable[Annotated[str, known("downsize", "error")]] = None
    """What becomes of an image over the model's size limit."""


class ImageBlockParam(CachedBlock):
    type: Literal["image"]
    source: Annotated[Base64ImageSource | URLSource | FileSource | UnknownSource, ByField()]
    transformations: ImageTransformations | None = None


class Base64PDFSource(WireModel):
    type: Literal["base64"]
    media_type: Literal["application/pdf"]
    data: Annotated[str, published(format="byte")]


class PlainTextSource(WireModel):
    type: Literal["text"]
    media_type: Literal["text/plain"]
    data: str


class ContentBlockSource(WireModel):
    """A document given as text and images."""

    type: Literal["content"]
    content: Annotated[str | Array[Annotated[TextBlockParam | ImageBlockParam | UnknownBlock, ByField()]], ByShape()]


class DocumentBlockParam(CachedBlock):
    type: Literal["document"]
    source: Annotated[
        Base64PDFSource | PlainTextSource | ContentBlockSource | URLSource | FileSource | UnknownSource,
        ByField(),
    ]
    title: Annotated[str, published(minLength=1, maxLength=500)] | None = None
    context: Annotated[str, published(minLength=1)] | None = None
    """What the model should know about the document and never cite."""
    citations: CitationsConfigParam | None = None


class SearchResultBlockParam(CachedBlock):
    """A passage that the client's own search found."""

    type: Literal["search_result"]
    source: str
    title: str
    content: Array[TextBlockParam]
    citations: Omittable[CitationsConfigParam] = None


class ThinkingBlockParam(WireModel):
    """Thinking of an earlier turn, sent back unchanged."""

    type: Literal["thinking"]
    thinking: str
    signature: Expected[str] = None
    """Whatever the server wrote; may be empty, and missing where another server wrote the thinking."""


class RedactedThinkingBlockParam(WireModel):
    type: Literal["redacted_thinking"]
    data: str
    """Opaque."""


class DirectCaller(WireModel):
    """The model itself made the call."""

    type: Literal["direct"]


class ServerToolCaller(WireModel):
    """Code that a server tool ran made the call."""

    type: Literal["code_execution_20250825"]
    tool_id: Annotated[str, published(pattern="^srvtoolu_[a-zA-Z0-9_]+$")]


class ServerToolCaller20260120(WireModel):
    type: Literal["code_execution_20260120"]
    tool_id: Annotated[str, published(pattern="^srvtoolu_[a-zA-Z0-9_]+$")]


Caller = Annotated[DirectCaller | ServerToolCaller | ServerToolCaller20260120 | UnknownType, ByField()]


class ToolUseBlockParam(CachedBlock):
    type: Literal["tool_use"]
    id: Annotated[str, published(pattern="^[a-zA-Z0-9_-]+$")]
    name: Annotated[str, published(minLength=1, maxLength=200)]
    input: JsonObject
    caller: Omittable[Caller] = None
    toolset_name: str | None = None
    """The toolset that a member tool belongs to, such as `browser`."""


class ToolReferenceBlockParam(CachedBlock):
    """Names a deferred tool that a tool search found."""

    type: Literal["tool_reference"]
    tool_name: Annotated[str, published(minLength=1, maxLength=256, pattern="^[a-zA-Z0-9_-]{1,256}$")]


class BrowserStateTabEntry(WireModel):
    tab_id: str
    title: str
    url: str
    active: Omittable[bool] = None


class BrowserStateChangeTabOpened(WireModel):
    type: Literal["tab_opened"]
    tab_id: str


class BrowserStateChangeDownloadStarted(WireModel):
    type: Literal["download_started"]
    download_id: str
    url: str


class BrowserStateChangeDownloadCompleted(WireModel):
    type: Literal["download_completed"]
    download_id: str
    url: str
    path: str | None = None
    size_bytes: int | None = None


class BrowserStateChangeDownloadFailed(WireModel):
    type: Literal["download_failed"]
    download_id: str
    url: str
    error: str | None = None


class BrowserStateBlockParam(CachedBlock):
    """The client's open tabs after a call of a browser tool."""

    type: Literal["browser_state"]
    tabs: Array[BrowserStateTabEntry]
    state_changes: (
        Array[
            Annotated[
                BrowserStateChangeTabOpened
                | BrowserStateChangeDownloadStarted
                | BrowserStateChangeDownloadCompleted
                | BrowserStateChangeDownloadFailed
                | UnknownType,
                ByField(),
            ]
        ]
        | None
    ) = None


ToolResultContent = Annotated[
    TextBlockParam
    | ImageBlockParam
    | SearchResultBlockParam
    | DocumentBlockParam
    | ToolReferenceBlockParam
    | BrowserStateBlockParam
    | UnknownBlock,
    ByField(),
]


class ToolResultBlockParam(CachedBlock):
    type: Literal["tool_result"]
    tool_use_id: Annotated[str, published(pattern="^[a-zA-Z0-9_-]+$")]
    content: Omittable[Annotated[str | Array[ToolResultContent], ByShape()]] = None
    is_error: Omittable[bool] = None
    toolset_name: str | None = None
