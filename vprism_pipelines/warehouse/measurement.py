"""One measured value of one check, its verdict, and keeping it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import duckdb
import polars as pl

from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.checks import Check, Status
from vprism_pipelines.quality.thresholds import DEFAULTS, Thresholds
from vprism_pipelines.tables import METRICS
from vprism_pipelines.warehouse.building import insert

__all__ = ["EVERYBODY", "Measurement", "record", "worst"]

EVERYBODY = "*"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measured value of one check, with the rows that explain it.

    Attributes:
        check: Name in `quality.datasets.CHECKS`.
        value: Measured; None: there was nothing to measure.
        evidence: What to look at first.
        provider: Whose data it is about; `*`: everybody's.
        venue: Exchange whose thresholds hold; `*`: those for all.
        thresholds: In force; the defaults unless the installation decided otherwise.
    """

    check: str
    value: float | None
    evidence: pl.DataFrame
    provider: str = EVERYBODY
    venue: str = EVERYBODY
    thresholds: Thresholds = DEFAULTS

    @property
    def rule(self) -> Check:
        """The check as it holds there."""
        return self.thresholds.check(self.check, self.venue)

    @property
    def status(self) -> Status:
        return self.rule.judge(self.value)


def record(
    connection: duckdb.DuckDBPyConnection,
    spec: MarketSpec,
    measurements: Iterable[Measurement],
    run_id: str,
    now: datetime,
) -> None:
    """Keep measurements in `quality.metrics`, instead of what the same run measured of them before."""
    rows = [
        {
            "date": spec.today(now),
            "market": spec.code,
            "symbol": EVERYBODY,
            "provider": measurement.provider,
            "metric": measurement.check,
            "value": measurement.value,
            "status": measurement.status.value,
            "warn": measurement.rule.warn,
            "fail": measurement.rule.fail,
            "run_id": run_id,
        }
        for measurement in measurements
    ]
    connection.execute(
        """DELETE FROM quality.metrics
           WHERE run_id = $run AND market = $market AND list_contains($measured, provider || ' ' || metric)""",
        {"run": run_id, "market": spec.code, "measured": [f"{row['provider']} {row['metric']}" for row in rows]},
    )
    insert(connection, METRICS, pl.DataFrame(rows, schema=METRICS.polars_schema))


def worst(rows: pl.DataFrame, check: str, thresholds: Thresholds, provider: str = EVERYBODY) -> Measurement:
    """The measurement that stands for several exchanges: the gravest verdict, then the greatest share.

    Args:
        rows: exchange (may be empty), share and whatever explains it.
        check: Which check `share` is the value of.
        thresholds: In force.
        provider: Whose data they are about.
    """
    order = list(Status)
    verdicts = [thresholds.judge(check, share, venue) for venue, share in rows.select("exchange", "share").iter_rows()]
    evidence = (
        rows.with_columns(
            pl.Series("status", [verdict.value for verdict in verdicts], dtype=pl.String),
            pl.Series("grave", [order.index(verdict) for verdict in verdicts], dtype=pl.Int64),
        )
        .sort("grave", "share", "exchange", descending=[True, True, False], nulls_last=True)
        .drop("grave")
    )
    if evidence.is_empty():
        return Measurement(check, None, evidence, provider, thresholds=thresholds)
    return Measurement(check, evidence["share"][0], evidence, provider, evidence["exchange"][0], thresholds)
