"""What a user of publishing can rely on: a whole, proven, immutable snapshot replaces the last one, or nothing does."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.house import DAYS, NOW, house
from vprism_pipelines.errors import DataQualityError, StorageUnwritable, WarehouseError, WarehouseLocked
from vprism_pipelines.tables import FACTOR_SETS, GOLDEN_BARS
from vprism_pipelines.warehouse import schema
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.publish import Published, content_hash, publish


@pytest.fixture
def place(tmp_path: Path) -> House:
    return house(tmp_path)


def believe(place: House, close: float, *, symbol: str = "US:STOCK:A", copies: int = 1) -> None:
    """One golden bar, replaced."""
    with place.warehouse.transaction() as connection:
        connection.execute("DELETE FROM golden.bars WHERE symbol = ?", [symbol])
        for _ in range(copies):
            insert_bar(connection, symbol, close)


def insert_bar(connection: duckdb.DuckDBPyConnection, symbol: str, close: float) -> None:
    connection.execute(
        "INSERT INTO golden.bars BY NAME SELECT ? AS symbol, ?::DATE AS session, ?::DOUBLE AS close, close AS open,"
        " close AS high, close AS low, 'USD' AS currency, 'one' AS chosen_provider, 1 AS n_sources, 0.9 AS confidence,"
        " 'raw' AS price_basis, 0 AS flags, ?::TIMESTAMPTZ AS known_from",
        [symbol, DAYS[0], close, NOW],
    )


def published(place: House, run: str = "run") -> Published:
    return publish(place.warehouse, run, NOW)


def closes(path: Path) -> list[float]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return [row[0] for row in connection.execute("SELECT close FROM golden.bars ORDER BY symbol").fetchall()]


def leftovers(place: House) -> list[str]:
    data = place.settings.data_dir
    return [str(path.relative_to(data)) for path in data.rglob("*") if ".tmp" in path.name or path.suffix == ".wal"]


def test_a_snapshot_is_read_only_numbered_and_the_published_name_leads_to_it(place: House) -> None:
    believe(place, 10.0)
    done = published(place, "run-1")
    database = place.settings.database
    assert (done.snapshot, done.path.name) == (1, "wh-000001.duckdb")
    assert database.samefile(done.path)
    assert stat.S_IMODE(database.stat().st_mode) == 0o444
    assert closes(database) == [10.0]
    with duckdb.connect(str(database), read_only=True) as connection:
        told = connection.execute("SELECT snapshot, run_id, content_hash FROM ops.snapshots").fetchall()
        assert told == [(1, "run-1", done.content_hash)]
        assert content_hash(connection) == done.content_hash
    assert leftovers(place) == []


def test_the_last_three_snapshots_are_kept(place: House) -> None:
    for number in range(1, 7):
        believe(place, float(number))
        published(place)
    kept = sorted(path.name for path in place.warehouse.snapshots.iterdir())
    assert kept == ["wh-000004.duckdb", "wh-000005.duckdb", "wh-000006.duckdb"]
    assert closes(place.settings.database) == [6.0]
    assert closes(place.warehouse.snapshots / "wh-000005.duckdb") == [5.0]


def test_who_holds_an_old_snapshot_open_hinders_nobody_and_keeps_reading_it(place: House) -> None:
    believe(place, 1.0)
    published(place)
    with duckdb.connect(str(place.settings.database), read_only=True) as holder:
        for number in range(2, 7):
            believe(place, float(number))
            published(place)
        assert holder.execute("SELECT close FROM golden.bars").fetchall() == [(1.0,)]
    assert closes(place.settings.database) == [6.0]


def test_a_key_that_is_there_twice_is_not_published(place: House) -> None:
    believe(place, 1.0)
    published(place)
    believe(place, 2.0, copies=2)
    with pytest.raises(DataQualityError, match=r"golden\.bars has 2 rows for one key") as caught:
        published(place)
    assert caught.value.exit_status == 30
    assert closes(place.settings.database) == [1.0]
    believe(place, 2.0)
    assert published(place).snapshot == 2
    assert closes(place.settings.database) == [2.0]


@pytest.mark.parametrize("blocked", ["warehouse/snapshots", "elsewhere"])
def test_a_place_that_cannot_be_written_leaves_the_last_snapshot_published(tmp_path: Path, blocked: str) -> None:
    place = house(tmp_path)
    believe(place, 1.0)
    published(place)
    believe(place, 2.0)
    if blocked == "elsewhere":
        (tmp_path / "elsewhere").write_text("a file, not a folder")
        moved = house(tmp_path, duckdb_database=tmp_path / "elsewhere" / "db.duckdb")
    else:
        moved = place
        place.warehouse.snapshots.rename(tmp_path / "kept")
        place.warehouse.snapshots.write_text("a file, not a folder")
    with pytest.raises(StorageUnwritable) as caught:
        published(moved)
    assert caught.value.exit_status == 50
    assert closes(place.settings.database) == [1.0]
    assert leftovers(place) == []


def test_a_data_directory_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageUnwritable, match="cannot write to the data directory") as caught:
        believe(house(tmp_path / "file"), 1.0)
    assert "VPRISM_DATA_DIR" in caught.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_data_directory_without_permission_says_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(StorageUnwritable):
        believe(house(tmp_path), 1.0)


def test_what_a_killed_publisher_left_is_swept(place: House) -> None:
    believe(place, 1.0)
    published(place)
    (place.warehouse.snapshots / "wh-000002.tmp").write_bytes(b"half a copy")
    (place.settings.data_dir / ".vprism.duckdb.4711.tmp").write_bytes(b"half a copy")
    assert published(place).snapshot == 2
    assert leftovers(place) == []


def test_numbers_never_return(place: House) -> None:
    """A reader that knows a snapshot by its name must never find another content there."""
    believe(place, 1.0)
    for _ in range(2):
        published(place)
    place.warehouse.path.unlink()
    assert published(place).snapshot == 3


def test_a_log_that_outlived_its_file_is_not_replayed_into_a_new_one(place: House, tmp_path: Path) -> None:
    """DuckDB 1.x would, without a word, and mix two warehouses."""
    believe(place, 1.0)
    copy = tmp_path / "copy.duckdb"
    copy.write_bytes(place.warehouse.path.read_bytes())
    other = duckdb.connect(str(copy))
    other.execute("SET checkpoint_threshold = '1GB'")
    other.execute("UPDATE golden.bars SET close = 666")
    log = (tmp_path / "copy.duckdb.wal").read_bytes()
    other.close()
    place.warehouse.path.unlink()
    place.warehouse.log.write_bytes(log)
    believe(place, 2.0)
    published(place)
    assert closes(place.settings.database) == [2.0]


def test_a_private_file_that_is_none_is_named_with_what_to_do(place: House) -> None:
    believe(place, 1.0)
    place.warehouse.path.write_bytes(b"this is no database" * 1000)
    with pytest.raises(WarehouseError, match="cannot be opened") as caught:
        believe(place, 2.0)
    assert "vprism rebuild" in caught.value.hint


def test_a_second_writer_waits_its_turn_and_gives_up_with_a_reason(tmp_path: Path) -> None:
    first, second = house(tmp_path), house(tmp_path, lock_timeout=0.2)
    with first.warehouse.locked(), pytest.raises(WarehouseLocked, match="another process has been writing") as caught:
        second.warehouse.locked().__enter__()
    assert caught.value.retryable
    waiting = threading.Thread(target=believe, args=(house(tmp_path), 3.0))
    with first.warehouse.locked():
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
    waiting.join(30)
    published(first)
    assert closes(first.settings.database) == [3.0]


def test_a_transaction_that_fails_leaves_nothing_and_the_file_closed(place: House) -> None:
    believe(place, 1.0)

    def torn() -> None:
        with place.warehouse.transaction() as connection:
            connection.execute("UPDATE golden.bars SET close = 2")
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        torn()
    with duckdb.connect(str(place.warehouse.path)) as connection:  # would fail, were it still open elsewhere
        assert connection.execute("SELECT close FROM golden.bars").fetchall() == [(1.0,)]


# --- the content hash -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    schema.ensure(connection)
    return connection


ROWS = st.lists(st.tuples(st.sampled_from(["US:STOCK:A", "US:STOCK:B"]), st.floats(1, 1e6)), max_size=6)


@settings(deadline=None, max_examples=20)
@given(ROWS, ROWS, st.randoms(use_true_random=False))
def test_equal_content_has_an_equal_hash_whatever_its_order_and_only_then(
    tables: duckdb.DuckDBPyConnection, one: list[tuple[str, float]], two: list[tuple[str, float]], random: object
) -> None:
    def hashed(rows: list[tuple[str, float]]) -> str:
        tables.execute("DELETE FROM golden.bars")
        for symbol, close in rows:
            insert_bar(tables, symbol, close)
        return content_hash(tables, (GOLDEN_BARS,))

    shuffled = list(one)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert hashed(one) == hashed(shuffled)
    assert (hashed(one) == hashed(two)) == (sorted(one) == sorted(two))
    assert content_hash(tables, (GOLDEN_BARS,)) != content_hash(tables, (GOLDEN_BARS, FACTOR_SETS))


def test_one_bit_of_one_price_changes_the_hash(tables: duckdb.DuckDBPyConnection) -> None:
    tables.execute("DELETE FROM golden.bars")
    insert_bar(tables, "US:STOCK:A", 10.0)
    before = content_hash(tables)
    tables.execute("UPDATE golden.bars SET close = 10.000000000000002")
    assert content_hash(tables) != before
    tables.execute("UPDATE golden.bars SET close = 10.0")
    assert content_hash(tables) == before
