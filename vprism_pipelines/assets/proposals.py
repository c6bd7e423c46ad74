"""Quality asset: corporate actions the detective proposes."""

from __future__ import annotations

from vprism_pipelines.assets.factory import Outcome, Step


def proposals(step: Step) -> Outcome:
    """Corporate actions the detective proposes."""
    with step.writing():
        return Outcome(0)
