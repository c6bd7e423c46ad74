"""Tables, views and macros of the warehouse, and the numbered migrations that bring an older file up to date.

Tables come from the data dictionary. New nullable columns of the dictionary are added by themselves; everything else
that changes stored data is a numbered migration. Views and macros are replaced on every migration pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import duckdb

from vprism_pipelines import __version__, tables
from vprism_pipelines.errors import WarehouseError
from vprism_pipelines.quality.flags import BarFlag
from vprism_pipelines.tables import Table
from vprism_pipelines.warehouse import dataset_views, indicator_tables, valuation_tables

SCHEMAS = ("raw", "clean", "golden", "analytics", "quality", "ops")

TABLES: tuple[Table, ...] = (*tables.TABLES, *indicator_tables.TABLES)
# Functions of the lake alone: what `vprism rebuild` reproduces bit for bit and what the content hash covers.
LOGICAL: tuple[Table, ...] = (*tables.LOGICAL, *indicator_tables.LOGICAL)

# First seen later than this after its session, a bar of a source that adjusts may have been rewritten unnoticed.
OBSERVED_WITHIN_DAYS = 10

Migration = Callable[[duckdb.DuckDBPyConnection], None]

# Numbered from 1, never reordered or edited once released.
MIGRATIONS: tuple[tuple[str, Migration], ...] = (
    ("tables of the data dictionary", lambda connection: _create_tables(connection)),
    ("more indicators, states that say what they need", lambda connection: _compute_indicators_anew(connection)),
    ("indicators summed in another order", lambda connection: _compute_indicators_anew(connection)),
    ("market caps, and what rests on them", lambda connection: _look_at_markets_anew(connection)),
)

_FACTORS = """coalesce(f.hfq, 1) AS hfq,
           coalesce(f.hfq / f.hfq_last, 1 / l.hfq_last, 1) AS qfq,
           coalesce(f.hfq_ex_close, 1) AS total_return_hfq,
           coalesce(f.hfq_ex_close / f.hfq_ex_close_last, 1 / l.hfq_ex_close_last, 1) AS total_return,
           coalesce(f.shares, 1) AS shares_hfq,
           coalesce(f.shares / f.shares_last, 1 / l.shares_last, 1) AS shares"""
_FACTORED = """golden.bars AS b
    ASOF LEFT JOIN golden.factors_cumulative AS f
        ON b.symbol = f.symbol AND b.session >= f.effective_session
    LEFT JOIN (SELECT DISTINCT symbol, hfq_last, hfq_ex_close_last, shares_last FROM golden.factors_cumulative) AS l
        ON b.symbol = l.symbol"""

_SEEN = dataset_views.exchange_date("known_from")
_OBSERVED, _ADJUSTED = int(BarFlag.OBSERVED_ON_THE_DAY), int(BarFlag.ADJUSTED_BY_SOURCE)


def _traded(known: str, current: str) -> str:
    """Bars as traded, from the versions that are `known`.

    A provider that rewrites its history after every ex-date told the truth before the first one: the last version
    known by then is the bar as traded, provided the first one was not already rewritten.
    """
    return f"""
    WITH adjusted AS (
        SELECT *, {_SEEN} AS seen, coalesce({current}, false) AS is_current FROM clean.bars_ledger
        WHERE price_basis = 'adjusted_by_source' AND {known}),
    -- A rebase tells of an ex-date that nobody declared: the first bar after the sessions it multiplied.
    rebased AS (
        SELECT symbol, provider, known_from, max(session) AS last_session FROM adjusted
        WHERE change_class = 'rebase' GROUP BY ALL),
    ex_dates AS (
        SELECT symbol, ex_date FROM clean.corporate_actions_ledger
        WHERE {known} AND {current} AND withdrawn IS NOT true AND symbol IN (SELECT symbol FROM adjusted)
        UNION
        SELECT r.symbol, coalesce(b.session, r.last_session + 1)
        FROM rebased AS r ASOF LEFT JOIN (SELECT DISTINCT symbol, provider, session FROM adjusted) AS b
            ON r.symbol = b.symbol AND r.provider = b.provider AND r.last_session < b.session),
    versions AS (
        SELECT a.* EXCLUDE (known_to), e.ex_date AS next_ex_date,
               -- Silence about ex-dates proves nothing over more than a few days.
               min(a.seen) OVER bar <= a.session + {OBSERVED_WITHIN_DAYS} AS proven,
               bool_or(a.change_class = 'rebase') OVER history AS rewritten, bool_or(a.is_current) OVER bar AS believed
        FROM adjusted AS a ASOF LEFT JOIN ex_dates AS e ON a.symbol = e.symbol AND a.session < e.ex_date
        WINDOW bar AS (PARTITION BY a.symbol, a.session, a.provider),
               history AS (PARTITION BY a.symbol, a.session, a.provider ORDER BY a.known_from)),
    judged AS (
        SELECT * EXCLUDE (next_ex_date, proven, rewritten, seen),
               NOT provisional AND NOT rewritten AND coalesce(proven, false)
                   AND coalesce(seen < next_ex_date, true) AS as_traded
        FROM versions WHERE believed)
    SELECT * EXCLUDE (known_to) FROM clean.bars_ledger
    WHERE {known} AND {current} AND price_basis <> 'adjusted_by_source'
    UNION ALL BY NAME
    SELECT * EXCLUDE (believed, is_current, as_traded)
           REPLACE (CASE WHEN as_traded THEN 'raw' ELSE price_basis END AS price_basis,
                    CASE WHEN as_traded THEN flags & ~{_ADJUSTED} | {_OBSERVED} ELSE flags END AS flags)
    FROM judged
    QUALIFY row_number() OVER (PARTITION BY symbol, session, provider ORDER BY as_traded DESC, known_from DESC) = 1"""


_VIEWS = f"""
CREATE OR REPLACE VIEW clean.traded_bars AS {_traded("true", "known_to IS NULL")};

