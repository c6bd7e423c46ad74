"""What was counted, in Prometheus' text format: for a scrape, a textfile collector or a push gateway."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest, push_to_gateway, write_to_textfile
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from vprism_pipelines.errors import InvalidConfiguration, StorageUnwritable, Unavailable
from vprism_pipelines.settings import Settings
from vprism_pipelines.telemetry.metrics import BOOK, CATALOGUE, SUM, Labels, Metric, Parts, read

JOB = "vprism"


class _Counted(Collector):
    """The samples of an installation, read anew for every collection."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def collect(self) -> Iterator[Family]:
        BOOK.flush()
        found = read(self._path)
        for metric in CATALOGUE:
            yield _family(metric, found.get(metric.name, {}))


def registry(settings: Settings) -> CollectorRegistry:
    """Everything counted by the processes of an installation, up to now."""
    made = CollectorRegistry()
    made.register(_Counted(settings.metrics_path))
    return made


def text(settings: Settings) -> str:
    """The text format, version 0.0.4: the body of a `/metrics` endpoint."""
    return generate_latest(registry(settings)).decode()


def write_textfile(settings: Settings, path: Path) -> None:
    """Write a file for node_exporter's textfile collector, replaced in one step.

    Raises:
        StorageUnwritable: It cannot be written.
    """
    try:
        write_to_textfile(str(path), registry(settings))
    except OSError as error:
        raise StorageUnwritable(
            f"cannot write metrics: {error.strerror}", hint="name a file in a folder you may write to", path=path
        ) from error


def push(settings: Settings, url: str) -> None:
    """Replace the metrics of job `vprism` on a push gateway.

    Raises:
        InvalidConfiguration: The address is not one of HTTP.
        Unavailable: This installation is offline, or the gateway did not take them.
    """
    if settings.offline:
        raise Unavailable("offline: VPRISM_OFFLINE is set, nothing is pushed", hint="use --textfile")
    if not url.startswith(("http://", "https://")):
        raise InvalidConfiguration("a push gateway's address begins with http:// or https://", url=url)
    try:
        push_to_gateway(url, job=JOB, registry=registry(settings), timeout=settings.provider_timeout)
    except OSError as error:
        raise Unavailable(
            f"the push gateway did not take the metrics: {error}", hint="is it running there?", url=url
        ) from error


def _family(metric: Metric, samples: dict[Labels, Parts]) -> Family:
    if not metric.bounds:
        counter = CounterMetricFamily(metric.name, metric.about, labels=metric.labels)
        for labels, parts in samples.items():
            counter.add_metric(labels, parts[""])
        return counter
    histogram = HistogramMetricFamily(metric.name, metric.about, labels=metric.labels)
    for labels, parts in samples.items():
        # Every bound, also those nothing fell under yet: a bucket must not appear in the middle of a series.
        bounds = sorted({*map(float, metric.bounds), float("inf"), *(float(part) for part in parts if part != SUM)})
        counts = {float(part): value for part, value in parts.items() if part != SUM}
        cumulated = accumulate(counts.get(bound, 0.0) for bound in bounds)
        buckets = [(_bound(bound), value) for bound, value in zip(bounds, cumulated, strict=True)]
        histogram.add_metric(labels, buckets, parts[SUM])
    return histogram


def _bound(value: float) -> str:
    return "+Inf" if value == float("inf") else f"{value:g}"
