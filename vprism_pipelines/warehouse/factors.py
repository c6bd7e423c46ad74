"""Corporate actions and adjustment factors: merged events, factor steps, and the versions of factor sets.

Recomputed whole, because events are few; rows that did not change keep their place.
"""

from __future__ import annotations

import duckdb
import polars as pl

from vprism_pipelines.market.actions import merge_events
from vprism_pipelines.market.adjustment import factor_sets
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.tables import EVENTS, FACTOR_SETS, FACTOR_STEPS
from vprism_pipelines.warehouse.building import TRADED, Built, frame, mark, prefix, replace_differing, scalar


def build_events(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> Built:
    """Merge the providers' corporate actions into `golden.adjustment_events`."""
    declared = frame(
        connection,
        f"""SELECT * EXCLUDE (change_class, batch, fetch_id, payload_row) FROM clean.corporate_actions
            WHERE {prefix(spec)} ORDER BY symbol, ex_date, provider, event_type, seq""",
    )
    merged = merge_events(declared, spec.providers)
    connection.register("events_now", EVENTS.conform(merged))
    try:
        moved = replace_differing(connection, EVENTS, "events_now", spec)
    finally:
        connection.unregister("events_now")
    # An ex-date explains a jump of any bar after the one before it, and says which version of a bar was as traded.
    mark(connection, "findings", f"SELECT symbol, DATE '{spec.first_session}' AS from_session FROM moved")
    conflicts = int(merged["conflict"].sum())
    return Built(declared.height, merged.height, {"conflicts": conflicts, "symbols changed": moved})


def build_factors(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> Built:
    """Recompute factor sets and replace those whose version or price basis changed.

    Only the bars around ex-dates are read: the last ones before and the first one after each.
    """
    events = frame(connection, f"SELECT * FROM golden.adjustment_events WHERE {prefix(spec)} ORDER BY ALL")
    bars = frame(
        connection,
        f"""WITH dates AS (SELECT DISTINCT symbol, ex_date FROM golden.adjustment_events WHERE {prefix(spec)}),
            bars AS (SELECT symbol, session, close, currency, known_from,
                            {TRADED} AS traded
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
    versions = scalar(
        connection,
        "SELECT count(*) FROM sets_now ANTI JOIN golden.factor_sets USING (symbol, version, price_basis_hash)",
    )
    mark(
        connection,
        "analytics",
        f"""SELECT symbol, min(coalesce(effective_session, ex_date)) AS from_session
            FROM ((SELECT {terms} FROM steps_now EXCEPT SELECT {terms} FROM {standing})
                  UNION ALL
                  (SELECT {terms} FROM {standing} EXCEPT SELECT {terms} FROM steps_now))
            GROUP BY symbol""",
    )
    moved = replace_differing(connection, FACTOR_SETS, "sets_now", spec)
    replace_differing(connection, FACTOR_STEPS, "steps_now", spec)
    connection.unregister("sets_now")
    connection.unregister("steps_now")
    statuses = {str(status): int(count) for status, count in steps["status"].value_counts().sort("status").iter_rows()}
    return Built(sets.height, moved, {"new versions": int(versions or 0), **statuses})
