"""What several processes and later runs must know about a provider: quota counters and circuits, in a SQLite file."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from vprism_pipelines.errors import StorageUnwritable

_BUSY_SECONDS = 10.0

# In draws, days and flights `provider` is the account its requests are counted on.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS draws (provider TEXT NOT NULL, at REAL NOT NULL, cost INTEGER NOT NULL);
DROP INDEX IF EXISTS draws_by_time;
CREATE INDEX IF NOT EXISTS draws_in_time ON draws (provider, at, cost);
CREATE TABLE IF NOT EXISTS days (
    provider TEXT NOT NULL, day TEXT NOT NULL, used INTEGER NOT NULL, PRIMARY KEY (provider, day)
) WITHOUT ROWID;
DROP TABLE IF EXISTS leases;
CREATE TABLE IF NOT EXISTS flights (
    id INTEGER PRIMARY KEY, provider TEXT NOT NULL, expires REAL NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS circuits (
    provider TEXT PRIMARY KEY, failures INTEGER NOT NULL, cooldown REAL NOT NULL, open_until REAL, cause TEXT NOT NULL
) WITHOUT ROWID;
"""


class State:
    """A small transactional store shared by every process that uses the same path. Thread-safe.

    Instants in it are seconds since 1970: the one clock that processes and restarts have in common.

    Args:
        path: The file, created with its folder on first use; None keeps everything in memory.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One atomic read-and-write; other processes wait. It takes well under a millisecond, so it may block.

        Raises:
            StorageUnwritable: The file cannot be created, is not SQLite, stayed locked for ten seconds, or the disk
                is full.
        """
        with self._lock, self._reported():
            db = self._db = self._db or self._connect()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Release the file; the next transaction opens it again. What is kept in memory stays."""
        with self._lock:
            if self._db is not None and self._path is not None:
                self._db.close()
                self._db = None

    def _connect(self) -> sqlite3.Connection:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(
            self._path or ":memory:", timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        # SQLite does not wait when two processes switch a new file to WAL at the same moment.
        patiently = Retrying(
            retry=retry_if_exception(_is_busy),
            stop=stop_after_delay(_BUSY_SECONDS),
            wait=wait_random(0.005, 0.05),
            reraise=True,
        )
        try:
            patiently(db.execute, "PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")  # a power cut may forget the last draws, never corrupt them
            patiently(db.executescript, _SCHEMA)
        except BaseException:
            db.close()
            raise
        return db

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StorageUnwritable(
                f"the state of provider quotas cannot be kept: {error}",
                hint="make the file writable, or delete it: only today's request counters are lost",
                path=self._path,
            ) from error


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    )
