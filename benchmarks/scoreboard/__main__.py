"""`python -m benchmarks.scoreboard`: our checks, yfinance's price repair and Qlib's health check on the same faults.

Prints recall, and in parentheses precision: the share of what a side newly names that is damaged. INFO checks and
placeholders, which are facts and no findings, are left out of ours.

Every class of faults is injected into the same bars for all three. yfinance runs as released, in an environment of
its own; of Qlib only the rule is compared. yfinance is told of every split that a fault mishandles; we are not.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import polars as pl

from benchmarks.peers import interpreter
from benchmarks.scoreboard import qlib_rule
from vprism_pipelines.market.spec import VN
from vprism_pipelines.providers.faults import FAULTS, Faults
from vprism_pipelines.quality.scoreboard import new, places, precision, recall
from vprism_pipelines.warehouse.grounds import Ground, of_files, simulated
from vprism_pipelines.warehouse.scoreboard import findings

HERE = Path(__file__).parent
CLEAN = "undamaged"
KEY = ["symbol", "session"]
PEER_COLUMNS = [*KEY, "open", "high", "low", "close", "volume"]
OURS, YFINANCE, QLIB = "vprism", "yfinance", "qlib rule"
SIDES = (OURS, YFINANCE, QLIB)
SPLITS = ("missed_split", "double_split")
Score = tuple[float, float | None]
Row = tuple[str, int, Score, Score, Score]


def splits(labels: pl.DataFrame, faulty: pl.DataFrame, truth: pl.DataFrame) -> pl.DataFrame:
    """symbol, session, split: the split each mishandled run missed or doubled, on its ex-date."""
    after = truth.select(*KEY, following=pl.col("session").shift(-1).over("symbol"))
    runs = (
        labels.filter(pl.col("fault").is_in(SPLITS), pl.col("field") == "close")
        .join(faulty.select(*KEY, "close"), on=KEY)
        .join(after, on=KEY)
    )
    ends = runs.join(runs.select("symbol", following="session"), on=["symbol", "following"], how="anti")
    ratio = pl.max_horizontal(pl.col("close") / pl.col("original"), pl.col("original") / pl.col("close"))
    return ends.select("symbol", session="following", split=ratio.round(6)).drop_nulls()


def measured(ground: Ground, seed: int, rate: float, python: Path) -> tuple[list[Row], dict[str, float]]:
    """Class of faults, incidents and the score of each side; and undamaged bars per million that each side names."""
    truth = ground.bars
    frames = {CLEAN: (truth, None)} | {name: Faults(seed, rate, (name,)).inject(truth) for name in FAULTS}
    found: dict[tuple[str, str], pl.DataFrame] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (bars, labels) in frames.items():
            told = pl.DataFrame(schema={"symbol": pl.String, "session": pl.Date, "split": pl.Float64})
            told = told if labels is None else splits(labels, bars, truth)
            given = bars.select(PEER_COLUMNS).join(told, on=KEY, how="left", maintain_order="left")
            given.with_columns(pl.col("split").fill_null(0.0)).write_parquet(Path(folder) / f"{name}.parquet")
            found[name, QLIB] = as_found(qlib_rule.found(bars))
            found[name, OURS] = findings(bars, actions=ground.actions, spec=ground.spec).filter(
                pl.col("severity") != "INFO", pl.col("check") != "placeholder"
            )
        subprocess.run([python, HERE / "yfinance_repair.py", folder], check=True)
        for name in frames:
            touched = pl.read_csv(Path(folder) / f"{name}.found.csv", schema={"symbol": pl.String, "session": pl.Date})
            found[name, YFINANCE] = as_found(touched.with_columns(check=pl.lit("repair")))
    rows = []
    for name, (_, labels) in frames.items():
        if labels is not None and labels.height:  # short histories have no room for runs
            where = places(labels, truth)
            cells = [score(where, found[name, side], found[CLEAN, side]) for side in SIDES]
            rows.append((name, where["incident"].n_unique(), *cells))
    named = {side: found[CLEAN, side].select(KEY).n_unique() / truth.height * 1e6 for side in SIDES}
    return rows, named


def score(where: pl.DataFrame, found: pl.DataFrame, clean: pl.DataFrame) -> Score:
    """Recall of a side, and the share of what it newly names that is damaged."""
    everything = {"check": "*", "severity": "INFO"}
    found_share = recall(where, new(found, clean)).filter(**everything)["recall"].item()
    precise = precision(where, found, clean).filter(check="*", severity="*")["precision"]
    return found_share, precise.item() if len(precise) else None


def as_found(named: pl.DataFrame) -> pl.DataFrame:
    return named.select("check", pl.lit("FLAG").alias("severity"), "symbol", "session").unique()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoreboard", description=__doc__)
    parser.add_argument("--source", type=Path, action="append", help="bars, listings; default: the simulated exchange")
    parser.add_argument("--exchange")
    parser.add_argument("--start", type=date.fromisoformat, default=date(2015, 1, 1))
    parser.add_argument("--end", type=date.fromisoformat, default=date(2025, 12, 31))
    parser.add_argument("--symbols", type=int, default=40, help="the first so many; yfinance needs seconds for each")
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    span = (given.start, given.end)
    ground = of_files(given.source, VN, span, given.exchange) if given.source else simulated(VN, span, given.exchange)
    kept = ground.bars["symbol"].unique().sort().head(given.symbols)
    bars = ground.bars.filter(pl.col("symbol").is_in(kept.implode()))
    part = Ground(ground.spec, bars, ground.actions, ground.notes)
    table, named = measured(part, given.seed, given.rate, interpreter("yfinance"))
    print(
        f"{bars.height:,} bars of {len(kept)} symbols, seed {given.seed}, rate {given.rate:g}; {'; '.join(part.notes)}"
    )
    print(f"\n| fault | incidents | {' | '.join(SIDES)} |\n|---|---|---|---|---|")
    for fault, incidents, *scores in table:
        print(f"| {fault} | {incidents:,} | {' | '.join(map(cell, scores))} |")
    print("| undamaged bars named, per million | | " + " | ".join(f"{n:,.0f}" for n in named.values()) + " |")
    behind = [fault for fault, _, (ours, _), *peers in table if any(ours < theirs for theirs, _ in peers)]
    print(f"\nbehind on: {', '.join(behind) or 'nothing'}")


def cell(score: Score) -> str:
    found_share, precise = score
    return f"{found_share:.3f} ({'–' if precise is None else f'{precise:.2f}'})"


if __name__ == "__main__":
    sys.exit(main())
