"""The catalogue of indicators: what each column of `analytics.daily` is, as data. `market.formulas` computes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Basis = Literal["total_return", "split_adjusted", "raw", "value"]
Unit = Literal["fraction", "percent", "points", "price", "shares", "currency", "ratio", "sessions"]
"""`points`: 0 to 100 or around ±100 by convention."""


@dataclass(frozen=True, slots=True)
class Indicator:
    """One column of `analytics.daily`.

    Attributes:
        name: Column name.
        description: What it is, in one line.
        unit: What a value of 1 means.
        first: Index within the symbol's traded bars of its first value; null before.
        window: Sessions the window covers; null where they span more than twice as many exchange sessions
            (suspension). None for recursive indicators, which remember everything.
        basis: Prices it is computed from.
        level: Whether it scales with the price.
        calendar: The window counts the exchange's sessions since the symbol's first bar, traded or not, and `first`
            does too: no suspension is too long for it.
        inputs: Columns of the bars it is made of, as `compute` names them, and `benchmark`: its lineage. What only
            says where the symbol traded (`session`, `session_no`) decides about every column and is not repeated.
    """

    name: str
    description: str
    unit: Unit
    first: int
    window: int | None
    basis: Basis = "total_return"
    level: bool = False
    inputs: tuple[str, ...] = ("close",)
    calendar: bool = False

    @property
    def kind(self) -> Literal["window", "recursive"]:
        return "recursive" if self.window is None else "window"


def _return(name: str, text: str, n: int) -> Indicator:
    return Indicator(name, text, "fraction", n, n)


def _price(
    name: str, text: str, first: int, *, recursive: bool = False, inputs: tuple[str, ...] = ("close",)
) -> Indicator:
    return Indicator(name, text, "price", first, None if recursive else first + 1, level=True, inputs=inputs)


_RANGE = ("high", "low", "close")


CATALOGUE: tuple[Indicator, ...] = (
    _return("ret_1d", "return since the previous traded session", 1),
    _return("log_ret", "natural logarithm of 1 + ret_1d", 1),
    *(_return(f"ret_{n}d", f"return over {n} sessions", n) for n in (5, 20, 60, 120, 252)),
    Indicator("ret_ytd", "return since the last close of the calendar year before", "fraction", 1, None),
    _return("mom_12_1", "return from 252 to 21 sessions ago (12-1 momentum)", 252),
    *(_return(f"vol_{n}", f"annualised sample deviation of {n} log returns", n) for n in (20, 60, 252)),
    Indicator(
        "parkinson_20",
        "annualised high-low range volatility (Parkinson 1980)",
        "fraction",
        19,
        20,
        "raw",
        inputs=("raw_high", "raw_low"),
    ),
    *(_price(f"sma_{n}", f"mean close of {n} sessions", n - 1) for n in (5, 10, 20, 50, 100, 200)),
    *(Indicator(f"above_sma_{n}", f"close / sma_{n} - 1", "fraction", n - 1, n) for n in (50, 200)),
    *(
        _price(
            f"ema_{n}", f"exponential mean of close, alpha 2/{n + 1}, seeded with the first mean", n - 1, recursive=True
        )
        for n in (12, 26, 50, 200)
    ),
    _price("wma_20", "linearly weighted mean close of 20 sessions", 19),
    Indicator("rsi_14", "relative strength index (Wilder); null if 14 moves were all zero", "points", 14, None),
    _price("macd", "12-session minus 26-session exponential mean, both begun at index 25", 33, recursive=True),
    _price("macd_signal", "9-session exponential mean of macd", 33, recursive=True),
    _price("macd_hist", "macd minus macd_signal", 33, recursive=True),
    _price("bb_mid_20", "middle Bollinger band, sma_20", 19),
    _price("bb_upper_20", "sma_20 plus 2 population deviations", 19),
    _price("bb_lower_20", "sma_20 minus 2 population deviations", 19),
    _price("atr_14", "average true range (Wilder)", 14, recursive=True, inputs=_RANGE),
    Indicator("natr_14", "atr_14 / close * 100", "percent", 14, None, inputs=_RANGE),
    Indicator(
        "adx_14", "average directional movement index (Wilder); null on zero range", "points", 27, None, inputs=_RANGE
    ),
    Indicator("plus_di_14", "upward directional indicator; null on zero range", "points", 14, None, inputs=_RANGE),
    Indicator("minus_di_14", "downward directional indicator; null on zero range", "points", 14, None, inputs=_RANGE),
    Indicator("stoch_k", "slow stochastic %K (14, 3); null on zero range", "points", 17, 18, inputs=_RANGE),
    Indicator("stoch_d", "3-session mean of stoch_k", "points", 17, 18, inputs=_RANGE),
    Indicator("obv", "on-balance volume since the first bar", "shares", 0, None, inputs=("close", "volume")),
    Indicator("mfi_14", "money flow index; null without flow", "points", 14, 14, inputs=(*_RANGE, "volume")),
    Indicator("cci_20", "commodity channel index; null without deviation", "points", 19, 20, inputs=_RANGE),
    Indicator("willr_14", "Williams %R, -100 to 0; null on zero range", "points", 13, 14, inputs=_RANGE),
    Indicator(
        "aroon_up_25", "100 * (25 - sessions since the 26-session high) / 25", "points", 25, 25, inputs=("high",)
    ),
    Indicator(
        "aroon_down_25", "100 * (25 - sessions since the 26-session low) / 25", "points", 25, 25, inputs=("low",)
    ),
    Indicator("roc_12", "rate of change over 12 sessions", "percent", 12, 12),
    Indicator(
        "vwap",
        "value / volume of the session",
        "price",
        0,
        1,
        "raw",
        inputs=("value", "volume", "split_close", "raw_close"),
    ),
    Indicator("drawdown", "close / highest close so far - 1", "fraction", 0, None),
    Indicator("max_dd_252", "lowest drawdown of 252 sessions", "fraction", 251, 252),
    Indicator("sharpe_252", "annualised mean / deviation of 252 returns, risk-free rate 0", "ratio", 252, 252),
    Indicator("sortino_252", "annualised mean / downside deviation of 252 returns, target 0", "ratio", 252, 252),
    Indicator(
        "high_52w",
        "highest high of 252 sessions",
        "price",
        251,
        252,
        "split_adjusted",
        level=True,
        inputs=("split_high",),
    ),
    Indicator(
        "low_52w", "lowest low of 252 sessions", "price", 251, 252, "split_adjusted", level=True, inputs=("split_low",)
    ),
    Indicator(
        "pct_from_high",
        "close / high_52w - 1",
        "fraction",
        251,
        252,
        "split_adjusted",
        inputs=("split_close", "split_high"),
    ),
    Indicator(
        "pct_from_low",
        "close / low_52w - 1",
        "fraction",
        251,
        252,
        "split_adjusted",
        inputs=("split_close", "split_low"),
    ),
    *(
        Indicator(
            f"since_{side}_52w",
            f"traded sessions since {side}_52w; 0: a new {side}",
            "sessions",
            251,
            252,
            "split_adjusted",
            inputs=(f"split_{side}",),
        )
        for side in ("high", "low")
    ),
    *(
        Indicator(
            f"beta_{n}",
            f"slope of {n} returns against the benchmark's, on sessions both have",
            "ratio",
            n,
            n,
            inputs=("close", "benchmark"),
        )
        for n in (60, 252)
    ),
    Indicator(
        "corr_60",
        "correlation of 60 returns with the benchmark's, on sessions both have",
        "ratio",
        60,
        60,
        inputs=("close", "benchmark"),
    ),
    *(
        Indicator(
            f"strength_{n}",
            f"growth over {n} sessions divided by the benchmark's, minus 1, on sessions both have",
            "fraction",
            n,
            n,
            inputs=("close", "benchmark"),
        )
        for n in (60, 252)
    ),
    Indicator(
        "amihud_20",
        "mean of |ret_1d| / value over 20 sessions, per billion (Amihud 2002)",
        "ratio",
        20,
        20,
        inputs=("close", "value"),
    ),
    *(
        Indicator(f"adv_{n}", f"mean value traded of {n} sessions", "currency", n - 1, n, "value", inputs=("value",))
        for n in (20, 60)
    ),
    Indicator(
        "idle_share_60",
        "share of 60 exchange sessions without a trade",
        "fraction",
        59,
        60,
        inputs=(),
        calendar=True,
    ),
)
"""Every indicator, in the order of its column."""
