"""Keeping how our factors reproduce what providers publish as adjusted: series whose closes or factors changed only.

Every provider is compared, taking part in golden or not.
"""

from __future__ import annotations

import duckdb
import polars as pl

from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.factors import RULES, reproduction
from vprism_pipelines.quality.thresholds import DEFAULTS, Thresholds
from vprism_pipelines.tables import ADJUSTMENT_STEPS, FACTOR_FIT
from vprism_pipelines.warehouse.building import frame, insert, prefix, scalar, set_watermark, take, watermark
from vprism_pipelines.warehouse.measurement import Measurement

__all__ = ["STAGE", "adjusted_close", "adjustment_steps", "refresh"]

STAGE = "factor_fit"  # watermark: the newest batch of the ledger compared; work: symbols whose steps changed
WORST = 100  # series shown of a check that may fail on many

_BARS = "adj_close > 0 AND close > 0 AND price_basis = 'raw' AND NOT provisional"


def refresh(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> int:
    """Compare again the series that changed, in the caller's transaction; how many."""
    take(connection, STAGE, spec)
    since = watermark(connection, STAGE, spec, rules=RULES)
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE due AS
            SELECT DISTINCT symbol, provider FROM clean.bars_ledger WHERE {prefix(spec)} AND batch > {since}
            UNION SELECT symbol, provider FROM {FACTOR_FIT.full_name} SEMI JOIN work USING (symbol)"""
    )
    for table in (FACTOR_FIT, ADJUSTMENT_STEPS):
        connection.execute(
            f"DELETE FROM {table.full_name} AS t USING due WHERE t.symbol = due.symbol AND t.provider = due.provider"
        )
    factors = frame(
        connection,
        f"""SELECT symbol, effective_session, hfq, hfq_ex_close FROM golden.factors_cumulative
            WHERE {prefix(spec)} ORDER BY symbol, effective_session""",
    )
    for (provider,) in connection.execute("SELECT DISTINCT provider FROM due ORDER BY 1").fetchall():
        bars = frame(
            connection,
            f"""SELECT symbol, session, close, adj_close FROM clean.bars
                WHERE provider = $provider AND {prefix(spec)} AND {_BARS}
                  AND symbol IN (SELECT symbol FROM due WHERE provider = $provider)""",
            {"provider": provider},
        )
        found = reproduction(bars.sort("symbol", "session"), factors)
        for table, rows in ((FACTOR_FIT, found.fit), (ADJUSTMENT_STEPS, found.steps)):
            insert(connection, table, rows.with_columns(provider=pl.lit(provider)), ordered=True)
    newest = scalar(connection, f"SELECT max(batch) FROM clean.bars_ledger WHERE {prefix(spec)}")
    set_watermark(connection, STAGE, spec, newest or 0, rules=RULES)
    return scalar(connection, "SELECT count(*) FROM due") or 0


def adjusted_close(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> Measurement:
    """Bars on which our factors miss the adjusted close a provider published, beyond its rounding."""
    missed = scalar(
        connection, f"SELECT coalesce(sum(missed), 0)::BIGINT FROM {FACTOR_FIT.full_name} WHERE {prefix(spec)}"
    )
    worst = frame(
        connection,
        f"""FROM {FACTOR_FIT.full_name} WHERE {prefix(spec)} AND missed > 0
            ORDER BY missed_by DESC, symbol, provider LIMIT {WORST}""",
    )
    return Measurement("adjusted_close", float(missed or 0), worst)


def adjustment_steps(
    connection: duckdb.DuckDBPyConnection, spec: MarketSpec, thresholds: Thresholds = DEFAULTS
) -> Measurement:
    """Sessions on which a provider's adjusted / raw close steps and no event is known, or by another step than ours."""
    steps = frame(
        connection,
        f"FROM {ADJUSTMENT_STEPS.full_name} WHERE {prefix(spec)} ORDER BY session DESC, symbol, provider",
    )
    return Measurement("adjustment_steps", float(steps.height), steps, thresholds=thresholds)
