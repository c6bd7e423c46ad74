"""Drift: the latest close and volume of each symbol against the observations before it.

Advisory only. Prices wander, so a z-score of their level is large on many ordinary days; it points, it does not judge.
"""

from __future__ import annotations

import polars as pl

from vprism_pipelines.quality.alignment import require_columns
from vprism_pipelines.tables import DRIFT

__all__ = ["FAIL_Z", "METRICS", "WARN_Z", "WINDOW", "drift"]

METRICS = ("close", "volume")
WINDOW = 30  # observations before the latest one
WARN_Z, FAIL_Z = 2.0, 3.0
Z_DIGITS = 9
CONSTANT = 1e-12  # spread, relative to the mean, that is nothing but float noise of the adjustment


def drift(bars: pl.DataFrame, window: int = WINDOW) -> pl.DataFrame:
    """z-scores of the latest observation of every symbol, close and volume.

    z = (latest - mean) / sample standard deviation of the `window` observations before the latest; 0 where these are
    all the same, null where there are fewer. |z| is rounded to 9 decimals and then compared: WARN from 2, FAIL from 3.

    Args:
        bars: symbol, session, close, volume, on one share basis, one row per symbol and session in any order; the
            last `window` + 1 observations of each are enough. Null and non-finite values are no observations.
        window: Length of the baseline, at least 2.

    Returns:
        Columns of `tables.DRIFT`: two rows per symbol, ordered by symbol and metric.

    Raises:
        ContractViolation: A column is missing.
    """
    require_columns(bars, ["symbol", "session", *METRICS], "bars")
    baseline = pl.col("value").head(pl.len() - 1).tail(window)
    told = pl.concat(
        bars.select("symbol", "session", metric=pl.lit(name), value=pl.col(name).cast(pl.Float64)) for name in METRICS
    )
    measured = (
        told.filter(pl.col("value").is_finite())
        .sort("symbol", "metric", "session")
        .group_by("symbol", "metric", maintain_order=True)
        .agg(
            session=pl.col("session").last(),
            value=pl.col("value").last(),
            observations=baseline.len().cast(pl.Int64),
            mean=baseline.mean(),
            std=baseline.std(ddof=1),
            spread=baseline.max() - baseline.min(),
        )
    )
    full = pl.col("observations") >= window
    constant = pl.col("spread") <= CONSTANT * pl.col("mean").abs()
    z = pl.when(constant).then(0.0).otherwise((pl.col("value") - pl.col("mean")) / pl.col("std")).round(Z_DIGITS)
    size = pl.col("z").abs()
    judged = measured.with_columns(
        mean=pl.when(full).then("mean"),
        std=pl.when(full).then(pl.when(constant).then(0.0).otherwise("std")),
        z=pl.when(full).then(z),
    ).with_columns(
        status=pl.when(size >= FAIL_Z)
        .then(pl.lit("FAIL"))
        .when(size >= WARN_Z)
        .then(pl.lit("WARN"))
        .otherwise(pl.lit("OK"))
    )
    return DRIFT.conform(judged)
