"""Quality asset: what the window checks say of each provider's bars."""

from __future__ import annotations

from vprism_pipelines.assets.factory import Outcome, Step


def findings(step: Step) -> Outcome:
    """What the window checks say of each provider's bars."""
    with step.writing():
        return Outcome(0)
