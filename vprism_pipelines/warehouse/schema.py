"""Tables, views and macros of the warehouse, and the numbered migrations that bring an older file up to date.

Tables come from the data dictionary. New nullable columns of the dictionary are added by themselves; everything else
that changes stored data is a numbered migration. Views and macros are replaced on every migration pass.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb

from vprism_pipelines import __version__, tables
from vprism_pipelines.errors import WarehouseError
from vprism_pipelines.tables import Table
from vprism_pipelines.warehouse import indicator_tables

SCHEMAS = ("raw", "clean", "golden", "analytics", "quality", "ops")

TABLES: tuple[Table, ...] = (*tables.TABLES, *indicator_tables.TABLES)
# Functions of the lake alone: what `vprism rebuild` reproduces bit for bit and what the content hash covers.
LOGICAL: tuple[Table, ...] = (*tables.LOGICAL, indicator_tables.DAILY)

Migration = Callable[[duckdb.DuckDBPyConnection], None]

# Numbered from 1, never reordered or edited once released.
MIGRATIONS: tuple[tuple[str, Migration], ...] = (
    ("tables of the data dictionary", lambda connection: _create_tables(connection)),
)

_VIEWS = """
CREATE OR REPLACE VIEW clean.bars AS
    SELECT * EXCLUDE (known_to) FROM clean.bars_ledger WHERE known_to IS NULL;

CREATE OR REPLACE VIEW clean.corporate_actions AS
    SELECT * EXCLUDE (known_to) FROM clean.corporate_actions_ledger WHERE known_to IS NULL;

-- A description holds from the listing, or from when it was first read, until another one replaced it.
CREATE OR REPLACE VIEW clean.instruments AS
    SELECT symbol, provider,
           CASE WHEN row_number() OVER versions = 1 THEN least(coalesce(listed, known_from::DATE), known_from::DATE)
                ELSE known_from::DATE END AS valid_from,
           known_to::DATE AS valid_to,
           name, exchange, currency, listed, delisted, sector, isin, fetch_id
    FROM clean.instruments_ledger WINDOW versions AS (PARTITION BY symbol, provider ORDER BY known_from);

CREATE OR REPLACE MACRO clean.instruments_as_of(ts) AS TABLE
    SELECT * EXCLUDE (known_to) FROM clean.instruments_ledger
    WHERE known_from <= ts AND (known_to IS NULL OR known_to > ts);

CREATE OR REPLACE MACRO clean.bars_as_of(ts) AS TABLE
    SELECT * EXCLUDE (known_to) FROM clean.bars_ledger
    WHERE known_from <= ts AND (known_to IS NULL OR known_to > ts);

CREATE OR REPLACE MACRO clean.corporate_actions_as_of(ts) AS TABLE
    SELECT * EXCLUDE (known_to) FROM clean.corporate_actions_ledger
    WHERE known_from <= ts AND (known_to IS NULL OR known_to > ts);

CREATE OR REPLACE VIEW golden.factors_cumulative AS
    SELECT symbol, effective_session, hfq, hfq_ex_close, shares,
           last_value(hfq) OVER w AS hfq_last,
           last_value(hfq_ex_close) OVER w AS hfq_ex_close_last,
           last_value(shares) OVER w AS shares_last
    FROM (
        SELECT symbol, effective_session, arg_max(hfq, ex_date) AS hfq,
               arg_max(hfq_ex_close, ex_date) AS hfq_ex_close, arg_max(shares, ex_date) AS shares
        FROM golden.factor_steps WHERE status = 'applied' GROUP BY ALL
    )
    WINDOW w AS (PARTITION BY symbol ORDER BY effective_session
                 ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING);

-- One row per golden bar. hfq: history fixed, latest price scaled up. qfq: latest price as traded, history scaled down.
CREATE OR REPLACE VIEW golden.factors_daily AS
    SELECT b.symbol, b.session,
           coalesce(f.hfq, 1) AS hfq,
           coalesce(f.hfq / f.hfq_last, 1 / l.hfq_last, 1) AS qfq,
           coalesce(f.hfq_ex_close, 1) AS total_return_hfq,
           coalesce(f.hfq_ex_close / f.hfq_ex_close_last, 1 / l.hfq_ex_close_last, 1) AS total_return,
           coalesce(f.shares, 1) AS shares_hfq,
           coalesce(f.shares / f.shares_last, 1 / l.shares_last, 1) AS shares
    FROM golden.bars AS b
    ASOF LEFT JOIN golden.factors_cumulative AS f
        ON b.symbol = f.symbol AND b.session >= f.effective_session
    LEFT JOIN (SELECT DISTINCT symbol, hfq_last, hfq_ex_close_last, shares_last FROM golden.factors_cumulative) AS l
        ON b.symbol = l.symbol;

