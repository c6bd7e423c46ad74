"""CSV files imported: archived byte for byte, parsed, every row checked, remembered with where it came from."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl

from benchmarks.analytics import US
from benchmarks.installation import empty
from vprism_pipelines.providers.files import Mapping
from vprism_pipelines.warehouse.importing import import_file, import_inbox, inbox

FIELDS = ("open", "high", "low", "close", "volume")


def mapping(symbol: object) -> Mapping:
    columns = {"symbol": symbol, "session": "date", **{name: name for name in FIELDS}}
    return Mapping.parse({"provider": "mine", "market": "us", "table": [{"dataset": "bars", "columns": columns}]})


class Side:
    def __init__(self, data: Path, own: Path) -> None:
        self.data, self.own = data, own

    def before_one_file(self, number: int) -> None:
        """A new installation: what is known already would be recognised."""
        shutil.rmtree(self.own / "data", ignore_errors=True)
        self.house = empty(self.own / "data")
        with self.house.warehouse.connect():
            pass

    def one_file(self, _: int) -> None:
        import_file(self.house, self.data / "bars.csv", mapping("symbol"), "race")

    def before_many_files(self, number: int) -> None:
        self.before_one_file(number)
        shutil.copytree(self.data / "daily", inbox(self.house))
        for file in list(inbox(self.house).iterdir()):
            file.with_name(f"{file.name}.toml").write_text(BESIDE)

    def many_files(self, _: int) -> None:
        _imported, refused = import_inbox(self.house, US, "race")
        if refused:
            raise next(iter(refused.values()))

    def answer_one_file(self) -> pl.DataFrame:
        query = f"SELECT split_part(symbol, ':', 3) AS symbol, session, {', '.join(FIELDS)} FROM clean.bars"
        with self.house.warehouse.connect() as connection:
            return pl.DataFrame(connection.execute(query).to_arrow_table())

    answer_many_files = answer_one_file


BESIDE = """provider = "mine"
market = "us"
[[table]]
dataset = "bars"
[table.columns]
symbol = { file_name = '^([^.]+)' }
session = "date"
open = "open"
high = "high"
low = "low"
close = "close"
volume = "volume"
"""
