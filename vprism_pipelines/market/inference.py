"""Corporate actions deduced from a raw close and the provider's own adjusted close.

A published adjusted close is a rounded number, so each row says that the provider's factor lies in an interval. As
long as the intervals of consecutive rows share a point nothing happened; where they stop sharing one, something did.
The step between two such runs is again an interval, and the event that explains it is the one with the shortest
description: a split in a simple ratio, a cash amount of few digits, or both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from math import gcd

import numpy as np
import polars as pl

from vprism_pipelines.errors import ContractViolation
from vprism_pipelines.market.actions import EVENTS, SIMPLE_RATIOS
from vprism_pipelines.market.adjustment import Convention, adjusted, factor_sets

# A step this near to 1 is never called a split: a cash amount explains it as well.
_FAR = 1.04
_MOST_DIGITS = 9
_LOOK_AHEAD = 64  # rows


@dataclass(frozen=True, slots=True)
class Inference:
    """What a provider's adjusted closes say.

    Attributes:
        events: Rows of `actions.EVENTS`, all `inferred`; a split and a dividend on one day are two rows.
        anchors: symbol, anchor (factor of the last run: what events after the sample did to it; 1 when nothing),
            low and high (every anchor between them reproduces the sample; low > high when none does).
        convention: The convention the events were computed under.
        fits: convention, digits (mean number of significant digits the cash amounts need; the true convention needs
            the fewest), n_consistent (symbols that one anchor reproduces entirely), n_events.
        unexplained: symbol, session, step_low, step_high of steps that are no event: corrections or errors.
    """

    events: pl.DataFrame
    anchors: pl.DataFrame
    convention: Convention
    fits: pl.DataFrame
    unexplained: pl.DataFrame


def infer_actions(
    bars: pl.DataFrame,
    decimals: int,
    *,
    convention: Convention | None = None,
    close_error: float = 0.0,
    provider: str | None = None,
    currency: str | None = None,
) -> Inference:
    """Splits and cash dividends out of raw and adjusted closes.

    Args:
        bars: symbol, session, close (raw), adj_close (as published), one row per symbol and session.
        decimals: Decimals the adjusted close was published with; its rounding is half a unit of the last.
        convention: How the provider turns cash into a factor; None tries both and keeps the better.
        close_error: Relative error of both columns beyond that rounding; 1e-6 for float32 history of many events.
        provider: Written to the events.
        currency: Written to the events; None: that of the quotes.

    Raises:
        ContractViolation: A column is missing.
    """
    runs = _runs(bars, decimals, close_error)
    steps = _steps(runs)
    tried: tuple[Convention, ...] = ("ex_close", "prev_close") if convention is None else (convention,)
    accounts = {name: _explained(steps, name) for name in tried}
    anchored = {name: _anchors(runs, account) for name, account in accounts.items()}
    fits = pl.DataFrame([_fit(name, accounts[name], anchored[name]) for name in tried])
    best = tried[fits["digits"].arg_min() or 0]
    account = accounts[best]
    event = account.filter("explained").select(
        "symbol", "cash", "split_ratio", ex_date="session", provider=pl.lit(provider), currency=pl.lit(currency)
    )
    events = pl.concat(
        [
            event.filter(pl.col("split_ratio") != 1).with_columns(event_type=pl.lit("split"), cash=0.0),
            event.filter(pl.col("cash") > 0).with_columns(event_type=pl.lit("cash"), split_ratio=1.0),
        ]
    ).with_columns(bonus_ratio=0.0, rights_ratio=0.0, rights_price=0.0, inferred=True)
    return Inference(
        events=events.select(pl.col(name).cast(dtype) for name, dtype in EVENTS.items()).sort(
            "symbol", "ex_date", "event_type"
        ),
        anchors=anchored[best],
        convention=best,
        fits=fits,
        unexplained=account.filter(~pl.col("explained")).select("symbol", "session", "step_low", "step_high"),
    )


def reproduction_errors(bars: pl.DataFrame, inference: Inference, decimals: int) -> pl.DataFrame:
    """Rows whose published adjusted close the inferred events do not give back within its own rounding.

    Returns:
        symbol, session, adj_close, expected, error (|expected − adj_close|, price units); rows without a
        positive published close are not judged.
    """
    usable = _usable(bars)
    steps = factor_sets(inference.events.with_columns(currency=None), usable, "").steps
    tolerance = _half_unit(decimals) + 1e-12 * pl.col("adj_close")
    return (
        adjusted(usable, steps, "qfq", inference.convention)
        .join(inference.anchors.select("symbol", "anchor"), on="symbol", maintain_order="left")
        .select("symbol", "session", "adj_close", expected=pl.col("close") * pl.col("anchor"))
        .with_columns(error=(pl.col("expected") - pl.col("adj_close")).abs())
        .filter(pl.col("error") > tolerance)
    )


def _half_unit(decimals: int) -> float:
    return 0.5 * 10.0**-decimals


def _usable(bars: pl.DataFrame) -> pl.DataFrame:
    needed = ["symbol", "session", "close", "adj_close"]
    missing = [name for name in needed if name not in bars.columns]
    if missing:
        raise ContractViolation(f"bars lack the columns {', '.join(missing)}", hint=f"needed: {', '.join(needed)}")
    both = pl.all_horizontal(pl.col("close", "adj_close").is_finite() & (pl.col("close", "adj_close") > 0))
    return bars.select(needed).filter(both.fill_null(False)).sort("symbol", "session")


def _runs(bars: pl.DataFrame, decimals: int, close_error: float) -> pl.DataFrame:
    """Maximal runs of rows whose factor intervals share a point, and the interval they share.

    Returns:
        symbol, session and close of its first row, prev_close before it (null in a symbol's first run), low, high.
    """
    half, slack = _half_unit(decimals), max(close_error, 1e-13)
    rows = _usable(bars).with_columns(
        low=(pl.col("adj_close") - half) / pl.col("close") * (1 - slack),
        high=(pl.col("adj_close") + half) / pl.col("close") * (1 + slack),
        prev_close=pl.col("close").shift(1).over("symbol"),
    )
    low, high = pl.col("low"), pl.col("high")
    low_before, high_before = (pl.col(n).shift(1).over("symbol") for n in ("low", "high"))
    low_after, high_after = (pl.col(n).shift(-1).over("symbol") for n in ("low", "high"))
    apart_before = (low > high_before) | (low_before > high)
    apart_after = (low > high_after) | (low_after > high)
    # One row beside what its neighbours agree on is a misprint, not two events.
    misprint = apart_before & apart_after & (low_before <= high_after) & (low_after <= high_before)
    rows = rows.filter((low > 0) & ~misprint.fill_null(False))
    rows = rows.with_columns(starts=_run_starts(rows)).with_columns(run=pl.col("starts").cum_sum())
    return rows.group_by("run", maintain_order=True).agg(
        pl.col("symbol", "session", "close", "prev_close").first(), low.max(), high.min()
    )


def _run_starts(rows: pl.DataFrame) -> pl.Series:
    """True on the first row of each run. Where a run ends depends on where it began: one look ahead per run."""
    low, high = rows["low"].to_numpy(), rows["high"].to_numpy()
    starts = np.zeros(rows.height, dtype=np.bool_)
    lengths = rows.group_by("symbol", maintain_order=True).len()["len"]
    for end, length in zip(lengths.cum_sum(), lengths, strict=True):
        start, width = end - length, _LOOK_AHEAD
        starts[start] = True
        while True:
            ahead = slice(start, min(start + width, end))
            apart = np.maximum.accumulate(low[ahead]) > np.minimum.accumulate(high[ahead])
            if apart.any():
                start, width = start + int(apart.argmax()), _LOOK_AHEAD
                starts[start] = True
            elif ahead.stop == end:
                break
            else:
                width *= 4
    return pl.Series(starts)


def _steps(runs: pl.DataFrame) -> pl.DataFrame:
    """Between run and run: symbol, session, close, prev_close, and the interval the step lies in."""
    before = {name: pl.col(name).shift(1).over("symbol") for name in ("low", "high")}
    return runs.select(
        "symbol",
        "session",
        "close",
        "prev_close",
        step_low=pl.col("low") / before["high"],
        step_high=pl.col("high") / before["low"],
    ).drop_nulls("step_low")


def _explained(steps: pl.DataFrame, convention: Convention) -> pl.DataFrame:
    """The shortest description of each step: split_ratio, cash, digits, and m, the multiplier they make."""
    low, high, split = pl.col("step_low"), pl.col("step_high"), pl.col("split_ratio")
    percent = {n / 100: (n // gcd(n, 100), 100 // gcd(n, 100)) for n in range(101, 200)}  # stock dividends
    ratios = pl.DataFrame(
        [(value, 0.5 + 1.6 * math.log10(new * old)) for value, (new, old) in (percent | dict(SIMPLE_RATIOS)).items()],
        schema={"split_ratio": pl.Float64, "split_digits": pl.Float64},
        orient="row",
    )
    numbered = steps.with_row_index("step")
    far = numbered.filter((high > _FAR) | (low < 1 / _FAR)).join(ratios, how="cross")
    candidates = pl.concat(
        [
            numbered.filter(low > 1).with_columns(split_ratio=1.0, split_digits=0.0),
            far.filter((split <= high) & (split >= low / 2)),
        ]
    )
    if convention == "ex_close":
        cash = ((low - split) * pl.col("close"), (high - split) * pl.col("close"))
        m = split + pl.col("cash") / pl.col("close")
    else:
        cash = (pl.col("prev_close") * (1 - split / low), pl.col("prev_close") * (1 - split / high))
        m = split / (1 - pl.col("cash") / pl.col("prev_close"))
    described = (
        candidates.with_columns(cash_low=cash[0], cash_high=cash[1])
        .with_columns(_shortest_decimal(pl.col("cash_low"), pl.col("cash_high")))
        .with_columns(length=_length())
        .sort("step", "length", "split_ratio")
        .unique("step", keep="first")
        .select("step", "split_ratio", "cash", "digits", explained=True)
    )
    return (
        numbered.join(described, on="step", how="left", maintain_order="left")
        .with_columns(pl.col("explained").fill_null(False), split.fill_null(1.0), pl.col("cash").fill_null(0.0))
        .with_columns(m=m)
    )


def _length() -> pl.Expr:
    """How long an account is: the digits it takes, and digits for what is rare in the life of a share.

    Rare are a split and a dividend on one day, and cash worth a good part of the price: most such steps are splits.
    """
    both = (pl.col("split_ratio") != 1) & (pl.col("cash") > 0)
    excess = pl.col("cash") / pl.col("prev_close") - 0.15
    return (
        pl.col("split_digits")
        + pl.col("digits")
        + pl.when(both).then(1.0).otherwise(0.0)
        + pl.when(excess > 0).then(2 + 6 * excess).otherwise(0.0)
    )


def _shortest_decimal(low: pl.Expr, high: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """The number of fewest significant digits in [low, high] as `cash`, and how many those are as `digits`.

    0 needs none. Where every number needs more than anybody would declare, the middle, counted as `_MOST_DIGITS` + 1.
    """
    middle = (low + high) / 2
    zero = low <= 0
    found = []
    for exponent in range(9, -11, -1):
        rounded = (middle / 10**exponent).round() * 10**exponent if exponent > 0 else middle.round(-exponent)
        inside = (rounded >= low) & (rounded <= high) & (rounded > 0)
        digits = rounded.log10().floor() - exponent + 1
        found.append((inside & (digits <= _MOST_DIGITS), rounded, digits))
    cash = pl.coalesce(pl.when(zero).then(0.0), *(pl.when(ok).then(value) for ok, value, _ in found), middle)
    digits = pl.coalesce(
        pl.when(zero).then(0.0), *(pl.when(ok).then(count) for ok, _, count in found), pl.lit(_MOST_DIGITS + 1.0)
    )
    return cash.alias("cash"), digits.alias("digits")


def _anchors(runs: pl.DataFrame, account: pl.DataFrame) -> pl.DataFrame:
    """The factors of the last run under which the account gives back every run: symbol, anchor, low, high."""
    since = pl.col("m").cum_prod(reverse=True).shift(-1, fill_value=1.0).over("symbol")
    anchors = (
        runs.join(account.select("symbol", "session", "m"), on=["symbol", "session"], how="left", maintain_order="left")
        .with_columns(pl.col("m").fill_null(1.0), middle=(pl.col("low") + pl.col("high")) / 2)
        .with_columns(since=since)
        .group_by("symbol", maintain_order=True)
        .agg(
            low=(pl.col("low") * pl.col("since")).max(),
            high=(pl.col("high") * pl.col("since")).min(),
            last=pl.col("middle").last(),
        )
    )
    consistent = pl.col("low") <= pl.col("high")
    anchor = (
        pl.when((pl.col("low") <= 1) & (pl.col("high") >= 1))
        .then(1.0)
        .when(consistent)
        .then((pl.col("low") + pl.col("high")) / 2)
        .otherwise("last")
    )
    return anchors.select("symbol", anchor.alias("anchor"), "low", "high")


def _fit(convention: Convention, account: pl.DataFrame, anchors: pl.DataFrame) -> dict[str, object]:
    digits = account.filter(pl.col("cash") > 0)["digits"]
    return {
        "convention": convention,
        "digits": float(digits.sum() / max(digits.len(), 1)),
        "n_consistent": int((anchors["low"] <= anchors["high"]).sum()),
        "n_events": account.filter("explained").height,
    }
