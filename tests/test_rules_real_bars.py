"""The rule book against millions of real bars."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from vprism_pipelines.market import rules
from vprism_pipelines.market.calendars import calendar

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def bars(shared_data: Path) -> pl.DataFrame:
    """Traded Vietnamese bars on the exchange the share is listed on, with the reference its day's change implies."""
    listing = pl.read_parquet(shared_data / "vn_listing_sectors.parquet").select(
        "symbol",
        venue=pl.col("exchange").str.to_uppercase(),
        listed=pl.col("listing_date").str.to_date("%m/%d/%Y", strict=False),
    )
    vnd = {"close": "GiaDongCua", "high": "GiaCaoNhat", "low": "GiaThapNhat", "change": "ThayDoi"}
    return (
        pl.scan_parquet(shared_data / "vn_cafef_daily.parquet")
        .select(
            "symbol",
            session="date",
            volume="KhoiLuongKhopLenh",
            **{name: (pl.col(column) * 1000).round() for name, column in vnd.items()},
        )
        .filter(pl.col("volume") > 0, pl.col("close") > 0)
        .join(listing.unique("symbol").lazy(), on="symbol")
        .filter(pl.col("session") >= pl.col("listed"))
        .with_columns(reference=pl.col("close") - pl.col("change"))
        .collect()
    )


def test_no_raw_vietnamese_close_is_off_the_lattice(bars: pl.DataFrame) -> None:
    off = bars.filter(~rules.on_lattice(pl.col("venue"), pl.col("session"), pl.col("close")))
    assert bars.height > 2_500_000
    assert off.is_empty()


def test_closes_stay_inside_the_limits_and_often_rest_exactly_on_them(bars: pl.DataFrame) -> None:
    at = (pl.col("venue"), pl.col("session"), pl.col("reference"))
    limited = (
        bars.filter(pl.col("session") > pl.col("listed"))
        .with_columns(rules.ceiling(*at), rules.floor(*at), rules.tick(*at))
        .filter(pl.col("ceiling").is_not_null())
        .group_by("venue")
        .agg(
            inside=pl.col("close").is_between("floor", "ceiling").mean(),
            at_ceiling=(pl.col("close") == pl.col("ceiling")).mean(),
            tick_over=(pl.col("close") == pl.col("ceiling") + pl.col("tick")).mean(),
            at_floor=(pl.col("close") == pl.col("floor")).mean(),
            tick_under=(pl.col("close") == pl.col("floor") - pl.col("tick")).mean(),
        )
    )
    shares = {row["venue"]: row for row in limited.iter_rows(named=True)}
    # HOSE's rest are ex-dates whose change the source states against the unadjusted close, UPCOM's are long pauses
    for venue, inside in {"HOSE": 0.995, "HNX": 0.9999, "UPCOM": 0.995}.items():
        assert shares[venue]["inside"] > inside
        assert shares[venue]["at_ceiling"] > 20 * shares[venue]["tick_over"]
        assert shares[venue]["at_floor"] > 20 * shares[venue]["tick_under"]


def test_volumes_are_multiples_of_the_step(bars: pl.DataFrame) -> None:
    multiples = (
        bars.with_columns(rules.step(pl.col("venue"), pl.col("session")))
        .filter(pl.col("step").is_not_null())
        .group_by("venue")
        .agg((pl.col("volume") % pl.col("step") == 0).mean())
    )
    # the rest are shares that moved to their present exchange later, e.g. from HOSE to HNX and back in 2021
    shares = dict(multiples.iter_rows())
    assert shares["HOSE"] > 0.999
    assert shares["HNX"] > 0.995
    assert shares["UPCOM"] > 0.995


def test_the_pause_rule_explains_upcom_moves_beyond_the_regular_band(bars: pl.DataFrame) -> None:
    numbered = calendar("UPCOM").sessions(date(2015, 7, 1), date(2025, 8, 25)).select("session", "session_no")
    upcom = (
        bars.filter(pl.col("venue") == "UPCOM", pl.col("reference") > 0)
        .join(numbered, on="session")
        .sort("symbol", "session")
        .with_columns(idle=pl.col("session_no").diff().over("symbol") - 1)
    )
    at = (pl.col("venue"), pl.col("session"), pl.col("reference"))
    beyond = upcom.filter(pl.col("close") > rules.ceiling(*at), pl.col("idle") > rules.IDLE_SESSIONS)
    explained = beyond.select(
        (pl.col("close") <= rules.ceiling(*at, idle_sessions=pl.col("idle"))).mean(), pl.len()
    ).row(0)
    assert explained[1] > 300
    assert explained[0] > 0.98


def test_chinese_main_board_closes_stay_inside_ten_percent_of_the_close_before(shared_data: Path) -> None:
    closes = (
        pl.read_parquet(shared_data / "cn_hikyuu_daily_raw_8.parquet")
        .filter(pl.col("symbol") != "sh.000001", pl.col("volume") > 0)
        .sort("symbol", "date")
        .with_columns(previous=pl.col("close").shift(1).over("symbol"))
        .filter(pl.col("date") >= date(1996, 12, 17), pl.col("previous").is_not_null())
    )
    at = ("CN_MAIN", pl.col("date"), pl.col("previous"))
    shares = closes.select(
        inside=pl.col("close").is_between(rules.floor(*at), rules.ceiling(*at)).mean(),
        at_limit=(pl.col("close") == rules.ceiling(*at)).mean(),
        over=(pl.col("close") > rules.ceiling(*at)).mean(),
    ).row(0, named=True)
    assert shares["inside"] > 0.995  # the rest are ex-dates
    assert shares["at_limit"] > 20 * shares["over"]
