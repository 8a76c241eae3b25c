"""A collector: what a server exports over OTLP/HTTP, read back.

```
with Collector() as collector:
    with Stack(config, folder, env=collector.env): ...
    eventually(lambda: collector.spans("chat m"))
```
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from tests.support.upstream import Personality, Reply, ScriptedUpstream

__all__ = ["Collector", "Point", "Span"]

TRACES, METRICS = "/v1/traces", "/v1/metrics"


@dataclass(frozen=True, slots=True)
class Span:
    """A span: `kind` and `status` as OTLP numbers them."""

    name: str
    trace: str
    id: str
    parent: str
    kind: int
    status: int
    attributes: Mapping[str, Any]
    links: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Point:
    """What a metric has come to, for its attributes."""

    attributes: Mapping[str, Any]
    value: float
    count: int
    bounds: tuple[float, ...]


class Collector(ScriptedUpstream):
    """Takes traces and metrics; a context manager."""

    def __init__(self) -> None:
        super().__init__(Personality("collector", {f"POST {path}": Reply(200) for path in (TRACES, METRICS)}))

    @property
    def env(self) -> dict[str, str | None]:
        """What makes a server export to it, soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    def spans(self, name: str = "", **attributes: Any) -> list[Span]:
        """Spans with a name and attributes, by their names with `__` for dots."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        return [
            span
            for span in self._spans()
            if name in ("", span.name) and all(span.attributes.get(key) == value for key, value in wanted.items())
        ]

    def _spans(self) -> Iterator[Span]:
        for request in self.requests_to(TRACES):
            for resource in ExportTraceServiceRequest.FromString(request.body).resource_spans:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        yield Span(
                            span.name,
                            span.trace_id.hex(),
                            span.span_id.hex(),
                            span.parent_span_id.hex(),
                            span.kind,
                            span.status.code,
                            _attributes(span.attributes),
                            tuple(link.trace_id.hex() for link in span.links),
                            str(span),
                        )

    def metrics(self) -> dict[str, list[Point]]:
        """What all metrics have come to, by their names."""
        found: dict[str, list[Point]] = {}
        for request in self.requests_to(METRICS):
            for resource in ExportMetricsServiceRequest.FromString(request.body).resource_metrics:
                for scope in resource.scope_metrics:
                    found |= {metric.name: list(_points(metric)) for metric in scope.metrics}
        return found

    def total(self, name: str, **attributes: Any) -> float:
        """The sum of a metric over all points with these attributes, by their names with `__` for dots."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        points = self.metrics().get(name, [])
        return sum(p.value for p in points if all(p.attributes.get(key) == value for key, value in wanted.items()))


def _points(metric: Metric) -> Iterator[Point]:
    for point in metric.histogram.data_points:
        yield Point(_attributes(point.attributes), point.sum, point.count, tuple(point.explicit_bounds))
    for number in (*metric.sum.data_points, *metric.gauge.data_points):
        yield Point(_attributes(number.attributes), number.as_int or number.as_double, 1, ())


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind) if kind else None
