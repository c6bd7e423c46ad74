"""Golden assets: what we believe, built from the ledger by watermark."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import dagster as dg
import polars as pl

from vprism_pipelines.assets.factory import Outcome, Step, markdown_table
from vprism_pipelines.market.calendars import HORIZON, calendar
from vprism_pipelines.providers import registry
from vprism_pipelines.warehouse import factor_fit, golden, measures
from vprism_pipelines.warehouse.golden import Built


def sessions(step: Step) -> Outcome:
    """Trading days of the market's exchanges, as far as the calendars reach."""
    days = calendar(step.market.calendar)
    today = step.market.today(step.house.clock())
    with step.writing() as (connection, tally):
        built = golden.build_sessions(connection, step.market, min(days.last_session, today + timedelta(days=365)))
        tally.rows = tally.accepted = built.written
    horizon = days.horizon(today)
    short = max(0, HORIZON.days - horizon.days_left)
    evidence = pl.DataFrame({"confirmed until": [horizon.confirmed_until], "days left": [horizon.days_left]})
    return Outcome(built.written, {}, [measures.Measurement("calendar_horizon", float(short), evidence)])


def bars(step: Step) -> Outcome:
    """One believed bar per symbol and session."""
    now = step.house.clock()
    with step.writing() as (connection, tally):
        built = golden.build_bars(connection, step.market)
        latest = _due(step, golden.chosen_providers(connection, step.market), now)
        tally.rows, tally.accepted = built.touched, built.written
        measured = [
            measures.duplicates(connection, step.market),
            *measures.coverage(connection, step.market, step.house.thresholds),
            measures.freshness(connection, step.market, latest),
            measures.survivorship(connection, step.market, step.house.thresholds),
            measures.index_sanity(connection, step.market, step.house.thresholds),
        ]
        measures.record(connection, step.market, measured, step.run_id, now)
        summary = measures.summary(connection, step.market)
    return Outcome(
        int(summary["bars"].sum() or 0),
        {**_built(built), "symbols": dg.MetadataValue.md(markdown_table(summary, limit=25))},
        [found for found in measured if found.provider == measures.EVERYBODY],
    )


def _due(step: Step, providers: list[str], now: datetime) -> date:
    """The last session that should be there: the newest final one, or the end of histories that are closed."""
    latest = calendar(step.market.calendar).latest_final(now, step.market.settle)
    spans = [step.house.parser(name).capabilities().span if name in registry.PROVIDERS else None for name in providers]
    ends = [span[1] for span in spans if span]
    return min(latest, max(ends)) if ends and len(ends) == len(spans) else latest


def actions(step: Step) -> Outcome:
    """Corporate actions after merging providers."""
    with step.writing() as (connection, tally):
        built = golden.build_events(connection, step.market)
        tally.rows, tally.accepted = built.touched, built.written
    return Outcome(built.written, _built(built))


def factors(step: Step) -> Outcome:
    """Versioned adjustment factors, and how well they reproduce what providers publish as adjusted."""
    with step.writing() as (connection, tally):
        built = golden.build_factors(connection, step.market)
        tally.rows, tally.accepted = built.touched, built.written
        factor_fit.refresh(connection, step.market)
        reproduced = [
            measures.adjusted_close(connection, step.market),
            measures.adjustment_steps(connection, step.market, step.house.thresholds),
        ]
        measures.record(connection, step.market, reproduced, step.run_id, step.house.clock())
        count = measures.count(connection, "golden.factor_steps", step.market)
    return Outcome(count, _built(built), reproduced)


def _built(built: Built) -> dict[str, int]:
    return {"keys looked at": built.touched, "rows written": built.written, **built.detail}
