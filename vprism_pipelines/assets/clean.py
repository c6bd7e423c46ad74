"""Clean assets: from a provider's rows to ours, split from the quarantine in memory, written in one transaction."""

from __future__ import annotations

import dagster as dg
import polars as pl

from vprism_pipelines.assets.factory import Outcome, Step, markdown_table
from vprism_pipelines.assets.plots import yearly
from vprism_pipelines.providers import registry
from vprism_pipelines.warehouse import measures
from vprism_pipelines.warehouse.ingest import clean_pulls, ingest, pending, prefix


def bars(step: Step) -> Outcome:
    """Clean and remember the bars of every pull not seen yet."""
    return _remember(step, "bars")


def actions(step: Step) -> Outcome:
    """Clean and remember the corporate actions of every pull not seen yet."""
    return _remember(step, "actions")


def instruments(step: Step) -> Outcome:
    """Keep what the listings say that was not known yet."""
    return _remember(step, "instruments")


def _remember(step: Step, dataset: str) -> Outcome:
    house, spec = step.house, step.market
    count = f"SELECT count(*) FROM {step.node.table.full_name} WHERE {prefix(spec)}"
    with house.warehouse.connect() as connection:
        pulls = pending(connection, spec, dataset, step.window)
        if pulls.is_empty():
            (total,) = connection.execute(count).fetchone() or (0,)
            checks = {"contract": measures.contract(), "rejection_rate": measures.rejections({}, 0, 0)}
            return Outcome(total, {"pulls": 0}, [checks[name] for name in step.node.checks])
    synthetic = [name for name in registry.for_market(spec.code) if registry.entry(name).synthetic]
    cleaned = clean_pulls(house.lake, spec, dataset, pulls, synthetic)
    with step.writing() as (connection, tally):
        done = ingest(connection, spec, dataset, pulls, cleaned, house.settings.min_data_quality)
        tally.rows, tally.quarantined, tally.batch = done.rows, done.quarantined, done.batch
        tally.accepted, tally.unchanged = done.new + done.changed, done.unchanged
        (total,) = connection.execute(count).fetchone() or (0,)
    checks = {
        "contract": measures.contract(),
        "rejection_rate": measures.rejections(done.reasons, done.quarantined, done.rows),
    }
    rejected = cleaned.quarantined.select("raw_symbol", "session", pl.col("reasons").list.join(", "), "row_json")
    date = {"bars": "session", "actions": "ex_date", "instruments": "known_from"}[dataset]
    return Outcome(
        total,
        {
            "pulls": done.pulls,
            "rows": done.rows,
            "new": done.new,
            "changed": done.changed,
            "unchanged": done.unchanged,
            "quarantined": done.quarantined,
            "rejected by reason": dg.MetadataValue.json(done.reasons),
            "rejected rows": dg.MetadataValue.md(markdown_table(rejected)),
            "quality": dg.MetadataValue.md(yearly(cleaned.accepted[date], cleaned.quarantined["session"])),
        },
        [checks[name] for name in step.node.checks],
    )
