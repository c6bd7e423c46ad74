"""Providers and parsers on probation: compared with the one in use before they may replace it."""

from __future__ import annotations

from vprism_pipelines.tables.base import Column, Table

SHADOW_RUNS = Table(
    "quality",
    "shadow_runs",
    ("market", "provider", "against", "run_id"),
    "One comparison of a candidate with the provider in use, on the sessions that both have.",
    (
        Column("market", "VARCHAR", "market code"),
        Column("provider", "VARCHAR", "the candidate: a provider, or provider@parser_version"),
        Column("against", "VARCHAR", "the provider in use"),
        Column("run_id", "VARCHAR", "run that compared"),
        Column("compared_at", "TIMESTAMPTZ", "when"),
        Column("range_start", "DATE", "first session compared", nullable=True),
        Column("range_end", "DATE", "last session compared", nullable=True),
        Column("symbols", "BIGINT", "symbols compared", "symbols"),
        Column("rows", "BIGINT", "rows of the provider in use", "rows"),
        Column("row_diff_pct", "DOUBLE", "rows that only one side has, or that differ", "percent", nullable=True),
        Column("price_diff_bp_p95", "DOUBLE", "95th percentile of |close difference|", "basis points", nullable=True),
        Column("gap_ratio", "DOUBLE", "share of its sessions that the candidate lacks", "ratio", nullable=True),
        Column("passed", "BOOLEAN", "within every threshold"),
    ),
)

ROLES = Table(
    "ops",
    "roles",
    ("market", "provider", "since"),
    "Who takes part in golden: every change of role, the last one counts. A provider without one is primary.",
    (
        Column("market", "VARCHAR", "market code"),
        Column("provider", "VARCHAR", "provider, or provider@parser_version"),
        Column("role", "VARCHAR", "primary: takes part in golden; shadow: is only compared; retired: takes no part"),
        Column("since", "TIMESTAMPTZ", "when"),
        Column("reason", "VARCHAR", "why"),
    ),
)
