"""What a user can rely on when only the newest bars are examined: the same verdicts as over the whole history."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.market.spec import market
from vprism_pipelines.providers.faults import FAULTS, Faults
from vprism_pipelines.quality.windows import AFTER, CONTEXT, examine

VN = market("vn")
DAYS = calendar("HOSE").sessions(date(2019, 1, 2), date(2024, 12, 31))["session"]
SESSIONS = pl.DataFrame({"session": DAYS})
LENGTH = 900  # several windows, and two changes of the volume step
SYMBOLS = {"VN:STOCK:AAA": "HOSE", "VN:STOCK:BBB": "HNX", "VN:STOCK:CCC": "UPCOM", "VN:STOCK:DDD": None}


def history(seed: int, *, valued: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Random walks on ticks and steps with idle bars and events, damaged in every way there is."""
    rng = np.random.default_rng(seed)
    frames = []
    for symbol, exchange in SYMBOLS.items():
        close = 20_000 * np.exp(np.cumsum(rng.normal(0, 0.015, LENGTH)))
        close = np.maximum(np.round(close / 100) * 100, 1_000)
        volume = np.round(np.exp(rng.normal(9, 1, LENGTH)) / 100) * 100
        volume[rng.random(LENGTH) < 0.1] = 0
        start = int(rng.integers(0, len(DAYS) - LENGTH))
        frames.append(
            pl.DataFrame(
                {"symbol": symbol, "session": DAYS[start : start + LENGTH], "close": close, "volume": volume}
            ).with_columns(exchange=pl.lit(exchange, pl.String))
        )
    bars = pl.concat(frames).with_columns(
        pl.col("volume").cast(pl.Int64),
        open=pl.col("close"),
        high=pl.col("close") + 100,
        low=pl.col("close") - 100,
        value=pl.col("close") * pl.col("volume"),
        currency=pl.lit("VND"),
    )
    events = bars.filter(pl.int_range(pl.len()).is_in(list(rng.integers(0, bars.height, 12)))).select(
        "symbol", ex_date="session", ref_price=pl.col("close")
    )
    faulty, _ = Faults(seed, 0.1, tuple(name for name in FAULTS if name != "duplicate")).inject(bars)
    sound = faulty.filter(pl.col("low") > 0).unique(["symbol", "session"], keep="first")
    traded = sound.with_columns(traded=pl.col("volume") > 0)
    return traded if valued else traded.with_columns(value=pl.lit(None, pl.Float64)), events


@given(seed=st.integers(0, 2**30), newest=st.integers(1, 300), valued=st.booleans())
@settings(max_examples=12, deadline=None)
def test_the_newest_bars_examined_alone_get_the_verdicts_of_the_whole_history(
    seed: int, newest: int, valued: bool
) -> None:
    bars, events = history(seed, valued=valued)
    left = pl.col("traded").cum_sum(reverse=True).over("symbol", order_by="session")
    tail = bars.with_columns(left=left).sort("symbol", "session")
    wanted = tail.filter(pl.col("left") <= newest).select("symbol", "session")
    alone = examine(tail.filter(pl.col("left") <= newest + CONTEXT).drop("left"), events, SESSIONS, VN)
    whole = examine(bars, events, SESSIONS, VN)
    keys = ["symbol", "session"]
    assert alone.join(wanted, on=keys, how="semi").equals(whole.join(wanted, on=keys, how="semi"), null_equal=True)


@given(seed=st.integers(0, 2**30), newest=st.integers(1, 120), valued=st.booleans())
@settings(max_examples=12, deadline=None)
def test_new_bars_change_no_verdict_older_than_the_stated_number_of_traded_bars(
    seed: int, newest: int, valued: bool
) -> None:
    bars, events = history(seed, valued=valued)
    left = pl.col("traded").cum_sum(reverse=True).over("symbol", order_by="session")
    numbered = bars.with_columns(left=left).sort("symbol", "session")
    settled = numbered.filter(pl.col("left") > newest + AFTER).select("symbol", "session")
    before = examine(numbered.filter(pl.col("left") > newest).drop("left"), events, SESSIONS, VN)
    after = examine(bars, events, SESSIONS, VN)
    keys = ["symbol", "session"]
    assert before.join(settled, on=keys, how="semi").equals(after.join(settled, on=keys, how="semi"), null_equal=True)


@pytest.mark.parametrize("valued", [True, False])
def test_such_histories_make_nearly_every_check_fire(valued: bool) -> None:
    """Else the two laws above would hold of nothing."""
    found = [examine(*history(seed, valued=valued), SESSIONS, VN) for seed in range(4)]
    fired = {name for frame in found for name, kind in frame.schema.items() if kind == pl.Boolean and frame[name].any()}
    silent = {"vwap_bound", "unit_ratio"} if not valued else set()
    expected = {
        "price_band",
        "band_breach",
        "tick_lattice",
        "vwap_bound",
        "unit_ratio",
        "scale_spike",
        "scaled_run",
        "split_like_jump",
        "stale_copy",
        "volume_spike",
        "volume_step",
        "volume_unit",
    }
    assert expected - silent <= fired
