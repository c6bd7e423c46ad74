"""`make bench`: what one new session costs against everything at once, and against writing the same rows by hand.

Rounds are interleaved, medians are compared, and the results of both ways are proven equal before time is.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl

from vprism_pipelines.market import indicators
from vprism_pipelines.market.spec import VN
from vprism_pipelines.providers.simulated.exchange import Exchange

SYMBOLS, ROUNDS = 300, 5
START, END = datetime(2021, 1, 4, tzinfo=UTC).date(), datetime(2025, 12, 31, tzinfo=UTC).date()


def history() -> pl.DataFrame:
    """Synthetic traded bars in the shape the indicators read."""
    bars = Exchange(7, SYMBOLS, START, END).bars().filter(pl.col("volume") > 0).sort("symbol", "session")
    numbers = bars.select(pl.col("session").unique().sort()).with_row_index("session_no")
    return bars.join(numbers, on="session", maintain_order="left").select(
        "symbol",
        "session",
        pl.col("session_no").cast(pl.Int32),
        *("open", "high", "low", "close"),
        pl.col("volume").cast(pl.Float64),
        pl.col("value").cast(pl.Float64),
        *(pl.col(name).alias(f"raw_{name}") for name in ("close", "high", "low")),
        *(pl.col(name).alias(f"split_{name}") for name in ("high", "low", "close")),
    )


def interleaved(*ways: Callable[[], object]) -> list[float]:
    """Median seconds of each way, one after the other in every round."""
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(ROUNDS):
        for taken, way in zip(times, ways, strict=True):
            started = time.perf_counter()
            way()
            taken.append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in times]


def new_session(bars: pl.DataFrame) -> tuple[str, float, float]:
    """Indicators of one new session against all of them."""
    last = bars["session"].max()
    _, state = indicators.compute(bars.filter(pl.col("session") < last), annualisation=VN.annualisation)
    from_end = pl.int_range(pl.len(), 0, -1).over("symbol")
    trades = pl.col("session") == last
    tail = bars.filter(from_end <= indicators.LOOKBACK + trades.any().over("symbol").cast(pl.Int64))
    daily, _ = indicators.compute(bars, annualisation=VN.annualisation)
    more, _ = indicators.compute(tail, state, annualisation=VN.annualisation)
    if not daily.filter(trades).sort("symbol").equals(more.sort("symbol")):
        sys.exit("one new session does not equal the full computation")
    full, one = interleaved(
        lambda: indicators.compute(bars, annualisation=VN.annualisation),
        lambda: indicators.compute(tail, state, annualisation=VN.annualisation),
    )
    return f"indicators of one new session / of {bars['session'].n_unique():,}", one, full


def publishing(bars: pl.DataFrame, folder: Path) -> tuple[str, float, float]:
    """Publishing a snapshot against copying the same file."""
    import shutil

    from vprism_pipelines.settings import Settings
    from vprism_pipelines.warehouse.house import House
    from vprism_pipelines.warehouse.publish import publish

    house = House(Settings(data_dir=folder))
    with house.warehouse.transaction() as connection:
        connection.register("bars", bars)
        connection.execute("CREATE TABLE analytics.bench AS SELECT * FROM bars")
    target = folder / "copy.duckdb"
    plain, ours = interleaved(
        lambda: shutil.copyfile(house.warehouse.path, target),
        lambda: publish(house.warehouse, "bench", datetime.now(UTC)),
    )
    with duckdb.connect(str(target), read_only=True) as copied:
        if copied.execute("SELECT count(*) FROM analytics.bench").fetchone() != (bars.height,):
            sys.exit("the copy is not the file")
    return "publish (prove, copy, fsync, open, swap) / plain copy", ours, plain


def main() -> None:
    bars = history()
    print(f"{bars.height:,} synthetic bars, {SYMBOLS} symbols, {ROUNDS} interleaved rounds, medians\n")
    print("| what | ours s | other s | ratio |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, ours, other in (new_session(bars), publishing(bars, Path(folder))):
            print(f"| {name} | {ours:.3f} | {other:.3f} | {ours / other:.3f} |")


if __name__ == "__main__":
    main()
