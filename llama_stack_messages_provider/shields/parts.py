"""Long texts in parts that a shield can be given."""

__all__ = ["parts_of"]


def parts_of(text: str, characters: int, overlap: int, known: int = 0) -> list[str]:
    """What of a text is to be judged, in parts; every stretch of `overlap` characters is whole in one of them.

    The last part reaches as far back as it may, since what stands before tells more of what follows.

    Args:
        text: The text.
        characters: The longest part: at least twice the overlap.
        overlap: What two parts have in common.
        known: Characters at the beginning that were judged before.
    """
    if known >= len(text):
        return []
    parts, end, needed = [], len(text), max(0, known - overlap)
    while True:
        start = max(0, end - characters)
        parts.append(text[start:end])
        if start <= needed:
            return parts[::-1]
        end = start + overlap
