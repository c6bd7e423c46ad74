"""Measuring whole tables in SQL: completeness, gaps, duplicates, freshness. Verdicts are in `quality.datasets`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

import duckdb
import polars as pl

from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.datasets import CHECKS, Status
from vprism_pipelines.tables import METRICS, Table
from vprism_pipelines.warehouse.ingest import prefix

WHOLE_DAY_SHARE = 0.6
WHOLE_DAY_WINDOW = 20
ADJUSTED_CLOSE_TOLERANCE = 1e-6  # currency per share: providers publish six decimals
ADJUSTED_CLOSE_RELATIVE = 1e-6
WHOLE_DAY_MINIMUM = 5  # symbols; below it one suspension would look like a missing day


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measured value of one check, with the rows that explain it."""

    check: str
    value: float | None
    evidence: pl.DataFrame
    provider: str = "*"

    @property
    def status(self) -> Status:
        return CHECKS[self.check].judge(self.value)


def completeness(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, table: str = "golden.bars") -> Measurement:
    """Missing bars between each symbol's first and last one, against the trading days of the market's calendar."""
    evidence = _frame(
        connection,
        f"""WITH days AS (SELECT DISTINCT session, session_no FROM golden.sessions
                          WHERE market = '{spec.code}' AND exchange = '{next(iter(spec.exchanges))}')
            SELECT symbol, min(session) AS first_session, max(session) AS last_session,
                   max(session_no) - min(session_no) + 1 AS expected, count(session_no) AS actual
            FROM {table} LEFT JOIN days USING (session) WHERE {prefix(spec)} GROUP BY symbol
            ORDER BY expected - actual DESC, symbol""",
    )
    expected, actual = int(evidence["expected"].sum() or 0), int(evidence["actual"].sum() or 0)
    gap = (expected - actual) / expected if expected else None
    return Measurement("completeness", gap, evidence.filter(pl.col("expected") > pl.col("actual")))


