"""A ledger with revisions: what is believed now, read plainly and read as of an instant."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from benchmarks.as_of import NOW, READS, ledger

COLUMNS = "symbol, session, open, high, low, close, volume"
TIMES = 10  # one read takes milliseconds


class Side:
    def __init__(self, _data: Path, own: Path) -> None:
        self.connection = ledger(own / "ledger.duckdb")

    def plain_day(self, _: int) -> pl.DataFrame:
        return self._read("clean.bars", "one day")

    def as_of_day(self, _: int) -> pl.DataFrame:
        return self._read(f"clean.bars_as_of(TIMESTAMPTZ '{NOW}')", "one day")

    def plain_symbol(self, _: int) -> pl.DataFrame:
        return self._read("clean.bars", "one symbol")

    def as_of_symbol(self, _: int) -> pl.DataFrame:
        return self._read(f"clean.bars_as_of(TIMESTAMPTZ '{NOW}')", "one symbol")

    def _read(self, table: str, what: str) -> pl.DataFrame:
        where, values = READS[what]
        for _ in range(TIMES):
            answer = self.connection.execute(f"SELECT {COLUMNS} FROM {table} WHERE {where}", values).to_arrow_table()
        return pl.DataFrame(answer)
