"""Bars read from one parquet file, sorted by symbol and session, with polars."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl

from benchmarks.market import days_to_read, symbols_to_read


class Side:
    def __init__(self, data: Path, _own: Path) -> None:
        self.bars = data / "bars.parquet"
        self.symbols, self.days = symbols_to_read(data), days_to_read(data)

    def one_symbol(self, _: int) -> pl.DataFrame:
        return pl.concat(pl.scan_parquet(self.bars).filter(symbol=name).collect() for name in self.symbols)

    def one_day(self, _: int) -> pl.DataFrame:
        days = map(date.fromisoformat, self.days)
        return pl.concat(pl.scan_parquet(self.bars).filter(session=day).collect() for day in days)

    def everything(self, _: int) -> pl.DataFrame:
        return pl.read_parquet(self.bars)
