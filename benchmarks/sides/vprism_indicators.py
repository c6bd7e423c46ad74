"""The whole catalogue of indicators over all bars, but for what needs a benchmark."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from vprism_pipelines.market import indicators
from vprism_pipelines.market.formulas import RELATIVE


class Side:
    def __init__(self, data: Path, _own: Path) -> None:
        prices = {name: pl.col(name) for name in ("high", "low", "close")}
        self.bars = pl.read_parquet(data / "bars.parquet").select(
            "symbol",
            "session",
            pl.col("session").rank("dense").cast(pl.Int32).alias("session_no"),
            *prices,
            *(price.alias(f"{basis}_{name}") for name, price in prices.items() for basis in ("raw", "split")),
            pl.col("volume").cast(pl.Float64),
            "value",
        )

    def indicators(self, _: int) -> pl.DataFrame:
        daily, _state = indicators.compute(self.bars)
        return daily.drop(RELATIVE)
