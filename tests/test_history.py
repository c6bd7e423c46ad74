"""What a user of the past can rely on: every version with its origin, and what changed between any two instants."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer

from tests.cli_kit import Vprism, vprism_fixture  # noqa: F401
from tests.house import DAYS, US, Clock, action, answer, bar, house, refresh, registered, scripted
from tests.warehouse_fixture import sample_house_fixture  # noqa: F401
from vprism_pipelines.errors import InvalidInput, InvalidRange
from vprism_pipelines.serving.cli import app, diff
from vprism_pipelines.serving.library import Library
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.revisions import build_revisions

ONE = scripted("one")
SESSIONS = (DAYS[0], DAYS[9])
# Only the last sessions are asked for again.
FIRST = datetime(2024, 1, 16, 22, tzinfo=UTC)
SECOND, THIRD = FIRST + timedelta(hours=3), FIRST + timedelta(hours=6)


def closes(factor: dict[int, float]) -> bytes:
    return answer(
        (bar("A", DAYS[n], round((50 + n) * factor.get(n, 1.0), 2)) for n in range(10)),
        [action("A", DAYS[5], cash=0.5)],
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Three snapshots: as first told; a close corrected; that one taken back, and another one corrected."""
    clock = Clock(FIRST)
    with registered(ONE):
        place = house(tmp_path_factory.mktemp("past"), clock=clock, universe={"us": ["A"]})
        for now, factor in ((FIRST, {}), (SECOND, {7: 1.01}), (THIRD, {8: 0.98})):
            clock.now = now
            ONE.says["US:STOCK:A"] = closes(factor)
            refresh(place, "one", SESSIONS)
            with place.warehouse.transaction() as connection:
                build_revisions(connection, US)
        refresh(place, "one", SESSIONS)
        yield place


@pytest.fixture
def library(place: House) -> Iterator[Library]:
    with Library(place.reader, place.clock) as library:
        yield library


# --- one bar ----------------------------------------------------------------------------------------------------------


def test_the_history_of_a_bar_has_every_value_with_its_change_and_what_golden_chose(library: Library) -> None:
    rows = library.history("A", DAYS[7]).to_dicts()
    assert [(row["close"], row["change_class"], row["golden"]) for row in rows] == [
        (57.0, "new", False),
        (57.57, "error", False),
        (57.0, "late_correction", True),
    ]
    assert [row["bp"] for row in rows] == [None, 100.0, pytest.approx((57 / 57.57 - 1) * 1e4, abs=1e-6)]
    assert [row["known_to"] for row in rows] == [row["known_from"] for row in rows[1:]] + [None]


def test_every_version_leads_back_to_its_payload(place: House, library: Library) -> None:
    for row in library.history("A", DAYS[7]).iter_rows(named=True):
        assert (row["status"], row["parser_version"], row["payload_row"]) == (200, "1", 7)
        (payload,) = [p for p in place.lake.payloads(row["lake_path"]) if p.fetch_id == row["fetch_id"]]
        assert payload.sha256 == row["sha256"]
        assert payload.fetched_at == row["known_from"]


def test_the_history_of_one_field_has_its_own_changes(library: Library) -> None:
    found = library.history("A", DAYS[7], "high")
    assert found["high"].to_list() == [57.57, 58.1457, 57.57]
    assert found["bp"].to_list()[1] == pytest.approx(100.0)
    assert "close" not in found.columns
    with pytest.raises(InvalidInput, match="no field 'hihg'"):
        library.history("A", DAYS[7], "hihg")


# --- two instants -----------------------------------------------------------------------------------------------------


def test_what_changed_between_two_instants_is_listed_cell_by_cell(library: Library) -> None:
    found = library.diff(FIRST, THIRD)
    ledger = found.cells.filter(pl.col("level") == "ledger", pl.col("field") == "close")
    assert ledger.select("session", "provider", "old", "new", "bp", "change_class").rows() == [
        (DAYS[8], "one", 58.0, 56.84, -200.0, "late_correction")
    ]
    golden = found.cells.filter(pl.col("level") == "golden", pl.col("field") == "close")
    assert golden.drop("level").equals(ledger.drop("level"))


def test_what_came_and_went_in_between_is_no_change(library: Library) -> None:
    assert DAYS[7] in library.diff(FIRST, SECOND).cells["session"]
    assert DAYS[7] not in library.diff(FIRST, THIRD).cells["session"]


def test_the_returns_of_the_session_and_of_the_next_one_change(library: Library) -> None:
    found = library.diff(FIRST, THIRD).returns
    assert found["session"].to_list() == [DAYS[8], DAYS[9]]
    assert found.row(0)[2:4] == pytest.approx((58 / 57 - 1, 56.84 / 57 - 1))
    assert found.row(1)[2:4] == pytest.approx((59 / 58 - 1, 59 / 56.84 - 1))


