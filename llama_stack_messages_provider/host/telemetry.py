"""The host's OpenTelemetry: the instruments of its router, for requests that do not pass it, and its set-up.

Llama Stack 0.7.3 sets up metrics where `OTEL_EXPORTER_OTLP_ENDPOINT` is there (`llama_stack.telemetry`), and no traces,
which are left to `opentelemetry-instrument`. A server that nobody started with that has its traces set up here, by the
same variables.
"""

import asyncio
import os
import threading
from collections.abc import Mapping
from contextlib import suppress

from llama_stack.telemetry.inference_metrics import (
    create_inference_metric_attributes,
    inference_duration,
    inference_time_to_first_token,
    inference_tokens_per_second,
)
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from llama_stack_messages_provider.host.log import get_logger

__all__ = [
    "create_inference_metric_attributes",
    "flush_traces",
    "inference_duration",
    "inference_time_to_first_token",
    "inference_tokens_per_second",
    "listens",
    "set_up_traces",
    "trace_headers",
    "trace_of",
]

logger = get_logger(name=__name__, category="providers")

_propagator = TraceContextTextMapPropagator()
_FLUSH_SECONDS = 2.0
_API = ("opentelemetry.trace", "opentelemetry.metrics")


def listens() -> bool:
    """Whether anybody in this process takes spans or metrics: the API's own providers throw them away."""
    providers = (trace.get_tracer_provider(), metrics.get_meter_provider())
    return not all(type(provider).__module__.startswith(_API) for provider in providers)


def set_up_traces() -> None:
    """Export spans over OTLP where the host exports metrics, unless somebody has seen to it."""
    if not _wanted() or not type(trace.get_tracer_provider()).__module__.startswith(_API):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as exc:
        logger.warning("Traces are not exported", reason=str(exc))
        return
    name = os.environ.get("OTEL_SERVICE_NAME", "llama-stack")  # as the host names itself in metrics
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def _wanted() -> bool:
    env = os.environ
    if env.get("OTEL_SDK_DISABLED", "").lower() == "true" or env.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return False
    return bool(env.get("OTEL_EXPORTER_OTLP_ENDPOINT") or env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))


async def flush_traces() -> None:
    """Send what is still held of spans and metrics, for a short time: a stopped server runs no `atexit`."""
    flushes = [getattr(p, "force_flush", None) for p in (trace.get_tracer_provider(), metrics.get_meter_provider())]
    if not any(flushes):
        return
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def flush() -> None:
        for each in flushes:
            if each is not None:
                with suppress(Exception):
                    each()
        with suppress(RuntimeError):  # the loop is gone
            loop.call_soon_threadsafe(done.set)

    # A thread of an executor would be waited for, and a collector that is down keeps it for long.
    threading.Thread(target=flush, daemon=True).start()
    with suppress(TimeoutError):
        await asyncio.wait_for(done.wait(), _FLUSH_SECONDS)


def trace_headers() -> dict[str, str]:
    """The headers by which an upstream goes on with the current trace; empty where there is none."""
    return {} if trace.get_current_span() is trace.INVALID_SPAN else _headers_of(None)


def _headers_of(context: Context | None) -> dict[str, str]:
    headers: dict[str, str] = {}
    _propagator.inject(headers, context)
    return headers


def trace_of(headers: Mapping[str, str]) -> dict[str, str]:
    """The trace that a client says its request belongs to, as a header; nothing where it says none."""
    return _headers_of(_propagator.extract(headers)) if "traceparent" in headers else {}
