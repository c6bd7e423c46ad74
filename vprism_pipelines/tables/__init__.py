"""The data dictionary: every table that crosses a boundary, described once as data.

The same `Table` gives the DuckDB DDL, the polars schema, the pandera contract (`quality.contracts`), Dagster's column
schema, the lineage and the pages in docs/. It stands on the lowest floor because providers, quality and warehouse all
speak it.
"""

from __future__ import annotations

from vprism_pipelines.tables.base import POLARS, SESSION, SYMBOL, SYMBOL_PATTERN, Column, Rule, SqlType, Table
from vprism_pipelines.tables.clean import CLEAN_ACTIONS, CLEAN_BARS, INSTRUMENTS, QUARANTINE, SYMBOL_MAP
from vprism_pipelines.tables.detective import PROPOSALS
from vprism_pipelines.tables.findings import FINDINGS, RELIABILITY, TRACK_RECORD
from vprism_pipelines.tables.golden import EVENTS, FACTOR_SETS, FACTOR_STEPS, GOLDEN_BARS, GOLDEN_SESSIONS
from vprism_pipelines.tables.lineage import COLUMN_LINEAGE
from vprism_pipelines.tables.ops import DIRTY, INGESTS, RUNS, SNAPSHOTS, WATERMARKS
from vprism_pipelines.tables.quality import (
    DRIFT,
    METRICS,
    PROVIDER_HEALTH,
    RECONCILIATION_DIFFS,
    RECONCILIATION_RUNS,
    SCORECARD,
)
from vprism_pipelines.tables.raw import FETCHES, RAW_ACTIONS, RAW_BARS, RAW_INSTRUMENTS
from vprism_pipelines.tables.revisions import REBASES
from vprism_pipelines.tables.shadow import ROLES, SHADOW_RUNS

__all__ = [
    "CLEAN_ACTIONS",
    "CLEAN_BARS",
    "COLUMN_LINEAGE",
    "DIRTY",
    "DRIFT",
    "EVENTS",
    "FACTOR_SETS",
    "FACTOR_STEPS",
    "FETCHES",
    "FINDINGS",
    "GOLDEN_BARS",
    "GOLDEN_SESSIONS",
    "INGESTS",
    "INSTRUMENTS",
    "LOGICAL",
    "METRICS",
    "POLARS",
    "PROPOSALS",
    "PROVIDER_HEALTH",
    "QUARANTINE",
    "RAW_ACTIONS",
    "RAW_BARS",
    "RAW_INSTRUMENTS",
    "REBASES",
    "RECONCILIATION_DIFFS",
    "RECONCILIATION_RUNS",
    "RELIABILITY",
    "ROLES",
    "RUNS",
    "SCORECARD",
    "SESSION",
    "SHADOW_RUNS",
    "SNAPSHOTS",
    "SYMBOL",
    "SYMBOL_MAP",
    "SYMBOL_PATTERN",
    "TABLES",
    "TRACK_RECORD",
    "WATERMARKS",
    "Column",
    "Rule",
    "SqlType",
    "Table",
]

TABLES: tuple[Table, ...] = (
    FETCHES,
    CLEAN_BARS,
    CLEAN_ACTIONS,
    INSTRUMENTS,
    SYMBOL_MAP,
    QUARANTINE,
    FINDINGS,
    TRACK_RECORD,
    RELIABILITY,
    REBASES,
    GOLDEN_BARS,
    GOLDEN_SESSIONS,
    EVENTS,
    FACTOR_STEPS,
    FACTOR_SETS,
    METRICS,
    RECONCILIATION_RUNS,
    RECONCILIATION_DIFFS,
    DRIFT,
    PROVIDER_HEALTH,
    SCORECARD,
    PROPOSALS,
    SHADOW_RUNS,
    ROLES,
    COLUMN_LINEAGE,
    INGESTS,
    RUNS,
    WATERMARKS,
    DIRTY,
    SNAPSHOTS,
)

# Functions of the lake alone, up to the indicators, which are described where they are computed.
LOGICAL: tuple[Table, ...] = (GOLDEN_BARS, EVENTS, FACTOR_STEPS, FACTOR_SETS)
