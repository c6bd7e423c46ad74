"""The analytics tables as data, made from the catalogue of indicators."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from vprism_pipelines.market import indicators
from vprism_pipelines.tables import POLARS, SESSION, SYMBOL, Column, SqlType, Table

_TYPES: dict[pl.DataType, SqlType] = {dtype: name for name, dtype in POLARS.items() if name != "JSON"}


def _columns(schema: Mapping[str, pl.DataType], described: Mapping[str, tuple[str, str]]) -> tuple[Column, ...]:
    return tuple(
        Column(name, _TYPES[dtype], *described.get(name, ("value carried to the next session", "")), nullable=True)
        for name, dtype in schema.items()
        if name not in ("symbol", "session")
    )


DAILY = Table(
    "analytics",
    "daily",
    ("symbol", "session"),
    "Returns, volatility and indicators of every traded bar, on the hfq basis; null until warm.",
    (
        SYMBOL,
        SESSION,
        *_columns(indicators.SCHEMA, {i.name: (i.description, i.unit) for i in indicators.catalogue()}),
    ),
)
STATE = Table(
    "analytics",
    "state",
    ("symbol",),
    "Where each symbol's recursions stand: what makes one new session cost one session.",
    (SYMBOL, SESSION, *_columns(indicators.STATE_SCHEMA, {})),
)
TABLES: tuple[Table, ...] = (DAILY, STATE)
