"""Analytics assets: derived figures, on the hfq basis, one new session at a time."""

from __future__ import annotations

from vprism_pipelines.assets.factory import Outcome, Step
from vprism_pipelines.warehouse import analytics, measures


def daily(step: Step) -> Outcome:
    """Returns, volatility and indicators."""
    with step.writing() as (connection, tally):
        built = analytics.build_daily(connection, step.market)
        tally.rows, tally.accepted = built.touched, built.written
        count = measures.count(connection, "analytics.daily", step.market)
    return Outcome(
        count,
        {"symbols looked at": built.touched, "rows written": built.written, **built.detail},
        [measures.contract()],
    )
