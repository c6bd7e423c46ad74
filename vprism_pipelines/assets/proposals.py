"""Quality asset: corporate actions the detective proposes."""

from __future__ import annotations

import dagster as dg
import polars as pl

from vprism_pipelines.assets.factory import Outcome, Step, markdown_table
from vprism_pipelines.warehouse import detective, measures

SHOWN = 25


def proposals(step: Step) -> Outcome:
    """What prices imply and nobody declared, or what was declared and prices deny; decisions kept."""
    with step.writing() as (connection, tally):
        standing = detective.refresh(connection, step.house.lake, step.market)
        tally.rows = tally.accepted = standing.height
        waiting = standing.filter(pl.col("status") == "open")
        certain = waiting.filter(pl.col("confidence") >= detective.CERTAIN)
        about = ["proposal_id", "symbol", "kind", "ex_date", "event_type", "confidence", "declared", "proposed"]
        measured = measures.Measurement("declared_actions", float(certain.height), certain.select(about))
        measures.record(connection, step.market, [measured], step.run_id, step.house.clock())
    counted = waiting.group_by("kind").agg(open=pl.len(), certain=(pl.col("confidence") >= detective.CERTAIN).sum())
    return Outcome(
        standing.height,
        {
            "open": waiting.height,
            "open by kind": dg.MetadataValue.md(markdown_table(counted.sort("kind"))),
            "most certain": dg.MetadataValue.md(markdown_table(waiting.select(about), limit=SHOWN)),
        },
        [measured] if measured.check in step.node.checks else [],
    )
