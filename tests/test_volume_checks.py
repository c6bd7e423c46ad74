"""What a user can rely on when volumes come in the wrong unit and no value tells."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.market.spec import market
from vprism_pipelines.quality.flags import BarFlag
from vprism_pipelines.quality.windows import examine

VN = market("vn")
SESSIONS = calendar("HOSE").sessions(date(2015, 1, 5), date(2025, 12, 31))
NO_ACTIONS = pl.DataFrame(schema={"symbol": pl.String, "ex_date": pl.Date, "ref_price": pl.Float64})
TENS, HUNDREDS, ODD_LOTS_APART = date(2016, 1, 4), date(2021, 2, 1), date(2022, 10, 3)
FPT = "VN:STOCK:FPT"


def liquid(seed: int, since: date = TENS, n: int = 320, *, step: int = 10, exchange: str = "HOSE") -> pl.DataFrame:
    """Bars without values, of volumes in whole steps around half a million that vary threefold from day to day."""
    rng = np.random.default_rng(seed)
    days = SESSIONS.filter(pl.col("session") >= since)["session"].head(n)
    close = 26_000.0 + 100 * rng.integers(-2, 3, n)
    volume = np.round(np.exp(rng.normal(13, 0.6, n)) / step).astype(int) * step
    return pl.DataFrame({"symbol": FPT, "session": days, "close": close, "volume": volume}).with_columns(
        exchange=pl.lit(exchange),
        open=pl.col("close"),
        high=pl.col("close") + 100,
        low=pl.col("close") - 100,
        value=pl.lit(None, pl.Float64),
        traded=pl.lit(value=True),
    )


def in_units(bars: pl.DataFrame, factor: float, first: int, length: int = 20) -> pl.DataFrame:
    here = pl.int_range(pl.len()).is_between(first, first + length - 1)
    wrong = (pl.col("volume") * factor + 1e-6).floor().cast(pl.Int64)
    return bars.with_columns(volume=pl.when(here).then(wrong).otherwise("volume"))


def found(bars: pl.DataFrame, check: str = "volume_unit") -> list[int]:
    examined = examine(bars, NO_ACTIONS, SESSIONS, VN)
    return examined.with_row_index("day").filter(check)["day"].to_list()


@given(
    seed=st.integers(0, 2**30),
    factor=st.sampled_from([1 / 100, 1 / 10, 10.0, 100.0, 1000.0]),
    first=st.integers(0, 300),
    era=st.sampled_from([(TENS, 10), (HUNDREDS, 100), (ODD_LOTS_APART, 100)]),
)
@settings(max_examples=40, deadline=None)
def test_a_run_of_volumes_in_another_unit_is_found(seed: int, factor: float, first: int, era: tuple[date, int]) -> None:
    # Where odd lots trade apart a history must first show that its provider leaves them out.
    assume(era[0] != ODD_LOTS_APART or first >= 60 or factor > 1)
    bars = liquid(seed, era[0], step=era[1])
    inside = list(range(first, first + 20))
    hits = set(found(in_units(bars, factor, first)))
    assert len(hits.intersection(inside)) >= 18, "only a bar at the edge may pass for a sound one"
    assert len(hits.difference(inside)) <= 3, "nor do many sound neighbours pass for a wrong one"


@given(seed=st.integers(0, 2**30), era=st.sampled_from([(TENS, 10), (HUNDREDS, 100), (ODD_LOTS_APART, 100)]))
@settings(max_examples=20, deadline=None)
def test_volumes_as_the_exchange_trades_them_are_never_set_aside(seed: int, era: tuple[date, int]) -> None:
    bars = liquid(seed, era[0], step=era[1])
    assert found(bars) == []
    assert found(bars, "volume_step") == []


def test_a_share_that_moves_where_odd_lots_trade_is_flagged_at_first_and_never_set_aside() -> None:
    bars, odd = liquid(1, HUNDREDS, step=100), liquid(2, HUNDREDS, step=1)
    moved = bars.with_columns(volume=pl.when(pl.int_range(pl.len()) >= 200).then(odd["volume"]).otherwise("volume"))
    assert found(moved) == []
    flagged = found(moved, "volume_step")
    assert flagged[0] == 200
    assert len(flagged) < 60, "what lasts is how it trades"


def test_a_provider_that_counts_odd_lots_is_not_reproached_with_them() -> None:
    bars = liquid(3, ODD_LOTS_APART, step=1)
    assert found(bars) == []
    assert found(bars, "volume_step") == []


def test_a_wider_step_of_the_exchange_makes_no_earlier_volume_wrong() -> None:
    days = SESSIONS.filter(pl.col("session") >= date(2020, 6, 1))["session"].head(320)
    tens, hundreds = (liquid(4, step=step).with_columns(session=days) for step in (10, 100))
    later = pl.col("session") >= date(2021, 1, 4)
    bars = tens.with_columns(volume=pl.when(later).then(hundreds["volume"]).otherwise("volume"))
    assert found(bars) == []
    assert found(bars, "volume_step") == []


def test_a_finer_step_makes_no_run_of_the_volumes_before_it() -> None:
    days = SESSIONS.filter(pl.col("session") >= date(2022, 1, 4))["session"].head(320)
    hundreds, ones = (liquid(5, step=step).with_columns(session=days) for step in (100, 1))
    later = pl.int_range(pl.len()) >= 160
    bars = hundreds.with_columns(exchange=pl.when(later).then(pl.lit("HNX")).otherwise(pl.lit("HOSE")))
    bars = bars.with_columns(volume=pl.when(later).then(ones["volume"]).otherwise("volume"))
    assert found(bars) == []


def test_a_single_volume_in_thousands_is_set_aside_and_one_in_lots_is_flagged() -> None:
    bars = liquid(6)
    assert found(in_units(bars, 1000, 100, length=1)) == [100]
    lots = bars.with_columns(volume=pl.when(pl.int_range(pl.len()) == 100).then(12_347).otherwise("volume"))
    assert found(lots) == []
    examined = examine(lots, NO_ACTIONS, SESSIONS, VN)
    assert examined["bits"].to_list()[100] & BarFlag.VOLUME_UNIT


@pytest.mark.parametrize(("factor", "expected"), [(100.0, 20), (10.0, 0)])
def test_where_any_number_of_shares_trades_only_a_great_factor_is_told_without_a_value(
    factor: float, expected: int
) -> None:
    bars = liquid(7, step=1, exchange="HNX")
    assert len(found(in_units(bars, factor, 150))) == expected
