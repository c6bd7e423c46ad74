"""Is everything there? Sessions that a provider lacks, whole days that are missing, symbols that vanish.

Judged by exchange and provider: exchanges close on different days, and one provider's failed delivery is not another's.
"""

from __future__ import annotations

import duckdb
import polars as pl

from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.thresholds import DEFAULTS, Thresholds
from vprism_pipelines.warehouse.building import frame, prefix
from vprism_pipelines.warehouse.measurement import EVERYBODY, Measurement, worst

__all__ = ["SUSPENSION", "coverage", "exchange_days", "survivorship"]

SUSPENSION = 20  # sessions on end without a row: the symbol did not trade, nothing is missing
ROWS_OPTIONAL = ("UPCOM",)  # exchanges of whose sessions without a trade providers may leave out the row
NEWEST_MISSING = 5  # symbols; on any day a few suspensions begin
RECENT = 5  # sessions in which a symbol must have a row to be expected in the next
WHOLE_DAY_SHARE = 0.6
WHOLE_DAY_WINDOW = 20  # sessions
WHOLE_DAY_MINIMUM = 5  # symbols; below it one suspension would look like a missing day
BLOCK_MINIMUM = 20  # symbols; fewer say too little to stop a market
SURVIVAL_SESSIONS = 250
VANISHED = 2  # symbols; one alone is a delisting nobody declared


def coverage(
    connection: duckdb.DuckDBPyConnection, spec: MarketSpec, thresholds: Thresholds = DEFAULTS
) -> list[Measurement]:
    """completeness, completeness_latest, whole_day_gap and newest_session, of golden and of every provider.

    Golden (provider `*`) is what the market is judged by: what one provider lacks another may have. Where there is
    only one provider, golden says all.

    Args:
        connection: Where ledger, golden and instruments are.
        spec: Market.
        thresholds: In force, by exchange.
    """
    _tell(connection, spec)
    try:
        counts = _counts(connection, spec)
        thin = counts.filter(
            pl.col("usual") >= WHOLE_DAY_MINIMUM, (pl.col("symbols") / pl.col("usual")).round(12) < WHOLE_DAY_SHARE
        ).drop("newest")
        last = counts.filter("newest", pl.col("usual") >= BLOCK_MINIMUM).select(
            "exchange",
            "provider",
            "session",
            "symbols",
            "usual",
            share=(1 - pl.col("symbols") / pl.col("usual")).round(12),
        )
        by_share = {
            "completeness": _history(connection, spec),
            "completeness_latest": _newest(connection, spec),
            "newest_session": last,
        }
        providers = frame(connection, "SELECT DISTINCT provider FROM counts ORDER BY provider")["provider"].to_list()
        measured = []
        for provider in [EVERYBODY, *(name for name in providers if name != EVERYBODY)]:
            own = pl.col("provider") == provider
            measured += [worst(rows.filter(own), name, thresholds, provider) for name, rows in by_share.items()]
            gaps = thin.filter(own)
            measured.append(Measurement("whole_day_gap", float(gaps.height), gaps, provider, thresholds=thresholds))
        return measured
    finally:
        connection.execute("DROP VIEW told; DROP TABLE months; DROP TABLE counts; DROP TABLE closed; DROP TABLE newest")


def exchange_days(spec: MarketSpec) -> str:
    """SQL for exchange, session, session_no of the market; the main exchange also under '' for the unknown."""
    main = next(iter(spec.exchanges))
    return f"""(SELECT exchange, session, session_no FROM golden.sessions WHERE market = '{spec.code}'
                UNION ALL SELECT '' AS exchange, session, session_no FROM golden.sessions
                WHERE market = '{spec.code}' AND exchange = '{main}')"""


