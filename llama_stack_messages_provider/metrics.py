"""The host's inference metrics for requests that do not pass its router."""

import time
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Literal

from opentelemetry import metrics

from llama_stack_messages_provider.api_support import unknown_fields
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.host.telemetry import (
    create_inference_metric_attributes,
    inference_duration,
    inference_time_to_first_token,
    inference_tokens_per_second,
)
from llama_stack_messages_provider.status.tally import TALLY
from llama_stack_messages_provider.upstream.target import Target
from llama_stack_messages_provider.wire.request import CreateMessageRequest

__all__ = [
    "MAX_UNKNOWN_NAMES",
    "InferenceMetrics",
    "count_adaptations",
    "count_description",
    "count_dropped",
    "count_fallback",
    "count_spill_over",
    "count_unknown_fields",
    "count_verdict",
]

logger = get_logger(name=__name__, category="providers")

_dropped = metrics.get_meter("llama_stack.messages").create_counter(
    name="llama_stack.messages.dropped_total",
    description="Parts of requests that did not reach a model",
    unit="1",
)


def count_dropped(target: Target, names: list[str]) -> None:
    """Count what a translation could not carry, by the parameter it belongs to."""
    for name in names:
        part = name.partition(".")[0]
        # Any client can invent fields, and each would be a series of its own.
        known = part if part in CreateMessageRequest.model_fields else "unknown"
        attributes = {"model": target.label, "provider": target.provider_id, "part": known}
        _dropped.add(1, attributes=attributes)
        TALLY.drop(known)


_adaptations = metrics.get_meter("llama_stack.messages").create_counter(
    name="llama_stack.messages.adaptations_total",
    description="Changes to requests that upstreams had refused and then took",
    unit="1",
)


def count_adaptations(target: Target, names: Collection[str]) -> None:
    """Count how a request was changed, by the kinds of changes."""
    for name in names:
        _adaptations.add(1, attributes={"model": target.label, "provider": target.provider_id, "change": name})
        TALLY.adapt(target.label, name)


_unknown = metrics.get_meter("llama_stack.messages").create_counter(
    name="llama_stack.messages.unknown_fields_total",
    description="Parameters of requests that this version does not know, by name",
    unit="1",
)
MAX_UNKNOWN_NAMES: int = 100
_names: set[str] = set()


def count_unknown_fields(request: Mapping[str, object]) -> None:
    """Count the parameters that nobody knows; the first of each name is logged, so that a new one is noticed."""
    for name in unknown_fields(request):
        if name not in _names and len(_names) < MAX_UNKNOWN_NAMES:
            _names.add(name)
            logger.info("A request has a parameter that is not known here", parameter=name)
        # Any client can invent names, and each is a series of its own.
        _unknown.add(1, attributes={"parameter": name if name in _names else "other"})


_verdicts = metrics.get_meter("llama_stack.messages").create_counter(
    name="llama_stack.messages.safeguard_verdicts_total",
    description="Calls of tools that were judged for their client, by outcome",
    unit="1",
)


def count_verdict(model: str, outcome: str, reason: str | None) -> None:
    """Count what was found of a call."""
    _verdicts.add(1, attributes={"model": model, "outcome": outcome, "reason": reason or "none"})


_fallbacks = metrics.get_meter("llama_stack.messages").create_counter(
    name="llama_stack.messages.fallbacks_total",
    description="Requests for which another model was asked, by what the one before it did",
    unit="1",
)


def count_fallback(before: Target, after: Target, reason: str) -> None:
    """Count that another model was asked, by what the one before it did."""
    attributes = {"model": before.label, "provider": before.provider_id, "reason": reason}
    _fallbacks.add(1, attributes={**attributes, "fallback_model": after.label})


_spill_overs = metrics.get_meter("llama_stack.messages").create_counter(
    name="llama_stack.messages.spill_overs_total",
    description="Requests for which another of equal replicas was asked, as the one before it was down or full",
    unit="1",
)


def count_spill_over(before: Target, after: Target) -> None:
    """Count that another replica was asked."""
    attributes = {"model": before.label, "provider": before.provider_id, "replica": after.label}
    _spill_overs.add(1, attributes=attributes)


_descriptions = metrics.get_meter("llama_stack.messages").create_counter(
    name="llama_stack.messages.image_descriptions_total",
    description="Images that a model was asked to describe, by outcome",
    unit="1",
)


def count_description(outcome: Literal["described", "failed", "late"], images: int = 1) -> None:
    """Count images that were to be described."""
    _descriptions.add(images, attributes={"outcome": outcome})


class InferenceMetrics:
    """Measures one inference while it is entered, in seconds.

    Args:
        target: The model.
        stream: Whether it is streamed.
    """

    __slots__ = ("_duration", "_first", "_start", "_stream", "_target")

    def __init__(self, target: Target, *, stream: bool) -> None:
        self._target = target
        self._stream = stream
        self._start = time.perf_counter()
        self._duration = 0.0
        self._first = False

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._duration = time.perf_counter() - self._start
        inference_duration.record(self._duration, attributes=self._attributes("error" if kind else "success"))

    def first(self) -> None:
        """The first piece of a stream is there."""
        if not self._first:
            self._first = True
            waited = time.perf_counter() - self._start
            inference_time_to_first_token.record(waited, attributes=self._attributes("success"))

    def output_tokens(self, tokens: int) -> None:
        """How many tokens were generated."""
        if tokens and self._duration > 0:
            rate = tokens / self._duration
            inference_tokens_per_second.record(rate, attributes=self._attributes("success"))

    def _attributes(self, status: str) -> dict[str, str]:
        return create_inference_metric_attributes(
            model=self._target.label,
            provider=self._target.provider_id,
            stream=self._stream,
            status=status,
        )
