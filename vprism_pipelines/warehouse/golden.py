"""Building what we believe from what providers said: one golden bar per symbol and session, and the trading days.

Incremental by watermark: a build looks at what it has not seen (ledger batches, findings, weights, roles) and touches
the keys in it. The result is a function of the ledger's content and the roles alone, so a rebuild from the lake gives
the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import duckdb
import polars as pl

from vprism_pipelines.market.calendars import market_sessions
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.consensus import PRIOR_RELIABILITY, vote
from vprism_pipelines.tables import GOLDEN_BARS, GOLDEN_SESSIONS
from vprism_pipelines.warehouse.building import (
    Built,
    changed,
    frame,
    insert,
    mark,
    scalar,
    set_watermark,
    take,
    watermark,
)
from vprism_pipelines.warehouse.factors import build_events, build_factors
from vprism_pipelines.warehouse.ingest import prefix
from vprism_pipelines.warehouse.reliability import (
    MISDATED_DAYS,
    MONTH,
    candidates,
    measure,
    misdated,
    taking_part,
    turned,
)

__all__ = ["Built", "build_bars", "build_events", "build_factors", "build_sessions", "chosen_providers"]

STAGE = "golden.bars"
BLOCK_KEYS = 400_000  # contested keys in memory at once
TERMS = "symbol, session, open, high, low, close, volume, value"  # what analytics are made of


def build_bars(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> Built:
    """Bring `golden.bars` up to the ledger and the findings on it, inside the caller's transaction."""
    since = watermark(connection, STAGE, spec)
    newest = scalar(connection, f"SELECT max(batch) FROM clean.bars_ledger WHERE {prefix(spec)}")
    if newest is None:
        return Built(0, 0)
    first = since == 0
    taking = taking_part(connection, spec)
    take(connection, "golden", spec)
    if first:
        moved = measure(connection, spec, taking, None)
    else:
        moved = _touch(connection, spec, taking, since)
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE former AS FROM golden.bars SEMI JOIN touched USING (symbol, session)"
        )
        connection.execute(
            "DELETE FROM golden.bars USING touched AS t"
            " WHERE golden.bars.symbol = t.symbol AND golden.bars.session = t.session"
        )
    scope = "" if first else "SEMI JOIN touched USING (symbol, session)"
    connection.execute(f"CREATE OR REPLACE TEMP VIEW others AS {candidates(spec, taking, _later(first=first))}")
    connection.execute(
        f"""CREATE OR REPLACE TEMP VIEW candidates AS
            SELECT c.*, coalesce(r.value, {PRIOR_RELIABILITY})::DOUBLE AS weight
            FROM ({candidates(spec, taking, scope)}) AS c
            LEFT JOIN (SELECT provider, month, value FROM quality.reliability
                       WHERE market = '{spec.code}' AND known_to IS NULL) AS r
                ON r.provider = c.provider AND r.month = {MONTH}"""
    )
    written = _insert_bars(connection, spec, first=first)
    touched = written if first else int(scalar(connection, "SELECT count(*) FROM touched") or 0)
    _mark_changed(connection, spec, first=first)
    set_watermark(connection, STAGE, spec, int(newest))
    return Built(touched, written, {"weights changed": moved})