def survivorship(
    connection: duckdb.DuckDBPyConnection, spec: MarketSpec, thresholds: Thresholds = DEFAULTS
) -> Measurement:
    """Symbols that end on one session without a delisting date: a universe that forgets its dead is biased."""
    rows = frame(
        connection,
        f"""WITH ends AS (SELECT symbol, max(session) AS session FROM golden.bars
                          WHERE {prefix(spec)} GROUP BY symbol),
            gone AS (SELECT symbol, max(delisted) AS delisted FROM clean.instruments
                     WHERE {prefix(spec)} GROUP BY symbol),
            counts AS (SELECT session, count(*) AS symbols FROM golden.bars WHERE {prefix(spec)} GROUP BY session
                       ORDER BY session DESC LIMIT {SURVIVAL_SESSIONS + SUSPENSION}),
            settled AS (FROM counts ORDER BY session DESC OFFSET {SUSPENSION})
            SELECT s.session, s.symbols, count(e.symbol) AS vanished, count(e.symbol) / s.symbols AS share,
                   string_agg(e.symbol, ', ' ORDER BY e.symbol) AS who
            FROM settled AS s JOIN ends AS e USING (session) LEFT JOIN gone AS g ON g.symbol = e.symbol
            WHERE g.delisted IS NULL GROUP BY s.session, s.symbols HAVING count(e.symbol) >= {VANISHED}
            ORDER BY share DESC, session DESC""",
    )
    value = float(rows["share"][0]) if rows.height else 0.0
    return Measurement("survivorship", value, rows, thresholds=thresholds)


