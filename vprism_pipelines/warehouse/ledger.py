"""The bitemporal ledger: what each provider said, and between which instants we believed it.

A version of a row is valid in [known_from, known_to). Remembering a pull costs nothing for rows that say what was
already believed at the time of the pull; a different value closes the version before it and opens a new one with the
class of the change. A late pull is threaded into the chain where it belongs; as repetitions are not kept, it must come
together with the pulls after it, and then the chain is the one that arriving in order would have given. A pull read
again, by a newer parser, replaces what it said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import duckdb
import polars as pl

from vprism_pipelines import tables
from vprism_pipelines.errors import WarehouseError
from vprism_pipelines.quality.order import in_order
from vprism_pipelines.tables import CLEAN_ACTIONS, CLEAN_BARS, Table
from vprism_pipelines.warehouse.building import changed, frame, scalar
from vprism_pipelines.warehouse.row_groups import in_row_groups


@dataclass(frozen=True, slots=True)
class Ledger:
    """How one ledger table is kept: which columns identify a fact, which carry its value, and which dates it."""

    table: Table
    key: tuple[str, ...]
    value: tuple[str, ...]
    date: str | None


BARS = Ledger(
    CLEAN_BARS,
    ("symbol", "session", "provider"),
    ("open", "high", "low", "close", "volume", "value", "adj_close", "currency", "price_basis", "provisional"),
    "session",
)
ACTIONS = Ledger(
    CLEAN_ACTIONS,
    ("symbol", "ex_date", "provider", "event_type", "seq"),
    ("cash", "split_ratio", "bonus_ratio", "rights_ratio", "rights_price", "currency", "inferred", "withdrawn"),
    "ex_date",
)
INSTRUMENTS = Ledger(
    tables.INSTRUMENTS,
    ("symbol", "provider"),
    ("name", "exchange", "currency", "listed", "delisted", "sector", "isin"),
    None,
)
FUNDAMENTALS = Ledger(
    tables.CLEAN_FUNDAMENTALS,
    ("symbol", "period_end", "period_kind", "statement", "item", "provider"),
    # available_from is no value: every later pull of the same figure would date it anew.
    ("value", "unit", "currency", "published"),
    "period_end",
)
QUOTES = Ledger(
    tables.CLEAN_QUOTES,
    ("symbol", "instant", "provider"),
    ("last", "bid", "ask", "reference", "volume", "value", "currency", "delayed"),
    "instant",
)
TICKS = Ledger(tables.CLEAN_TICKS, ("symbol", "instant", "seq", "provider"), ("price", "volume", "side"), "instant")
LEDGERS: Mapping[str, Ledger] = {
    "bars": BARS,
    "actions": ACTIONS,
    "instruments": INSTRUMENTS,
    "fundamentals": FUNDAMENTALS,
    "quotes": QUOTES,
    "ticks": TICKS,
}


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a batch did: `new` first sightings, `changed` values, `unchanged` rows that cost nothing."""

    new: int
    changed: int
    unchanged: int


Classify = Callable[[pl.DataFrame], pl.Series]
"""Pairs of versions (value columns, the older ones prefixed `old_`, key, known_from) -> class of each change."""


def remember(
    connection: duckdb.DuckDBPyConnection, ledger: Ledger, incoming: pl.DataFrame, batch: int, classify: Classify
) -> Remembered:
    """Thread a batch of accepted rows into the ledger, inside the caller's transaction.

    Args:
        connection: Open for writing, in a transaction.
        ledger: Which ledger.
        incoming: Columns of the ledger's table except known_to, change_class and batch. Rows of several pulls may be
            mixed; `known_from` says when each was made. One row per key and pull.
        batch: Number of the writer transaction.
        classify: Names the change between two successive versions; called at most once, for all changes.
    """
    if incoming.is_empty():
        return Remembered(0, 0, 0)
    columns = [name for name in ledger.table.names if name not in ("known_to", "change_class", "batch")]
    # In order of the key, in which the table is read.
    ordered = in_row_groups(in_order(incoming.select(columns), ledger.key))
    arrived = ordered.height
    connection.register("incoming", ordered)
    try:
        if not _heard(connection, ledger, ordered) and not _repeats(ordered, ledger.key):
            return Remembered(_insert_first(connection, ledger, columns, batch), 0, 0)
        connection.execute("CREATE OR REPLACE TEMP TABLE arriving AS SELECT * FROM incoming")
    finally:
        connection.unregister("incoming")
    if not _drop_believed(connection, ledger):
        return Remembered(0, 0, arrived)
    added = _thread(connection, ledger, columns, batch, classify)
    return Remembered(added.new, added.changed, arrived - added.new - added.changed)


