"""A whole history through the whole graph, what each part of it took, and what the disk alone would take."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import polars as pl

from vprism_pipelines.providers.files import Mapping
from vprism_pipelines.providers.simulated.exchange import Exchange
from vprism_pipelines.providers.simulated.listing import CAPACITY
from vprism_pipelines.serving.launch import RunReport, run_market
from vprism_pipelines.settings import Settings
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.importing import import_file

BIG = ("clean.bars_ledger", "golden.bars", "analytics.daily")
SESSIONS_START, SESSIONS_END = (date(2015, 1, 5), date(2003, 1, 2)), date(2025, 12, 31)
PROBE = 50  # companies whose bars tell how many most have
FILE_COMPANIES = 2000


@dataclass(frozen=True)
class Spent:
    """What one stage took: seconds on the clock, seconds of all cores, peak memory in GB, rows it left behind.

    The stages of a run share one process: its peak stands on the run, none on them.
    """

    stage: str
    wall: float
    cpu: float | None = None
    peak: float | None = None
    rows: int | None = None


class Meter:
    """Collects what the stages of a process spend."""

    def __init__(self) -> None:
        self.spent: list[Spent] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what happens meanwhile."""
        _forget_peak()
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.spent.append(Spent(name, time.perf_counter() - wall, time.process_time() - cpu, _peak()))

    @property
    def wall(self) -> float:
        """Seconds on the clock so far."""
        return sum(part.wall for part in self.spent)

    @property
    def peak(self) -> float:
        """The largest peak so far."""
        return max((part.peak or 0.0 for part in self.spent), default=0.0)


def installation(folder: Path) -> House:
    """An installation of its own, cut off from the network."""
    return House(Settings(data_dir=folder, duckdb_database=folder / "vprism.duckdb", offline=True))


def load(house: House, files: Sequence[tuple[Path, Mapping]], meter: Meter) -> RunReport:
    """Import files and take them through every asset, publication included.

    Raises:
        SystemExit: The run failed.
    """
    for path, mapping in files:
        with meter.stage(f"import {path.stem}"):
            import_file(house, path, mapping, "bench", trigger="bench")
    return refresh(house, files[0][1].market, meter)


def refresh(house: House, market: str, meter: Meter) -> RunReport:
    """Every asset of a market through Dagster, from what is in the lake.

    Raises:
        SystemExit: The run failed.
    """
    with meter.stage("the graph, through Dagster"):
        report = run_market(house, market, providers=["files"], this_month=True, trigger="bench")
    if not report.success:
        raise SystemExit(f"the run failed: {report.failures}")
    meter.spent += [Spent(f"– {step.asset}", step.seconds, rows=step.rows) for step in report.steps]
    return report


def simulated(folder: Path, rows: int) -> list[tuple[Path, Mapping]]:
    """About so many bars of a simulated exchange in files: eleven years of as many companies as that takes.

    Where there are not so many companies, they are followed from 2003 on.
    """
    start, companies = next(
        ((day, count) for day in SESSIONS_START if (count := _companies(rows, day)) <= CAPACITY),
        (SESSIONS_START[-1], CAPACITY),
    )
    symbols = Exchange(7, companies, start, SESSIONS_END).symbols
    files = []
    for first in range(0, len(symbols), FILE_COMPANIES):
        bars = Exchange(7, symbols[first : first + FILE_COMPANIES], start, SESSIONS_END).bars()
        path = folder / f"simulated-{len(files)}.parquet"
        bars.select("symbol", "session", "open", "high", "low", "close", "volume", "value").write_parquet(path)
        files.append((path, Mapping.load("ohlcv", market="vn", provider="bench")))
    return files


def _companies(rows: int, start: date) -> int:
    """How many companies have so many bars from a day on."""
    return max(2, round(rows * PROBE / Exchange(7, PROBE, start, SESSIONS_END).bars().height))


def limits(house: House) -> list[Spent]:
    """What the hardware alone takes: the bytes of the warehouse copied, and every value of its big tables read once."""
    meter = Meter()
    with meter.stage("copy the bytes of the warehouse, fsync"):
        copy = house.warehouse.path.with_suffix(".copy")
        shutil.copyfile(house.warehouse.path, copy)
        with copy.open("rb+") as handle:
            os.fsync(handle.fileno())
    copy.unlink()
    with duckdb.connect(str(house.settings.database), read_only=True) as connection:
        for table in BIG:
            with meter.stage(f"read every value of {table} once"):
                connection.execute(f"SELECT bit_xor(hash(t)) FROM {table} AS t").fetchone()
    return meter.spent


def table(spent: Sequence[Spent]) -> str:
    """Markdown."""

    def shown(value: float | None, digits: int = 1) -> str:
        return "" if value is None else f"{value:.{digits}f}"

    head = "| stage | wall s | CPU s | peak GB | rows |\n|---|---:|---:|---:|---:|\n"
    return head + "\n".join(
        f"| {part.stage} | {shown(part.wall)} | {shown(part.cpu)} | {shown(part.peak, 2)}"
        f" | {'' if part.rows is None else f'{part.rows:,}'} |"
        for part in spent
    )


def bars_in(house: House) -> int:
    """Bars in the ledger."""
    with duckdb.connect(str(house.settings.database), read_only=True) as connection:
        found = pl.DataFrame(connection.execute("SELECT count(*) AS n FROM clean.bars_ledger").to_arrow_table())
    return int(found["n"][0])


def _forget_peak() -> None:
    """Linux counts the peak anew from here on; elsewhere it stays that of the process."""
    peak = Path("/proc/self/clear_refs")
    if peak.exists():
        peak.write_text("5")


def _peak() -> float | None:
    """Peak resident memory in GB since it was forgotten."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) / 1e6
