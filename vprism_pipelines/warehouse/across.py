"""Building the analytics tables across symbols from the indicators and reported figures: incremental by session.

A change to one bar changes what its session, and the ones after it, look like across the market: those are computed
again, older ones stand. A new description changes only sectors, a figure only these and the quotes of its company. Sums
of values are exact decimals and counts are whole, so no order of rows shows in them.
"""

from __future__ import annotations

from datetime import date

import duckdb
import polars as pl

from vprism_pipelines.market.correlation import correlations
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.tables.golden import TRADED
from vprism_pipelines.warehouse.building import (
    Built,
    changed,
    frame,
    insert,
    prefix,
    scalar,
    set_watermark,
    watermark,
)
from vprism_pipelines.warehouse.market_tables import CORRELATION
from vprism_pipelines.warehouse.valuation import build_figures
from vprism_pipelines.warehouse.valuation_tables import capitalised, valued

CORRELATED = 30
"""Stocks whose correlations are kept: those with the highest mean traded value of 20 sessions."""
LOOK_BACKS = (60, 252)
CAP_DAYS = 30
"""A cap older than this, of a stock that has not traded since, weighs nothing."""

_SECTORS = "analytics.sectors"  # watermark: batches of descriptions whose sectors are in the table


def build_market(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> Built:
    """Bring `figures` up to the ledger, and `latest`, `breadth`, `sectors`, `ratings` and `correlation` up to them and
    to `analytics.daily`.

    Runs inside the caller's transaction, after `build_daily`, which says what changed.
    """
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE market_changed AS
            SELECT 'bars' AS what, symbol, min(from_session) AS since FROM ops.dirty
            WHERE stage = 'market' AND {prefix(spec)} GROUP BY symbol"""
    )
    described = _described(connection, spec)
    figures = build_figures(connection, spec)
    connection.execute(
        """INSERT INTO market_changed BY NAME
           SELECT 'figures' AS what, * FROM refigured SEMI JOIN analytics.state USING (symbol)"""
    )
    since: dict[str, date] = dict(
        connection.execute("SELECT what, min(since) FROM market_changed GROUP BY what").fetchall()
    )
    if not since:
        return Built(0, figures, {})
    bars = since.get("bars", date.max)
    tables = {
        "figures": figures,
        "breadth": _breadth(connection, spec, bars),
        "sectors": _sectors(connection, spec, min(since.values())),
        "ratings": _ratings(connection, spec, bars),
        "latest": _latest(connection, spec, bars),
        "correlation": _correlation(connection, spec) if "bars" in since else 0,
    }
    connection.execute(f"DELETE FROM ops.dirty WHERE stage = 'market' AND {prefix(spec)}")
    set_watermark(connection, _SECTORS, spec, described)
    touched = scalar(connection, "SELECT count(DISTINCT symbol) FROM market_changed")
    return Built(touched or 0, sum(tables.values()), tables)


def _described(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> int:
    """Add symbols whose description changed to what changed; the newest batch of descriptions."""
    newest = scalar(connection, f"SELECT max(batch) FROM clean.instruments_ledger WHERE {prefix(spec)}") or 0
    seen = watermark(connection, _SECTORS, spec)
    if newest > seen:
        connection.execute(
            f"""INSERT INTO market_changed BY NAME
                SELECT 'description' AS what, symbol, min(session) AS since FROM analytics.daily
                SEMI JOIN (FROM clean.instruments_ledger WHERE {prefix(spec)} AND batch > {seen}) USING (symbol)
                GROUP BY symbol"""
        )
    return newest


def _stocks(spec: MarketSpec, since: date) -> str:
    return f"session >= DATE '{since}' AND symbol LIKE '{spec.prefix}:STOCK:%'"


def _members(spec: MarketSpec, since: date) -> str:
    """SQL: what the stocks of the market did on every session to compute; only columns that are used are read."""
    # Both conditions are spelled out on both tables: DuckDB then skips all older row groups of each.
    return f"""(
        SELECT symbol, session, coalesce(b.exchange, 'unknown') AS exchange, b.value, d.limit_hit,
               sign(round(d.change, 12)) AS way, d.ret_1d,
               round(d.above_sma_50, 12) > 0 AS above_50, round(d.above_sma_200, 12) > 0 AS above_200,
               d.since_high_52w = 0 AS high, d.since_low_52w = 0 AS low
        FROM (FROM analytics.daily WHERE {_stocks(spec, since)}) AS d
        JOIN (FROM golden.bars WHERE {_stocks(spec, since)}) AS b USING (symbol, session))"""


# Exact: a sum of doubles depends on the order of its terms.
_VALUE = "sum(value::DECIMAL(38, 2))::DOUBLE AS value"
_CAP_RETURN = """sum(TRY_CAST(cap * ret_1d AS DECIMAL(28, 4)))::DOUBLE
    / (sum(TRY_CAST(cap AS DECIMAL(28, 4))) FILTER (ret_1d IS NOT NULL))::DOUBLE"""
_ADVANCERS, _DECLINERS = "count(*) FILTER (way > 0)", "count(*) FILTER (way < 0)"


def _breadth(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, since: date) -> int:
    where = f"market = '{spec.code}'"
    connection.execute(f"DELETE FROM analytics.breadth WHERE {where} AND session >= DATE '{since}'")
    return changed(
        connection,
        f"""INSERT INTO analytics.breadth BY NAME
            WITH counted AS (
                SELECT '{spec.code}' AS market, coalesce(exchange, '*') AS exchange, session, count(*) AS traded,
                       {_ADVANCERS} AS advancers, {_DECLINERS} AS decliners, count(*) FILTER (way = 0) AS unchanged,
                       avg(above_50::INTEGER) AS above_sma_50, avg(above_200::INTEGER) AS above_sma_200,
                       count(*) FILTER (high) AS new_highs, count(*) FILTER (low) AS new_lows,
                       count(*) FILTER (limit_hit = 1) AS ceilings, count(*) FILTER (limit_hit = -1) AS floors, {_VALUE}
                FROM {_members(spec, since)} GROUP BY GROUPING SETS ((exchange, session), (session))),
            standing AS (SELECT exchange, arg_max(ad_line, session) AS ad_line FROM analytics.breadth
                         WHERE {where} GROUP BY exchange)
            SELECT c.*, coalesce(s.ad_line, 0) + sum(advancers - decliners)
                            OVER (PARTITION BY exchange ORDER BY session) AS ad_line
            FROM counted AS c LEFT JOIN standing AS s USING (exchange) ORDER BY exchange, session""",
    )


def _sectors(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, since: date) -> int:
    connection.execute(f"DELETE FROM analytics.sectors WHERE market = '{spec.code}' AND session >= DATE '{since}'")
    ranks = " ".join(f"WHEN '{provider}' THEN {spec.rank(provider)}" for provider in spec.providers)
    capped = f"""(FROM golden.bars WHERE session >= DATE '{since}' - {CAP_DAYS} AND symbol LIKE '{spec.prefix}:STOCK:%'
                  AND currency = '{spec.currency}' AND {TRADED} AND symbol IN (SELECT symbol FROM analytics.figures))"""
    return changed(
        connection,
        f"""INSERT INTO analytics.sectors BY NAME
            WITH classified AS (
                SELECT symbol,
                       arg_min(sector, (CASE provider {ranks} ELSE {len(spec.providers)} END, provider)) AS sector
                FROM clean.instruments_ledger
                WHERE {prefix(spec)} AND known_to IS NULL AND sector IS NOT NULL GROUP BY symbol),
            caps AS (
                SELECT symbol, session, CASE WHEN session - lag(session) OVER history <= {CAP_DAYS}
                                             THEN lag(market_cap) OVER history END AS cap
                FROM ({capitalised(capped)}) WINDOW history AS (PARTITION BY symbol ORDER BY session))
            SELECT '{spec.code}' AS market, sector, session, count(*) AS traded, {_ADVANCERS} AS advancers,
                   {_DECLINERS} AS decliners, median(ret_1d) AS median_return, {_CAP_RETURN} AS cap_return, {_VALUE}
            FROM {_members(spec, since)} JOIN classified USING (symbol) LEFT JOIN caps USING (symbol, session)
            GROUP BY sector, session ORDER BY sector, session""",
    )


def _ratings(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, since: date) -> int:
    connection.execute(f"DELETE FROM analytics.ratings WHERE {prefix(spec)} AND session >= DATE '{since}'")
    return changed(
        connection,
        f"""INSERT INTO analytics.ratings BY NAME
            SELECT symbol, session, count(*) OVER (PARTITION BY session) AS rated,
                   100 * percent_rank() OVER (PARTITION BY session ORDER BY round(ret_252d, 12)) AS rs_rating
            FROM analytics.daily WHERE ret_252d IS NOT NULL AND {_stocks(spec, since)} ORDER BY session, symbol""",
    )


def _latest(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, since: date) -> int:
    """Symbols whose last session is looked at again: changed, ranked among others that changed, or with new figures."""
    connection.execute(
        f"""DELETE FROM analytics.latest
            WHERE {prefix(spec)} AND (session >= DATE '{since}' OR symbol IN (
                SELECT symbol FROM analytics.state WHERE session >= DATE '{since}' UNION ALL
                SELECT symbol FROM refigured))"""
    )
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE market_shown AS
            SELECT symbol, session FROM analytics.state ANTI JOIN analytics.latest USING (symbol)
            WHERE {prefix(spec)}"""
    )
    oldest = connection.execute("SELECT min(session) FROM market_shown").fetchone()
    if not oldest or oldest[0] is None:
        return 0
    recent = f"session >= DATE '{oldest[0]}'"
    bars = f"(FROM golden.bars SEMI JOIN market_shown USING (symbol, session) WHERE {recent})"
    return changed(
        connection,
        f"""INSERT INTO analytics.latest BY NAME
            SELECT symbol, session, b.exchange, b.currency, b.close, d.reference, d.change, b.volume, b.value,
                   d.high_52w / coalesce(f.shares, 1) AS high_52w, d.low_52w / coalesce(f.shares, 1) AS low_52w,
                   d.pct_from_high, d.pct_from_low, d.ret_5d AS ret_1w, d.ret_20d AS ret_1m, d.ret_60d AS ret_3m,
                   d.ret_120d AS ret_6m, d.ret_252d AS ret_1y, d.ret_ytd, d.vol_20, d.vol_252, d.rsi_14, d.beta_252,
                   d.adv_20, d.idle_share_60, r.rs_rating, v.market_cap, v.pe, v.pb, v.dividend_yield, d.limit_hit,
                   b.flags
            FROM market_shown AS shown
            JOIN (FROM analytics.daily WHERE {recent}) AS d USING (symbol, session)
            JOIN (FROM golden.bars WHERE {recent}) AS b USING (symbol, session)
            LEFT JOIN (FROM analytics.ratings WHERE {recent}) AS r USING (symbol, session)
            LEFT JOIN ({valued(bars)}) AS v USING (symbol, session)
            LEFT JOIN (SELECT symbol, arg_max(shares, ex_date) AS shares
                       FROM golden.factor_steps JOIN market_shown AS shown USING (symbol)
                       WHERE status = 'applied' AND effective_session <= session GROUP BY symbol) AS f USING (symbol)
            ORDER BY symbol""",
    )


