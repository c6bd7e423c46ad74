"""Sending spans to a collector over OTLP. Imported only where `OTEL_EXPORTER_OTLP_ENDPOINT` is set."""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from vprism_pipelines import __version__
from vprism_pipelines.settings import Settings
from vprism_pipelines.telemetry.spans import fields


class _IdsOfLogs(RandomIdGenerator):
    """The trace id that the log lines carry."""

    def generate_trace_id(self) -> int:
        known = fields().get("trace_id")
        return int(known, 16) if known else super().generate_trace_id()


def provider(settings: Settings, processor: SpanProcessor) -> TracerProvider:
    """A tracer provider whose traces have the ids of our logs."""
    described = Resource.create({"service.name": settings.otel_service_name, "service.version": __version__})
    made = TracerProvider(resource=described, id_generator=_IdsOfLogs())
    made.add_span_processor(processor)
    return made


def export(settings: Settings) -> None:
    """Send spans to the collector of the settings, in batches, and what is left when the process ends."""
    endpoint = f"{(settings.otel_endpoint or '').rstrip('/')}/v1/traces"
    exporter = OTLPSpanExporter(endpoint=endpoint, headers=settings.trace_headers)
    trace.set_tracer_provider(provider(settings, BatchSpanProcessor(exporter)))
