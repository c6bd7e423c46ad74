"""Building what we believe from what providers said: golden bars, trading days, merged events, adjustment factors.

Incremental by watermark: a build looks at ledger batches it has not seen and touches the keys in them. The result is a
function of the ledger's current versions alone, so a rebuild from the lake gives the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import duckdb
import polars as pl

from vprism_pipelines.market.actions import merge_events
from vprism_pipelines.market.adjustment import factor_sets
from vprism_pipelines.market.calendars import market_sessions
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.consensus import PRIOR_RELIABILITY, vote
from vprism_pipelines.tables import EVENTS, FACTOR_SETS, FACTOR_STEPS, GOLDEN_BARS, GOLDEN_SESSIONS, Table
from vprism_pipelines.warehouse.ingest import prefix
from vprism_pipelines.warehouse.writer import next_batch


@dataclass(frozen=True, slots=True)
class Built:
    """What a build did: keys looked at and rows written."""

    touched: int
    written: int
    detail: dict[str, int]


# --- bars ---------------------------------------------------------------------------------------------------------


def build_bars(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> Built:
    """Bring `golden.bars` up to the ledger, inside the caller's transaction."""
    since = _watermark(connection, "golden.bars", spec)
    newest = _scalar(connection, f"SELECT max(batch) FROM clean.bars_ledger WHERE {prefix(spec)}")
    if newest is None or newest <= since:
        return Built(0, 0, {})
    first = since == 0
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE touched AS
            SELECT DISTINCT symbol, session FROM clean.bars_ledger WHERE {prefix(spec)} AND batch > {since}"""
    )
    touched = int(_scalar(connection, "SELECT count(*) FROM touched") or 0)
    scope = "" if first else "SEMI JOIN touched USING (symbol, session)"
    connection.execute(
        f"""CREATE OR REPLACE TEMP VIEW candidates AS
            SELECT l.* EXCLUDE (known_to, change_class, batch, fetch_id, payload_row, adj_close, provisional)
            FROM clean.bars_ledger AS l {scope}
            WHERE {prefix(spec, "l.symbol")} AND known_to IS NULL AND NOT provisional"""
    )
    if not first:
        connection.execute(
            "DELETE FROM golden.bars USING touched AS t"
            " WHERE golden.bars.symbol = t.symbol AND golden.bars.session = t.session"
        )
    reliability = _reliability(connection)
    contested = int(_scalar(connection, "SELECT count(DISTINCT provider) FROM candidates") or 0) > 1
    written = _insert_sole(connection, reliability, contested=contested)
    if contested:
        written += _insert_voted(connection, spec, reliability)
    batch = next_batch(connection)
    connection.execute(
        f"""INSERT INTO ops.dirty BY NAME
            SELECT 'analytics' AS stage, symbol, min(session) AS from_session, {batch} AS batch
            FROM touched GROUP BY symbol"""
    )
    _set_watermark(connection, "golden.bars", spec, int(newest))
    return Built(touched, written, {})


def _insert_sole(connection: duckdb.DuckDBPyConnection, reliability: dict[str, float], *, contested: bool) -> int:
    """Bars that only one provider has: its value, and its reliability as confidence."""
    weights = " ".join(f"WHEN '{provider}' THEN {weight!r}" for provider, weight in reliability.items())
    confidence = f"CASE provider {weights} ELSE {PRIOR_RELIABILITY} END" if weights else f"{PRIOR_RELIABILITY}"
    sole = "QUALIFY count(*) OVER (PARTITION BY symbol, session) = 1" if contested else ""
    return _changed(
        connection,
        f"""INSERT INTO golden.bars BY NAME
            SELECT * EXCLUDE (provider), provider AS chosen_provider, 1::INTEGER AS n_sources,
                   ({confidence})::DOUBLE AS confidence
            FROM candidates {sole} ORDER BY symbol, session""",
    )


def _insert_voted(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, reliability: dict[str, float]) -> int:
    candidates = pl.DataFrame(
        connection.execute(
            "SELECT * FROM candidates QUALIFY count(*) OVER (PARTITION BY symbol, session) > 1 ORDER BY ALL"
        ).to_arrow_table()
    )
    if candidates.is_empty():
        return 0
    rank = {provider: spec.rank(provider) for provider in candidates["provider"].unique()}
    winners = vote(candidates, rank, reliability).rename({"provider": "chosen_provider"})
    return _insert(connection, GOLDEN_BARS, winners)


def _reliability(connection: duckdb.DuckDBPyConnection) -> dict[str, float]:
    """Measured reliability by provider: the latest of `quality.metrics`."""
    rows = connection.execute(
        """SELECT provider, arg_max(value, date) FROM quality.metrics
           WHERE metric = 'reliability' AND value IS NOT NULL GROUP BY provider"""
    ).fetchall()
    return {str(provider): float(value) for provider, value in rows}


def chosen_providers(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> list[str]:
    """Providers whose bars stand in golden."""
    found = connection.execute(f"SELECT DISTINCT chosen_provider FROM golden.bars WHERE {prefix(spec)} ORDER BY 1")
    return [str(row[0]) for row in found.fetchall()]


# --- trading days -------------------------------------------------------------------------------------------------


def build_sessions(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, until: date) -> Built:
    """Replace the market's rows of `golden.sessions`, from its first session to `until`."""
    frame = market_sessions(spec, spec.first_session, until)
    connection.execute("DELETE FROM golden.sessions WHERE market = ?", [spec.code])
    return Built(frame.height, _insert(connection, GOLDEN_SESSIONS, frame), {})


