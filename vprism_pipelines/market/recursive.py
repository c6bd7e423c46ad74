"""Indicators that remember everything: exponential means, RSI, true range, directional movement, volume balance.

The definition and the seed of each recursion are TA-Lib's.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vprism_pipelines.market.indicator_inputs import Bars
from vprism_pipelines.market.kernels import Array, lag, sums
from vprism_pipelines.market.running import Recursion, Resume, recurse

Columns = dict[str, Array]

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
        mean: Mean of close by window, for 12, 26, 50 and 200, which the recursions that begin anew begin with.

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
