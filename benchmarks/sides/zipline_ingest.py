"""Zipline's csvdir bundle: a folder with a CSV file for each symbol, ingested into its bar store and asset database."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from zipline.data.bundles import ingest, load, register
from zipline.data.bundles.csvdir import csvdir_equities

BUNDLE = "race"
FIELDS = ["open", "high", "low", "close", "volume"]


class Side:
    def __init__(self, data: Path, own: Path) -> None:
        self.environment = {"ZIPLINE_ROOT": str(own)}
        register(BUNDLE, csvdir_equities(["daily"], str(data)), calendar_name="XNYS")

    def ingest(self, _: int) -> None:
        ingest(BUNDLE, environ=self.environment, show_progress=False)

    def answer_ingest(self) -> pd.DataFrame:
        stored = load(BUNDLE, environ=self.environment)
        reader = stored.equity_daily_bar_reader
        assets = stored.asset_finder.retrieve_all(stored.asset_finder.sids)
        arrays = reader.load_raw_arrays(
            FIELDS, reader.sessions[0], reader.sessions[-1], [asset.sid for asset in assets]
        )
        index = pd.MultiIndex.from_product([reader.sessions, [asset.symbol for asset in assets]])
        frame = pd.DataFrame(dict(zip(FIELDS, (array.ravel() for array in arrays), strict=True)), index=index)
        return frame.rename_axis(["session", "symbol"]).reset_index()
