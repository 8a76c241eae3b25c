"""Citations, as requests carry them back.

Source: https://platform.claude.com/docs/en/build-with-claude/citations
"""

from typing import Annotated, Literal

from pydantic import Field

from llama_stack_messages_provider.wire.base import (
    ByField,
    ExpectedOrNull,
    Omittable,
    UnknownType,
    WireModel,
    published,
)

__all__ = [
    "CitationCharLocationParam",
    "CitationContentBlockLocationParam",
    "CitationPageLocationParam",
    "CitationSearchResultLocationParam",
    "CitationWebSearchResultLocationParam",
    "CitationsConfigParam",
    "TextCitationParam",
]


Index = Annotated[int, Field(ge=0)]


class CitationsConfigParam(WireModel):
    enabled: Omittable[bool] = None
    """Whether the model is asked to cite this source."""


class _DocumentLocation(WireModel):
    cited_text: str
    document_index: Index
    """Counts the documents of the whole request from 0."""
    document_title: ExpectedOrNull[Annotated[str, published(minLength=1, maxLength=255)]] = None
    file_id: str | None = None


class CitationCharLocationParam(_DocumentLocation):
    type: Literal["char_location"]
    start_char_index: Index
    end_char_index: int
    """Exclusive."""


class CitationPageLocationParam(_DocumentLocation):
    type: Literal["page_location"]
    start_page_number: Annotated[int, published(minimum=1)]
    """Counts from 1."""
    end_page_number: int
    """Exclusive."""


class CitationContentBlockLocationParam(_DocumentLocation):
    type: Literal["content_block_location"]
    start_block_index: Index
    end_block_index: int
    """Exclusive."""


class CitationWebSearchResultLocationParam(WireModel):
    type: Literal["web_search_result_location"]
    cited_text: str
    encrypted_index: str
    title: ExpectedOrNull[Annotated[str, published(minLength=1, maxLength=512)]] = None
    url: Annotated[str, published(minLength=1, maxLength=2048)]


class CitationSearchResultLocationParam(WireModel):
    type: Literal["search_result_location"]
    cited_text: str
    search_result_index: Index
    """Counts the `search_result` blocks of the whole request from 0."""
    source: str
    start_block_index: Index
    end_block_index: int
    """Exclusive."""
    title: ExpectedOrNull[str] = None


TextCitationParam = Annotated[
    CitationCharLocationParam
    | CitationPageLocationParam
    | CitationContentBlockLocationParam
    | CitationWebSearchResultLocationParam
    | CitationSearchResultLocationParam
    | UnknownType,
    ByField(),
]
