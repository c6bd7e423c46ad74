"""The whole graph: every catalogue entry with the body that makes it."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from vprism_pipelines.assets import analytics, clean, findings, golden, operations, proposals, raw, scorecard, shadow
from vprism_pipelines.assets.catalog import BESIDE, Node, nodes
from vprism_pipelines.assets.factory import Body, build

# Layer and last part of the key -> body. Raw assets share one body: the provider is in the entry.
BODIES: Mapping[tuple[str, str], Body] = {
    ("clean", "bars"): clean.bars,
    ("clean", "actions"): clean.actions,
    ("clean", "instruments"): clean.instruments,
    **{("clean", dataset): clean.beside for dataset in BESIDE},
    ("quality", "findings"): findings.findings,
    ("quality", "proposals"): proposals.proposals,
    ("quality", "scorecard"): scorecard.scorecard,
    ("quality", "shadow"): shadow.shadow,
    ("golden", "sessions"): golden.sessions,
    ("golden", "bars"): golden.bars,
    ("golden", "actions"): golden.actions,
    ("golden", "factors"): golden.factors,
    ("analytics", "daily"): analytics.daily,
    ("analytics", "market"): analytics.market,
    ("published", "published"): operations.published,
}


def body_of(node: Node) -> Body:
    """The function that materialises an entry."""
    return raw.pull if node.layer == "raw" else BODIES[node.layer, node.key[-1]]


def assets() -> list[dg.AssetsDefinition]:
    """Every asset, upstream first."""
    return [build(node, body_of(node)) for node in nodes()]
