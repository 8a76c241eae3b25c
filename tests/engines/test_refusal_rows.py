"""Each row of words reads its own sample, and none of the others' means anything else."""

import pytest

from llama_stack_messages_provider.adaptation.error_bodies import LONGEST
from llama_stack_messages_provider.adaptation.refusals import read_refusal
from llama_stack_messages_provider.engines import ENGINES, Engine, Kind, Words

ROWS = [(engine, row) for engine, row in ENGINES.words()]
LENGTHS = {Kind.ROOM, Kind.PROMPT_TOO_LONG}
each_row = pytest.mark.parametrize(("engine", "row"), ROWS, ids=[f"{e.name}: {r.sample[:50]}" for e, r in ROWS])


@each_row
def test_a_row_reads_its_sample(engine: Engine, row: Words) -> None:
    found = row.compiled.search(row.sample.replace(",", ""))
    assert found is not None or row.compiled.search(row.sample)


@each_row
def test_a_sample_means_what_its_row_says_among_all_rows(engine: Engine, row: Words) -> None:
    read = read_refusal(400, {"error": {"message": row.sample}})

    # Which of the two it is the numbers decide.
    assert read.kind is row.kind or {read.kind, row.kind} <= LENGTHS
    assert read.engine is engine or engine is ENGINES.generic


@pytest.mark.parametrize("text", ["<title>" * 12000, "<" * 80000, "'a' " * 20000, "max_tokens " * 8000, "a.b" * 30000])
def test_a_long_text_is_cut_before_it_is_read(text: str) -> None:
    """An upstream's page of an error, 80 kB of it, was ten seconds of a processor once; it is some milliseconds."""
    for body in (text, text.encode(), {"error": {"message": text, "metadata": {"raw": text}}}, {"detail": [text] * 99}):
        assert len(read_refusal(502, body).words) <= 2 * LONGEST
