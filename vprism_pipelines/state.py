"""A small SQLite file that several processes share: counters that must survive restarts and add up across processes."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from vprism_pipelines.errors import StorageUnwritable

_BUSY_SECONDS = 10.0


class SharedState:
    """A transactional store shared by every process that uses the same path. Thread-safe.

    Instants in it are seconds since 1970: the one clock that processes and restarts have in common.

    Args:
        path: The file, created with its folder on first use; None keeps everything in memory.
        schema: Statements that make the tables, harmless to repeat.
        content: What is in it, for error messages.
        lost: What deleting the file loses.
    """

    def __init__(self, path: Path | None, schema: str, *, content: str, lost: str) -> None:
        self._path, self._schema = path, schema
        self._content, self._lost = content, lost
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

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One statement that only reads: nobody waits for it. Raises as `transaction` does."""
        with self._lock, self._reported():
            db = self._db = self._db or self._connect()
            yield db

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
            db.execute("PRAGMA synchronous = NORMAL")  # a power cut may forget the last counts, never corrupt them
            patiently(db.executescript, self._schema)
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
                f"{self._content} cannot be kept: {error}",
                hint=f"make the file writable, or delete it: only {self._lost} are lost",
                path=self._path,
            ) from error


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    )
