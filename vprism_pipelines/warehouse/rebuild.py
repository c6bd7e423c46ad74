"""Replaying and rebuilding from the lake, without any network: the archive is the only source that counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import duckdb

from vprism_pipelines.errors import CorruptLake
from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.market.spec import MARKETS, MarketSpec
from vprism_pipelines.market.spec import market as market_named
from vprism_pipelines.providers import registry
from vprism_pipelines.tables import (
    FAILOVERS,
    METRICS,
    RECONCILIATION_RUNS,
    RELIABILITY,
    RUNS,
    SHADOW_RUNS,
    SNAPSHOTS,
    Table,
)
from vprism_pipelines.warehouse import (
    acquire,
    across,
    analytics,
    candidates,
    factor_fit,
    findings,
    golden,
    revisions,
    roles,
)
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.ingest import clean_pulls, ingest, pending
from vprism_pipelines.warehouse.ledger import LEDGERS
from vprism_pipelines.warehouse.publish import Published, content_hash, publish
from vprism_pipelines.warehouse.schema import LOGICAL

T = TypeVar("T")
Progress = Callable[[str, int, int], None]
DATASETS = tuple(LEDGERS)
BOOKKEEPING = (RUNS, SNAPSHOTS, METRICS, FAILOVERS, RECONCILIATION_RUNS, SHADOW_RUNS)
# What the weights had been at each instant, for golden as of then.
STANDING = (RELIABILITY,)


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay did. Everything unchanged means: the parsers still read the archive as they did."""

    fetches: int
    rows: int
    new: int
    changed: int
    unchanged: int
    quarantined: int
    published: Published


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What a rebuild did. `identical` compares content with what stood before; None if nothing stood."""

    tables: list[tuple[str, int]]
    content_hash: str
    previous_hash: str | None
    identical: bool | None
    seconds: float
    published: Published


def replay(
    house: House, market: str | None = None, provider: str | None = None, progress: Progress | None = None
) -> ReplayReport:
    """Feed archived payloads through parser, cleaning and ledger again, then rebuild what changed and publish.

    Args:
        house: The installation.
        market: Only this market.
        provider: Only this provider.
        progress: Called with (what, files done, files in all).

    Raises:
        CorruptLake: A payload file is missing or damaged; the published warehouse stays as it is.
    """
    _prove_archive(house)
    fetches = _parse_again(house, provider, progress)
    totals = dict.fromkeys(("rows", "new", "changed", "unchanged", "quarantined"), 0)
    for spec in _markets(market):
        for dataset in DATASETS:
            done = _ingest(house, spec, dataset, provider)
            for name in totals:
                totals[name] += done.get(name, 0)
        build(house, spec)
    now = house.clock()
    return ReplayReport(fetches=fetches, **totals, published=publish(house.warehouse, "replay", now))


def rebuild(house: House, progress: Progress | None = None) -> RebuildReport:
    """Throw the private file away and make it again from the lake; the published file stands until the new one is.

    The new warehouse is built beside the old one and takes its place only when it is complete. An old one that
    cannot be read any more is no obstacle.

    Raises:
        CorruptLake: A payload file is missing or damaged; both warehouses stay as they are.
    """
    started = time.perf_counter()
    before = _from_standing(house, content_hash)
    _prove_archive(house)
    fresh = House(house.settings, house.clock, private_file="rebuild.duckdb")
    draft = fresh.warehouse.path
    with fresh.warehouse.locked():  # also proves that the directory can be written
        draft.unlink(missing_ok=True)
    with fresh.warehouse.connect() as connection:
        _carry_over(connection, house, STANDING)
        roles.restore(connection, fresh.lake)
    _parse_again(fresh, None, progress)
    for spec in _markets(None):
        candidates.read_again(fresh, spec, "rebuild")
        for dataset in DATASETS:
            _ingest(fresh, spec, dataset, None)
        build(fresh, spec)
    with fresh.warehouse.connect() as connection:
        digest = content_hash(connection)
        tables = [(table.full_name, _rows(connection, table.full_name)) for table in LOGICAL]
        _carry_over(connection, house, BOOKKEEPING)
    with house.warehouse.locked():
        house.warehouse.log.unlink(missing_ok=True)
        draft.replace(house.warehouse.path)
    published = publish(house.warehouse, "rebuild", house.clock())
    return RebuildReport(
        tables,
        digest,
        before,
        None if before is None else digest == before,
        time.perf_counter() - started,
        published,
    )


def _carry_over(connection: duckdb.DuckDBPyConnection, house: House, tables: Sequence[Table]) -> None:
    """Tables that are not in the lake; what can still be read of them."""
    if not house.warehouse.path.exists():
        return
    with suppress(duckdb.Error):
        connection.execute(f"ATTACH '{house.warehouse.path}' AS standing (READ_ONLY)")
        for table in tables:
            with suppress(duckdb.Error):
                connection.execute(f"INSERT INTO {table.full_name} BY NAME SELECT * FROM standing.{table.full_name}")
        connection.execute("DETACH standing")


def build(house: House, spec: MarketSpec) -> None:
    """Golden and analytics of one market, as a run builds them, each in its transaction."""
    days = calendar(spec.calendar)
    until = min(days.last_session, spec.today(house.clock()) + timedelta(days=365))
    stages: tuple[Callable[[duckdb.DuckDBPyConnection, MarketSpec], object], ...] = (
        revisions.build_revisions,
        lambda connection, market: golden.build_sessions(connection, market, until),
        golden.build_events,
        lambda connection, market: findings.build_findings(connection, market, house.thresholds),
        golden.build_bars,
        golden.build_factors,
        factor_fit.refresh,
        analytics.build_daily,
        across.build_market,
    )
    for stage in stages:
        with house.warehouse.transaction() as connection:
            stage(connection, spec)


def _parse_again(house: House, provider: str | None, progress: Progress | None) -> int:
    """Parse every archived payload with today's parsers. Returns how many payloads there were."""
    files = [path for path in house.lake.payload_files() if provider in (None, path.split("/")[1])]
    count = 0
    for position, path in enumerate(files, start=1):
        payloads = list(house.lake.payloads(path))
        parser = registry.parser_of(payloads[0].request, house.clock)
        acquire.register(house, parser, payloads, path, house.lake.run_of(path))
        count += len(payloads)
        if progress:
            progress(parser.name, position, len(files))
    return count


