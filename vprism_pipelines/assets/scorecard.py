"""Quality over time: scorecard, providers compared with each other, drift, health, and what they look like."""

from __future__ import annotations

import dagster as dg
import duckdb
import polars as pl

from vprism_pipelines.assets.factory import Outcome, Step, markdown_table
from vprism_pipelines.assets.plots import heat_map, lines
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.warehouse import coverage, drift, health, measures, reconciliation
from vprism_pipelines.warehouse.building import frame, prefix
from vprism_pipelines.warehouse.measurement import EVERYBODY
from vprism_pipelines.warehouse.scorecard import build_scorecard, by_month

WORST = 15  # series in the table of the newest month


def scorecard(step: Step) -> Outcome:
    """Score every provider's bars by symbol and month, compare providers, measure drift and health."""
    now = step.house.clock()
    with step.writing() as (connection, tally):
        compared = reconciliation.update(connection, step.market, step.run_id, now)
        scored = build_scorecard(connection, step.market)
        drift.build_drift(connection, step.market)
        health.build_health(connection, step.market)
        measured = [
            reconciliation.standing(connection, step.market),
            drift.measure_drift(connection, step.market),
            *health.measure_health(connection, step.market),
        ]
        measures.record(connection, step.market, measured, step.run_id, now)
        tally.rows, tally.accepted = scored.touched, scored.written
        pictures = _pictures(connection, step.market)
        count = measures.count(connection, step.node.table.full_name, step.market)
    return Outcome(
        count,
        {
            "series counted again": scored.touched,
            **{f"compared {a} with {b}": rows for (a, b), rows in compared.items()},
            **{name: dg.MetadataValue.md(text) for name, text in pictures.items()},
        },
        [found for found in measured if found.check in step.node.checks and found.provider == EVERYBODY],
    )


def _pictures(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> dict[str, str]:
    months = by_month(connection, spec).with_columns(pl.col("month").dt.strftime("%Y-%m"))
    trends = {
        value: {
            str(provider): dict(points.select("month", value).iter_rows())
            for (provider,), points in months.group_by("provider", maintain_order=True)
        }
        for value in ("gap_ratio", "score")
    }
    worst = frame(
        connection,
        f"""SELECT * FROM quality.scorecard
            WHERE {prefix(spec)} AND month = (SELECT max(month) FROM quality.scorecard WHERE {prefix(spec)})
              AND (score < 1 OR flagged > 0)
            ORDER BY score, flagged DESC, symbol LIMIT {WORST}""",
    )
    return {
        "newest sessions": heat_map(
            coverage.by_session(connection, spec), f"{spec.name}: newest sessions, symbols with most trouble first"
        ),
        "whole history": heat_map(
            coverage.over_months(connection, spec), f"{spec.name}: whole history, symbols with most trouble first"
        ),
        "gap ratio by month": lines(trends["gap_ratio"], "share of expected sessions missing", percent=True),
        "score by month": lines(trends["score"], "share of expected sessions with a good bar", percent=True),
        "worst of the newest month": markdown_table(worst, limit=WORST),
    }
