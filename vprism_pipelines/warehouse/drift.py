"""Drift of every symbol: which observations are looked at, and keeping the result."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import duckdb
import polars as pl

from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.drift import WINDOW, drift
from vprism_pipelines.tables import DRIFT
from vprism_pipelines.warehouse.building import Built, Query, insert, prefix
from vprism_pipelines.warehouse.measures import Measurement
from vprism_pipelines.warehouse.reconciliation import query_of

__all__ = ["build_drift", "measure_drift", "observed_drift"]

ALIVE = timedelta(days=90)  # a symbol without a bar for longer does not drift, it is gone


def build_drift(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> Built:
    """Replace the market's rows of `quality.drift`, in the caller's transaction."""
    found = observed_drift(query_of(connection), spec)
    connection.execute(f"DELETE FROM {DRIFT.full_name} WHERE {prefix(spec)}")
    return Built(found["symbol"].n_unique(), insert(connection, DRIFT, found))


def observed_drift(
    query: Query, spec: MarketSpec, symbols: Sequence[str] | None = None, window: int = WINDOW
) -> pl.DataFrame:
    """Drift of golden bars: columns of `tables.DRIFT`.

    Earlier observations are brought to the shares of the latest one, so that a split is no drift.

    Args:
        query: Where the bars are.
        spec: Market.
        symbols: Only these; None: all that had a bar in the 90 days up to the market's newest.
        window: Length of the baseline.
    """
    named = "" if symbols is None else "AND list_contains($symbols, symbol)"
    given: dict[str, Any] = {} if symbols is None else {"symbols": list(symbols)}
    newest = query(f"SELECT max(session) AS session FROM golden.bars WHERE {prefix(spec)}", {})["session"].item()
    if newest is None:
        return pl.DataFrame(schema=DRIFT.polars_schema)
    # Nearly every symbol has its window in the last sessions; only for the others is the whole history read.
    since = newest - max(ALIVE, timedelta(days=3 * window))
    recent = query(f"{_OBSERVATIONS} WHERE {prefix(spec)} AND session >= $since {named}", {"since": since, **given})
    counts = recent.group_by("symbol").agg(pl.col("close").count(), pl.col("volume").count())
    few = (pl.col("close") <= window) | pl.col("volume").is_between(1, window)
    short = counts.filter(few)["symbol"].to_list()
    short += [symbol for symbol in symbols or () if symbol not in set(counts["symbol"])]
    if short:
        older = query(
            f"""{_OBSERVATIONS} SEMI JOIN (SELECT unnest($short) AS symbol) USING (symbol)
                WHERE {prefix(spec)} AND session < $since
                QUALIFY row_number() OVER (PARTITION BY symbol ORDER BY session DESC) <= $rows""",
            {"since": since, "short": short, "rows": 4 * window},
        )
        recent = pl.concat([older, recent])
    return drift(_on_latest_shares(query, spec, recent), window)


def measure_drift(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> Measurement:
    """Share of the symbols whose newest close or volume is three standard deviations off; advisory."""
    found = query_of(connection)(
        f"SELECT * FROM {DRIFT.full_name} WHERE {prefix(spec)} AND z IS NOT NULL ORDER BY abs(z) DESC, symbol, metric",
        {},
    )
    symbols = found["symbol"].n_unique()
    off = found.filter(pl.col("status") == "FAIL")
    return Measurement("drift", off["symbol"].n_unique() / symbols if symbols else None, off)


_OBSERVATIONS = "SELECT symbol, session, close, volume FROM golden.bars"


def _on_latest_shares(query: Query, spec: MarketSpec, bars: pl.DataFrame) -> pl.DataFrame:
    """Close and volume times the share factor between each session and the symbol's last."""
    shares = query(
        f"""SELECT symbol, effective_session AS session, shares FROM golden.factors_cumulative
            WHERE {prefix(spec)} ORDER BY session""",
        {},
    )
    held = pl.col("shares").fill_null(1.0)
    factor = held / held.last().over("symbol", order_by="session")
    return (
        bars.sort("session")
        .join_asof(shares, on="session", by="symbol", strategy="backward", check_sortedness=False)
        .with_columns(factor=factor)
        .select("symbol", "session", pl.col("close") * pl.col("factor"), pl.col("volume") / pl.col("factor"))
    )
