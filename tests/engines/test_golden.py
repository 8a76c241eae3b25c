"""What each engine is sent for a request: `requests/NAME.json`, and beside it `NAME.ENGINE.json`.

`NAME.unknown.json` is whole. The file of another engine has what differs: the parameters, and those that are absent.
`GOLDEN=write pytest tests/engines/test_golden.py` writes what is sent now; the diff is what a reviewer reads. An engine
that is sent what the generic one is has no file of its own.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from llama_stack_messages_provider.engines import ENGINES
from llama_stack_messages_provider.translation.request import TranslationOptions, to_chat_completion

type Json = dict[str, Any]

FOLDER = Path(__file__).parent / "requests"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json") if "." not in path.stem)
WRITE = os.environ.get("GOLDEN") == "write"


def sent(name: str, engine: str) -> Json:
    """The chat completion for a request, and what it loses."""
    request = json.loads((FOLDER / f"{name}.json").read_text())
    chat = ENGINES[engine].chat
    translation = to_chat_completion(request, model="m", dialect=chat, options=TranslationOptions())
    return {**translation.params, "dropped": translation.dropped}


def difference(made: Json, generic: Json) -> Json:
    """What an engine is sent otherwise than the generic one."""
    new = {key: value for key, value in made.items() if generic.get(key) != value}
    absent = sorted(generic.keys() - made.keys())
    return {**new, **({"absent": absent} if absent else {})}


def written(golden: Json) -> str:
    """One line for each parameter, and for each message."""
    lines = (f"{json.dumps(key)}: {_value(key, value)}" for key, value in golden.items())
    return "{\n" + ",\n".join(f"  {line}" for line in lines) + "\n}\n"


def _value(key: str, value: Any) -> str:
    if key != "messages":
        return json.dumps(value, ensure_ascii=False)
    return "[\n" + ",\n".join(f"    {json.dumps(message, ensure_ascii=False)}" for message in value) + "\n  ]"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", NAMES)
def test_an_engine_is_sent_what_its_golden_file_says(name: str, engine: str) -> None:
    generic = sent(name, ENGINES.generic.name)
    made = generic if engine == ENGINES.generic.name else difference(sent(name, engine), generic)
    path = FOLDER / f"{name}.{engine}.json"
    if WRITE:
        path.write_text(written(made)) if made else path.unlink(missing_ok=True)
    assert made == (json.loads(path.read_text()) if path.exists() else {})


def test_every_golden_file_is_of_an_engine_and_a_request() -> None:
    found = {tuple(path.stem.split(".", 1)) for path in FOLDER.glob("*.*.json")}

    assert {name for name, _ in found} <= set(NAMES)
    assert {engine for _, engine in found} <= set(ENGINES)
