"""How providers answer, and how whole, timely and free of duplicates what they say is."""

from __future__ import annotations

import duckdb
import polars as pl

from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.tables import PROVIDER_HEALTH, SCORECARD
from vprism_pipelines.warehouse.building import Built, changed, frame, prefix
from vprism_pipelines.warehouse.measurement import EVERYBODY, Measurement
from vprism_pipelines.warehouse.pulls import SETTLED_WITHOUT_ROWS

__all__ = ["build_health", "measure_health"]

GAP_MONTHS = 2  # of a provider's own newest months: old gaps are in the scorecard for ever

DUPLICATES = ("duplicate", "contradicting_duplicate")  # row checks


def build_health(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> Built:
    """Replace the market's rows of `quality.provider_health`, in the caller's transaction."""
    settled = ", ".join(f"'{code}'" for code in SETTLED_WITHOUT_ROWS)
    connection.execute(f"DELETE FROM {PROVIDER_HEALTH.full_name} WHERE market = ?", [spec.code])
    written = changed(
        connection,
        f"""INSERT INTO {PROVIDER_HEALTH.full_name} BY NAME
            WITH pulls AS (
                SELECT provider, fetched_at, latency_ms,
                       error_code IS NOT NULL AND error_code NOT IN ({settled}) AS failed
                FROM raw.fetches WHERE market = '{spec.code}'),
            days AS (
                SELECT provider, fetched_at::DATE AS date, count(*) AS requests, count(*) FILTER (failed) AS failed,
                       quantile_cont(latency_ms, 0.5) AS latency_p50_ms,
                       quantile_cont(latency_ms, 0.95) AS latency_p95_ms
                FROM pulls GROUP BY ALL),
            begun AS (SELECT provider, min(fetched_at) AS since FROM pulls GROUP BY provider),
            closes AS (SELECT session, min(close) AS close FROM golden.sessions
                       WHERE market = '{spec.code}' GROUP BY session),
            -- History that was over before the first pull is not late.
            firsts AS (
                SELECT provider, session, min(known_from) AS known FROM clean.bars_ledger
                WHERE {prefix(spec)} AND NOT provisional AND session >= (SELECT min(since)::DATE FROM begun)
                GROUP BY ALL),
            lags AS (
                SELECT provider, known::DATE AS date, max(session) AS session,
                       arg_max(epoch(known - close) / 3600, session) AS lag_hours
                FROM firsts JOIN closes USING (session) JOIN begun USING (provider) WHERE close >= since GROUP BY ALL)
            SELECT d.provider, '{spec.code}' AS market, d.date, requests, failed,
                   round(failed / requests, 12) AS error_rate, latency_p50_ms, latency_p95_ms, session,
                   round(lag_hours, 6) AS lag_hours
            FROM days AS d LEFT JOIN lags USING (provider, date) ORDER BY ALL""",
    )
    return Built(written, written)


def measure_health(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> list[Measurement]:
    """gap_ratio, duplicate_rows, ingest_lag and error_rate, of every provider and of the market.

    Of the market: gaps of all providers together, the duplicates of all, the earliest bar, all pulls.
    """
    gaps = frame(
        connection,
        f"""SELECT provider, symbol, month, expected, missing FROM {SCORECARD.full_name} WHERE {prefix(spec)}
            QUALIFY dense_rank() OVER (PARTITION BY provider ORDER BY month DESC) <= {GAP_MONTHS}""",
    )
    newest = frame(
        connection,
        f"""SELECT provider, date, requests, failed, error_rate FROM {PROVIDER_HEALTH.full_name}
            WHERE market = '{spec.code}'
            QUALIFY row_number() OVER (PARTITION BY provider ORDER BY date DESC) = 1 ORDER BY provider""",
    )
    lags = frame(
        connection,
        f"""SELECT provider, session, lag_hours FROM {PROVIDER_HEALTH.full_name}
            WHERE market = '{spec.code}' AND lag_hours IS NOT NULL
            QUALIFY row_number() OVER (PARTITION BY provider ORDER BY session DESC) = 1 ORDER BY provider""",
    )
    twice = frame(
        connection,
        f"""SELECT q.provider, raw_symbol, q.session, count(*) AS rows
            FROM clean.quarantine AS q JOIN (SELECT provider, max(date) AS date FROM {PROVIDER_HEALTH.full_name}
                                             WHERE market = '{spec.code}' GROUP BY provider) AS h
                ON q.provider = h.provider AND q.fetched_at::DATE = h.date
            WHERE market = '{spec.code}' AND dataset = 'bars' AND list_has_any(reasons, {list(DUPLICATES)})
            GROUP BY ALL ORDER BY ALL""",
    )
    providers = sorted({*newest["provider"], *gaps["provider"]})
    measured = []
    for name in (EVERYBODY, *providers):
        mine = pl.lit(value=True) if name == EVERYBODY else pl.col("provider") == name
        gap, pulls, told, doubled = (table.filter(mine) for table in (gaps, newest, lags, twice))
        missing = gap.filter(pl.col("missing") > 0).sort("missing", "symbol", descending=[True, False])
        newest_session = told.filter(pl.col("session") == pl.col("session").max())
        measured += [
            Measurement("gap_ratio", _share(gap["missing"], gap["expected"]), missing, name),
            Measurement("duplicate_rows", float(doubled["rows"].sum()), doubled, name),
            Measurement("ingest_lag", newest_session["lag_hours"].min(), told, name),  # type: ignore[arg-type]
            Measurement("error_rate", _share(pulls["failed"], pulls["requests"]), pulls, name),
        ]
    return measured


def _share(part: pl.Series, whole: pl.Series) -> float | None:
    return float(part.sum()) / float(whole.sum()) if whole.sum() else None
