"""The catalogue: which assets exist, as data. The factory turns each entry into an asset; nothing else makes one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import dagster as dg

from vprism_pipelines.market.spec import MARKETS, MarketSpec
from vprism_pipelines.providers import registry
from vprism_pipelines.tables import (
    CLEAN_ACTIONS,
    CLEAN_BARS,
    EVENTS,
    FACTOR_STEPS,
    GOLDEN_BARS,
    GOLDEN_SESSIONS,
    RAW_BARS,
    SNAPSHOTS,
    Table,
)
from vprism_pipelines.warehouse.indicator_tables import DAILY

OWNERS = ["team:market-data"]
PUBLISHED = dg.AssetKey(["published"])
WRITER_POOL = "warehouse_writer"


@dataclass(frozen=True, slots=True)
class Node:
    """One asset, before it is one.

    Attributes:
        key: Path in the lineage, which is also the path of the data.
        table: Contract it fulfils.
        description: What it is and what to know before using it.
        kinds: Technologies shown on the asset.
        group: Market, or `warehouse`.
        deps: Assets it reads.
        checks: Names of the checks reported with every materialisation (`quality.datasets.CHECKS`).
        pool: What it must not do at the same time as others.
        market: None for what spans markets.
        provider: For raw assets.
        monthly: One partition per calendar month of sessions.
    """

    key: tuple[str, ...]
    table: Table
    description: str
    kinds: frozenset[str]
    group: str
    deps: tuple[tuple[str, ...], ...] = ()
    checks: tuple[str, ...] = ()
    pool: str = WRITER_POOL
    market: str | None = None
    provider: str | None = None
    monthly: bool = False
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def asset_key(self) -> dg.AssetKey:
        return dg.AssetKey(list(self.key))

    @property
    def layer(self) -> str:
        return self.key[0]


def raw_key(market: str, provider: str, dataset: str = "bars") -> tuple[str, ...]:
    return ("raw", market, f"{provider}_{dataset}")


def market_nodes(spec: MarketSpec) -> list[Node]:
    """Every asset of one market, upstream first."""
    code = spec.code
    sources = registry.for_market(code)
    pulled = [raw_key(code, name, registry.entry(name).dataset) for name in sources]
    raw = [
        Node(
            key,
            RAW_BARS,
            f"Everything {registry.entry(name).title} answered about {spec.name}, byte for byte, and the rows parsed"
            " from it in the provider's own terms and units.",
            frozenset({"parquet", "python"}),
            code,
            pool=f"provider_{name}",
            market=code,
            provider=name,
            monthly=not registry.entry(name).bulk,
        )
        for name, key in zip(sources, pulled, strict=True)
    ]
    table = frozenset({"duckdb", "polars"})
    bars, actions = ("clean", code, "bars"), ("clean", code, "actions")
    golden_bars, sessions = ("golden", code, "bars"), ("golden", code, "sessions")
    events, factors = ("golden", code, "actions"), ("golden", code, "factors")
    return [
        *raw,
        Node(
            bars,
            CLEAN_BARS,
            "Daily bars of every provider in one set of units and identifiers. Rows that break a rule are in"
            " clean.quarantine with their reasons; nothing is overwritten, every value ever believed is kept.",
            table,
            code,
            tuple(pulled),
            ("contract", "rejection_rate"),
            market=code,
            monthly=True,
        ),
        Node(
            actions,
            CLEAN_ACTIONS,
            "Corporate actions as each provider declares them, or as deduced from its prices and marked so.",
            table,
            code,
            tuple(pulled),
            ("contract",),
            market=code,
        ),
        Node(
            sessions,
            GOLDEN_SESSIONS,
            f"Trading days of the {spec.name} exchanges, with opening and closing instants.",
            frozenset({"duckdb", "python"}),
            code,
            checks=("calendar_horizon",),
            market=code,
        ),
        Node(
            golden_bars,
            GOLDEN_BARS,
            "The one bar we believe per symbol and session, as traded: chosen among the providers by a"
            " reliability-weighted vote, with confidence and dissent.",
            table,
            code,
            (bars, sessions),
            ("duplicates", "completeness", "whole_day_gap", "freshness"),
            market=code,
        ),
        Node(
            events,
            EVENTS,
            "Corporate actions after merging the providers: what adjustment factors are made of.",
            table,
            code,
            (actions,),
            market=code,
        ),
        Node(
            factors,
            FACTOR_STEPS,
            "Adjustment factors per ex-date from one reference-price formula, in versioned sets."
            " golden.adjusted_bars applies them.",
            table,
            code,
            (golden_bars, events),
            ("adjusted_close",),
            market=code,
        ),
        Node(
            ("analytics", code, "daily"),
            DAILY,
            "Returns, volatility and indicators of every traded bar; one new session costs one session.",
            table,
            code,
            (golden_bars, factors, sessions),
            ("contract",),
            market=code,
        ),
    ]


def nodes(markets: Sequence[MarketSpec] | None = None) -> list[Node]:
    """Every asset of the given markets that have a provider, and the snapshot that publishes them."""
    specs = [spec for spec in markets or MARKETS.values() if registry.for_market(spec.code)]
    listed = [node for spec in specs for node in market_nodes(spec)]
    published = Node(
        ("published",),
        SNAPSHOTS,
        "The read-only snapshot that everyone queries: proven, immutable, swapped in atomically at the end of a run.",
        frozenset({"duckdb"}),
        "warehouse",
        tuple(node.key for node in listed if node.layer == "analytics"),
    )
    return [*listed, published]


def partitions(spec: MarketSpec) -> dg.MonthlyPartitionsDefinition:
    """Calendar months in the market's zone, the running month included: a refresh after the close belongs to it."""
    return dg.MonthlyPartitionsDefinition(
        start_date=spec.first_session.replace(day=1).isoformat(), timezone=spec.timezone, end_offset=1
    )
