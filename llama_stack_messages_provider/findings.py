"""What `doctor` finds out, as data: of each model, and of the stack as a whole."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["Diagnosis", "Finding", "Problem", "ShieldFinding", "State", "ToolFinding"]

State = Literal["ok", "untried", "dead", "failing", "refused", "keyless", "misconfigured"]
Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that keeps requests from being answered, or will.

    Args:
        severity: `error`: requests fail; `warning`: some would.
        what: What is wrong, in a sentence.
        remedy: What to do about it.
    """

    severity: Severity
    what: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out about one model.

    Args:
        model: Its identifier, or `<provider_id>/*` for a provider that lists none.
        state: `ok`; `untried`: it is listed, and nobody asked it; `dead`: nobody answers; `failing`: it answers with
            an error; `refused`: it takes not the stack's key; `keyless`: the key has to come with each request;
            `misconfigured`: it cannot go the configured way.
        engine: The software behind it.
        route: `native` or `translation` for a request without special needs; None where there is none.
        reason: Why this route, or this state.
        upstream: The address of its upstream, without credentials.
        window: Its context window in tokens, where the upstream tells it.
        count: How tokens are counted: `native`, `tokenizer`, `inference` or `estimate`; None where they cannot be.
        gaps: What a native endpoint lacks and what happens to it there: requests that need it are translated.
        rewritten: What a native endpoint lacks and gets in plainer terms.
        mended: What the engine breaks in its answers, and is put right.
        web_search: Who searches the web for it: `upstream` or `stack`; None where nobody does.
        first_token_seconds: How long a message took to begin, where one was sent.
    """

    model: str
    state: State
    engine: str = "unknown"
    route: str | None = None
    reason: str = ""
    upstream: str | None = None
    window: int | None = None
    count: str | None = None
    gaps: Mapping[str, str] = field(default_factory=dict)
    rewritten: Sequence[str] = ()
    mended: str | None = None
    web_search: Literal["upstream", "stack"] | None = None
    first_token_seconds: float | None = None

    @property
    def well(self) -> bool:
        """Whether requests for the model can succeed."""
        return self.state in ("ok", "keyless", "untried")


@dataclass(frozen=True, slots=True)
class ToolFinding:
    """Who runs a server tool.

    Args:
        tool: What requests call it, without its version.
        run_by: Who runs it, in words; None where nobody does.
    """

    tool: str
    run_by: str | None = None


@dataclass(frozen=True, slots=True)
class ShieldFinding:
    """Which shields judge for some models.

    Args:
        models: A glob pattern of their identifiers.
        input: Shields of what they are told.
        output: Shields of what they say.
        when_down: What becomes of what a shield cannot judge: `refuse` or `pass`.
    """

    models: str
    input: Sequence[str] = ()
    output: Sequence[str] = ()
    when_down: str = "refuse"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found out about a stack.

    Args:
        models: Of each model, and each provider that lists none.
        problems: What is wrong beside that.
        server_tools: Of each server tool, for models that are not Anthropic's own.
        replicas: The identifiers of equal replicas, by the name that stands for them.
        shields: The rules of shields, the first that matches first; none where nothing judges.
    """

    models: Sequence[Finding] = ()
    problems: Sequence[Problem] = ()
    server_tools: Sequence[ToolFinding] = ()
    replicas: Mapping[str, Sequence[str]] = field(default_factory=dict)
    shields: Sequence[ShieldFinding] = ()

    @property
    def well(self) -> bool:
        """Whether all that is there can be used."""
        return all(finding.well for finding in self.models) and not any(
            problem.severity == "error" for problem in self.problems
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {"ok": self.well, **asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Diagnosis":
        """From the JSON of a server, of this version or another.

        Raises:
            KeyError, TypeError: It is not that.
        """
        return cls(
            [Finding(**_known(Finding, each)) for each in value["models"]],
            [Problem(**_known(Problem, each)) for each in value["problems"]],
            [ToolFinding(**_known(ToolFinding, each)) for each in value.get("server_tools", ())],
            value.get("replicas", {}),
            [ShieldFinding(**_known(ShieldFinding, each)) for each in value.get("shields", ())],
        )


def _known(kind: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: fields[name] for name in kind.__dataclass_fields__ if name in fields}
