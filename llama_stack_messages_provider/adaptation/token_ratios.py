"""How many bytes a token of a model has, learned from what upstreams counted; for upstreams that do not count.

A prompt is of several kinds of text, of each of which a tokenizer has bytes per token of its own; a count is of all of
them together. So they are found by least squares, one count at a time (a Kalman filter), from what is usual.

What one client sends never decides for another: each has numbers of its own, within bounds, and who has none gets the
median of the others'.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from cachetools import TTLCache

from llama_stack_messages_provider.wire.token_estimate import BYTES_PER_TOKEN, DEFAULTS, Kind, Measure

__all__ = ["Scope", "TokenRatios"]

type Scope = tuple[str, str]
"""An upstream and its name of a model."""

_MOST_SCOPES, _MOST_CLIENTS = 1024, 32
# No tokenizer has fewer or more bytes for a token of text that somebody wrote.
_LEAST, _MOST = 1.0, 8.0
# Of a short prompt its template has a part that tells nothing of the text.
_SHORTEST = 200
# Variances: of what is usual, of a count against its estimate, and of what a count leaves unsaid of the next one; all
# of factors of the defaults.
_USUAL, _COUNT, _DRIFT = 0.36, 0.0004, 0.0005
# How much of what was seen before the latest count still counts beside it, for the one number of all kinds.
_EARLIER = 0.7
# How far that number has to go before the ratio that edits of the context count by follows it.
_STEP = 0.12
# Counts of a client that are all looked at, and the part of them that is later on.
_EACH, _ONE_OF = 16, 16


def _usual() -> list[list[float]]:
    return [[_USUAL if row == column else 0.0 for column in Kind] for row in Kind]


@dataclass(slots=True)
class _Seen:
    """What was seen of a client's prompts.

    Args:
        factors: Tokens of each kind, as a factor of what is usual.
        variances: How sure that is, and what of it hangs together.
        weight, tokens: Bytes and tokens of all kinds.
        offered: Counts that there were.
    """

    factors: list[float] = field(default_factory=lambda: [1.0] * len(Kind))
    variances: list[list[float]] = field(default_factory=_usual)
    weight: float = 0.0
    tokens: float = 0.0
    offered: int = 0

    def follow(self, prompt: Measure, tokens: int) -> None:
        """Take a count in."""
        usual = [size / default / tokens for size, default in zip(prompt.texts, DEFAULTS, strict=True)]
        gains = [sum(v * u for v, u in zip(row, usual, strict=True)) for row in self.variances]
        spread = sum(g * u for g, u in zip(gains, usual, strict=True)) + _COUNT
        others = prompt.others / BYTES_PER_TOKEN / tokens
        missed = 1 - others - sum(f * u for f, u in zip(self.factors, usual, strict=True))
        for row, gain in enumerate(gains):
            self.factors[row] = _within(self.factors[row] + gain / spread * missed, row)
            for column, other in enumerate(gains):
                self.variances[row][column] -= gain * other / spread
            self.variances[row][row] = min(self.variances[row][row] + _DRIFT, _USUAL)
        self.weight = self.weight * _EARLIER + prompt.weight
        self.tokens = self.tokens * _EARLIER + tokens


def _within(factor: float, kind: int) -> float:
    return min(max(factor, DEFAULTS[kind] / _MOST), DEFAULTS[kind] / _LEAST)


@dataclass(slots=True)
class _Model:
    """What was seen of a model.

    Args:
        clients: Of its clients, the one that came last at the end.
        offered: Counts that there were.
        steady: The ratio that edits of the context count by.
    """

    clients: OrderedDict[str, _Seen] = field(default_factory=OrderedDict)
    offered: int = 0
    steady: float = BYTES_PER_TOKEN

    def of(self, client: str) -> _Seen:
        """What was seen of a client."""
        own = self.clients.pop(client, None) or _Seen()
        self.clients[client] = own
        while len(self.clients) > _MOST_CLIENTS:
            self.clients.popitem(last=False)
        return own

    def known(self) -> dict[str, _Seen]:
        """The clients of which anything was seen."""
        return {name: each for name, each in self.clients.items() if each.tokens}


class TokenRatios:
    """Bytes per token, by model, client and kind of text.

    Args:
        seconds: How long they are kept.
        clock: Seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._known: TTLCache[Scope, _Model] = TTLCache(_MOST_SCOPES, seconds, timer=clock)

    def wants(self, scope: Scope, client: str) -> bool:
        """Whether another count is worth looking at the prompt, which takes long: at first each of a client's is, one
        that tells nothing too, and one of some later on.
        """
        model = self._model(scope)
        model.offered += 1
        own = model.of(client)
        own.offered += 1
        is_new = own.offered <= _EACH and model.offered <= _EACH * _MOST_CLIENTS
        return is_new or model.offered % _ONE_OF == 0

    def observe(self, scope: Scope, client: str, prompt: Measure, tokens: int) -> None:
        """An upstream counted a prompt.

        Args:
            scope: The upstream and the model.
            client: Whose prompt it was.
            prompt: What it is made of.
            tokens: The count.
        """
        # Images weigh what they weigh by Anthropic's rule, and not by this model's.
        if prompt.weight < _SHORTEST or prompt.others > prompt.weight / 2:
            return
        if not _LEAST <= prompt.weight / max(tokens, 1) <= _MOST:
            return
        self._model(scope).of(client).follow(prompt, tokens)

    def _model(self, scope: Scope) -> _Model:
        """What was seen of a model, kept from now on for its time."""
        model = self._known[scope] = self._known.get(scope) or _Model()
        return model

    def ratios(self, scope: Scope, client: str) -> tuple[float, ...]:
        """Bytes per token by `Kind`, as far as they are known."""
        model = self._known.get(scope)
        clients = model.known() if model else {}
        if not clients:
            return DEFAULTS
        seen = [clients[client]] if client in clients else list(clients.values())
        return tuple(DEFAULTS[kind] / median(each.factors[kind] for each in seen) for kind in Kind)

    def bytes_per_token(self, scope: Scope) -> float:
        """One number for any prompt, which changes rarely, and by much if it does."""
        model = self._known.get(scope)
        if model is None:
            return BYTES_PER_TOKEN
        if clients := model.known():
            now = median(each.weight / each.tokens for each in clients.values())
            model.steady = now if abs(now - model.steady) > _STEP * model.steady else model.steady
        return model.steady
