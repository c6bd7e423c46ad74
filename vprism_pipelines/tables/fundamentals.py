"""Figures that companies report: as one provider gives them, and with the day from which the market could know them."""

from __future__ import annotations

from vprism_pipelines.tables.base import (
    FETCH_ID,
    PROVIDER,
    SYMBOL,
    VERSION,
    Column,
    Table,
)
from vprism_pipelines.tables.raw import RAW_SYMBOL, ROW

_PERIOD_KIND = Column(
    "period_kind", "VARCHAR", "Q a quarter, Y a fiscal year, TTM four quarters up to the end, D that day alone"
)
_STATEMENT = Column(
    "statement", "VARCHAR", "income, balance, cash_flow, ratio, earnings or market; report where nobody says which"
)
_ITEM = Column("item", "VARCHAR", "the provider's name of the figure")
_UNIT = "currency, per_share, shares, ratio or days; null: the provider does not say"
_PUBLISHED = Column("published", "DATE", "when it was published, as declared; null: nobody says", nullable=True)

RAW_FUNDAMENTALS = Table(
    "raw",
    "fundamentals",
    ("fetch_id", "row"),
    "Reported figures as one provider gives them, one row per figure.",
    (
        FETCH_ID,
        ROW,
        RAW_SYMBOL,
        Column("period_end", "DATE", "last day of the period", nullable=True),
        _PERIOD_KIND,
        _STATEMENT,
        _ITEM,
        Column("value", "DOUBLE", "the figure", "value_unit", nullable=True),
        Column("value_unit", "DOUBLE", "1e9 for billion VND, 0.01 for percent", "units per 1", rule="positive"),
        Column("unit", "VARCHAR", _UNIT, nullable=True),
        Column("currency", "VARCHAR", "as stated; null: the market's", nullable=True),
        _PUBLISHED,
    ),
)

CLEAN_FUNDAMENTALS = Table(
    "clean",
    "fundamentals_ledger",
    ("symbol", "period_end", "period_kind", "statement", "item", "provider", "known_from"),
    "Every figure every provider ever gave, with the day from which it could be known: versions, never overwritten.",
    (
        SYMBOL,
        Column("period_end", "DATE", "last day of the period"),
        _PERIOD_KIND,
        _STATEMENT,
        _ITEM,
        PROVIDER,
        Column("value", "DOUBLE", "the figure, ratios as fractions", "see unit", rule="finite"),
        Column("unit", "VARCHAR", _UNIT, nullable=True),
        Column("currency", "VARCHAR", "ISO 4217 code of amounts; null: not an amount", nullable=True, rule="currency"),
        _PUBLISHED,
        Column(
            "available_from",
            "DATE",
            "first day on which it may be used: the day after it was published, after the deadline for filing it, or"
            " after it was first read, whichever is certain first",
        ),
        Column("estimated", "BOOLEAN", "available_from rests on the deadline: nobody declared when it was published"),
        *VERSION,
    ),
)
