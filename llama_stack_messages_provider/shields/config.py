"""The settings of shields."""

from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["MAX_SHIELDS", "Judged", "ShieldRule", "ShieldsConfig"]

MAX_SHIELDS: int = 8
"""Shields that judge one text."""

_OVERLAP = 400

Judged = Literal["text", "thinking", "tool_use"]
type _Ids = Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=MAX_SHIELDS)]


class ShieldRule(BaseModel):
    """Which shields judge what goes to some models, and comes from them."""

    model_config = ConfigDict(extra="forbid")

    models: str = Field(default="*", description="Which models: a glob pattern of identifiers.")
    input: _Ids = Field(default_factory=list, description="The ids of shields that judge what a model is told.")
    output: _Ids = Field(default_factory=list, description="The ids of shields that judge what it says.")


class ShieldsConfig(BaseModel):
    """Shields of the stack's safety API that judge requests and answers. Off, unless some are named."""

    model_config = ConfigDict(extra="forbid")

    input: _Ids = Field(
        default_factory=list,
        description="Shields, by their ids in the stack, that judge what users and tools say to models.",
    )
    output: _Ids = Field(default_factory=list, description="Shields that judge what models say.")
    rules: list[ShieldRule] = Field(
        default_factory=list,
        max_length=1000,
        description="Other ones for some models, in place of those: `models` (a glob pattern of identifiers), `input`, "
        "`output`. The first rule that matches holds.",
    )
    when_down: Literal["refuse", "pass"] = Field(
        default="refuse",
        description="What becomes of what a shield cannot judge, for it is down, late, or not there: `refuse` it with "
        "a 503, or let it `pass`, which `x-messages-unjudged`, the log and a counter tell.",
    )
    seconds: float = Field(default=10.0, gt=0, description="How long a shield may take for one text.")
    hold_back: int | None = Field(
        default=400,
        ge=1,
        description="Characters at the end of a streamed block that are not sent before more of it was judged, or it "
        "has ended; it is judged each time that so many have come. Null: a block is sent when it has ended.",
    )
    judged: list[Judged] = Field(
        default=["text", "thinking", "tool_use"],
        description="Which blocks of answers are judged; arguments of calls are sent when they are complete.",
    )
    system: bool = Field(default=False, description="Judge system prompts too, which are the application's own words.")
    characters: int = Field(
        default=20_000,
        ge=2,
        description="The longest text that a shield is given at once. A longer one is judged in parts that overlap by "
        "`hold_back`, and by 400 characters at least, or by half of this where that is less.",
    )
    parts: int = Field(
        default=500,
        gt=0,
        description="Such parts of what is new in a request, or of a block of an answer; with any more it counts as "
        "one that cannot be judged.",
    )

    @property
    def overlap(self) -> int:
        """Characters that two parts of a text have in common."""
        return max(self.hold_back or 0, min(_OVERLAP, self.characters // 2))

    @model_validator(mode="after")
    def _parts_advance(self) -> Self:
        if self.characters < 2 * self.overlap:
            raise ValueError("characters: at least twice hold_back is needed, or parts of a text would not advance")
        return self

    @property
    def named(self) -> dict[str, list[str]]:
        """The settings that name each shield."""
        places: dict[str, list[str]] = {}
        for prefix, rule in [("shields", self.default), *((f"shields.rules.{n}", r) for n, r in enumerate(self.rules))]:
            for side, ids in (("input", rule.input), ("output", rule.output)):
                for ident in ids:
                    places.setdefault(ident, []).append(f"{prefix}.{side}")
        return places

    @property
    def default(self) -> ShieldRule:
        """The rule for models that have none of their own."""
        return ShieldRule(input=self.input, output=self.output)

    def rule_for(self, model: str) -> ShieldRule | None:
        """The rule for a model, by its identifier; None where nothing judges."""
        rule = next((rule for rule in self.rules if fnmatchcase(model, rule.models)), self.default)
        return rule if rule.input or rule.output else None
