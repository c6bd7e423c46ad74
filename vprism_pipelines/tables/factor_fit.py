"""How our adjustment factors reproduce the adjusted closes that providers publish."""

from __future__ import annotations

from vprism_pipelines.tables.base import PROVIDER, SESSION, SYMBOL, Column, Table

_PRICE = "currency per share"

FACTOR_FIT = Table(
    "quality",
    "factor_fit",
    ("symbol", "provider"),
    "How near our factors come to the adjusted closes of each series that has any.",
    (
        SYMBOL,
        PROVIDER,
        Column("bars", "BIGINT", "bars with a raw and an adjusted close", "bars"),
        Column("unit", "DOUBLE", "what the provider rounds adjusted closes to; 0: nothing that shows", _PRICE),
        Column("convention", "VARCHAR", "prev_close or ex_close: with which our factors come nearer"),
        Column("missed", "BIGINT", "of the bars, those that our factors miss by more than rounding", "bars"),
        Column("session", "DATE", "of the bar missed by most", nullable=True),
        Column("close", "DOUBLE", "its raw close", _PRICE, nullable=True),
        Column("published", "DOUBLE", "its adjusted close as published", _PRICE, nullable=True),
        Column("missed_by", "DOUBLE", "distance from ours", _PRICE, nullable=True),
    ),
)

ADJUSTMENT_STEPS = Table(
    "quality",
    "adjustment_steps",
    ("symbol", "provider", "session"),
    "Bars on which a provider's adjusted / raw close steps and ours does not, or by another factor.",
    (
        SYMBOL,
        PROVIDER,
        SESSION,
        Column("theirs", "DOUBLE", "multiplier between the bar before and this one", "ratio", rule="positive"),
        Column("ours", "DOUBLE", "the same of our factors, previous-close convention", "ratio", rule="positive"),
        Column("finding", "VARCHAR", "no event is known, or another step"),
    ),
)
