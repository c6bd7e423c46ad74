"""Bars read from the published warehouse through the library."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from benchmarks.installation import published
from benchmarks.market import COLUMNS, days_to_read, symbols_to_read

BARS = f"SELECT {', '.join(COLUMNS)} FROM golden.bars"


class Side:
    def __init__(self, data: Path, own: Path) -> None:
        self.symbols, self.days = symbols_to_read(data), days_to_read(data)
        _, self.library = published(data, own)

    def one_symbol(self, _: int) -> pl.DataFrame:
        query = f"{BARS} WHERE symbol = ? ORDER BY session"
        return pl.concat(self.library.sql(query, [name]) for name in self.symbols)

    def one_symbol_adjusted(self, _: int) -> pl.DataFrame:
        """What most people call: a spelling understood, and every price basis to choose from."""
        return pl.concat(self.library.bars(name, basis="raw").select(COLUMNS) for name in self.symbols)

    def one_day(self, _: int) -> pl.DataFrame:
        return pl.concat(self.library.sql(f"{BARS} WHERE session = ? ORDER BY symbol", [day]) for day in self.days)

    def everything(self, _: int) -> pl.DataFrame:
        return self.library.sql(BARS)
