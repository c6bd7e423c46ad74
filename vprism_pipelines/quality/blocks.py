"""When single findings add up to a delivery that must not be published: a whole symbol, or a whole session."""

from __future__ import annotations

import polars as pl

__all__ = ["blocks"]

RATIO_DIGITS = 12
MEDIAN_UNIT_RATIO = (0.9, 1.1)
UNIT_BARS = 250  # newest traded bars with a value that the median is taken over
STALE_SHARE, STALE_BARS = 0.05, 20
VWAP_RUN = 20


def blocks(examined: pl.DataFrame) -> pl.DataFrame:
    """What must stop a whole symbol or session, not a bar.

    Args:
        examined: From `examine`: whole symbols, or their newest bars after `CONTEXT` earlier ones; whole sessions,
            or no session is blocked rightly.

    Returns:
        check, symbol (null: a whole session), session (null: the whole symbol), measure, evidence; ordered. Empty
        when nothing blocks.
    """
    traded = examined.filter(pl.col("volume") > 0)
    valued = traded.filter(pl.col("turnover").is_not_null())
    run = (~pl.col("vwap_bound")).cum_sum().over("symbol")
    vwap = (
        valued.with_columns(run=run)
        .filter("vwap_bound")
        .group_by("symbol", "run", maintain_order=True)
        .agg(pl.col("session").get(VWAP_RUN - 1, null_on_oob=True), measure=pl.len().cast(pl.Float64))
        .filter(pl.col("measure") >= VWAP_RUN)
    )
    units = (
        valued.group_by("symbol", maintain_order=True)
        .tail(UNIT_BARS)
        .group_by("symbol")
        .agg(measure=pl.col("turnover").median().round(RATIO_DIGITS), rows=pl.len())
        .filter(~pl.col("measure").is_between(*MEDIAN_UNIT_RATIO), pl.col("rows") >= VWAP_RUN)
    )
    jumps = examined.filter(pl.col("ticket") == "unit").with_columns(measure="jump")
    stale = (
        traded.group_by("session")
        .agg(measure=pl.col("stale_copy").mean(), copies=pl.col("stale_copy").sum())
        .filter(pl.col("measure").round(RATIO_DIGITS) > STALE_SHARE, pl.col("copies") >= STALE_BARS)
    )
    found = [
        ("vwap_bound", vwap, "{} consecutive bars with a volume-weighted price outside their range"),
        ("unit_ratio", units, "median of value / (volume x close) is {}: a unit is wrong"),
        ("split_like_jump", jumps, "close is {} times its reference and stays there: the unit changed"),
        ("stale_copy", stale, "{} of the session's bars repeat the bar before: the provider served yesterday"),
    ]
    return pl.concat(
        frame.select(
            check=pl.lit(name),
            symbol=pl.col("symbol") if "symbol" in frame.columns else pl.lit(None, dtype=pl.String),
            session=pl.col("session") if "session" in frame.columns else pl.lit(None, dtype=pl.Date),
            measure=pl.col("measure").cast(pl.Float64),
            evidence=pl.format(text, pl.col("measure").round_sig_figs(4)),
        )
        for name, frame, text in found
    ).sort("check", "symbol", "session", nulls_last=True)
