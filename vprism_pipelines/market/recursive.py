"""Indicators that remember everything: exponential means, RSI, true range, directional movement, volume balance.

The definition and the seed of each recursion are TA-Lib's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cached_property

import numpy as np

from vprism_pipelines.market.indicator_inputs import Bars
from vprism_pipelines.market.kernels import Array, lag, sums
from vprism_pipelines.market.running import Recursion, Resume, recurse

Columns = dict[str, Array]

_DIRECTIONS = ("plus_dm", "minus_dm", "dm_range")
_RESTS_ON: dict[str, tuple[str, ...]] = {
    **{f"ema_{n}": (f"ema_{n}",) for n in (12, 26, 50, 200)},
    "macd": ("macd_fast", "ema_26"),
    **dict.fromkeys(("macd_signal", "macd_hist"), ("macd_fast", "ema_26", "macd_signal")),
    "rsi_14": ("gain", "loss"),
    **dict.fromkeys(("atr_14", "natr_14"), ("atr",)),
    "plus_di_14": ("plus_dm", "dm_range"),
    "minus_di_14": ("minus_dm", "dm_range"),
    "adx_14": (*_DIRECTIONS, "adx"),
    "obv": ("obv",),
}
"""The recursions behind each indicator."""

STATE = (
    *("ema_12", "ema_26", "ema_50", "ema_200", "macd_fast", "macd_signal", "gain", "loss", "atr"),
    *(*_DIRECTIONS, "adx", "obv"),
)
"""Recursions that a state keeps, by name."""


def remembered(columns: Collection[str]) -> tuple[str, ...]:
    """The recursions of `STATE` that some indicators need."""
    needed = {name for column in columns for name in _RESTS_ON.get(column, ())}
    return tuple(name for name in STATE if name in needed)


class Recursive:
    """Recursions over some bars, and what each of them is fed with.

    Attributes:
        state: Every recursion asked for; its last row per symbol is what to resume from.
    """

    def __init__(self, bars: Bars, resume: Resume, mean: Callable[[int], Array], names: Collection[str]) -> None:
        """Run recursions.

        Args:
            bars: The bars.
            resume: Where each symbol's recursions go on.
            mean: Mean of close by window, for 12, 26, 50 and 200, which what begins anew begins with.
            names: Which of `STATE`, with all they rest on.
        """
        self.bars = bars
        self.mean = mean
        self.before = lag(bars.close, 1)
        self.state: Columns = {}
        for stage in (_ON_BARS, _ON_RECURSIONS):
            recursions = {name: feed(self) for name, feed in stage.items() if name in names}
            self.state |= recurse(bars.layout, resume, recursions)

    def ema(self, n: int, first: int) -> Recursion:
        """Exponential mean of close, seeded with the simple one."""
        return Recursion(self.bars.close, first, self.mean(n), 2 / (n + 1))

    def wilder(self, x: Array, first: int, seed: Array) -> Recursion:
        """Wilder's mean of 14."""
        return Recursion(x, first, seed, 1 / 14)

    def movement(self, x: Array) -> Recursion:
        """A directional sum: TA-Lib seeds it with 13 bars but decays it by a fourteenth."""
        return self.wilder(x, 13, sums(x, 13)[13] / 14)

    @cached_property
    def change(self) -> Array:
        return self.bars.close - self.before

    @cached_property
    def gain(self) -> Array:
        return np.maximum(self.change, 0)

    @cached_property
    def loss(self) -> Array:
        return np.maximum(-self.change, 0)

    @cached_property
    def true_range(self) -> Array:
        high, low = self.bars.high, self.bars.low
        jump: Array = np.maximum(np.abs(high - self.before), np.abs(low - self.before))
        return np.maximum(high - low, jump)

    @cached_property
    def average_gain(self) -> Array:
        return _mean14(self.gain)

    @cached_property
    def average_loss(self) -> Array:
        return _mean14(self.loss)

    @cached_property
    def average_range(self) -> Array:
        return _mean14(self.true_range)

    @cached_property
    def rise(self) -> Array:
        return self.bars.high - lag(self.bars.high, 1)

    @cached_property
    def fall(self) -> Array:
        return lag(self.bars.low, 1) - self.bars.low

    @cached_property
    def volume_flow(self) -> Recursion:
        volume = np.nan_to_num(self.bars.volume)
        return Recursion(np.sign(self.change) * volume, 0, volume, None)

    @cached_property
    def macd(self) -> Array:
        return self.state["macd_fast"] - self.state["ema_26"]

    @cached_property
    def plus_di(self) -> Array:
        return 100 * (self.state["plus_dm"] / self.state["dm_range"])

    @cached_property
    def minus_di(self) -> Array:
        return 100 * (self.state["minus_dm"] / self.state["dm_range"])

    @cached_property
    def directional(self) -> Array:
        both = self.plus_di + self.minus_di
        return np.nan_to_num(100 * (np.abs(self.plus_di - self.minus_di) / both))

    @cached_property
    def moved(self) -> Array:
        """1, or no value where 14 moves were all zero."""
        return np.where(self.average_gain + self.average_loss > 0, 1.0, np.nan)

    @cached_property
    def ranged(self) -> Array:
        """1, or no value where 14 ranges were all zero."""
        return np.where(self.average_range > 0, 1.0, np.nan)


