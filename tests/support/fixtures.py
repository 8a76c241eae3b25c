"""The streams in `tests/fixtures`; each folder's README says what is odd about each.

```
@pytest.mark.parametrize("name", chunk_names())          chunks(name)  chunk_bytes(name)
@pytest.mark.parametrize("name", sse_names("vllm"))      sse_bytes(name)  sse_is_sound(name)
```
"""

from pathlib import Path

import orjson

from tests.support.wire import Json, encode_chunks

__all__ = ["chunk_bytes", "chunk_names", "chunks", "sse_bytes", "sse_is_sound", "sse_names"]

FOLDER = Path(__file__).parents[1] / "fixtures"


def chunk_names(prefix: str = "") -> list[str]:
    """The recorded OpenAI streams; those that begin with `error_` end in an error."""
    return sorted(path.stem for path in (FOLDER / "chunks").glob(f"{prefix}*.jsonl"))


def _lines(name: str) -> list[str]:
    # Not splitlines(): a chunk may contain U+2028.
    return (FOLDER / "chunks" / f"{name}.jsonl").read_text().removesuffix("\n").split("\n")


def chunks(name: str) -> list[Json]:
    """The chunks of one stream, comments left out."""
    return [orjson.loads(line) for line in _lines(name) if not line.startswith(":")]


def chunk_bytes(name: str, *, done: bool = True) -> list[bytes]:
    """The SSE bytes of one stream, an element for each chunk or comment."""
    parts = [f"{line}\n\n".encode() if line.startswith(":") else orjson.loads(line) for line in _lines(name)]
    return encode_chunks(parts, done=done)


def sse_names(prefix: str = "") -> list[str]:
    """The recorded Anthropic streams, by engine: `llama_cpp`, `vllm`, `sglang`, `ollama`, `anthropic`, `broken`."""
    return sorted(path.stem for path in (FOLDER / "sse").glob(f"{prefix}*.txt"))


def sse_bytes(name: str) -> bytes:
    """The body of one stream."""
    return (FOLDER / "sse" / f"{name}.txt").read_bytes()


def sse_table() -> dict[str, list[str]]:
    """The README's table: name to its other columns."""
    rows = (line for line in (FOLDER / "sse" / "README.md").read_text().splitlines() if line.startswith("| `"))
    cells = ([cell.strip() for cell in row.strip("|").split("|")] for row in rows)
    return {name.strip("`"): rest for name, *rest in cells}


def sse_is_sound(name: str) -> bool:
    """Whether the laws accept the stream as it is."""
    return sse_table()[name][1] == "yes"
