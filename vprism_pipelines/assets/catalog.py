"""The catalogue: which assets exist, as data. The factory turns each entry into an asset; nothing else makes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg

from vprism_pipelines.market.spec import MARKETS, MarketSpec
from vprism_pipelines.providers import registry
from vprism_pipelines.providers.base import Dataset
from vprism_pipelines.quality.row_checks import ROW_CHECKS
from vprism_pipelines.quality.window_checks import WINDOW_CHECKS
from vprism_pipelines.tables import (
    CLEAN_ACTIONS,
    CLEAN_BARS,
    CLEAN_FUNDAMENTALS,
    CLEAN_QUOTES,
    CLEAN_TICKS,
    EVENTS,
    FACTOR_STEPS,
    FINDINGS,
    GOLDEN_BARS,
    GOLDEN_SESSIONS,
    INSTRUMENTS,
    PROPOSALS,
    RAW_ACTIONS,
    RAW_BARS,
    RAW_FUNDAMENTALS,
    RAW_INSTRUMENTS,
    RAW_QUOTES,
    RAW_TICKS,
    SCORECARD,
    SHADOW_RUNS,
    SNAPSHOTS,
    Table,
)
from vprism_pipelines.warehouse.indicator_tables import DAILY
from vprism_pipelines.warehouse.market_tables import LATEST

OWNERS = ["team:market-data"]
PUBLISHED = dg.AssetKey(["published"])
WRITER_POOL = "warehouse_writer"
RAW_TABLES: Mapping[Dataset, Table] = {
    "bars": RAW_BARS,
    "actions": RAW_ACTIONS,
    "instruments": RAW_INSTRUMENTS,
    "fundamentals": RAW_FUNDAMENTALS,
    "quotes": RAW_QUOTES,
    "ticks": RAW_TICKS,
}
# What no bar is made of: remembered, published, asked. Figures go into what companies are worth.
BESIDE: Mapping[Dataset, tuple[Table, str]] = {
    "fundamentals": (
        CLEAN_FUNDAMENTALS,
        "What companies reported, one row per figure, with the day from which it could be known."
        " clean.fundamentals_as_of(ts) shows what was known at an instant, and nothing of what came later.",
    ),
    "quotes": (
        CLEAN_QUOTES,
        "What each provider quoted when it was asked. Quotes perish: nobody answers for the past.",
    ),
    "ticks": (CLEAN_TICKS, "Single trades of a session, kept because no provider keeps them for longer than a day."),
}


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
        provider: For raw assets: whom to ask.
        dataset: For raw assets: what for.
        monthly: One partition per calendar month of sessions.
        beside: Refreshed by the market's second job, so that it never holds up the bars.
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
    dataset: Dataset = "bars"
    monthly: bool = False
    beside: bool = False
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
    asked = [(name, dataset) for name in registry.for_market(code) for dataset in registry.entry(name).datasets]
    # An answer about bars may carry corporate actions and descriptions too.
    feeding = {
        target: tuple(
            raw_key(code, name, dataset)
            for name, dataset in asked
            if dataset == target or (dataset == "bars" and target not in BESIDE)
        )
        for target in RAW_TABLES
    }
    raw = [
        Node(
            raw_key(code, name, dataset),
            RAW_TABLES[dataset],
            f"Everything {registry.entry(name).title} answered about {spec.name}, byte for byte, and the rows parsed"
            " from it in the provider's own terms and units.",
            frozenset({"parquet", "python"}),
            code,
            checks=() if name == "files" else ("stale_fallback",),
            pool=f"provider_{name}",
            market=code,
            provider=name,
            dataset=dataset,
            monthly=dataset == "bars" and not registry.entry(name).bulk,
            beside=dataset in registry.entry(name).beside,
        )
        for name, dataset in asked
    ]
    table = frozenset({"duckdb", "polars"})
    bars, actions, instruments = ("clean", code, "bars"), ("clean", code, "actions"), ("clean", code, "instruments")
    golden_bars, sessions = ("golden", code, "bars"), ("golden", code, "sessions")
    events, factors = ("golden", code, "actions"), ("golden", code, "factors")
    findings = ("quality", code, "findings")
    beside = [
        Node(("clean", code, name), held, what, table, code, feeding[name], ("contract",), market=code, beside=True)
        for name, (held, what) in BESIDE.items()
        if any(dataset == name for _, dataset in asked)
    ]
    return [
        *raw,
        *beside,
        Node(
            bars,
            CLEAN_BARS,
            "Daily bars of every provider in one set of units and identifiers. Rows that break a rule are in"
            " clean.quarantine with their reasons; nothing is overwritten, every value ever believed is kept.",
            table,
            code,
            feeding["bars"],
            ("contract", "rejection_rate", *ROW_CHECKS, "date_shift", "revision_rate"),
            market=code,
            monthly=True,
        ),
        Node(
            actions,
            CLEAN_ACTIONS,
            "Corporate actions as each provider declares them, or as deduced from its prices and marked so.",
            table,
            code,
            feeding["actions"],
            ("contract",),
            market=code,
        ),
        Node(
            instruments,
            INSTRUMENTS,
            "What each symbol is, and since when: name, exchange, listing dates, as the listings say.",
            table,
            code,
            feeding["instruments"],
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
            findings,
            FINDINGS,
            "What the exchange's rules forbid and statistics find odd in each provider's bars. Quarantined ones are no"
            " candidates for golden.",
            table,
            code,
            (bars, events, sessions),
            (
                *(name for name, check in WINDOW_CHECKS.items() if code in check.markets),
                "blocked_symbols",
                "blocked_sessions",
            ),
            market=code,
        ),
        Node(
            golden_bars,
            GOLDEN_BARS,
            "The one bar we believe per symbol and session, as traded: chosen among the providers by a"
            " reliability-weighted vote, with confidence and dissent.",
            table,
            code,
            (bars, sessions, findings),
            (
                "duplicates",
                "completeness",
                "completeness_latest",
                "whole_day_gap",
                "newest_session",
                "freshness",
                "survivorship",
                "index_sanity",
            ),
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
            ("adjusted_close", "adjustment_steps"),
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
        Node(
            ("analytics", code, "market"),
            LATEST,
            "What all symbols look like together: quotes (analytics.latest), breadth, sectors, ratings, correlation,"
            " and what is known of companies (analytics.figures, for analytics.valuation)."
            " One asset writes the six in one transaction, and only the sessions that changed.",
            table,
            code,
            (
                ("analytics", code, "daily"),
                golden_bars,
                factors,
                instruments,
                *(node.key for node in beside if node.table is CLEAN_FUNDAMENTALS),
            ),
            ("contract",),
            market=code,
        ),
        Node(
            ("quality", code, "proposals"),
            PROPOSALS,
            "Corporate actions that prices imply and nobody declared, or that prices deny; people decide.",
            table,
            code,
            (findings, golden_bars, factors),
            ("declared_actions",),
            market=code,
        ),
        Node(
            ("quality", code, "scorecard"),
            SCORECARD,
            "What was right and wrong with each provider's bars, by symbol and month; providers compared with each"
            " other, drift and health beside it.",
            table,
            code,
            (findings, golden_bars, factors),
            ("reconciliation", "gap_ratio", "duplicate_rows", "ingest_lag", "error_rate", "drift"),
            market=code,
        ),
        Node(
            ("quality", code, "shadow"),
            SHADOW_RUNS,
            "Providers and parsers on probation, compared with the one in use.",
            table,
            code,
            (golden_bars,),
            ("shadow_gate",),
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
        tuple(
            node.key
            for node in listed
            if node.layer in ("analytics", "quality") or (node.layer == "clean" and node.beside)
        ),
    )
    return [*listed, published]


def partitions(spec: MarketSpec) -> dg.MonthlyPartitionsDefinition:
    """Calendar months in the market's zone, the running month included: a refresh after the close belongs to it."""
    return dg.MonthlyPartitionsDefinition(
        start_date=spec.first_session.replace(day=1).isoformat(), timezone=spec.timezone, end_offset=1
    )
