"""Read-only access to the published warehouse, for everyone: it can be held open for days and blocks nobody."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa

from vprism_pipelines.errors import InvalidQuery, NotPublished, VprismError
from vprism_pipelines.settings import Settings
from vprism_pipelines.telemetry import count, timed
from vprism_pipelines.telemetry.metrics import QUERY_FAIL, QUERY_LATENCY, WAREHOUSE

Identity = tuple[int, int, int, int]
"""Device, inode, size and time of change of a file: another one, another content."""


class Reader:
    """The newest published snapshot; moves on by itself when a newer one appears.

    Safe for many threads: every query runs on a cursor of its own, and a query that started on one snapshot ends on it.

    Args:
        settings: Where the published file is, and the memory limit.
        threads: DuckDB threads of this process; 0 leaves DuckDB's default.
    """

    def __init__(self, settings: Settings, threads: int = 0) -> None:
        self._settings = settings
        self._threads = threads or settings.duckdb_threads
        self._lock = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._identity: Identity | None = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the snapshot."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = self._identity = None

    def arrow(self, sql: str, parameters: Sequence[Any] | dict[str, Any] | None = None) -> pa.Table:
        """Run one statement and return an Arrow table.

        Raises:
            NotPublished: There is no published warehouse yet.
            InvalidQuery: The statement is wrong, or tries to write.
        """
        try:
            with timed(QUERY_LATENCY, "query", provider=WAREHOUSE):
                return self._arrow(sql, parameters)
        except VprismError as error:
            count(QUERY_FAIL, provider=WAREHOUSE, code=error.code)
            raise

    def _arrow(self, sql: str, parameters: Sequence[Any] | dict[str, Any] | None) -> pa.Table:
        cursor = self._cursor()
        try:
            result = cursor.execute(sql, parameters)
            if result.description is None:
                raise InvalidQuery("the statement is empty", hint="write a SELECT")
            return result.to_arrow_table()
        except duckdb.Error as error:
            raise InvalidQuery(str(error).strip(), hint=_advice(error)) from error
        finally:
            cursor.close()

    def query(self, sql: str, parameters: Sequence[Any] | dict[str, Any] | None = None) -> pl.DataFrame:
        """Run one statement and return a polars frame; errors as in `arrow`."""
        return pl.DataFrame(self.arrow(sql, parameters))

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            while (newest := self._published()) != self._identity:
                try:
                    # Cursors of the old snapshot stay valid until they are closed.
                    self._connection, self._identity = self._open(newest), newest
                except NotPublished:
                    if newest == self._published():
                        raise
                    # Published again, and the old file removed, while it was being opened.
            assert self._connection is not None
            cursor = self._connection.cursor()
        cursor.execute("SET enable_progress_bar = false")  # it would write into the protocol on stdout
        return cursor

    @property
    def newest(self) -> Identity:
        """Tells the published snapshot from every other; changes when another one is published.

        Raises:
            NotPublished: There is none yet.
        """
        return self._published()

    def _published(self) -> Identity:
        published = self._settings.database
        try:
            return _identity(published)
        except FileNotFoundError:
            raise NotPublished(
                "nothing has been published yet", hint="run `vprism run` first, or set DUCKDB_DATABASE", path=published
            ) from None

    def _versioned(self, identity: Identity) -> Path:
        """The snapshot behind the published name, under its own name.

        One process must never open one name twice for two contents: DuckDB would hand out the first again.
        """
        for candidate in sorted(self._settings.warehouse_dir.glob("snapshots/wh-*.duckdb"), reverse=True):
            with suppress(FileNotFoundError):
                if _identity(candidate) == identity or _is_copy(candidate, identity):
                    return candidate
        return self._settings.database

    def _open(self, identity: Identity) -> duckdb.DuckDBPyConnection:
        path = self._versioned(identity)
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": self._settings.duckdb_memory_limit,
            "autoinstall_known_extensions": False,
        }
        if self._threads:
            config["threads"] = self._threads
        try:
            connection = duckdb.connect(str(path), read_only=True, config=config)
            connection.execute("SET GLOBAL TimeZone = 'UTC'")
            return connection
        except duckdb.Error as error:
            raise NotPublished(
                f"the published warehouse cannot be opened: {error}", hint="publish again: `vprism run`", path=path
            ) from error


def _identity(path: Path) -> Identity:
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def _is_copy(path: Path, identity: Identity) -> bool:
    """Whether the published file is a copy of this one, because it is on a file system of its own."""
    device, _, *content = _identity(path)
    return device != identity[0] and content == list(identity[2:])


def _advice(error: duckdb.Error) -> str:
    if "read-only" in str(error):
        return "the published warehouse is read-only; the pipeline alone writes"
    if isinstance(error, duckdb.CatalogException):
        return "`vprism sql 'SHOW ALL TABLES'` lists what there is"
    return "see the DuckDB SQL documentation"
