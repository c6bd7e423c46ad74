"""Clean assets: from a provider's rows to ours, split from the quarantine in memory, written in one transaction."""

from __future__ import annotations

import dagster as dg
import polars as pl

from vprism_pipelines.assets.factory import Outcome, Step, markdown_table
from vprism_pipelines.assets.plots import yearly
from vprism_pipelines.providers import registry
from vprism_pipelines.warehouse import measures
from vprism_pipelines.warehouse.candidates import read_again
from vprism_pipelines.warehouse.ingest import Ingested, clean_pulls, ingest, of_newest_run, pending
from vprism_pipelines.warehouse.measures import Measurement
from vprism_pipelines.warehouse.revisions import Revised, build_revisions
from vprism_pipelines.warehouse.sanity import prove_dates

PREVIEW = 10  # rejected rows shown on the asset


def bars(step: Step) -> Outcome:
    """Clean and remember the bars of every pull not seen yet, as every parser in use or on probation reads them."""
    read_again(step.house, step.market, step.run_id)
    return _remember(step, "bars")


def actions(step: Step) -> Outcome:
    """Clean and remember the corporate actions of every pull not seen yet."""
    return _remember(step, "actions")


def instruments(step: Step) -> Outcome:
    """Keep what the listings say that was not known yet."""
    return _remember(step, "instruments")


def beside(step: Step) -> Outcome:
    """Clean and remember what is pulled beside the bars: fundamentals, quotes or ticks, as the asset is named."""
    return _remember(step, step.node.key[-1])


def _remember(step: Step, dataset: str) -> Outcome:
    house, spec, table = step.house, step.market, step.node.table
    with house.warehouse.connect() as connection:
        pulls = pending(connection, spec, dataset, step.window)
    done, cleaned, shifted = Ingested(), None, Measurement("date_shift", None, pl.DataFrame())
    if not pulls.is_empty():
        synthetic = [name for name in registry.for_market(spec.code) if registry.entry(name).synthetic]
        cleaned = clean_pulls(house.lake, spec, dataset, pulls, synthetic)
        if dataset == "bars":
            shifted = prove_dates(cleaned, spec, house.thresholds)
    revised = Revised()
    with step.writing() as (connection, tally):
        if cleaned:
            done = ingest(connection, spec, dataset, pulls, cleaned, house.settings.min_data_quality)
        tally.rows, tally.quarantined, tally.batch = done.rows, done.quarantined, done.batch
        tally.accepted, tally.unchanged = done.new + done.changed, done.unchanged
        measured = [measures.contract(), measures.rejections(done.reasons, done.quarantined, done.rows)]
        if dataset == "bars":
            revised = build_revisions(connection, spec)
            newest = of_newest_run(pulls, cleaned) if cleaned else None
            counts = (newest.reasons(), newest.rows) if newest else ({}, 0)
            measured += [
                *measures.row_checks(*counts, house.thresholds),
                shifted,
                measures.revision_rate(connection, spec, house.thresholds),
            ]
            measures.record(connection, spec, measured, step.run_id, house.clock())
        total = measures.count(connection, table.full_name, spec)
        by_year = measures.rows_by_year(connection, spec, dataset, table)
    metadata: dict[str, object] = {
        "pulls": done.pulls,
        "rows": done.rows,
        "new": done.new,
        "changed": done.changed,
        "unchanged": done.unchanged,
        "quarantined": done.quarantined,
        "changes by class": dg.MetadataValue.json(revised.classes),
        "rejected by reason": dg.MetadataValue.json(done.reasons),
        "quality": dg.MetadataValue.md(yearly(by_year)),
    }
    if cleaned and done.quarantined:
        rejected = cleaned.quarantined.head(PREVIEW).select(
            "raw_symbol", "session", pl.col("reasons").list.join(", "), "row_json"
        )
        metadata["rejected rows"] = dg.MetadataValue.md(markdown_table(rejected))
    return Outcome(total, metadata, [found for found in measured if found.check in step.node.checks])