def _correlation(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> int:
    connection.execute(f"DELETE FROM analytics.correlation WHERE market = '{spec.code}'")
    stocks = f"symbol LIKE '{spec.prefix}:STOCK:%'"
    # The sessions of the market are looked back over, whoever traded on them.
    days = frame(
        connection,
        f"""SELECT DISTINCT session FROM golden.sessions WHERE market = '{spec.code}'
            AND session <= (SELECT max(session) FROM analytics.latest WHERE {stocks})
            ORDER BY session DESC LIMIT {max(LOOK_BACKS)}""",
    )["session"].sort()
    if days.is_empty():
        return 0
    recent = f"session >= DATE '{days[0]}'"
    chosen = frame(
        connection,
        f"""SELECT symbol FROM analytics.latest WHERE {stocks} AND {recent} AND adv_20 IS NOT NULL
            ORDER BY adv_20 DESC, symbol LIMIT {CORRELATED}""",
    )["symbol"].to_list()
    named = ", ".join(f"'{symbol}'" for symbol in chosen) or "NULL"
    # Names spelled out are looked for while reading; a join would bring in every row of those sessions first.
    returns = frame(
        connection,
        f"SELECT symbol, session, ret_1d AS ret FROM analytics.daily WHERE symbol IN ({named}) AND {recent}",
    )
    rows = correlations(returns, days, *LOOK_BACKS).with_columns(market=pl.lit(spec.code), session=pl.lit(days[-1]))
    return insert(connection, CORRELATION, rows)
