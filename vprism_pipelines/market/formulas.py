"""The definitions behind `market.indicators`: arrays of bars in, one array per indicator out.

Where TA-Lib has the indicator, the definition and the seed of its recursion are TA-Lib's; on a window without any
movement TA-Lib says 0 for RSI, ADX, stochastics and the like, here there is no value. Results are only meaningful
from an indicator's first index on; `market.indicators` blanks the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vprism_pipelines.market.kernels import (
    Array,
    Layout,
    Recursion,
    Resume,
    Rows,
    comoments,
    lag,
    maxima,
    mean_deviation,
    minima,
    moments,
    recurse,
    since_maximum,
    sums,
    weighted_mean,
)

Columns = dict[str, Array]
AMIHUD_SCALE = 1e9
ROUNDING = 1e-12
"""Relative change below which two typical prices are equal: (high + low + close) / 3 of equal sums differs by that."""


@dataclass(frozen=True)
class Bars:
    """Traded bars of many symbols, one array per column (see `market.indicators.compute` for their bases)."""

    layout: Layout
    session: Rows
    high: Array
    low: Array
    close: Array
    volume: Array
    value: Array
    raw_high: Array
    raw_low: Array
    raw_close: Array
    split_high: Array
    split_low: Array
    split_close: Array


@dataclass(frozen=True)
class Benchmark:
    """Closes that beta and correlation are measured against, by ascending session."""

    session: Rows
    close: Array


def evaluate(
    bars: Bars, resume: Resume, peak: Array, annualisation: int, benchmark: Benchmark | None
) -> tuple[Columns, Columns]:
    """All indicators, and the recursions of `STATE` behind them.

    Args:
        bars: The bars.
        resume: Where each symbol's recursions go on.
        peak: Highest close so far.
        annualisation: Sessions per year.
        benchmark: None leaves beta and correlation without values.
    """
    mean = {n: total / n for n, total in sums(bars.close, 5, 10, 12, 20, 26, 50, 100, 200).items()}
    recursions, out = recursive(bars, resume, mean)
    out |= returns(bars)
    out |= risk(bars, out["ret_1d"], out["log_ret"], annualisation)
    out |= drawdowns(bars, peak)
    out |= averages(bars, mean)
    out |= oscillators(bars)
    out |= liquidity(bars, out["ret_1d"])
    out |= year_range(bars)
    out |= relative(bars, benchmark)
    return out, recursions


def returns(bars: Bars) -> Columns:
    """Simple, logarithmic and multi-session returns, and 12-1 momentum."""
    close = bars.close
    out = {f"ret_{n}d": close / lag(close, n) - 1 for n in (1, 5, 20, 60, 252)}
    out["log_ret"] = np.log(close / lag(close, 1))
    out["mom_12_1"] = lag(close, 21) / lag(close, 252) - 1
    return out


def risk(bars: Bars, ret: Array, log_ret: Array, annualisation: int) -> Columns:
    """Volatilities and risk-adjusted returns per year; the risk-free rate is taken as 0."""
    year = annualisation**0.5
    out = {f"vol_{n}": np.sqrt(squares / (n - 1)) * year for n, (_, squares) in moments(log_ret, 20, 60, 252).items()}
    ranges = np.log(bars.raw_high / bars.raw_low) ** 2
    out["parkinson_20"] = np.sqrt(sums(ranges, 20)[20] / (4 * 20 * np.log(2))) * year
    mean, squares = moments(ret, 252)[252]
    out["sharpe_252"] = mean / np.sqrt(squares / 251) * year
    out["sortino_252"] = mean / np.sqrt(sums(np.minimum(ret, 0) ** 2, 252)[252] / 252) * year
    return out


def drawdowns(bars: Bars, peak: Array) -> Columns:
    """Loss against the highest close so far, and the worst of a year's."""
    drawdown = bars.close / peak - 1
    return {"drawdown": drawdown, "max_dd_252": minima(drawdown, 252)}


