"""What is said of telemetry is what the code does."""

import re
from pathlib import Path
from typing import Any

import orjson

from llama_stack_messages_provider import telemetry
from llama_stack_messages_provider.telemetry.content import MAX_CONTENT_CHARACTERS
from scripts.docs import DOCS, metric_rows

PAGE = (DOCS / "observability.md").read_text()
BOARD: Any = orjson.loads((DOCS / "grafana" / "messages.json").read_bytes())
ATTRIBUTE = r"(?:gen_ai|server|error|enduser|llama_stack)(?:\.[a-z_]+)+"
MORE = ("metrics.py", "batches/runner.py", "shields/runs.py")
LABEL = re.compile(r"(\w+)(?:=~|!=|=)")
# Made of parts in the code.
COMPOSED = {
    *(f"gen_ai.request.{name}" for name in ("temperature", "top_p", "top_k")),
    *(f"gen_ai.usage.cache_{kind}.input_tokens" for kind in ("read", "creation")),
}


def test_every_attribute_is_told_of_and_no_other() -> None:
    folder = Path(telemetry.__path__[0])
    code = "\n".join(file.read_text() for file in folder.glob("*.py") if file.name != "instruments.py")
    code = code.replace("{_OWN}", "llama_stack.messages")
    used = set(re.findall(rf'"({ATTRIBUTE})"', code)) | COMPOSED
    told = set(re.findall(rf"`({ATTRIBUTE})`", PAGE)) - {name for name, _, _ in metric_rows()}

    assert used - {"llama_stack.messages"} == told - {"server.py"}


def test_the_bound_of_content_is_told() -> None:
    assert f"{MAX_CONTENT_CHARACTERS:,} characters" in PAGE


def test_every_metric_of_the_board_exists() -> None:
    kinds = ("", "_bucket", "_sum", "_count")
    known = {f"{name}{kind}" for _, name, _ in metric_rows() for kind in kinds}
    asked = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
    asked += [variable["query"] for variable in BOARD["templating"]["list"] if variable["type"] == "query"]
    names = {name for expr in asked for name in re.findall(r"\b(?:gen_ai|llama_stack)_\w+(?=[{\[,])", _plain(expr))}

    assert names <= known
    assert {name for name in known if "messages_" in name and name.endswith("_total")} - names == {
        "llama_stack_messages_unknown_fields_total"
    }


def _plain(expr: str) -> str:
    """An expression without what it groups by and compares, which are labels."""
    return re.sub(r"by \([^)]*\)", "", re.sub(r"\{[^}]*\}", "{}", expr))


def test_the_board_can_be_put_on_any_data_source() -> None:
    [source] = [each for each in BOARD["templating"]["list"] if each["type"] == "datasource"]

    assert source["query"] == "prometheus"
    assert {panel["datasource"]["uid"] for panel in BOARD["panels"]} == {"${datasource}"}
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


def test_the_board_groups_by_labels_that_metrics_have() -> None:
    files = (*Path(telemetry.__path__[0]).glob("*.py"), *(Path(telemetry.__path__[0]).parent / name for name in MORE))
    code = "\n".join(file.read_text() for file in files)
    exprs = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
    grouped = {
        label.strip() for expr in exprs for part in re.findall(r"by \(([^)]*)\)", expr) for label in part.split(",")
    }
    compared = {label for expr in exprs for part in re.findall(r"\{([^}]*)\}", expr) for label in LABEL.findall(part)}

    missing = [name for name in (grouped | compared) - {"le"} if f'"{name}"' not in code.replace(".", "_")]
    assert missing == []
