"""What is changed in a request that is passed through, and why; everything else travels as it came."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.engines import ENGINES, NativeProfile
from llama_stack_messages_provider.engines.features import features_of
from llama_stack_messages_provider.rewriting import attribution, signatures
from llama_stack_messages_provider.rewriting import encrypted_content as sealed
from llama_stack_messages_provider.rewriting.attribution import without_attribution
from llama_stack_messages_provider.rewriting.call_ids import MARK, plain_call_id
from llama_stack_messages_provider.rewriting.documents import server_tool_text
from llama_stack_messages_provider.rewriting.server_threads import check_thread

__all__ = ["native_body", "with_model"]

_MODEL = re.compile(rb'"model"\s*:\s*(?=")')
_ATTRIBUTION = attribution.MARK.encode()
_CARRYING = MARK.encode()
_SIGNED, _SEALED = f'"{signatures.PREFIX}'.encode(), f'"{sealed.MARK}'.encode()


def native_body(raw: bytes, request: Mapping[str, Any], *, model: str, engine: str, error_marker: str) -> bytes:
    """The body for a native upstream: the client's bytes with the model's name exchanged.

    Rewritten, and then serialised anew, only where the engine needs it: the attribution line of Claude Code, thinking
    signed and searches made here on their way to Anthropic, and `is_error`, which the other engines do not show to
    their models.

    Raises:
        NotFoundError: The request goes on with a thread, and the engine keeps none.
    """
    profile = ENGINES[engine].native
    if not profile.first_party:
        check_thread(request)
    changed = _rewritten(raw, request, profile, error_marker)
    if changed is None:
        return with_model(raw, request, model)
    return orjson.dumps({**changed, "model": model})


def with_model(raw: bytes, request: Mapping[str, Any], model: str) -> bytes:
    """The bytes of a JSON object with its top-level `model` exchanged.

    A key that is `model` but for its letters' case is left out: Go's decoder takes it for the same, so that another
    model would be asked for than the one that the client may use.
    """
    if any(name != "model" and name.lower() == "model" for name in request):
        others = {name: value for name, value in request.items() if name.lower() != "model"}
        return orjson.dumps({**others, "model": model})
    # One occurrence can only be the top-level one: inside a string the quotes would be escaped. A second one may be
    # another top-level key, its letters escaped or not, and upstreams differ on which of two they take.
    alone = raw.count(b'"model"') == 1 and b"\\u006" not in raw
    if alone and request.get("model") == model:
        return raw
    found = _MODEL.search(raw) if alone else None
    given = orjson.dumps(request.get("model"))
    if found and raw.startswith(given, found.end()):  # otherwise its letters are escaped
        return b"".join((raw[: found.end()], orjson.dumps(model), raw[found.end() + len(given) :]))
    return orjson.dumps({**request, "model": model})


def _rewritten(
    raw: bytes, request: Mapping[str, Any], profile: NativeProfile, error_marker: str
) -> dict[str, Any] | None:
    changed: dict[str, Any] | None = None
    if profile.first_party:
        if _SIGNED in raw:
            changed = _without_our_thinking(request)
        if _SEALED in raw:
            changed = _with_blocks(changed or request, _searches_told)
        if _CARRYING in raw:
            changed = _with_blocks(changed or request, lambda blocks: [*map(_with_plain_id, blocks)])
        return changed
    if _ATTRIBUTION in raw and (system := without_attribution(request.get("system"))) is not request.get("system"):
        changed = {**request, "system": system}
    if profile.ignores_is_error and b'"is_error"' in raw and "is_error" in features_of(request):
        changed = _with_blocks(changed or request, lambda blocks: _marked(blocks, error_marker))
    return changed


# A native request is its upstream's to judge: what has not the documented shape is left as it is.


def _with_blocks(request: Mapping[str, Any], change: Callable[[list[Any]], list[Any]]) -> dict[str, Any]:
    """A request with the blocks of each message changed."""
    messages = request.get("messages")
    if not isinstance(messages, list):
        return dict(request)
    return {**request, "messages": [_with_content(message, change) for message in messages]}


def _with_content(message: Any, change: Callable[[list[Any]], list[Any]]) -> Any:
    content = message.get("content") if isinstance(message, dict) else None
    return {**message, "content": change(content)} if isinstance(content, list) else message


def _without_our_thinking(request: Mapping[str, Any]) -> dict[str, Any]:
    changed = _with_blocks(request, _foreign_only)
    if isinstance(messages := changed.get("messages"), list):  # a turn of nothing else is refused when it is empty
        pairs = zip(messages, request["messages"], strict=True)
        changed["messages"] = [new for new, old in pairs if not _emptied(new, old)]
        if _lost_its_thinking(request) and _is(request.get("thinking"), "enabled"):
            # Anthropic wants a call made in thinking mode to begin with the thinking, which was not its own.
            changed["thinking"] = {"type": "disabled"}
    return changed


def _lost_its_thinking(request: Mapping[str, Any]) -> bool:
    """Whether the last turn answers calls that were made after thinking of ours, and of nobody else."""
    contents = [turn["content"] for turn in request["messages"][-2:] if _has_blocks(turn)]
    if len(contents) < 2 or not any(_is(block, "tool_result") for block in contents[1]):
        return False
    kept = _foreign_only(contents[0])
    thinks = bool(kept) and (_is(kept[0], "thinking") or _is(kept[0], "redacted_thinking"))
    return kept != contents[0] and not thinks


def _has_blocks(turn: Any) -> bool:
    return isinstance(turn, dict) and isinstance(turn.get("content"), list)


def _emptied(new: Any, old: Any) -> bool:
    return isinstance(new, dict) and new.get("content") == [] and old["content"] != []


def _foreign_only(blocks: list[Any]) -> list[Any]:
    return [block for block in blocks if not _is_our_thinking(block)]


def _is_our_thinking(block: Any) -> bool:
    name = "signature" if _is(block, "thinking") else "data" if _is(block, "redacted_thinking") else None
    return name is not None and signatures.is_ours(block.get(name))


def _with_plain_id(block: Any) -> Any:
    """A call or a result whose id carries nothing: what another engine wanted back is not for Anthropic."""
    name = "id" if _is(block, "tool_use") else "tool_use_id" if _is(block, "tool_result") else None
    given = block.get(name) if name else None
    return {**block, name: plain_call_id(given)} if isinstance(given, str) and MARK in given else block


def _searches_told(blocks: list[Any]) -> list[Any]:
    """The blocks with what was found here as text: Anthropic takes no `encrypted_content` but its own."""
    results = [block for block in blocks if _is_our_result(block)]
    try:
        ids = {result.get("tool_use_id") for result in results}
        ours = [block for block in blocks if _is(block, "server_tool_use") and block.get("id") in ids]
        told = {id(block): _told(block) for block in [*results, *ours]}
    except (KeyError, TypeError, AttributeError):  # not the documented shape
        return blocks
    return [told.get(id(block), block) for block in blocks]


def _is_our_result(block: Any) -> bool:
    pages = block.get("content") if _is(block, "web_search_tool_result") else None
    pages = pages if isinstance(pages, list) else ()
    return any(isinstance(page, dict) and sealed.is_sealed(page.get("encrypted_content")) for page in pages)


def _told(block: dict[str, Any]) -> dict[str, Any]:
    mark = {"cache_control": block["cache_control"]} if "cache_control" in block else {}
    return {"type": "text", "text": server_tool_text(block, "", DroppedFields()), **mark}


def _is(block: Any, kind: str) -> bool:
    return isinstance(block, dict) and block.get("type") == kind


def _marked(blocks: list[Any], marker: str) -> list[Any]:
    return [_marked_result(block, marker) if _is(block, "tool_result") else block for block in blocks]


def _marked_result(block: dict[str, Any], marker: str) -> dict[str, Any]:
    content = block.get("content") or ""
    if block.get("is_error") is not True:
        return block
    if isinstance(content, str):
        return {**block, "content": marker + content}
    if isinstance(content, list):
        return {**block, "content": [{"type": "text", "text": marker.rstrip()}, *content]}
    return block
