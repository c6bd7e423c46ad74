"""What the incremental builds share: watermarks, work left for the next stage, replacing rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import duckdb
import polars as pl

from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.tables import Table
from vprism_pipelines.warehouse.writer import next_batch

T = TypeVar("T")
R = TypeVar("R")

Query = Callable[[str, dict[str, Any]], pl.DataFrame]
"""Runs SQL over a warehouse and returns the rows."""


@dataclass(frozen=True, slots=True)
class Built:
    """What a build did: keys looked at and rows written."""

    touched: int
    written: int
    detail: dict[str, int] = field(default_factory=dict)


def prefix(spec: MarketSpec, column: str = "symbol") -> str:
    """SQL for "rows of this market"; written as a range so that row groups can be skipped."""
    return f"{column} >= '{spec.prefix}:' AND {column} < '{spec.prefix};'"


def watermark(connection: duckdb.DuckDBPyConnection, stage: str, spec: MarketSpec, *, rules: int | None = None) -> int:
    """The last writer transaction that a stage has seen; 0: none, or not under these rules, if it has any."""
    if rules is not None and noted(connection, _rules_of(stage), spec.code) != rules:
        return 0
    return noted(connection, stage, spec.code) or 0


def noted(connection: duckdb.DuckDBPyConnection, stage: str, market: str) -> int | None:
    """The number kept for a stage; None: none yet."""
    row = connection.execute(
        "SELECT batch FROM ops.watermarks WHERE stage = ? AND market = ?", [stage, market]
    ).fetchone()
    return int(row[0]) if row else None


def set_watermark(
    connection: duckdb.DuckDBPyConnection, stage: str, spec: MarketSpec, batch: int, *, rules: int | None = None
) -> None:
    """Remember how far a stage has come, and under which rules."""
    note(connection, stage, spec.code, batch)
    if rules is not None:
        note(connection, _rules_of(stage), spec.code, rules)


def _rules_of(stage: str) -> str:
    return f"{stage} rules"


def note(connection: duckdb.DuckDBPyConnection, stage: str, market: str, number: int) -> None:
    """Keep a number for a stage."""
    connection.execute("DELETE FROM ops.watermarks WHERE stage = ? AND market = ?", [stage, market])
    connection.execute("INSERT INTO ops.watermarks VALUES (?, ?, ?)", [stage, market, number])


def mark(connection: duckdb.DuckDBPyConnection, stage: str, symbols: str) -> None:
    """Leave work for another stage.

    Args:
        connection: In the caller's transaction.
        stage: Who has to catch up.
        symbols: Query of symbol and from_session.
    """
    connection.execute(
        f"""INSERT INTO ops.dirty BY NAME
            SELECT '{stage}' AS stage, symbol, from_session, {next_batch(connection)} AS batch FROM ({symbols})"""
    )


def take(connection: duckdb.DuckDBPyConnection, stage: str, spec: MarketSpec) -> int:
    """Move the work left for a stage into the temporary table `work` (symbol, from_session); how many symbols."""
    of_stage = f"FROM ops.dirty WHERE stage = '{stage}' AND {prefix(spec)}"
    found = changed(
        connection,
        "CREATE OR REPLACE TEMP TABLE work AS"
        f" SELECT symbol, min(from_session) AS from_session {of_stage} GROUP BY symbol",
    )
    connection.execute(f"DELETE {of_stage}")
    return found


def frame(connection: duckdb.DuckDBPyConnection, sql: str, parameters: dict[str, object] | None = None) -> pl.DataFrame:
    """The rows of a query."""
    return pl.DataFrame(connection.execute(sql, parameters).to_arrow_table())


def insert(connection: duckdb.DuckDBPyConnection, table: Table, rows: pl.DataFrame, *, ordered: bool = False) -> int:
    """Append rows in the order of the table's key; how many.

    Args:
        connection: In the caller's transaction.
        table: Where to.
        rows: Columns of the table, in any order and with others among them.
        ordered: They are in the order of the key already.
    """
    if rows.is_empty():
        return 0
    conformed = table.conform(rows)
    to_append = conformed if ordered else conformed.sort(table.key)  # noqa: F841 - DuckDB reads it by its name
    with one_thread(connection):
        # By name, not registered: a transaction would hold every registered frame in memory until it ends.
        connection.execute(f"INSERT INTO {table.full_name} BY NAME SELECT * FROM to_append")
    return rows.height


@contextmanager
def one_thread(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Let one thread append: several take twice its time, and leave smaller pieces in a larger file."""
    threads = scalar(connection, "SELECT current_setting('threads')")
    connection.execute("SET threads = 1")
    yield
    # Not after a failure: the transaction is over then, and DuckDB would say that in place of what went wrong.
    connection.execute(f"SET threads = {threads}")


