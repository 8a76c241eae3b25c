"""Images where they cannot be: of models that see none, of turns that may have none, and from sources nobody has."""

from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.rewriting.documents import tagged
from llama_stack_messages_provider.rewriting.draft import Block, Draft, Place, text_block
from llama_stack_messages_provider.rewriting.image_refs import digest_of

FEATURES = frozenset({"image", "image_elsewhere"})
ORDER = 80

_UNSEEN = "[There is an image here, which you cannot see.]"
_DESCRIBED = "[There is an image here, which you cannot see. Another model has described it.]"
_SOURCES = frozenset({"base64", "url"})
_TAKE_IMAGES = frozenset({"user", "result"})


def rewrite(draft: Draft) -> None:
    """A word for each image of a model that takes none; others are left out where they cannot be.

    Raises:
        InvalidRequestError: An image is not in the request, and cannot be had here.
    """

    def change(block: Block, path: str, place: Place) -> list[tuple[str, Block]] | None:
        if place not in _TAKE_IMAGES:
            draft.dropped.drop(path, "the inference API takes images from users and tools only")
            return []
        if "image" in draft.lacks:
            return [(path, text_block(_instead(draft, block, path)))]
        kind = block["source"]["type"]
        if kind == "file":
            raise InvalidRequestError(f"{path}.source: this server has no files to take the image from")
        if kind not in _SOURCES:
            draft.dropped.drop(path, f"{kind} sources are not known")
            return []
        return None

    draft.change_everywhere({"image": change})


def _instead(draft: Draft, block: Block, path: str) -> str:
    """What a model reads that cannot see an image."""
    known = draft.options.descriptions
    described = known.get(digest_of(block["source"]) or "") if known else None
    if described is None:
        draft.dropped.drop(path, "the model takes no images")
        return _UNSEEN
    draft.dropped.drop(f"{path} (described)", "the model takes no images")
    return f"{_DESCRIBED}\n{tagged('image_description', described)}"
