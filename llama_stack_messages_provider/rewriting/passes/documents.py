"""Documents as text with a title, their context and page markers."""

from collections.abc import Iterator
from typing import Any

from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.rewriting.documents import document_text, search_result_text
from llama_stack_messages_provider.rewriting.draft import Block, Draft, Place, text_block

FEATURES = frozenset({"document", "search_result"})
ORDER = 60

_WITH_FILES = frozenset({"user", "result"})


def rewrite(draft: Draft) -> None:
    """Documents and search results of turns and of tool results.

    Raises:
        InvalidRequestError: A document is not in the request, and cannot be had here.
    """

    def document(block: Block, path: str, place: Place) -> list[tuple[str, Block]] | None:
        _check_citations(draft, block, path)
        if block["source"]["type"] == "base64" and draft.options.files and place in _WITH_FILES:
            return None
        return [*_read(draft, block, path)]

    def search_result(block: Block, path: str, place: Place) -> list[tuple[str, Block]]:
        _check_citations(draft, block, path)
        return [(path, text_block(search_result_text(block)))]

    changes = {"document": document, "search_result": search_result}
    draft.change_everywhere({kind: changes[kind] for kind in changes if kind in draft.lacks})


def _check_citations(draft: Draft, block: Block, path: str) -> None:
    if (block.get("citations") or {}).get("enabled"):
        draft.dropped.drop(f"{path}.citations", "models that are translated to do not cite")


def _read(draft: Draft, block: Block, path: str) -> Iterator[tuple[str, Block]]:
    source: Any = block["source"]
    kind = source["type"]
    if kind in {"text", "content"}:
        yield path, text_block(document_text(block, path, draft.dropped))
        if kind == "content" and not isinstance(source["content"], str):
            yield from _not_text(draft, source["content"], f"{path}.source.content")
    elif kind == "base64":
        raise InvalidRequestError(f"{path}.source.data: the PDF could not be read")
    elif kind == "url":
        raise InvalidRequestError(f"{path}.source: this server does not fetch documents (translation.fetch_urls)")
    elif kind == "file":
        raise InvalidRequestError(f"{path}.source: this server has no files to take the document from")
    else:
        draft.dropped.drop(path, f"{kind} sources are not known")


def _not_text(draft: Draft, content: Any, path: str) -> Iterator[tuple[str, Block]]:
    for index, block in enumerate(content):
        if block["type"] == "image":
            yield f"{path}.{index}", block
        elif block["type"] != "text":
            draft.dropped.drop(f"{path}.{index}", f"{block['type']} blocks are not understood here")
