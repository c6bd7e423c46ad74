"""What a reader can rely on: one consistent snapshot per query, the newest one, and nobody in the way."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from tests.house import NOW, house, settings_of
from vprism_pipelines.errors import InvalidQuery, NotPublished
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.publish import publish
from vprism_pipelines.warehouse.reader import Reader

SHARED_MEMORY = Path("/dev/shm")
COUNT = "SELECT batch FROM ops.watermarks WHERE stage = 'test'"


def publish_next(place: House, number: int) -> None:
    """Publish a counter."""
    with place.warehouse.transaction() as connection:
        connection.execute("DELETE FROM ops.watermarks")
        connection.execute("INSERT INTO ops.watermarks VALUES ('test', 'us', ?)", [number])
    publish(place.warehouse, f"run-{number}", NOW)


@pytest.fixture
def place(tmp_path: Path) -> House:
    return house(tmp_path)


def counted(reader: Reader) -> int:
    return int(reader.query(COUNT)["batch"].item())


def test_before_anything_is_published_a_reader_says_what_to_do(place: House) -> None:
    with pytest.raises(NotPublished, match="nothing has been published yet") as caught:
        place.reader.query("SELECT 1")
    assert "vprism run" in caught.value.hint
    publish_next(place, 1)
    assert counted(place.reader) == 1


def test_a_reader_moves_on_to_newer_snapshots_by_itself(place: House) -> None:
    with Reader(place.settings) as reader:
        for number in range(1, 8):
            publish_next(place, number)
            assert counted(reader) == number


def test_queries_come_as_polars_and_arrow_with_parameters_in_utc(place: House) -> None:
    publish_next(place, 1)
    assert isinstance(place.reader.arrow("SELECT 1 AS x"), pa.Table)
    frame = place.reader.query("SELECT $a + 1 AS x, TIMESTAMPTZ '2026-01-01 12:00:00+00' AS at", {"a": 41})
    assert frame["x"].item() == 42
    assert frame.schema["at"] == pl.Datetime("us", "UTC")
    assert place.reader.query("SELECT ? AS x", ["text"])["x"].item() == "text"
    assert place.reader.query("SELECT strftime(TIMESTAMPTZ '2026-01-01 12:00:00+00', '%H') AS h")["h"].item() == "12"


@pytest.mark.parametrize(
    ("sql", "hint"),
    [
        ("SELEC 1", "documentation"),
        ("FROM no_such_table", "SHOW ALL TABLES"),
        ("DELETE FROM ops.watermarks", "read-only"),
        ("CREATE TABLE golden.mine AS SELECT 1", "read-only"),
    ],
)
def test_a_query_that_cannot_run_says_why_and_the_next_one_runs(place: House, sql: str, hint: str) -> None:
    publish_next(place, 1)
    with pytest.raises(InvalidQuery) as caught:
        place.reader.query(sql)
    assert hint in caught.value.hint
    assert caught.value.exit_status == 10
    assert counted(place.reader) == 1


def test_a_query_that_began_on_one_snapshot_ends_on_it(place: House) -> None:
    publish_next(place, 1)
    cursor = place.reader._cursor()
    for number in range(2, 7):  # its file is gone by then
        publish_next(place, number)
    assert counted(place.reader) == 6
    assert cursor.execute(COUNT).fetchall() == [(1,)]
    cursor.close()


def test_threads_share_a_reader_and_never_go_back(place: House) -> None:
    publish_next(place, 1)
    seen: list[list[int]] = [[] for _ in range(4)]
    stop = threading.Event()

    def read(mine: list[int]) -> None:
        while not stop.is_set():
            mine.append(counted(place.reader))

    threads = [threading.Thread(target=read, args=(mine,)) for mine in seen]
    for thread in threads:
        thread.start()
    for number in range(2, 9):
        publish_next(place, number)
    stop.set()
    for thread in threads:
        thread.join(30)
    assert all(mine == sorted(mine) and len(mine) > 3 for mine in seen)
    assert counted(place.reader) == 8


def test_a_snapshot_removed_while_it_is_being_opened_is_no_failure(
    place: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow reader may be overtaken by more publications than are kept."""
    publish_next(place, 1)
    versioned, overtaken = Reader._versioned, iter([True])

    def slow(self: Reader, identity: tuple[int, int, int, int]) -> Path:
        path = versioned(self, identity)
        if next(overtaken, False):
            for number in range(2, 7):
                publish_next(place, number)
            assert not path.exists()
        return path

    monkeypatch.setattr(Reader, "_versioned", slow)
    assert counted(place.reader) == 6


def test_the_published_file_alone_is_enough(place: House, tmp_path: Path) -> None:
    """An analyst may be given nothing but the file."""
    publish_next(place, 3)
    elsewhere = tmp_path / "analyst"
    elsewhere.mkdir()
    shutil.copy(place.settings.database, elsewhere / "vprism.duckdb")
    with Reader(settings_of(elsewhere)) as reader:
        assert counted(reader) == 3


def test_a_published_file_that_is_none_is_named(place: House, tmp_path: Path) -> None:
    place.settings.database.parent.mkdir(parents=True, exist_ok=True)
    place.settings.database.write_bytes(b"no database" * 1000)
    with pytest.raises(NotPublished, match="cannot be opened") as caught:
        place.reader.query("SELECT 1")
    assert caught.value.exit_status == 50


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    if not SHARED_MEMORY.is_dir() or SHARED_MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as folder:
        yield Path(folder)


def test_a_published_file_on_another_file_system_is_a_copy_and_readers_still_move_on(
    tmp_path: Path, other_disk: Path
) -> None:
    place = house(tmp_path, duckdb_database=other_disk / "db.duckdb")
    with Reader(place.settings) as reader:
        for number in range(1, 5):
            publish_next(place, number)
            assert counted(reader) == number
    assert place.settings.database.stat().st_mode & 0o777 == 0o444
    with duckdb.connect(str(place.settings.database), read_only=True) as connection:
        assert connection.execute(COUNT).fetchall() == [(4,)]


def test_every_snapshot_opens_with_older_drivers(place: House) -> None:
    """The storage version is one that every 1.x command line and driver since 1.2 understands."""
    publish_next(place, 1)
    with duckdb.connect(str(place.settings.database), read_only=True) as connection:
        tags = connection.execute("SELECT tags FROM duckdb_databases() WHERE NOT internal").fetchall()
    assert "v1.2.0" in str(tags)
