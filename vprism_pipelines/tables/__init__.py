"""The data dictionary: every table that crosses a boundary, described once as data.

The same `Table` gives the DuckDB DDL, the polars schema, the pandera contract (`quality.contracts`), Dagster's column
schema, the lineage and the pages in docs/. It stands on the lowest floor because providers, quality and warehouse all
speak it.
"""

from __future__ import annotations

from vprism_pipelines.tables.base import POLARS, SESSION, SYMBOL, SYMBOL_PATTERN, Column, Rule, SqlType, Table
from vprism_pipelines.tables.clean import CLEAN_ACTIONS, CLEAN_BARS, INSTRUMENTS, QUARANTINE, SYMBOL_MAP
from vprism_pipelines.tables.detective import PROPOSALS
from vprism_pipelines.tables.factor_fit import ADJUSTMENT_STEPS, FACTOR_FIT
from vprism_pipelines.tables.failovers import FAILOVERS
from vprism_pipelines.tables.findings import FINDINGS, RELIABILITY, TRACK_RECORD
from vprism_pipelines.tables.fundamentals import CLEAN_FUNDAMENTALS, RAW_FUNDAMENTALS
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
from vprism_pipelines.tables.quotes import CLEAN_QUOTES, CLEAN_TICKS, RAW_QUOTES, RAW_TICKS
from vprism_pipelines.tables.raw import FETCHES, RAW_ACTIONS, RAW_BARS, RAW_INSTRUMENTS
from vprism_pipelines.tables.revisions import REBASES
from vprism_pipelines.tables.shadow import ROLES, SHADOW_RUNS

__all__ = [
    "ADJUSTMENT_STEPS",
    "CLEAN_ACTIONS",
    "CLEAN_BARS",
    "CLEAN_FUNDAMENTALS",
    "CLEAN_QUOTES",
    "CLEAN_TICKS",
    "COLUMN_LINEAGE",
    "DIRTY",
    "DRIFT",
    "EVENTS",
    "FACTOR_FIT",
    "FACTOR_SETS",
    "FACTOR_STEPS",
    "FAILOVERS",
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
    "RAW_FUNDAMENTALS",
    "RAW_INSTRUMENTS",
    "RAW_QUOTES",
    "RAW_TABLES",
    "RAW_TICKS",
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

# The lake, by dataset: what parsers return.
RAW_TABLES: tuple[Table, ...] = (RAW_BARS, RAW_ACTIONS, RAW_INSTRUMENTS, RAW_FUNDAMENTALS, RAW_QUOTES, RAW_TICKS)

TABLES: tuple[Table, ...] = (
    FETCHES,
    CLEAN_BARS,
    CLEAN_ACTIONS,
    INSTRUMENTS,
    CLEAN_FUNDAMENTALS,
    CLEAN_QUOTES,
    CLEAN_TICKS,
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
    FAILOVERS,
    SCORECARD,
    FACTOR_FIT,
    ADJUSTMENT_STEPS,
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
LOGICAL: tuple[Table, ...] = (GOLDEN_BARS, EVENTS, FACTOR_STEPS, FACTOR_SETS, FACTOR_FIT, ADJUSTMENT_STEPS)
