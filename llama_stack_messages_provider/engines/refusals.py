"""What upstreams refuse, by kind, and the words in which each engine says so."""

import re
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Kind", "Words"]


class Kind(StrEnum):
    """What a refusal is about. What the client is told, what is changed and what is remembered follow from it."""

    PARAMETER_UNKNOWN = "parameter_unknown"
    """The model does not take a parameter, whatever its value; or it takes it under another name."""
    VALUE_BAD = "value_bad"
    """It takes the parameter, and not this value."""
    SOMETHING_MISSING = "something_missing"
    """A field that it insists on was not there."""
    OUTPUT_LIMIT = "output_limit"
    """More output was asked for than the model ever gives."""
    OUTPUT_TOO_SHORT = "output_too_short"
    """Less output was asked for than the model needs for any answer."""
    ROOM = "room"
    """The prompt fits the window, prompt and output together do not."""
    PROMPT_TOO_LONG = "prompt_too_long"
    """The prompt alone does not fit."""
    SCHEMA_STRICT = "schema_strict"
    """A schema is not one that can be guaranteed."""
    SCHEMA_PROPERTIES = "schema_properties"
    """An object's schema names no properties."""
    SCHEMA_KEYWORDS = "schema_keywords"
    """Keywords of JSON Schema that the upstream does not know."""
    SCHEMA_GRAMMAR = "schema_grammar"
    """No grammar can be made of a schema."""
    RESPONSE_FORMAT = "response_format"
    """Answers by a schema are not to be had."""
    TURN_ORDER = "turn_order"
    """Turns have to alternate in a way that they do not."""
    SYSTEM_TURN = "system_turn"
    """A system message stands elsewhere than at the head."""
    IMAGES = "images"
    """The model has no eyes."""
    IDS = "ids"
    """Ids of calls are not of the form that the model knows."""
    TOOL_CHOICE_VS_THINKING = "tool_choice_vs_thinking"
    """A tool cannot be forced while the model thinks."""
    TOOLS_VS_EFFORT = "tools_vs_effort"
    """Functions are taken only without reasoning."""
    THINKING_NEEDS_STREAM = "thinking_needs_stream"
    """A model that thinks answers in streams only."""
    ENGINE_FAULT = "engine_fault"
    """The engine could not make sense of what its own model said, and blames the request."""
    CREDENTIALS = "credentials"
    RATE = "rate"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Words:
    """A row: what a refusal reads like, and what it means.

    Args:
        kind: What it is about.
        pattern: A regular expression, case-insensitive, searched for in a text of bounded length; its time must not
            grow with the square of the text. Named groups say more, all but the first two in tokens: `parameter`;
            `values`, those that are taken; `used`, by the prompt; `least`, the same where it is a lower bound; `total`,
            prompt and output; `asked`, the output; `limit`, of the window or of the output; `below`, one more than it.
        sample: A refusal that it reads: the row's own test.
        parameter: The parameter, where the pattern does not say it.
    """

    kind: Kind
    pattern: str
    sample: str
    parameter: str | None = None
    compiled: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "compiled", re.compile(self.pattern, re.IGNORECASE | re.DOTALL))
