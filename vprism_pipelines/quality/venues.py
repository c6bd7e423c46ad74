"""Whose rules each bar is judged by."""

from __future__ import annotations

import polars as pl

from vprism_pipelines.market.rules import venue

__all__ = ["with_venues"]


def with_venues(bars: pl.DataFrame) -> pl.DataFrame:
    """Add venue and asset to bars with symbol and exchange, found once per symbol and exchange."""
    pairs = (
        bars.select("symbol", "exchange")
        .unique()
        .with_columns(
            venue=venue(pl.col("symbol"), pl.col("exchange")),
            asset=pl.col("symbol").str.split(":").list.get(1, null_on_oob=True).fill_null("STOCK"),
        )
    )
    return bars.join(pairs, on=["symbol", "exchange"], how="left", nulls_equal=True, maintain_order="left")
