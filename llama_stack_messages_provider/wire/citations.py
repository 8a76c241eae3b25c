"""Citations, as requests carry them back and as responses write them.

Source: https://platform.claude.com/docs/en/build-with-claude/citations
"""

from typing import Annotated, Literal

from pydantic import Field

from llama_stack_messages_provider.wire.base import (
    ByField,
    ExpectedOrNull,
    Omittable,
    ResponseModel,
    UnknownType,
    WireModel,
    published,
)

__all__ = [
    "CitationCharLocation",
    "CitationCharLocationParam",
    "CitationContentBlockLocation",
    "CitationContentBlockLocationParam",
    "CitationPageLocation",
    "CitationPageLocationParam",
    "CitationSearchResultLocationParam",
    "CitationWebSearchResultLocationParam",
    "CitationsConfig",
    "CitationsConfigParam",
    "CitationsSearchResultLocation",
    "CitationsWebSearchResultLocation",
    "TextCitation",
    "TextCitationParam",
]


Index = Annotated[int, Field(ge=0)]


class CitationsConfigParam(WireModel):
    enabled: Omittable[bool] = None
    """Whether the model is asked to cite this source."""


class CitationsConfig(ResponseModel):
    enabled: bool = False


class CitationCharLocationParam(WireModel):
    type: Literal["char_location"]
    cited_text: str
    document_index: Index
    """Counts the documents of the whole request from 0."""
    document_title: ExpectedOrNull[Annotated[str, published(minLength=1, maxLength=255)]] = None
    start_char_index: Index
    end_char_index: int
    """Exclusive."""
    file_id: str | None = None


class CitationPageLocationParam(WireModel):
    type: Literal["page_location"]
    cited_text: str
    document_index: Index
    document_title: ExpectedOrNull[Annotated[str, published(minLength=1, maxLength=255)]] = None
    start_page_number: Annotated[int, published(minimum=1)]
    """Counts from 1."""
    end_page_number: int
    """Exclusive."""
    file_id: str | None = None


class CitationContentBlockLocationParam(WireModel):
    type: Literal["content_block_location"]
    cited_text: str
    document_index: Index
    document_title: ExpectedOrNull[Annotated[str, published(minLength=1, maxLength=255)]] = None
    start_block_index: Index
    end_block_index: int
    """Exclusive."""
    file_id: str | None = None


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


class CitationCharLocation(CitationCharLocationParam, ResponseModel):
    type: Literal["char_location"] = "char_location"
    document_title: str | None = None


class CitationPageLocation(CitationPageLocationParam, ResponseModel):
    type: Literal["page_location"] = "page_location"
    document_title: str | None = None


class CitationContentBlockLocation(CitationContentBlockLocationParam, ResponseModel):
    type: Literal["content_block_location"] = "content_block_location"
    document_title: str | None = None


class CitationsWebSearchResultLocation(CitationWebSearchResultLocationParam, ResponseModel):
    type: Literal["web_search_result_location"] = "web_search_result_location"
    title: Annotated[str, published(maxLength=512)] | None = None
    url: str


class CitationsSearchResultLocation(CitationSearchResultLocationParam, ResponseModel):
    type: Literal["search_result_location"] = "search_result_location"
    title: str | None = None


TextCitation = Annotated[
    CitationCharLocation
    | CitationPageLocation
    | CitationContentBlockLocation
    | CitationsWebSearchResultLocation
    | CitationsSearchResultLocation
    | UnknownType,
    ByField(),
]
