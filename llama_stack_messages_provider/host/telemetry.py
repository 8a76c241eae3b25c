"""The instruments of Llama Stack's router, for requests that do not pass it."""

from llama_stack.telemetry.inference_metrics import (
    create_inference_metric_attributes,
    inference_duration,
    inference_time_to_first_token,
    inference_tokens_per_second,
)

__all__ = [
    "create_inference_metric_attributes",
    "inference_duration",
    "inference_time_to_first_token",
    "inference_tokens_per_second",
]
