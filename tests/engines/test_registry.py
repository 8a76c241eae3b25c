"""Engines are found, told apart and kept in their own modules."""

import ast
from pathlib import Path
from typing import Any

import pytest

import llama_stack_messages_provider
from llama_stack_messages_provider import engines
from llama_stack_messages_provider.engines import ENGINES, discover

type Json = dict[str, Any]

PACKAGE = Path(llama_stack_messages_provider.__file__).parent
TOY = """
from llama_stack_messages_provider.engines.engine import ChatWording, Engine, Recognition
from llama_stack_messages_provider.engines.refusals import Kind, Words

ENGINE = Engine(
    "toy",
    Recognition(owners=frozenset({"toymaker"}), hosts=frozenset({"toys.test"})),
    ChatWording(top_k=False, max_tokens="max_new_tokens"),
    refusals=(Words(Kind.PROMPT_TOO_LONG, r"holds (?P<limit>\\d+), not (?P<used>\\d+)", "It holds 9, not 12"),),
)
"""


def models(owned_by: str = "someone", **fields: Any) -> Json:
    return {"data": [{"id": "m", "object": "model", "owned_by": owned_by, **fields}]}


def test_an_engine_is_added_by_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy.py").write_text(TOY)
    monkeypatch.setattr(engines, "__path__", [*engines.__path__, str(tmp_path)])

    found = discover()

    assert set(found) == {*ENGINES, "toy"}
    toy = found["toy"]
    assert found.answering("", models("toymaker")) is toy
    assert found.chosen("unknown", "remote::openai", "https://eu.toys.test/v1") is toy
    assert toy.chat.name == "toy"
    assert (toy, toy.refusals[0]) in list(found.words())


@pytest.mark.parametrize(
    ("server", "listed", "name"),
    [
        ("llama.cpp", {}, "llama.cpp"),
        ("uvicorn", models("vllm"), "vllm"),
        ("uvicorn", models("sglang"), "sglang"),
        ("", models("llamacpp"), "llama.cpp"),
        ("", models("library"), "ollama"),
        ("", {"data": [{"type": "model", "id": "m", "display_name": "M"}]}, "anthropic"),
        ("nginx", models(), "unknown"),
        ("", None, "unknown"),
        ("", [], "unknown"),
        ("", {"data": "?"}, "unknown"),
        ("", {"data": []}, "unknown"),
        ("", {"data": [None]}, "unknown"),
        ("", {"data": [{"id": "m"}]}, "unknown"),
    ],
)
def test_an_engine_is_known_by_its_answers(server: str, listed: Any, name: str) -> None:
    assert ENGINES.answering(server, listed).name == name


@pytest.mark.parametrize(
    ("answering", "provider_type", "base_url", "name"),
    [
        ("vllm", "remote::openai", None, "vllm"),
        ("vllm", "remote::openai", "https://api.openai.com/v1", "vllm"),
        ("unknown", "remote::vllm", "http://h:1/v1", "vllm"),
        ("unknown", "remote::ollama", None, "ollama"),
        ("unknown", "inline::llama-cpp", None, "llama.cpp"),
        ("unknown", "remote::openai", "https://api.openai.com/v1", "openai"),
        ("unknown", "remote::openai", "https://eu.api.openai.com/v1", "openai"),
        ("unknown", "remote::openai", "https://api.openai.com.evil.test/v1", "unknown"),
        ("unknown", "remote::openai", "https://notapi.openai.com/v1", "unknown"),
        ("unknown", "remote::openai", "https://api.deepseek.com", "deepseek"),
        ("unknown", "remote::openai", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "qwen"),
        ("unknown", "remote::openai", "http://127.0.0.1:9/v1", "unknown"),
        ("unknown", "remote::nothing", None, "unknown"),
        ("unknown", "remote::groq", None, "groq"),
    ],
)
def test_what_answers_counts_then_the_address_then_the_provider(
    answering: str, provider_type: str, base_url: str | None, name: str
) -> None:
    assert ENGINES.chosen(answering, provider_type, base_url).name == name


@pytest.mark.parametrize(
    ("engine", "listed", "window"),
    [
        ("vllm", models(max_model_len=4096), 4096),
        ("llama.cpp", models(meta={"n_ctx": 2048, "n_ctx_train": 8192}), 2048),
        ("openrouter", models(context_length=131072), 131072),
        ("groq", models(context_window=131072), 131072),
        ("unknown", models(max_context_length=8192), 8192),
        ("vllm", models(max_model_len="4096"), None),
        ("vllm", models(max_model_len=True), None),
        ("vllm", models(), None),
        ("vllm", {"data": [{"id": "a", "max_model_len": 1}, {"id": "m", "max_model_len": 2}]}, 2),
        ("vllm", {"data": [{"id": "a", "max_model_len": 1}, {"id": "b", "max_model_len": 2}]}, None),
        ("vllm", None, None),
    ],
)
def test_the_window_is_where_the_engine_says_it(engine: str, listed: Any, window: int | None) -> None:
    assert ENGINES.window(ENGINES[engine], listed, "m") == window


def named_in(source: str) -> set[str]:
    """The strings of a module that are an engine's name; docstrings are prose."""
    tree = ast.parse(source)
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and node.value in ENGINES}


def test_no_other_module_names_an_engine() -> None:
    # `wire` knows `anthropic` as a kind of skill, `unknown` is a verdict of the probe too, and some clients that are
    # launched are namesakes of engines.
    elsewhere = {
        (str(path.relative_to(PACKAGE)), name)
        for path in PACKAGE.rglob("*.py")
        if path.parent.name != "engines"
        for name in named_in(path.read_text()) - {ENGINES.generic.name}
    }
    assert {(path, name) for path, name in elsewhere if not path.startswith(("wire/", "cli/clients.py"))} == set()


def test_two_engines_of_one_name_are_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "another_vllm.py").write_text(TOY.replace('"toy"', '"vllm"'))
    monkeypatch.setattr(engines, "__path__", [*engines.__path__, str(tmp_path)])

    with pytest.raises(ValueError, match="one name"):
        discover()
