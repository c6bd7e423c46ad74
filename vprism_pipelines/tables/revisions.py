"""What a provider's rewritten history says about the corporate action behind it."""

from __future__ import annotations

from vprism_pipelines.tables.base import KNOWN_FROM, PROVIDER, SYMBOL, Column, Table

REBASES = Table(
    "quality",
    "rebases",
    ("symbol", "provider", "known_from", "field", "last_session"),
    "Rewritten histories: everything before a date multiplied by one ratio between two pulls. Several ex-dates between"
    " two pulls give several rows.",
    (
        SYMBOL,
        PROVIDER,
        KNOWN_FROM,
        Column("field", "VARCHAR", "what was multiplied: prices, or adj_close alone"),
        Column("ratio", "DOUBLE", "new price / old price", "ratio", rule="positive"),
        Column("ratio_low", "DOUBLE", "smallest ratio that the rounding of the prices allows", "ratio"),
        Column("ratio_high", "DOUBLE", "largest", "ratio"),
        Column("factor", "DOUBLE", "of the ex-date alone: ratio / the ratio of the sessions from it on", "ratio"),
        Column("first_session", "DATE", "first session that was multiplied"),
        Column("last_session", "DATE", "last session that was multiplied"),
        Column("ex_date", "DATE", "first session after it that was not; null: none is known yet", nullable=True),
        Column(
            "ex_date_latest",
            "DATE",
            "latest session the ex-date can be; later than ex_date where the sessions from it on were first seen at"
            " once, on the new basis",
            nullable=True,
        ),
        Column("rows", "BIGINT", "sessions multiplied", "rows"),
        Column("spread", "DOUBLE", "largest relative deviation of a row from the ratio", "ratio"),
        Column("volume_ratio", "DOUBLE", "new volume / old volume, median; null: no volumes", "ratio", nullable=True),
    ),
)
