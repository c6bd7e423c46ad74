"""`python -m benchmarks.validation`: every contract and row rule against what pandera needs for the contract alone.

    python -m benchmarks.validation [FILE=MAPPING] [--rows 2900000]

Ours: the contract of the raw rows, the rules of the market, and the contract of the ledger, over the same rows. Rounds
take turns, medians of the seconds of all cores are compared, and the two must agree that the rows are sound.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from benchmarks.bulk import simulated
from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.market.spec import MarketSpec, market
from vprism_pipelines.providers import files
from vprism_pipelines.providers.files import FilesProvider, Mapping
from vprism_pipelines.quality.contracts import contract, holds
from vprism_pipelines.quality.row_rules import bar_rules
from vprism_pipelines.tables import CLEAN_BARS, RAW_BARS
from vprism_pipelines.warehouse.ingest import clean_raw

ROUNDS = 3


def rows_of(path: Path, mapping: Mapping, rows: int) -> tuple[pl.DataFrame, pl.DataFrame, MarketSpec]:
    """Raw rows of a file, the same rows as the ledger takes them, and their market."""
    payload = files.read(path, mapping, datetime.now(UTC))
    raw = FilesProvider(name=mapping.provider).parse(payload).frames["bars"].head(rows)
    pull = pl.DataFrame({"fetch_id": [payload.fetch_id], "provider": [mapping.provider]})
    pull = pull.with_columns(fetched_at=pl.lit(payload.fetched_at).cast(pl.Datetime("us", "UTC")))
    spec = market(mapping.market)
    accepted = clean_raw(raw, pull, spec, "bars").accepted
    stamped = accepted.with_columns(known_to=None, change_class=pl.lit(""), batch=pl.lit(0))
    return raw, CLEAN_BARS.conform(stamped), spec


def ours(raw: pl.DataFrame, clean: pl.DataFrame, spec: MarketSpec) -> bool:
    """Contract of the raw rows, rules of the market, contract of the ledger."""
    days = calendar(spec.calendar)
    sessions = days.sessions(days.first_session, days.last_session).with_columns(calendar=pl.lit(spec.calendar))
    bars = clean.with_row_index("place").with_columns(fetched_at="known_from", calendar=pl.lit(spec.calendar))
    known = sessions.select("calendar", "session", session_close=pl.col("close"))
    frame, rules = bar_rules(bars.join(known, on=["calendar", "session"], maintain_order="left"), sessions, spec)
    broken = frame.select(rule.fill_null(value=False).any().alias(name) for name, rule in rules.items())
    return holds(RAW_BARS, raw) and holds(CLEAN_BARS, clean) and not any(broken.row(0))


def seconds(work: Callable[[], object]) -> float:
    """Of all cores."""
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", metavar="FILE=MAPPING")
    parser.add_argument("--rows", type=int, default=2_900_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        named = asked.file.rsplit("=", 1) if asked.file else None
        path, mapping = (Path(named[0]), Mapping.load(named[1])) if named else simulated(Path(folder), asked.rows)[0]
        raw, clean, spec = rows_of(path, mapping, asked.rows)
    contract(CLEAN_BARS).validate(clean, lazy=True)
    if not ours(raw, clean, spec):
        sys.exit("pandera finds these rows sound, we do not")
    turns = [
        (seconds(lambda: contract(CLEAN_BARS).validate(clean, lazy=True)), seconds(lambda: ours(raw, clean, spec)))
        for _ in range(ROUNDS)
    ]
    pandera, everything = (statistics.median(taken) for taken in zip(*turns, strict=True))
    print(f"{clean.height:,} rows, {ROUNDS} rounds in turns, median CPU seconds\n")
    print("| pandera, the contract alone | two contracts and every row rule | ratio |\n|---:|---:|---:|")
    print(f"| {pandera:.2f} | {everything:.2f} | {everything / pandera:.2f} |")


if __name__ == "__main__":
    main()
