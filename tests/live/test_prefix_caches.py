"""What real llama.cpp servers read from their caches through the stack; the scripts measure the same at length."""

import pytest

from scripts.measure_context import agents
from scripts.measure_pinning import in_turn, measure, pinned, two_servers

pytestmark = pytest.mark.timeout(900)  # some thousand tokens are read, on a machine that may be busy


def test_a_session_as_claude_code_reads_what_it_would_if_it_asked_the_engine() -> None:
    """But for the line that changes each time, which is left out there: at least 95 % of it, on both routes."""
    read = {way: (cached, tokens) for way, cached, tokens in agents(turns=6)}
    direct, _ = read.pop("asked directly")
    assert direct > 2000
    assert set(read) == {"native", "translated"}
    for way, (cached, tokens) in read.items():
        assert cached >= 0.95 * direct, (way, cached, tokens, direct)


@pytest.mark.parametrize("named", [True, False], ids=["in sessions", "without"])
def test_second_turns_are_read_from_the_cache_of_the_replica_that_has_them(named: bool) -> None:
    with two_servers(sessions=2) as http:
        at_home = measure(http, pinned, "Otters", named=named, sessions=2, turns=2)
        elsewhere = measure(http, in_turn, "Herons", named=named, sessions=2, turns=2)
    # Half of a second turn is the first one; what all prompts begin with is always there.
    assert at_home.later_cached > 0.4 * at_home.later
    assert elsewhere.later_cached < 0.1 * elsewhere.later
