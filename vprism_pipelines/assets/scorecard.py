"""Quality asset: quality over time: scorecard, comparison of providers, drift, health."""

from __future__ import annotations

from vprism_pipelines.assets.factory import Outcome, Step


def scorecard(step: Step) -> Outcome:
    """Quality over time: scorecard, comparison of providers, drift, health."""
    with step.writing():
        return Outcome(0)
