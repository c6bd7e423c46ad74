"""Measuring whole tables in SQL: duplicates, freshness, rejections. Verdicts are in `quality.datasets`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import duckdb
import polars as pl

from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.row_checks import ROW_CHECKS
from vprism_pipelines.quality.thresholds import DEFAULTS, Thresholds
from vprism_pipelines.tables import GOLDEN_BARS, Table
from vprism_pipelines.warehouse.building import copies, frame, prefix
from vprism_pipelines.warehouse.completeness import coverage, survivorship
from vprism_pipelines.warehouse.factor_fit import adjusted_close, adjustment_steps
from vprism_pipelines.warehouse.measurement import EVERYBODY, Measurement, record
from vprism_pipelines.warehouse.sanity import date_shifts, index_sanity, revision_rate

__all__ = [
    "EVERYBODY",
    "Measurement",
    "adjusted_close",
    "adjustment_steps",
    "contract",
    "count",
    "coverage",
    "date_shifts",
    "duplicates",
    "freshness",
    "index_sanity",
    "record",
    "rejections",
    "revision_rate",
    "row_checks",
    "rows_by_year",
    "summary",
    "survivorship",
]


def duplicates(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> Measurement:
    """Keys of the golden table that occur more than once."""
    evidence = copies(connection, GOLDEN_BARS, prefix(spec))
    return Measurement("duplicates", float(evidence.height), evidence)


def freshness(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, latest: date) -> Measurement:
    """Sessions between the newest golden bar and the last session that is final; judged by data, never by run times."""
    evidence = frame(
        connection,
        f"""WITH newest AS (SELECT max(session) AS session FROM golden.bars WHERE {prefix(spec)})
            SELECT n.session AS newest, DATE '{latest}' AS expected,
                   (SELECT count(DISTINCT session) FROM golden.sessions
                    WHERE market = '{spec.code}' AND session > n.session AND session <= DATE '{latest}') AS missing
            FROM newest AS n""",
    )
    missing = evidence["missing"][0] if evidence["newest"][0] is not None else None
    return Measurement("freshness", None if missing is None else float(missing), evidence)


def summary(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> pl.DataFrame:
    """Golden bars per symbol, for people."""
    return frame(
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
    date = next(name for name in ("session", "ex_date", "period_end", "instant", "known_from") if name in table.names)
    return frame(
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


def row_checks(reasons: Mapping[str, int], rows: int, thresholds: Thresholds = DEFAULTS) -> list[Measurement]:
    """Share of the newest rows that broke each rule; what a failing share of one kind stops is its severity.

    Args:
        reasons: Rows by rule they broke, as `Cleaned.reasons` counts them.
        rows: Rows read.
        thresholds: In force.
    """
    return [
        Measurement(
            name,
            reasons.get(name, 0) / rows if rows else None,
            pl.DataFrame({"rows": [reasons.get(name, 0)], "of": [rows]}),
            thresholds=thresholds,
        )
        for name in ROW_CHECKS
    ]
