"""A table stays in the order of its key: its tail is sorted in when it has grown too long, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import polars as pl
import pytest

from vprism_pipelines.warehouse import clustering, schema
from vprism_pipelines.warehouse.clustering import recluster

TABLE = clustering.GOLDEN_BARS


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Iterator[duckdb.DuckDBPyConnection]:
    monkeypatch.setattr(clustering, "ENOUGH_ROWS", 100)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        schema.ensure(connection)
        yield connection


def add(connection: duckdb.DuckDBPyConnection, first: int, sessions: int) -> None:
    """Ten symbols on some sessions, session by session, as days arrive."""
    connection.execute(
        f"""INSERT INTO {TABLE.full_name} BY NAME
            SELECT 'US:STOCK:S' || s AS symbol, DATE '2024-01-01' + d AS session, 1.0 AS open, 1.0 AS high, 1.0 AS low,
                   1.0 AS close, 'USD' AS currency, 'one' AS chosen_provider, 1 AS n_sources, 1.0 AS confidence,
                   'raw' AS price_basis, 0 AS flags, TIMESTAMPTZ '2025-01-01 00:00:00+00' AS known_from
            FROM (SELECT unnest(range({first}, {first + sessions}))::INTEGER AS d), (SELECT unnest(range(10)) AS s)
            ORDER BY d, s"""
    )


def rows(connection: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    return pl.DataFrame(connection.execute(f"FROM {TABLE.full_name}").to_arrow_table())


def test_a_long_tail_is_sorted_in_and_no_row_changes(connection: duckdb.DuckDBPyConnection) -> None:
    add(connection, 0, 10)
    assert recluster(connection, (TABLE,)) == []  # the first bulk counts as in order
    add(connection, 10, 2)
    before = rows(connection)
    assert recluster(connection, (TABLE,)) == [TABLE.full_name]
    assert rows(connection).equals(before.sort(TABLE.key))
    assert not before.equals(before.sort(TABLE.key))


def test_a_short_tail_and_a_small_table_are_left_alone(connection: duckdb.DuckDBPyConnection) -> None:
    add(connection, 0, 4)
    assert recluster(connection, (TABLE,)) == []
    add(connection, 4, 4)  # doubled, and still small
    assert recluster(connection, (TABLE,)) == []
    add(connection, 8, 92)
    assert recluster(connection, (TABLE,)) == [TABLE.full_name]
    add(connection, 100, 10)  # a tail of a tenth at most
    assert recluster(connection, (TABLE,)) == []


def test_what_is_undone_leaves_the_table_as_it_was(connection: duckdb.DuckDBPyConnection) -> None:
    add(connection, 0, 10)
    recluster(connection, (TABLE,))
    add(connection, 10, 10)
    before = rows(connection)
    connection.begin()
    assert recluster(connection, (TABLE,))
    connection.rollback()
    assert rows(connection).equals(before)
    assert recluster(connection, (TABLE,)) == [TABLE.full_name]
