"""Shields at work: texts that are judged, each by all shields of a rule, and what becomes of what they cannot judge."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from traceback import format_exception
from typing import Any, Literal

from cachetools import TTLCache

from llama_stack_messages_provider.errors import MessagesError
from llama_stack_messages_provider.findings import Problem, ShieldFinding
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.host.safety import Violation, run_shield, shield_ids
from llama_stack_messages_provider.shields.config import ShieldsConfig
from llama_stack_messages_provider.telemetry.instruments import SHIELD_RUNS
from llama_stack_messages_provider.telemetry.observed import SHIELDS_OUTCOME, Observed

__all__ = ["AT_ONCE", "Flagged", "NotJudgedError", "Shields", "Side"]

logger = get_logger(name=__name__, category="providers")

AT_ONCE = 8
"""Texts of one request that shields judge at the same time."""

_REMEMBERED, _REMEMBERED_SECONDS = 65_536, 3600.0
_MAX_SHOWN = 600
_MAX_KIND = 100
_PASS = ("info", "warn")

Side = Literal["input", "output"]
Reason = Literal["timeout", "error", "unknown", "too_long"]
_ROLES: dict[Side, Literal["user", "assistant"]] = {"input": "user", "output": "assistant"}


class NotJudgedError(MessagesError):
    """A shield that is down, late or not there, where the configuration refuses what it cannot judge."""

    status, default_message = 503, "A shield of this stack cannot judge the request now"


@dataclass(frozen=True, slots=True)
class Flagged:
    """A text that a shield does not let through.

    Args:
        side: Where it stands.
        shield: The shield.
        violation: What it has against it.
        place: Which of the texts it is.
    """

    side: Side
    shield: str
    violation: Violation
    place: int = 0

    @property
    def details(self) -> dict[str, Any]:
        """`stop_details`. No category: a shield's are not Anthropic's.

        Source: `anthropic.types.RefusalStopDetails`.
        """
        said = f": {self.violation.message}" if self.violation.message else "."
        explanation = f"The {self.side} was flagged by the shield {self.shield}{said}"
        return {"type": "refusal", "category": None, "explanation": explanation[:_MAX_SHOWN]}


class Shields:
    """The shields of a stack.

    Args:
        config: Which judge what.
        safety: The stack's safety API.

    Raises:
        ValueError: The stack has none.
    """

    def __init__(self, config: ShieldsConfig, safety: Any) -> None:
        if safety is None:
            raise ValueError("shields: the stack has no safety API; add it to `apis`, with a provider and the shields")
        self.config = config
        self._safety = safety
        # Conversations grow, and come whole with each request: what an input shield has let through is not judged anew.
        self._passed: TTLCache[tuple[str, bytes], None] = TTLCache(_REMEMBERED, _REMEMBERED_SECONDS)

    async def judge(
        self,
        side: Side,
        shields: Sequence[str],
        texts: Sequence[str],
        digests: Sequence[bytes],
        unjudged: list[str],
        observed: Observed | None,
    ) -> Flagged | None:
        """What is found of texts; None if they may pass.

        Args:
            side: Where they stand.
            shields: Ids of the shields that judge.
            texts: The texts.
            digests: By which the texts are known again, one for each; none where nothing is remembered of them.
            unjudged: Takes what passes without having been judged, as clients are told it.
            observed: What tells of the request; None where nobody listens.

        Raises:
            NotJudgedError: They cannot be judged, and may not pass then.
        """
        if not (runs := self._runs(shields, texts, digests)):
            return None
        with nullcontext() if observed is None else observed.shields(side, shields) as span:
            found = await self._found(side, runs)
            flagged = next((each for each in found if isinstance(each, Flagged)), None)
            if span is not None:
                span.span.set_attribute(SHIELDS_OUTCOME, _outcome(flagged, found))
            if flagged is None:
                self._settle(side, [each for each in found if isinstance(each, _Unjudged)], unjudged)
        return flagged

    def _runs(self, shields: Sequence[str], texts: Sequence[str], digests: Sequence[bytes]) -> list["_Run"]:
        """What each shield has to read; of too many texts no more than show that."""
        runs: list[_Run] = []
        asked: set[tuple[str, bytes]] = set()
        most = len(shields) * self.config.parts
        for n, text in enumerate(texts):
            key = digests[n] if digests else None
            fresh = [
                each for each in shields if key is None or not ((each, key) in self._passed or (each, key) in asked)
            ]
            runs += [_Run(shield, n, text, key) for shield in fresh if text.strip()]
            asked.update((shield, key) for shield in fresh if key is not None)
            if len(runs) > most:
                break
        return runs

    async def _found(self, side: Side, runs: Sequence["_Run"]) -> list["Flagged | _Unjudged | None"]:
        """What the shields say, in the order of the texts."""
        turn = asyncio.Semaphore(AT_ONCE)

        async def judged(run: _Run) -> Flagged | _Unjudged | None:
            async with turn:
                return await self._run(side, run)

        places = dict.fromkeys(run.place for run in runs)
        rest: list[_Unjudged] = []
        if len(places) > self.config.parts:
            rest = [_Unjudged(shield, "too_long") for shield in dict.fromkeys(run.shield for run in runs)]
            # What passes is remembered: a long conversation that nobody knows gets through when it is sent again.
            now = frozenset(islice(places, self.config.parts))
            runs = [run for run in runs if run.digest is not None and run.place in now]
        tasks = [asyncio.create_task(judged(run)) for run in runs]
        try:
            return [*await asyncio.gather(*tasks), *rest]
        finally:
            for task in tasks:
                task.cancel()

    async def _run(self, side: Side, run: "_Run") -> "Flagged | _Unjudged | None":
        """What one shield says of one text."""
        shield = run.shield
        try:
            async with asyncio.timeout(self.config.seconds):
                found = await run_shield(self._safety, shield, _ROLES[side], run.text)
        except TimeoutError:
            return _Unjudged(shield, "timeout")
        except (Exception, asyncio.CancelledError) as exc:
            if _is_cancelled(exc):
                raise
            reason = await self._why(shield)
            # Its words may repeat what was judged.
            logger.debug("A shield failed", shield=shield, trace="".join(format_exception(exc)))
            return _Unjudged(shield, reason, type(exc).__name__)
        if found is not None:
            logger.info("A shield objects", shield=shield, side=side, level=found.level, kind=found.kind[:_MAX_KIND])
        if found is None or found.level in _PASS:
            SHIELD_RUNS.add(1, {"shield": shield, "side": side, "outcome": found.level if found else "passed"})
            if run.digest is not None:
                self._passed[shield, run.digest] = None
            return None
        SHIELD_RUNS.add(1, {"shield": shield, "side": side, "outcome": "flagged"})
        return Flagged(side, shield, found, run.place)

    async def _why(self, shield: str) -> Reason:
        """Why a shield failed. Where the stack cannot say what it has, it is not known to be gone."""
        with suppress(Exception):
            return "error" if shield in await shield_ids(self._safety) else "unknown"
        return "error"

    def _settle(self, side: Side, found: Sequence["_Unjudged"], unjudged: list[str]) -> None:
        """Refuse what was not judged, or say that it passes."""
        passes = self.config.when_down == "pass"
        for each in dict.fromkeys(found):
            SHIELD_RUNS.add(1, {"shield": each.shield, "side": side, "outcome": each.reason})
            named = {"shield": each.shield, "side": side, "reason": each.reason}
            logger.warning("A text was not judged", **named, error=each.error, passes=passes)
            self.tell(unjudged, f"{side}.{each.shield} ({each.reason})")
        if found and not passes:
            raise NotJudgedError(_refusal(side, found[0]))

    def too_long(self, side: Side, shields: Sequence[str], unjudged: list[str]) -> None:
        """What is to be judged is more than is read; raises as `judge` does."""
        self._settle(side, [_Unjudged(shield, "too_long") for shield in shields], unjudged)

    def unread(self, shields: Sequence[str], places: Iterable[str], unjudged: list[str]) -> None:
        """Images and files pass: shields read text."""
        for place in places:
            if self.tell(unjudged, place):
                for shield in shields:
                    SHIELD_RUNS.add(1, {"shield": shield, "side": "input", "outcome": "unread"})

    @staticmethod
    def tell(unjudged: list[str], what: str) -> bool:
        """Name what passes, once; whether it is new."""
        if what in unjudged:
            return False
        unjudged.append(what)
        return True

    # --- for operators ---

    @property
    def findings(self) -> list[ShieldFinding]:
        """Which shields judge what, for `doctor`."""
        rules = [*self.config.rules, self.config.default]
        return [ShieldFinding(rule.models, rule.input, rule.output, self.config.when_down) for rule in rules]

    async def problems(self) -> list[Problem]:
        """Shields that are configured, and are not there."""
        known = await shield_ids(self._safety)
        problems = []
        for shield, places in self.config.named.items():
            if shield not in known:
                near = get_close_matches(shield, known, n=3, cutoff=0.4)
                remedy = f"The nearest are {', '.join(near)}." if near else "Register it under `registered_resources`."
                problems.append(
                    Problem("error", f"{', '.join(places)} names {shield}: there is no such shield", remedy)
                )
        return problems

    async def check(self) -> None:
        """Log what is wrong; a shield may still be registered while the server runs."""
        for problem in await self.problems():
            logger.error("Shields are not there", problem=problem.what, remedy=problem.remedy)


@dataclass(frozen=True, slots=True)
class _Run:
    """A text that a shield has to read."""

    shield: str
    place: int
    text: str
    digest: bytes | None


@dataclass(frozen=True, slots=True)
class _Unjudged:
    """A text that a shield did not judge."""

    shield: str
    reason: Reason
    error: str | None = None


def _is_cancelled(exc: BaseException) -> bool:
    """Whether this is given up; a shield may also have given up by itself."""
    task = asyncio.current_task()
    return isinstance(exc, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def _refusal(side: Side, found: _Unjudged) -> str:
    why = {
        "timeout": "did not answer in time",
        "error": "failed",
        "unknown": "is not there",
        "too_long": "was given more text than is read",
    }
    return f"The {side} cannot be judged: the shield {found.shield} {why[found.reason]}"


def _outcome(flagged: Flagged | None, found: Iterable[object]) -> str:
    if flagged is not None:
        return "flagged"
    return next((each.reason for each in found if isinstance(each, _Unjudged)), "passed")
