"""Rows that stand series by series: told from their runs, with the same answer as from every row."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from vprism_pipelines.market.rules import with_venues
from vprism_pipelines.market.spec import market
from vprism_pipelines.quality.order import in_order, repeats
from vprism_pipelines.warehouse.row_groups import ROW_GROUP, in_row_groups

KEY = ["symbol", "session", "provider"]
SERIES = st.lists(
    st.tuples(st.sampled_from(["A", "B", "C", None]), st.sampled_from([1, 2, 3, None]), st.sampled_from(["x", "y"])),
    max_size=8,
)


def frame(rows: list[tuple[str | None, int | None, str]]) -> pl.DataFrame:
    schema = {"symbol": pl.String, "session": pl.Int64, "provider": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row").with_row_index("place")


def series(symbol: str, sessions: list[int]) -> list[tuple[str | None, int | None, str]]:
    return [(symbol, session, "x") for session in sessions]


@given(SERIES)
def test_a_key_is_there_twice_whenever_counting_them_says_so(rows: list[tuple[str | None, int | None, str]]) -> None:
    table = frame(rows)
    assert repeats(table, KEY) == (table.select(KEY).unique().height < table.height)
    assert repeats(table, ["session"]) == (table["session"].n_unique() < table.height)


@given(SERIES.map(lambda rows: list(dict.fromkeys(rows))))
def test_rows_come_in_order_of_their_key_whatever_order_they_were_in(
    rows: list[tuple[str | None, int | None, str]],
) -> None:
    assert_frame_equal(in_order(frame(rows), KEY), frame(rows).sort(KEY))
    assert_frame_equal(in_order(frame(sorted(rows, key=str)), KEY), frame(sorted(rows, key=str)).sort(KEY))


@pytest.mark.parametrize(
    "rows",
    [
        series("B", [1, 2, 3]) + series("A", [1, 2, 3]),
        series("B", [3, 2, 1]) + series("A", [3, 2, 1]),
        series("B", [1, 2]) + series("A", [1, 2]) + series("B", [3, 4]),
        series("B", [1, 3, 2]) + series("A", [1, 2]),
    ],
    ids=["runs in order", "runs backwards", "a series in two runs", "a run out of order"],
)
def test_the_way_series_stand_in_a_delivery_changes_no_answer(rows: list[tuple[str | None, int | None, str]]) -> None:
    assert_frame_equal(in_order(frame(rows), KEY), frame(rows).sort(KEY))
    assert not repeats(frame(rows), KEY)
    assert repeats(frame([*rows, rows[0]]), KEY)
    assert repeats(frame([rows[0], *rows]), KEY)


def test_rows_handed_over_in_row_groups_are_the_same_rows_in_the_same_order() -> None:
    rows = pl.DataFrame({"n": pl.int_range(2 * ROW_GROUP + 7, eager=True)})
    grouped = in_row_groups(pl.concat([rows[:11], rows[11:]], rechunk=False))
    assert [len(chunk) for chunk in grouped["n"].get_chunks()] == [ROW_GROUP, ROW_GROUP, 7]
    assert_frame_equal(grouped, rows)
    assert_frame_equal(in_row_groups(rows[:0]), rows[:0])


def test_each_bar_keeps_its_place_and_gets_the_venue_of_its_exchange_and_its_kind() -> None:
    day = date(2024, 5, 6)
    bars = pl.DataFrame(
        {
            "symbol": ["VN:STOCK:FPT", "VN:INDEX:VNINDEX", "VN:STOCK:FPT", "VN:ETF:E1VFVN30"],
            "exchange": ["HOSE", None, None, "HOSE"],
            "session": [day + timedelta(days=n) for n in range(4)],
        }
    )
    found = with_venues(bars)
    assert found["session"].equals(bars["session"])
    assert found["venue"].to_list() == ["HOSE", None, None, "HOSE"]
    assert found["asset"].to_list() == ["STOCK", "INDEX", "STOCK", "ETF"]
    assert set(found["venue"].drop_nulls()) <= set(market("vn").exchanges)