-- Prices on every basis: WHERE basis IN ('raw', 'split', 'qfq', 'hfq', 'total_return'). Volume moves with shares only.
CREATE OR REPLACE VIEW golden.adjusted_bars AS
    WITH factored AS (SELECT b.*, f.* EXCLUDE (symbol, session) FROM golden.bars AS b
                      JOIN golden.factors_daily AS f USING (symbol, session))
    SELECT symbol, session, basis, open * k AS open, high * k AS high, low * k AS low, close * k AS close,
           volume / s AS volume, value, currency, k AS factor, s AS share_factor, flags
    FROM (
        SELECT *, 'raw' AS basis, 1.0::DOUBLE AS k, 1.0::DOUBLE AS s FROM factored
        UNION ALL SELECT *, 'split' AS basis, shares AS k, shares AS s FROM factored
        UNION ALL SELECT *, 'qfq' AS basis, qfq AS k, shares AS s FROM factored
        UNION ALL SELECT *, 'hfq' AS basis, hfq AS k, shares_hfq AS s FROM factored
        UNION ALL SELECT *, 'total_return' AS basis, total_return AS k, shares AS s FROM factored
    );
"""


def ensure(connection: duckdb.DuckDBPyConnection, lake: Path) -> None:
    """Bring the open file up to date: schemas, tables, migrations, views, macros, views over the lake.

    Raises:
        WarehouseError: The file was written by a newer version of this package.
    """
    known = _applied(connection)
    if known > len(MIGRATIONS):
        raise WarehouseError(
            f"the warehouse has migration {known}, this version knows only {len(MIGRATIONS)}",
            hint="upgrade vprism-pipelines, or rebuild into another VPRISM_DATA_DIR",
        )
    stamp = f"{__version__}+{len(MIGRATIONS)}"
    if known == len(MIGRATIONS) and _stamp(connection) == stamp:
        _lake_views(connection, lake)
        return
    connection.begin()
    for number, (title, migrate) in enumerate(MIGRATIONS[known:], start=known + 1):
        migrate(connection)
        connection.execute("INSERT INTO ops.migrations VALUES (?, ?, ?, now())", [number, title, stamp])
    _create_tables(connection)
    connection.execute(_VIEWS)
    connection.execute("UPDATE ops.migrations SET stamp = ?", [stamp])
    connection.commit()
    _lake_views(connection, lake)


def _create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    for name in SCHEMAS:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {name}")
    for table in TABLES:
        connection.execute(table.ddl())
        standing = {row[0] for row in connection.execute(f"DESCRIBE {table.full_name}").fetchall()}
        for column in table.columns:
            if column.name not in standing:
                connection.execute(f'ALTER TABLE {table.full_name} ADD COLUMN "{column.name}" {column.type}')
    connection.execute("CREATE SEQUENCE IF NOT EXISTS ops.batches")


def _applied(connection: duckdb.DuckDBPyConnection) -> int:
    connection.execute("CREATE SCHEMA IF NOT EXISTS ops")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS ops.migrations"
        " (number INTEGER, title VARCHAR, stamp VARCHAR, applied_at TIMESTAMPTZ)"
    )
    row = connection.execute("SELECT coalesce(max(number), 0) FROM ops.migrations").fetchone()
    return int(row[0]) if row else 0


def _stamp(connection: duckdb.DuckDBPyConnection) -> str | None:
    row = connection.execute("SELECT stamp FROM ops.migrations ORDER BY number DESC LIMIT 1").fetchone()
    return str(row[0]) if row else None


def _lake_views(connection: duckdb.DuckDBPyConnection, lake: Path) -> None:
    """`raw.<provider>_<dataset>`: the parsed rows in the provider's own terms, straight from the lake."""
    wanted = {folder.name for folder in (lake / "raw").glob("*_*") if any(folder.glob("*/*.parquet"))}
    standing = {
        row[0]: row[1]
        for row in connection.execute("SELECT view_name, sql FROM duckdb_views() WHERE schema_name = 'raw'").fetchall()
    }
    for name in wanted:
        pattern = (lake / "raw" / name).resolve() / "*" / "*.parquet"
        if str(pattern) not in standing.get(name, ""):
            connection.execute(
                f"CREATE OR REPLACE VIEW raw.\"{name}\" AS SELECT * FROM read_parquet('{pattern}', union_by_name=true)"
            )
