"""The definitions behind `market.indicators`: arrays of bars in, an array for each indicator asked for out.

Where TA-Lib has the indicator, the definition is TA-Lib's; on a window without any movement TA-Lib says 0 for RSI,
ADX, stochastics and the like, here there is no value. Results are only meaningful from an indicator's first index on;
`market.indicators` blanks the rest.

Results are wanted for every bar of a table, or for a few (`Bars.at`), the last ones of each symbol; both give the same
bits. What rests on long windows (`LONG`) folds only those; what rests on the last few bars (`RECENT_BARS`,
`recursive.RECURSIVE`) is computed on these alone. Nothing is computed that no column asked for needs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cached_property

import numpy as np

from vprism_pipelines.market.indicator_inputs import Bars, Shared
from vprism_pipelines.market.kernels import (
    Array,
    Parts,
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
from vprism_pipelines.market.recursive import RECURSIVE, Columns, Recursive, remembered
from vprism_pipelines.market.running import Resume

AMIHUD_SCALE = 1e9
ROUNDING = 1e-12
"""Relative change below which two typical prices are equal: (high + low + close) / 3 of equal sums differs by that."""
RECENT = 32
"""Bars before the first one wanted that everything but the long windows rests on: Aroon's 25 are the most."""


class Formulas:
    """Indicators at the bars wanted, each computed when it is asked for; what several rest on is computed once."""

    def __init__(self, names: Collection[str], long: Long, resume: Resume) -> None:
        """Run the recursions that some indicators need.

        Args:
            names: Indicators that may be asked for.
            long: The bars, and what is known of them.
            resume: Where each symbol's recursions go on. If not all bars are wanted, every symbol's has to.
        """
        self._long = long
        near, self._last, resume = _near(long.bars, resume)
        self._recent = Recent(near, long.annualisation)

        def seed(n: int) -> Array:
            return long.mean[n] if long.bars.at is None else np.full_like(near.close, np.nan)

        self._names = remembered(names)
        self._recursive = Recursive(near, resume, seed, self._names)

    def __getitem__(self, name: str) -> Array:
        """One indicator."""
        if name in LONG:
            return LONG[name](self._long)
        near = RECURSIVE[name](self._recursive) if name in RECURSIVE else RECENT_BARS[name](self._recent)
        return pick(near, self._last)

    @property
    def recursions(self) -> Columns:
        """The recursions behind the indicators."""
        return {name: pick(self._recursive.state[name], self._last) for name in self._names}


def _near(bars: Bars, resume: Resume) -> tuple[Bars, Rows | None, Resume]:
    """The bars without those before the last few, the rows wanted among them, and where recursions go on there."""
    if bars.at is None:
        return bars, None, resume
    layout = bars.layout
    keep = np.flatnonzero(layout.rows > (resume.row - RECENT)[layout.symbol])
    moved = Resume(np.searchsorted(keep, resume.row), resume.values)
    return bars.subset(keep), np.searchsorted(keep, bars.at), moved


