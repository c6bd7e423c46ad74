"""What a close is measured against: reference prices, ex-dates, price limits, as the exchanges publish them."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vprism_pipelines.market.references import SCHEMA, references

FPT = "VN:STOCK:FPT"
MONDAY = date(2024, 5, 6)


def bars(symbol: str, exchange: str | None, *told: dict[str, object], first: date = MONDAY) -> pl.DataFrame:
    """One bar a day; high and low are a tenth around the close unless told otherwise."""
    rows = []
    for n, bar in enumerate(told):
        close = float(str(bar["close"]))
        plain = {"high": close * 1.1, "low": close * 0.9, "volume": 1000, "value": close * 1000, "ref_price": None}
        day = {"symbol": symbol, "session": first + timedelta(days=n), "session_no": n, "exchange": exchange}
        rows.append({**day, **plain, **bar})
    return pl.DataFrame(rows, schema_overrides={"ref_price": pl.Float64, "exchange": pl.String})


def shut(close: float, **fields: object) -> dict[str, object]:
    """A session that closed at its extreme on both sides, as one at a limit may."""
    return {"close": close, "high": close, "low": close, **fields}


def test_the_reference_is_the_close_before_and_the_first_session_has_none() -> None:
    found = references(bars("US:STOCK:A", "NYSE", {"close": 20.0}, {"close": 21.0}, {"close": 21.0}))
    assert found["reference"].to_list() == [None, 20.0, 21.0]
    assert found["change"].to_list() == [None, pytest.approx(0.05), 0.0]
    assert found["limit_hit"].to_list() == [None, None, None]


def test_an_ex_date_is_measured_against_the_theoretical_price_on_the_tick_lattice() -> None:
    # FPT 2022-06-13: 110.0 before, cash 1.0 and a bonus of 20 %: 90.8333, published as 90.8 (thousand VND).
    told = bars(
        FPT, "HOSE", {"close": 110_000.0}, {"close": 90_800.0, "ref_price": 109_000 / 1.2}, first=date(2022, 6, 12)
    )
    assert references(told).row(1) == (90_800.0, 0.0, 0)
    halves = bars("US:STOCK:A", None, {"close": 10.0}, {"close": 9.0, "ref_price": 9.125})
    assert references(halves)["reference"][1] == 9.13


def test_upcom_is_measured_against_the_average_price_of_the_session_before() -> None:
    told = bars("VN:STOCK:ABC", "UPCOM", {"close": 10_000.0, "value": 10_460_000.0}, {"close": 10_500.0})
    assert references(told)["reference"][1] == 10_500.0
    unknown = told.with_columns(value=pl.lit(None, dtype=pl.Float64))
    assert references(unknown)["reference"][1] == 10_000.0


def test_closes_at_the_limits_are_hits_and_one_tick_inside_is_none() -> None:
    closes = {28_200.0: 1, 28_150.0: 0, 26_400.0: 0, 24_650.0: 0, 24_600.0: -1}
    for close, hit in closes.items():
        assert references(bars(FPT, "HOSE", {"close": 26_400.0}, shut(close)))["limit_hit"][1] == hit, close


def test_a_close_that_is_not_an_extreme_of_its_session_is_at_no_limit() -> None:
    inside = bars(FPT, "HOSE", {"close": 26_400.0}, {"close": 28_200.0, "high": 28_300.0})
    assert references(inside)["limit_hit"][1] == 0


def test_where_no_limit_or_no_exact_reference_is_known_there_is_no_answer() -> None:
    before, hit = {"close": 10_000.0}, shut(11_500.0)
    assert references(bars("VN:STOCK:ABC", None, before, hit))["limit_hit"][1] is None
    assert references(bars("VN:CW:CFPT2401", "HOSE", before, hit))["limit_hit"][1] is None
    upcom = bars("VN:STOCK:ABC", "UPCOM", before, hit)
    assert references(upcom)["limit_hit"][1] == 1
    assert references(upcom.with_columns(value=None))["limit_hit"][1] is None
    # HNX took an average near the close for a while, which nobody can work out from daily bars.
    assert references(bars("VN:STOCK:ABC", "HNX", before, hit, first=date(2012, 9, 3)))["limit_hit"][1] is None


def test_a_share_that_comes_back_after_weeks_has_its_opening_band() -> None:
    told = bars(FPT, "HOSE", {"close": 10_000.0}, shut(11_950.0)).with_columns(session_no=pl.Series([0, 30]))
    assert references(told)["limit_hit"][1] == 0
    assert (
        references(
            told.with_columns(close=12_000.0, high=12_000.0, low=12_000.0).with_columns(
                close=pl.Series([10_000.0, 12_000.0])
            )
        )["limit_hit"][1]
        == 1
    )


PRICES = st.lists(st.floats(1000, 50_000), min_size=1, max_size=6)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.sampled_from(["HOSE", "HNX", "UPCOM"]), PRICES), min_size=1, max_size=4))
def test_neighbours_change_nothing_and_a_hit_lies_on_its_side_of_the_reference(
    told: list[tuple[str, list[float]]],
) -> None:
    parts = [
        bars(f"VN:STOCK:S{n}", exchange, *(shut(round(close, -2)) for close in closes))
        for n, (exchange, closes) in enumerate(told)
    ]
    together = references(pl.concat(parts))
    assert together.schema == pl.Schema(SCHEMA)
    assert together.equals(pl.concat(references(part) for part in parts))
    hits = together.filter(pl.col("limit_hit") != 0)
    assert (hits["limit_hit"] == hits["change"].sign()).all()
