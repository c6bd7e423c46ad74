"""What a user of replay and rebuild can rely on: the archive is enough, and a damaged one changes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest

from tests.house import (
    DAYS,
    Clock,
    Scripted,
    action,
    answer,
    bar,
    equal,
    house,
    published_content,
    refresh,
    registered,
    scripted,
)
from vprism_pipelines.errors import CorruptLake, VprismError
from vprism_pipelines.providers.base import Payload
from vprism_pipelines.warehouse.bookkeeping import RunStep, record_step
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.publish import publish
from vprism_pipelines.warehouse.rebuild import rebuild, replay

SPAN = DAYS[0], DAYS[29]
EVENING = datetime.combine(DAYS[29], datetime.min.time(), UTC) + timedelta(hours=22)


def closes(code: str, delta: float = 0.0) -> bytes:
    bars = [bar(code, day, 10.0 + n / 4 + delta * (n == 27)) for n, day in enumerate(DAYS[:30])]
    return answer(bars, [action(code, DAYS[10], cash=0.5), action(code, DAYS[20], event_type="split", split_ratio=2)])


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation that lived through a pull, a correction, and its publications; tests change copies of it."""
    folder, provider, clock = tmp_path_factory.mktemp("lived") / "data", scripted("one"), Clock(EVENING)
    provider.says = {"US:STOCK:A": closes("A"), "US:STOCK:B": closes("B")}
    place = house(folder, clock=clock, universe={"us": ["A", "B"]})
    with registered(provider, alone=True):
        refresh(place, "one", SPAN, "run-1")
        clock.now += timedelta(days=1)
        provider.says["US:STOCK:A"] = closes("A", delta=1.0)
        refresh(place, "one", SPAN, "run-2")
    with place.warehouse.transaction() as connection:
        record_step(connection, RunStep("run-2", "golden/us/bars", "cli", EVENING), clock.now)
    return folder


@pytest.fixture
def one() -> Iterator[type[Scripted]]:
    provider = scripted("one")
    with registered(provider, alone=True):
        yield provider


@pytest.fixture
def place(tmp_path: Path, lived: Path, one: type[Scripted]) -> House:
    """A copy, published from where it is now: its views of the lake are its own."""
    shutil.copytree(lived, tmp_path / "data")
    place = house(tmp_path / "data", clock=Clock(EVENING + timedelta(days=1)))
    publish(place.warehouse, "run-3", EVENING + timedelta(days=1))
    return place


def forbid_fetching(one: type[Scripted]) -> None:
    def refuse(self: Scripted, request: object) -> Payload:
        raise AssertionError("the network was asked")

    one.fetch = refuse  # type: ignore[assignment, method-assign]


def test_a_replay_asks_nobody_and_changes_nothing(place: House, one: type[Scripted]) -> None:
    before = published_content(place)
    forbid_fetching(one)
    told: list[tuple[str, int, int]] = []
    report = replay(place, "us", progress=lambda *step: told.append(step))
    assert (report.new, report.changed, report.quarantined) == (0, 0, 0)
    assert report.unchanged == report.rows > 60
    assert report.fetches == 4
    assert told == [("one", 1, 2), ("one", 2, 2)]
    hashes = place.reader.query("SELECT content_hash FROM ops.snapshots ORDER BY snapshot")["content_hash"].to_list()
    assert hashes[0] != hashes[1] == hashes[2] == hashes[3] == report.published.content_hash
    assert equal(published_content(place), before)


def test_a_rebuild_gives_the_same_tables_bit_for_bit_and_keeps_the_books(place: House, one: type[Scripted]) -> None:
    before = published_content(place)
    forbid_fetching(one)
    report = rebuild(place)
    assert report.identical is True
    assert report.content_hash == report.previous_hash == report.published.content_hash
    assert equal(published_content(place), before)
    assert dict(report.tables)["golden.bars"] == 60
    assert place.reader.query("SELECT run_id FROM ops.runs")["run_id"].to_list() == ["run-2"]
    assert place.reader.query("SELECT run_id FROM ops.snapshots ORDER BY snapshot")["run_id"].to_list() == [
        "run-1",
        "run-2",
        "run-3",
        "rebuild",
    ]
    assert place.reader.query("SELECT DISTINCT run_id FROM raw.fetches ORDER BY 1")["run_id"].to_list() == [
        "run-1",
        "run-2",
    ]


def test_the_lake_alone_is_enough(place: House) -> None:
    before = published_content(place)
    place.warehouse.path.unlink()
    place.settings.database.unlink()
    report = rebuild(place)
    assert (report.previous_hash, report.identical) == (None, None)
    assert equal(published_content(place), before)


