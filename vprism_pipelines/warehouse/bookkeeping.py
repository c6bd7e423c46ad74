"""What every step of a run read, accepted, set aside, and how long it took; and what became of every pull."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import duckdb
import polars as pl

from vprism_pipelines import __version__
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.rows import Cleaned
from vprism_pipelines.tables import INGESTS, QUARANTINE, RUNS, SYMBOL_MAP
from vprism_pipelines.warehouse.building import frame, insert


@dataclass(frozen=True, slots=True)
class RunStep:
    """One row of `ops.runs` in the making."""

    run_id: str
    step: str
    trigger: str
    started: datetime
    market: str | None = None
    window: tuple[date, date] | None = None
    rows: int = 0
    accepted: int = 0
    unchanged: int = 0
    quarantined: int = 0
    batch: int = 0


def record_step(connection: duckdb.DuckDBPyConnection, step: RunStep, now: datetime) -> None:
    """Record a step in its own transaction's bookkeeping; a repeated step of a run replaces its row."""
    record_steps(connection, [step], now)


def record_steps(connection: duckdb.DuckDBPyConnection, steps: Sequence[RunStep], now: datetime) -> None:
    """Record the steps of one transaction; of a step that a run repeats the last counts."""
    rows = [
        {
            "run_id": step.run_id,
            "step": step.step,
            "trigger": step.trigger,
            "market": step.market,
            "range_start": step.window[0] if step.window else None,
            "range_end": step.window[1] if step.window else None,
            "input": step.rows,
            "accepted": step.accepted,
            "unchanged": step.unchanged,
            "quarantined": step.quarantined,
            "seconds": (now - step.started).total_seconds(),
            "code_version": __version__,
            "finished_at": now,
            "batch": step.batch,
        }
        for step in steps
    ]
    recorded = pl.DataFrame(rows, schema=RUNS.polars_schema).unique(RUNS.key, keep="last")
    connection.execute("DELETE FROM ops.runs AS r USING recorded AS n WHERE r.run_id = n.run_id AND r.step = n.step")
    insert(connection, RUNS, recorded)


def record_pulls(
    connection: duckdb.DuckDBPyConnection,
    spec: MarketSpec,
    dataset: str,
    pulls: pl.DataFrame,
    cleaned: Cleaned,
    batch: int,
) -> None:
    """Record what became of the rows of pulls, in place of what stood there: counts, quarantine, spellings.

    Args:
        connection: In the transaction that remembers the rows.
        spec: Market.
        dataset: One of `ledger.LEDGERS`.
        pulls: fetch_id, parser_version.
        cleaned: Their rows; spellings with valid_from.
        batch: Number of the transaction.
    """
    counts = (
        pulls.select("fetch_id", "parser_version")
        .join(cleaned.accepted.group_by("fetch_id").agg(accepted=pl.len()), on="fetch_id", how="left")
        .join(cleaned.quarantined.group_by("fetch_id").agg(quarantined=pl.len()), on="fetch_id", how="left")
        .with_columns(pl.col("accepted", "quarantined").fill_null(0))
        .with_columns(rows=pl.col("accepted") + pl.col("quarantined"), dataset=pl.lit(dataset), batch=pl.lit(batch))
    )
    again = pulls.select("fetch_id")
    connection.register("again", again)
    try:
        for table in (INGESTS, QUARANTINE):
            connection.execute(
                f"DELETE FROM {table.full_name} WHERE dataset = $1 AND fetch_id IN (SELECT fetch_id FROM again)",
                [dataset],
            )
    finally:
        connection.unregister("again")
    insert(connection, INGESTS, counts)
    insert(connection, QUARANTINE, cleaned.quarantined)
    _spell(connection, cleaned.spellings.with_columns(market=pl.lit(spec.code)))


def _spell(connection: duckdb.DuckDBPyConnection, spellings: pl.DataFrame) -> None:
    """Record how spellings were understood by the oldest pull that used them, in whatever order pulls come in."""
    key = SYMBOL_MAP.key
    oldest = spellings.sort("valid_from", maintain_order=True).unique(key, keep="first", maintain_order=True)
    same = " AND ".join(f"m.{name} = o.{name}" for name in key)
    connection.execute(
        f"DELETE FROM clean.symbol_map AS m USING oldest AS o WHERE {same} AND o.valid_from < m.valid_from"
    )
    known = frame(connection, f"SELECT {', '.join(key)} FROM clean.symbol_map")
    insert(connection, SYMBOL_MAP, oldest.join(known, on=key, how="anti"))
