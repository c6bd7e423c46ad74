"""The definitions behind `market.indicators`: arrays of bars in, one array per indicator out.

Where TA-Lib has the indicator, the definition is TA-Lib's; on a window without any movement TA-Lib says 0 for RSI,
ADX, stochastics and the like, here there is no value. Results are only meaningful from an indicator's first index on;
`market.indicators` blanks the rest.

Results are wanted for every bar of a table, or for a few (`Bars.at`), the last ones of each symbol; both give the same
bits. What rests on long windows folds only those; what rests on the last few bars is computed on these alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vprism_pipelines.market.indicator_inputs import Bars, Shared
from vprism_pipelines.market.kernels import (
    Array,
    Rows,
    comoments,
    lag,
    latest_maximum,
    maxima,
    mean_deviation,
    minima,
    moments,
    pick,
    sessions_traded,
    sums,
    weighted_mean,
)
from vprism_pipelines.market.recursive import Columns, recursive
from vprism_pipelines.market.running import Resume

AMIHUD_SCALE = 1e9
ROUNDING = 1e-12
"""Relative change below which two typical prices are equal: (high + low + close) / 3 of equal sums differs by that."""
RECENT = 32
"""Bars before the first one wanted that everything but the long windows rests on: Aroon's 25 are the most."""


def evaluate(
    bars: Bars, resume: Resume, peak: Array, year_end: Array, annualisation: int, benchmark: Shared | None
) -> tuple[Columns, Columns]:
    """All indicators, and the recursions of `STATE` behind them, at the bars wanted.

    Args:
        bars: The bars.
        resume: Where each symbol's recursions go on. If not all bars are wanted, every symbol's has to.
        peak: Highest close so far.
        year_end: Last close of the calendar year before, of the bars wanted.
        annualisation: Sessions per year.
        benchmark: None leaves what is measured against it without values.
    """
    mean = {n: total / n for n, total in sums(bars.close, 5, 10, 12, 20, 26, 50, 100, 200, at=bars.at).items()}
    ret, log_ret = bars.close / lag(bars.close, 1) - 1, np.log(bars.close / lag(bars.close, 1))
    near, last, resume = _near(bars, resume)
    seeds = mean if bars.at is None else dict.fromkeys(mean, np.full_like(near.close, np.nan))
    recursions, out = recursive(near, resume, seeds)
    out |= oscillators(near)
    out |= ranges(near, annualisation)
    recursions, out = ({name: pick(x, last) for name, x in columns.items()} for columns in (recursions, out))
    out |= returns(bars, ret, log_ret, year_end)
    out |= risk(bars, ret, log_ret, annualisation)
    out |= drawdowns(bars, peak)
    out |= averages(bars, mean)
    out |= liquidity(bars, ret)
    out |= year_range(bars)
    out |= relative(bars, benchmark)
    return out, recursions


def _near(bars: Bars, resume: Resume) -> tuple[Bars, Rows | None, Resume]:
    """The bars without those before the last few, the rows wanted among them, and where recursions go on there."""
    if bars.at is None:
        return bars, None, resume
    layout = bars.layout
    keep = np.flatnonzero(np.arange(len(bars.close)) > (resume.row - RECENT)[layout.symbol])
    moved = Resume(np.searchsorted(keep, resume.row), resume.values)
    return bars.subset(keep), np.searchsorted(keep, bars.at), moved


def returns(bars: Bars, ret: Array, log_ret: Array, year_end: Array) -> Columns:
    """Simple, logarithmic and multi-session returns, 12-1 momentum, and the return since the last year's end."""
    close = bars.now(bars.close)
    out = {"ret_1d": bars.now(ret), "log_ret": bars.now(log_ret)}
    out |= {f"ret_{n}d": close / bars.lag(bars.close, n) - 1 for n in (5, 20, 60, 120, 252)}
    out["mom_12_1"] = bars.lag(bars.close, 21) / bars.lag(bars.close, 252) - 1
    out["ret_ytd"] = close / year_end - 1
    return out


def risk(bars: Bars, ret: Array, log_ret: Array, annualisation: int) -> Columns:
    """Volatilities and risk-adjusted returns per year; the risk-free rate is taken as 0."""
    year, at = annualisation**0.5, bars.at
    windows = moments(log_ret, 20, 60, 252, at=at)
    out = {f"vol_{n}": np.sqrt(squares / (n - 1)) * year for n, (_, squares) in windows.items()}
    mean, squares = moments(ret, 252, at=at)[252]
    out["sharpe_252"] = mean / np.sqrt(squares / 251) * year
    out["sortino_252"] = mean / np.sqrt(sums(np.minimum(ret, 0) ** 2, 252, at=at)[252] / 252) * year
    return out