def test_a_private_file_that_cannot_be_read_is_no_obstacle_to_a_rebuild(place: House) -> None:
    before = published_content(place)
    whole = place.warehouse.path.read_bytes()
    place.warehouse.path.write_bytes(whole[:4096] + bytes(len(whole) - 4096))
    report = rebuild(place)
    assert report.identical is None
    assert equal(published_content(place), before)


def test_a_rebuild_that_was_killed_leaves_nothing_that_the_next_one_would_read(place: House) -> None:
    before = published_content(place)
    draft = place.warehouse.directory / "rebuild.duckdb"
    with duckdb.connect(str(draft)) as connection:
        connection.execute("CREATE SCHEMA golden; CREATE TABLE golden.bars AS SELECT 666 AS symbol")
    draft.with_name("rebuild.duckdb.wal").write_bytes(b"of another file" * 100)
    assert rebuild(place).identical is True
    assert equal(published_content(place), before)


def test_what_a_killed_writer_had_logged_is_not_replayed_into_the_new_file(place: House, tmp_path: Path) -> None:
    copy = tmp_path / "copy.duckdb"
    copy.write_bytes(place.warehouse.path.read_bytes())
    writer = duckdb.connect(str(copy))
    writer.execute("SET checkpoint_threshold = '1GB'")
    writer.execute("UPDATE golden.bars SET close = 666")
    log = copy.with_name("copy.duckdb.wal").read_bytes()
    writer.close()
    place.warehouse.log.write_bytes(log)
    report = rebuild(place)
    assert report.identical is False  # what stood had the update
    assert place.reader.query("SELECT max(close) AS c FROM golden.bars")["c"].item() < 100


def test_a_newer_parser_is_followed_by_replay_and_rebuild_alike(place: House, one: type[Scripted]) -> None:
    parse = Scripted.parse

    def doubled(self: Scripted, payload: Payload) -> object:
        parsed = parse(self, payload)
        prices = pl.col("open", "high", "low", "close") * 2
        return type(parsed)(
            {name: f.with_columns(prices) if name == "bars" else f for name, f in parsed.frames.items()}
        )

    one.parser_version, one.parse = "2", doubled  # type: ignore[assignment, method-assign]
    report = replay(place, "us")
    assert report.changed + report.new > 0
    replayed = published_content(place)
    assert replayed["golden.bars"]["close"].min() == 20.0
    assert place.reader.query("SELECT count(*) AS n FROM raw.one_bars")["n"].item() == 68  # and not twice
    assert rebuild(place).identical is True
    assert equal(published_content(place), replayed)


# --- damage ---------------------------------------------------------------------------------------------------------


def payload_files(place: House) -> list[Path]:
    return [place.lake.root / path for path in place.lake.payload_files()]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def alter_body(path: Path) -> None:
    pl.read_parquet(path).with_columns(body=pl.lit(b'{"bars": [], "actions": []}')).write_parquet(path)


@pytest.mark.parametrize("damage", [truncate, alter_body, Path.unlink])
@pytest.mark.parametrize("command", [replay, rebuild])
def test_a_damaged_or_missing_payload_stops_it_and_both_warehouses_stay_as_they_were(
    place: House, damage: Callable[[Path], None], command: Callable[[House], object]
) -> None:
    before, published = published_content(place), place.settings.database.read_bytes()
    rows = place.reader.query("SELECT count(*) AS n FROM raw.one_bars")["n"].item()
    damage(payload_files(place)[1])
    with pytest.raises(CorruptLake) as caught:
        command(place)
    assert caught.value.exit_status == 50
    assert "payloads" in str(caught.value.context["path"])
    assert place.settings.database.read_bytes() == published
    assert place.reader.query("SELECT count(*) AS n FROM raw.one_bars")["n"].item() == rows
    with place.warehouse.connect() as connection:
        assert connection.execute("SELECT count(*) FROM golden.bars").fetchone() == (60,)
    assert equal(published_content(place), before)


def test_payloads_of_a_provider_nobody_knows_are_named(place: House) -> None:
    before = published_content(place)
    with registered(scripted("other"), alone=True), pytest.raises(VprismError, match="'one'"):
        rebuild(place)
    assert equal(published_content(place), before)


def test_missing_rows_are_made_again_from_the_payloads(place: House) -> None:
    before = published_content(place)
    for path in place.lake.root.glob("raw/*/*/*.parquet"):
        path.unlink()
    replay(place)
    assert equal(published_content(place), before)
