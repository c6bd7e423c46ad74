"""Who was asked instead of a provider that did not deliver."""

from __future__ import annotations

from vprism_pipelines.tables.base import MARKET, PROVIDER, SYMBOL, Column, Table

FAILOVERS = Table(
    "quality",
    "failovers",
    ("run_id", "market", "dataset", "provider", "symbol", "fallback"),
    "Every symbol that a provider owed us, who was asked instead, and what came of it.",
    (
        Column("run_id", "VARCHAR", "run in which it happened"),
        MARKET,
        Column("dataset", "VARCHAR", "what was asked for"),
        PROVIDER,
        SYMBOL,
        Column("reason", "VARCHAR", "error code of the failure (raw.fetches)"),
        Column("detail", "VARCHAR", "what the failure said"),
        Column("fallback", "VARCHAR", "provider asked instead; stored: nobody delivered, the data at hand stands"),
        Column("outcome", "VARCHAR", "delivered, failed; pending: asked later in the same run; stale"),
        Column("decided_at", "TIMESTAMPTZ", "when"),
    ),
)
