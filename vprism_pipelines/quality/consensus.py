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
    judged = contested(candidates).with_columns(
        trust=pl.col("provider").replace_strict(rank, default=len(rank), return_dtype=pl.Int64)
    )
    preference = ["support", "detail", "ranged", "weight"]
    winners = judged.sort(
        "key", *preference, "trust", "provider", descending=[False, *(True for _ in preference), False, False]
    ).unique("key", keep="first", maintain_order=True)
    dissent = pl.when(pl.col("support") < pl.col("total")).then(int(BarFlag.DISSENT)).otherwise(0)
    confidence = (
        pl.when(pl.col("n_sources") == 1).then(pl.col("reliability")).otherwise(pl.col("support") / pl.col("total"))
    )
    return winners.with_columns(confidence=confidence, flags=pl.col("flags") | dissent).drop(
        "key", *preference, "total", "trust", "reliability", "doubt", "doubted"
    )


def contested(candidates: pl.DataFrame) -> pl.DataFrame:
    """The eligible candidates with what the others say of them.

    Args:
        candidates: As for `vote`.

    Returns:
        The candidates that take part, with weight (less where a check doubts this bar alone), reliability (the weight
        before), key (number of the symbol and session), doubted, ranged (has a range), support (weight of those whose
        close agrees), detail (of those whose range agrees and of those whose volume agrees besides), total, n_sources.
    """
    eligible, pairs = compare(candidates)
    # Sorted, because the sum of floats depends on their order and the vote must not.
    weight = pl.col("rival_weight")
    support = pairs.group_by("key", "provider").agg(
        support=weight.filter("close_agrees").sort().sum().round(DIGITS),
        detail=(weight.filter("range_agrees").sort().sum() + weight.filter("volume_agrees").sort().sum()).round(DIGITS),
        total=weight.sort().sum().round(DIGITS),
        n_sources=pl.len().cast(pl.Int32),
    )
    return eligible.join(support, on=["key", "provider"], how="left", maintain_order="left")


def compare(candidates: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Every eligible candidate beside every rival of its key, itself included.

    Args:
        candidates: As for `vote`.

    Returns:
        The eligible candidates, ordered, with key, doubted, ranged, reliability and the weight that counts; and the
        pairs: key, provider, rival_provider, close_agrees, range_agrees, volume_agrees, rival_weight.
    """
    raw = pl.col("price_basis") == "raw"
    ordered = candidates.sort(*KEY, "provider").with_columns(key=pl.struct(KEY).rle_id())
    eligible = ordered.filter(raw | ~raw.any().over("key"))
    eligible = eligible.with_columns(reliability="weight", ranged=pl.col("high") > pl.col("low"))
    compared = ["close", "open", "high", "low", "volume", "ranged", "doubt"]
    rivals = eligible.select("key", *(pl.col(name).alias(f"rival_{name}") for name in ("provider", *compared)))
    close, span, volume = _agreement()
    pairs = (
        eligible.select("key", "provider", *compared)
        .join(rivals, on="key", how="inner")
        .with_columns(close_agrees=close, range_agrees=close & span, volume_agrees=close & volume)
    )
    weighed = eligible.join(_doubted(pairs), on=["key", "provider"], how="left", maintain_order="left").with_columns(
        pl.col("doubted").fill_null(value=False)
    )
    weighed = weighed.with_columns(weight=pl.col("weight") * pl.when("doubted").then(DOUBT).otherwise(1.0))
    rival = weighed.select("key", rival_provider="provider", rival_weight="weight")
    named = pairs.select("key", "provider", "rival_provider", "close_agrees", "range_agrees", "volume_agrees")
    return weighed, named.join(rival, on=["key", "rival_provider"], how="left", maintain_order="left")


def _doubted(pairs: pl.DataFrame) -> pl.DataFrame:
    """key, provider, doubted: bars with a doubt that a rival does not share and none with the same numbers refutes.

    A rival refutes a doubt of the price by the same close, and that the bar is a copy by the same volume besides.
    """
    price, copy = int(BarFlag.SPIKE | BarFlag.BAND_BREACH), int(BarFlag.STALE_COPY)
    suspects = pairs.filter((pl.col("doubt") & (price | copy)) != 0)
    only_mine = (pl.col("doubt") - (pl.col("doubt") & pl.col("rival_doubt"))) & (price | copy)
    refuted = pl.when("volume_agrees").then(only_mine).when("close_agrees").then(only_mine & price).otherwise(0)
    return (
        suspects.group_by("key", "provider")
        .agg(mine=only_mine.bitwise_or(), refuted=refuted.bitwise_or())
        .select("key", "provider", doubted=(pl.col("mine") - (pl.col("mine") & pl.col("refuted"))) != 0)
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
