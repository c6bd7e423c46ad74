"""The calendars against the days on which real indices and shares have bars."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from vprism_pipelines.market.calendars import calendar

pytestmark = pytest.mark.shared


def sessions(name: str, start: date, end: date) -> set[date]:
    return set(calendar(name).sessions(start, end)["session"])


def test_hose_has_exactly_the_sessions_that_its_index_was_computed_on(shared_data: Path) -> None:
    index = pl.read_parquet(shared_data / "vn_index_daily.parquet")
    cafef = pl.read_parquet(shared_data / "vn_cafef_daily.parquet").rename(
        {"GiaMoCua": "open", "GiaCaoNhat": "high", "GiaThapNhat": "low", "GiaDongCua": "close"}
    )
    observed: set[date] = set()
    for source in (index, cafef):
        bars = source.filter(pl.col("symbol") == "VNINDEX").sort("date")
        # providers fill closed days, one even a Saturday: a flat copy of the last close, traded nothing or the same
        volume = pl.col("^volume|KhoiLuongKhopLenh$")
        flat = pl.all_horizontal(pl.col("open", "high", "low", "close") == pl.col("close").shift(1))
        filler = flat & ((volume == 0) | (volume == volume.shift(1)))
        traded = bars.filter(~filler.fill_null(False), pl.col("date").dt.weekday() <= 5)
        observed |= set(traded["date"])
    assert (min(observed), max(observed)) == (date(2000, 7, 28), date(2026, 8, 21))
    assert sessions("HOSE", min(observed), max(observed)) == observed
    assert len(observed) == 6343


def test_hnx_has_exactly_the_sessions_that_its_indices_were_computed_on(shared_data: Path) -> None:
    index = pl.read_parquet(shared_data / "vn_index_daily.parquet")
    for symbol in ("HNXINDEX", "UPCOMINDEX"):
        observed = set(index.filter(pl.col("symbol") == symbol)["date"])
        assert sessions("HSTC", min(observed), max(observed)) == observed


def test_hnx_has_exactly_the_sessions_of_the_shares_that_opened_it(shared_data: Path) -> None:
    first_listed = ["CID", "KHP", "VSH", "VTL"]  # four of the six that opened the exchange
    bars = pl.read_parquet(shared_data / "vn_cafef_daily.parquet").filter(
        pl.col("symbol").is_in(first_listed), pl.col("date") < date(2006, 7, 1)
    )
    assert set(bars["date"]) == sessions("HSTC", date(2005, 7, 14), date(2006, 6, 30))


def test_new_york_and_shanghai_agree_with_real_bars(shared_data: Path) -> None:
    wiki = pl.read_parquet(shared_data / "us_quandl_wiki_aapl_msft.parquet")
    new_york = set(wiki.filter(pl.col("symbol") == "MSFT", pl.col("date") >= date(1990, 1, 1))["date"])
    assert sessions("XNYS", date(1990, 1, 1), max(new_york)) - new_york == {date(2017, 11, 8)}  # missing in the file
    assert new_york <= sessions("XNYS", date(1990, 1, 1), max(new_york))
    hikyuu = pl.read_parquet(shared_data / "cn_hikyuu_daily_raw_8.parquet")
    shanghai = set(hikyuu.filter(pl.col("symbol") == "sh.000001")["date"])
    assert shanghai <= sessions("XSHG", min(shanghai), max(shanghai))
    since = date(1995, 5, 1)  # the file has 16 holes before
    assert {day for day in shanghai if day >= since} == sessions("XSHG", since, max(shanghai))