def _mean14(x: Array) -> Array:
    return sums(x, 14)[14] / 14


_ON_BARS: dict[str, Callable[[Recursive], Recursion]] = {
    "ema_12": lambda r: r.ema(12, 11),
    "ema_26": lambda r: r.ema(26, 25),
    "ema_50": lambda r: r.ema(50, 49),
    "ema_200": lambda r: r.ema(200, 199),
    "macd_fast": lambda r: r.ema(12, 25),  # TA-Lib lets both averages of MACD begin together
    "gain": lambda r: r.wilder(r.gain, 14, r.average_gain),
    "loss": lambda r: r.wilder(r.loss, 14, r.average_loss),
    "atr": lambda r: r.wilder(r.true_range, 14, r.average_range),
    "plus_dm": lambda r: r.movement(np.maximum(r.rise, 0) * (r.rise > r.fall)),
    "minus_dm": lambda r: r.movement(np.maximum(r.fall, 0) * (r.fall > r.rise)),
    "dm_range": lambda r: r.movement(r.true_range),
    "obv": lambda r: r.volume_flow,
}
_ON_RECURSIONS: dict[str, Callable[[Recursive], Recursion]] = {
    "macd_signal": lambda r: Recursion(r.macd, 33, sums(r.macd, 9)[9] / 9, 2 / (9 + 1)),
    "adx": lambda r: r.wilder(r.directional, 27, _mean14(r.directional)),
}

RECURSIVE: dict[str, Callable[[Recursive], Array]] = {
    "ema_12": lambda r: r.state["ema_12"],
    "ema_26": lambda r: r.state["ema_26"],
    "ema_50": lambda r: r.state["ema_50"],
    "ema_200": lambda r: r.state["ema_200"],
    "macd": lambda r: r.macd,
    "macd_signal": lambda r: r.state["macd_signal"],
    "macd_hist": lambda r: r.macd - r.state["macd_signal"],
    "rsi_14": lambda r: 100 * (r.state["gain"] / (r.state["gain"] + r.state["loss"])) * r.moved,
    "atr_14": lambda r: r.state["atr"],
    "natr_14": lambda r: 100 * r.state["atr"] / r.bars.close,
    "adx_14": lambda r: r.state["adx"] * r.ranged,
    "plus_di_14": lambda r: r.plus_di * r.ranged,
    "minus_di_14": lambda r: r.minus_di * r.ranged,
    "obv": lambda r: np.where(np.isnan(r.bars.volume), np.nan, r.state["obv"]),
}
"""Indicators that rest on recursions."""