def whole_day_gaps(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> Measurement:
    """Sessions, per provider, on which most symbols are missing at once: a failed delivery, not a market event."""
    evidence = _frame(
        connection,
        f"""WITH counts AS (SELECT provider, session, count(*) AS symbols FROM clean.bars
                            WHERE {prefix(spec)} GROUP BY ALL),
            spans AS (SELECT provider, min(session) AS lo, max(session) AS hi FROM counts GROUP BY provider),
            days AS (SELECT DISTINCT session FROM golden.sessions
                     WHERE market = '{spec.code}' AND exchange = '{next(iter(spec.exchanges))}'),
            filled AS (SELECT s.provider, d.session, coalesce(c.symbols, 0) AS symbols
                       FROM spans AS s JOIN days AS d ON d.session BETWEEN s.lo AND s.hi
                       LEFT JOIN counts AS c ON c.provider = s.provider AND c.session = d.session)
            SELECT provider, session, symbols, usual FROM (
                SELECT *, median(symbols) OVER (PARTITION BY provider ORDER BY session
                    ROWS BETWEEN {WHOLE_DAY_WINDOW} PRECEDING AND 1 PRECEDING) AS usual FROM filled)
            WHERE usual >= {WHOLE_DAY_MINIMUM} AND symbols < {WHOLE_DAY_SHARE} * usual
            ORDER BY session DESC, provider""",
    )
    return Measurement("whole_day_gap", float(evidence.height), evidence)


def duplicates(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> Measurement:
    """Keys of the golden table that occur more than once."""
    evidence = _frame(
        connection,
        f"""SELECT symbol, session, count(*) AS copies FROM golden.bars WHERE {prefix(spec)}
            GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL""",
    )
    return Measurement("duplicates", float(evidence.height), evidence)


def freshness(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, latest: date) -> Measurement:
    """Sessions between the newest golden bar and the last session that is final; judged by data, never by run times."""
    evidence = _frame(
        connection,
        f"""WITH newest AS (SELECT max(session) AS session FROM golden.bars WHERE {prefix(spec)})
            SELECT n.session AS newest, DATE '{latest}' AS expected,
                   (SELECT count(DISTINCT session) FROM golden.sessions
                    WHERE market = '{spec.code}' AND session > n.session AND session <= DATE '{latest}') AS missing
            FROM newest AS n""",
    )
    missing = evidence["missing"][0] if evidence["newest"][0] is not None else None
    return Measurement("freshness", None if missing is None else float(missing), evidence)


def adjusted_close(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> Measurement:
    """Rows on which our factors miss the adjusted close a provider published, beyond its rounding.

    A provider's series is anchored on its last row: later events it had already applied are a constant. Compared on
    the convention that fits the provider's series better.
    """
    evidence = _frame(
        connection,
        f"""WITH published AS (
                SELECT l.symbol, l.provider, l.session, l.close, l.adj_close,
                       coalesce(f.hfq, 1) AS hfq, coalesce(f.hfq_ex_close, 1) AS hfq_ex_close
                FROM clean.bars AS l
                ASOF LEFT JOIN golden.factors_cumulative AS f
                    ON l.symbol = f.symbol AND l.session >= f.effective_session
                WHERE {prefix(spec, "l.symbol")} AND adj_close IS NOT NULL AND price_basis = 'raw' AND NOT provisional),
            -- The anchor from the row whose published figure has the most digits.
            anchors AS (
                SELECT symbol, provider,
                       arg_max(adj_close / (close * hfq), adj_close) AS prev_close,
                       arg_max(adj_close / (close * hfq_ex_close), adj_close) AS ex_close
                FROM published GROUP BY ALL),
            missed AS (
                SELECT p.*, abs(p.close * hfq * a.prev_close - adj_close) AS by_prev_close,
                       abs(p.close * hfq_ex_close * a.ex_close - adj_close) AS by_ex_close
                FROM published AS p JOIN anchors AS a USING (symbol, provider)),
            better AS (
                SELECT symbol, provider, sum(by_ex_close) <= sum(by_prev_close) AS ex_close
                FROM missed GROUP BY ALL)
            SELECT symbol, provider, session, close, adj_close AS published,
                   CASE WHEN ex_close THEN 'ex_close' ELSE 'prev_close' END AS convention,
                   CASE WHEN ex_close THEN by_ex_close ELSE by_prev_close END AS missed_by
            FROM missed JOIN better USING (symbol, provider)
            WHERE missed_by > {ADJUSTED_CLOSE_TOLERANCE} + {ADJUSTED_CLOSE_RELATIVE} * adj_close
            ORDER BY missed_by DESC""",
    )
    return Measurement("adjusted_close", float(evidence.height), evidence)


def summary(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> pl.DataFrame:
    """Golden bars per symbol, for people."""
    return _frame(
        connection,
        f"""SELECT symbol, count(*) AS bars, min(session) AS first, max(session) AS last,
                   round(avg(confidence), 3) AS confidence, string_agg(DISTINCT chosen_provider, ', ') AS providers
            FROM golden.bars WHERE {prefix(spec)} GROUP BY symbol ORDER BY symbol""",
    )


def count(connection: duckdb.DuckDBPyConnection, table: str, spec: MarketSpec) -> int:
    """Rows of a market in a table."""
    row = connection.execute(f"SELECT count(*) FROM {table} WHERE {prefix(spec)}").fetchone()
    return int(row[0]) if row else 0


def rows_by_year(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, dataset: str, table: Table) -> pl.DataFrame:
    """year, accepted, quarantined: what a clean table holds and what was set aside, by the year the rows are about."""
    date = next(name for name in ("session", "ex_date", "known_from") if name in table.names)
    return _frame(
        connection,
        f"""SELECT year, sum(accepted)::BIGINT AS accepted, sum(quarantined)::BIGINT AS quarantined FROM (
                SELECT year({date}) AS year, count(*) AS accepted, 0 AS quarantined
                FROM {table.full_name} WHERE {prefix(spec)} GROUP BY ALL
                UNION ALL
                SELECT year(session) AS year, 0 AS accepted, count(*) AS quarantined
                FROM clean.quarantine WHERE market = '{spec.code}' AND dataset = '{dataset}' AND session IS NOT NULL
                GROUP BY ALL)
            GROUP BY year ORDER BY year""",
    )


def contract() -> Measurement:
    """Zero violations: rows are proven against the contract before they are written, or nothing is."""
    return Measurement("contract", 0.0, pl.DataFrame())


def rejections(reasons: dict[str, int], quarantined: int, rows: int) -> Measurement:
    """Share of a batch that was set aside, by reason."""
    evidence = pl.DataFrame({"reason": list(reasons), "rows": list(reasons.values())})
    return Measurement("rejection_rate", quarantined / rows if rows else 0.0, evidence)


def record(
    connection: duckdb.DuckDBPyConnection,
    spec: MarketSpec,
    measurements: Iterable[Measurement],
    run_id: str,
    now: datetime,
) -> None:
    """Keep measurements in `quality.metrics`."""
    rows = [
        {
            "date": spec.today(now),
            "market": spec.code,
            "symbol": "*",
            "provider": measurement.provider,
            "metric": measurement.check,
            "value": measurement.value,
            "status": measurement.status.value,
            "warn": CHECKS[measurement.check].warn,
            "fail": CHECKS[measurement.check].fail,
            "run_id": run_id,
        }
        for measurement in measurements
    ]
    connection.register("measured", pl.DataFrame(rows, schema=METRICS.polars_schema))
    try:
        connection.execute(
            "DELETE FROM quality.metrics USING measured AS m WHERE quality.metrics.run_id = m.run_id"
            " AND quality.metrics.metric = m.metric AND quality.metrics.market = m.market"
        )
        connection.execute("INSERT INTO quality.metrics BY NAME SELECT * FROM measured")
    finally:
        connection.unregister("measured")


def _frame(connection: duckdb.DuckDBPyConnection, sql: str) -> pl.DataFrame:
    return pl.DataFrame(connection.execute(sql).to_arrow_table())
