"""Golden bars and factors as they would have been built at an instant: recomputed from the ledgers as of then.

Nothing of golden's past is stored. What was known, what the checks said of it, and how far each provider was trusted
give the same bars again, bit for bit, for the symbols asked for. It needs the vote, so there is no SQL macro of it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import polars as pl

from vprism_pipelines.market.actions import merge_events
from vprism_pipelines.market.adjustment import factor_sets
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.consensus import PRIOR_RELIABILITY, vote
from vprism_pipelines.quality.thresholds import DEFAULTS, Thresholds
from vprism_pipelines.tables import FINDINGS, GOLDEN_BARS
from vprism_pipelines.warehouse.building import Query, frame
from vprism_pipelines.warehouse.findings import BARS, JUDGEABLE, judge
from vprism_pipelines.warehouse.reliability import misdated

__all__ = ["Believed", "believed"]


@dataclass(frozen=True, slots=True)
class Believed:
    """What was believed of some symbols at an instant.

    Attributes:
        bars: Columns of `tables.GOLDEN_BARS`, by symbol and session.
        steps: Factor steps, columns of `market.adjustment.STEPS`.
    """

    bars: pl.DataFrame
    steps: pl.DataFrame


def believed(
    query: Query,
    spec: MarketSpec,
    symbols: Collection[str],
    instant: datetime,
    thresholds: Thresholds = DEFAULTS,
) -> Believed:
    """Golden bars and factor steps of some symbols of one market as of an instant.

    Args:
        query: The warehouse.
        spec: Market of the symbols.
        symbols: Canonical symbols.
        instant: What was known then, roles of providers included.
        thresholds: In force when it was examined.
    """
    scope: dict[str, Any] = {"as_of": instant, "symbols": sorted(symbols), "market": spec.code}
    declared = query(
        """SELECT * EXCLUDE (change_class, batch, fetch_id, payload_row)
           FROM clean.corporate_actions_as_of($as_of) WHERE list_contains($symbols, symbol)
           ORDER BY symbol, ex_date, provider, event_type, seq""",
        {name: scope[name] for name in ("as_of", "symbols")},
    )
    events = merge_events(declared, spec.providers)
    sessions = query("SELECT DISTINCT session FROM golden.sessions WHERE market = $market", {"market": spec.code})
    said = query(
        f"""SELECT {BARS}, currency, price_basis, flags, known_from, {JUDGEABLE} AS judgeable,
                   coalesce(r.reliability, {PRIOR_RELIABILITY})::DOUBLE AS weight
            FROM (FROM clean.traded_bars_as_of($as_of) WHERE list_contains($symbols, symbol) AND NOT provisional) AS b
            LEFT JOIN (SELECT provider AS measured, month, value AS reliability FROM quality.reliability_as_of($as_of)
                       WHERE market = $market) AS r
                ON r.measured = b.provider AND r.month = date_trunc('month', session)
            LEFT JOIN (SELECT provider AS decided, role FROM ops.roles_as_of($as_of) WHERE market = $market) AS o
                ON o.decided = b.provider
            WHERE coalesce(role, CASE WHEN contains(provider, '@') THEN 'shadow' ELSE 'primary' END) = 'primary'""",
        scope,
    )
    findings = [
        judge(own, events, sessions, spec, thresholds)[0]
        for _, own in said.filter("judgeable").group_by("provider", maintain_order=True)
    ]
    bars = _elected(said, pl.concat(findings) if findings else pl.DataFrame(schema=FINDINGS.polars_schema), spec)
    return Believed(bars, factor_sets(events, _traded(bars), spec.currency).steps)


def _elected(said: pl.DataFrame, findings: pl.DataFrame, spec: MarketSpec) -> pl.DataFrame:
    """The vote among the bars that no check set aside."""
    key = ["symbol", "session", "provider"]
    judged = said.join(findings.select(*key, "bits", "quarantined"), on=key, how="left").with_columns(
        pl.col("quarantined").fill_null(value=False), doubt=pl.col("bits").fill_null(0)
    )
    standing = judged.filter(~pl.col("quarantined")).with_columns(flags=pl.col("flags") | pl.col("doubt"))
    with duckdb.connect() as connection:
        connection.register("others", standing)
        alone = "(FROM others QUALIFY count(*) OVER (PARTITION BY symbol, session) = 1)"
        wrong = frame(connection, misdated(alone, "others"))
    standing = standing.join(wrong, on=key, how="anti")
    rank = {provider: spec.rank(provider) for provider in standing["provider"].unique()}
    elected = vote(standing, rank).rename({"provider": "chosen_provider"})
    return GOLDEN_BARS.conform(elected).sort("symbol", "session")


def _traded(bars: pl.DataFrame) -> pl.DataFrame:
    """The bars with `traded`: a trade made the close."""
    traded = pl.col("volume").is_null() | (pl.col("volume") > 0) | pl.col("symbol").str.contains(":INDEX:")
    return bars.with_columns(traded=traded)
