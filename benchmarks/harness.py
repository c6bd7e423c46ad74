"""Races: every side does the same task, in turns, and must give the same answer before its time counts.

Each side is a process of its own (`benchmarks.worker`). After a round that warms up and whose answers are compared,
the sides take turns; medians are compared, as ratios of one run on one machine.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks import peers
from benchmarks.peers import Unavailable

HERE = Path(__file__).parent
SIDES = HERE / "sides"
KEY = ["symbol", "session"]


@dataclass(frozen=True)
class Runner:
    """One way to do a task.

    Attributes:
        name: What the tables call it.
        side: File of its side.
        method: Name of its method there.
        tolerance: Largest difference from our answer, as a share of the largest value of the column.
    """

    name: str
    side: str
    method: str
    tolerance: float = 1e-9


@dataclass(frozen=True)
class Bar:
    """What must hold: `runner` takes at most `most` times what `other` takes."""

    runner: str
    other: str
    most: float


@dataclass(frozen=True)
class Task:
    """What is done, by whom, and what must hold. Ratios and answers are measured against the first runner, ours.

    Attributes:
        per_column: Compare seconds by column of the answer: the sides compute sets of columns of their own.
    """

    title: str
    runners: tuple[Runner, ...]
    bars: tuple[Bar, ...] = ()
    per_column: bool = False


@dataclass(frozen=True)
class Race:
    """Tasks over the same data.

    Attributes:
        key: Short name.
        data: Writes the data into a folder at a share of the full size, and says what it is.
        environments: Side -> environment of its peer; a side that is not named runs in ours.
        tasks: In order; a round of one is over before the next begins.
    """

    key: str
    data: Callable[[Path, float], str]
    environments: Mapping[str, str]
    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class Result:
    """How one runner did.

    Attributes:
        seconds: Round by round; none if there was trouble.
        cpu: The same, of all cores together: what is left of a comparison on a machine that others use as well.
        agreement: How well its answer agrees with ours.
        trouble: Why it was not timed.
        disagrees: The trouble is that its answer is another one.
        columns: Of its answer, where seconds are compared by column.
    """

    runner: str
    seconds: tuple[float, ...] = ()
    cpu: tuple[float, ...] = ()
    agreement: str = ""
    trouble: str = ""
    disagrees: bool = False
    columns: int = 1

    @property
    def median(self) -> float:
        return statistics.median(self.seconds) / self.columns


@dataclass(frozen=True)
class Verdict:
    """A bar and the ratio that was measured; None: one of both sides did not take part."""

    bar: Bar
    ratio: float | None

    @property
    def missed(self) -> bool:
        return self.ratio is not None and round(self.ratio, 12) > self.bar.most


@dataclass(frozen=True)
class Outcome:
    """A task and how it went."""

    task: Task
    data: str
    results: tuple[Result, ...] = field(default=())

    @property
    def ours(self) -> Result:
        return self.results[0]

    def ratio(self, runner: str, other: str) -> float | None:
        """Median of one in terms of another's."""
        medians = {result.runner: result.median for result in self.results if result.seconds}
        return medians[runner] / medians[other] if runner in medians and other in medians else None

    @property
    def verdicts(self) -> list[Verdict]:
        return [Verdict(bar, self.ratio(bar.runner, bar.other)) for bar in self.task.bars]