def averages(bars: Bars, mean: Mapping[int, Array]) -> Columns:
    """Simple and weighted averages and Bollinger bands (population deviation). `mean` is that of close by window."""
    out = {f"sma_{n}": mean[n] for n in (5, 10, 20, 50, 100, 200)}
    width = 2 * np.sqrt(moments(bars.close, 20)[20][1] / 20)
    out |= {"bb_mid_20": mean[20], "bb_upper_20": mean[20] + width, "bb_lower_20": mean[20] - width}
    out["wma_20"] = weighted_mean(bars.close, 20)
    return out


def oscillators(bars: Bars) -> Columns:
    """Position of the close within its recent range, and flows."""
    high, low, close = bars.high, bars.low, bars.close
    top, bottom = maxima(high, 14), minima(low, 14)
    fast = 100 * ((close - bottom) / (top - bottom))
    slow = sums(fast, 3)[3] / 3
    typical = (high + low + close) / 3
    centre = sums(typical, 20)[20] / 20
    flow, change = typical * bars.volume, typical - lag(typical, 1)
    noise = ROUNDING * typical
    inflow = sums(np.where(change > noise, flow, 0 * flow), 14)[14]
    outflow = sums(np.where(change < -noise, flow, 0 * flow), 14)[14]
    return {
        "stoch_k": slow,
        "stoch_d": sums(slow, 3)[3] / 3,
        "mfi_14": 100 * (inflow / (inflow + outflow)),
        "cci_20": (typical - centre) / (0.015 * mean_deviation(typical, centre, 20)),
        "willr_14": np.clip(-100 * ((top - close) / (top - bottom)), -100, 0),
        "aroon_up_25": 100 * (25 - since_maximum(high, 26)) / 25,
        "aroon_down_25": 100 * (25 - since_maximum(-low, 26)) / 25,
        "roc_12": (close / lag(close, 12) - 1) * 100,
    }


def liquidity(bars: Bars, ret: Array) -> Columns:
    """What a share cost on average, what trading moves the price, and how much is traded."""
    value = np.where(bars.value > 0, bars.value, np.nan)
    raw_volume = bars.volume * (bars.split_close / bars.raw_close)
    return {
        "vwap": bars.value / raw_volume,
        "amihud_20": sums(np.abs(ret) / value, 20)[20] / 20 * AMIHUD_SCALE,
        "adv_20": sums(bars.value, 20)[20] / 20,
    }


def year_range(bars: Bars) -> Columns:
    """Highest high and lowest low of 252 sessions, dividends not adjusted for: the prices people remember."""
    high = maxima(bars.split_high, 252)
    return {
        "high_52w": high,
        "low_52w": minima(bars.split_low, 252),
        "pct_from_high": bars.split_close / high - 1,
    }


def relative(bars: Bars, benchmark: Benchmark | None) -> Columns:
    """Beta and correlation of returns between the sessions that symbol and benchmark both have."""
    if benchmark is None:
        return dict.fromkeys(("beta_60", "beta_252", "corr_60"), np.full_like(bars.close, np.nan))
    at = np.minimum(np.searchsorted(benchmark.session, bars.session), len(benchmark.session) - 1)
    both = np.flatnonzero(benchmark.session[at] == bars.session)
    layout = Layout(
        np.bincount(bars.layout.symbol[both], minlength=len(bars.layout.counts)), bars.layout.session_no[both]
    )
    close, level = bars.close[both], benchmark.close[at[both]]
    joint = comoments(close / lag(close, 1) - 1, level / lag(level, 1) - 1, 60, 252)

    def spread(values: Array, n: int) -> Array:
        out = np.full_like(bars.close, np.nan)
        out[both] = np.where(layout.valid(n, n), values, np.nan)
        return out

    def beta(n: int) -> Array:
        _, squares, product = joint[n]
        return spread(product / squares, n)

    own, squares, product = joint[60]
    correlation = np.clip(product / np.sqrt(own * squares), -1, 1)
    return {"beta_60": beta(60), "beta_252": beta(252), "corr_60": spread(correlation, 60)}


