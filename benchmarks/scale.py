"""`python -m benchmarks.scale`: a simulated exchange of growing size: seconds and memory by stage, and how they grow.

    python -m benchmarks.scale [--rows 1000000 4000000 10000000]

Each size is a process and an installation of its own. The exponent is the slope of log seconds over log rows: 1 means
twice the rows take twice as long. Queries are medians on the published snapshot, on one open connection.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from benchmarks.bulk import Meter, bars_in, installation, load, simulated

REPEATS = 15
RECENT = "session > (SELECT max(session) FROM golden.bars) - 365"
QUERIES = {
    "open the snapshot, first query": "SELECT max(session) FROM golden.bars",
    "one symbol, all sessions": "FROM golden.bars WHERE symbol = '{symbol}' ORDER BY session",
    "one symbol, a year": f"FROM golden.bars WHERE symbol = '{{symbol}}' AND {RECENT} ORDER BY session",
    "one session, all symbols": "FROM golden.bars WHERE session = (SELECT max(session) FROM golden.bars)",
    "quotes of 500 symbols, from the history": "SELECT symbol, arg_max(close, session) FROM golden.bars"
    " WHERE symbol IN (SELECT symbol FROM analytics.latest LIMIT 500) GROUP BY symbol",
    "quotes of 500 symbols, from analytics.latest": "SELECT symbol, close, change FROM analytics.latest LIMIT 500",
    "screener, from analytics.latest": "SELECT symbol FROM analytics.latest WHERE rsi_14 < 30 AND adv_20 > 1e9",
    "screener with a year's statistics": "SELECT symbol, stddev(ret_1d), avg(ret_1d) FROM analytics.daily"
    f" WHERE {RECENT} GROUP BY symbol ORDER BY 2 DESC LIMIT 50",
}


def one(rows: int) -> dict[str, object]:
    """Everything about one size; run in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        files = simulated(Path(folder), rows)
        house, meter = installation(Path(folder)), Meter()
        load(house, files, meter)
        return {
            "rows": bars_in(house),
            "peak": meter.peak,
            "stages": {part.stage.removeprefix("– "): part.wall for part in meter.spent},
            "queries": _queries(house.settings.database),
        }


def _queries(database: Path) -> dict[str, float]:
    """Milliseconds of each query."""
    first, *others = QUERIES
    taken = {first: _median(lambda: _open_and_ask(database, QUERIES[first]))}
    with duckdb.connect(str(database), read_only=True) as connection:
        found = connection.execute("SELECT min(symbol) FROM analytics.latest").fetchone()
        for name in others:
            sql = QUERIES[name].format(symbol=found[0] if found else "")
            taken[name] = _median(lambda sql=sql: connection.execute(sql).fetchall())
    return taken


def _open_and_ask(database: Path, sql: str) -> None:
    with duckdb.connect(str(database), read_only=True) as connection:
        connection.execute(sql).fetchall()


def _median(ask: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        ask()
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def exponent(rows: list[int], values: list[float]) -> str:
    """Slope of the logarithms; nothing for what is too short to tell."""
    if len(rows) < 2 or min(values) < 0.01:
        return ""
    return f"{np.polyfit(np.log(rows), np.log(values), 1)[0]:.2f}"


def report(runs: list[dict[str, Any]]) -> str:
    """Markdown: a column per size."""
    rows = [run["rows"] for run in runs]
    lines = [f"| | {' | '.join(f'{n:,} bars' for n in rows)} | exponent |", f"|---|{'---:|' * (len(rows) + 1)}"]
    measured = [(f"{name}, s", [run["stages"][name] for run in runs]) for name in runs[0]["stages"]]
    measured.append(("peak memory, GB", [run["peak"] for run in runs]))
    measured += [(f"{name}, ms", [run["queries"][name] for run in runs]) for name in runs[0]["queries"]]
    for name, values in measured:
        lines.append(f"| {name} | {' | '.join(f'{value:.2f}' for value in values)} | {exponent(rows, values)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 4_000_000, 10_000_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one(asked.one)))
        return
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.scale", "--one"]
    runs = [
        json.loads(subprocess.run([*command, str(rows)], check=True, capture_output=True, text=True).stdout)
        for rows in asked.rows
    ]
    print(report(runs))


if __name__ == "__main__":
    main()
