"""The only code that opens the private warehouse file, and it always closes it.

One transaction at a time on this machine: a lock on a side file queues writers in any process, DuckDB's own file lock
catches whoever ignores it. The file is open only for the length of a transaction; fetching and computing that need no
database happen outside. After kill -9 the kernel releases the lock and DuckDB replays or discards its log on the next
open: there is nothing to repair by hand.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
from filelock import FileLock, Timeout

from vprism_pipelines.errors import StorageUnwritable, WarehouseError, WarehouseLocked
from vprism_pipelines.settings import Settings
from vprism_pipelines.telemetry import timed
from vprism_pipelines.telemetry.metrics import WRITE_LATENCY
from vprism_pipelines.warehouse import schema

# New files stay readable by every 1.x command line and driver, whatever version writes them.
STORAGE_VERSION = "v1.2.0"


class Warehouse:
    """The private, writable side of the warehouse.

    Args:
        settings: Paths, memory limit and lock timeout.
        name: File name; all files share one lock.
    """

    def __init__(self, settings: Settings, name: str = "warehouse.duckdb") -> None:
        self.settings = settings
        self.directory = settings.warehouse_dir / "write"
        self.path = self.directory / name
        self.log = self.path.with_name(f"{name}.wal")
        self.snapshots = settings.warehouse_dir / "snapshots"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the writer's lock: nobody writes or publishes meanwhile.

        Raises:
            WarehouseLocked: Somebody else held it for longer than `VPRISM_LOCK_TIMEOUT`.
            StorageUnwritable: The directory cannot be written.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if not os.access(self.directory, os.W_OK):
                raise PermissionError(13, "Permission denied", str(self.directory))
        except OSError as error:
            raise StorageUnwritable(
                f"cannot write to the data directory: {error.strerror}",
                hint="check its owner and free space, or set VPRISM_DATA_DIR",
                path=self.directory,
            ) from error
        lock = FileLock(self.directory / "warehouse.lock", timeout=self.settings.lock_timeout)
        try:
            lock.acquire()
        except Timeout:
            raise WarehouseLocked(
                f"another process has been writing for more than {self.settings.lock_timeout:.0f} s",
                hint="wait for its run to end, or raise VPRISM_LOCK_TIMEOUT",
                path=lock.lock_file,
            ) from None
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def opened(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """An open connection for a caller that holds the lock: schema up to date, always closed and checkpointed."""
        connection = self._open()
        try:
            schema.ensure(connection)
            yield connection
        finally:
            connection.close()

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """An open connection under the lock."""
        with self.locked(), self.opened() as connection:
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection inside one transaction: all of it is committed, or none of it."""
        with timed(WRITE_LATENCY, "write"), self.connect() as connection:
            connection.begin()
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            # What is left to compress takes several threads twice the time of one. And straight into the file, which is
            # all or nothing as well: by way of the log everything would be written and synced twice.
            connection.execute("SET threads = 1; SET checkpoint_threshold = '1KB'")
            connection.commit()

    def _open(self) -> duckdb.DuckDBPyConnection:
        temporary = self.directory / "tmp"
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": self.settings.duckdb_memory_limit,
            "temp_directory": str(temporary),
            "autoinstall_known_extensions": False,
        }
        if self.settings.duckdb_threads:
            config["threads"] = self.settings.duckdb_threads
        try:
            if not self.path.exists():
                self._create()
            connection = duckdb.connect(str(self.path), config=config)
            connection.execute("SET TimeZone = 'UTC'")
            return connection
        except duckdb.IOException as error:
            if "lock" in str(error).lower():
                raise WarehouseLocked(
                    "the private warehouse file is open in another process",
                    hint=f"query {self.settings.database} instead; nothing but the pipeline may open the private file",
                    path=self.path,
                ) from error
            raise WarehouseError(
                f"the private warehouse file cannot be opened: {error}",
                hint="move it away and run `vprism rebuild`: everything in it comes from the lake",
                path=self.path,
            ) from error

    def _create(self) -> None:
        """Create the file with a storage version that older readers understand, in one rename."""
        draft: Path = self.path.with_suffix(f".{os.getpid()}.new")
        draft.unlink(missing_ok=True)
        with duckdb.connect() as connection:
            connection.execute(f"ATTACH '{draft}' AS fresh (STORAGE_VERSION '{STORAGE_VERSION}')")
            connection.execute("DETACH fresh")
        # A log that outlived its file would be replayed into the new one.
        self.log.unlink(missing_ok=True)
        draft.replace(self.path)


def next_batch(connection: duckdb.DuckDBPyConnection) -> int:
    """A number for this transaction, larger than any before it."""
    row = connection.execute("SELECT nextval('ops.batches')").fetchone()
    assert row is not None
    return int(row[0])
