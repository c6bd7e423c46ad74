"""Keeping large tables in the order of their keys, so that a symbol's history is one stretch of the file.

Every run appends its session at the end: after a year of them one symbol lies in hundreds of places. Once the tail
exceeds a tenth of a table, the whole of it is written again in order.
"""

from __future__ import annotations

import duckdb

from vprism_pipelines.tables import CLEAN_BARS, GOLDEN_BARS, Table
from vprism_pipelines.warehouse.building import changed, note, noted, scalar
from vprism_pipelines.warehouse.indicator_tables import DAILY

__all__ = ["CLUSTERED", "TAIL", "recluster"]

CLUSTERED: tuple[Table, ...] = (CLEAN_BARS, GOLDEN_BARS, DAILY)
TAIL = 0.1
ENOUGH_ROWS = 122_880  # a row group: what is smaller is read whole anyway
STAGE = "clustered."  # watermark: rows of the table when it was last in order
_EVERY_MARKET = "*"


def recluster(connection: duckdb.DuckDBPyConnection, tables: tuple[Table, ...] = CLUSTERED) -> list[str]:
    """Write tables anew whose tail has grown too long, inside the caller's transaction.

    Args:
        connection: The private file.
        tables: Those to look at.

    Returns:
        Names of the tables that were written. Rows and their content are the same as before.
    """
    return [table.full_name for table in tables if _tail(connection, table) and _rewrite(connection, table)]


def _tail(connection: duckdb.DuckDBPyConnection, table: Table) -> bool:
    """Whether more than `TAIL` of the table came after it was last in order."""
    rows = scalar(connection, f"SELECT count(*) FROM {table.full_name}") or 0
    ordered = noted(connection, STAGE + table.full_name, _EVERY_MARKET)
    if ordered is None and rows:  # its first bulk was written in order
        note(connection, STAGE + table.full_name, _EVERY_MARKET, rows)
        return False
    return rows >= ENOUGH_ROWS and rows - (ordered or 0) > TAIL * rows


def _rewrite(connection: duckdb.DuckDBPyConnection, table: Table) -> int:
    """All rows in the order of the key; how many."""
    order = ", ".join(f'"{name}"' for name in table.key)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE in_order AS FROM {table.full_name} ORDER BY {order}")
    connection.execute(f"TRUNCATE {table.full_name}")
    rows = changed(connection, f"INSERT INTO {table.full_name} BY NAME FROM in_order")
    connection.execute("DROP TABLE in_order")
    note(connection, STAGE + table.full_name, _EVERY_MARKET, rows)
    return rows