def ranges(bars: Bars, annualisation: int) -> Columns:
    """Volatility per year as the sessions' ranges show it, and Bollinger bands (population deviation)."""
    spread = np.log(bars.raw_high / bars.raw_low) ** 2
    mean, squares = sums(bars.close, 20)[20] / 20, moments(bars.close, 20)[20][1]
    width = 2 * np.sqrt(squares / 20)
    return {
        "parkinson_20": np.sqrt(sums(spread, 20)[20] / (4 * 20 * np.log(2))) * annualisation**0.5,
        "bb_mid_20": mean,
        "bb_upper_20": mean + width,
        "bb_lower_20": mean - width,
        "wma_20": weighted_mean(bars.close, 20),
    }


def drawdowns(bars: Bars, peak: Array) -> Columns:
    """Loss against the highest close so far, and the worst of a year's."""
    drawdown = bars.close / peak - 1
    return {"drawdown": bars.now(drawdown), "max_dd_252": minima(drawdown, 252, bars.at)}


def averages(bars: Bars, mean: Mapping[int, Array]) -> Columns:
    """Simple averages and the distance from them. `mean` is that of close by window."""
    close = bars.now(bars.close)
    out = {f"sma_{n}": mean[n] for n in (5, 10, 20, 50, 100, 200)}
    out |= {f"above_sma_{n}": close / mean[n] - 1 for n in (50, 200)}
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
        "aroon_up_25": 100 * (25 - latest_maximum(high, 26)[1]) / 25,
        "aroon_down_25": 100 * (25 - latest_maximum(-low, 26)[1]) / 25,
        "roc_12": (close / lag(close, 12) - 1) * 100,
    }


def liquidity(bars: Bars, ret: Array) -> Columns:
    """What a share cost on average, what trading moves the price, how much is traded, and how often not at all."""
    at = bars.at
    raw_volume = bars.now(bars.volume) * (bars.now(bars.split_close) / bars.now(bars.raw_close))
    paid = np.abs(ret) / np.where(bars.value > 0, bars.value, np.nan)
    traded = sums(bars.value, 20, 60, at=at)
    return {
        "vwap": bars.now(bars.value) / raw_volume,
        "amihud_20": sums(paid, 20, at=at)[20] / 20 * AMIHUD_SCALE,
        **{f"adv_{n}": total / n for n, total in traded.items()},
        "idle_share_60": 1 - sessions_traded(bars.layout, 60, at) / 60,
    }


def year_range(bars: Bars) -> Columns:
    """Highest high and lowest low of 252 sessions, dividends not adjusted for: the prices people remember."""
    close = bars.now(bars.split_close)
    high, since_high = latest_maximum(bars.split_high, 252, bars.at)
    minus_low, since_low = latest_maximum(-bars.split_low, 252, bars.at)
    return {
        "high_52w": high,
        "low_52w": -minus_low,
        "pct_from_high": close / high - 1,
        "pct_from_low": close / -minus_low - 1,
        "since_high_52w": since_high + 0 * high,  # no extreme is known where one price is not
        "since_low_52w": since_low + 0 * minus_low,
    }


RELATIVE = ("beta_60", "beta_252", "corr_60", "strength_60", "strength_252")
"""What is measured against the benchmark."""


def relative(bars: Bars, benchmark: Shared | None) -> Columns:
    """Beta, correlation and relative strength, between the sessions that symbol and benchmark both have."""
    wanted = np.arange(len(bars.close)) if bars.at is None else bars.at
    if benchmark is None:
        return dict.fromkeys(RELATIVE, np.full(len(wanted), np.nan))
    both, level = benchmark.rows, benchmark.level
    layout, close = bars.layout.subset(both), bars.close[both]
    place = np.searchsorted(both, wanted)
    paired = pick(np.append(both, -1), np.minimum(place, len(both))) == wanted
    at = None if bars.at is None else place[paired]
    joint = comoments(close / lag(close, 1) - 1, level / lag(level, 1) - 1, 60, 252, at=at)

    def spread(values: Array, n: int) -> Array:
        out = np.full(len(wanted), np.nan)
        out[paired] = np.where(layout.valid(n, n, at), values, np.nan)
        return out

    def strength(n: int) -> Array:
        return spread(pick(close, at) / lag(close, n, at) / (pick(level, at) / lag(level, n, at)) - 1, n)

    own, squares, product = joint[60]
    return {
        **{f"beta_{n}": spread(product / squares, n) for n, (_, squares, product) in joint.items()},
        "corr_60": spread(np.clip(product / np.sqrt(own * squares), -1, 1), 60),
        **{f"strength_{n}": strength(n) for n in (60, 252)},
    }
