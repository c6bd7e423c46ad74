"""Two jobs per market, each from the providers' answers to the published snapshot, in one process."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from vprism_pipelines.assets.catalog import PUBLISHED, market_nodes
from vprism_pipelines.market.spec import MARKETS, MarketSpec
from vprism_pipelines.providers import registry


def job_name(spec: MarketSpec) -> str:
    return f"{spec.code}_refresh"


def refresh_keys(spec: MarketSpec, providers: Sequence[str]) -> list[dg.AssetKey]:
    """Assets of a refresh that pulls from the given providers only."""
    nodes = [node for node in market_nodes(spec) if not node.beside]
    chosen = [node.asset_key for node in nodes if node.layer != "raw" or node.provider in providers]
    return [*chosen, PUBLISHED]


def beside_name(spec: MarketSpec) -> str:
    return f"{spec.code}_beside"


def beside_keys(spec: MarketSpec, providers: Sequence[str]) -> list[dg.AssetKey]:
    """Assets of a pull of what stands beside the bars, from the given providers only, and the analytics made of it."""
    nodes = market_nodes(spec)
    raw = [node for node in nodes if node.beside and node.layer == "raw" and node.provider in providers]
    asked = {node.dataset for node in raw}
    clean = [node for node in nodes if node.layer == "clean" and node.key[-1] in asked]
    told = {node.key for node in clean}
    resting = [node for node in nodes if node.layer == "analytics" and told & set(node.deps)]
    return [*(node.asset_key for node in (*raw, *clean, *resting)), PUBLISHED]


def jobs() -> list[dg.UnresolvedAssetJobDefinition]:
    """The jobs of every market that has a provider: its refresh, and what stands beside the bars."""
    return [job for spec in MARKETS.values() if registry.for_market(spec.code) for job in _jobs(spec)]


def _jobs(spec: MarketSpec) -> list[dg.UnresolvedAssetJobDefinition]:
    providers = registry.for_market(spec.code)
    refresh, beside = refresh_keys(spec, providers), beside_keys(spec, providers)
    described = [(job_name(spec), refresh, f"Pull, clean, believe, adjust, analyse and publish {spec.name}.")]
    if len(beside) > 1:
        what = f"Pull, clean, value and publish descriptions, fundamentals, quotes and ticks of {spec.name}."
        described.append((beside_name(spec), beside, what))
    return [
        dg.define_asset_job(
            name, selection=dg.AssetSelection.assets(*keys), description=what, tags={"market": spec.code}
        )
        for name, keys, what in described
    ]
