"""What a provider's rewritten history says about the corporate action behind it."""

from __future__ import annotations

from vprism_pipelines.tables.base import KNOWN_FROM, PROVIDER, SYMBOL, Column, Table

REBASES = Table(
    "quality",
    "rebases",
    ("symbol", "provider", "known_from"),
    "Rewritten histories: everything before a date multiplied by one ratio between two pulls.",
    (
        SYMBOL,
        PROVIDER,
        KNOWN_FROM,
        Column("ratio", "DOUBLE", "new price / old price", "ratio", rule="positive"),
        Column("first_session", "DATE", "first session that was multiplied"),
        Column("last_session", "DATE", "last session that was multiplied"),
        Column("ex_date", "DATE", "first session after it that was not", nullable=True),
        Column("rows", "BIGINT", "sessions multiplied", "rows"),
        Column("spread", "DOUBLE", "largest relative deviation of a row from the ratio", "ratio"),
    ),
)
