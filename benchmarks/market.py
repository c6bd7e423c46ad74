"""The market of the races, synthetic: bars.parquet, and single sessions after it to append, one file for each round.

Sides in environments of their own import this module: nothing but the standard library at its top.
"""

from __future__ import annotations

import json
from pathlib import Path

LATER = 24  # sessions held back, more than there are rounds
READ = 20  # symbols, and sessions, read one by one
COLUMNS = ("symbol", "session", "open", "high", "low", "close", "volume", "value")


def write(folder: Path, symbols: int, sessions: int) -> str:
    """Write a market of random walks where every symbol trades in every session; say what it is."""
    import polars as pl

    from benchmarks.analytics import history

    bars = history(symbols, sessions + LATER).select(COLUMNS).with_columns(volume=pl.max_horizontal("volume", 1))
    bars = bars.with_columns(value=pl.col("volume") * pl.col("close"))
    days = bars["session"].unique().sort()
    known = bars.filter(pl.col("session") < days[-LATER])
    known.write_parquet(folder / "bars.parquet")
    for number, day in enumerate(days[-LATER:]):
        bars.filter(session=day).write_parquet(day_file(folder, number))
    chosen = {"symbols": known["symbol"].unique().sort(), "days": days[:-LATER].cast(pl.String)}
    some = {name: series.gather_every(max(len(series) // READ, 1)).to_list()[:READ] for name, series in chosen.items()}
    (folder / "read.json").write_text(json.dumps(some))
    return f"{known.height:,} bars of {symbols:,} symbols"


def day_file(folder: Path, number: int) -> Path:
    """A session that comes after `bars.parquet`: the one of a round."""
    return folder / f"day-{number:02}.parquet"


def symbols_to_read(folder: Path) -> list[str]:
    """Symbols that are read one by one, spread over the market."""
    return list(json.loads((folder / "read.json").read_text())["symbols"])


def days_to_read(folder: Path) -> list[str]:
    """Sessions that are read one by one, spread over its history, as ISO dates."""
    return list(json.loads((folder / "read.json").read_text())["days"])