# --- corporate actions and factors ----------------------------------------------------------------------------------


def build_events(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> Built:
    """Merge the providers' corporate actions into `golden.adjustment_events`."""
    declared = _frame(
        connection,
        f"""SELECT * EXCLUDE (change_class, batch, fetch_id, payload_row) FROM clean.corporate_actions
            WHERE {prefix(spec)} ORDER BY symbol, ex_date, provider, event_type, seq""",
    )
    merged = merge_events(declared, spec.providers)
    connection.execute(f"DELETE FROM golden.adjustment_events WHERE {prefix(spec)}")
    return Built(declared.height, _insert(connection, EVENTS, merged), {"conflicts": int(merged["conflict"].sum())})


def build_factors(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> Built:
    """Recompute factor sets and replace those whose version or price basis changed.

    Only the bars around ex-dates are read: the last ones before and the first one after each.
    """
    events = _frame(connection, f"SELECT * FROM golden.adjustment_events WHERE {prefix(spec)} ORDER BY ALL")
    bars = _frame(
        connection,
        f"""WITH dates AS (SELECT DISTINCT symbol, ex_date FROM golden.adjustment_events WHERE {prefix(spec)}),
            bars AS (SELECT symbol, session, close, currency, known_from,
                            (volume IS NULL OR volume > 0 OR symbol LIKE '%:INDEX:%') AS traded
                     FROM golden.bars WHERE {prefix(spec)}),
            firsts AS (SELECT symbol, min(session) AS session FROM bars GROUP BY symbol),
            traded AS (FROM bars WHERE traded)
            SELECT DISTINCT b.* FROM dates AS d ASOF JOIN bars AS b ON d.symbol = b.symbol AND d.ex_date > b.session
            UNION SELECT DISTINCT b.* FROM dates AS d
                ASOF JOIN traded AS b ON d.symbol = b.symbol AND d.ex_date > b.session
            UNION SELECT DISTINCT b.* FROM dates AS d
                ASOF JOIN bars AS b ON d.symbol = b.symbol AND d.ex_date <= b.session
            -- Every symbol has a version, also without events.
            UNION SELECT b.* FROM bars AS b JOIN firsts USING (symbol, session)
            ORDER BY symbol, session""",
    )
    result = factor_sets(events, bars, spec.currency)
    known = (
        pl.concat([events.select("symbol", "known_from"), bars.select("symbol", "known_from")])
        .group_by("symbol")
        .agg(built_at=pl.col("known_from").max())
    )
    sets = FACTOR_SETS.conform(result.sets.join(known, on="symbol", how="left"))
    cumulative = [
        pl.col(step).cum_prod().over("symbol").alias(total)
        for step, total in (("m", "hfq"), ("m_ex_close", "hfq_ex_close"), ("v", "shares"))
    ]
    ordered = result.steps.sort("symbol", "ex_date")
    applied = ordered.filter(pl.col("status") == "applied").with_columns(cumulative)
    steps = FACTOR_STEPS.conform(
        ordered.join(
            applied.select("symbol", "ex_date", "hfq", "hfq_ex_close", "shares"), on=["symbol", "ex_date"], how="left"
        )
    )
    return _store_factors(connection, spec, sets, steps)


def _store_factors(
    connection: duckdb.DuckDBPyConnection, spec: MarketSpec, sets: pl.DataFrame, steps: pl.DataFrame
) -> Built:
    connection.register("sets_now", sets)
    connection.register("steps_now", steps)
    # Adjusted history changes from the first step that differs; earlier sessions keep every bit.
    terms = "symbol, ex_date, status, effective_session, m, v"
    standing = f"(FROM golden.factor_steps WHERE {prefix(spec)})"
    versions = _scalar(
        connection,
        "SELECT count(*) FROM sets_now ANTI JOIN golden.factor_sets USING (symbol, version, price_basis_hash)",
    )
    connection.execute(
        f"""INSERT INTO ops.dirty BY NAME
            SELECT 'analytics' AS stage, symbol, min(coalesce(effective_session, ex_date)) AS from_session,
                   {next_batch(connection)} AS batch
            FROM ((SELECT {terms} FROM steps_now EXCEPT SELECT {terms} FROM {standing})
                  UNION ALL
                  (SELECT {terms} FROM {standing} EXCEPT SELECT {terms} FROM steps_now))
            GROUP BY symbol"""
    )
    moved = _replace_differing(connection, FACTOR_SETS, "sets_now", spec)
    _replace_differing(connection, FACTOR_STEPS, "steps_now", spec)
    connection.unregister("sets_now")
    connection.unregister("steps_now")
    statuses = {str(status): int(count) for status, count in steps["status"].value_counts().sort("status").iter_rows()}
    return Built(sets.height, moved, {"new versions": int(versions or 0), **statuses})


def _replace_differing(connection: duckdb.DuckDBPyConnection, table: Table, view: str, spec: MarketSpec) -> int:
    """Replace the rows of every symbol that has any row that differs; others are not touched."""
    standing = f"(FROM {table.full_name} WHERE {prefix(spec)})"
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
    return int(_scalar(connection, "SELECT count(*) FROM moved") or 0)


# --- small things ---------------------------------------------------------------------------------------------------


def _watermark(connection: duckdb.DuckDBPyConnection, stage: str, spec: MarketSpec) -> int:
    row = connection.execute(
        "SELECT batch FROM ops.watermarks WHERE stage = ? AND market = ?", [stage, spec.code]
    ).fetchone()
    return int(row[0]) if row else 0


def _set_watermark(connection: duckdb.DuckDBPyConnection, stage: str, spec: MarketSpec, batch: int) -> None:
    connection.execute("DELETE FROM ops.watermarks WHERE stage = ? AND market = ?", [stage, spec.code])
    connection.execute("INSERT INTO ops.watermarks VALUES (?, ?, ?)", [stage, spec.code, batch])


def _frame(connection: duckdb.DuckDBPyConnection, sql: str) -> pl.DataFrame:
    return pl.DataFrame(connection.execute(sql).to_arrow_table())


def _insert(connection: duckdb.DuckDBPyConnection, table: Table, frame: pl.DataFrame) -> int:
    connection.register("rows", table.conform(frame))
    try:
        order = ", ".join(table.key)
        return _changed(connection, f"INSERT INTO {table.full_name} BY NAME SELECT * FROM rows ORDER BY {order}")
    finally:
        connection.unregister("rows")


def _changed(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    return int(_scalar(connection, sql) or 0)


def _scalar(connection: duckdb.DuckDBPyConnection, sql: str) -> int | None:
    row = connection.execute(sql).fetchone()
    return row[0] if row else None
