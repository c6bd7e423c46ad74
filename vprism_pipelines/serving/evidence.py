"""What the warehouse holds about some cells, read in a few queries however many cells there are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import polars as pl

from vprism_pipelines.market.spec import MARKETS, market_of
from vprism_pipelines.quality.consensus import PRIOR_RELIABILITY, contested
from vprism_pipelines.serving.library import Library
from vprism_pipelines.tables import GOLDEN_BARS
from vprism_pipelines.warehouse.as_of import believed

Key = tuple[str, date]
"""Symbol and session."""

_WANTED = "(SELECT unnest($symbols) AS symbol, unnest($sessions) AS session)"
_MARKET = " ".join(f"WHEN '{spec.prefix}' THEN '{spec.code}'" for spec in MARKETS.values())


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything said about some bars.

    Attributes:
        candidates: The bar of every provider, as traded, with what the checks found, its weight and support, and why
            it takes no part in the vote if so.
        bars: The golden bars.
        versions: All versions of every candidate, oldest first.
        fetches: The pulls they came from, rows of `raw.fetches`.
        steps: Factor steps by symbol as of the instant; what is published is in the warehouse.
    """

    candidates: Mapping[Key, Sequence[dict[str, Any]]]
    bars: Mapping[Key, dict[str, Any]]
    versions: Mapping[tuple[str, date, str], Sequence[dict[str, Any]]]
    fetches: Mapping[str, dict[str, Any]]
    steps: Mapping[str, pl.DataFrame]


def gather(library: Library, keys: Collection[Key], as_of: datetime | None) -> Evidence:
    """Read what there is about some bars, as published or as it was believed at an instant."""
    wanted = sorted(set(keys))
    scope: dict[str, Any] = {"symbols": [symbol for symbol, _ in wanted], "sessions": [day for _, day in wanted]}
    said = _said(library, scope, as_of)
    steps: dict[str, pl.DataFrame] = {}
    if as_of is None:
        bars = library.sql(f"SELECT b.* FROM golden.bars AS b SEMI JOIN {_WANTED} USING (symbol, session)", scope)
    else:
        known = {
            symbol: believed(library.sql, market_of(symbol), [symbol], as_of, library.checks)
            for symbol in set(scope["symbols"])
        }
        days = pl.DataFrame({"symbol": scope["symbols"], "session": scope["sessions"]})
        bars = pl.concat([GOLDEN_BARS.conform(each.bars) for each in known.values()]).join(
            days, on=["symbol", "session"]
        )
        steps = {symbol: each.steps for symbol, each in known.items()}
    versions = library.sql(
        f"""SELECT l.* FROM clean.bars_ledger AS l SEMI JOIN {_WANTED} USING (symbol, session)
            ORDER BY symbol, session, provider, known_from""",
        scope,
    )
    fetches = library.sql(
        "SELECT * FROM raw.fetches WHERE list_contains($pulls, fetch_id)",
        {"pulls": said["fetch_id"].unique().to_list()},
    )
    grouped: dict[Key, list[dict[str, Any]]] = {}
    for row in said.iter_rows(named=True):
        grouped.setdefault((row["symbol"], row["session"]), []).append(row)
    by_provider: dict[tuple[str, date, str], list[dict[str, Any]]] = {}
    for row in versions.iter_rows(named=True):
        by_provider.setdefault((row["symbol"], row["session"], row["provider"]), []).append(row)
    return Evidence(
        grouped,
        {(row["symbol"], row["session"]): row for row in bars.iter_rows(named=True)},
        by_provider,
        {row["fetch_id"]: row for row in fetches.iter_rows(named=True)},
        steps,
    )


def _said(library: Library, scope: dict[str, Any], as_of: datetime | None) -> pl.DataFrame:
    instant, bars, bound = "now()", "clean.traded_bars", scope
    if as_of is not None:
        instant, bars, bound = "$as_of", "clean.traded_bars_as_of($as_of)", {**scope, "as_of": as_of}
    rows = library.sql(
        f"""WITH said AS (SELECT b.*, CASE split_part(b.symbol, ':', 1) {_MARKET} END AS market
                          FROM {bars} AS b SEMI JOIN {_WANTED} USING (symbol, session))
            SELECT b.*, f.checks, coalesce(f.quarantined, false) AS quarantined, coalesce(f.bits, 0) AS doubt,
                   coalesce(r.value, {PRIOR_RELIABILITY})::DOUBLE AS weight, s.provider IS NOT NULL AS sidelined
            FROM said AS b
            LEFT JOIN quality.findings AS f USING (symbol, session, provider)
            LEFT JOIN quality.reliability_as_of({instant}) AS r
                ON r.market = b.market AND r.provider = b.provider AND r.month = date_trunc('month', b.session)
            LEFT JOIN ops.sidelined_as_of({instant}) AS s ON s.market = b.market AND s.provider = b.provider
            ORDER BY b.symbol, b.session, b.provider""",
        bound,
    )
    excluded = (
        pl.when("provisional")
        .then(pl.lit("provisional: the session was still running"))
        .when("sidelined")
        .then(pl.lit("its provider takes no part in golden"))
        .when("quarantined")
        .then(pl.lit("quarantined by its checks"))
        .alias("excluded")
    )
    rows = rows.with_columns(excluded)
    taking = rows.filter(pl.col("excluded").is_null())
    key = ["symbol", "session", "provider"]
    if taking.is_empty():
        return rows.with_columns(support=pl.lit(0.0))
    ballots = contested(taking).select(*key, "support", voted="weight")
    unheard = pl.col("excluded").is_null() & pl.col("support").is_null()
    return rows.join(ballots, on=key, how="left", maintain_order="left").with_columns(
        pl.when(unheard)
        .then(pl.lit("adjusted, where another provider gives the traded price"))
        .otherwise("excluded")
        .alias("excluded"),
        pl.coalesce("voted", "weight").alias("weight"),
        pl.col("support").fill_null(0.0),
    )
