"""Column lineage of the whole warehouse: declared with the tables and the indicators, stored, and walked up or down.

The same declaration gives `ops.column_lineage`, Dagster's column lineage and `vprism lineage`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import duckdb
import polars as pl

from vprism_pipelines import tables
from vprism_pipelines.errors import InvalidInput
from vprism_pipelines.market import indicators
from vprism_pipelines.tables import COLUMN_LINEAGE, Table
from vprism_pipelines.warehouse import schema
from vprism_pipelines.warehouse.building import insert
from vprism_pipelines.warehouse.indicator_tables import REFERENCES

Kind = Literal["value", "choice"]

# What the indicators read, as `warehouse.analytics` makes it of golden bars and factors.
_HFQ, _SHARES = "golden.factor_steps.hfq", "golden.factor_steps.shares"
INPUTS: Final[Mapping[str, tuple[str, ...]]] = {
    **{name: (f"golden.bars.{name}", _HFQ) for name in ("open", "high", "low", "close")},
    **{f"raw_{name}": (f"golden.bars.{name}",) for name in ("high", "low", "close")},
    **{f"split_{name}": (f"golden.bars.{name}", _SHARES) for name in ("high", "low", "close")},
    "volume": ("golden.bars.volume", _SHARES),
    "value": ("golden.bars.value",),
    "benchmark": ("golden.bars.close", _HFQ),
}
_TRADED = ("golden.bars.volume", "golden.sessions.session")  # indicators are made of traded bars of sessions


@dataclass(frozen=True, slots=True)
class Edge:
    """`column` of `table` is made of `source_column` of `source_table`; `*`: the whole table is decided by it."""

    table: str
    column: str
    source_table: str
    source_column: str
    kind: Kind = "value"

    @property
    def target(self) -> str:
        return f"{self.table}.{self.column}"

    @property
    def source(self) -> str:
        return f"{self.source_table}.{self.source_column}"


@dataclass(frozen=True, slots=True)
class Node:
    """A column in a walk: how many steps from the start, through which column, and whether it was shown before."""

    column: str
    depth: int
    via: str | None
    description: str
    repeated: bool


@lru_cache(maxsize=1)
def dictionary() -> Mapping[str, Table]:
    """Every table by its full name, the logical ones of the lake included."""
    listed = (*tables.RAW_TABLES, *schema.TABLES)
    return {table.full_name: table for table in listed}


@lru_cache(maxsize=1)
def edges() -> tuple[Edge, ...]:
    """The whole lineage."""
    return tuple(edge for table in dictionary().values() for edge in _of(table))


def sources(table: Table) -> dict[str, tuple[str, ...]]:
    """What each column of a table is made of; columns of nobody's data are there with nothing."""
    if table.full_name == "analytics.daily":
        return {
            "symbol": ("golden.bars.symbol",),
            "session": ("golden.bars.session",),
            **{indicator.name: _read(indicator.inputs) or _TRADED for indicator in indicators.catalogue()},
            **{column.name: column.sources for column in REFERENCES},
        }
    if table.full_name == "analytics.state":
        kept: dict[str, tuple[str, ...]] = {"symbol": ("golden.bars.symbol",), "session": ("golden.bars.session",)}
        kept |= dict.fromkeys(("bars", "since"), _TRADED)
        return {
            column.name: kept.get(column.name, _read(_STATE.get(column.name, ("close",)))) for column in table.columns
        }
    return {column.name: column.sources for column in table.columns}


def store(connection: duckdb.DuckDBPyConnection) -> None:
    """Write the lineage into `ops.column_lineage`, replacing what an older version declared."""
    rows = pl.DataFrame(
        [(edge.table, edge.column, edge.source_table, edge.source_column, edge.kind) for edge in edges()],
        schema=COLUMN_LINEAGE.polars_schema,
        orient="row",
    )
    connection.execute("DELETE FROM ops.column_lineage")
    insert(connection, COLUMN_LINEAGE, rows)


def walk(column: str, *, down: bool = False) -> list[Node]:
    """The columns a column is made of, up to the raw ones; or those made of it, down to the analytics.

    Args:
        column: `schema.table.column`.
        down: What is made of it, instead of what it is made of.

    Returns:
        Depth first, the column itself first. A column met again is there once more, without what follows it.

    Raises:
        InvalidInput: There is no such column.
    """
    known = dictionary()
    table, _, name = column.rpartition(".")
    if table not in known or name not in known[table].names:
        raise InvalidInput(
            f"there is no column {column!r}",
            hint=f"{table} has {', '.join(known[table].names)}"
            if table in known
            else f"name it as schema.table.column; the tables are {', '.join(sorted(known))}",
        )
    ways: dict[str, list[str]] = {}
    for edge in edges():
        if edge.kind == "value":
            start, end = (edge.source, edge.target) if down else (edge.target, edge.source)
            ways.setdefault(start, []).append(end)
    return list(_visited(column, ways, 0, None, set()))


def decided_by(table: str) -> list[str]:
    """Columns that decide which rows a table holds."""
    return [edge.source for edge in edges() if edge.kind == "choice" and edge.table == table]


def _visited(column: str, ways: Mapping[str, list[str]], depth: int, via: str | None, seen: set[str]) -> Iterator[Node]:
    table, _, name = column.rpartition(".")
    described = next(known.description for known in dictionary()[table].columns if known.name == name)
    repeated = column in seen and bool(ways.get(column))
    yield Node(column, depth, via, described, repeated)
    if repeated:
        return
    seen.add(column)
    for following in ways.get(column, ()):
        yield from _visited(following, ways, depth + 1, column, seen)


def _of(table: Table) -> Iterator[Edge]:
    for column, made_of in sources(table).items():
        for source in made_of:
            where, _, name = source.rpartition(".")
            yield Edge(table.full_name, column, where, name)
    chosen = _TRADED if table.full_name == "analytics.daily" else table.decided_by
    for source in chosen:
        where, _, name = source.rpartition(".")
        yield Edge(table.full_name, "*", where, name, "choice")


def _read(inputs: tuple[str, ...]) -> tuple[str, ...]:
    """Columns of golden behind some inputs of the indicators, each once."""
    return tuple(dict.fromkeys(source for name in inputs for source in INPUTS[name]))


# What the recursions carry is made of the close but for these.
_RANGE = ("high", "low", "close")
_STATE: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("atr", "plus_dm", "minus_dm", "dm_range", "adx"), _RANGE),
    "obv": ("close", "volume"),
}
