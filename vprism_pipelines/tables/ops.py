"""Bookkeeping: pulls read, runs, watermarks, snapshots."""

from __future__ import annotations

from vprism_pipelines.tables.base import FETCH_ID, MARKET, SYMBOL, Column, Table

INGESTS = Table(
    "ops",
    "ingests",
    ("fetch_id", "dataset", "parser_version"),
    "What became of every pull's rows: accepted + quarantined = rows, and accepted = new + changed + unchanged.",
    (
        FETCH_ID,
        Column("dataset", "VARCHAR", "clean table it fed"),
        Column("parser_version", "VARCHAR", "parser that read it"),
        Column("rows", "BIGINT", "rows parsed", "rows"),
        Column("accepted", "BIGINT", "rows believed", "rows"),
        Column("quarantined", "BIGINT", "rows set aside with a reason", "rows"),
        Column("batch", "BIGINT", "writer transaction"),
    ),
)

RUNS = Table(
    "ops",
    "runs",
    ("run_id", "step"),
    "One row per step of a run that wrote something.",
    (
        Column("run_id", "VARCHAR", "Dagster run or command"),
        Column("step", "VARCHAR", "asset key or command"),
        Column("trigger", "VARCHAR", "schedule, sensor, ui, cli"),
        Column("market", "VARCHAR", "market code", nullable=True),
        Column("range_start", "DATE", "first session in scope", nullable=True),
        Column("range_end", "DATE", "last session in scope", nullable=True),
        Column("input", "BIGINT", "rows read", "rows"),
        Column("accepted", "BIGINT", "rows new or changed", "rows"),
        Column("unchanged", "BIGINT", "rows already known", "rows"),
        Column("quarantined", "BIGINT", "rows set aside", "rows"),
        Column("seconds", "DOUBLE", "time in the step", "seconds"),
        Column("code_version", "VARCHAR", "version of this package"),
        Column("finished_at", "TIMESTAMPTZ", "when it was committed"),
        Column("batch", "BIGINT", "writer transaction"),
    ),
)

WATERMARKS = Table(
    "ops",
    "watermarks",
    ("stage", "market"),
    "How far each incremental build has come.",
    (
        Column("stage", "VARCHAR", "table being built"),
        MARKET,
        Column("batch", "BIGINT", "last writer transaction it has seen, or what else tells whether it is up to date"),
    ),
)

DIRTY = Table(
    "ops",
    "dirty",
    ("stage", "symbol", "from_session", "batch"),
    "Work an incremental build still has to do: symbols, and since which session they changed.",
    (
        Column("stage", "VARCHAR", "table that must catch up"),
        SYMBOL,
        Column("from_session", "DATE", "first session that changed"),
        Column("batch", "BIGINT", "writer transaction that changed it"),
    ),
)

SNAPSHOTS = Table(
    "ops",
    "snapshots",
    ("snapshot",),
    "Published versions of the warehouse.",
    (
        Column("snapshot", "BIGINT", "number in the file name"),
        Column("published_at", "TIMESTAMPTZ", "when"),
        Column("run_id", "VARCHAR", "by which run"),
        Column("content_hash", "VARCHAR", "of golden and analytics: equal hash, equal content"),
    ),
)
