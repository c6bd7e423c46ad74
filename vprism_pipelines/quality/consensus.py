"""The vote for one golden bar: which provider's bar to believe, how sure we are, and who disagrees.

A whole bar of one provider wins, never a blend of several, so every golden number leads back to one payload.
A candidate collects the reliability of every provider whose close agrees with its own within tolerance; most support
wins, then the provider's own reliability, then the market's order of trust.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from vprism_pipelines.quality.flags import BarFlag

AGREEMENT_BP = 5.0  # closes within this many basis points support each other
PRIOR_RELIABILITY = 0.9  # of a provider nobody has measured yet
KEY = ["symbol", "session"]


def vote(candidates: pl.DataFrame, rank: Mapping[str, int], reliability: Mapping[str, float]) -> pl.DataFrame:
    """One row per (symbol, session).

    Args:
        candidates: symbol, session, provider, close, price_basis, flags and whatever else a bar carries; one row per
            provider. Raw prices take part; a price on another basis only where no raw one exists.
        rank: Order of trust by provider, 0 first.
        reliability: Measured reliability by provider, 0..1.

    Returns:
        The winning candidates' columns plus n_sources, confidence (supporting share of all reliability, times that of
        the winner when it stands alone), and the DISSENT flag where somebody disagrees.
    """
    raw = pl.col("price_basis") == "raw"
    eligible = candidates.filter(raw | ~raw.any().over(KEY)).with_columns(
        weight=pl.col("provider").replace_strict(reliability, default=PRIOR_RELIABILITY, return_dtype=pl.Float64),
        trust=pl.col("provider").replace_strict(rank, default=len(rank), return_dtype=pl.Int64),
    )
    ballots = eligible.select(*KEY, rival=pl.col("close"), rival_weight=pl.col("weight"))
    difference = ((pl.col("rival") / pl.col("close") - 1) * 1e4).abs().round(6)
    support = (
        eligible.join(ballots, on=KEY, how="inner")
        .group_by(*KEY, "provider")
        .agg(
            # Sorted, because the sum of floats depends on their order and the vote must not.
            support=pl.col("rival_weight").filter(difference <= AGREEMENT_BP).sort().sum(),
            total=pl.col("rival_weight").sort().sum(),
            n_sources=pl.len().cast(pl.Int32),
        )
    )
    winners = (
        eligible.join(support, on=[*KEY, "provider"])
        .sort(*KEY, "support", "weight", "trust", "provider", descending=[False, False, True, True, False, False])
        .unique(KEY, keep="first", maintain_order=True)
    )
    dissent = pl.when(pl.col("support") < pl.col("total")).then(int(BarFlag.DISSENT)).otherwise(0)
    return winners.with_columns(
        confidence=pl.when(pl.col("n_sources") == 1)
        .then(pl.col("weight"))
        .otherwise(pl.col("support") / pl.col("total")),
        flags=pl.col("flags") | dissent,
    ).drop("support", "total", "weight", "trust")
