"""How far a provider can be relied on: the share of its recent bars that nobody and nothing spoke against.

It is measured, not configured, and not circular: whether a bar was outvoted is counted by heads here, and only the
vote for the golden bar weighs them.
"""

from __future__ import annotations

import polars as pl

from vprism_pipelines.quality.consensus import KEY, PRIOR_RELIABILITY, compare

__all__ = ["SMOOTHING", "outvoted", "weights"]

WINDOW = 12  # months
SMOOTHING = 100.0
"""Bars' worth of the prior in every weight: a few bars say little of a provider."""

DIGITS = 3  # coarse, so that a weight, and the golden bars that rest on it, rarely change


def outvoted(candidates: pl.DataFrame) -> pl.DataFrame:
    """How much speaks against each candidate that somebody contradicts.

    Args:
        candidates: As for `consensus.vote`; weights are ignored.

    Returns:
        symbol, session, provider, against (Float64): 1 for a close that no leader's agrees with, ½ for one that some
        leaders' agree with and others' do not, where leaders are the candidates with most support, a bar that a check
        doubts counting half. Candidates that nothing speaks against are not in it.
    """
    eligible, pairs = compare(candidates.with_columns(weight=pl.lit(1.0)))
    agreeing = pairs.filter("close_agrees")
    support = agreeing.group_by("key", "provider").agg(support=pl.col("rival_weight").sum())
    leaders = support.filter(pl.col("support") == pl.col("support").max().over("key"))
    behind = (
        agreeing.join(leaders, left_on=["key", "rival_provider"], right_on=["key", "provider"], how="semi")
        .group_by("key", "provider")
        .agg(behind=pl.len())
    )
    return (
        eligible.select("key", *KEY, "provider")
        .join(behind, on=["key", "provider"], how="left")
        .join(leaders.group_by("key").agg(leaders=pl.len()), on="key")
        .with_columns(against=pl.when(pl.col("behind").is_null()).then(1.0).otherwise(0.5))
        .filter(pl.col("behind").is_null() | (pl.col("behind") < pl.col("leaders")))
        .select(*KEY, "provider", "against")
        .sort(*KEY, "provider")
    )


def weights(record: pl.DataFrame) -> pl.DataFrame:
    """The weight of every provider's vote in every month it has bars in.

    Args:
        record: provider, month (first day), bars, faulty (bars), known_from: what became of its bars by month.

    Returns:
        provider, month, bars and faulty of the twelve months before (in its first year: of its first twelve months),
        value (0..1, 3 decimals: (bars - faulty + n · prior) / (bars + n) with n = `SMOOTHING`), known_from (the newest
        instant these months rest on; of the month itself where they are empty); ordered.
    """
    numbered = record.with_columns(number=pl.col("month").dt.year() * 12 + pl.col("month").dt.month().cast(pl.Int32))
    asked = numbered.select(
        "provider",
        "month",
        own="known_from",
        until=pl.max_horizontal("number", pl.col("number").min().over("provider") + WINDOW),
    )
    # A provider has a few hundred months at most: every month beside every other is a small table.
    pairs = asked.join(numbered.drop("month"), on="provider").filter(
        pl.col("number").is_between(pl.col("until") - WINDOW, pl.col("until") - 1)
    )
    sums = pairs.group_by("provider", "month").agg(
        pl.col("bars").sum(), pl.col("faulty").sort().sum(), pl.col("known_from").max()
    )
    share = (pl.col("bars") - pl.col("faulty") + SMOOTHING * PRIOR_RELIABILITY) / (pl.col("bars") + SMOOTHING)
    return (
        asked.join(sums, on=["provider", "month"], how="left")
        .with_columns(pl.col("bars").fill_null(0), pl.col("faulty").fill_null(0.0), pl.coalesce("known_from", "own"))
        .select("provider", "month", "bars", "faulty", share.clip(0.0, 1.0).round(DIGITS).alias("value"), "known_from")
        .sort("provider", "month")
    )
