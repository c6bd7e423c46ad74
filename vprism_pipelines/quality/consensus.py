"""The vote for one golden bar: which provider's bar to believe, how sure we are, and who disagrees.

A whole bar of one provider wins, never a blend of several, so every golden number leads back to one payload.
A candidate collects the weight of every provider whose close agrees with its own within tolerance; most support wins.
Where closes agree, support for the range and the volume decides, then a bar that has a range over one that is a mere
close, then the provider's own weight, then the market's order of trust.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from vprism_pipelines.quality.flags import BarFlag

__all__ = ["AGREEMENT_BP", "DOUBT", "PRIOR_RELIABILITY", "RANGE_BP", "VOLUME_RATIO", "compare", "contested", "vote"]

AGREEMENT_BP = 5.0  # closes within this many basis points support each other
RANGE_BP = 10.0  # and so do opens, highs and lows
VOLUME_RATIO = 1.2  # greater over smaller
PRIOR_RELIABILITY = 0.9  # of a provider nobody has measured yet
DOUBT = 0.999
"""What is left of the weight of a bar that a check doubts, unless others share or refute the doubt. So little is taken
that it decides between providers as reliable as each other, never for one that is wrong more often.
"""

KEY = ["symbol", "session"]
DIGITS = 12  # sums of weights are compared: a tie must not depend on float noise


def vote(candidates: pl.DataFrame, rank: Mapping[str, int]) -> pl.DataFrame:
    """One row per (symbol, session).

    Args:
        candidates: symbol, session, provider, open, high, low, close, volume, price_basis, flags, weight (reliability
            of the provider in that month, 0..1), doubt (bits of the checks that fired on this bar) and whatever else a
            bar carries; one row per provider. Raw prices take part; a price on another basis only where no raw one
            exists.
        rank: Order of trust by provider, 0 first.

    Returns:
        The winning candidates' columns without weight and doubt, plus n_sources, confidence (supporting share of all
        weight; the winner's own weight when it stands alone), and the DISSENT flag where a close disagrees.
    """
    judged = contested(candidates)
    trust = pl.col("provider").replace_strict(rank, default=len(rank), return_dtype=pl.Int64)
    preference = ["support", "detail", "ranged", "weight"]
    # Rows stand in order of their providers: the first of equals is that of the first provider by name.
    best = judged.select("key", *preference, row="row", trust=trust).sort(
        "key", *preference, "trust", "row", descending=[False, *(True for _ in preference), False, False]
    )
    winners = judged[best.filter(pl.col("key") != pl.col("key").shift(1, fill_value=-1))["row"]]
    dissent = pl.when(pl.col("support") < pl.col("total")).then(int(BarFlag.DISSENT)).otherwise(0)
    confidence = (
        pl.when(pl.col("n_sources") == 1).then(pl.col("reliability")).otherwise(pl.col("support") / pl.col("total"))
    )
    return winners.with_columns(confidence=confidence, flags=pl.col("flags") | dissent).drop(
        "row", "key", *preference, "total", "reliability", "doubt", "doubted"
    )


def contested(candidates: pl.DataFrame) -> pl.DataFrame:
    """The eligible candidates with what the others say of them.

    Args:
        candidates: As for `vote`.

    Returns:
        The candidates that take part, with weight (less where a check doubts this bar alone), reliability (the weight
        before), row (their number), key (number of the symbol and session), doubted, ranged (has a range), support
        (weight of those whose close agrees), detail (of those whose range agrees and of those whose volume agrees
        besides), total, n_sources.
    """
    eligible, pairs = compare(candidates)

    def weight(agreeing: str) -> pl.Expr:
        return pl.when(agreeing).then("rival_weight").otherwise(0.0)

    # Sorted, because the sum of floats depends on their order and the vote must not.
    support = (
        pairs.sort("row", "rival_weight")
        .select(
            "row",
            support=weight("close_agrees"),
            ranges=weight("range_agrees"),
            volumes=weight("volume_agrees"),
            total="rival_weight",
        )
        .group_by("row", maintain_order=True)
        .agg(pl.col("support", "ranges", "volumes", "total").sum(), n_sources=pl.len().cast(pl.Int32))
        .select(
            pl.col("support").round(DIGITS),
            (pl.col("ranges") + pl.col("volumes")).round(DIGITS).alias("detail"),
            pl.col("total").round(DIGITS),
            "n_sources",
        )
    )
    return eligible.hstack(support)  # every candidate is its own rival: one row each


def compare(candidates: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Every eligible candidate beside every rival of its key, itself included.

    Args:
        candidates: As for `vote`.

    Returns:
        The eligible candidates, ordered, with row (their number), key, doubted, ranged, reliability and the weight that
        counts; and the pairs: row, key, provider, rival_provider, close_agrees, range_agrees, volume_agrees,
        rival_weight.
    """
    raw = pl.col("price_basis") == "raw"
    ordered = candidates.sort(*KEY, "provider").with_columns(key=pl.struct(KEY).rle_id())
    eligible = ordered.filter(raw | ~raw.any().over("key")).with_row_index("row")
    eligible = eligible.with_columns(reliability="weight", ranged=pl.col("high") > pl.col("low"))
    compared = ["row", "provider", "close", "open", "high", "low", "volume", "ranged", "doubt"]
    rivals = eligible.select("key", pl.col(compared).name.prefix("rival_"))
    close, span, volume = _agreement()
    pairs = (
        eligible.select("key", *compared)
        .join(rivals, on="key", how="inner")
        .with_columns(close_agrees=close, range_agrees=close & span, volume_agrees=close & volume)
    )
    doubted = pl.col("row").is_in(_doubted(pairs).implode())
    weighed = eligible.with_columns(
        doubted=doubted, weight=pl.col("weight") * pl.when(doubted).then(DOUBT).otherwise(1.0)
    )
    named = ["row", "key", "provider", "rival_provider", "close_agrees", "range_agrees", "volume_agrees"]
    return weighed, pairs.select(*named, rival_weight=weighed["weight"].gather(pairs["rival_row"]))


