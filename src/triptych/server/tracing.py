"""OpenTelemetry traces (extra `otel`), if the usual variables name a collector, such as `OTEL_EXPORTER_OTLP_ENDPOINT`.

The MCP SDK makes a span for each message; its parent is the `traceparent` in the request's `_meta`. Here come a span
for each step of a prediction and each request to a provider. A step may run days later, in another process: so each
job has a trace of its own, whose ids follow from the job's id, and the span of the call that made the job links to it.

Rules: attributes are names, ids and numbers. Texts of errors are left out, also from the SDK's spans, because they can
quote a prompt or a URL.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from triptych import __version__
from triptych.core import telemetry

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

log = logging.getLogger(__name__)

NAMES = {"call": "provider", "request": "provider request", "step": "step", "job": "job"}
"""The spans that are traced; calls of the database would be too many."""


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Return whether the environment names a collector of traces."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if chosen := environ.get("OTEL_TRACES_EXPORTER", "").strip().lower():
        return chosen == "otlp"
    return any(environ.get(f"OTEL_EXPORTER_OTLP_{name}", "").strip() for name in ("ENDPOINT", "TRACES_ENDPOINT"))


def start(environ: Mapping[str, str]) -> TracerProvider | None:
    """Send traces from now on if the environment names a collector; return their provider, to be shut down."""
    if not is_wanted(environ):
        return None
    if find_spec("opentelemetry.sdk") is None or find_spec("opentelemetry.exporter.otlp") is None:
        log.warning("OTEL_… names a collector, and traces need the extra: pip install 'triptych[otel]'")
        return None
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    own = {"service.version": __version__}
    if not environ.get("OTEL_SERVICE_NAME", "").strip() and "service.name" not in environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    ):
        own["service.name"] = "triptych"
    ids = _ids()
    provider = TracerProvider(resource=Resource.create(own), id_generator=ids)
    provider.add_span_processor(BatchSpanProcessor(_without_texts(OTLPSpanExporter())))
    trace.set_tracer_provider(provider)
    telemetry.listeners.append(Tracing(provider, ids))
    return provider


def job_ids(job_id: str) -> tuple[int, int]:
    """Return the ids of a job's trace and of its first span: the same in every process."""
    digest = hashlib.sha256(b"triptych job\0" + job_id.encode()).digest()
    return int.from_bytes(digest[:16], "big") or 1, int.from_bytes(digest[16:24], "big") or 1


class Tracing(telemetry.Listener):
    """Makes OpenTelemetry spans of ours."""

    def __init__(self, provider: TracerProvider, ids: Any) -> None:
        self._tracer = provider.get_tracer("triptych", __version__)
        self._sampler = provider.sampler
        self._ids = ids

    def started(self, span: telemetry.Span) -> None:
        from opentelemetry import context, trace

        if span.name not in NAMES:
            return
        current = trace.get_current_span()
        if span.name == "job":
            self._ids.next = job_ids(str(span.attributes["job_id"]))
            links = [trace.Link(current.get_span_context())] if current.get_span_context().is_valid else []
            try:
                made = self._tracer.start_span("job", context.Context(), links=links)
            finally:
                self._ids.next = None
            current.add_link(made.get_span_context())
        elif span.name == "step":
            parent = trace.set_span_in_context(trace.NonRecordingSpan(self._first(span)), context.Context())
            made = self._tracer.start_span(f"step {span.attributes['state']}", parent)
        else:
            what = span.attributes.get("kind") or span.attributes.get("method")
            made = self._tracer.start_span(f"{NAMES[span.name]} {what}", kind=trace.SpanKind.CLIENT)
        span.kept[self] = made, context.attach(trace.set_span_in_context(made))

    def _first(self, span: telemetry.Span) -> Any:
        """Return the first span of a step's job as its parent; whether it is sampled follows from the trace's id."""
        from opentelemetry import trace

        trace_id, span_id = job_ids(str(span.attributes["job_id"]))
        decision: Any = self._sampler.should_sample(None, trace_id, "job").decision
        sampled = decision.is_sampled()
        flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if sampled else trace.TraceFlags.DEFAULT)
        return trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)

    def ended(self, span: telemetry.Span, error: BaseException | None) -> None:
        from opentelemetry import context, trace

        if self not in span.kept:
            return
        made, token = span.kept.pop(self)
        made.set_attributes({f"triptych.{name}": value for name, value in span.attributes.items()})
        if error is not None:
            made.set_attribute("error.type", getattr(error, "kind", type(error).__name__))
            made.set_status(trace.StatusCode.ERROR)
        context.detach(token)
        made.end()


def _ids() -> Any:
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        """Random ids, but for a span whose ids are given in `next`."""

        next: tuple[int, int] | None = None

        def generate_trace_id(self) -> int:
            return self.next[0] if self.next else super().generate_trace_id()

        def generate_span_id(self) -> int:
            return self.next[1] if self.next else super().generate_span_id()

    return Ids()


def _without_texts(exporter: SpanExporter) -> SpanExporter:
    """Return an exporter that sends no text of an error."""
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Status

    class WithoutTexts(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            return exporter.export([bare(span) for span in spans])

        def shutdown(self) -> None:
            exporter.shutdown()

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return exporter.force_flush(timeout_millis)

    def bare(span: ReadableSpan) -> ReadableSpan:
        return ReadableSpan(
            span.name[:100],
            context=span.get_span_context(),
            parent=span.parent,
            resource=span.resource,
            attributes=span.attributes,
            links=span.links,
            kind=span.kind,
            status=Status(span.status.status_code),
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )

    return WithoutTexts()
