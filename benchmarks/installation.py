"""An installation that holds the market of the races: golden built as if from one provider, published, opened."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl

from benchmarks.analytics import US, add, golden
from vprism_pipelines.serving.library import Library
from vprism_pipelines.settings import Settings
from vprism_pipelines.warehouse.analytics import build_daily
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.publish import publish


def empty(own: Path) -> House:
    """An installation of its own in a folder."""
    return House(Settings(data_dir=own, duckdb_database=own / "vprism.duckdb"))


def published(data: Path, own: Path, *, analytics: bool = False) -> tuple[House, Library]:
    """One with the market in golden, and in `analytics.daily` if wanted, and a reader of what is published."""
    house = empty(own)
    with house.warehouse.transaction() as connection:
        _sessions(connection, data)
        add(connection, golden(pl.read_parquet(data / "bars.parquet")))
        if analytics:
            build_daily(connection, US)
    publish(house.warehouse, "bench", datetime.now(UTC))
    return house, Library(house.reader)


def _sessions(connection: duckdb.DuckDBPyConnection, data: Path) -> None:
    """Trading days of the market, those of the sessions held back included."""
    connection.execute(
        """INSERT INTO golden.sessions
           SELECT 'us', 'NYSE', session, row_number() OVER (ORDER BY session), session::TIMESTAMPTZ,
                  session::TIMESTAMPTZ, false
           FROM (SELECT DISTINCT session FROM read_parquet([?, ?]))""",
        [str(data / "bars.parquet"), str(data / "day-*.parquet")],
    )
