"""What a user of `market.indicators` can rely on."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.indicator_bars import assert_close, benchmark_of, history, market, markets, one_bar_a_day, reference
from vprism_pipelines.market.indicators import LEVELS, SCHEMA, SPLIT_LEVELS, catalogue, compute

ALL = [indicator.name for indicator in catalogue()]
BENCHMARKED = {"beta_60", "beta_252", "corr_60"}
STRENGTH = {"strength_60", "strength_252"}


# --- the definitions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_what_ta_lib_has_agrees_with_ta_lib(seed: int) -> None:
    bars = history(seed, 900)
    daily, _ = compute(bars)
    for name, answer in reference(bars).items():
        assert_close(daily[name], answer)


@pytest.mark.parametrize("seed", range(4))
def test_coarse_prices_agree_with_ta_lib_except_for_windows_without_movement(seed: int) -> None:
    bars = history(seed, 900, tick=2.0)
    daily, _ = compute(bars)
    high, low, close = (bars[name] for name in ("high", "low", "close"))
    still = (high.rolling_max(14) == low.rolling_min(14)).fill_null(False).cast(int)
    true_range = pl.Series(talib.TRANGE(*(prices.to_numpy() for prices in (high, low, close))), nan_to_null=True)
    typical = high + low + close
    flat = {
        "rsi_14": close.rolling_max(15) == close.rolling_min(15),
        **dict.fromkeys(("adx_14", "plus_di_14", "minus_di_14"), true_range.rolling_max(14) == 0),
        "willr_14": still == 1,
        "stoch_k": still.rolling_max(3) == 1,
        "stoch_d": still.rolling_max(5) == 1,
        "cci_20": typical.rolling_max(20) == typical.rolling_min(20),
        "mfi_14": typical.rolling_max(15) == typical.rolling_min(15),
    }
    assert flat["rsi_14"].any()
    for name, answer in reference(bars).items():
        without = flat[name].fill_null(False).to_numpy() if name in flat else np.zeros(900, dtype=bool)
        assert_close(daily[name], np.where(without, np.nan, answer))


def test_a_close_outside_its_bar_agrees_with_ta_lib() -> None:
    bars = history(11, 300).with_columns(
        close=pl.col("close") * pl.when(pl.int_range(pl.len()) % 40 == 30).then(1.5).otherwise(1)
    )
    daily, _ = compute(bars)
    for name, answer in reference(bars).items():
        assert_close(daily[name], answer)


def test_typical_prices_that_differ_by_rounding_only_are_no_flow() -> None:
    # 10.2 + 8.1 + 10.0 and 10.3 + 8.0 + 10.0 are the same sum, but not in floating point.
    bars = history(1, 40).with_columns(
        high=pl.Series([10.2, 10.3] * 20), low=pl.Series([8.1, 8.0] * 20), close=pl.lit(10.0)
    )
    assert ((bars["high"] + bars["low"] + bars["close"]) / 3).n_unique() == 2
    assert compute(bars)[0]["mfi_14"].null_count() == 40


def test_risk_agrees_with_rolling_statistics() -> None:
    bars = history(7, 900)
    daily, _ = compute(bars, annualisation=250)
    close, ret = bars["close"], bars["close"].pct_change()
    log_ret = close.log().diff()
    for n in (20, 60, 252):
        assert_close(daily[f"vol_{n}"], log_ret.rolling_std(n, ddof=1) * 250**0.5)
    assert_close(daily["sharpe_252"], ret.rolling_mean(252) / ret.rolling_std(252) * 250**0.5)
    downside = (ret.clip(upper_bound=0) ** 2).rolling_mean(252).sqrt()
    assert_close(daily["sortino_252"], ret.rolling_mean(252) / downside * 250**0.5)
    parkinson = ((bars["raw_high"] / bars["raw_low"]).log() ** 2).rolling_sum(20) / (80 * np.log(2))
    assert_close(daily["parkinson_20"], parkinson.sqrt() * 250**0.5)
    drawdown = close / close.cum_max() - 1
    assert daily["drawdown"].equals(drawdown.alias("drawdown"))
    assert daily["max_dd_252"].equals(drawdown.rolling_min(252).alias("max_dd_252"))


def test_returns_momentum_liquidity_and_year_range_are_as_defined() -> None:
    bars = history(8, 900)
    daily, _ = compute(bars)
    close, ret = bars["close"], bars["close"].pct_change()
    for n in (1, 5, 20, 60, 120, 252):
        assert_close(daily[f"ret_{n}d"], close.pct_change(n))
    assert_close(daily["log_ret"], (1 + ret).log())
    assert_close(daily["mom_12_1"], close.shift(21) / close.shift(252) - 1)
    for n in (50, 200):
        assert_close(daily[f"above_sma_{n}"], close / close.rolling_mean(n) - 1)
    for n in (20, 60):
        assert_close(daily[f"adv_{n}"], bars["value"].rolling_mean(n))
    assert_close(daily["amihud_20"], (ret.abs() / bars["value"]).rolling_mean(20) * 1e9)
    assert daily["high_52w"].equals(bars["split_high"].rolling_max(252).alias("high_52w"))
    assert daily["low_52w"].equals(bars["split_low"].rolling_min(252).alias("low_52w"))
    assert_close(daily["pct_from_high"], bars["split_close"] / bars["split_high"].rolling_max(252) - 1)
    assert_close(daily["pct_from_low"], bars["split_close"] / bars["split_low"].rolling_min(252) - 1)
    for n in range(251, 900, 50):
        year = bars[n - 251 : n + 1]
        assert daily["since_high_52w"][n] == 251 - year["split_high"].to_numpy().argmax()
        assert daily["since_low_52w"][n] == 251 - year["split_low"].to_numpy().argmin()


def test_the_return_of_the_year_is_measured_from_the_last_close_of_the_one_before() -> None:
    bars = history(8, 900, suspended=0.2)
    closes = bars.select("session", "close").rows()
    expected = []
    for session, close in closes:
        before = [c for s, c in closes if s.year == session.year - 1]
        expected.append(close / before[-1] - 1 if before else None)
    assert compute(bars)[0]["ret_ytd"].to_list() == expected


def test_a_year_without_a_trade_leaves_the_next_one_without_a_beginning() -> None:
    gap = [date(2020, 12, 30), date(2020, 12, 31), date(2022, 3, 1), date(2022, 3, 2), date(2023, 1, 2)]
    bars = one_bar_a_day([10.0, 11.0, 12.0, 13.0, 26.0], session=gap)
    assert compute(bars)[0]["ret_ytd"].to_list() == [None, None, None, None, 1.0]


def test_the_idle_share_counts_the_sessions_of_the_exchange_without_a_trade() -> None:
    bars = history(8, 400, suspended=0.3)
    numbers = bars["session_no"].to_list()
    expected = [
        1 - len({*range(no - 59, no + 1)} & {*numbers[: i + 1]}) / 60 if no - numbers[0] >= 59 else None
        for i, no in enumerate(numbers)
    ]
    found = compute(bars)[0]["idle_share_60"].to_list()
    assert found == expected
    assert max(share for share in found if share is not None) > 0.9  # no suspension is too long for it


def test_vwap_is_what_a_share_cost_on_the_day_before_any_adjustment() -> None:
    bars = one_bar_a_day([30.0, 30.0], volume=[300.0, 300.0], value=[9000.0, 9000.0])
    split = bars.with_columns(raw_close=pl.Series([30.0, 10.0]))  # 3:1, so 300 adjusted shares were 900
    assert compute(split)[0]["vwap"].to_list() == [30.0, 10.0]


def test_beta_uses_the_sessions_that_both_sides_have() -> None:
    bars = history(9, 900)
    rng = np.random.default_rng(9)
    benchmark = benchmark_of(rng, 1000, missing=0.1)
    joined = bars.join(benchmark.rename({"close": "level"}), on="session", maintain_order="left")
    own, other = pl.col("close").pct_change(), pl.col("level").pct_change()
    expected = joined.select(
        "session",
        *(
            (pl.rolling_cov(own, other, window_size=n, ddof=1) / other.rolling_var(n)).alias(f"beta_{n}")
            for n in (60, 252)
        ),
        *(
            (pl.col("close") / pl.col("close").shift(n) / (pl.col("level") / pl.col("level").shift(n)) - 1).alias(
                f"strength_{n}"
            )
            for n in (60, 252)
        ),
        corr_60=pl.rolling_corr(own, other, window_size=60),
    )
    daily = compute(bars, benchmark=benchmark)[0].join(expected, on="session", how="left", suffix="_expected")
    for name in sorted(BENCHMARKED | STRENGTH):
        assert_close(daily[name], daily[f"{name}_expected"])


def test_the_benchmark_against_itself_has_beta_and_correlation_one() -> None:
    bars = history(3, 400)
    daily, _ = compute(bars, benchmark=bars.select("session", "close"))
    for name in BENCHMARKED:
        np.testing.assert_allclose(daily[name].drop_nulls(), 1, rtol=1e-12)
    for name in STRENGTH:
        assert set(daily[name].drop_nulls()) == {0.0}
    elsewhere = bars.select(pl.col("session") + pl.duration(days=5000), "close")
    for without in (None, elsewhere):
        assert compute(bars, benchmark=without)[0].select(BENCHMARKED | STRENGTH).null_count().row(0) == (400,) * 5


# --- warm-up, suspensions, flat markets -------------------------------------------------------------------------------

FIRST = {
    **{"ret_1d": 1, "log_ret": 1, "ret_5d": 5, "ret_20d": 20, "ret_60d": 60, "ret_252d": 252, "mom_12_1": 252},
    **{"vol_20": 20, "vol_60": 60, "vol_252": 252, "parkinson_20": 19},
    **{"sma_5": 4, "sma_10": 9, "sma_20": 19, "sma_50": 49, "sma_100": 99, "sma_200": 199, "wma_20": 19},
    **{"ema_12": 11, "ema_26": 25, "ema_50": 49, "ema_200": 199},
    **{"rsi_14": 14, "macd": 33, "macd_signal": 33, "macd_hist": 33},
    **{"bb_mid_20": 19, "bb_upper_20": 19, "bb_lower_20": 19, "atr_14": 14, "natr_14": 14},
    **{"adx_14": 27, "plus_di_14": 14, "minus_di_14": 14, "stoch_k": 17, "stoch_d": 17, "obv": 0},
    **{"mfi_14": 14, "cci_20": 19, "willr_14": 13, "aroon_up_25": 25, "aroon_down_25": 25, "roc_12": 12},
    **{"vwap": 0, "drawdown": 0, "max_dd_252": 251, "sharpe_252": 252, "sortino_252": 252},
    **{"high_52w": 251, "low_52w": 251, "pct_from_high": 251, "beta_60": 60, "beta_252": 252, "corr_60": 60},
    **{"amihud_20": 20, "adv_20": 19, "adv_60": 59, "idle_share_60": 59, "strength_60": 60, "strength_252": 252},
    **{"ret_120d": 120, "above_sma_50": 49, "above_sma_200": 199},
    **{"pct_from_low": 251, "since_high_52w": 251, "since_low_52w": 251},
}


def test_every_column_starts_at_its_first_index_and_stays() -> None:
    bars = history(5, 300)
    daily, _ = compute(bars, benchmark=benchmark_of(np.random.default_rng(5), 400, 0.0))
    assert {*ALL} - {*FIRST} == {"ret_ytd"}  # it begins with a year, not with a number of bars
    starts = {name: daily[name].is_not_null().arg_max() for name in FIRST}
    assert starts == FIRST
    assert daily.select(*FIRST).null_count().row(0, named=True) == FIRST
    assert {indicator.name: indicator.first for indicator in catalogue() if indicator.name in FIRST} == FIRST


def test_a_window_across_a_suspension_is_null_from_more_than_twice_its_sessions() -> None:
    def with_gap(missed: int) -> pl.DataFrame:
        bars = history(6, 60)
        later = (pl.int_range(pl.len()) >= 30) * missed
        return bars.with_columns(pl.col("session_no") + later, pl.col("session") + pl.duration(days=later))

    spans = {"sma_20": (19, 40), "ret_20d": (20, 40), "sma_5": (4, 10), "ret_1d": (1, 2), "stoch_d": (17, 36)}
    for name, (reach, most) in spans.items():
        tolerated, _ = compute(with_gap(most - reach))
        broken, _ = compute(with_gap(most - reach + 1))
        assert tolerated[name][reach:].null_count() == 0
        across = broken[name].is_null().arg_true().to_list()
        assert across == [*range(reach), *range(30, 30 + reach)]
    # Recursive indicators remember; they do not pause.
    assert broken["ema_12"].null_count() == 11


def test_a_market_that_does_not_move_has_no_oscillators() -> None:
    daily, _ = compute(one_bar_a_day([10.0] * 400))
    silent = {"rsi_14", "adx_14", "plus_di_14", "minus_di_14", "stoch_k", "stoch_d", "willr_14", "cci_20", "mfi_14"}
    undefined = silent | {"sharpe_252", "sortino_252"} | BENCHMARKED | STRENGTH
    assert {name for name in ALL if daily[name].is_null().all()} == undefined
    last = daily.row(-1, named=True)
    assert {last[name] for name in ("bb_lower_20", "bb_upper_20", "sma_200", "high_52w", "vwap")} == {10.0, 1000.0}
    assert {last[name] for name in ("vol_252", "atr_14", "macd", "drawdown", "ret_252d", "amihud_20")} == {0.0}


def test_oscillators_are_silent_only_while_the_window_is_flat() -> None:
    moving = history(4, 60)["close"].to_list()
    daily, _ = compute(one_bar_a_day([*moving, *[moving[-1]] * 20, *moving]))
    for name in ("rsi_14", "adx_14", "plus_di_14"):
        assert daily[name].is_null().arg_true().to_list()[FIRST[name] :] == list(range(60 + 13, 80)), name


def test_unknown_or_no_value_leaves_exactly_its_windows_empty() -> None:
    bars = history(2, 100).with_columns(value=pl.when(pl.int_range(pl.len()) == 50).then(None).otherwise("value"))
    daily, _ = compute(bars)
    assert daily["adv_20"].is_null().arg_true().to_list() == [*range(19), *range(50, 70)]
    assert daily["vwap"].is_null().arg_true().to_list() == [50]
    free, _ = compute(bars.with_columns(value=pl.col("value").fill_null(0)))
    assert free["adv_20"].null_count() == 19
    assert free["amihud_20"].is_null().arg_true().to_list() == [*range(20), *range(50, 70)]


# --- laws -------------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(markets)
def test_results_are_numbers_or_null_and_within_their_bounds(drawn: tuple[int, list[int], float, float]) -> None:
    bars = market(*drawn).with_columns(pl.col("volume").replace(pl.col("volume").first(), 0.0))
    rng = np.random.default_rng(drawn[0])
    daily, _ = compute(bars, benchmark=benchmark_of(rng, 100_000, 0.02))
    assert daily.schema == pl.Schema(SCHEMA)
    assert daily.select(pl.col(ALL).is_finite().all()).row(0) == (True,) * len(ALL)
    for name in ("rsi_14", "adx_14", "stoch_k", "stoch_d", "mfi_14", "aroon_up_25", "aroon_down_25"):
        assert daily[name].is_between(0, 100).all(), name
    assert daily["willr_14"].is_between(-100, 0).all()
    assert daily["corr_60"].is_between(-1, 1).all()
    assert daily["drawdown"].is_between(-1, 0).all()
    assert (daily["max_dd_252"] <= daily["drawdown"]).all()
    assert (daily["bb_lower_20"] <= daily["bb_upper_20"]).all()
    assert (daily.select("vol_20", "vol_252", "atr_14", "parkinson_20").min_horizontal().drop_nulls() >= 0).all()
    assert (daily["pct_from_high"] <= 0).all()
    assert (daily["pct_from_low"] >= 0).all()
    assert daily["idle_share_60"].is_between(0, 1).all()
    assert daily["since_high_52w"].is_between(0, 251).all()


@settings(max_examples=10, deadline=None)
@given(markets, st.integers(-3, 10))
def test_levels_scale_with_the_price_and_nothing_else_does(
    drawn: tuple[int, list[int], float, float], power: int
) -> None:
    bars = market(*drawn)
    factor = 2.0**power  # exact in binary, so the comparison can be too
    plain, _ = compute(bars)
    scaled, _ = compute(bars.with_columns(pl.col("open", "high", "low", "close") * factor))
    split, _ = compute(bars.with_columns(pl.col("split_high", "split_low", "split_close", "raw_close") * factor))
    assert scaled.equals(plain.with_columns(pl.col(LEVELS) * factor))
    assert split.equals(plain.with_columns(pl.col(SPLIT_LEVELS) * factor))


# --- the catalogue as data --------------------------------------------------------------------------------------------


def test_the_catalogue_describes_each_column_once() -> None:
    assert list(SCHEMA) == ["symbol", "session", *ALL]
    assert len(set(ALL)) == len(ALL)
    assert all(i.description and i.unit and (i.kind == "recursive") == (i.window is None) for i in catalogue())
    assert set(LEVELS) | set(SPLIT_LEVELS) < set(ALL)
