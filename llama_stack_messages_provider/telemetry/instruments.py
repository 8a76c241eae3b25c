"""The metrics of the GenAI semantic conventions, and those of ours that they have no name for.

Names, units and bucket boundaries: OpenTelemetry's semantic conventions 1.41.0, docs/gen-ai/gen-ai-metrics.md.
"""

from opentelemetry import metrics

__all__ = [
    "BATCH_REQUESTS",
    "CACHED_TOKENS",
    "OPERATION_DURATION",
    "REQUEST_DURATION",
    "SHIELD_RUNS",
    "TIME_TO_FIRST_TOKEN",
    "TOKENS",
    "TOOL_DURATION",
]

_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_TOKENS = tuple(4**power for power in range(14))

_meter = metrics.get_meter("llama_stack.messages")

TOKENS = _meter.create_histogram(
    "gen_ai.client.token.usage",
    unit="{token}",
    description="Tokens of one call of a model",
    explicit_bucket_boundaries_advisory=_TOKENS,
)
OPERATION_DURATION = _meter.create_histogram(
    "gen_ai.client.operation.duration",
    unit="s",
    description="Duration of one call of a model",
    explicit_bucket_boundaries_advisory=_SECONDS,
)
REQUEST_DURATION = _meter.create_histogram(
    "gen_ai.server.request.duration",
    unit="s",
    description="Duration of a message or a count, as its client sees it",
    explicit_bucket_boundaries_advisory=_SECONDS,
)
TIME_TO_FIRST_TOKEN = _meter.create_histogram(
    "gen_ai.server.time_to_first_token",
    unit="s",
    description="Time to the first piece of content of a streamed message",
    explicit_bucket_boundaries_advisory=_FIRST_SECONDS,
)
CACHED_TOKENS = _meter.create_counter(
    "llama_stack.messages.cached_tokens_total",
    unit="{token}",
    description="Input tokens that were read from a cache, or written to one",
)
TOOL_DURATION = _meter.create_histogram(
    "llama_stack.messages.server_tool.duration",
    unit="s",
    description="Duration of a call of a tool that is run here",
    explicit_bucket_boundaries_advisory=_SECONDS,
)
BATCH_REQUESTS = _meter.create_counter(
    "llama_stack.messages.batch_requests_total",
    unit="1",
    description="Requests of batches that were run, by outcome",
)
SHIELD_RUNS = _meter.create_counter(
    "llama_stack.messages.shield_runs_total",
    unit="1",
    description="Texts that shields were to judge, by what came of it",
)
