"""What `doctor` sees before a stack is built: each mistake, made on purpose, and the sentence that helps."""

import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from llama_stack_messages_provider.cli import main
from llama_stack_messages_provider.cli.doctor.port import port_problem
from llama_stack_messages_provider.cli.doctor.text import problems_of_text
from llama_stack_messages_provider.cli.folders import APIS_DIR
from llama_stack_messages_provider.findings import Diagnosis, Finding, Problem, ShieldFinding, ToolFinding

APIS_DIR_REMEDY = f"Set it to {APIS_DIR}, which `llama-stack-messages apis-dir` prints"


def run(config: Any = None, **changes: Any) -> dict[str, Any]:
    messages = {"provider_id": "messages", "provider_type": "inline::messages", "config": config}
    return {"external_apis_dir": str(APIS_DIR), "providers": {"messages": [messages]}, **changes}


MISTAKES: dict[str, tuple[dict[str, Any], str, str]] = {
    "no provider": (
        {"providers": {"inference": []}},
        "No provider of the Messages API is configured",
        "`llama-stack-messages enable run.yaml` adds it.",
    ),
    "one that is switched off": (
        {"providers": {"messages": [{"provider_id": "__disabled__", "provider_type": "inline::messages"}]}},
        "No provider of the Messages API is configured",
        "`llama-stack-messages enable run.yaml` adds it.",
    ),
    "an API that is not listed": (
        run(apis=["inference"]),
        "`apis` does not name `messages`: the server answers such requests with 404",
        "`llama-stack-messages enable run.yaml` does so.",
    ),
    "no folder": (run(external_apis_dir=None), "`external_apis_dir` is not set", APIS_DIR_REMEDY),
    "a folder that is none": (
        run(external_apis_dir="/no/such"),
        "`external_apis_dir` is /no/such, which is no folder",
        APIS_DIR_REMEDY,
    ),
    "another's folder": (
        run(external_apis_dir="/tmp"),
        "`external_apis_dir` is /tmp, where no file declares the Messages API",
        f"Copy {APIS_DIR / 'messages.yaml'} there.",
    ),
    "a typo": (
        run({"model_aliasses": {}}),
        "inline::messages has no setting model_aliasses",
        "Did you mean model_aliases?",
    ),
    "a typo inside": (
        run({"limits": {"body_byte": 1}}),
        "inline::messages has no setting limits.body_byte",
        "Did you mean limits.body_bytes?",
    ),
    "nothing alike": (
        run({"zzz": 1}),
        "inline::messages has no setting zzz",
        "There are model_aliases, fallbacks, route,",
    ),
    "a value that does not fit": (
        run({"route": "nativ"}),
        "The setting route of inline::messages: Input should be 'auto', 'native' or 'translation'",
        "It is 'nativ' now.",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_what_helps(mistake: str) -> None:
    given, what, remedy = MISTAKES[mistake]

    [problem] = problems_of_text(given, "run.yaml")

    assert problem.severity == "error"
    assert problem.what.startswith(what)
    assert remedy in problem.remedy


@pytest.mark.parametrize("config", [None, {}, {"limits": {"body_bytes": 5}, "model_aliases": {"a": "b", "c": ["d"]}}])
def test_a_configuration_without_mistakes_has_no_problems(config: Any) -> None:
    assert problems_of_text(run(config, apis=["inference", "messages"]), "run.yaml") == []


def test_what_serves_nothing_has_a_status_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(run(apis=["inference"])))

    assert main(["doctor", "--config", str(file)]) == 2

    out = capsys.readouterr().out
    assert out.startswith("error: `apis` does not name `messages`")
    assert out.endswith("1 thing to mend.\n")


def test_a_file_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--config", "no-such.yaml"]) == 2
    assert "there is no file no-such.yaml" in capsys.readouterr().err


def test_a_port_that_another_program_has_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        problem = port_problem("127.0.0.1", port)

    assert problem is not None
    assert (problem.severity, problem.what) == ("error", f"Port {port} is in use, by another program")
    assert port_problem("127.0.0.1", port) is None


def test_a_host_that_is_not_known_is_told() -> None:
    problem = port_problem("no-such.invalid", 1)
    assert problem is not None
    assert problem.what == "The host no-such.invalid is not known"


def test_a_diagnosis_survives_its_json_and_what_later_versions_add() -> None:
    tools = [ToolFinding("web_search", "the stack"), ToolFinding("code_execution")]
    models, problems = [Finding("a/m", "dead", upstream="http://a")], [Problem("warning", "what", "remedy")]
    shields = [ShieldFinding("*", ["guard"])]
    diagnosis = Diagnosis(models, problems, tools, {"twins": ["a/m", "b/m"]}, shields)
    value = diagnosis.to_json()
    value["models"][0]["new"] = 1

    assert Diagnosis.from_json(value) == diagnosis
    assert value["ok"] is False
