"""`python -m benchmarks.scale`: a simulated exchange of growing size: what loading it and reading it take.

    python -m benchmarks.scale [--rows 1000000 4000000 10000000]
    python -m benchmarks.scale --queries-only FOLDER [FOLDER …]

Each size is a process and an installation of its own; FOLDER is one that stands already, of whose published file a copy
is read. The exponent is the slope of log seconds over log rows: 1 means twice the rows take twice as long.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.bulk import Meter, installation, load, simulated
from benchmarks.latency import QUESTIONS, REPEATS, Measured, copied, measured


@dataclass(frozen=True)
class Run:
    """One size: its readers; GB at most and seconds by stage, where it was loaded; the machine's load meanwhile."""

    readers: Measured
    peak: float
    stages: dict[str, float]
    busy: float


def one(asked: str) -> Run:
    """Everything about one size, or about the installation in a folder; run in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        meter = Meter()
        if asked.isdigit():
            files = simulated(Path(folder), int(asked))
            house = installation(Path(folder))
            load(house, files, meter)
        else:
            house = copied(Path(asked), Path(folder))
        stages = {part.stage.removeprefix("– "): part.wall for part in meter.spent}
        readers = measured(house)
        return Run(readers, meter.peak, stages, os.getloadavg()[1])


def exponent(rows: Sequence[int], values: Sequence[float]) -> str:
    """Slope of the logarithms; nothing for what is too short to tell."""
    if len(rows) < 2 or min(values) < 0.01:
        return ""
    return f"{np.polyfit(np.log(rows), np.log(values), 1)[0]:.2f}"


def report(runs: Sequence[Run]) -> str:
    """Markdown: what loading took, what one reader waits, what many are given; a column per size."""
    bars = [run.readers.bars for run in runs]
    loads = ", ".join(f"{run.busy:.1f}" for run in runs)
    stages: list[tuple[str, list[str], list[float]]] = []
    for name in runs[0].stages:
        seconds = [run.stages[name] for run in runs]
        stages.append((f"{name}, s", [f"{value:.2f}" for value in seconds], seconds))
    if stages:
        peaks = [run.peak for run in runs]
        stages.append(("peak memory, GB", [f"{peak:.2f}" for peak in peaks], peaks))
    parts = [
        f"{os.cpu_count()} cores, load {loads}\n",
        *([_table(bars, stages), ""] if stages else []),
        f"One request thread, ms: median / 99th percentile of {REPEATS} answers, or of as many as are named"
        " · processor time of one, whose exponent is given.\n",
        _table(bars, _waits([run.readers for run in runs])),
        "\nAnswers a second: one request thread → one per core → the same with DUCKDB_THREADS=1.\n",
        _table(bars, _rates([run.readers for run in runs])),
    ]
    return "\n".join(parts)


def _waits(readers: Sequence[Measured]) -> list[tuple[str, list[str], list[float]]]:
    """Rows about a single reader, and about the snapshot it waits for."""

    def medians(name: str, of: Callable[[Measured], list[float]]) -> tuple[str, list[str], list[float]]:
        found = [[float(np.median(of(each))), max(of(each))] for each in readers]
        return name, [f"{median:.1f} / {worst:.1f}" for median, worst in found], [median for median, _ in found]

    rows = [(name, [each.latencies[name] for each in readers]) for name in QUESTIONS]
    rows.append(("one symbol, all sessions, while a snapshot is published", [each.beside for each in readers]))
    return [
        *((name, [str(latency) for latency in found], [latency.cpu for latency in found]) for name, found in rows),
        medians("a new snapshot is seen by an open reader after (median / slowest)", lambda each: each.seen),
        medians("publish a snapshot, s (median / slowest)", lambda each: each.publish),
    ]


def _rates(readers: Sequence[Measured]) -> list[tuple[str, list[str], list[float]]]:
    """Rows about many readers."""
    return [
        (
            name,
            [" → ".join(f"{rate:,.0f}" for rate in each.rates[name]) for each in readers],
            [each.rates[name][1] for each in readers],
        )
        for name in readers[0].rates
    ]


def _table(bars: Sequence[int], rows: Sequence[tuple[str, list[str], list[float]]]) -> str:
    """Rows of a name, a cell per size, and the values that tell the exponent."""
    lines = [f"| | {' | '.join(f'{n:,} bars' for n in bars)} | exponent |", f"|---|{'---:|' * (len(bars) + 1)}"]
    lines += [f"| {name} | {' | '.join(cells)} | {exponent(bars, values)} |" for name, cells, values in rows]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 4_000_000, 10_000_000])
    parser.add_argument("--queries-only", nargs="+", metavar="FOLDER", help="installations that stand already")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(asdict(one(asked.one))))
        return
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.scale", "--one"]
    runs = []
    for which in asked.queries_only or map(str, asked.rows):
        done = subprocess.run([*command, which], check=True, stdout=subprocess.PIPE, text=True)
        told = json.loads(done.stdout)
        runs.append(Run(**{**told, "readers": Measured.told(told["readers"])}))
    print(report(runs))


if __name__ == "__main__":
    main()
