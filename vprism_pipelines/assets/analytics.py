"""Analytics assets: derived figures, on the hfq basis, one new session at a time."""

from __future__ import annotations

from collections.abc import Callable

import duckdb

from vprism_pipelines.assets.factory import Outcome, Step
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.warehouse import across, analytics, measures
from vprism_pipelines.warehouse.golden import Built


def daily(step: Step) -> Outcome:
    """Returns, volatility and indicators."""
    return _build(step, analytics.build_daily, "analytics.daily", "symbols looked at")


def market(step: Step) -> Outcome:
    """Quotes, breadth, sectors, ratings, correlation, and what companies are known to be worth."""
    return _build(step, across.build_market, "analytics.latest", "symbols that changed")


def _build(
    step: Step, build: Callable[[duckdb.DuckDBPyConnection, MarketSpec], Built], table: str, touched: str
) -> Outcome:
    with step.writing() as (connection, tally):
        built = build(connection, step.market)
        tally.rows, tally.accepted = built.touched, built.written
        count = measures.count(connection, table, step.market)
    return Outcome(
        count, {touched: built.touched, "rows written": built.written, **built.detail}, [measures.contract()]
    )