def _tell(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> None:
    """Temporary tables of what golden (`*`) and, where there are several, the providers have on each exchange.

    `months`: bars, first and last session_no of each symbol and month. `newest`: bars of the newest sessions.
    `counts`: symbols by session.
    """
    known = ", ".join(f"'{name}'" for name in spec.exchanges)
    exchange = f"CASE WHEN exchange IN ({known}) THEN exchange ELSE '' END AS exchange"
    days = exchange_days(spec)
    # Rows are many, months and sessions few: the calendar is joined to those.
    connection.execute(
        f"""CREATE OR REPLACE TEMP VIEW told AS
            SELECT symbol, '{EVERYBODY}' AS provider, session, {exchange} FROM golden.bars WHERE {prefix(spec)}
            UNION ALL
            SELECT symbol, provider, session, {exchange} FROM clean.bars_ledger
            WHERE {prefix(spec)} AND known_to IS NULL AND NOT provisional
              AND (SELECT count(DISTINCT provider) > 1 FROM clean.bars_ledger WHERE {prefix(spec)});
            CREATE OR REPLACE TEMP TABLE counts AS
            SELECT provider, exchange, session, session_no, symbols
            FROM (SELECT provider, exchange, session, count(*) AS symbols FROM told GROUP BY ALL)
            LEFT JOIN {days} USING (exchange, session);
            CREATE OR REPLACE TEMP TABLE closed AS FROM counts WHERE session_no IS NULL;
            CREATE OR REPLACE TEMP TABLE months AS
            SELECT symbol, provider, exchange, year(session) * 12 + month(session) AS month, count(*) AS bars,
                   min(session) AS first, max(session) AS last
            FROM told ANTI JOIN closed USING (provider, exchange, session) GROUP BY ALL;
            CREATE OR REPLACE TEMP TABLE months AS
            SELECT m.* REPLACE (f.session_no AS first, l.session_no AS last)
            FROM months AS m JOIN {days} AS f ON f.exchange = m.exchange AND f.session = m.first
                 JOIN {days} AS l ON l.exchange = m.exchange AND l.session = m.last;
            DELETE FROM counts WHERE session_no IS NULL;
            CREATE OR REPLACE TEMP TABLE newest AS
            WITH ends AS (SELECT provider, exchange, max(session_no) AS no, max(session) AS session
                          FROM counts GROUP BY ALL),
            recent AS (SELECT c.provider, c.exchange, c.session, e.session AS newest, c.session_no = e.no AS is_newest
                       FROM counts AS c JOIN ends AS e USING (provider, exchange)
                       WHERE c.session_no >= e.no - {RECENT})
            SELECT symbol, provider, exchange, newest AS session, bool_or(is_newest) AS there
            FROM told JOIN recent USING (provider, exchange, session)
            WHERE session >= (SELECT min(session) FROM recent) GROUP BY ALL"""
    )


def _history(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> pl.DataFrame:
    """Missing sessions between each symbol's first and last bar, suspensions apart.

    What is missing follows from the first and last bar of each month; only between months is it a suspension.
    """
    optional = _optional(spec, "exchange")
    return frame(
        connection,
        f"""WITH steps AS (
                SELECT *, coalesce(first - lag(last) OVER series - 1, 0) AS between_months FROM months
                WINDOW series AS (PARTITION BY symbol, provider, exchange ORDER BY first)),
            symbols AS (
                SELECT symbol, provider, exchange, sum(bars) AS bars,
                       sum(last - first + 1 - bars)
                           + sum(CASE WHEN between_months < {SUSPENSION} THEN between_months ELSE 0 END) AS missing,
                       count(*) FILTER (between_months >= {SUSPENSION}) AS suspensions
                FROM steps GROUP BY ALL),
            placed AS (
                SELECT *, row_number() OVER worst AS place FROM symbols
                WINDOW worst AS (PARTITION BY provider, exchange ORDER BY missing DESC, symbol))
            SELECT exchange, provider, count(*) AS symbols, sum(bars + missing)::BIGINT AS expected,
                   sum(missing)::BIGINT AS missing, sum(suspensions)::BIGINT AS suspensions,
                   CASE WHEN {optional} THEN NULL ELSE round(sum(missing) / sum(bars + missing), 12) END AS share,
                   string_agg(symbol || ' ' || missing::BIGINT, ', ' ORDER BY missing DESC, symbol)
                       FILTER (missing > 0 AND place <= 5) AS worst
            FROM placed GROUP BY exchange, provider""",
    )


def _newest(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> pl.DataFrame:
    """Symbols with a bar in the sessions just before that the newest one lacks, delisted ones apart."""
    return frame(
        connection,
        f"""WITH gone AS (SELECT symbol, max(delisted) AS delisted FROM clean.instruments
                          WHERE {prefix(spec)} GROUP BY symbol)
            SELECT exchange, provider, n.session, count(*) AS expected, count(*) FILTER (NOT there) AS missing,
                   CASE WHEN {_optional(spec, "exchange")} THEN NULL
                        WHEN count(*) FILTER (NOT there) < {NEWEST_MISSING} THEN 0
                        ELSE round(count(*) FILTER (NOT there) / count(*), 12) END AS share,
                   string_agg(symbol, ', ' ORDER BY symbol) FILTER (NOT there) AS who
            FROM newest AS n LEFT JOIN gone AS g USING (symbol)
            WHERE g.delisted IS NULL OR g.delisted > n.session
            GROUP BY exchange, provider, n.session""",
    )


def _counts(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> pl.DataFrame:
    """exchange, provider, session, symbols, usual (median of the sessions before), newest; empty sessions too.

    Bars of unknown exchange are left out where others have one: their number changes with the listings.
    """
    return frame(
        connection,
        f"""WITH spans AS (SELECT exchange, provider, min(session_no) AS lo, max(session_no) AS hi
                           FROM counts GROUP BY exchange, provider
                           QUALIFY exchange <> '' OR count(*) OVER (PARTITION BY provider) = 1),
            filled AS (SELECT s.exchange, s.provider, d.session, coalesce(c.symbols, 0) AS symbols,
                              d.session_no = s.hi AS newest
                       FROM spans AS s
                       JOIN {exchange_days(spec)} AS d ON d.exchange = s.exchange AND d.session_no BETWEEN s.lo AND s.hi
                       LEFT JOIN counts AS c ON c.exchange = s.exchange AND c.provider = s.provider
                                            AND c.session_no = d.session_no)
            SELECT *, median(symbols) OVER (PARTITION BY exchange, provider ORDER BY session
                ROWS BETWEEN {WHOLE_DAY_WINDOW} PRECEDING AND 1 PRECEDING) AS usual
            FROM filled ORDER BY session DESC, exchange, provider""",
    )


def _optional(spec: MarketSpec, exchange: str) -> str:
    """SQL: whether rows without a trade may be missing there. An unknown exchange may be one of those."""
    names = [name for name in ROWS_OPTIONAL if name in spec.exchanges]
    return f"{exchange} IN ({', '.join(repr(name) for name in [*names, ''])})" if names else "false"
