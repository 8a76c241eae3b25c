"""`llama-stack-messages enable`, run in this process as an operator runs it."""

from pathlib import Path

import pytest
import yaml

from llama_stack_messages_provider.cli import main
from llama_stack_messages_provider.cli.folders import APIS_DIR

SMALL = "version: 2\ndistro_name: small\napis: [inference]\nproviders:\n  inference: []\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_distribution_becomes_a_file_and_the_next_commands_are_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["enable", "starter"]) == 0

    run = yaml.safe_load((folder / "starter-messages.yaml").read_text())
    out = capsys.readouterr().out
    assert run["external_apis_dir"] == str(APIS_DIR)
    assert run["providers"]["messages"][0]["module"] == "llama_stack_messages_provider"
    assert "+- messages\n" in out
    assert "llama stack run starter-messages.yaml" in out
    assert "doctor --live --url" in out


def test_what_was_written_and_changed_since_is_not_written_anew(folder: Path) -> None:
    assert main(["enable", "starter"]) == 0
    file = folder / "starter-messages.yaml"
    file.write_text(f"# mine\n{file.read_text()}")

    assert main(["enable", "starter", "--alias", "claude-*=vllm/m"]) == 0

    assert file.read_text().startswith("# mine\n")
    assert "claude-*: vllm/m" in file.read_text()


def test_check_changes_nothing_and_its_status_says_what_would(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "run.yaml"
    file.write_text(SMALL)

    assert main(["enable", "run.yaml", "--check"]) == 1
    assert file.read_text() == SMALL
    assert "+external_apis_dir" in capsys.readouterr().out
    assert main(["enable", "run.yaml"]) == 0
    capsys.readouterr()
    assert main(["enable", "run.yaml", "--check"]) == 0
    assert capsys.readouterr().out == "run.yaml serves the Messages API already.\n"


def test_another_file_can_be_written(folder: Path) -> None:
    (folder / "run.yaml").write_text(SMALL)

    assert main(["enable", "run.yaml", "--output", "other.yaml", "--embedded"]) == 0

    assert (folder / "run.yaml").read_text() == SMALL
    run = yaml.safe_load((folder / "other.yaml").read_text())
    assert run["providers"]["inference"][0]["provider_type"] == "inline::llama-cpp"
    assert run["providers"]["messages"][0]["config"]["model_aliases"] == {"claude-*": "llama-cpp/smollm2"}


def test_a_folder_with_other_apis_is_kept_and_what_to_do_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "apis").mkdir()
    (folder / "apis" / "own.yaml").write_text("name: own\n")
    (folder / "run.yaml").write_text(f"external_apis_dir: ${{env.NO_SUCH:=apis}}\n{SMALL}")

    assert main(["enable", "run.yaml"]) == 2
    assert f"copy {APIS_DIR / 'messages.yaml'} there" in capsys.readouterr().err

    (folder / "apis" / "messages.yaml").write_text((APIS_DIR / "messages.yaml").read_text())
    assert main(["enable", "run.yaml"]) == 0
    assert "external_apis_dir: ${env.NO_SUCH:=apis}\n" in (folder / "run.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such"], "there is no such file and no such distribution; there are"),
        (["broken.yaml"], "while parsing a flow node"),
        (["unset.yaml"], "NOT_SET"),
        (["starter", "--alias", "x"], "it takes NAME=MODEL"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    (folder / "broken.yaml").write_text("providers: [")
    (folder / "unset.yaml").write_text("providers: {}\nexternal_apis_dir: ${env.NOT_SET}\n")

    assert main(["enable", *arguments]) == 2

    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
