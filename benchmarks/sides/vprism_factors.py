"""Factors in the warehouse: stored ones read, all of them computed, and one more session through the whole of it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import duckdb
import polars as pl

from benchmarks.analytics import US, add, full, golden
from benchmarks.factors import FACTORS
from benchmarks.installation import published
from benchmarks.market import day_file
from vprism_pipelines.market import indicators
from vprism_pipelines.warehouse.analytics import build_daily

STORED = f"SELECT symbol, session, {', '.join(FACTORS)} FROM analytics.daily"


class Side:
    def __init__(self, data: Path, own: Path) -> None:
        self.data = data
        self.house, self.library = published(data, own, analytics=True)

    def stored(self, _: int) -> pl.DataFrame:
        return self.library.sql(STORED)

    def computed(self, _: int) -> pl.DataFrame:
        """From golden bars, no other column with them."""
        return self._computed(FACTORS)

    def all_computed(self, _: int) -> pl.DataFrame:
        """The same with every other column of the catalogue."""
        return self._computed(None).select("symbol", "session", *FACTORS)

    def _computed(self, columns: Collection[str] | None) -> pl.DataFrame:
        bars = self.library.sql(
            """SELECT symbol, session, (dense_rank() OVER (ORDER BY session))::INTEGER AS session_no, high, low, close,
                      volume::DOUBLE AS volume, value, close AS raw_close, high AS raw_high, low AS raw_low,
                      high AS split_high, low AS split_low, close AS split_close
               FROM golden.bars ORDER BY symbol, session"""
        )
        daily, _state = indicators.compute(bars, annualisation=US.annualisation, columns=columns)
        return daily

    def before_one_day(self, number: int) -> None:
        self.day = golden(pl.read_parquet(day_file(self.data, number)))

    def one_day(self, _: int) -> None:
        """One more session: golden and its factors, committed."""
        with self.house.warehouse.transaction() as connection:
            add(connection, self.day)
            build_daily(connection, US)

    def answer_one_day(self) -> pl.DataFrame:
        with self.house.warehouse.connect() as connection:
            return newest(connection)

    def everything(self, _: int) -> pl.DataFrame:
        """All sessions anew; rolled back, so that writing them to disk is not even counted."""
        with self.house.warehouse.connect() as connection:
            connection.begin()
            full(connection)
            build_daily(connection, US)
            rebuilt = newest(connection)
            connection.rollback()
        return rebuilt


def newest(connection: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Factors of the newest session."""
    last = f"{STORED} WHERE session = (SELECT max(session) FROM golden.bars)"
    return pl.DataFrame(connection.execute(last).to_arrow_table())