def test_the_summary_counts_bars_symbols_and_names_the_largest_change(library: Library) -> None:
    (row,) = library.diff(FIRST, THIRD).summary.to_dicts()
    assert (row["added"], row["changed"], row["symbols"]) == (0, 1, 1)
    assert (row["golden_bars"], row["returns"], row["classes"]) == (1, 2, "late_correction 1")
    assert (row["largest_bp"], row["largest_symbol"], row["largest_session"]) == (-200.0, "US:STOCK:A", DAYS[8])


def test_sessions_that_only_became_known_are_counted_and_not_listed(library: Library) -> None:
    found = library.diff(FIRST - timedelta(days=1), FIRST)
    assert found.cells.is_empty()
    assert found.summary["added"].item() == 10


@pytest.mark.parametrize(
    ("before", "after"),
    [(1, 3), ("1", "3"), (FIRST, THIRD), (FIRST.date(), THIRD.date()), ("2024-01-16", "2024-01-17T04:00:00Z")],
)
def test_an_instant_may_be_named_by_snapshot_by_date_or_exactly(library: Library, before: Any, after: Any) -> None:
    assert library.diff(before, after).cells.equals(library.diff(FIRST, THIRD).cells)


@pytest.mark.parametrize("before", ["yesterday", "2024-01-16T10:00:00", 99])
def test_what_names_no_instant_is_refused(library: Library, before: Any) -> None:
    with pytest.raises(InvalidRange):
        library.diff(before, THIRD)
    with pytest.raises(InvalidRange, match="is not before"):
        library.diff(THIRD, FIRST)


def test_a_diff_of_one_market_or_symbol_leaves_the_others_out(library: Library) -> None:
    assert library.diff(FIRST, THIRD, market="us", symbols="A").cells.height
    assert library.diff(FIRST, THIRD, market="vn").cells.is_empty()


@pytest.mark.parametrize(("one", "other"), [(FIRST, SECOND), (SECOND, THIRD), (FIRST, THIRD)])
def test_the_old_and_new_values_are_what_was_believed_at_the_two_instants(
    library: Library, one: datetime, other: datetime
) -> None:
    found = library.diff(one, other).cells.filter(pl.col("level") == "golden", pl.col("field") == "close")
    before, after = (
        dict(library.bars("A", basis="raw", as_of=instant).select("session", "close").iter_rows())
        for instant in (one, other)
    )
    assert {row["session"]: (row["old"], row["new"]) for row in found.iter_rows(named=True)} == {
        day: (close, after[day]) for day, close in before.items() if close != after[day]
    }


def test_as_of_the_first_pull_the_bars_are_those_of_the_first_import(library: Library, tmp_path: Path) -> None:
    with registered(ONE):
        ONE.says["US:STOCK:A"] = closes({})
        alone = house(tmp_path, clock=Clock(FIRST), universe={"us": ["A"]})
        refresh(alone, "one", SESSIONS)
        with Library(alone.reader, alone.clock) as first:
            for basis in ("raw", "qfq", "hfq"):
                assert library.bars("A", basis=basis, as_of=FIRST).equals(first.bars("A", basis=basis, as_of=FIRST))
            assert library.bars("A", basis="raw", as_of=FIRST).equals(first.bars("A", basis="raw"))


# --- the commands -----------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True, scope="module")
def _command() -> None:
    """The command, where the root has none yet."""
    if "diff" not in {command.name for command in app.registered_commands}:
        diff.add_to(app)
    assert isinstance(app, typer.Typer)


def test_diff_lists_changed_golden_cells_and_says_what_they_do(vprism: Vprism, place: House) -> None:
    ended = vprism("diff", "1", "3", house=place)
    assert ended.status == 0
    assert "1 bars of 1 symbols changed in the ledger, 0 added" in ended.out
    assert "why: late_correction 1" in ended.out
    assert f"largest: close of US:STOCK:A on {DAYS[8]} by -200.00 bp" in ended.out
    rows = vprism("diff", "1", "3", "--format", "jsonl", house=place).rows
    assert {row["field"]: (row["old"], row["new"]) for row in rows}["close"] == (58.0, 56.84)


@pytest.mark.parametrize(("show", "height"), [("ledger", 4), ("golden", 4), ("returns", 2), ("summary", 1)])
def test_diff_shows_what_is_asked_for(vprism: Vprism, place: House, show: str, height: int) -> None:
    assert len(vprism("diff", "1", "3", "--show", show, "--format", "jsonl", house=place).rows) == height


def test_history_of_a_field_on_the_command_line(vprism: Vprism, place: House) -> None:
    rows = vprism("data", "history", "A", str(DAYS[7]), "--field", "volume", "--format", "jsonl", house=place).rows
    assert [row["volume"] for row in rows] == [1000, 1000, 1000]
    assert vprism("data", "history", "A", str(DAYS[7]), "--field", "size", house=place).status == 10


def test_instants_in_the_wrong_order_are_refused_with_advice(vprism: Vprism, place: House, tmp_path: Path) -> None:
    ended = vprism("diff", "3", "1", house=place)
    assert ended.status == 10
    assert "name the older one first" in ended.err
    assert not list(tmp_path.iterdir())
