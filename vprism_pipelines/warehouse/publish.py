"""Publishing: one immutable, validated snapshot per run, swapped in atomically. Readers never see half a run.

write/warehouse.duckdb   private, closed while it is copied
snapshots/wh-NNNNNN.duckdb   read-only copies, the newest few
<DUCKDB_DATABASE>        a hard link to the newest one, replaced in one step
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb

from vprism_pipelines.errors import DataQualityError, StorageUnwritable
from vprism_pipelines.tables import Table
from vprism_pipelines.telemetry import timed
from vprism_pipelines.telemetry.metrics import PUBLISH_LATENCY
from vprism_pipelines.warehouse import column_lineage
from vprism_pipelines.warehouse.building import copies
from vprism_pipelines.warehouse.clustering import recluster
from vprism_pipelines.warehouse.schema import LOGICAL, show_lake
from vprism_pipelines.warehouse.writer import Warehouse


@dataclass(frozen=True, slots=True)
class Published:
    """What was published: its number, its file, and the hash of its content."""

    snapshot: int
    path: Path
    content_hash: str
    seconds: float


def content_hash(connection: duckdb.DuckDBPyConnection, tables: tuple[Table, ...] = LOGICAL) -> str:
    """A hash of rows, whatever their order: equal content gives equal text.

    Covers the tables that are a function of the lake alone; bookkeeping (`ops`, `raw`) differs from run to run.
    """
    parts = []
    for table in tables:
        row = connection.execute(
            "SELECT count(*), coalesce(bit_xor(digest), 0), coalesce(sum(digest::HUGEINT), 0)"
            f" FROM (SELECT hash({', '.join(table.names)}) AS digest FROM {table.full_name})"
        ).fetchone()
        parts.append(f"{table.full_name}={row}")
    digest = duckdb.connect().execute("SELECT sha256(?)", ["\n".join(parts)]).fetchone()
    assert digest is not None
    return str(digest[0])


@timed(PUBLISH_LATENCY, "publish")
def publish(warehouse: Warehouse, run_id: str, now: datetime) -> Published:
    """Copy the private file to a new snapshot and make it the published one.

    Raises:
        DataQualityError: A table's key is not unique; the last good snapshot stays published.
        StorageUnwritable: The copy could not be written.
    """
    started = datetime.now(now.tzinfo)
    with warehouse.locked():
        _sweep(warehouse)
        with warehouse.opened() as connection:
            connection.begin()
            recluster(connection)
            connection.commit()
            _prove_keys(connection)
            digest = content_hash(connection)
            column_lineage.store(connection)
            show_lake(connection, warehouse.settings.lake_dir)
            number = _next_number(warehouse, connection)
            connection.execute(
                "INSERT INTO ops.snapshots BY NAME SELECT ? AS snapshot, ?::TIMESTAMPTZ AS published_at,"
                " ? AS run_id, ? AS content_hash",
                [number, now, run_id, digest],
            )
        path = warehouse.snapshots / f"wh-{number:06d}.duckdb"
        try:
            if warehouse.log.exists():
                raise StorageUnwritable("the private file was not checkpointed", hint="run again", path=warehouse.log)
            _copy(warehouse.path, path)
            _swap(path, warehouse.settings.database)
        except OSError as error:
            raise StorageUnwritable(
                f"cannot publish: {error.strerror}", hint="check free space and permissions", path=error.filename
            ) from error
        _retain(warehouse, keep=warehouse.settings.keep_snapshots)
    return Published(number, path, digest, (datetime.now(now.tzinfo) - started).total_seconds())


def _prove_keys(connection: duckdb.DuckDBPyConnection) -> None:
    """Uniqueness is guaranteed by how tables are written; this is the proof, before anyone can read the copy."""
    for table in LOGICAL:
        found = copies(connection, table)
        if found.height:
            raise DataQualityError(
                f"{table.full_name} has {found['copies'][0]} rows for one key {found.row(0)[:-1]}",
                hint="nothing was published; run `vprism rebuild`",
                table=table.full_name,
            )


def _next_number(warehouse: Warehouse, connection: duckdb.DuckDBPyConnection) -> int:
    row = connection.execute("SELECT coalesce(max(snapshot), 0) FROM ops.snapshots").fetchone()
    files = [int(path.stem[3:]) for path in warehouse.snapshots.glob("wh-*.duckdb")]
    return max(int(row[0]) if row else 0, *files, 0) + 1


def _copy(source: Path, target: Path) -> None:
    """Copy, flush, prove that it opens, forbid writing, then give it its name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_suffix(".tmp")
    shutil.copyfile(source, draft)
    with draft.open("rb+") as handle:
        os.fsync(handle.fileno())
    with duckdb.connect(str(draft), read_only=True) as connection:
        connection.execute("SELECT count(*) FROM golden.bars").fetchone()
    draft.chmod(0o444)
    draft.rename(target)
    _sync_directory(target.parent)


def _swap(snapshot: Path, published: Path) -> None:
    published.parent.mkdir(parents=True, exist_ok=True)
    draft = published.with_name(f".{published.name}.{os.getpid()}.tmp")
    draft.unlink(missing_ok=True)
    try:
        os.link(snapshot, draft)
    except OSError:  # another file system: a copy is the next best; readers know it by its size and time
        shutil.copy2(snapshot, draft)
        draft.chmod(0o444)
    draft.replace(published)
    _sync_directory(published.parent)


def _sweep(warehouse: Warehouse) -> None:
    """Remove what a killed publisher left behind."""
    for draft in warehouse.snapshots.glob("*.tmp*"):
        draft.unlink(missing_ok=True)
    for draft in warehouse.settings.database.parent.glob(f".{warehouse.settings.database.name}.*.tmp"):
        draft.unlink(missing_ok=True)


def _retain(warehouse: Warehouse, keep: int) -> None:
    for old in sorted(warehouse.snapshots.glob("wh-*.duckdb"))[:-keep]:
        with suppress(OSError):
            old.unlink()


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
