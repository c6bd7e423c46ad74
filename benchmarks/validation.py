"""`python -m benchmarks.validation`: contracts and market rules against what pandera needs for the contract alone.

    python -m benchmarks.validation [FILE=MAPPING] [--rows 2900000] [--rounds 5]

pandera checks the contract of the ledger, on polars and on pandas. Ours are the contract of the raw rows, every row
rule of the market and the contract of the ledger; once more with every window check. Before anything is timed, all must
take the rows for sound and refuse each of a few planted faults. Rounds take turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pandera.errors
import polars as pl

from benchmarks import pandas_contract
from benchmarks.bulk import simulated
from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.market.spec import MarketSpec, market
from vprism_pipelines.providers import files
from vprism_pipelines.providers.files import FilesProvider
from vprism_pipelines.quality.contracts import contract, holds
from vprism_pipelines.quality.row_rules import bar_rules
from vprism_pipelines.quality.rows import ANYWHERE
from vprism_pipelines.tables import CLEAN_BARS, EVENTS, RAW_BARS
from vprism_pipelines.warehouse.findings import judge
from vprism_pipelines.warehouse.ingest import clean_raw

ON_POLARS, ON_PANDAS = "pandera on polars, the contract", "pandera on pandas, the contract"
ROW_RULES, WINDOWS = "two contracts and every row rule", "two contracts, every row rule, every window check"
BARS = ((ROW_RULES, ON_POLARS), (WINDOWS, ON_POLARS), (WINDOWS, ON_PANDAS))  # the first takes no longer than the other
PLANTED = 10_000  # rows a fault is planted in
FAULTS: Mapping[str, pl.Expr] = {
    "a price of zero": pl.lit(0.0).alias("close"),
    "a price that is no number": pl.lit(float("nan")).alias("open"),
    "an infinite value": pl.lit(float("inf")).alias("value"),
    "fewer than no shares": pl.lit(-1, pl.Int64).alias("volume"),
    "no session": pl.lit(None, pl.Date).alias("session"),
    "no provider": pl.lit(None, pl.String).alias("provider"),
    "a symbol without a market": pl.lit("ACB").alias("symbol"),
    "a currency that is none": pl.lit("dong").alias("currency"),
    "a low above the high": (pl.col("high") * 2).alias("low"),
}


def rows_of(path: Path, mapping: files.Mapping, rows: int) -> tuple[pl.DataFrame, pl.DataFrame, MarketSpec]:
    """Raw rows of a file, the same rows as the ledger takes them, and their market."""
    payload = files.read(path, mapping, datetime.now(UTC))
    raw = FilesProvider(name=mapping.provider).parse(payload).frames["bars"].head(rows)
    pull = pl.DataFrame({"fetch_id": [payload.fetch_id], "provider": [mapping.provider]})
    pull = pull.with_columns(fetched_at=pl.lit(payload.fetched_at).cast(pl.Datetime("us", "UTC")))
    spec = market(mapping.market)
    accepted = clean_raw(raw, pull, spec, "bars").accepted
    stamped = accepted.with_columns(known_to=None, change_class=pl.lit(""), batch=pl.lit(0))
    return raw, CLEAN_BARS.conform(stamped), spec


def row_rules_hold(raw: pl.DataFrame, clean: pl.DataFrame, spec: MarketSpec) -> bool:
    """Contract of the raw rows, row rules of the market, contract of the ledger."""
    sessions = _sessions(spec).select("session", session_close="close", calendar=pl.lit(ANYWHERE))
    bars = clean.with_row_index("place").with_columns(fetched_at="known_from")
    frame, rules = bar_rules(bars.join(sessions, on="session", how="left", maintain_order="left"), sessions, spec)
    asked = {**rules, "duplicate": pl.col("duplicate"), "contradicting_duplicate": pl.col("contradicts")}
    broken = frame.select(rule.fill_null(value=False).any().alias(name) for name, rule in asked.items())
    return holds(RAW_BARS, raw) and holds(CLEAN_BARS, clean) and not any(broken.row(0))


def found(clean: pl.DataFrame, spec: MarketSpec) -> pl.DataFrame:
    """What the window checks find, no corporate action being known."""
    traded = (
        pl.col("volume").is_null() | (pl.col("volume") > 0) | pl.col("symbol").str.contains(":INDEX:", literal=True)
    )
    no_events = pl.DataFrame(schema=EVENTS.polars_schema)
    return judge(clean.with_columns(traded=traded), no_events, _sessions(spec), spec)[0]


def _sessions(spec: MarketSpec) -> pl.DataFrame:
    """Days on which any exchange of the market trades: the rows name none."""
    names = {spec.calendar, *(exchange.calendar for exchange in spec.exchanges.values())}
    known = [days.sessions(days.first_session, days.last_session) for days in map(calendar, sorted(names))]
    return pl.concat(known, how="diagonal").group_by("session").agg(pl.col("close").max()).sort("session")


def spoilt(clean: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The first rows once for each fault, which one of them has; the last has a key twice."""
    sample = clean.head(PLANTED)
    planted = {
        name: sample.with_columns(
            pl.when(pl.int_range(pl.len()) == sample.height // 2)
            .then(fault)
            .otherwise(pl.col(fault.meta.output_name()))
            .alias(fault.meta.output_name())
        )
        for name, fault in FAULTS.items()
    }
    return {**planted, "a key twice": pl.concat([sample, sample.head(1)])}


def agree(clean: pl.DataFrame) -> None:
    """Who checks a contract refuses every planted fault.

    Raises:
        SystemExit: One does not.
    """
    for name, frame in {"no fault": clean.head(PLANTED), **spoilt(clean)}.items():
        said = {"ours": holds(CLEAN_BARS, frame), ON_POLARS: _pandera(frame), ON_PANDAS: _pandera_on_pandas(frame)}
        if set(said.values()) != {name == "no fault"}:
            sys.exit(f"{name}: {', '.join(f'{who} says {word}' for who, word in said.items())}")


def _pandera(frame: pl.DataFrame) -> bool:
    return _accepts(lambda: contract(CLEAN_BARS).validate(frame, lazy=True))


def _pandera_on_pandas(frame: pl.DataFrame) -> bool:
    rows = pandas_contract.as_pandas(CLEAN_BARS, frame)
    return _accepts(lambda: pandas_contract.contract(CLEAN_BARS).validate(rows, lazy=True))


def _accepts(validate: Callable[[], object]) -> bool:
    try:
        validate()
    except pandera.errors.SchemaErrors:
        return False
    return True


def spent(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock, and of all cores."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def report(taken: Mapping[str, list[tuple[float, float]]]) -> str:
    """Markdown: medians of wall and CPU seconds of each side, then what must hold."""
    medians = {side: [statistics.median(part) for part in zip(*turns, strict=True)] for side, turns in taken.items()}
    least = medians[ON_POLARS]
    lines = ["| | wall s | CPU s | CPU, of pandera on polars |", "|---|---:|---:|---:|"]
    lines += [f"| {side} | {wall:.2f} | {cpu:.2f} | {cpu / least[1]:.2f} |" for side, (wall, cpu) in medians.items()]
    lines += ["", "| must take no longer | than | wall | CPU |", "|---|---|---:|---:|"]
    for side, other in BARS:
        ratios = [mine / theirs for mine, theirs in zip(medians[side], medians[other], strict=True)]
        said = [f"{ratio:.2f}" if round(ratio, 12) <= 1 else f"{ratio:.2f} **missed**" for ratio in ratios]
        lines.append(f"| {side} | {other} | {said[0]} | {said[1]} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", metavar="FILE=MAPPING")
    parser.add_argument("--rows", type=int, default=2_900_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        named = asked.file.rsplit("=", 1) if asked.file else None
        of_file = (Path(named[0]), files.Mapping.load(named[1])) if named else simulated(Path(folder), asked.rows)[0]
        raw, clean, spec = rows_of(*of_file, asked.rows)
    agree(clean)
    rows = pandas_contract.as_pandas(CLEAN_BARS, clean)
    in_pandas = pandas_contract.contract(CLEAN_BARS)
    sides: dict[str, Callable[[], object]] = {
        ON_POLARS: lambda: contract(CLEAN_BARS).validate(clean, lazy=True),
        ON_PANDAS: lambda: in_pandas.validate(rows, lazy=True),
        ROW_RULES: lambda: row_rules_hold(raw, clean, spec),
        WINDOWS: lambda: (row_rules_hold(raw, clean, spec), found(clean, spec)),
    }
    # The first time is not counted; pandera raises where its contract does not hold.
    for work in sides.values():
        if work() is False:
            sys.exit("pandera takes these rows for sound, we do not")
    taken: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for _ in range(asked.rounds):
        for side, work in sides.items():
            taken[side].append(spent(work))
    print(f"{clean.height:,} rows, {asked.rounds} rounds in turns, medians; {os.cpu_count()} cores,", end=" ")
    print(f"load {os.getloadavg()[1]:.1f}\n\n{report(taken)}")


if __name__ == "__main__":
    main()
