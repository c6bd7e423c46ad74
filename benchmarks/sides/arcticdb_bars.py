"""Bars in ArcticDB, on its LMDB storage, in both ways one can keep a market: an item a symbol, or all in one item."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from arcticdb import Arctic, ReadRequest, WritePayload

from benchmarks.market import COLUMNS, day_file, days_to_read, symbols_to_read

ALL = "all"


class Side:
    def __init__(self, data: Path, own: Path) -> None:
        self.data = data
        self.symbols, self.days = symbols_to_read(data), [pd.Timestamp(day) for day in days_to_read(data)]
        store = Arctic(f"lmdb://{own / 'store'}?map_size=4GB")
        self.by_symbol, self.at_once = store.create_library("by_symbol"), store.create_library("at_once")
        bars = _indexed(pd.read_parquet(data / "bars.parquet"))
        self.by_symbol.write_batch([WritePayload(name, rows) for name, rows in _by_symbol(bars)])
        self.at_once.write(ALL, bars.sort_index(kind="stable"))

    # --- writing ---

    def before_append(self, number: int) -> None:
        self.day = _indexed(pd.read_parquet(day_file(self.data, number)))

    before_append_at_once = before_append

    def append(self, _: int) -> None:
        self.by_symbol.append_batch([WritePayload(name, rows) for name, rows in _by_symbol(self.day)])

    def append_at_once(self, _: int) -> None:
        self.at_once.append(ALL, self.day)

    def answer_append(self) -> pd.DataFrame:
        return self._of_symbols(self.day["symbol"], (self.day.index[0], None))

    def answer_append_at_once(self) -> pd.DataFrame:
        return self.at_once.read(ALL, date_range=(self.day.index[0], None)).data.reset_index()

    # --- reading ---

    def one_symbol(self, _: int) -> pd.DataFrame:
        frames = [self.by_symbol.read(name).data.assign(symbol=name) for name in self.symbols]
        return pd.concat(frames).reset_index()

    def one_day(self, _: int) -> pd.DataFrame:
        frames = [self.at_once.read(ALL, date_range=(day, day)).data for day in self.days]
        return pd.concat(frames).reset_index()

    def everything(self, _: int) -> pd.DataFrame:
        return self.at_once.read(ALL).data

    def answer_everything(self) -> pd.DataFrame:
        return self.everything(0).reset_index()

    def _of_symbols(self, symbols: pd.Series, span: tuple[pd.Timestamp, pd.Timestamp | None]) -> pd.DataFrame:
        read = self.by_symbol.read_batch([ReadRequest(name, date_range=span) for name in symbols])
        return pd.concat(item.data.assign(symbol=item.symbol) for item in read).reset_index()


def _indexed(bars: pd.DataFrame) -> pd.DataFrame:
    """Bars by session, as ArcticDB wants them."""
    return bars.assign(session=pd.to_datetime(bars["session"])).set_index("session")[[*COLUMNS[:1], *COLUMNS[2:]]]


def _by_symbol(bars: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(name, rows.drop(columns="symbol")) for name, rows in bars.groupby("symbol", sort=False)]
