"""Corporate actions and adjustment factors: merged events, factor steps, and the versions of factor sets.

Events are few: they are merged whole, and rows that did not change keep their place. Factors are recomputed for the
symbols whose events changed, or whose bars up to the last ex-date did. Both are functions of the content alone.
"""

from __future__ import annotations

from datetime import date

import duckdb
import polars as pl

from vprism_pipelines.market.actions import merge_events
from vprism_pipelines.market.adjustment import ALGORITHM, factor_sets
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.tables import EVENTS, FACTOR_SETS, FACTOR_STEPS
from vprism_pipelines.tables.golden import TRADED
from vprism_pipelines.warehouse.building import (
    Built,
    frame,
    mark,
    prefix,
    replace_differing,
    scalar,
    set_watermark,
    take,
    watermark,
)

STAGE = "golden.factors"  # watermark: 1 once they were built whole
_DUE = "symbol IN (SELECT symbol FROM due)"


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
        moved = replace_differing(connection, EVENTS, "events_now", prefix(spec))
    finally:
        connection.unregister("events_now")
    # An ex-date explains a jump of any bar after the one before it, and says which version of a bar was as traded.
    mark(connection, "findings", f"SELECT symbol, DATE '{spec.first_session}' AS from_session FROM moved")
    mark(connection, "factors", f"SELECT symbol, DATE '{date.min}' AS from_session FROM moved")
    conflicts = int(merged["conflict"].sum())
    return Built(declared.height, merged.height, {"conflicts": conflicts, "symbols changed": moved})


def build_factors(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> Built:
    """Recompute the factor sets whose events or bars changed; replace those whose version or price basis did."""
    _find_due(connection, spec)
    events = frame(connection, f"SELECT * FROM golden.adjustment_events WHERE {_DUE} ORDER BY ALL")
    bars = _bars(connection)
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
    built = _store_factors(connection, spec, sets, steps)
    set_watermark(connection, STAGE, spec, 1)
    return built


def _find_due(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> None:
    """Make the table `due` of symbols to compute: their first bar, one up to the last ex-date, or an event changed."""
    take(connection, "factors", spec)
    everybody = f"""SELECT symbol FROM golden.bars WHERE {prefix(spec)}
                    UNION SELECT symbol FROM golden.adjustment_events WHERE {prefix(spec)}
                    UNION SELECT symbol FROM golden.factor_sets WHERE {prefix(spec)}"""
    # What changed after the bar on which the last step took effect touches no factor. No bar at all: no limit either.
    moved = f"""SELECT symbol FROM work
                LEFT JOIN (SELECT symbol, min(session) AS first FROM golden.bars SEMI JOIN work USING (symbol)
                           GROUP BY symbol) AS bars USING (symbol)
                LEFT JOIN (SELECT symbol, max(coalesce(effective_session, 'infinity')) AS last
                           FROM golden.factor_steps GROUP BY symbol) AS steps USING (symbol)
                WHERE from_session <= coalesce(greatest(first, last), 'infinity')
                UNION SELECT symbol FROM golden.factor_sets WHERE {prefix(spec)} AND algorithm <> '{ALGORITHM}'"""
    whole = watermark(connection, STAGE, spec) == 0
    connection.execute(f"CREATE OR REPLACE TEMP TABLE due AS {everybody if whole else moved}")


def _bars(connection: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Of the symbols due the first bar, since every symbol has a version, and those around each ex-date: the last bar
    and the last traded one before it, and the first one from it on.

    The ex-dates part a symbol's history: these are the ends of its parts. The last part has no ex-date after it.
    """
    return frame(
        connection,
        f"""WITH dates AS (SELECT symbol, list(DISTINCT ex_date) AS dates FROM golden.adjustment_events
                           WHERE {_DUE} GROUP BY symbol),
            bars AS (SELECT symbol, session, {TRADED} AS traded,
                            len(list_filter(coalesce(dates, []), lambda ex_date: ex_date > session)) AS ahead
                     FROM golden.bars LEFT JOIN dates USING (symbol) WHERE {_DUE}),
            parts AS (SELECT symbol, ahead, min(session) AS first, max(session) AS last,
                             max(session) FILTER (traded) AS last_traded
                      FROM bars GROUP BY symbol, ahead),
            keys AS (SELECT symbol, unnest(CASE WHEN ahead > 0 THEN [first, last, last_traded] ELSE [first] END)
                            AS session FROM parts)
            SELECT symbol, session, close, {TRADED} AS traded, known_from
            FROM golden.bars SEMI JOIN keys USING (symbol, session) ORDER BY symbol, session""",
    )


def _store_factors(
    connection: duckdb.DuckDBPyConnection, spec: MarketSpec, sets: pl.DataFrame, steps: pl.DataFrame
) -> Built:
    """Replace the sets and steps of the symbols due."""
    connection.register("sets_now", sets)
    connection.register("steps_now", steps)
    # Adjusted history changes from the first step that differs; earlier sessions keep every bit.
    terms = "symbol, ex_date, status, effective_session, m, v"
    standing = f"(FROM golden.factor_steps WHERE {_DUE})"
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
    moved = replace_differing(connection, FACTOR_SETS, "sets_now", _DUE)
    replace_differing(connection, FACTOR_STEPS, "steps_now", _DUE)
    mark(connection, "factor_fit", f"SELECT symbol, DATE '{date.min}' AS from_session FROM moved")
    connection.unregister("sets_now")
    connection.unregister("steps_now")
    statuses = connection.execute(
        f"SELECT status, count(*) FROM golden.factor_steps WHERE {prefix(spec)} GROUP BY ALL ORDER BY status"
    ).fetchall()
    return Built(sets.height, moved, {"new versions": int(versions or 0), **dict(statuses)})
