"""Quality asset: what the window checks say of each provider's bars, before any of them stands for golden."""

from __future__ import annotations

import dagster as dg
import polars as pl

from vprism_pipelines.assets.factory import Outcome, Step, markdown_table
from vprism_pipelines.quality.window_checks import WINDOW_CHECKS
from vprism_pipelines.warehouse import measures
from vprism_pipelines.warehouse.findings import Examined, build_findings, set_aside


def findings(step: Step) -> Outcome:
    """What the window checks say of each provider's bars."""
    with step.writing() as (connection, tally):
        examined = build_findings(connection, step.market, step.house.thresholds)
        measured = [measures.Measurement(*share, thresholds=step.house.thresholds) for share in _shares(examined)]
        measures.record(connection, step.market, measured, step.run_id, step.house.clock())
        aside = set_aside(connection, step.market)
        rows = measures.count(connection, "quality.findings", step.market)
        tally.rows, tally.accepted, tally.quarantined = examined.built.touched, examined.built.written, aside.height
    return Outcome(
        rows,
        {
            "bars examined": examined.built.touched,
            "bars quarantined": aside.height,
            "findings": dg.MetadataValue.md(markdown_table(examined.counts.filter(pl.col("found") > 0), limit=50)),
            "quarantined": dg.MetadataValue.md(markdown_table(aside, limit=15)),
            "blocked": dg.MetadataValue.md(markdown_table(examined.blocked)),
        },
        [measurement for measurement in measured if measurement.check in step.node.checks],
    )


def _shares(examined: Examined) -> list[tuple[str, float | None, pl.DataFrame]]:
    """Check, share of the examined bars on which it fired, by provider; and how much must be stopped as a whole."""
    total = examined.counts.group_by("check").agg(pl.col("bars").sum(), pl.col("found").sum())
    found = {str(name): int(count) / int(bars) for name, bars, count in total.iter_rows() if bars}
    blocked = examined.blocked
    whole = blocked.filter(pl.col("session").is_null())
    share = whole["symbol"].n_unique() / examined.symbols if examined.symbols else None
    sessions = blocked.filter(pl.col("symbol").is_null())
    return [
        *(
            (name, found.get(name), examined.counts.filter(pl.col("check") == name, pl.col("found") > 0))
            for name in WINDOW_CHECKS
        ),
        ("blocked_symbols", share, whole),
        ("blocked_sessions", float(sessions.height), sessions),
    ]