def _ingest(house: House, spec: MarketSpec, dataset: str, provider: str | None) -> dict[str, int]:
    with house.warehouse.connect() as connection:
        pulls = pending(connection, spec, dataset, again=True)
    if provider:
        pulls = pulls.filter(pulls["provider"] == provider)
    if pulls.is_empty():
        return {}
    synthetic = [name for name in registry.for_market(spec.code) if registry.entry(name).synthetic]
    cleaned = clean_pulls(house.lake, spec, dataset, pulls, synthetic)
    with house.warehouse.transaction() as connection:
        done = ingest(connection, spec, dataset, pulls, cleaned)
    return {
        "rows": done.rows,
        "new": done.new,
        "changed": done.changed,
        "unchanged": done.unchanged,
        "quarantined": done.quarantined,
    }


def _markets(code: str | None) -> list[MarketSpec]:
    if code is not None:
        return [market_named(code)]
    return [spec for spec in MARKETS.values() if registry.for_market(spec.code)]


def _prove_archive(house: House) -> None:
    """Every payload file that was ever entered is still there: a rebuild must not quietly forget what is lost."""
    entered = _from_standing(house, lambda c: c.execute("SELECT DISTINCT lake_path FROM raw.fetches").fetchall())
    lost = sorted(path for (path,) in entered or [] if not (house.lake.root / path).is_file())
    if lost:
        raise CorruptLake(
            f"{len(lost)} payload files of the lake are missing, the first is {lost[0]}",
            hint="restore them from a backup; the published warehouse is not affected",
            path=house.lake.root / lost[0],
        )


def _from_standing(house: House, read: Callable[[duckdb.DuckDBPyConnection], T]) -> T | None:
    """Something from the private file as it stands; None if there is none, or none that can be read."""
    path = house.warehouse.path
    with house.warehouse.locked():
        if not path.exists():
            return None
        try:
            with duckdb.connect(str(path)) as connection:
                return read(connection)
        except duckdb.Error:
            return None


def _rows(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(row[0]) if row else 0
