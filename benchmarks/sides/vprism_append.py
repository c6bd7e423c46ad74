"""One market day appended to the ledger: compared with all that was known, classified, numbered, committed."""

from __future__ import annotations

from datetime import time
from pathlib import Path

import polars as pl

from benchmarks.installation import empty
from benchmarks.market import COLUMNS, day_file
from vprism_pipelines.quality.revisions import classify_bars
from vprism_pipelines.tables import CLEAN_BARS
from vprism_pipelines.warehouse.ledger import BARS, remember
from vprism_pipelines.warehouse.writer import next_batch


class Side:
    def __init__(self, data: Path, own: Path) -> None:
        self.data, self.house = data, empty(own)
        self._remember(accepted(pl.read_parquet(data / "bars.parquet")))

    def before_append(self, number: int) -> None:
        self.day = accepted(pl.read_parquet(day_file(self.data, number)))

    def append(self, _: int) -> None:
        self._remember(self.day)

    def answer_append(self) -> pl.DataFrame:
        newest = f"SELECT {', '.join(COLUMNS)} FROM clean.bars WHERE session = ?"
        with self.house.warehouse.connect() as connection:
            return pl.DataFrame(connection.execute(newest, [self.day["session"][0]]).to_arrow_table())

    def _remember(self, bars: pl.DataFrame) -> None:
        with self.house.warehouse.transaction() as connection:
            remember(connection, BARS, bars, next_batch(connection), classify_bars)


def accepted(bars: pl.DataFrame) -> pl.DataFrame:
    """Bars as cleaning hands them on, each pulled at the end of its session."""
    pulled = pl.col("session").dt.combine(time(22)).dt.replace_time_zone("UTC")
    rows = bars.with_columns(
        provider=pl.lit("one"),
        adj_close=pl.lit(None, pl.Float64),
        currency=pl.lit("USD"),
        exchange=pl.lit("NYSE"),
        price_basis=pl.lit("raw"),
        flags=pl.lit(0),
        provisional=pl.lit(False),
        known_from=pulled,
        fetch_id=pl.format("pull-{}", "session"),
        payload_row=pl.int_range(pl.len()).over("session"),
        known_to=pl.lit(None, pl.Datetime("us", "UTC")),
        change_class=pl.lit("new"),
        batch=pl.lit(0),
    )
    return CLEAN_BARS.conform(rows)