class Long:
    """What several indicators over long windows rest on, at the bars wanted."""

    def __init__(self, bars: Bars, peak: Array, year_end: Array, annualisation: int, benchmark: Shared | None) -> None:
        """Nothing is computed yet.

        Args:
            bars: The bars.
            peak: Highest close so far.
            year_end: Last close of the calendar year before, of the bars wanted.
            annualisation: Sessions per year.
            benchmark: None leaves what is measured against it without values.
        """
        self.bars = bars
        self.year_end = year_end
        self.annualisation = annualisation
        self.year = annualisation**0.5
        self.close = bars.now(bars.close)
        self._peak = peak
        self._benchmark = benchmark

    def growth(self, n: int) -> Array:
        return self.close / self.bars.lag(self.bars.close, n) - 1

    @cached_property
    def mean(self) -> Mapping[int, Array]:
        """Of close, by window."""
        windows = sums(self.bars.close, 5, 10, 12, 20, 26, 50, 100, 200, at=self.bars.at)
        return {n: total / n for n, total in windows.items()}

    @cached_property
    def ret(self) -> Array:
        """Of every bar."""
        return self.bars.close / lag(self.bars.close, 1) - 1

    @cached_property
    def log_ret(self) -> Array:
        """Of every bar."""
        return np.log(self.bars.close / lag(self.bars.close, 1))

    @cached_property
    def log_moments(self) -> dict[int, Parts]:
        return moments(self.log_ret, 20, 60, 252, at=self.bars.at)

    def volatility(self, n: int) -> Array:
        deviation: Array = np.sqrt(self.log_moments[n][1] / (n - 1)) * self.year
        return deviation

    @cached_property
    def year_moments(self) -> Parts:
        return moments(self.ret, 252, at=self.bars.at)[252]

    @cached_property
    def year_losses(self) -> Array:
        """Σ of the squares of negative returns."""
        return sums(np.minimum(self.ret, 0) ** 2, 252, at=self.bars.at)[252]

    @cached_property
    def drawdown(self) -> Array:
        """Of every bar."""
        return self.bars.close / self._peak - 1

    @cached_property
    def traded(self) -> dict[int, Array]:
        return sums(self.bars.value, 20, 60, at=self.bars.at)

    def shares_traded(self) -> Array:
        """As they were on the day."""
        bars = self.bars
        return bars.now(bars.volume) * (bars.now(bars.split_close) / bars.now(bars.raw_close))

    def paid(self) -> Array:
        """|return| by currency unit traded, of every bar."""
        paid: Array = np.abs(self.ret) / np.where(self.bars.value > 0, self.bars.value, np.nan)
        return paid

    @cached_property
    def year_high(self) -> tuple[Array, Array]:
        """Highest high of 252 sessions, dividends not adjusted for: the price people remember; and its age."""
        return latest_maximum(self.bars.split_high, 252, self.bars.at)

    @cached_property
    def year_low(self) -> tuple[Array, Array]:
        """Lowest low, with the opposite sign, and its age."""
        return latest_maximum(-self.bars.split_low, 252, self.bars.at)

    def from_extreme(self, extreme: Array) -> Array:
        return self.bars.now(self.bars.split_close) / extreme - 1

    @cached_property
    def against_benchmark(self) -> Columns:
        """Beta, correlation and relative strength, between the sessions that symbol and benchmark both have."""
        return relative(self.bars, self._benchmark)


class Recent:
    """What several indicators over short windows rest on."""

    def __init__(self, bars: Bars, annualisation: int) -> None:
        self.bars = bars
        self.year = annualisation**0.5

    def parkinson(self, n: int) -> Array:
        spread = np.log(self.bars.raw_high / self.bars.raw_low) ** 2
        volatility: Array = np.sqrt(sums(spread, n)[n] / (4 * n * np.log(2))) * self.year
        return volatility

    @cached_property
    def middle(self) -> Array:
        return sums(self.bars.close, 20)[20] / 20

    @cached_property
    def width(self) -> Array:
        """Two population deviations."""
        return 2 * np.sqrt(moments(self.bars.close, 20)[20][1] / 20)

    @cached_property
    def top(self) -> Array:
        return maxima(self.bars.high, 14)

    @cached_property
    def bottom(self) -> Array:
        return minima(self.bars.low, 14)

    @cached_property
    def slow(self) -> Array:
        fast = 100 * ((self.bars.close - self.bottom) / (self.top - self.bottom))
        return sums(fast, 3)[3] / 3

    @cached_property
    def typical(self) -> Array:
        return (self.bars.high + self.bars.low + self.bars.close) / 3

    def money_flow(self) -> Array:
        flow, change = self.typical * self.bars.volume, self.typical - lag(self.typical, 1)
        noise = ROUNDING * self.typical
        inflow, outflow = (sums(flow * moved, 14)[14] for moved in (change > noise, change < -noise))
        return 100 * (inflow / (inflow + outflow))

    def channel(self) -> Array:
        centre = sums(self.typical, 20)[20] / 20
        return (self.typical - centre) / (0.015 * mean_deviation(self.typical, centre, 20))


def _each(
    name: str, sizes: tuple[int, ...], formula: Callable[[Long, int], Array]
) -> dict[str, Callable[[Long], Array]]:
    def of(n: int) -> Callable[[Long], Array]:
        return lambda long: formula(long, n)

    return {name.format(n): of(n) for n in sizes}


RELATIVE = ("beta_60", "beta_252", "corr_60", "strength_60", "strength_252")
"""What is measured against the benchmark."""


def _measured(name: str) -> Callable[[Long], Array]:
    return lambda long: long.against_benchmark[name]


