"""What a user can rely on when providers are scored by symbol and month, and their health is measured."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.histories import HISTORIES, PROVIDERS, Telling
from tests.house import DAYS, US, Bench, answer, bar
from vprism_pipelines.tables import CLEAN_BARS, SCORECARD
from vprism_pipelines.warehouse import coverage, health
from vprism_pipelines.warehouse.lake import Lake
from vprism_pipelines.warehouse.scorecard import SUSPENSION, build_scorecard, by_month

A = "US:STOCK:A"
KEY = ["symbol", "provider", "month"]


def evening(day: int, hours: int = 22) -> datetime:
    return datetime.combine(DAYS[day], datetime.min.time(), UTC) + timedelta(hours=hours)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Lake(tmp_path))


def say(bench: Bench, days: Iterable[int], at: datetime, provider: str = "one", **fields: object) -> None:
    """A pull of symbol A that closes around 10, and everything a run does with it up to the scorecard."""
    days = list(days)
    told = [bar("A", DAYS[n], **{"close": 10 + n * 7 % 11 / 50, "volume": 1000.0 + n, **fields}) for n in days]
    bench.pull(PROVIDERS[provider], answer(told), at, (DAYS[min(days)], DAYS[max(days)]))
    bench.refresh()
    build_scorecard(bench.connection, US)


def cards(bench: Bench, columns: str = "month, expected, bars, rejected, missing") -> list[tuple[object, ...]]:
    return bench.frame(f"SELECT {columns} FROM quality.scorecard ORDER BY symbol, provider, month").rows()


def month(day: int) -> date:
    return DAYS[day].replace(day=1)


def test_every_expected_session_has_a_bar_or_a_reason(bench: Bench) -> None:
    say(bench, [*range(5), *range(7, 12)], evening(12))
    assert cards(bench) == [(month(0), 12, 10, 0, 2)]
    assert cards(bench, "score") == [(round(10 / 12, 12),)]


def test_a_row_that_was_refused_is_not_missing_and_a_better_one_redeems_it(bench: Bench) -> None:
    say(bench, range(5), evening(5))
    broken = bar("A", DAYS[5], 10.0, high=9.0, low=11.0)
    told = [broken, *(bar("A", DAYS[n], 10.0) for n in (6, 7))]
    bench.pull(PROVIDERS["one"], answer(told), evening(8), (DAYS[5], DAYS[7]))
    bench.refresh()
    build_scorecard(bench.connection, US)
    assert cards(bench) == [(month(0), 8, 7, 1, 0)]
    say(bench, [5], evening(9))
    assert cards(bench) == [(month(0), 8, 8, 0, 0)]


def test_a_suspension_is_no_gap_and_what_ends_a_shorter_one_counts_in_the_months_it_spans(bench: Bench) -> None:
    say(bench, range(10), evening(10))
    back = 10 + SUSPENSION - 1
    say(bench, range(back, back + 3), evening(back + 4))
    counted = dict(cards(bench, "month, missing"))
    assert counted == {
        month(0): sum(DAYS[n].month == 1 for n in range(10, back)),
        month(back): sum(DAYS[n].month == 2 for n in range(10, back)),
    }
    assert sum(counted.values()) == SUSPENSION - 1
    later = back + 3 + SUSPENSION
    say(bench, [later], evening(later + 1))
    assert sum(missing for (missing,) in cards(bench, "missing")) == SUSPENSION - 1


def test_history_before_the_first_and_after_the_last_bar_is_not_expected(bench: Bench) -> None:
    say(bench, range(30, 33), evening(60))
    assert cards(bench, "expected, missing") == [(3, 0)]


def test_a_correction_of_a_final_bar_is_a_revision_and_rounding_is_none(bench: Bench) -> None:
    prices = {"close": 10.0, "high": 11.0, "low": 9.0}
    say(bench, range(4), evening(4), **prices)
    say(bench, range(4), evening(6), **prices | {"close": 10.0 + 1e-9})
    assert cards(bench, "revised") == [(0,)]
    say(bench, [1], evening(7), **prices | {"close": 10.5})
    assert cards(bench, "revised") == [(1,)]


def test_a_provisional_bar_counts_once_it_is_final(bench: Bench) -> None:
    say(bench, [0, 1], evening(1, hours=17))
    assert cards(bench, "bars") == [(1,)]
    say(bench, [1], evening(1))
    assert cards(bench, "bars, revised") == [(2, 0)]


def test_who_is_outvoted_is_told(bench: Bench) -> None:
    for number, (provider, close) in enumerate((("one", 10.0), ("two", 10.0), ("three", 11.0))):
        say(bench, range(3), evening(4, hours=1 + number), provider, close=close, high=11.5, low=9.0)
    assert bench.frame("SELECT provider, outvoted, score FROM quality.scorecard ORDER BY provider").rows() == [
        ("one", 0, 1.0),
        ("three", 3, 0.0),
        ("two", 0, 1.0),
    ]


def test_findings_are_laid_over_and_taken_away_again(bench: Bench) -> None:
    say(bench, range(4), evening(4))
    bench.connection.execute("DELETE FROM quality.findings")
    finding = "INSERT INTO quality.findings BY NAME SELECT ? AS symbol, ?::DATE AS session, 'one' AS provider,"
    finding += " ['spike'] AS checks, ? AS quarantined, 512 AS bits"
    bench.connection.execute(finding, [A, DAYS[1], True])
    bench.connection.execute(finding, [A, DAYS[2], False])
    build_scorecard(bench.connection, US)
    assert cards(bench, "quarantined, flagged, score") == [(1, 1, 0.75)]
    bench.connection.execute("DELETE FROM quality.findings")
    build_scorecard(bench.connection, US)
    assert cards(bench, "quarantined, flagged, score") == [(0, 0, 1.0)]


def content(bench: Bench) -> pl.DataFrame:
    return bench.frame(f"FROM {SCORECARD.full_name} ORDER BY symbol, provider, month")


@settings(deadline=None, max_examples=3)
@given(HISTORIES)
def test_counting_only_what_is_new_gives_what_counting_everything_gives(history: list[Telling]) -> None:
    with TemporaryDirectory() as folder, Bench(Lake(Path(folder))) as bench:
        for number, telling in enumerate(history):
            span = DAYS[telling.first], DAYS[telling.last]
            bench.pull(PROVIDERS[telling.provider], telling.body(), telling.at(number), span)
            bench.refresh()
            build_scorecard(bench.connection, US)
        lived = content(bench)
        bench.connection.execute(
            "DELETE FROM quality.scorecard; DELETE FROM ops.watermarks WHERE stage LIKE 'quality.s%'"
        )
        build_scorecard(bench.connection, US)
        assert content(bench).equals(lived)
        assert (lived["expected"] == lived["bars"] + lived["rejected"] + lived["missing"]).all()
        assert lived["score"].is_between(0, 1).all()


def insert(connection: duckdb.DuckDBPyConnection, days: Iterable[int], batch: int) -> None:
    """Bars of a transaction, straight into the ledger."""
    rows = [
        {
            "symbol": A, "session": DAYS[n], "provider": "one", "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0,
            "currency": "USD", "price_basis": "raw", "flags": 0, "provisional": False, "known_from": evening(n),
            "change_class": "new", "fetch_id": "f", "payload_row": 0, "batch": batch,
        }
        for n in days
    ]  # fmt: skip
    connection.register("incoming", pl.DataFrame(rows, schema=CLEAN_BARS.polars_schema))
    connection.execute("INSERT INTO clean.bars_ledger BY NAME SELECT * FROM incoming")
    connection.unregister("incoming")


PLACES = st.sets(st.integers(0, 150), min_size=1, max_size=60)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(Lake(tmp_path_factory.mktemp("lake")))


@settings(deadline=None, max_examples=10)
@given(st.lists(PLACES, min_size=1, max_size=3))
def test_gaps_are_what_a_walk_over_all_bars_finds_in_whatever_order_they_come(
    ledger: Bench, batches: list[set[int]]
) -> None:
    ledger.connection.execute(
        "DELETE FROM clean.bars_ledger; DELETE FROM quality.scorecard; DELETE FROM ops.watermarks"
    )
    held: set[int] = set()
    for number, days in enumerate(batches, start=1):
        insert(ledger.connection, days - held, number)
        held |= days
        build_scorecard(ledger.connection, US)
    places = sorted(held)
    missing: dict[date, int] = dict.fromkeys({month(n) for n in places}, 0)
    for before, after in pairwise(places):
        if after - before <= SUSPENSION:
            for n in range(before + 1, after):
                missing[month(n)] = missing.get(month(n), 0) + 1
    assert dict(ledger.frame("SELECT month, missing FROM quality.scorecard").iter_rows()) == missing


def test_the_months_of_a_provider_add_up(bench: Bench) -> None:
    say(bench, [*range(5), *range(7, 30)], evening(31))
    months = by_month(bench.connection, US)
    assert months.select("provider", "expected", "bars", "missing").sum().row(0)[1:] == (30, 28, 2)
    assert months["gap_ratio"][0] == round(2 / sum(DAYS[n].month == 1 for n in range(30)), 12)


# --- pictures -------------------------------------------------------------------------------------------------------


def test_the_picture_of_the_newest_sessions_tells_there_flagged_bad_and_not_expected(bench: Bench) -> None:
    say(bench, [*range(20, 25), *range(27, 40)], evening(41))
    bench.connection.execute("UPDATE golden.bars SET flags = 32 WHERE session = ?", [DAYS[30]])
    cells = coverage.by_session(bench.connection, US)
    states = dict(cells.select("column", "state").iter_rows())
    assert cells.height == coverage.COLUMNS
    assert [states[str(DAYS[n])] for n in (0, 19, 20, 25, 26, 30, 39)] == [
        "unexpected", "unexpected", "present", "bad", "bad", "flagged", "present",
    ]  # fmt: skip


def test_the_picture_of_the_whole_history_fits_however_long_it_is(bench: Bench) -> None:
    say(bench, [*range(10), *range(200, 204), *range(206, 215)], evening(216))
    whole = coverage.over_months(bench.connection, US)
    assert whole["column"].to_list()[0] == "2024-01"
    assert dict(whole.select("column", "state").iter_rows()) == {
        "2024-01": "present", **dict.fromkeys([f"2024-{n:02}" for n in range(2, 10)], "unexpected"), "2024-10": "bad",
        "2024-11": "present",
    }  # fmt: skip
    assert coverage.over_months(bench.connection, US, columns=4)["column"].to_list() == [
        "2024-01",
        "2024-04",
        "2024-07",
        "2024-10",
    ]


def test_a_market_without_bars_has_no_picture(bench: Bench) -> None:
    assert coverage.by_session(bench.connection, US).is_empty()
    assert coverage.over_months(bench.connection, US).is_empty()


# --- health ---------------------------------------------------------------------------------------------------------


def measured(bench: Bench, provider: str = "one") -> dict[str, tuple[float | None, str]]:
    health.build_health(bench.connection, US)
    found = health.measure_health(bench.connection, US)
    return {m.check: (m.value, m.status.value) for m in found if m.provider == provider}


def test_the_lag_is_from_the_close_of_the_newest_session_to_its_first_bar(bench: Bench) -> None:
    say(bench, [0], evening(0))
    say(bench, [1], evening(1) + timedelta(hours=4))  # the close is at 21:00 UTC
    assert measured(bench)["ingest_lag"] == (5.0, "WARN")
    assert bench.frame("SELECT date, session, lag_hours FROM quality.provider_health ORDER BY date").rows() == [
        (DAYS[0], None, None),
        (DAYS[1] + timedelta(days=1), DAYS[1], 5.0),
    ]


def test_history_that_was_over_before_the_first_pull_is_not_late(bench: Bench) -> None:
    say(bench, range(50), evening(300))
    assert measured(bench)["ingest_lag"] == (None, "OK")


def test_refused_pulls_are_an_error_rate_and_an_answer_that_there_is_nothing_is_none(bench: Bench) -> None:
    say(bench, range(3), evening(3))
    for number, code in enumerate(("NO_DATA", "RATE_LIMITED")):
        bench.connection.execute(
            "INSERT INTO raw.fetches BY NAME SELECT * REPLACE (fetch_id || ? AS fetch_id, ? AS error_code)"
            " FROM raw.fetches LIMIT 1",
            [number, code],
        )
    assert measured(bench)["error_rate"] == (pytest.approx(1 / 3), "FAIL")
    assert bench.frame("SELECT requests, failed FROM quality.provider_health").rows() == [(3, 1)]


def test_duplicates_and_gaps_are_judged_by_provider_and_for_the_market(bench: Bench) -> None:
    twice = [bar("A", DAYS[0], 10.0), bar("A", DAYS[0], 11.0), *(bar("A", DAYS[n], 10.0) for n in (1, 2, 4))]
    bench.pull(PROVIDERS["one"], answer(twice), evening(5), (DAYS[0], DAYS[4]))
    bench.refresh()
    say(bench, range(5), evening(5), "two")
    assert measured(bench)["duplicate_rows"] == (2.0, "WARN")
    assert measured(bench)["gap_ratio"][1] == "FAIL"
    assert measured(bench, "two")["gap_ratio"] == (0.0, "OK")
    assert measured(bench, "*")["duplicate_rows"] == (2.0, "WARN")