class Worker:
    """A side's process.

    Raises:
        Unavailable: It ended: its error is the reason.
    """

    def __init__(self, python: Path, script: Path, data: Path, own: Path) -> None:
        own.mkdir(parents=True)
        self._errors = (own / "stderr.txt").open("w+")
        self._process = subprocess.Popen(
            [python, HERE / "worker.py", script, data, own],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )
        self._answer()

    def time(self, method: str, number: int) -> tuple[float, float]:
        """Seconds of one call: on the clock, and of all cores together."""
        told = self._ask({"time": method, "round": number})
        return told["seconds"], told["cpu"]

    def answer(self, method: str, path: Path) -> pl.DataFrame:
        """What a task gave, in the terms of the comparison."""
        self._ask({"answer": method, "path": str(path)})
        frame = pl.read_parquet(path)
        path.unlink()
        return frame.cast({"symbol": pl.String, "session": pl.Date})

    def close(self) -> None:
        """End it, and whatever processes it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()

    def _ask(self, order: Mapping[str, object]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        told: dict[str, Any] = json.loads(line)
        if "error" in told:
            raise Unavailable(f"failed: {told['error']}")
        return told

    def _ended(self) -> Unavailable:
        status = self._process.wait()
        self._errors.seek(0)
        said = [line for line in self._errors.read().splitlines() if line.strip()]
        return Unavailable(f"ended with status {status}: {(said or ['no word'])[-1].strip()}")


def run(race: Race, rounds: int, share: float, folder: Path, sides: Path = SIDES) -> Iterator[Outcome]:
    """Run the tasks of a race; see the module."""
    data = folder / "data"
    data.mkdir()
    described = race.data(data, share)
    with _workers(race, data, folder, sides) as (workers, absent):
        for task in race.tasks:
            yield Outcome(task, described, tuple(_task(task, workers, absent, rounds, folder)))


@contextmanager
def _workers(
    race: Race, data: Path, folder: Path, sides: Path
) -> Iterator[tuple[dict[str, Worker], dict[str, Unavailable]]]:
    workers: dict[str, Worker] = {}
    absent: dict[str, Unavailable] = {}
    with ExitStack() as stack:
        for side in dict.fromkeys(runner.side for task in race.tasks for runner in task.runners):
            try:
                python = peers.interpreter(race.environments.get(side, peers.OURS))
                workers[side] = Worker(python, sides / f"{side}.py", data, folder / side)
                stack.callback(workers[side].close)
            except Unavailable as reason:
                absent[side] = reason
        yield workers, absent


def _task(
    task: Task, workers: Mapping[str, Worker], absent: Mapping[str, Unavailable], rounds: int, folder: Path
) -> Iterator[Result]:
    """Warm up and compare the answers, then time in turns those that agree."""
    answers: dict[str, Result] = {}
    reference: pl.DataFrame | None = None
    for runner in task.runners:
        try:
            if runner.side in absent:
                raise absent[runner.side]
            workers[runner.side].time(runner.method, 0)
            answer = workers[runner.side].answer(runner.method, folder / "answer.parquet")
        except Unavailable as reason:
            answers[runner.name] = Result(runner.name, trouble=str(reason))
            continue
        reference = answer if runner is task.runners[0] else reference
        answers[runner.name] = _compared(runner, answer, reference, task.per_column)
    for number in range(1, rounds + 1):
        for runner in task.runners:
            result = answers[runner.name]
            if not result.trouble:
                answers[runner.name] = _once_more(result, workers[runner.side], runner.method, number)
    yield from answers.values()


def _once_more(result: Result, worker: Worker, method: str, number: int) -> Result:
    try:
        seconds, cpu = worker.time(method, number)
    except Unavailable as reason:
        return replace(result, seconds=(), trouble=str(reason))
    return replace(result, seconds=(*result.seconds, seconds), cpu=(*result.cpu, cpu))


def _compared(runner: Runner, answer: pl.DataFrame, ours: pl.DataFrame | None, per_column: bool) -> Result:
    columns = len(answer.columns) - len(KEY) if per_column else 1
    if ours is None:
        return Result(runner.name, trouble="nothing to compare with: our side did not finish")
    try:
        agreement = "the others are compared with it" if answer is ours else agree(answer, ours, runner.tolerance)
    except ValueError as difference:
        return Result(runner.name, trouble=f"another answer: {difference}", disagrees=True)
    return Result(runner.name, agreement=agreement, columns=columns)


def agree(theirs: pl.DataFrame, ours: pl.DataFrame, tolerance: float) -> str:
    """How well an answer agrees with ours, in the columns both have, wherever we have a value.

    Libraries disagree about the first values of a window; where we have none, theirs may be anything.

    Raises:
        ValueError: It does not, and where.
    """
    shared = [column for column in ours.columns if column in theirs.columns and column not in KEY]
    both = ours.select(*KEY, *shared).join(theirs.select(*KEY, *shared), on=KEY, how="left", suffix=" theirs")
    if both.height != ours.height or not shared:
        raise ValueError(f"{theirs.height:,} rows against {ours.height:,}, {len(shared)} columns in common")
    worst = 0.0
    for column in shared:
        mine, other = both[column].cast(pl.Float64), both[f"{column} theirs"].cast(pl.Float64)
        other = other.set(mine.is_null(), None)
        if other.fill_nan(None).null_count() > mine.null_count():
            raise ValueError(f"{column} lacks {other.fill_nan(None).null_count() - mine.null_count():,} values")
        difference = _largest(mine - other) / (_largest(mine) or 1.0)
        if round(difference, 12) > tolerance:
            raise ValueError(f"{column} differs by {difference:.1e} of its largest value")
        worst = max(worst, difference)
    return (
        f"{both.height * len(shared):,} values within {tolerance:g}"
        if worst
        else f"{both.height * len(shared):,} equal"
    )


def _largest(values: pl.Series) -> float:
    largest = values.abs().max()
    return float(largest) if isinstance(largest, int | float) else 0.0