def _doubted(pairs: pl.DataFrame) -> pl.Series:
    """Rows of bars with a doubt that a rival does not share and none with the same numbers refutes.

    A rival refutes a doubt of the price by the same close, and that the bar is a copy by the same volume besides.
    """
    price, copy = int(BarFlag.SPIKE | BarFlag.BAND_BREACH), int(BarFlag.STALE_COPY)
    suspects = pairs.filter((pl.col("doubt") & (price | copy)) != 0)
    only_mine = (pl.col("doubt") - (pl.col("doubt") & pl.col("rival_doubt"))) & (price | copy)
    refuted = pl.when("volume_agrees").then(only_mine).when("close_agrees").then(only_mine & price).otherwise(0)
    return (
        suspects.group_by("row")
        .agg(mine=only_mine.bitwise_or(), refuted=refuted.bitwise_or())
        .filter((pl.col("mine") - (pl.col("mine") & pl.col("refuted"))) != 0)
        .get_column("row")
    )


def _agreement() -> tuple[pl.Expr, pl.Expr, pl.Expr]:
    """Whether close, range and volume of a candidate and its rival agree."""

    def within(name: str, tolerance: float) -> pl.Expr:
        return ((pl.col(f"rival_{name}") / pl.col(name) - 1) * 1e4).abs().round(6) <= tolerance

    greater, smaller = pl.max_horizontal("volume", "rival_volume"), pl.min_horizontal("volume", "rival_volume")
    unknown = pl.col("volume").is_null() | pl.col("rival_volume").is_null()
    volume = unknown | (greater == 0) | ((greater / smaller).round(DIGITS) <= VOLUME_RATIO)
    # A mere close says nothing of the range; a flat bar with another volume does.
    silent = (pl.col("ranged") != pl.col("rival_ranged")) & volume
    span = silent | pl.all_horizontal(within(name, RANGE_BP) for name in ("open", "high", "low"))
    return within("close", AGREEMENT_BP), span, volume