LONG: dict[str, Callable[[Long], Array]] = {
    "ret_1d": lambda long: long.bars.now(long.ret),
    "log_ret": lambda long: long.bars.now(long.log_ret),
    **_each("ret_{}d", (5, 20, 60, 120, 252), Long.growth),
    "ret_ytd": lambda long: long.close / long.year_end - 1,
    "mom_12_1": lambda long: long.bars.lag(long.bars.close, 21) / long.bars.lag(long.bars.close, 252) - 1,
    **_each("vol_{}", (20, 60, 252), Long.volatility),
    **_each("sma_{}", (5, 10, 20, 50, 100, 200), lambda long, n: long.mean[n]),
    **_each("above_sma_{}", (50, 200), lambda long, n: long.close / long.mean[n] - 1),
    "vwap": lambda long: long.bars.now(long.bars.value) / long.shares_traded(),
    "drawdown": lambda long: long.bars.now(long.drawdown),
    "max_dd_252": lambda long: minima(long.drawdown, 252, long.bars.at),
    # The risk-free rate is taken as 0.
    "sharpe_252": lambda long: long.year_moments[0] / np.sqrt(long.year_moments[1] / 251) * long.year,
    "sortino_252": lambda long: long.year_moments[0] / np.sqrt(long.year_losses / 252) * long.year,
    "high_52w": lambda long: long.year_high[0],
    "low_52w": lambda long: -long.year_low[0],
    "pct_from_high": lambda long: long.from_extreme(long.year_high[0]),
    "pct_from_low": lambda long: long.from_extreme(-long.year_low[0]),
    # No extreme is known where one price is not.
    "since_high_52w": lambda long: long.year_high[1] + 0 * long.year_high[0],
    "since_low_52w": lambda long: long.year_low[1] + 0 * long.year_low[0],
    **{name: _measured(name) for name in RELATIVE},
    "amihud_20": lambda long: sums(long.paid(), 20, at=long.bars.at)[20] / 20 * AMIHUD_SCALE,
    **_each("adv_{}", (20, 60), lambda long, n: long.traded[n] / n),
    "idle_share_60": lambda long: 1 - sessions_traded(long.bars.layout, 60, long.bars.at) / 60,
}
"""Indicators over long windows, and those that cost next to nothing."""

RECENT_BARS: dict[str, Callable[[Recent], Array]] = {
    "parkinson_20": lambda recent: recent.parkinson(20),
    "wma_20": lambda recent: weighted_mean(recent.bars.close, 20),
    "bb_mid_20": lambda recent: recent.middle,
    "bb_upper_20": lambda recent: recent.middle + recent.width,
    "bb_lower_20": lambda recent: recent.middle - recent.width,
    "stoch_k": lambda recent: recent.slow,
    "stoch_d": lambda recent: sums(recent.slow, 3)[3] / 3,
    "mfi_14": lambda recent: recent.money_flow(),
    "cci_20": lambda recent: recent.channel(),
    "willr_14": lambda recent: np.clip(
        -100 * ((recent.top - recent.bars.close) / (recent.top - recent.bottom)), -100, 0
    ),
    "aroon_up_25": lambda recent: 100 * (25 - latest_maximum(recent.bars.high, 26)[1]) / 25,
    "aroon_down_25": lambda recent: 100 * (25 - latest_maximum(-recent.bars.low, 26)[1]) / 25,
    "roc_12": lambda recent: (recent.bars.close / lag(recent.bars.close, 12) - 1) * 100,
}
"""Indicators over at most `RECENT` bars."""


def relative(bars: Bars, benchmark: Shared | None) -> Columns:
    """Beta, correlation and relative strength, between the sessions that symbol and benchmark both have."""
    if benchmark is None:
        return dict.fromkeys(RELATIVE, np.full(len(bars.now(bars.close)), np.nan))
    both, level = benchmark.rows, benchmark.level
    layout, close = bars.layout.subset(both), bars.close[both]
    at, place = None, both
    if bars.at is not None:
        at = np.searchsorted(both, bars.at)
        place = np.flatnonzero(pick(np.append(both, -1), np.minimum(at, len(both))) == bars.at)
        at = at[place]
    joint = comoments(close / lag(close, 1) - 1, level / lag(level, 1) - 1, 60, 252, at=at)
    valid = {n: layout.valid(n, n, at) for n in joint}

    def spread(values: Array, n: int) -> Array:
        out = np.full(len(bars.now(bars.close)), np.nan)
        out[place] = np.where(valid[n], values, np.nan)
        return out

    def strength(n: int) -> Array:
        return spread(pick(close, at) / lag(close, n, at) / (pick(level, at) / lag(level, n, at)) - 1, n)

    own, squares, product = joint[60]
    return {
        **{f"beta_{n}": spread(product / squares, n) for n, (_, squares, product) in joint.items()},
        "corr_60": spread(np.clip(product / np.sqrt(own * squares), -1, 1), 60),
        **{f"strength_{n}": strength(n) for n in (60, 252)},
    }
