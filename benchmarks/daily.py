"""`python -m benchmarks.daily FOLDER`: one new session, already fetched, in an installation that holds a history.

FOLDER is what `benchmarks.history --keep` left; it is changed. In the new session every symbol trades, at most two
percent from its last close. It is taken in by a fresh process through Dagster, as `vprism import` does, and its seconds
are split: start of the process, import of the package, reading the file, stages, and what Dagster and its storage add.
"""

from __future__ import annotations

import time

STARTED = time.time()  # before anything heavy is imported

import argparse  # noqa: E402
import os  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
from datetime import timedelta  # noqa: E402
from pathlib import Path  # noqa: E402

MARKET, PROVIDER = "vn", "bench"


def new_session(folder: Path) -> Path:
    """A file with one bar per symbol, dated on the session after the newest one."""
    import polars as pl

    from benchmarks.bulk import installation
    from vprism_pipelines.market.calendars import calendar
    from vprism_pipelines.market.spec import market

    reader = installation(folder).reader
    last = reader.query("SELECT max(session) AS session FROM golden.bars")["session"][0]
    bars = reader.query(
        "SELECT symbol, arg_max(close, session) AS close FROM golden.bars"
        " WHERE symbol LIKE 'VN:STOCK:%' GROUP BY symbol ORDER BY symbol"
    )
    following = calendar(market(MARKET).calendar).sessions(last + timedelta(days=1), last + timedelta(days=30))
    path = folder / f"{following['session'][0]}.parquet"
    day = following["session"][0]
    moved = (pl.int_range(pl.len()) * 7 + day.toordinal()) % 5 - 2
    close = (pl.col("close") * (1 + moved / 100) / 100).round().clip(1) * 100
    prices = dict.fromkeys(("open", "high", "low", "close"), close)
    volume = 100_000 + 100 * (pl.int_range(pl.len()) + day.toordinal() % 97)  # yesterday's would look served again
    bars.with_columns(session=pl.lit(day), **prices, volume=volume).write_parquet(path)
    return path


def take_in(folder: Path, path: Path, spawned: float) -> None:
    """What the fresh process does."""
    loading = time.perf_counter()
    from benchmarks.bulk import Meter, Spent, installation, refresh, table
    from vprism_pipelines.definitions import build_defs  # noqa: F401
    from vprism_pipelines.providers.files import Mapping
    from vprism_pipelines.warehouse.importing import import_file

    loaded = time.perf_counter() - loading
    house, meter = installation(folder), Meter()
    with meter.stage("read, check and remember the file"):
        done = import_file(house, path, Mapping.load("ohlcv", market=MARKET, provider=PROVIDER), "daily")
    refresh(house, MARKET, meter)
    file, graph, *stages = meter.spent
    within = sum(stage.wall for stage in stages)
    beginning = [Spent("start of the process", STARTED - spawned), Spent("import of the package", loaded)]
    split = [*beginning, file, *stages, Spent("Dagster and its storage", graph.wall - within)]
    rows = sum(counts.rows for counts in done.datasets.values())
    print(f"{rows:,} new bars, {os.cpu_count()} cores, load {os.getloadavg()[1]:.1f}\n\n{table(split)}")
    everything = sum(part.wall for part in (*beginning, file, graph))
    used = (file.cpu or 0) + (graph.cpu or 0)
    print(f"\n{everything:.1f} s in all; {used:.1f} CPU s after the start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--spawned", type=float, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.file:
        take_in(asked.folder, asked.file, asked.spawned)
        return
    path = new_session(asked.folder)
    ours = [sys.executable, "-W", "ignore", "-m", "benchmarks.daily", str(asked.folder), "--file", str(path)]
    subprocess.run([*ours, "--spawned", str(time.time())], check=True)


if __name__ == "__main__":
    main()