def _repeats(ordered: pl.DataFrame, key: tuple[str, ...]) -> bool:
    """Whether any key is there twice, among rows in order of the key."""
    return bool(ordered.select(pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in key).any()).item())


def _heard(connection: duckdb.DuckDBPyConnection, ledger: Ledger, incoming: pl.DataFrame) -> bool:
    """Whether any arriving key has a version already."""
    values = incoming["provider"].unique().to_list()
    within = f"provider IN ({', '.join('?' * len(values))})"
    if ledger.date:
        within += f" AND {ledger.date} BETWEEN ? AND ?"
        values += [incoming[ledger.date].min(), incoming[ledger.date].max()]
    about = f"(FROM {ledger.table.full_name} WHERE {within})"
    # Of a new session, or from a new provider, there is no row at all: far cheaper to see than that no key is known.
    if not connection.execute(f"SELECT 1 FROM {about} LIMIT 1", values).fetchone():
        return False
    key = ", ".join(ledger.key)
    return bool(
        connection.execute(f"SELECT 1 FROM {about} SEMI JOIN incoming USING ({key}) LIMIT 1", values).fetchone()
    )


def _drop_believed(connection: duckdb.DuckDBPyConnection, ledger: Ledger) -> int:
    """Take away the keys about which every arriving row says what was believed at its time; how many rows stay."""
    key = ", ".join(ledger.key)
    same_key = " AND ".join(f't."{name}" = a."{name}"' for name in ledger.key)
    same = " AND ".join(f't."{name}" IS NOT DISTINCT FROM a."{name}"' for name in ledger.value)
    # Joined on equal keys and filtered afterwards: an anti join on all of this would compare every row with every row.
    statement = f"""
        CREATE OR REPLACE TEMP TABLE arriving AS
        WITH believed AS (
            SELECT a.rowid AS place FROM arriving AS a
            JOIN (FROM {ledger.table.full_name} AS t {_bounds(ledger)}) AS t ON {same_key}
            WHERE (t.known_from < a.known_from OR t.known_from = a.known_from AND t.fetch_id = a.fetch_id)
              AND (t.known_to IS NULL OR t.known_to > a.known_from) AND {same}
        ),
        news AS (SELECT DISTINCT {key} FROM arriving AS a WHERE a.rowid NOT IN (SELECT place FROM believed))
        FROM arriving SEMI JOIN news USING ({key})
    """
    return changed(connection, statement)


def _insert_first(connection: duckdb.DuckDBPyConnection, ledger: Ledger, columns: list[str], batch: int) -> int:
    """Facts nobody has stated before, one version each, in order already: nothing to compare."""
    listed = ", ".join(f'"{name}"' for name in columns)
    return changed(
        connection,
        f"""INSERT INTO {ledger.table.full_name} BY NAME
            SELECT {listed}, NULL::TIMESTAMPTZ AS known_to, 'new' AS change_class, {batch}::BIGINT AS batch
            FROM incoming""",
    )


def _bounds(ledger: Ledger) -> str:
    """A bound on the date lets DuckDB skip row groups."""
    if ledger.date is None:
        return ""
    return (
        f"WHERE t.{ledger.date} BETWEEN (SELECT min({ledger.date}) FROM arriving)"
        f" AND (SELECT max({ledger.date}) FROM arriving)"
    )


