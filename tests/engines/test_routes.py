"""The table of routes in docs/routes.md: `python -m tests.engines.test_routes` writes it."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from llama_stack_messages_provider.engines import ENGINES
from llama_stack_messages_provider.engines.features import features_of
from llama_stack_messages_provider.rewriting import SUPPLIED
from tests.fidelity.claude_code import SEARCHES, SHAPES
from tests.support.wire import Json

PAGE = Path(__file__).parents[2] / "docs" / "routes.md"
NAMES = ("vllm", "sglang", "llama.cpp", "ollama")
BEGIN, END = "<!-- begin table -->\n", "<!-- end table -->"


def shapes() -> Mapping[str, Json]:
    searches = {f"{version} web search": body for version, body in SEARCHES.items()}
    return {name: body for name, (_, body) in SHAPES.items()} | searches


def way(name: str, body: Json) -> str:
    """A shape's route before there were passes, and its route now, with what is lacking."""
    lacks = features_of(body) & ENGINES[name].native.gaps.keys()
    kept, rewritten = sorted(lacks - SUPPLIED), sorted(lacks & SUPPLIED)
    if not lacks:
        return "native"
    if kept:
        return f"translation ({', '.join(kept)})"
    return f"translation → **native** ({', '.join(rewritten)})"


def table() -> Iterator[str]:
    yield f"| shape | {' | '.join(NAMES)} |"
    yield "|" + "---|" * (len(NAMES) + 1)
    for shape, body in shapes().items():
        yield f"| {shape} | {' | '.join(way(name, body) for name in NAMES)} |"


def written(page: str) -> str:
    head, rest = page.split(BEGIN)
    _, tail = rest.split(END)
    return head + BEGIN + "\n".join(table()) + "\n" + END + tail


def test_the_page_says_which_way_each_shape_goes() -> None:
    assert PAGE.read_text() == written(PAGE.read_text())


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
