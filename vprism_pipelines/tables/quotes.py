"""What perishes: quotes of the moment and single trades, as one provider gives them and in one set of units.

The column is `instant` because AT is a word of DuckDB's own.
"""

from __future__ import annotations

from vprism_pipelines.tables.base import (
    CURRENCY,
    FETCH_ID,
    PROVIDER,
    SYMBOL,
    VALUE,
    VERSION,
    VOLUME,
    Column,
    Rule,
    Table,
)
from vprism_pipelines.tables.raw import PRICE_UNIT, RAW_SYMBOL, ROW

_PER_SHARE = "currency per share"
_DELAYED = Column(
    "delayed", "BOOLEAN", "the provider says that it is behind the exchange; null: it does not say", nullable=True
)
_SEQ = Column("seq", "BIGINT", "order of the trades of a session, as the provider numbers them")
_SIDE = Column("side", "VARCHAR", "buy or sell: who crossed the spread; auction; null: unknown", nullable=True)


def _raw(name: str, description: str, unit: str = "price_unit") -> Column:
    return Column(name, "DOUBLE", description, unit, nullable=True)


def _price(name: str, description: str, rule: Rule = "positive", *, nullable: bool = True) -> Column:
    return Column(name, "DOUBLE", description, _PER_SHARE, nullable, rule)


RAW_QUOTES = Table(
    "raw",
    "quotes",
    ("fetch_id", "row"),
    "Quotes as one provider gives them.",
    (
        FETCH_ID,
        ROW,
        RAW_SYMBOL,
        Column("instant", "TIMESTAMPTZ", "instant of the last trade, as the provider gives it", nullable=True),
        _raw("last", "last price"),
        _raw("bid", "best bid; 0: there is none"),
        _raw("ask", "best offer; 0: there is none"),
        _raw("reference", "what the day's change is measured against"),
        _raw("volume", "volume of the day so far", "shares"),
        _raw("value", "traded value of the day so far", "value_unit"),
        Column("currency", "VARCHAR", "as stated; null: the market's", nullable=True),
        _DELAYED,
        PRICE_UNIT,
        Column("value_unit", "DOUBLE", "1e6 for million VND", "currency per unit of value", rule="positive"),
    ),
)

CLEAN_QUOTES = Table(
    "clean",
    "quotes_ledger",
    ("symbol", "instant", "provider", "known_from"),
    "What each provider quoted at each instant it was asked.",
    (
        SYMBOL,
        Column("instant", "TIMESTAMPTZ", "instant of the last trade"),
        PROVIDER,
        _price("last", "last price", nullable=False),
        _price("bid", "best bid; null: there is none"),
        _price("ask", "best offer; null: there is none"),
        _price("reference", "what the change is measured against: the exchange's reference or the previous close"),
        Column("change", "DOUBLE", "last / reference - 1", "fraction", nullable=True, rule="finite"),
        VOLUME,
        VALUE,
        CURRENCY,
        _DELAYED,
        *VERSION,
    ),
)

RAW_TICKS = Table(
    "raw",
    "ticks",
    ("fetch_id", "row"),
    "Single trades as one provider gives them.",
    (
        FETCH_ID,
        ROW,
        RAW_SYMBOL,
        Column("instant", "TIMESTAMPTZ", "instant of the trade", nullable=True),
        Column("seq", "BIGINT", _SEQ.description, nullable=True),
        _raw("price", "price of the trade"),
        _raw("volume", "volume of the trade", "shares"),
        _SIDE,
        PRICE_UNIT,
    ),
)

CLEAN_TICKS = Table(
    "clean",
    "ticks_ledger",
    ("symbol", "instant", "seq", "provider", "known_from"),
    "Single trades, as each provider gave them before they were gone.",
    (
        SYMBOL,
        Column("instant", "TIMESTAMPTZ", "instant of the trade"),
        _SEQ,
        PROVIDER,
        _price("price", "price of the trade", nullable=False),
        Column("volume", "BIGINT", "volume of the trade", "shares", rule="positive"),
        _SIDE,
        *VERSION,
    ),
)
