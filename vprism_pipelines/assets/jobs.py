"""One job per market: from the providers' answers to the published snapshot, in one process."""

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
    chosen = [node.asset_key for node in market_nodes(spec) if node.layer != "raw" or node.provider in providers]
    return [*chosen, PUBLISHED]


def jobs() -> list[dg.UnresolvedAssetJobDefinition]:
    """The refresh job of every market that has a provider."""
    return [
        dg.define_asset_job(
            job_name(spec),
            selection=dg.AssetSelection.assets(*refresh_keys(spec, registry.for_market(spec.code))),
            description=f"Pull, clean, believe, adjust, analyse and publish {spec.name}.",
            tags={"market": spec.code},
        )
        for spec in MARKETS.values()
        if registry.for_market(spec.code)
    ]