CREATE OR REPLACE MACRO clean.traded_bars_as_of(ts) AS TABLE
    {_traded("known_from <= ts", "(known_to IS NULL OR known_to > ts)")};

CREATE OR REPLACE MACRO quality.reliability_as_of(ts) AS TABLE
    SELECT * EXCLUDE (known_to) FROM quality.reliability
    WHERE known_from <= ts AND (known_to IS NULL OR known_to > ts);

-- Only primary providers take part in golden. Without a decision all are, but for name@version: a parser on probation.
CREATE OR REPLACE MACRO ops.roles_as_of(ts) AS TABLE
    SELECT market, provider, arg_max(role, since) AS role FROM ops.roles WHERE since <= ts GROUP BY ALL;

CREATE OR REPLACE MACRO ops.sidelined_as_of(ts) AS TABLE
    SELECT market, provider FROM ops.roles_as_of(ts) WHERE role <> 'primary';

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

-- One CASE: DuckDB would hold plain comparisons against every row of a block before the symbol or session asked for.
CREATE OR REPLACE MACRO clean.bars_as_of(ts) AS TABLE
    SELECT * EXCLUDE (known_to) FROM clean.bars_ledger
    WHERE CASE WHEN known_from <= ts THEN coalesce(known_to > ts, true) ELSE false END;

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
    SELECT b.symbol, b.session, {_FACTORS} FROM {_FACTORED};

-- Prices on every basis: WHERE basis IN ('raw', 'split', 'qfq', 'hfq', 'total_return'). Volume moves with shares only.
-- One SELECT without a CTE: what is asked of symbol and session reaches golden.bars and skips blocks there.
CREATE OR REPLACE VIEW golden.adjusted_bars AS
    SELECT symbol, session, basis, open * k AS open, high * k AS high, low * k AS low, close * k AS close,
           volume / s AS volume, value, currency, k AS factor, s AS share_factor, flags
    FROM (
        SELECT *, CASE basis WHEN 'raw' THEN 1.0::DOUBLE WHEN 'split' THEN shares WHEN 'qfq' THEN qfq
                             WHEN 'hfq' THEN hfq ELSE total_return END AS k,
               CASE basis WHEN 'raw' THEN 1.0::DOUBLE WHEN 'hfq' THEN shares_hfq ELSE shares END AS s
        FROM (SELECT b.*, {_FACTORS} FROM {_FACTORED})
        CROSS JOIN (VALUES ('raw'), ('split'), ('qfq'), ('hfq'), ('total_return')) AS bases(basis)
    );
"""
_ALL_VIEWS = _VIEWS + dataset_views.VIEWS + valuation_tables.VIEWS


def ensure(connection: duckdb.DuckDBPyConnection) -> None:
    """Bring the open file up to date: schemas, tables, migrations, views, macros. One query where it is already.

    Raises:
        WarehouseError: The file was written by a newer version of this package.
    """
    stamp = _present()
    if _stamp(connection) == stamp:
        return
    known = _applied(connection)
    if known > len(MIGRATIONS):
        raise WarehouseError(
            f"the warehouse has migration {known}, this version knows only {len(MIGRATIONS)}",
            hint="upgrade vprism-pipelines, or rebuild into another VPRISM_DATA_DIR",
        )
    connection.begin()
    for number, (title, migrate) in enumerate(MIGRATIONS[known:], start=known + 1):
        migrate(connection)
        connection.execute("INSERT INTO ops.migrations VALUES (?, ?, ?, now())", [number, title, stamp])
    _create_tables(connection)
    connection.execute(_ALL_VIEWS)
    connection.execute("UPDATE ops.migrations SET stamp = ?", [stamp])
    connection.commit()


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


def _compute_indicators_anew(connection: duckdb.DuckDBPyConnection) -> None:
    """Rows and states that other code left do not continue: the next build makes both from golden."""
    connection.execute("DROP TABLE IF EXISTS analytics.daily; DROP TABLE IF EXISTS analytics.state")
    _leave(connection, "analytics")


def _look_at_markets_anew(connection: duckdb.DuckDBPyConnection) -> None:
    """The next build fills columns that were always null."""
    _leave(connection, "market")


def _leave(connection: duckdb.DuckDBPyConnection, stage: str) -> None:
    """All that golden holds is work for a stage."""
    connection.execute(
        "INSERT INTO ops.dirty BY NAME SELECT $1 AS stage, symbol, min(session) AS from_session, 0 AS batch"
        " FROM golden.bars GROUP BY symbol",
        [stage],
    )


def _applied(connection: duckdb.DuckDBPyConnection) -> int:
    connection.execute("CREATE SCHEMA IF NOT EXISTS ops")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS ops.migrations"
        " (number INTEGER, title VARCHAR, stamp VARCHAR, applied_at TIMESTAMPTZ)"
    )
    row = connection.execute("SELECT coalesce(max(number), 0) FROM ops.migrations").fetchone()
    return int(row[0]) if row else 0


@cache
def _present() -> str:
    """What the dictionary, the views and the migrations of this version amount to."""
    text = "\n".join([*(table.ddl() for table in TABLES), _ALL_VIEWS])
    return f"{__version__}+{len(MIGRATIONS)}+{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _stamp(connection: duckdb.DuckDBPyConnection) -> str | None:
    try:
        row = connection.execute("SELECT stamp FROM ops.migrations ORDER BY number DESC LIMIT 1").fetchone()
    except duckdb.CatalogException:  # a new file
        return None
    return str(row[0]) if row else None


def show_lake(connection: duckdb.DuckDBPyConnection, lake: Path) -> None:
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
