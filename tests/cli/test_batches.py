"""`llama-stack-messages batches` where there is no server, or another one: a sentence says so."""

import pytest

from llama_stack_messages_provider.cli import main
from tests.support.upstream import Personality, ScriptedUpstream


def test_a_server_that_is_not_there_is_told_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["batches", "list", "--url", "http://127.0.0.1:1"]) == 1

    assert capsys.readouterr().err == "batches: http://127.0.0.1:1 cannot be reached: Connection refused\n"


def test_a_server_of_something_else_is_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedUpstream(Personality("page", {})) as other:
        assert main(["batches", "show", "msgbatch_1", "--url", other.url]) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"batches: {other.url} does not serve the Messages API (it answered with 404)")