# --- recursive indicators -----------------------------------------------------------------------------------------

STATE = (
    *("ema_12", "ema_26", "ema_50", "ema_200", "macd_fast", "macd_signal", "gain", "loss", "atr"),
    *("plus_dm", "minus_dm", "dm_range", "adx", "obv"),
)
"""Recursions that a state keeps, by name."""


def recursive(bars: Bars, resume: Resume, mean: Mapping[int, Array]) -> tuple[Columns, Columns]:
    """EMA, MACD, RSI, ATR, directional movement and OBV.

    Args:
        bars: The bars.
        resume: Where each symbol's recursions go on.
        mean: Mean of close by window, for 12, 26, 50 and 200.

    Returns:
        Every recursion of `STATE`, whose last row per symbol is what to resume from, and the indicators.
    """
    high, low, close = bars.high, bars.low, bars.close
    before = lag(close, 1)
    change = close - before
    gain, loss = np.maximum(change, 0), np.maximum(-change, 0)
    true_range = np.maximum(np.maximum(high - low, np.abs(high - before)), np.abs(low - before))
    rise, fall = high - lag(high, 1), lag(low, 1) - low
    plus_dm = np.where((rise > fall) & (rise > 0), rise, 0.0)
    minus_dm = np.where((fall > rise) & (fall > 0), fall, 0.0)
    volume = np.nan_to_num(bars.volume)

    def mean14(x: Array) -> Array:
        return sums(x, 14)[14] / 14

    def wilder(x: Array, first: int, seed: Array) -> Recursion:
        return Recursion(x, first, seed, 1 / 14)

    def ema(n: int, first: int, seed: Array) -> Recursion:
        return Recursion(close, first, seed, 2 / (n + 1))

    def movement(x: Array) -> Recursion:
        # TA-Lib seeds the sums with 13 bars but decays them by a fourteenth.
        return wilder(x, 13, sums(x, 13)[13] / 14)

    average_gain, average_loss, average_range = mean14(gain), mean14(loss), mean14(true_range)
    state = recurse(
        bars.layout,
        resume,
        {f"ema_{n}": ema(n, n - 1, mean[n]) for n in (12, 26, 50, 200)}
        | {
            "macd_fast": ema(12, 25, mean[12]),  # TA-Lib lets both averages of MACD begin together
            "gain": wilder(gain, 14, average_gain),
            "loss": wilder(loss, 14, average_loss),
            "atr": wilder(true_range, 14, average_range),
            "plus_dm": movement(plus_dm),
            "minus_dm": movement(minus_dm),
            "dm_range": movement(true_range),
            "obv": Recursion(np.sign(change) * volume, 0, volume, None),
        },
    )
    plus_di = 100 * (state["plus_dm"] / state["dm_range"])
    minus_di = 100 * (state["minus_dm"] / state["dm_range"])
    directional = np.nan_to_num(100 * (np.abs(plus_di - minus_di) / (plus_di + minus_di)))
    macd = state["macd_fast"] - state["ema_26"]
    state |= recurse(
        bars.layout,
        resume,
        {
            "macd_signal": Recursion(macd, 33, sums(macd, 9)[9] / 9, 2 / (9 + 1)),
            "adx": wilder(directional, 27, mean14(directional)),
        },
    )
    moved = np.where(average_gain + average_loss > 0, 1.0, np.nan)
    ranged = np.where(average_range > 0, 1.0, np.nan)
    return state, {
        **{name: state[name] for name in ("ema_12", "ema_26", "ema_50", "ema_200", "macd_signal")},
        "macd": macd,
        "macd_hist": macd - state["macd_signal"],
        "rsi_14": 100 * (state["gain"] / (state["gain"] + state["loss"])) * moved,
        "atr_14": state["atr"],
        "natr_14": 100 * state["atr"] / close,
        "adx_14": state["adx"] * ranged,
        "plus_di_14": plus_di * ranged,
        "minus_di_14": minus_di * ranged,
        "obv": np.where(np.isnan(bars.volume), np.nan, state["obv"]),
    }
