"""Whole columns of symbols, and codes that were renamed: what a user can rely on."""

from __future__ import annotations

import time
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vprism_pipelines.errors import InvalidInput
from vprism_pipelines.market.symbols import (
    cache_info,
    resolve,
    resolve_frame,
)
from vprism_pipelines.market.symbols.tables import aliases

# --- renamings -------------------------------------------------------------------------------------------------------


def test_a_renamed_code_is_followed_on_the_days_it_was_in_use() -> None:
    def on(raw: str, day: date | None) -> str | None:
        return resolve(raw, market="us", as_of=day).symbol

    assert on("FB", date(2022, 6, 8)) == "US:STOCK:META"
    assert on("FB", date(2022, 6, 9)) == "US:STOCK:FB"
    assert on("FB", date(2001, 1, 2)) == "US:STOCK:FB"
    assert on("FB", None) == "US:STOCK:FB"
    assert on("GOOG", date(2014, 4, 2)) == "US:STOCK:GOOGL"
    assert on("GOOG", date(2014, 4, 3)) == "US:STOCK:GOOG"
    assert on("QQQQ", date(2010, 1, 4)) == "US:ETF:QQQ"
    assert resolve("FB", market="us", as_of=date(2015, 1, 2)).rule_id == "alias.us.fb"


def test_a_code_retired_for_good_is_followed_on_any_day() -> None:
    for day in (date(2021, 11, 15), date(2025, 5, 5), date(2026, 1, 5)):
        assert resolve("830799.BJ", as_of=day).symbol == "CN:STOCK:BJ920799"
    assert resolve("838163", market="cn", as_of=date(2026, 1, 5)).symbol == "CN:STOCK:BJ920163"
    undated = resolve("838163", market="cn")
    assert undated.symbol == "CN:STOCK:BJ838163"
    assert "BJ920163" in undated.diagnostics[-1]


def test_a_renaming_leads_to_an_identifier_that_is_final() -> None:
    for listed in aliases().values():
        spans = sorted((alias.valid_from, alias.valid_to) for alias in listed)
        assert all(first[1] < second[0] for first, second in pairwise(spans))
        for alias in listed:
            assert alias.valid_from <= alias.valid_to
            assert resolve(alias.former).symbol == alias.former
            for day in (max(alias.valid_from, date(1990, 1, 2)), min(alias.valid_to, date(2030, 1, 2))):
                assert resolve(alias.former, as_of=day).symbol == alias.symbol
                assert resolve(alias.symbol, as_of=day).symbol == alias.symbol


# --- frames ----------------------------------------------------------------------------------------------------------


def test_a_frame_keeps_its_rows_and_order_and_partial_failures_are_named() -> None:
    frame = pl.DataFrame({"raw_symbol": ["FPT", "??", None, "fpt ", "VNI"], "close": [1.0, 2.0, 3.0, 4.0, 5.0]})
    found = resolve_frame(frame, market="vn")
    assert found.columns == ["raw_symbol", "close", "symbol", "rule_id", "unresolved_code"]
    assert found["close"].to_list() == frame["close"].to_list()
    assert found["symbol"].to_list() == ["VN:STOCK:FPT", None, None, "VN:STOCK:FPT", None]
    assert found["unresolved_code"].to_list() == [None, "PATTERN", "EMPTY", None, "AMBIGUOUS_ASSET"]
    assert found["rule_id"].to_list() == ["vn.stock", None, None, "vn.stock", None]
    assert resolve_frame(found, market="vn").equals(found)


def test_a_frame_without_rows_gains_typed_columns() -> None:
    found = resolve_frame(pl.DataFrame(schema={"raw_symbol": pl.String, "session": pl.Date}), as_of="session")
    assert found.schema == {
        "raw_symbol": pl.String,
        "session": pl.Date,
        "symbol": pl.String,
        "rule_id": pl.String,
        "unresolved_code": pl.String,
    }


def test_rows_spelled_on_their_own_day_follow_renamings_row_by_row() -> None:
    days = [date(2003, 1, 2), date(2012, 5, 17), date(2012, 5, 18), date(2022, 6, 8), date(2022, 6, 9), None]
    frame = pl.DataFrame({"ticker": ["FB"] * 6 + ["830799.BJ"] * 6, "session": days + days})
    found = resolve_frame(frame, column="ticker", market=None, as_of="session")["symbol"].to_list()
    assert found[:6] == [None] * 6
    mixed = frame.with_columns(pl.col("ticker").replace("FB", "FB.US"))
    for row, raw, day in zip(
        resolve_frame(mixed, column="ticker", as_of="session")["symbol"], mixed["ticker"], days + days, strict=True
    ):
        assert row == resolve(raw, as_of=day).symbol
    one_day = resolve_frame(mixed, column="ticker", as_of=date(2020, 1, 2))["symbol"].unique().to_list()
    assert sorted(one_day) == ["CN:STOCK:BJ920799", "US:STOCK:META"]


@given(st.dates(date(1995, 1, 1), date(2030, 1, 1)), st.sampled_from(["FB.US", "GOOG.US", "NASDAQ:QQQQ", "430489.BJ"]))
def test_a_frame_and_a_single_symbol_agree_on_every_day(day: date, raw: str) -> None:
    frame = pl.DataFrame({"raw_symbol": [raw], "day": [day]})
    assert resolve_frame(frame, as_of="day")["symbol"].item() == resolve(raw, as_of=day).symbol


def test_a_million_rows_cost_one_resolution_per_spelling() -> None:
    codes = pl.Series([f"{number:05d}" for number in range(1, 1601)])
    frame = pl.DataFrame({"raw_symbol": codes.sample(1_000_000, with_replacement=True, seed=1)})
    before, started = cache_info(), time.perf_counter()
    found = resolve_frame(frame, market="hk")
    elapsed, after = time.perf_counter() - started, cache_info()
    assert after.hits + after.misses - before.hits - before.misses <= 1600
    assert found["unresolved_code"].null_count() == found.height
    assert elapsed < 10
    resolve_frame(frame, market="hk")
    assert cache_info().misses == after.misses
    assert 0 < cache_info().hit_rate < 1


@pytest.mark.parametrize("arguments", [{"column": "nothing"}, {"column": "symbol"}, {"as_of": "nothing"}])
def test_a_frame_that_lacks_a_column_is_refused(arguments: dict[str, str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        resolve_frame(pl.DataFrame({"raw_symbol": ["FPT"], "symbol": ["x"]}), **arguments)
    assert caught.value.hint


@pytest.mark.shared
def test_a_dated_archive_splits_google_and_the_two_companies_called_fb(shared_data: Path) -> None:
    bars = pl.read_parquet(shared_data / "us_lean_daily_raw.parquet").rename({"symbol": "raw_symbol"})
    found = resolve_frame(bars, market="us", as_of="date")
    meta = found.filter(pl.col("symbol") == "US:STOCK:META")["date"]
    assert meta.min() == date(2012, 5, 18)
    old = found.filter(pl.col("symbol") == "US:STOCK:FB")["date"].max()
    assert isinstance(old, date)
    assert old + timedelta(days=365) < date(2012, 5, 18)
    alphabet = found.filter(pl.col("raw_symbol") == "GOOG").group_by("symbol").agg(pl.col("date").max())
    assert dict(alphabet.iter_rows())["US:STOCK:GOOGL"] == date(2014, 4, 2)
