"""The analytics tables as data, made from the catalogue of indicators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import polars as pl

from vprism_pipelines.market import indicators
from vprism_pipelines.tables import POLARS, SESSION, SYMBOL, Column, SqlType, Table
from vprism_pipelines.tables.base import VALUE, VOLUME, prices
from vprism_pipelines.warehouse import market_tables

_TYPES: dict[pl.DataType, SqlType] = {dtype: name for name, dtype in POLARS.items() if name != "JSON"}


def _columns(schema: Mapping[str, pl.DataType], described: Mapping[str, tuple[str, str]]) -> tuple[Column, ...]:
    return tuple(
        Column(name, _TYPES[dtype], *described.get(name, ("value carried to the next session", "")), nullable=True)
        for name, dtype in schema.items()
        if name not in ("symbol", "session")
    )


_BARS, _REFERENCE = "golden.bars.", ("close", "value", "volume", "exchange")
_MEASURED = (*(f"{_BARS}{name}" for name in _REFERENCE), "golden.factor_steps.ref_price")
REFERENCES: tuple[Column, ...] = (
    Column(
        "reference",
        "DOUBLE",
        "price the session is measured against: the close before, a venue's average, on an ex-date the theoretical one",
        "currency per share",
        nullable=True,
        sources=_MEASURED,
    ),
    Column("change", "DOUBLE", "close / reference - 1, as traded", "fraction", nullable=True, sources=_MEASURED),
    Column(
        "limit_hit",
        "INTEGER",
        "1 closed at the ceiling, -1 at the floor, 0 between; null: no limit known",
        nullable=True,
        sources=(*_MEASURED, f"{_BARS}high", f"{_BARS}low", "golden.sessions.session"),
    ),
)
"""What `market.references` adds to the indicators."""
DAILY = Table(
    "analytics",
    "daily",
    ("symbol", "session"),
    "Returns, volatility and indicators of every traded bar, on the hfq basis; null until warm.",
    (
        SYMBOL,
        SESSION,
        *_columns(indicators.SCHEMA, {i.name: (i.description, i.unit) for i in indicators.catalogue()}),
        *REFERENCES,
    ),
)
STATE = Table(
    "analytics",
    "state",
    ("symbol",),
    "Where each symbol's recursions stand: what makes one new session cost one session.",
    (SYMBOL, SESSION, *_columns(indicators.STATE_SCHEMA, {})),
)
TAIL = Table(
    "analytics",
    "tail",
    ("symbol", "session"),
    "The bars that the windows of the next sessions reach, and their factors: golden holds them too, among many more.",
    (
        SYMBOL,
        SESSION,
        *(replace(c, sources=(f"{_BARS}{c.name}",)) for c in prices() if c.name != "open"),
        *(replace(c, sources=(f"{_BARS}{c.name}",)) for c in (VOLUME, VALUE)),
        Column("hfq", "DOUBLE", "price factor of the session", "ratio", sources=("golden.factor_steps.hfq",)),
        Column("shares", "DOUBLE", "share factor of the session", "ratio", sources=("golden.factor_steps.shares",)),
    ),
)
TABLES: tuple[Table, ...] = (DAILY, STATE, TAIL, *market_tables.TABLES)
LOGICAL: tuple[Table, ...] = (DAILY, *market_tables.TABLES)
