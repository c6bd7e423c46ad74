"""Raw assets: plan what is missing, pull it, archive it, parse it. Nothing is locked while fetching."""

from __future__ import annotations

import dagster as dg
import polars as pl

from vprism_pipelines.assets.catalog import raw_key
from vprism_pipelines.assets.factory import Outcome, Step, markdown_table
from vprism_pipelines.providers import registry
from vprism_pipelines.warehouse import measures, router
from vprism_pipelines.warehouse.importing import import_inbox, total


def pull(step: Step) -> Outcome:
    """Bring the archive up to the partitions of this run: by the asset's provider, by others where it fails."""
    assert step.node.provider is not None
    if step.node.provider == "files":
        return _take_in(step)
    made = router.pull(
        step.house,
        step.market,
        step.node.provider,
        step.asked(),
        step.run_id,
        dataset=step.node.dataset,
        beside=_beside(step),
    )
    now = step.house.clock()
    with step.writing() as (connection, tally):
        tally.rows = tally.accepted = made.first.rows + sum(other.rows for other in made.others.values())
        router.keep(connection, step.market, made, step.run_id, now)
        stale = router.staleness(connection, step.market, made.provider, step.run_id, step.house.thresholds)
        measures.record(connection, step.market, [stale], step.run_id, now)
        row = connection.execute(
            "SELECT coalesce(sum(rows), 0) FROM raw.fetches WHERE provider = ? AND market = ? AND dataset = ?",
            [step.node.provider, step.market.code, step.node.dataset],
        ).fetchone()
    _show_elsewhere(step, made)
    if made.refusal:
        raise made.refusal
    return Outcome(int(row[0]) if row else 0, _metadata(made), [stale])


def _beside(step: Step) -> list[str]:
    """Providers that this run asks for the same dataset, too."""
    keys = {tuple(key.path) for key in step.context.job_def.asset_layer.executable_asset_keys}
    names = registry.for_market(step.market.code)
    return [
        name
        for name in names
        if name != step.node.provider and raw_key(step.market.code, name, step.node.dataset) in keys
    ]


def _show_elsewhere(step: Step, made: router.Delivery) -> None:
    """Tell the assets of those who were asked instead, and the run, what happened here."""
    for name, other in made.others.items():
        metadata: dict[str, str | int] = {
            "asked instead of": made.provider,
            "requests": other.requests,
            "rows pulled": other.rows,
        }
        key = dg.AssetKey(raw_key(step.market.code, name, made.dataset))
        step.context.log_event(dg.AssetObservation(key, description="failover", metadata=metadata))
    if made.others:
        step.context.instance.add_run_tags(step.run_id, {f"vprism/failover/{made.provider}": ", ".join(made.others)})


def _metadata(made: router.Delivery) -> dict[str, object]:
    done, failed = made.first, made.first.failed
    metadata: dict[str, object] = {
        "requests": done.requests,
        "failed requests": failed.height,
        "requests left": done.left,
        "adopted from an interrupted run": done.adopted,
        "rows pulled": done.rows,
    }
    if failed.height:
        metadata["failures"] = dg.MetadataValue.md(markdown_table(failed.select("symbol", "error_code", "error")))
    if made.failovers.height:
        counted = made.failovers.group_by("reason", "fallback", "outcome", maintain_order=True).agg(symbols=pl.len())
        metadata["failover"] = dg.MetadataValue.md(markdown_table(counted))
    if made.considered:
        rows = [(one.provider, one.score, one.success, one.reach, one.hours, one.refusal) for one in made.considered]
        names = ["provider", "score", "success", "reach", "hours", "not asked because"]
        metadata["failover candidates"] = dg.MetadataValue.md(markdown_table(pl.DataFrame(rows, names, orient="row")))
    return metadata


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
