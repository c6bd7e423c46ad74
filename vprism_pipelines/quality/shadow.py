"""Whether a candidate may replace the provider in use: the two compared, bar by bar, and held to fixed limits."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from vprism_pipelines.quality.alignment import require_columns

__all__ = ["PASSES", "Gates", "Verdict", "compare", "sample"]

KEY = ["symbol", "session"]
BP_DIGITS, RATIO_DIGITS = 6, 12
PASSES = 3
"""Comparisons of different data in a row that must pass before a candidate may be promoted."""


@dataclass(frozen=True, slots=True)
class Gates:
    """What a candidate must keep within; a value on a limit is within.

    Attributes:
        row_diff_pct: Bars that only one of the two has, in percent of the bars in use.
        price_diff_bp_p95: 95th percentile of |close difference|, basis points, linear interpolation.
        gap_ratio: Share of the bars in use that the candidate lacks.
    """

    row_diff_pct: float = 1.0
    price_diff_bp_p95: float = 5.0
    gap_ratio: float = 0.005


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison measured, null where there was nothing to measure, and whether that is good enough."""

    symbols: int
    rows: int
    row_diff_pct: float | None
    price_diff_bp_p95: float | None
    gap_ratio: float | None
    passed: bool


def sample(symbols: Collection[str], share: float) -> list[str]:
    """A share of symbols, the same ones every time and on every machine; at least one.

    Args:
        symbols: To choose from.
        share: 0..1.
    """
    ranked = sorted(symbols, key=lambda symbol: hashlib.sha256(symbol.encode()).digest())
    return sorted(ranked[: max(1, round(share * len(ranked)))])


def compare(used: pl.DataFrame, candidate: pl.DataFrame, gates: Gates | None = None) -> Verdict:
    """Hold a candidate's bars to those in use.

    Args:
        used: symbol, session, close (as traded) of the provider in use, one row per bar.
        candidate: The same of the candidate, over the same symbols and sessions.
        gates: Limits; by default 1 %, 5 bp, 0.5 %.

    Returns:
        The measures, rounded before they are compared. Without a bar in use, or without a common one, nothing passes.

    Raises:
        ContractViolation: A column is missing.
    """
    limits = gates or Gates()
    for frame, whose in ((used, "in use"), (candidate, "of the candidate")):
        require_columns(frame, [*KEY, "close"], f"bars {whose}")
    joined = used.select(*KEY, ours="close").join(candidate.select(*KEY, theirs="close"), on=KEY, how="full")
    lacking = joined.filter(pl.col("theirs").is_null()).height
    surplus = joined.filter(pl.col("ours").is_null()).height
    apart = (
        joined.drop_nulls(["ours", "theirs"]).select(((pl.col("theirs") / pl.col("ours") - 1) * 1e4).abs())
    ).to_series()
    p95 = apart.quantile(0.95, "linear")
    rows = used.height
    measured = {
        "row_diff_pct": round(100 * (lacking + surplus) / rows, RATIO_DIGITS) if rows else None,
        "price_diff_bp_p95": None if p95 is None else round(p95, BP_DIGITS),
        "gap_ratio": round(lacking / rows, RATIO_DIGITS) if rows else None,
    }
    passed = all(value is not None and value <= getattr(limits, name) for name, value in measured.items())
    return Verdict(symbols=used["symbol"].n_unique(), rows=rows, **measured, passed=passed)
