"""The scorecard: what was right and wrong with every provider's bars, by symbol and month.

Two halves. What a provider told, month by month, is counted again where the ledger or the quarantine has news. What we
made of it, findings and votes, is sparse and may change anywhere; it is counted as a whole and laid over.
"""

from __future__ import annotations

import duckdb
import polars as pl

from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.consensus import AGREEMENT_BP
from vprism_pipelines.quality.flags import BarFlag
from vprism_pipelines.tables import SCORECARD
from vprism_pipelines.warehouse.building import Built, changed, frame, prefix, scalar, set_watermark, watermark
from vprism_pipelines.warehouse.completeness import SUSPENSION, exchange_days

__all__ = ["build_scorecard", "by_month"]

REACH = 60  # days; no gap shorter than a suspension is longer, closed weeks included
UNCHANGED = ("new", "settled", "float_noise")  # classes of versions that revise nothing
STAGE = "quality.scorecard"


def build_scorecard(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> Built:
    """Bring `quality.scorecard` up to ledger, quarantine, findings and golden, in the caller's transaction."""
    since, newest = watermark(connection, STAGE, spec), _newest(connection, spec)
    touched = 0
    if newest > since:
        touched = _touched(connection, spec, since)
        _tell(connection, spec)
        connection.execute(
            f"""DELETE FROM {SCORECARD.full_name} AS s USING touched AS t
                WHERE s.symbol = t.symbol AND s.provider = t.provider AND s.month >= t.month"""
        )
        connection.execute(
            f"""INSERT INTO {SCORECARD.full_name} BY NAME
                SELECT symbol, provider, month, bars + rejected + missing AS expected, bars, rejected, missing, revised,
                       0 AS quarantined, 0 AS flagged, 0 AS outvoted,
                       round(bars / nullif(bars + rejected + missing, 0), 12) AS score
                FROM months ORDER BY symbol, provider, month"""
        )
        set_watermark(connection, STAGE, spec, newest)
    return Built(touched, _believe(connection, spec))


def by_month(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> pl.DataFrame:
    """provider, month, expected, bars, missing, rejected, quarantined, outvoted, gap_ratio, score; over all symbols."""
    return frame(
        connection,
        f"""SELECT provider, month, sum(expected)::BIGINT AS expected, sum(bars)::BIGINT AS bars,
                       sum(missing)::BIGINT AS missing, sum(rejected)::BIGINT AS rejected,
                       sum(quarantined)::BIGINT AS quarantined, sum(outvoted)::BIGINT AS outvoted,
                       round(sum(missing) / sum(expected), 12) AS gap_ratio,
                       round(sum(bars - quarantined - outvoted) / sum(expected), 12) AS score
                FROM {SCORECARD.full_name} WHERE {prefix(spec)} GROUP BY ALL ORDER BY provider, month""",
    )


# --- what was told ------------------------------------------------------------------------------------------------


def _newest(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> int:
    """The newest batch that entered bars or rejected rows of the market."""
    found = scalar(
        connection,
        f"""SELECT greatest((SELECT max(batch) FROM clean.bars_ledger WHERE {prefix(spec)}),
                            (SELECT max(i.batch) FROM ops.ingests AS i JOIN raw.fetches AS f USING (fetch_id)
                             WHERE i.dataset = 'bars' AND i.quarantined > 0 AND f.market = '{spec.code}'))""",
    )
    return found or 0


def _touched(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, since: int) -> int:
    """Temporary tables: `refused`, sessions whose row was quarantined; `touched`, series and first month to redo.

    A row ends a gap before it, so what is redone begins a suspension's length earlier.
    """
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE refused AS
            SELECT m.symbol, q.provider, q.session, max(i.batch) AS batch
            FROM clean.quarantine AS q
            JOIN clean.symbol_map AS m ON m.raw_symbol = q.raw_symbol AND m.provider = q.provider
            JOIN ops.ingests AS i ON i.fetch_id = q.fetch_id AND i.dataset = q.dataset
            WHERE q.market = '{spec.code}' AND q.dataset = 'bars' AND q.session IS NOT NULL
              AND {prefix(spec, "m.symbol")} AND q.session IN (SELECT session FROM {exchange_days(spec)})
            GROUP BY ALL"""
    )
    return changed(
        connection,
        f"""CREATE OR REPLACE TEMP TABLE touched AS
            SELECT symbol, provider, date_trunc('month', min(session) - {REACH})::DATE AS month,
                   (month - {REACH})::DATE AS reach
            FROM (SELECT symbol, provider, session FROM clean.bars_ledger WHERE {prefix(spec)} AND batch > {since}
                  UNION ALL SELECT symbol, provider, session FROM refused WHERE batch > {since})
            GROUP BY symbol, provider""",
    )


def _tell(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> None:
    """Temporary table `months`: bars, rejected, missing, revised of every touched series and month.

    Missing sessions follow from the first and last row of each month; a walk over all rows would cost ten times that.
    """
    exchanges = ", ".join(f"'{name}'" for name in spec.exchanges)
    days, earliest = exchange_days(spec), "session >= (SELECT min(reach) FROM touched)"
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE told AS
            WITH bars AS (FROM clean.bars_ledger
                          WHERE {prefix(spec)} AND {earliest} AND known_to IS NULL AND NOT provisional),
            worse AS (FROM refused ANTI JOIN bars USING (symbol, provider, session) WHERE {earliest}),
            rows AS (
                SELECT symbol, provider, {_MONTH} AS number, count(*) AS bars, 0 AS rejected, min(session) AS first,
                       max(session) AS last, max(exchange) FILTER (exchange IN ({exchanges})) AS exchange
                FROM bars GROUP BY ALL
                UNION ALL
                SELECT symbol, provider, {_MONTH} AS number, 0 AS bars, count(*) AS rejected, min(session) AS first,
                       max(session) AS last, NULL AS exchange
                FROM worse GROUP BY ALL)
            SELECT symbol, provider, make_date((number // 12)::INT, (number % 12 + 1)::INT, 1) AS month,
                   sum(bars)::BIGINT AS bars, sum(rejected)::BIGINT AS rejected, min(first) AS first, max(last) AS last,
                   coalesce(max(exchange), '') AS exchange
            FROM rows SEMI JOIN touched USING (symbol, provider) GROUP BY symbol, provider, number"""
    )
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE months AS
            WITH days AS {days},
            ends AS (SELECT *, lag(last) OVER (PARTITION BY symbol, provider ORDER BY month) AS before
                     FROM told),
            numbered AS (
                SELECT e.* EXCLUDE (first, last, before), f.session_no AS first, l.session_no AS last,
                       b.session_no AS before
                FROM ends AS e
                LEFT JOIN days AS f ON f.exchange = e.exchange AND f.session = e.first
                LEFT JOIN days AS l ON l.exchange = e.exchange AND l.session = e.last
                LEFT JOIN days AS b ON b.exchange = e.exchange AND b.session = e.before),
            gaps AS (SELECT symbol, provider, exchange, unnest(range(before + 1, first)) AS session_no
                     FROM numbered WHERE first - before BETWEEN 2 AND {SUSPENSION}),
            counted AS (
                SELECT symbol, provider, month, bars, rejected, 0 AS revised,
                       CASE WHEN last - first + 1 - bars - rejected BETWEEN 1 AND {SUSPENSION - 1}
                            THEN last - first + 1 - bars - rejected ELSE 0 END AS missing
                FROM numbered
                UNION ALL
                SELECT symbol, provider, date_trunc('month', session)::DATE AS month, 0 AS bars, 0 AS rejected,
                       0 AS revised, 1 AS missing
                FROM gaps JOIN days USING (exchange, session_no)
                UNION ALL
                SELECT symbol, provider, date_trunc('month', session)::DATE AS month, 0 AS bars, 0 AS rejected,
                       count(DISTINCT session) AS revised, 0 AS missing
                FROM clean.bars_ledger SEMI JOIN touched USING (symbol, provider)
                WHERE {earliest} AND change_class NOT IN {UNCHANGED} AND NOT provisional GROUP BY ALL)
            SELECT symbol, provider, c.month, sum(bars)::BIGINT AS bars, sum(rejected)::BIGINT AS rejected,
                   sum(missing)::BIGINT AS missing, sum(revised)::BIGINT AS revised
            FROM counted AS c JOIN touched AS t USING (symbol, provider) WHERE c.month >= t.month GROUP BY ALL"""
    )


_MONTH = "year(session) * 12 + month(session) - 1"


# --- what we made of it ---------------------------------------------------------------------------------------------


def _believe(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> int:
    """Lay findings and votes over the scorecard; how many of its rows changed."""
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE outvoted AS
            SELECT b.symbol, b.provider, b.session
            FROM clean.traded_bars AS b
            JOIN (SELECT symbol, session, close, chosen_provider FROM golden.bars
                  WHERE {prefix(spec)} AND flags & {int(BarFlag.DISSENT)} > 0) AS g USING (symbol, session)
            WHERE b.provider <> g.chosen_provider AND b.price_basis = 'raw' AND NOT b.provisional
              AND round(abs(b.close / g.close - 1) * 1e4, 6) > {AGREEMENT_BP}"""
    )
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE beliefs AS
            WITH counted AS (
                SELECT symbol, provider, session, quarantined::INT AS quarantined, (NOT quarantined)::INT AS flagged,
                       0 AS outvoted FROM quality.findings WHERE {prefix(spec)}
                UNION ALL
                SELECT symbol, provider, session, 0 AS quarantined, 0 AS flagged, 1 AS outvoted
                FROM outvoted ANTI JOIN (FROM quality.findings WHERE quarantined) USING (symbol, session, provider))
            SELECT symbol, provider, date_trunc('month', session)::DATE AS month,
                   sum(quarantined)::BIGINT AS quarantined, sum(flagged)::BIGINT AS flagged,
                   sum(outvoted)::BIGINT AS outvoted
            FROM counted GROUP BY ALL"""
    )
    return changed(
        connection,
        f"""UPDATE {SCORECARD.full_name} AS s
            SET quarantined = n.quarantined, flagged = n.flagged, outvoted = n.outvoted,
                score = round(greatest(s.bars - n.quarantined - n.outvoted, 0) / s.expected, 12)
            FROM (SELECT c.symbol, c.provider, c.month, coalesce(b.quarantined, 0) AS quarantined,
                         coalesce(b.flagged, 0) AS flagged, coalesce(b.outvoted, 0) AS outvoted
                  FROM {SCORECARD.full_name} AS c LEFT JOIN beliefs AS b USING (symbol, provider, month)
                  WHERE {prefix(spec, "c.symbol")}) AS n
            WHERE s.symbol = n.symbol AND s.provider = n.provider AND s.month = n.month
              AND (s.quarantined <> n.quarantined OR s.flagged <> n.flagged OR s.outvoted <> n.outvoted)""",
    )