def _touch(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, taking: str, since: int) -> int:
    """Make the table `touched` of keys to decide again, weights included. Returns how many weights changed."""
    providers = ", ".join(f"'{name}'" for name in turned(connection, spec, taking)) or "NULL"
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE touched AS
            SELECT symbol, session FROM clean.bars_ledger
            WHERE {prefix(spec)} AND (batch > {since} OR provider IN ({providers}))
            UNION
            SELECT symbol, session FROM clean.bars_ledger JOIN work USING (symbol)
            WHERE {prefix(spec)} AND session >= from_session"""
    )
    several = f"SELECT count(DISTINCT provider) FROM clean.bars_ledger WHERE {prefix(spec)} AND {taking}"
    # Whether a bar stands under a wrong date shows in what others say of the days after it.
    if int(scalar(connection, several) or 0) > 1:
        connection.execute(
            f"""INSERT INTO touched SELECT DISTINCT l.symbol, l.session FROM clean.bars_ledger AS l
                SEMI JOIN (SELECT symbol, (session - days)::DATE AS session
                           FROM touched, (SELECT unnest(range(1, {MISDATED_DAYS + 1}))::INTEGER AS days))
                    USING (symbol, session)
                ANTI JOIN touched USING (symbol, session) WHERE {prefix(spec, "l.symbol")}"""
        )
    moved = measure(connection, spec, taking, f"SELECT DISTINCT {MONTH} AS month FROM touched")
    if moved:
        connection.execute(
            f"""CREATE OR REPLACE TEMP TABLE touched AS
                FROM touched UNION
                SELECT symbol, session FROM clean.bars_ledger AS l
                SEMI JOIN moved AS m ON l.provider = m.provider AND {MONTH} = m.month WHERE {prefix(spec)}"""
        )
    return moved


def _insert_bars(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, *, first: bool) -> int:
    """Decide every key of `candidates`: bars that one provider has alone stand as they are, the others are voted on."""
    providers = f"SELECT count(DISTINCT provider) FROM quality.track_record WHERE market = '{spec.code}'"
    contested = int(scalar(connection, providers) or 0) > 1
    if contested:
        connection.execute(
            """CREATE OR REPLACE TEMP TABLE contested AS
               SELECT symbol, session FROM candidates GROUP BY ALL HAVING count(*) > 1"""
        )
        alone = "(FROM candidates ANTI JOIN contested USING (symbol, session))"
        connection.execute(f"CREATE OR REPLACE TEMP TABLE misdated AS {misdated(alone, 'others')}")
    sole = (
        "ANTI JOIN contested USING (symbol, session) ANTI JOIN misdated USING (symbol, session, provider)"
        if contested
        else ""
    )
    # A ledger of one batch is in order already, and sorting it again costs more than all the rest.
    batches = f"SELECT count(DISTINCT batch) FROM clean.bars_ledger WHERE {prefix(spec)}"
    order = "" if first and not contested and scalar(connection, batches) == 1 else "ORDER BY symbol, session"
    written = 0
    for rows in _contested(connection) if contested else ():
        rank = {provider: spec.rank(provider) for provider in rows["provider"].unique()}
        written += insert(connection, GOLDEN_BARS, vote(rows, rank).rename({"provider": "chosen_provider"}))
    # Last, because it may be empty: after an ordered insert of no rows DuckDB 1.5.5 loses a large one that follows.
    return written + changed(
        connection,
        f"""INSERT INTO golden.bars BY NAME
            SELECT * EXCLUDE (provider, doubt, weight), provider AS chosen_provider, 1::INTEGER AS n_sources,
                   weight AS confidence
            FROM candidates {sole} {order}""",
    )


def _later(*, first: bool) -> str:
    """Join that narrows bars to the touched keys and the days after them."""
    if first:
        return ""
    return f"""SEMI JOIN (SELECT symbol, (session + days)::DATE AS session
                          FROM touched, (SELECT unnest(range({MISDATED_DAYS + 1}))::INTEGER AS days))
               USING (symbol, session)"""


def _contested(connection: duckdb.DuckDBPyConnection) -> Iterator[pl.DataFrame]:
    """The candidates of contested keys, whole symbols, about `BLOCK_KEYS` keys at a time."""
    symbols = frame(connection, "SELECT symbol, count(*) AS keys FROM contested GROUP BY symbol ORDER BY symbol")
    group = (pl.col("keys").cum_sum() - 1) // BLOCK_KEYS
    for _, block in symbols.group_by(group.alias("group"), maintain_order=True):
        span = f"symbol BETWEEN '{block['symbol'][0]}' AND '{block['symbol'][-1]}'"
        yield frame(
            connection,
            f"SELECT * FROM candidates SEMI JOIN (FROM contested WHERE {span}) USING (symbol, session) WHERE {span}",
        )


def _mark_changed(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, *, first: bool) -> None:
    """Leave analytics the symbols whose bars differ from what stood before; another confidence changes no number."""
    if first:
        moved = f"SELECT symbol, session FROM golden.bars WHERE {prefix(spec)}"
    else:
        now = "(FROM golden.bars SEMI JOIN touched USING (symbol, session))"
        moved = f"""(SELECT {TERMS} FROM {now} EXCEPT SELECT {TERMS} FROM former)
                    UNION ALL (SELECT {TERMS} FROM former EXCEPT SELECT {TERMS} FROM {now})"""
    mark(connection, "analytics", f"SELECT symbol, min(session) AS from_session FROM ({moved}) GROUP BY symbol")


def chosen_providers(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> list[str]:
    """Providers whose bars stand in golden."""
    found = connection.execute(f"SELECT DISTINCT chosen_provider FROM golden.bars WHERE {prefix(spec)} ORDER BY 1")
    return [str(row[0]) for row in found.fetchall()]


def build_sessions(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, until: date) -> Built:
    """Replace the market's rows of `golden.sessions`, from its first session to `until`."""
    days = market_sessions(spec, spec.first_session, until)
    connection.execute("DELETE FROM golden.sessions WHERE market = ?", [spec.code])
    return Built(days.height, insert(connection, GOLDEN_SESSIONS, days))
