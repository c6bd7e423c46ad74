"""Clean assets: from a provider's rows to ours, split from the quarantine in memory, written in one transaction."""

from __future__ import annotations

import dagster as dg
import polars as pl

from vprism_pipelines.assets.factory import Outcome, Step, markdown_table
from vprism_pipelines.assets.plots import yearly
from vprism_pipelines.errors import DataQualityError
from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.providers import registry
from vprism_pipelines.quality.checks import Status
from vprism_pipelines.quality.rows import Cleaned
from vprism_pipelines.warehouse import measures
from vprism_pipelines.warehouse.candidates import read_again
from vprism_pipelines.warehouse.ingest import Ingested, clean_pulls, ingest, of_newest_run, pending
from vprism_pipelines.warehouse.measures import Measurement
from vprism_pipelines.warehouse.revisions import Revised, build_revisions

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


def _remember(step: Step, dataset: str) -> Outcome:
    house, spec, table = step.house, step.market, step.node.table
    with house.warehouse.connect() as connection:
        pulls = pending(connection, spec, dataset, step.window)
    done, cleaned, shifted = Ingested(), None, None
    if not pulls.is_empty():
        synthetic = [name for name in registry.for_market(spec.code) if registry.entry(name).synthetic]
        cleaned = clean_pulls(house.lake, spec, dataset, pulls, synthetic)
        shifted = _dates_proven(step, cleaned) if dataset == "bars" else None
    with step.writing() as (connection, tally):
        if cleaned:
            done = ingest(connection, spec, dataset, pulls, cleaned, house.settings.min_data_quality)
        revised = build_revisions(connection, spec) if dataset == "bars" else Revised()
        tally.rows, tally.quarantined, tally.batch = done.rows, done.quarantined, done.batch
        tally.accepted, tally.unchanged = done.new + done.changed, done.unchanged
        total = measures.count(connection, table.full_name, spec)
        by_year = measures.rows_by_year(connection, spec, dataset, table)
        rules = house.thresholds
        measured = [measures.contract(), measures.rejections(done.reasons, done.quarantined, done.rows)]
        if dataset == "bars":
            newest = of_newest_run(pulls, cleaned) if cleaned else None
            measured += measures.row_checks(newest.reasons() if newest else {}, newest.rows if newest else 0, rules)
            measured += [shifted] if shifted else [Measurement("date_shift", None, pl.DataFrame())]
            measured += [measures.revision_rate(connection, spec, rules)]
            measures.record(connection, spec, measured, step.run_id, house.clock())
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


def _dates_proven(step: Step, cleaned: Cleaned) -> Measurement:
    """Refuse a delivery whose dates are a day off before anything of it is believed."""
    days = calendar(step.market.calendar)
    shifted = measures.date_shifts(cleaned, days.sessions(days.first_session, days.last_session), step.house.thresholds)
    if shifted.status is Status.FAIL:
        raise DataQualityError(
            f"the dates of {int(shifted.value or 0)} deliveries fit the calendar better when moved by a day",
            hint="their time stamps are of another zone: correct the mapping or the parser",
            market=step.market.code,
            check=shifted.check,
            deliveries=shifted.evidence["provider"].unique().to_list(),
        )
    return shifted
