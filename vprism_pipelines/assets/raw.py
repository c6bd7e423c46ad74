"""Raw assets: plan what is missing, pull it, archive it, parse it. Nothing is locked while fetching."""

from __future__ import annotations

import dagster as dg
import polars as pl

from vprism_pipelines.assets.factory import Outcome, Step, markdown_table
from vprism_pipelines.warehouse.acquire import acquire
from vprism_pipelines.warehouse.importing import import_inbox, total


def pull(step: Step) -> Outcome:
    """Bring the archive of one provider up to the partitions of this run."""
    assert step.node.provider is not None
    if step.node.provider == "files":
        return _take_in(step)
    done = acquire(step.house, step.market, step.node.provider, step.asked(), step.run_id, dataset=step.node.dataset)
    failed = done.failed
    with step.writing() as (connection, tally):
        tally.rows = tally.accepted = done.rows
        row = connection.execute(
            "SELECT coalesce(sum(rows), 0) FROM raw.fetches WHERE provider = ? AND market = ? AND dataset = ?",
            [step.node.provider, step.market.code, step.node.dataset],
        ).fetchone()
    metadata: dict[str, object] = {
        "requests": done.requests,
        "failed requests": failed.height,
        "adopted from an interrupted run": done.adopted,
        "rows pulled": done.rows,
    }
    if failed.height:
        metadata["failures"] = dg.MetadataValue.md(markdown_table(failed.select("symbol", "error_code", "error")))
    return Outcome(int(row[0]) if row else 0, metadata)


def _take_in(step: Step) -> Outcome:
    """Import the files that wait in the inbox for this market."""
    done, refused = import_inbox(step.house, step.market, step.run_id)
    with step.writing() as (connection, tally):
        tally.rows = tally.accepted = total(done)
        row = connection.execute(
            "SELECT coalesce(sum(rows), 0) FROM raw.fetches WHERE market = ? AND (request->>'$.url') LIKE 'file:%'",
            [step.market.code],
        ).fetchone()
    listed = pl.DataFrame(
        [(item.file, item.provider, "known before" if item.duplicate else "imported", "") for item in done]
        + [(name, "", "refused", f"{error.code}: {error.message}") for name, error in refused.items()],
        schema=["file", "provider", "outcome", "reason"],
        orient="row",
    )
    return Outcome(int(row[0]) if row else 0, {"files": dg.MetadataValue.md(markdown_table(listed, limit=50))})
