"""Runs in the environment of the peers: yfinance's own price repair over frames of bars, without a network.

    python yfinance_repair.py FOLDER

reads every FOLDER/<name>.parquet (symbol, session, open, high, low, close, volume, split) and writes
FOLDER/<name>.found.csv: the bars that a repair changed, dropped, or sent away to be rebuilt from finer bars.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pandas as pd
from yfinance.scrapers.history import PriceHistory

ZONE = "Asia/Ho_Chi_Minh"
COLUMNS = {"open": "Open", "high": "High", "low": "Low", "close": "Close", "volume": "Volume", "split": "Stock Splits"}
WATCHED = ["Open", "High", "Low", "Close", "Volume"]


def repaired(symbol: str, bars: pd.DataFrame) -> set[pd.Timestamp]:
    """Sessions of one symbol that the repair touches, in the order in which `history(repair=True)` makes its steps."""
    frame = bars.rename(columns=COLUMNS)[list(COLUMNS.values())].astype(float)
    frame.index = pd.DatetimeIndex(bars["session"]).tz_localize(ZONE)
    frame["Adj Close"], frame["Dividends"] = frame["Close"], 0.0
    again = frame.index.duplicated(keep="first")
    touched = set(frame.index[again])
    given = frame[~again].sort_index()

    history = PriceHistory(None, symbol, ZONE, session=object())
    history._history_metadata = {"currency": "VND"}

    def sent_away(df, interval, prepost, tag=-1, *_):
        touched.update(df.index[(df[WATCHED] == tag).any(axis=1)])
        return df  # as when no finer bars are to be had

    history._reconstruct_intervals_batch = sent_away
    steps = (
        lambda df: history._fix_bad_div_adjust(df, "1d", False, "VND"),
        lambda df: history._fix_unit_mixups(df, "1d", ZONE, False),
        lambda df: history._fix_bad_stock_splits(df, "1d", ZONE),
        lambda df: history._fix_zeroes(df, "1d", ZONE, False),
    )
    result = given.copy()
    for step in steps:
        result = step(result)
    result = result.reindex(given.index)
    changed = ((result[WATCHED] / given[WATCHED].where(given[WATCHED] != 0, 1.0)) - (given[WATCHED] != 0)).abs() > 1e-9
    return touched | set(given.index[changed.any(axis=1)])


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    for path in sorted(folder.glob("*.parquet")):
        frame = pd.read_parquet(path)
        rows = [
            (symbol, session.date())
            for symbol, bars in frame.groupby("symbol", sort=False)
            for session in sorted(repaired(symbol, bars))
        ]
        pd.DataFrame(rows, columns=["symbol", "session"]).to_csv(path.with_suffix(".found.csv"), index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
