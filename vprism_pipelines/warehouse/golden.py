"""Building what we believe from what providers said: one golden bar per symbol and session, and the trading days.

Incremental by watermark: a build looks at what it has not seen (ledger batches, findings, weights, roles) and touches
the keys in it. The result is a function of the ledger's content and the roles alone, so a rebuild from the lake gives
the same rows.
"""

from __future__ import annotations

from datetime import date

import duckdb
import polars as pl

from vprism_pipelines.market.calendars import market_sessions
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.consensus import PRIOR_RELIABILITY, vote
from vprism_pipelines.quality.row_rules import PRICES
from vprism_pipelines.tables import GOLDEN_BARS, GOLDEN_SESSIONS
from vprism_pipelines.warehouse.building import (
    Built,
    frame,
    insert,
    mark,
    prefix,
    scalar,
    set_watermark,
    take,
    watermark,
)
from vprism_pipelines.warehouse.factors import build_events, build_factors
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
BLOCK_KEYS = 500_000  # candidates in memory at once
KEY = ("symbol", "session")
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
    """Decide every key of `candidates`: bars that one provider has alone stand as they are, the others are voted on.

    Whole symbols at a time: bounds memory, and each candidate is read once, in the order in which golden keeps it.
    """
    providers = f"SELECT count(DISTINCT provider) FROM quality.track_record WHERE market = '{spec.code}'"
    several = int(scalar(connection, providers) or 0) > 1
    written = 0
    for span in _spans(connection, spec, first=first):
        rows = frame(connection, f"SELECT * FROM candidates WHERE {span}").sort(*KEY, "provider")
        before, after = (pl.all_horizontal(pl.col(name) == pl.col(name).shift(by) for name in KEY) for by in (1, -1))
        contested = rows.select((before | after).fill_null(value=False)).to_series()
        alone = rows.filter(~contested)
        if several:
            alone = alone.join(_misdated(connection, alone, span), on=[*KEY, "provider"], how="anti")
        stand = alone.with_columns(n_sources=pl.lit(1), confidence="weight").drop("doubt", "weight")
        rank = {provider: spec.rank(provider) for provider in rows["provider"].unique()}
        voted = [vote(rows.filter(contested), rank).select(stand.columns)] if contested.any() else []
        decided = pl.concat([stand, *voted], how="vertical_relaxed").rename({"provider": "chosen_provider"})
        written += insert(connection, GOLDEN_BARS, decided)
    return written


def _misdated(connection: duckdb.DuckDBPyConnection, alone: pl.DataFrame, span: str) -> pl.DataFrame:
    """Keys of bars that stand under a wrong date: another provider has them a few days later."""
    connection.register("alone", alone.filter(pl.col("volume") > 0).select(*KEY, "provider", *PRICES, "volume"))
    try:
        return frame(connection, misdated("alone", f"(FROM others WHERE {span})"))
    finally:
        connection.unregister("alone")


def _later(*, first: bool) -> str:
    """Join that narrows bars to the touched keys and the days after them."""
    if first:
        return ""
    return f"""SEMI JOIN (SELECT symbol, (session + days)::DATE AS session
                          FROM touched, (SELECT unnest(range({MISDATED_DAYS + 1}))::INTEGER AS days))
               USING (symbol, session)"""


def _spans(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, *, first: bool) -> list[str]:
    """Conditions that part the symbols to decide into groups of about `BLOCK_KEYS` candidates."""
    deciding = f"clean.bars_ledger WHERE {prefix(spec)}" if first else "touched"
    symbols = frame(connection, f"SELECT symbol, count(*) AS keys FROM {deciding} GROUP BY symbol ORDER BY symbol")
    groups = symbols.group_by((pl.col("keys").cum_sum() - 1) // BLOCK_KEYS, maintain_order=True)
    ends = groups.agg(first=pl.col("symbol").first(), last=pl.col("symbol").last())
    return [f"symbol BETWEEN '{start}' AND '{end}'" for start, end in ends.select("first", "last").iter_rows()]


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
