"""What kind of change a new version of a value is: noise, a late fix, a rebase of the history, or a restatement."""

from __future__ import annotations

import polars as pl

NOISE = 1e-6  # relative; float32 transport and re-rounding stay below it
LATE_DAYS = 10  # calendar days after the session within which a change is a correction
REBASE_ROWS = 3  # equal ratios needed to call a change of several sessions a rebase
REBASE_TOLERANCE = 2e-4  # of the ratio; adjusted histories are re-rounded

PRICES = ("open", "high", "low", "close")


def classify_bars(pairs: pl.DataFrame) -> pl.Series:
    """Class of every change between two versions of a bar.

    Args:
        pairs: symbol, session, provider, known_from, the value columns of the ledger, and the older version's with the
            prefix `old_`.

    Returns:
        `settled` (a provisional bar became final), `float_noise`, `rebase` (the whole history before a date was
        multiplied by one ratio), `basis_change`, `late_correction` (within ten days of the session), `restatement`.
    """
    ratio = pl.col("close") / pl.col("old_close")
    unchanged = pl.all_horizontal(
        ((pl.col(name) - pl.col(f"old_{name}")).abs() <= NOISE * pl.col(f"old_{name}").abs()).fill_null(
            pl.col(name).is_null() & pl.col(f"old_{name}").is_null()
        )
        for name in (*PRICES, "volume", "value", "adj_close")
    )
    pull = ["symbol", "provider", "known_from"]
    typical = ratio.median().over(pull)
    on_ratio = ((ratio / typical - 1).abs() <= REBASE_TOLERANCE) & ((ratio - 1).abs() > NOISE)
    rebased = on_ratio & (on_ratio.sum().over(pull) >= REBASE_ROWS)
    age = pl.col("known_from").dt.date() - pl.col("session")
    return pairs.select(
        pl.when(pl.col("old_provisional") & ~pl.col("provisional"))
        .then(pl.lit("settled"))
        .when(pl.col("price_basis") != pl.col("old_price_basis"))
        .then(pl.lit("basis_change"))
        .when(unchanged)
        .then(pl.lit("float_noise"))
        .when(rebased)
        .then(pl.lit("rebase"))
        .when(age <= pl.duration(days=LATE_DAYS))
        .then(pl.lit("late_correction"))
        .otherwise(pl.lit("restatement"))
        .alias("change_class")
    ).to_series()


def classify_terms(pairs: pl.DataFrame) -> pl.Series:
    """Class of every change of a corporate action or a description: all are restatements."""
    return pairs.select(pl.lit("restatement").alias("change_class")).to_series()
