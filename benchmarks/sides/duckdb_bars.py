"""Bars in a plain DuckDB table, sorted by symbol and session: no history, no checks, no bookkeeping."""

from __future__ import annotations

from pathlib import Path

import duckdb
import polars as pl

from benchmarks.market import COLUMNS, day_file, days_to_read, symbols_to_read

BARS = f"SELECT {', '.join(COLUMNS)} FROM bars"


class Side:
    def __init__(self, data: Path, own: Path) -> None:
        self.data, self.file = data, str(own / "plain.duckdb")
        self.symbols, self.days = symbols_to_read(data), days_to_read(data)
        with duckdb.connect(self.file) as connection:
            connection.execute(
                "CREATE TABLE bars AS SELECT * FROM read_parquet(?) ORDER BY symbol, session",
                [str(data / "bars.parquet")],
            )
        self.reader: duckdb.DuckDBPyConnection | None = None

    # --- writing ---

    def before_append(self, number: int) -> None:
        self.day = pl.read_parquet(day_file(self.data, number))

    def append(self, _: int) -> None:
        with duckdb.connect(self.file) as connection:
            connection.begin()
            connection.register("day", self.day)
            connection.execute("INSERT INTO bars BY NAME SELECT * FROM day")
            connection.commit()

    def answer_append(self) -> pl.DataFrame:
        with duckdb.connect(self.file) as connection:
            return _frame(connection, f"{BARS} WHERE session = ?", [self.day["session"][0]])

    # --- reading ---

    def one_symbol(self, _: int) -> pl.DataFrame:
        return pl.concat(self._read(f"{BARS} WHERE symbol = ? ORDER BY session", [name]) for name in self.symbols)

    def one_day(self, _: int) -> pl.DataFrame:
        return pl.concat(self._read(f"{BARS} WHERE session = ? ORDER BY symbol", [day]) for day in self.days)

    def everything(self, _: int) -> pl.DataFrame:
        return self._read(BARS, [])

    def _read(self, statement: str, values: list[object]) -> pl.DataFrame:
        if self.reader is None:
            self.reader = duckdb.connect(self.file, read_only=True)
        return _frame(self.reader, statement, values)


def _frame(connection: duckdb.DuckDBPyConnection, statement: str, values: list[object]) -> pl.DataFrame:
    return pl.DataFrame(connection.execute(statement, values).to_arrow_table())
