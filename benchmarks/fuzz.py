"""`python -m benchmarks.fuzz`: damaged answers against every parser; nothing but rows of the contract or a typed error.

A body fails when the parser raises anything but a `ProviderError`, returns frames that break the raw contract, takes
longer than two seconds of processor time, or more than 500 MB. Body `n` of a parser is always the same bytes:

    python -m benchmarks.fuzz --bodies 100000 --parsers tencent sina
    python -m benchmarks.fuzz --parsers tencent --first 4711 --bodies 1 --show
"""

from __future__ import annotations

import argparse
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cache
from pathlib import Path
from random import Random
from types import FrameType

import polars as pl

from benchmarks.fuzz_bodies import NOW, bodies
from benchmarks.fuzz_mutations import damaged
from vprism_pipelines import tables
from vprism_pipelines.errors import ProviderError
from vprism_pipelines.providers import registry
from vprism_pipelines.providers.base import Parsed, Payload, Provider

__all__ = ["PARSERS", "Report", "fuzz"]

PARSERS: tuple[str, ...] = (*registry.PROVIDERS, "detective")
SLOWEST_SECONDS, LARGEST_MB = 2.0, 500.0
_HANGS_AFTER = 10.0
_STATUSES = (*(200,) * 20, 0, 204, 301, 400, 403, 404, 410, 429, 500)
_WINDOWS: tuple[tuple[date | None, date | None], ...] = (
    *((None, None),) * 3,
    (date(2024, 1, 3), date(2024, 1, 5)),
    (date(2024, 1, 3), None),
    (date(1990, 1, 1), date(1990, 1, 2)),
)


@dataclass(slots=True)
class Report:
    """What became of the bodies of one parser.

    Attributes:
        parser: Its name.
        bodies: How many there were.
        outcomes: Bodies by `rows` or by the code of the typed error.
        slowest: Seconds of processor time that the slowest took.
        grown: Megabytes by which one body raised the most memory the process ever held, at most.
        failures: Number of each body that failed, and why.
    """

    parser: str
    bodies: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    grown: float = 0.0
    failures: list[tuple[int, str]] = field(default_factory=list)


def fuzz(parser: str, count: int, *, first: int = 0, recordings: Path | None = None) -> Report:
    """Damage sound answers and have them parsed.

    Args:
        parser: One of `PARSERS`.
        count: How many bodies.
        first: Number of the first one.
        recordings: Folder of recorded answers, damaged as well; other bodies then have the same number.
    """
    sound = bodies(parser, recordings)
    readers = [registry.parser_of(payload.request, clock=lambda: NOW) for payload in sound]
    report = Report(parser)
    for number in range(first, first + count):
        place, payload = _damaged(parser, number, sound)
        held, started = _megabytes(), time.process_time()
        outcome, failure = _outcome(readers[place], payload)
        seconds = time.process_time() - started
        report.bodies += 1
        report.outcomes[outcome] += 1
        grown = _megabytes() - held
        report.slowest, report.grown = max(report.slowest, seconds), max(report.grown, grown)
        if seconds > SLOWEST_SECONDS or grown > LARGEST_MB:
            failure = f"took {seconds:.1f} s and {grown:.0f} MB"
        if failure:
            report.failures.append((number, failure))
    return report


def _damaged(parser: str, number: int, sound: Sequence[Payload]) -> tuple[int, Payload]:
    random = Random(f"{parser}:{number}")
    place = random.randrange(len(sound))
    origin = sound[place]
    start, end = random.choice(_WINDOWS)
    asked = replace(origin.request, start=start, end=end)
    if random.random() < 0.1:
        asked = replace(asked, provider_symbol=random.choice((None, "Y", "sh688981", "^X")))
    status = random.choice(_STATUSES) if origin.status == 200 else origin.status
    return place, replace(origin, request=asked, status=status, body=damaged(origin.body, random))


def _outcome(provider: Provider, payload: Payload) -> tuple[str, str]:
    """Rows or an error code, and what is wrong with it."""
    try:
        with _alarm():
            parsed = provider.parse(payload)
    except ProviderError as error:
        return error.code, "" if error.hint else f"{error.code} without a hint"
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of polars is no Exception
        return type(error).__name__, f"{type(error).__name__}: {str(error)[:200]}"
    return "rows", "; ".join(broken(parsed, finite=not payload.request.url.startswith("file:")))


def broken(parsed: Parsed, *, finite: bool = True) -> Iterator[str]:
    """What breaks the raw contracts in parsed frames; the same rules as `quality.contracts`, fast.

    Args:
        parsed: What a parser returned.
        finite: Numbers must be finite. Files are let off: their rows are judged one by one, when they are cleaned.
    """
    for dataset, frame in parsed.frames.items():
        table = _raw(dataset)
        if frame.schema != table.polars_schema:
            yield f"{dataset}: the columns are {frame.schema}"
            continue
        if not frame["row"].is_unique().all():
            yield f"{dataset}: a row is there twice"
        wrong = frame.select(**_rules(table, finite)).row(0, named=True)
        yield from (f"{dataset}: {what}" for what, found in wrong.items() if found)


@cache
def _raw(dataset: str) -> tables.Table:
    """The raw table of a dataset."""
    return next(table for table in tables.RAW_TABLES if table.name == dataset)


@cache
def _rules(table: tables.Table, finite: bool) -> Mapping[str, pl.Expr]:
    """Whether some row breaks a rule, by what is wrong."""
    rules = {f"{c.name} is null": pl.col(c.name).null_count() > 0 for c in table.columns if not c.nullable}
    for c in table.columns:
        if finite and c.type == "DOUBLE":
            rules[f"{c.name} is not finite"] = ~pl.col(c.name).is_finite().all()
        if c.rule == "positive":
            rules[f"{c.name} is not positive"] = (pl.col(c.name) <= 0).any()
    return rules


@contextmanager
def _alarm() -> Iterator[None]:
    """A parser that hangs is interrupted, so that the run goes on and says so."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"not done after {_HANGS_AFTER:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, _HANGS_AFTER)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _megabytes() -> float:
    """The most memory this process ever held."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of what became of the bodies; 1 when any failed."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--bodies", type=int, default=2_000, help="per parser")
    options.add_argument("--first", type=int, default=0, help="number of the first body")
    options.add_argument("--parsers", nargs="*", default=PARSERS, choices=PARSERS)
    options.add_argument("--recordings", type=Path, help="folder of recorded answers with its INDEX.md")
    options.add_argument("--show", action="store_true", help="print the bodies too")
    given = options.parse_args(arguments)
    failed = 0
    print("| parser | bodies | s | rows | typed errors | slowest ms | grown MB | failed |")
    print("|---|---|---|---|---|---|---|---|")
    for parser in given.parsers:
        started = time.perf_counter()
        report = fuzz(parser, given.bodies, first=given.first, recordings=given.recordings)
        errors = ", ".join(f"{code} {n:,}" for code, n in report.outcomes.most_common() if code != "rows")
        print(
            f"| {parser} | {report.bodies:,} | {time.perf_counter() - started:.0f} | {report.outcomes['rows']:,} |"
            f" {errors} | {report.slowest * 1e3:.0f} | {report.grown:.0f} | {len(report.failures)} |",
            flush=True,
        )
        for number, why in report.failures[:20]:
            print(f"    {parser} {number}: {why}", file=sys.stderr)
        failed += len(report.failures)
        if given.show:
            sound = bodies(parser, given.recordings)
            for number in range(given.first, given.first + given.bodies):
                place, payload = _damaged(parser, number, sound)
                print(f"{number} (body {place}, HTTP {payload.status}): {payload.body[:5000]!r}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
