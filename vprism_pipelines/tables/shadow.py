"""Providers and parsers on probation: compared with the one in use before they may replace it."""

from __future__ import annotations

from vprism_pipelines.tables.base import MARKET, Column, Table

_CANDIDATE = Column("provider", "VARCHAR", "the candidate: a provider, or provider@parser_version")
_AGAINST = "the provider it would stand beside or replace"

SHADOW_RUNS = Table(
    "quality",
    "shadow_runs",
    ("market", "provider", "run_id"),
    "Comparisons of a candidate with the provider in use, on the sessions that both have.",
    (
        MARKET,
        _CANDIDATE,
        Column("run_id", "VARCHAR", "run that compared"),
        Column("against", "VARCHAR", _AGAINST),
        Column("compared_at", "TIMESTAMPTZ", "when"),
        Column("range_start", "DATE", "first session compared", nullable=True),
        Column("range_end", "DATE", "last session compared", nullable=True),
        Column("batch", "BIGINT", "newest writer transaction of the candidate's bars: what tells new data from old"),
        Column("symbols", "BIGINT", "symbols compared", "symbols"),
        Column("rows", "BIGINT", "bars of the provider in use", "rows"),
        Column("row_diff_pct", "DOUBLE", "bars that only one of the two has", "percent of rows", nullable=True),
        Column("price_diff_bp_p95", "DOUBLE", "95th percentile of |close difference|", "basis points", nullable=True),
        Column("gap_ratio", "DOUBLE", "bars of the provider in use that the candidate lacks", "of rows", nullable=True),
        Column("passed", "BOOLEAN", "within every limit"),
    ),
)

ROLES = Table(
    "ops",
    "roles",
    ("market", "provider", "since"),
    "Who takes part in golden: every change of role, the last one counts. A provider without one is primary.",
    (
        MARKET,
        _CANDIDATE,
        Column("role", "VARCHAR", "primary: takes part in golden; shadow: is only compared; retired: takes no part"),
        Column("since", "TIMESTAMPTZ", "when"),
        Column("against", "VARCHAR", _AGAINST, nullable=True),
        Column("implementation", "VARCHAR", "module:class of a parser on probation", nullable=True),
        Column("decision", "VARCHAR", "changes made together share it: they are rolled back together"),
        Column("reason", "VARCHAR", "why"),
    ),
)
