"""What a table and a column are, and the columns that many tables share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import polars as pl

from vprism_pipelines.tables.origins import DECIDES
from vprism_pipelines.tables.sources import SOURCES

SqlType = Literal[
    "VARCHAR", "DATE", "DOUBLE", "BIGINT", "INTEGER", "BOOLEAN", "TIMESTAMPTZ", "VARCHAR[]", "JSON", "BLOB"
]
Rule = Literal["", "positive", "not_negative", "finite", "share", "symbol", "currency"]

POLARS: Mapping[SqlType, pl.DataType] = MappingProxyType(
    {
        "VARCHAR": pl.String(),
        "DATE": pl.Date(),
        "DOUBLE": pl.Float64(),
        "BIGINT": pl.Int64(),
        "INTEGER": pl.Int32(),
        "BOOLEAN": pl.Boolean(),
        "TIMESTAMPTZ": pl.Datetime("us", "UTC"),
        "VARCHAR[]": pl.List(pl.String()),
        "JSON": pl.String(),
        "BLOB": pl.Binary(),
    }
)
SYMBOL_PATTERN = r"^[A-Z]{2}:[A-Z_]+:[A-Z0-9.\-]+$"


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its type, meaning and unit, whether it may be null, the rule each value obeys, and its sources."""

    name: str
    type: SqlType
    description: str
    unit: str = ""
    nullable: bool = False
    rule: Rule = ""
    sources: tuple[str, ...] = ()
    """Columns it is made of, as `schema.table.column`; those of the dictionary are filled in from `tables.sources`."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its columns, its key (unique, proven before publishing), and what one row is."""

    schema: str
    name: str
    key: tuple[str, ...]
    description: str
    columns: tuple[Column, ...]
    ohlc: bool = False
    """low <= open, close <= high holds on every row."""
    decided_by: tuple[str, ...] = ()
    """Columns that decide which rows stand in it, and whose."""

    def __post_init__(self) -> None:
        known = SOURCES.get(self.full_name)
        if known is not None:
            sourced = (replace(column, sources=known.get(column.name, column.sources)) for column in self.columns)
            object.__setattr__(self, "columns", tuple(sourced))
            object.__setattr__(self, "decided_by", known.get(DECIDES, ()))

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def polars_schema(self) -> dict[str, pl.DataType]:
        return {column.name: POLARS[column.type] for column in self.columns}

    def ddl(self) -> str:
        """CREATE TABLE without keys or indexes: uniqueness is guaranteed by the writer and proven by a check."""
        columns = ", ".join(f'"{c.name}" {c.type}{"" if c.nullable else " NOT NULL"}' for c in self.columns)
        return f"CREATE TABLE IF NOT EXISTS {self.full_name} ({columns})"

    def conform(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame with exactly this table's columns, in order and type."""
        return frame.select(pl.col(name).cast(dtype) for name, dtype in self.polars_schema.items())


def prices(scope: str = "") -> tuple[Column, ...]:
    unit = "currency per share"
    return (
        Column("open", "DOUBLE", f"first price of the session{scope}", unit, rule="positive"),
        Column("high", "DOUBLE", f"highest price{scope}", unit, rule="positive"),
        Column("low", "DOUBLE", f"lowest price{scope}", unit, rule="positive"),
        Column("close", "DOUBLE", f"last price{scope}", unit, rule="positive"),
    )


def event_terms() -> tuple[Column, ...]:
    """What a corporate action is and how large; `market.adjustment` says what each does to a price."""
    return (
        Column("event_type", "VARCHAR", "cash, split, stock_dividend, bonus, rights, capital_gain, spin_off"),
        Column("seq", "INTEGER", "tells several events of one type on one day apart"),
        Column("cash", "DOUBLE", "per share held before the event", "currency per share", rule="finite"),
        Column("split_ratio", "DOUBLE", "new shares per old", "ratio", rule="positive"),
        Column("bonus_ratio", "DOUBLE", "additional shares per old", "ratio", rule="not_negative"),
        Column("rights_ratio", "DOUBLE", "subscribable shares per old", "ratio", rule="not_negative"),
        Column("rights_price", "DOUBLE", "subscription price", "currency per share", rule="not_negative"),
        CURRENCY,
    )


SYMBOL = Column("symbol", "VARCHAR", "canonical identifier MARKET:ASSET:CODE", rule="symbol")
SESSION = Column("session", "DATE", "trading day in the exchange's zone")
PROVIDER = Column("provider", "VARCHAR", "who says so")
MARKET = Column("market", "VARCHAR", "market code")
EX_DATE = Column("ex_date", "DATE", "first session without the entitlement")
CURRENCY = Column("currency", "VARCHAR", "ISO 4217 code", rule="currency")
FETCH_ID = Column("fetch_id", "VARCHAR", "the pull it came from (raw.fetches)")
PAYLOAD_ROW = Column("payload_row", "BIGINT", "row within the payload", "index from 0")
VOLUME = Column("volume", "BIGINT", "shares traded", "shares", nullable=True, rule="not_negative")
VALUE = Column("value", "DOUBLE", "traded value", "currency", nullable=True, rule="not_negative")
FLAGS = Column("flags", "INTEGER", "bits of quality.flags.BarFlag")
KNOWN_FROM = Column("known_from", "TIMESTAMPTZ", "since when this was believed: when the pull was complete")
KNOWN_TO = Column("known_to", "TIMESTAMPTZ", "until when; null: still believed", nullable=True)
CHANGE_CLASS = Column("change_class", "VARCHAR", "why this version exists (quality.revisions)")
BATCH = Column("batch", "BIGINT", "writer transaction that added it: the watermark of incremental builds")
VERSION = (KNOWN_FROM, KNOWN_TO, CHANGE_CLASS, FETCH_ID, PAYLOAD_ROW, BATCH)
"""What every ledger says of each version: since and until when, why, and where it came from."""
