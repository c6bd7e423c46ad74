"""The private file published (proven, copied, flushed, opened, swapped in), and merely copied."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl

from benchmarks.installation import published
from benchmarks.market import COLUMNS
from vprism_pipelines.warehouse.publish import publish


class Side:
    def __init__(self, data: Path, own: Path) -> None:
        self.house, self.library = published(data, own)
        self.copied = own / "copy.duckdb"

    def publish(self, _: int) -> None:
        publish(self.house.warehouse, "race", datetime.now(UTC))

    def answer_publish(self) -> pl.DataFrame:
        return self.library.sql(f"SELECT {', '.join(COLUMNS)} FROM golden.bars")

    def copy(self, _: int) -> None:
        shutil.copyfile(self.house.warehouse.path, self.copied)

    def answer_copy(self) -> pl.DataFrame:
        with duckdb.connect(str(self.copied), read_only=True) as connection:
            return pl.DataFrame(connection.execute(f"SELECT {', '.join(COLUMNS)} FROM golden.bars").to_arrow_table())
