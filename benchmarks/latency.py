"""How long a published warehouse takes to answer, how many answers it gives a second, how soon it shows a new snapshot.

Questions go through the `Reader` that the library and the command line read with, and are answered as Arrow. Each is
about symbols and a session of its own, drawn at random: what is warm is the file, not the answer.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.bulk import bars_in, installation
from vprism_pipelines.settings import Settings
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.publish import publish
from vprism_pipelines.warehouse.reader import Reader

REPEATS = 500
SECONDS = 6.0  # for one question over and over; what is slow is asked less often
BUSY_SECONDS = 2.0  # for the same with many request threads
QUOTED = 500  # symbols in one question for quotes
PUBLISHES = 3
OPENING = "open the snapshot, first answer"
HISTORY = "one symbol, all sessions"
QUESTIONS = {
    OPENING: "SELECT max(snapshot) FROM ops.snapshots",
    HISTORY: "FROM golden.bars WHERE symbol = $symbol ORDER BY session",
    "one symbol, a year": "FROM golden.bars WHERE symbol = $symbol AND session > $since ORDER BY session",
    "one session, all symbols": "FROM golden.bars WHERE session = $session",
    f"quotes of {QUOTED} symbols, from the history": "SELECT symbol, arg_max(close, session) AS close FROM golden.bars"
    " WHERE symbol IN (SELECT unnest($symbols)) GROUP BY symbol",
    f"quotes of {QUOTED} symbols, from analytics.latest": "SELECT symbol, close, change FROM analytics.latest"
    " WHERE symbol IN (SELECT unnest($symbols))",
    "screener of a session, from the history": "SELECT symbol FROM analytics.daily"
    " WHERE session = $session AND rsi_14 < 30 AND pct_from_high < -0.2",
    "screener, from analytics.latest": "SELECT symbol FROM analytics.latest WHERE rsi_14 < 30 AND pct_from_high < -0.2",
    "screener with a year's statistics": "SELECT symbol, stddev(ret_1d), avg(ret_1d) FROM analytics.daily"
    " WHERE session > $since GROUP BY symbol ORDER BY 2 DESC LIMIT 50",
}
_WITH_SNAPSHOT = (
    "SELECT *, (SELECT max(snapshot) FROM ops.snapshots) AS snapshot FROM golden.bars WHERE symbol = $symbol"
)


@dataclass(frozen=True)
class Latency:
    """Milliseconds of so many answers; of fewer than a hundred the 99th percentile is next to the slowest.

    Attributes:
        cpu: Of all cores for one answer: what tells most on a machine that others use as well.
    """

    p50: float
    p99: float
    mean: float
    cpu: float
    answers: int

    @classmethod
    def of(cls, seconds: Sequence[float], cpu: float) -> Latency:
        p50, p99 = 1000 * np.quantile(seconds, (0.5, 0.99))
        count = len(seconds)
        return cls(float(p50), float(p99), 1000 * sum(seconds) / count, 1000 * cpu / count, count)

    def __str__(self) -> str:
        named = "" if self.answers == REPEATS else f" of {self.answers}"
        return f"{self.p50:.1f} / {self.p99:.1f}{named} · {self.cpu:.1f}"


@dataclass(frozen=True)
class Measured:
    """A published warehouse.

    Attributes:
        bars: In the ledger.
        latencies: By question, asked by one thread.
        rates: By question, answers a second: one request thread; as many as cores; the same with one DuckDB thread for
            all of them.
        publish: Seconds that publishing took.
        seen: Milliseconds from the swap of the published file to the first answer of an open reader from it.
        beside: A symbol's history, asked while a snapshot is published by another process.
    """

    bars: int
    latencies: dict[str, Latency]
    rates: dict[str, tuple[float, float, float]]
    publish: list[float]
    seen: list[float]
    beside: Latency

    @classmethod
    def told(cls, told: dict[str, Any]) -> Measured:
        """What another process wrote as JSON."""
        latencies = {name: Latency(**latency) for name, latency in told.pop("latencies").items()}
        return cls(latencies=latencies, beside=Latency(**told.pop("beside")), **told)


class Draw:
    """Parameters of a question, drawn anew each time it is asked.

    Args:
        reader: Whose symbols and sessions may be asked for.
        seed: Draws are the same again.
    """

    def __init__(self, reader: Reader, seed: int = 7) -> None:
        self._random = random.Random(seed)
        self._symbols = reader.query("SELECT symbol FROM analytics.latest ORDER BY symbol")["symbol"].to_list()
        sessions = reader.query("SELECT DISTINCT session FROM golden.bars ORDER BY session")["session"].to_list()
        self._sessions, self._since = sessions, sessions[-1] - timedelta(days=365)

    def __call__(self, sql: str) -> dict[str, object]:
        """A value for every parameter that a statement names."""
        drawn: dict[str, Callable[[], object]] = {
            "symbol": lambda: self._random.choice(self._symbols),
            "symbols": lambda: self._random.sample(self._symbols, min(QUOTED, len(self._symbols))),
            "session": lambda: self._random.choice(self._sessions),
            "since": lambda: self._since,
        }
        return {name: drawn[name]() for name in re.findall(r"\$(\w+)", sql)}


def copied(source: Path, folder: Path) -> House:
    """An installation whose warehouse is a copy of what another has published."""
    house = installation(folder)
    house.warehouse.path.parent.mkdir(parents=True)
    shutil.copyfile(installation(source).settings.database, house.warehouse.path)
    publish(house.warehouse, "bench", datetime.now(UTC))
    return house


def measured(house: House) -> Measured:
    """Ask every question, with one request thread and with many, then publish beside a reader."""
    settings, cores = house.settings, os.cpu_count() or 1
    with Reader(settings) as reader:
        draw = Draw(reader)
    latencies = {OPENING: _latency(lambda _: _opened(settings), dict)}
    alone, together, narrow = {}, {}, {}
    with Reader(settings) as reader:
        for name, sql in QUESTIONS.items():
            if name != OPENING:
                latencies[name] = _latency(partial(reader.arrow, sql), partial(draw, sql))
                alone[name] = 1000 / latencies[name].mean
                together[name] = _rate(reader, sql, cores)
    with Reader(settings, threads=1) as reader:
        for name in alone:
            narrow[name] = _rate(reader, QUESTIONS[name], cores)
    rates = {name: (alone[name], together[name], narrow[name]) for name in alone}
    return Measured(bars_in(house), latencies, rates, *_beside_publishing(house, draw))


def _opened(settings: Settings) -> None:
    with Reader(settings) as reader:
        reader.arrow(QUESTIONS[OPENING])


def _latency(ask: Callable[[dict[str, object]], object], draw: Callable[[], dict[str, object]]) -> Latency:
    """Ask over and over; the first answer is not counted."""
    ask(draw())
    taken: list[float] = []
    cpu, deadline = time.process_time(), time.perf_counter() + SECONDS
    while len(taken) < REPEATS and time.perf_counter() < deadline:
        given, started = draw(), time.perf_counter()
        ask(given)
        taken.append(time.perf_counter() - started)
    return Latency.of(taken, time.process_time() - cpu)


def _rate(reader: Reader, sql: str, threads: int) -> float:
    """Answers a second to so many threads that ask one question after the other."""
    draws = [Draw(reader, seed) for seed in range(threads)]
    reader.arrow(sql, draws[0](sql))
    started = time.perf_counter()

    def answers(draw: Draw) -> int:
        count = 0
        while time.perf_counter() < started + BUSY_SECONDS:
            reader.arrow(sql, draw(sql))
            count += 1
        return count

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(answers, draws)) / (time.perf_counter() - started)


def _beside_publishing(house: House, draw: Draw) -> tuple[list[float], list[float], Latency]:
    """`publish`, `seen` and `beside` of `Measured`: a reader stays open while another process publishes."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.latency", str(house.settings.data_dir)]
    answers: list[tuple[float, float, int]] = []
    with Reader(house.settings) as reader:
        publisher = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        running, cpu = True, time.process_time()
        while running:
            running = publisher.poll() is None  # once more after its end: the last snapshot is seen by then
            given, asked = draw(_WITH_SNAPSHOT), time.time()
            table: pa.Table = reader.arrow(_WITH_SNAPSHOT, given)
            answers.append((asked, time.time(), table["snapshot"][0].as_py()))
        cpu = (time.process_time() - cpu) / len(answers)
    assert publisher.stdout is not None
    published = [json.loads(line) for line in publisher.stdout]
    publisher.stdout.close()
    if publisher.returncode:
        sys.exit("publishing failed")
    beside = [
        answered - asked
        for asked, answered, _ in answers
        if any(asked < entry["ended"] and answered > entry["started"] for entry in published)
    ]
    seen = [
        next(answered for _, answered, snapshot in answers if snapshot >= entry["snapshot"]) - entry["swapped"]
        for entry in published
    ]
    publish_seconds = [entry["ended"] - entry["started"] for entry in published]
    return publish_seconds, [1000 * seconds for seconds in seen], Latency.of(beside, cpu * len(beside))


def _publish_again(house: House) -> None:
    """What the publishing process does: one JSON line per snapshot, times of the clock."""
    for _ in range(PUBLISHES):
        started = time.time()
        done = publish(house.warehouse, "bench", datetime.now(UTC))
        ended = time.time()
        # Giving the snapshot the published name was the last change to the file's entry.
        swapped = house.settings.database.stat().st_ctime
        print(json.dumps({"snapshot": done.snapshot, "started": started, "swapped": swapped, "ended": ended}))
        time.sleep(1)


if __name__ == "__main__":
    _publish_again(installation(Path(sys.argv[1])))
