"""The settings of shields."""

import pytest
from pydantic import ValidationError

from llama_stack_messages_provider.shields.config import MAX_SHIELDS, ShieldsConfig


def test_the_first_rule_that_matches_holds_and_others_have_the_default() -> None:
    rules = [{"models": "*/free"}, {"models": "vllm/*", "output": ["b"]}]
    config = ShieldsConfig.model_validate({"input": ["a"], "rules": rules})
    assert config.rule_for("vllm/free") is None
    assert (rule := config.rule_for("vllm/m")) is not None
    assert (rule.input, rule.output) == ([], ["b"])
    assert (rule := config.rule_for("openai/m")) is not None
    assert (rule.input, rule.output) == (["a"], [])
    assert config.named == {"a": ["shields.input"], "b": ["shields.rules.1.output"]}


def test_without_shields_nothing_judges() -> None:
    assert ShieldsConfig().named == {}
    assert ShieldsConfig().rule_for("vllm/m") is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"input": [f"s{n}" for n in range(MAX_SHIELDS + 1)]},
        {"input": [""]},
        {"hold_back": 0},
        {"hold_back": 400, "characters": 799},
        {"when_down": "wait"},
        {"judged": ["images"]},
        {"seconds": 0},
        {"parts": 0},
        {"shields": ["a"]},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ShieldsConfig.model_validate(wrong)


def test_parts_overlap_however_little_is_held_back() -> None:
    assert ShieldsConfig(hold_back=None).overlap == 400
    assert ShieldsConfig(hold_back=None, characters=100).overlap == 50
    assert ShieldsConfig(hold_back=20).overlap == 400
    assert ShieldsConfig(hold_back=20, characters=100).overlap == 50
    assert ShieldsConfig(hold_back=900).overlap == 900