def _thread(
    connection: duckdb.DuckDBPyConnection, ledger: Ledger, columns: list[str], batch: int, classify: Classify
) -> Remembered:
    table, key, value = ledger.table.full_name, ", ".join(ledger.key), ledger.value
    listed = ", ".join(f'"{name}"' for name in columns)
    same = " AND ".join(f'"{name}" IS NOT DISTINCT FROM lag("{name}") OVER w' for name in value)
    arrived = scalar(connection, "SELECT count(*) FROM arriving") or 0

    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE chain AS
        WITH standing AS (
            SELECT {listed}, rowid AS standing_row FROM {table} AS t
            SEMI JOIN arriving AS a USING ({key})
            {_bounds(ledger)}
        )
        SELECT *, false AS arriving FROM standing
        UNION ALL BY NAME
        SELECT {listed}, true AS arriving FROM arriving
    """)
    # At one instant one reading counts: the last pull's, and of one pull the latest parser's. A reading that stands
    # already keeps its row.
    readings = f"""(
        SELECT * EXCLUDE (superseded, twin) REPLACE (coalesce(standing_row, twin) AS standing_row)
        FROM (SELECT *, lead(known_from) OVER w IS NOT DISTINCT FROM known_from AS superseded,
                     CASE WHEN fetch_id = lag(fetch_id) OVER w AND known_from = lag(known_from) OVER w AND {same}
                          THEN lag(standing_row) OVER w END AS twin
              FROM chain WINDOW w AS (PARTITION BY {key} ORDER BY known_from, fetch_id, arriving))
        WHERE NOT superseded)"""
    # Then whatever repeats the version before it goes, be it new or standing.
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE kept AS
        WITH compared AS (
            SELECT *, ({same}) AND row_number() OVER w > 1 AS repeats
            FROM {readings if _coincide(connection) else "chain"}
            WINDOW w AS (PARTITION BY {key} ORDER BY known_from)
        )
        SELECT * EXCLUDE (repeats), lead(known_from) OVER w AS next_from, row_number() OVER w AS version
        FROM compared WHERE NOT repeats WINDOW w AS (PARTITION BY {key} ORDER BY known_from)
    """)
    connection.execute(f"""
        UPDATE {table} AS t
        SET known_to = k.next_from, batch = {batch}
        FROM kept AS k WHERE t.rowid = k.standing_row AND k.next_from IS DISTINCT FROM t.known_to
    """)
    connection.execute(f"""
        DELETE FROM {table} WHERE rowid IN (
            SELECT standing_row FROM chain WHERE standing_row IS NOT NULL EXCEPT SELECT standing_row FROM kept)
    """)
    before = scalar(connection, f"SELECT count(*) FROM {table}") or 0
    first = scalar(connection, "SELECT count(*) FROM kept WHERE standing_row IS NULL AND version = 1") or 0
    if first:  # not even tried otherwise: after an insert of no rows DuckDB 1.5.5 loses a large one that follows
        connection.execute(
            f"""INSERT INTO {table} BY NAME
                SELECT {listed}, next_from AS known_to, 'new' AS change_class, {batch}::BIGINT AS batch
                FROM kept WHERE standing_row IS NULL AND version = 1 ORDER BY {key}"""
        )
    followed = _store_changes(connection, ledger, columns, batch, classify)
    connection.execute("DROP TABLE chain")
    connection.execute("DROP TABLE kept")
    _prove(connection, table, before + first + followed)
    return Remembered(first, followed, arrived - first - followed)


def _prove(connection: duckdb.DuckDBPyConnection, table: str, expected: int) -> None:
    """What was closed must have a successor: a ledger that loses a version loses a fact.

    Raises:
        WarehouseError: The table does not hold what it must; the transaction is rolled back.
    """
    standing = scalar(connection, f"SELECT count(*) FROM {table}") or 0
    if standing != expected:
        raise WarehouseError(
            f"{table} holds {standing:,} rows where it must hold {expected:,}",
            hint="nothing was written; this is a defect of the database engine, please report it",
        )


def _coincide(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the chain may hold two readings of one instant; a pull of its own instant is the rule."""
    sources = "SELECT DISTINCT known_from, fetch_id, arriving FROM chain"
    return bool(scalar(connection, f"SELECT count(*) - count(DISTINCT known_from) FROM ({sources})"))


def _store_changes(
    connection: duckdb.DuckDBPyConnection, ledger: Ledger, columns: list[str], batch: int, classify: Classify
) -> int:
    """Insert the new versions that follow another, and name every change that has a new neighbour."""
    key = ", ".join(ledger.key)
    old = ", ".join(f'lag("{name}") OVER w AS "old_{name}"' for name in (*ledger.value, "known_from"))
    pairs = frame(
        connection,
        f"""SELECT *, {old} FROM kept WINDOW w AS (PARTITION BY {key} ORDER BY version)
            QUALIFY version > 1 AND (arriving OR lag(arriving) OVER w) ORDER BY {key}, version""",
    )
    if pairs.is_empty():
        return 0
    changes = pairs.select(
        *columns,
        "standing_row",
        known_to="next_from",
        change_class=classify(pairs),
        batch=pl.lit(batch, dtype=pl.Int64),
    )
    connection.register("changes", changes)
    try:
        connection.execute(f"""
            UPDATE {ledger.table.full_name} AS t SET change_class = c.change_class FROM changes AS c
            WHERE t.rowid = c.standing_row AND t.change_class <> c.change_class
        """)
        return changed(
            connection,
            f"INSERT INTO {ledger.table.full_name} BY NAME"
            " SELECT * EXCLUDE (standing_row) FROM changes WHERE standing_row IS NULL",
        )
    finally:
        connection.unregister("changes")
