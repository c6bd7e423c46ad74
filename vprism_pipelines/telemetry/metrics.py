"""Counters and histograms that add up across processes and restarts: buffered for a second, kept in a SQLite file.

Batch processes come and go; Prometheus wants counters that only grow. So each process adds what it counted to one file,
in one transaction, within a second and when it ends. Only a process that is killed loses its last second.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vprism_pipelines.errors import StorageUnwritable

if TYPE_CHECKING:
    import sqlite3

    from vprism_pipelines.state import SharedState

logger = logging.getLogger(__name__)

MOST_LABEL_SETS: Final = 50
OTHER: Final = "__other__"
"""Every label of what does not fit into the 50 label sets of a metric."""

SUM: Final = "sum"
FLUSH_SECONDS: Final = 1.0
_MILLISECONDS: Final = (1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000)

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS samples (
    metric TEXT NOT NULL, labels TEXT NOT NULL, part TEXT NOT NULL, value REAL NOT NULL,
    PRIMARY KEY (metric, labels, part)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Metric:
    """A counter, or a histogram when it has bounds.

    Attributes:
        name: As Prometheus sees it.
        about: One line for people.
        labels: Names of its labels; never a symbol: there are thousands.
        bounds: Upper bounds of the histogram's buckets, ascending; above the last one is +Inf.
    """

    name: str
    about: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


PROVIDER_REQUESTS = Metric(
    "vprism_provider_requests_total", "Questions put to providers, by the outcome of the answer.", ("provider", "code")
)
QUERY_LATENCY = Metric(
    "vprism_query_latency_ms",
    "Time to an answer, from a provider or from the published warehouse.",
    ("provider",),
    _MILLISECONDS,
)
QUERY_FAIL = Metric(
    "vprism_query_fail_total", "Questions that ended in an error, to providers or the warehouse.", ("provider", "code")
)
SYMBOL_NORMALIZATION = Metric(
    "vprism_symbol_normalization_total", "Symbols brought to their canonical form: resolved or unresolved.", ("status",)
)
WRITE_LATENCY = Metric(
    "vprism_write_latency_ms", "Writing transactions, waiting for the lock included.", (), _MILLISECONDS
)
PUBLISH_LATENCY = Metric("vprism_publish_latency_ms", "Publishing a snapshot.", (), _MILLISECONDS)

CATALOGUE: Final = (
    QUERY_LATENCY,
    QUERY_FAIL,
    PROVIDER_REQUESTS,
    SYMBOL_NORMALIZATION,
    WRITE_LATENCY,
    PUBLISH_LATENCY,
)

OK: Final = "OK"
WAREHOUSE: Final = "warehouse"
"""The `provider` of questions to the published snapshot."""

Labels = tuple[str, ...]
"""Label values, in the order of `Metric.labels`."""
Parts = dict[str, float]
"""Of a counter: its value under "". Of a histogram: counts by upper bound, not cumulated, and `sum`."""


class Book:
    """What this process counted and has not written yet. Thread-safe; counts nothing until `keep` names a file."""

    def __init__(self) -> None:
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._waiting: dict[tuple[str, Labels], Parts] = {}
        self._path: Path | None = None
        self._state: SharedState | None = None
        self._timer: threading.Timer | None = None

    def keep(self, path: Path | None) -> None:
        """Write to this file from now on; None: count nothing."""
        if path == self._path:
            return
        self.close()
        with self._lock:
            self._path = path
            self._waiting.clear()

    def close(self) -> None:
        """Write what was counted and release the file; the next count opens it again."""
        self.flush()
        with self._writing:
            if self._state is not None:
                self._state.close()
            self._state = None

    def count(self, metric: Metric, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        self._add(metric, labels, {"": amount})

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Add one value to a histogram."""
        place = bisect_left(metric.bounds, value)
        bound = f"{metric.bounds[place]:g}" if place < len(metric.bounds) else "+Inf"
        self._add(metric, labels, {bound: 1, SUM: value})

    def flush(self) -> None:
        """Write what was counted. What cannot be written now is kept for the next time."""
        with self._writing:
            with self._lock:
                self._timer = None
                taken, self._waiting = self._waiting, {}
            path = self._path
            # A data directory is made by what writes data, never by counting.
            if not taken or path is None or not path.parent.parent.is_dir():
                return
            self._state = self._state or shared(path)
            try:
                with self._state.transaction() as db:
                    for (name, labels), parts in taken.items():
                        _store(db, name, labels, parts)
            except StorageUnwritable as error:
                with self._lock:
                    for key, parts in taken.items():
                        self._merge(key, parts)
                logger.debug("%s", error)

    def _add(self, metric: Metric, labels: Mapping[str, str], parts: Parts) -> None:
        if labels.keys() != set(metric.labels):
            raise ValueError(f"{metric.name} has the labels {metric.labels}, not {tuple(labels)}")
        if self._path is None:
            return
        key = (metric.name, tuple(labels[name] for name in metric.labels))
        with self._lock:
            self._merge(key, parts)
            if self._timer is None:
                self._timer = threading.Timer(FLUSH_SECONDS, self.flush)
                self._timer.daemon = True
                self._timer.start()

    def _merge(self, key: tuple[str, Labels], parts: Parts) -> None:
        standing = self._waiting.setdefault(key, {})
        for part, value in parts.items():
            standing[part] = standing.get(part, 0) + value

    def forget(self) -> None:
        """Drop what is not written: a forked child begins at nothing, its parent writes what was counted so far."""
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._waiting, self._state, self._timer = {}, None, None


def shared(path: Path) -> SharedState:
    """The file that processes add to."""
    from vprism_pipelines.state import SharedState

    return SharedState(path, _SCHEMA, content="metrics", lost="what was counted so far")


def read(path: Path) -> dict[str, dict[Labels, Parts]]:
    """What all processes counted and wrote, by metric and labels; nothing when nobody did."""
    found: dict[str, dict[Labels, Parts]] = defaultdict(dict)
    if path.exists():
        state = shared(path)
        try:
            with state.transaction() as db:
                for name, labels, part, value in db.execute("SELECT * FROM samples ORDER BY metric, labels"):
                    found[name].setdefault(tuple(json.loads(labels)), {})[part] = value
        finally:
            state.close()
    return dict(found)


def _store(db: sqlite3.Connection, name: str, labels: Labels, parts: Parts) -> None:
    """Add to the samples of a metric; under `__other__` when it has its 50 label sets already."""
    others = json.dumps([OTHER] * len(labels))
    known = {row[0] for row in db.execute("SELECT DISTINCT labels FROM samples WHERE metric = ?", [name])} - {others}
    written = json.dumps(labels, ensure_ascii=False)
    if written not in known and len(known) >= MOST_LABEL_SETS:
        written = others
    db.executemany(
        "INSERT INTO samples VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
        [(name, written, part, value) for part, value in parts.items()],
    )


BOOK: Final = Book()
"""The book of this process."""

atexit.register(BOOK.close)
os.register_at_fork(after_in_child=BOOK.forget)
