"""What a user of the analytics tables can rely on: one new session costs one session and equals a full rebuild."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.histories import PROVIDERS, assert_equals_rebuilt
from tests.house import DAYS, US, Bench, action, answer, bar
from vprism_pipelines.market.indicators import LOOKBACK
from vprism_pipelines.warehouse import across, analytics
from vprism_pipelines.warehouse.building import insert
from vprism_pipelines.warehouse.indicator_tables import DAILY
from vprism_pipelines.warehouse.lake import Lake

LONG = LOOKBACK + 40
ONE = PROVIDERS["one"]


def evening(day: int) -> datetime:
    return datetime.combine(DAYS[day], datetime.min.time(), UTC) + timedelta(hours=22)


def close(code: str, n: int) -> float:
    """A close that moves, and repeats itself for nobody."""
    return round(50 + 10 * math.sin(n / 7 + len(code)) + (n * 37 % 23) / 10 + n / 50, 2)


def tell(
    bench: Bench,
    days: range,
    *codes: str,
    actions: list[dict[str, object]] | None = None,
    delta: float = 0.0,
    late: int = 0,
    **fields: object,
) -> None:
    """Bars of these days after the close of the last one, or some days later."""
    bars = [bar(code, DAYS[n], close(code, n) + delta, **fields) for code in codes for n in days]
    at = evening(days[-1] + late) + timedelta(minutes=len(bench.lake.payload_files()))
    bench.pull(ONE, answer(bars, actions or ()), at, (DAYS[days[0]], DAYS[days[-1]]))
    bench.ingest("bars")
    bench.ingest("actions")


def built(bench: Bench) -> dict[str, int]:
    """Build everything; what the analytics step did."""
    from vprism_pipelines.warehouse import findings, golden

    golden.build_events(bench.connection, bench.spec)
    findings.build_findings(bench.connection, bench.spec)
    golden.build_bars(bench.connection, bench.spec)
    golden.build_factors(bench.connection, bench.spec)
    done = analytics.build_daily(bench.connection, bench.spec)
    across.build_market(bench.connection, bench.spec)
    return {"written": done.written, **done.detail}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Lake(tmp_path))


def daily(bench: Bench, code: str = "A") -> pl.DataFrame:
    return bench.frame(f"FROM analytics.daily WHERE symbol = 'US:STOCK:{code}' ORDER BY session")


def test_every_traded_bar_has_a_row_of_indicators(bench: Bench) -> None:
    tell(bench, range(60), "A", "B")
    assert built(bench) == {"written": 120, "restarted": 2, "resumed": 0}
    frame = daily(bench)
    assert frame.columns == DAILY.names
    assert frame["session"].to_list() == list(DAYS[:60])
    assert frame["ret_1d"][1] == pytest.approx(close("A", 1) / close("A", 0) - 1, rel=1e-12)
    assert frame["sma_20"][18] is None
    assert frame["sma_20"][19] == pytest.approx(sum(close("A", n) for n in range(20)) / 20, rel=1e-12)


def test_one_new_session_costs_one_session_whatever_the_length_of_the_history(bench: Bench) -> None:
    tell(bench, range(LONG), "A", "B")
    built(bench)
    for day in (LONG, LONG + 1):
        tell(bench, range(day - 4, day + 1), "A", "B")  # the last sessions are always told again
        assert built(bench) == {"written": 2, "restarted": 0, "resumed": 2}
    assert_equals_rebuilt(bench)


def test_bars_that_no_window_reaches_any_more_are_not_kept_twice(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analytics, "STALE", 0.0)
    tell(bench, range(LONG), "A", "B")
    built(bench)
    for day in range(LONG, LONG + 4):
        tell(bench, range(day, day + 1), "A", "B")
        built(bench)
    kept = bench.frame("SELECT symbol, count(*) AS bars FROM analytics.tail GROUP BY 1")["bars"].to_list()
    assert kept == [LOOKBACK + 1] * 2
    assert_equals_rebuilt(bench)


def test_nothing_new_costs_nothing(bench: Bench) -> None:
    tell(bench, range(30), "A")
    built(bench)
    tell(bench, range(25, 30), "A", late=1)
    assert built(bench) == {"written": 0}


def test_a_symbol_whose_past_changed_is_computed_anew_and_only_that_one(bench: Bench) -> None:
    tell(bench, range(40), "A", "B")
    built(bench)
    before = daily(bench, "B")
    tell(bench, range(10, 11), "A", delta=5.0, late=35)
    assert built(bench) == {"written": 40, "restarted": 1, "resumed": 0}
    assert daily(bench, "B").equals(before)
    assert_equals_rebuilt(bench)


def test_a_new_event_moves_the_levels_since_its_ex_date_and_no_return_before(bench: Bench) -> None:
    tell(bench, range(40), "A")
    built(bench)
    before = daily(bench)
    tell(bench, range(39, 40), "A", actions=[action("A", DAYS[20], cash=1.0)], late=1)
    assert built(bench)["restarted"] == 1
    after = daily(bench)
    assert after.head(20).equals(before.head(20))
    assert after["ret_1d"][20] > before["ret_1d"][20]
    assert_equals_rebuilt(bench)


def test_an_event_announced_for_the_future_changes_nothing_yet(bench: Bench) -> None:
    tell(bench, range(40), "A", actions=[action("A", DAYS[45], cash=1.0)])
    built(bench)
    before = daily(bench)
    tell(bench, range(40, 42), "A", actions=[action("A", DAYS[45], cash=1.5)])
    assert built(bench) == {"written": 2, "restarted": 0, "resumed": 1}
    assert daily(bench).head(40).equals(before)
    tell(bench, range(42, 47), "A")
    built(bench)
    assert_equals_rebuilt(bench)


def test_an_untraded_session_has_no_row_and_breaks_nothing(bench: Bench) -> None:
    tell(bench, range(30), "A")
    built(bench)
    tell(bench, range(30, 31), "A", volume=0.0)
    assert built(bench) == {"written": 0, "restarted": 0, "resumed": 1}
    tell(bench, range(31, 33), "A")
    assert built(bench)["written"] == 2
    assert DAYS[30] not in daily(bench)["session"].to_list()
    tell(bench, range(30, 31), "A", late=5)  # it did trade after all
    assert built(bench)["restarted"] == 1
    assert_equals_rebuilt(bench)


def test_a_symbol_that_stops_trading_altogether_leaves_no_row(bench: Bench) -> None:
    tell(bench, range(5), "A")
    built(bench)
    tell(bench, range(5), "A", volume=0.0, late=3)
    built(bench)
    assert daily(bench).is_empty()
    assert_equals_rebuilt(bench)


BENCHMARK = str(US.benchmark)


def beta(bench: Bench) -> list[float | None]:
    return daily(bench)["beta_60"].to_list()


def test_a_benchmark_that_comes_later_than_the_stocks_reaches_every_beta(bench: Bench) -> None:
    tell(bench, range(80), "A")
    built(bench)
    assert beta(bench) == [None] * 80
    tell(bench, range(80), BENCHMARK, late=1)
    built(bench)
    assert beta(bench)[-1] is not None
    assert_equals_rebuilt(bench)


def test_a_benchmark_one_session_behind_the_stocks_is_caught_up_with(bench: Bench) -> None:
    """Its newest bar is new to the stocks' rows of that session, although nobody's past has changed."""
    tell(bench, range(80), "A", BENCHMARK)
    built(bench)
    tell(bench, range(80, 82), "A")
    built(bench)
    tell(bench, range(80, 82), BENCHMARK)
    built(bench)
    assert_equals_rebuilt(bench)


def test_a_corrected_benchmark_corrects_every_beta(bench: Bench) -> None:
    tell(bench, range(80), "A", BENCHMARK)
    built(bench)
    before = beta(bench)
    tell(bench, range(70, 71), BENCHMARK, delta=3.0, late=15)
    assert built(bench) == {"written": 160, "restarted": 2, "resumed": 0}
    assert beta(bench) != before
    assert_equals_rebuilt(bench)


def test_stocks_and_benchmark_that_move_on_together_cost_one_session_each(bench: Bench) -> None:
    tell(bench, range(80), "A", BENCHMARK)
    built(bench)
    tell(bench, range(76, 81), "A", BENCHMARK)
    assert built(bench) == {"written": 2, "restarted": 0, "resumed": 2}
    assert_equals_rebuilt(bench)


@settings(deadline=None, max_examples=6)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([("A",), ("B",), (BENCHMARK,), ("A", "B", BENCHMARK)]),
            st.integers(0, 60),
            st.integers(1, 40),
            st.sampled_from([0.0, 0.0, 2.0]),
            st.sampled_from([0, 0, 50]),
        ),
        min_size=2,
        max_size=5,
    )
)
def test_in_whatever_pieces_a_history_comes_the_indicators_are_those_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[tuple[str, ...], int, int, float, int]]
) -> None:
    with Bench(Lake(tmp_path_factory.mktemp("lake"))) as bench:
        for codes, first, length, delta, late in pieces:
            tell(bench, range(first, first + length), *codes, delta=delta, late=late)
            built(bench)
        assert_equals_rebuilt(bench)


def test_blocks_of_symbols_are_computed_like_all_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analytics, "BLOCK_ROWS", 50)
    tell(bench, range(40), "A", "B", "C")
    assert built(bench)["written"] == 120
    monkeypatch.undo()
    assert_equals_rebuilt(bench)


def test_an_insert_that_fails_says_why(bench: Bench) -> None:
    nobody = pl.DataFrame(schema=DAILY.polars_schema).clear(1)
    bench.connection.execute("BEGIN")
    with pytest.raises(duckdb.ConstraintException, match="symbol"):
        insert(bench.connection, DAILY, nobody)
