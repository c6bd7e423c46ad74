"""What can be seen from outside: logs, spans and metrics, behind three words that cost microseconds.

    with span("fetch", provider="yahoo", symbol="US:STOCK:AAPL"):      log fields, and an OpenTelemetry span
    count(PROVIDER_REQUESTS, provider="yahoo", code="OK")              a Prometheus counter
    observe(QUERY_LATENCY, 12.5, provider="yahoo")                     a Prometheus histogram

`start` says for which installation; before it, nothing is logged to files, traced or counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vprism_pipelines.errors import InvalidConfiguration
from vprism_pipelines.telemetry.hiding import hide, keep_secret
from vprism_pipelines.telemetry.metrics import BOOK, Metric
from vprism_pipelines.telemetry.spans import SHOWN, Span, fields, span

if TYPE_CHECKING:
    from vprism_pipelines.settings import Settings

__all__ = ["SHOWN", "Span", "count", "fields", "hide", "keep_secret", "observe", "span", "start", "timed"]

count = BOOK.count
observe = BOOK.observe


@contextmanager
def timed(metric: Metric, name: str, **labels: str) -> Iterator[Span]:
    """A span whose time in milliseconds goes into a histogram, whether it succeeds or fails."""
    started = time.perf_counter()
    try:
        with span(name, **labels) as work:
            yield work
    finally:
        BOOK.observe(metric, (time.perf_counter() - started) * 1000, **labels)


_started: Settings | None = None
_tracing = False


def start(settings: Settings, *, terminal: bool = False, level: str | None = None, color: bool = False) -> None:
    """Log, trace and count for an installation from now on; repeating it for the same one costs nothing.

    Args:
        settings: Of the installation.
        terminal: This process talks to a person: it logs on stderr as well.
        level: Of the log on stderr, instead of the configured one.
        color: Whether a terminal may be coloured.

    Raises:
        InvalidConfiguration: Spans are wanted and the extra `otel` is not installed.
        StorageUnwritable: The log file cannot be written.
    """
    global _started
    if settings is _started and not terminal:
        return
    from vprism_pipelines.telemetry import logs

    keep_secret(settings.secrets())
    BOOK.keep(settings.metrics_path if settings.metrics else None)
    if terminal:
        logs.to_terminal(settings, level or settings.log_level, color=color)
    else:
        logs.to_file(settings)
    if settings.otel_endpoint and not settings.offline:
        _trace(settings)
    _started = settings


def _trace(settings: Settings) -> None:
    global _tracing
    if _tracing:  # a process has one exporter for its whole life
        return
    try:
        from vprism_pipelines.telemetry import tracing
    except ImportError as error:
        raise InvalidConfiguration(
            f"OTEL_EXPORTER_OTLP_ENDPOINT is set and {error.name} is not installed",
            hint="pip install 'vprism-pipelines[otel]', or leave the variable empty",
        ) from error
    tracing.export(settings)
    _tracing = True
