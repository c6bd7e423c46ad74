"""Rows of a rewritten history that share one ratio.

Every row allows an interval of ratios, as its prices are rounded. The ratio that most rows of a pull allow makes the
first piece; what is left makes the next one. The loop runs over pieces, of which there are few, never over rows.
"""

from __future__ import annotations

from functools import reduce

import polars as pl

__all__ = ["NOISE", "PRICES", "PULL", "RATIO_DIGITS", "find_pieces"]

PRICES = ("open", "high", "low", "close")
PULL = ["symbol", "provider", "known_from"]
RATIO_DIGITS = 12  # a value on a threshold must not depend on float noise, nor a rebuild on it
NOISE = 1e-6  # relative; float32 transport and re-rounding stay below it
MOST_PIECES = 12  # ex-dates between two pulls
STIRRED = 0.5  # share of the prices of a piece that must have moved at all
MOST = 0.9  # share of the rows that a number of decimals must hold
COARSEST, FINEST = -3, 8  # decimals a price may be rounded to; minus three: to thousands


def find_pieces(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Pieces of constant ratio in the changed bars of each pull.

    Args:
        rows: As `revisions.marked` gives them.

    Returns:
        The rows with a column `piece` (null: on no ratio), and the pieces:
        symbol, provider, known_from, field, piece, ratio, ratio_low, ratio_high, first_session, last_session, rows,
        evidence (different prices on the ratio), spread (largest relative deviation of a close), volume_ratio (median;
        null: no volumes), half (half a unit of the last decimal), since (newest of the older versions).
    """
    group = [*PULL, "field"]
    allowed = _intervals(rows.with_row_index("place").filter(pl.col("field").is_not_null()))
    allowed = allowed.with_columns(group=pl.struct(group).rank("dense") if allowed.height else pl.lit(0, pl.UInt32))
    found, bounds = _peel(allowed)
    ordered = _in_order(allowed.join(found, on="place", how="left", maintain_order="left"), bounds)
    labelled = rows.with_row_index("place").join(
        ordered.select("place", "piece"), on="place", how="left", maintain_order="left"
    )
    return labelled.drop("place"), _summary(ordered, bounds)


def _intervals(rows: pl.DataFrame) -> pl.DataFrame:
    """Add low and high: the ratios that the rounding of the row's prices allows; and half, half a unit of the new."""
    adjusted = pl.col("field") == "adj_close"
    fields = {
        name: (
            pl.when(adjusted).then("adj_close").otherwise(name),
            pl.when(adjusted).then("old_adj_close").otherwise(f"old_{name}"),
        )
        for name in PRICES
    }
    group = [*PULL, "field"]
    rows = rows.with_columns(
        new_digits=pl.max_horizontal(_decimals(new) for new, _ in fields.values()),
        old_digits=pl.max_horizontal(_decimals(old) for _, old in fields.values()),
    )
    # Not the finest of all: one price of other making must not make every other one look exact.
    rows = rows.with_columns(pl.col("new_digits", "old_digits").quantile(MOST, "lower").over(group))
    half = 0.5 * pl.lit(10.0).pow(-pl.col("new_digits"))
    # Prices as traded stand on ticks, coarser than the decimals that the provider rounds to.
    old_half = pl.min_horizontal(half, 0.5 * pl.lit(10.0).pow(-pl.col("old_digits")))
    low = [(new * (1 - NOISE) - half) / (old * (1 + NOISE) + old_half) for new, old in fields.values()]
    high = [(new * (1 + NOISE) + half) / (old * (1 - NOISE) - old_half) for new, old in fields.values()]
    return rows.with_columns(
        half=half,
        low_ratio=pl.max_horizontal(low),
        high_ratio=pl.min_horizontal(high),
        moved=fields["close"][0] / fields["close"][1],
    )


def _decimals(price: pl.Expr) -> pl.Expr:
    """Fewest decimals that hold a price; negative where it is rounded to tens, hundreds or thousands."""

    def held(digits: int) -> pl.Expr:
        unit = 10.0**-digits
        return (price - (price / unit).round() * unit).abs() <= NOISE * price

    steps = range(FINEST - 1, COARSEST - 1, -1)
    return reduce(lambda finer, digits: pl.when(held(digits)).then(digits).otherwise(finer), steps, pl.lit(FINEST))


def _peel(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(place, piece) of the rows that are on a ratio, and (group, piece, ratio_low, ratio_high) of the ratios."""
    left = rows.select("place", "group", "low_ratio", "high_ratio").filter(pl.col("low_ratio") <= pl.col("high_ratio"))
    found, bounds = [], []
    for piece in range(MOST_PIECES):
        if left.is_empty():
            break
        ratio = _most_allowed(left).with_columns(piece=pl.lit(piece, pl.Int32))
        bounds.append(ratio)
        judged = left.join(ratio, on="group", how="left", maintain_order="left")
        on = (pl.col("low_ratio") <= pl.col("ratio_high")) & (pl.col("high_ratio") >= pl.col("ratio_low"))
        found.append(judged.filter(on).select("place", "piece"))
        left = judged.filter(~on).select(left.columns)
    none = rows.select("place", "group", piece=pl.lit(None, pl.Int32), ratio_low=pl.lit(None, pl.Float64),
                       ratio_high=pl.lit(None, pl.Float64)).clear()  # fmt: skip
    return (
        pl.concat([none.select("place", "piece"), *found]),
        pl.concat([none.select("group", "ratio_low", "ratio_high", "piece"), *bounds]),
    )


def _most_allowed(rows: pl.DataFrame) -> pl.DataFrame:
    """Of each group the interval of ratios that most rows allow: group, ratio_low, ratio_high."""
    ends = pl.concat(
        [
            rows.select("group", at="low_ratio", step=pl.lit(1, pl.Int32)),
            rows.select("group", at="high_ratio", step=pl.lit(-1, pl.Int32)),
        ]
    ).sort("group", "at", "step", descending=[False, False, True])
    # Every group ends at zero, so that one running sum serves all of them.
    return (
        ends.with_columns(cover=pl.col("step").cum_sum(), until=pl.col("at").shift(-1))
        .group_by("group", maintain_order=True)
        .agg(
            ratio_low=pl.col("at").get(pl.col("cover").arg_max()),
            ratio_high=pl.col("until").get(pl.col("cover").arg_max()),
        )
    )


def _in_order(rows: pl.DataFrame, bounds: pl.DataFrame) -> pl.DataFrame:
    """Rows that several ratios would suit go with their neighbours: a piece is a stretch of sessions."""
    several = bounds.filter(pl.len().over("group") > 1)
    if several.is_empty():
        return rows
    suits = (
        rows.filter(pl.col("piece").is_not_null())
        .select("place", "group", "session", "low_ratio", "high_ratio")
        .join(several, on="group")
        .filter(pl.col("low_ratio") <= pl.col("ratio_high"), pl.col("high_ratio") >= pl.col("ratio_low"))
        .group_by("place", "group", "session")
        .agg("piece")
        .sort("group", "session")
    )
    sure = pl.when(pl.col("piece").list.len() == 1).then(pl.col("piece").list.first())
    settled = suits.with_columns(sure=sure).with_columns(
        near=pl.coalesce(pl.col("sure").forward_fill().over("group"), pl.col("sure").backward_fill().over("group"))
    )
    moved = settled.filter(pl.col("sure").is_null(), pl.col("piece").list.contains(pl.col("near"))).select(
        "place", "near"
    )
    return (
        rows.join(moved, on="place", how="left", maintain_order="left")
        .with_columns(piece=pl.coalesce("near", "piece"))
        .drop("near")
    )


def _summary(rows: pl.DataFrame, bounds: pl.DataFrame) -> pl.DataFrame:
    priced = pl.col("field") == "prices"
    stirred = [((pl.col(name) / pl.col(f"old_{name}") - 1).abs() > NOISE) for name in PRICES]
    opened, closed = (pl.col(name).is_between("low", "high", closed="none") for name in ("open", "close"))
    others = (pl.col("high") != pl.col("low"), opened, closed & (pl.col("open") != pl.col("close")))
    traded = pl.when(pl.col("volume") > 0, pl.col("old_volume") > 0).then(pl.col("volume") / pl.col("old_volume"))
    return (
        rows.filter(pl.col("piece").is_not_null())
        .join(bounds, on=["group", "piece"], how="left", maintain_order="left")
        # A ratio of one is no rebase.
        .filter((pl.col("ratio_low") > 1 + NOISE) | (pl.col("ratio_high") < 1 - NOISE))
        .with_columns(((pl.col("ratio_low") + pl.col("ratio_high")) / 2).round(RATIO_DIGITS).alias("ratio"))
        .with_columns(
            off=(pl.col("moved") / pl.col("ratio") - 1).abs().round(RATIO_DIGITS),
            share=pl.when(priced).then(pl.mean_horizontal(stirred)).otherwise(1.0),
            prices=1 + pl.when(priced).then(pl.sum_horizontal(others)).otherwise(0),
        )
        .group_by(*PULL, "field", "piece", maintain_order=True)
        .agg(
            pl.col("ratio", "half").first(),
            pl.col("ratio_low", "ratio_high").first().round(RATIO_DIGITS),
            pl.col("share").mean(),
            first_session=pl.col("session").min(),
            last_session=pl.col("session").max(),
            rows=pl.len().cast(pl.Int64),
            evidence=pl.col("prices").sum(),
            spread=pl.col("off").max(),
            volume_ratio=traded.median().round(RATIO_DIGITS),
            since=pl.col("old_known_from").max(),
        )
        # Where single prices moved and rounding alone lets the others follow, bars were corrected one by one.
        .filter(pl.col("share") >= STIRRED)
        .drop("share")
    )
