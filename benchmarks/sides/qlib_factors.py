"""Qlib as installed: its binary store, its expression engine without caches, and one more day.

The tool that fills the store (`dump_bin.py`: dump_all, dump_update) is a script of Qlib's repository and not in its
package; the store is written here by what it says: a file of float32 for each field of each symbol, whose first value
is the place of the first session in the calendar. The update leaves out the CSV files that the tool reads and the
processes that it starts, in Qlib's favour.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import qlib
from qlib.config import C
from qlib.data import D
from qlib.data.cache import H

from benchmarks.factors import FACTORS
from benchmarks.market import day_file

FIELDS = ("open", "high", "low", "close", "volume", "value")


class Side:
    def __init__(self, data: Path, own: Path) -> None:
        self.data, self.store = data, own / "store"
        bars = pd.read_parquet(data / "bars.parquet")
        self.days = sorted(bars["session"].unique())
        self.names = {_code(symbol): symbol for symbol in bars["symbol"].unique()}
        place = {day: float(number) for number, day in enumerate(self.days)}
        for symbol, rows in bars.groupby("symbol", sort=False):
            folder = self.store / "features" / _code(symbol).lower()
            folder.mkdir(parents=True)
            for field in FIELDS:
                values = np.hstack([place[rows["session"].iloc[0]], rows[field]]).astype("<f")
                values.tofile(folder / f"{field}.day.bin")
        self._write_index()
        qlib.init(
            provider_uri=str(self.store),
            expression_cache=None,
            dataset_cache=None,
            logging_level="ERROR",
        )

    def before_factors(self, _: int) -> None:
        C["kernels"] = os.cpu_count()  # its default leaves two cores idle
        H.clear()

    def factors(self, _: int) -> pd.DataFrame:
        return D.features(D.instruments("all"), list(FACTORS.values()), freq="day")

    def answer_factors(self) -> pd.DataFrame:
        return self._named(self.factors(0))

    def before_one_day(self, number: int) -> None:
        C["kernels"] = 1  # starting a second process takes longer than the day
        self.day = pd.read_parquet(day_file(self.data, number))

    def one_day(self, _: int) -> pd.DataFrame:
        """Every file grows by a value, then the factors of the new session."""
        self.days.append(self.day["session"].iloc[0])
        for row in self.day.to_dict("records"):
            folder = self.store / "features" / _code(row["symbol"]).lower()
            for field in FIELDS:
                with (folder / f"{field}.day.bin").open("ab") as file:
                    np.array([row[field]]).astype("<f").tofile(file)
        self._write_index()
        H.clear()
        last = pd.Timestamp(self.days[-1])
        self.newest = D.features(D.instruments("all"), list(FACTORS.values()), last, last, freq="day")
        return self.newest

    def answer_one_day(self) -> pd.DataFrame:
        return self._named(self.newest)

    def _write_index(self) -> None:
        """Calendar and instruments."""
        for name, lines in (
            ("calendars/day.txt", [f"{day:%Y-%m-%d}" for day in self.days]),
            ("instruments/all.txt", [f"{code}\t{self.days[0]}\t{self.days[-1]}" for code in self.names]),
        ):
            file = self.store / name
            file.parent.mkdir(exist_ok=True)
            file.write_text("\n".join(lines) + "\n")

    def _named(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Its answer with our names."""
        answer = frame.set_axis(list(FACTORS), axis=1).reset_index()
        answer["symbol"] = answer["instrument"].map(self.names)
        return answer.rename(columns={"datetime": "session"}).drop(columns="instrument")


def _code(symbol: str) -> str:
    return symbol.rpartition(":")[2].upper()