def replace_differing(connection: duckdb.DuckDBPyConnection, table: Table, view: str, scope: str) -> int:
    """Replace the rows of every symbol that has any row that differs; others are not touched. The symbols that moved
    stand in the temporary table `moved` until the next call.

    Args:
        connection: In the caller's transaction.
        table: Which table.
        view: Relation of all rows that are to stand in the scope.
        scope: Condition on symbols.
    """
    standing = f"(FROM {table.full_name} WHERE {scope})"
    columns = ", ".join(f'"{name}"' for name in table.names)
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE moved AS
            SELECT DISTINCT symbol FROM (
                (SELECT {columns} FROM {view} EXCEPT SELECT {columns} FROM {standing})
                UNION ALL (SELECT {columns} FROM {standing} EXCEPT SELECT {columns} FROM {view}))"""
    )
    connection.execute(f"DELETE FROM {table.full_name} WHERE symbol IN (SELECT symbol FROM moved)")
    order = ", ".join(table.key)
    connection.execute(
        f"INSERT INTO {table.full_name} BY NAME SELECT * FROM {view} SEMI JOIN moved USING (symbol) ORDER BY {order}"
    )
    return int(scalar(connection, "SELECT count(*) FROM moved") or 0)


def copies(connection: duckdb.DuckDBPyConnection, table: Table, scope: str = "true") -> pl.DataFrame:
    """Keys that stand more than once among the rows of a table in a scope: the columns of its key, and `copies`."""
    suspects = scope
    if table.key == ("symbol", "session"):  # a bit for each session costs a quarter of a group for each key
        day = "(session - DATE '1970-01-01')::INTEGER"
        ends = f"SELECT coalesce(min({day}), 0), coalesce(max({day}), 0) FROM {table.full_name}"
        ((first, last),) = connection.execute(ends).fetchall()
        sessions = f"bitstring_agg({day}, {first}, {last})"
        repeating = f"""SELECT symbol FROM {table.full_name} WHERE {scope}
                        GROUP BY symbol HAVING count(*) > bit_count({sessions})"""
        suspects = f"({scope}) AND symbol IN ({repeating})"
    key = ", ".join(table.key)
    return frame(
        connection,
        f"""SELECT {key}, count(*) AS copies FROM {table.full_name} WHERE {suspects}
            GROUP BY {key} HAVING copies > 1 ORDER BY ALL""",
    )


def side_by_side(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Results in the order of the items, two computed at a time, the next item made meanwhile: no more is in memory."""
    with ThreadPoolExecutor(2) as pool:
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def write_behind(items: Iterable[T], make: Callable[[T], R], write: Callable[[R], int]) -> int:
    """How many rows were written: one thread writes what was made of an item while the next one is made.

    Nothing is written while the next item is read, so that both may use one connection; making it may not.
    """
    written = 0
    waiting: list[R] = []
    with ThreadPoolExecutor(1) as beside:
        for item in items:
            writing = [beside.submit(write, made) for made in waiting]
            waiting = [make(item)]
            written += sum(rows.result() for rows in writing)
    return written + sum(map(write, waiting))


def changed(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    """Run a statement; how many rows it wrote."""
    return int(scalar(connection, sql) or 0)


def scalar(connection: duckdb.DuckDBPyConnection, sql: str) -> int | None:
    """The first value of the first row."""
    row = connection.execute(sql).fetchone()
    return row[0] if row else None
