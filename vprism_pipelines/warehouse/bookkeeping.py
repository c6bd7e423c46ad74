"""`ops.runs`: what every step of every run read, accepted, set aside, and how long it took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import duckdb
import polars as pl

from vprism_pipelines import __version__
from vprism_pipelines.tables import RUNS
from vprism_pipelines.warehouse.building import insert


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
