"""`vprism health`: is what is published recent, complete and trusted?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vprism_pipelines.errors import DataQualityError
from vprism_pipelines.serving.cli.render import Answer
from vprism_pipelines.serving.cli.session import Session, command

if TYPE_CHECKING:
    from vprism_pipelines.market.spec import MarketSpec
    from vprism_pipelines.serving.library import Library
    from vprism_pipelines.warehouse.house import House

OK, WARN, FAIL = "OK", "WARN", "FAIL"
_WORST = (OK, WARN, FAIL)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    area: str
    item: str
    status: str
    value: str
    detail: str = ""


def add_to(root: typer.Typer) -> None:
    """Add the command to the root."""
    command(root, "health")(health)


def health(
    session: Session,
    detailed: Annotated[bool, typer.Option("--detailed", help="Every check, provider and folder by itself.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 30 when anything is FAIL.")] = False,
) -> Answer:
    """Say whether what is published is recent and trusted.

    Covers the snapshot, markets and how late they are, checks, quarantine, providers, disk use. Exits with 50 when
    nothing is published, else with 0, whatever it finds, unless --strict.
    """
    import polars as pl

    house, library = session.house, session.library
    findings = [
        *_published(house, library),
        *_freshness(house, library),
        *_checks(library, detailed=detailed),
        *_quarantine(library, detailed=detailed),
        *_pulls(house, library),
        *_disk(house, detailed=detailed),
    ]
    frame = pl.DataFrame(
        [astuple(finding) for finding in findings], schema=["area", "item", "status", "value", "detail"], orient="row"
    )
    failing = [f"{finding.area} {finding.item}" for finding in findings if finding.status == FAIL]
    if not (strict and failing):
        return Answer(frame)
    refused = DataQualityError(
        f"{len(failing)} of {len(findings)} findings are FAIL: {', '.join(failing)}",
        hint="`vprism health --detailed` tells which checks; `vprism run` refreshes late data",
    )
    return Answer(frame, errors=(refused,))


def _published(house: House, library: Library) -> Iterator[Finding]:
    newest = library.sql("FROM ops.snapshots ORDER BY snapshot DESC LIMIT 1").row(0, named=True)
    age = house.clock() - newest["published_at"]
    yield Finding(
        "published", "snapshot", OK, str(newest["snapshot"]), f"{_ago(age.total_seconds())}, run {newest['run_id']}"
    )
    yield Finding("published", "content hash", OK, newest["content_hash"], str(house.settings.database))


def _freshness(house: House, library: Library) -> Iterator[Finding]:
    """Newest session of every market against its calendar; a history that is over is never late."""
    from vprism_pipelines.market.spec import MARKETS
    from vprism_pipelines.providers import registry

    held = library.sql(
        """SELECT split_part(symbol, ':', 1) AS prefix, max(session) AS newest, count(DISTINCT symbol) AS symbols,
                  list(DISTINCT chosen_provider) AS providers
           FROM golden.bars GROUP BY prefix ORDER BY prefix"""
    )
    specs = {spec.prefix: spec for spec in MARKETS.values()}
    for prefix, newest, symbols, providers in held.iter_rows():
        spec = specs[prefix]
        known = [name for name in providers if name in registry.PROVIDERS]
        closed = bool(known) and all(house.parser(name).capabilities().immutable for name in known)
        missing = 0 if closed else _missing(house, spec, newest)
        status = OK if closed else _judge(missing)
        late = "a closed history" if closed else f"{missing} sessions behind" if missing else "up to date"
        yield Finding("market", spec.code, status, str(newest), f"{symbols} symbols, {late}")


def _missing(house: House, spec: MarketSpec, newest: object) -> int:
    from datetime import date

    from vprism_pipelines.market.calendars import calendar

    assert isinstance(newest, date)
    days = calendar(spec.calendar)
    due = days.latest_final(house.clock(), spec.settle)
    return max(0, days.ordinal(due) - days.ordinal(newest)) if days.is_session(newest) else 0


def _judge(missing: int) -> str:
    from vprism_pipelines.quality.datasets import CHECKS

    return CHECKS["freshness"].judge(missing).value


def _checks(library: Library, *, detailed: bool) -> Iterator[Finding]:
    """The newest measurement of every check."""
    measured = library.sql(
        """SELECT market, metric, provider, symbol, status, value, warn, fail, date
           FROM quality.metrics LEFT JOIN (SELECT run_id, max(finished_at) AS finished_at FROM ops.runs GROUP BY run_id)
               USING (run_id)
           QUALIFY row_number() OVER (PARTITION BY market, metric, provider, symbol
                                      ORDER BY date DESC, finished_at DESC NULLS LAST) = 1
           ORDER BY ALL"""
    )
    if detailed:
        for market, metric, provider, symbol, status, value, warn, fail, day in measured.iter_rows():
            scope = " ".join(part for part in (provider, symbol) if part != "*")
            number = "" if value is None else f"{value:g}"
            limits = ", ".join(f"{name} from {at:g}" for name, at in (("WARN", warn), ("FAIL", fail)) if at is not None)
            yield Finding("check", f"{market} {metric} {scope}".strip(), status, number, f"{limits}; measured {day}")
        return
    counts = dict(measured.group_by("status").len().iter_rows())
    worst = max(counts, key=_WORST.index, default=OK)
    told = ", ".join(f"{counts[status]} {status}" for status in _WORST if status in counts)
    failing = measured.filter(measured["status"] == FAIL)
    names = ", ".join(f"{market} {metric}" for market, metric in failing.select("market", "metric").unique().rows())
    yield Finding("check", "newest", worst, told or "none yet", names)


def _quarantine(library: Library, *, detailed: bool) -> Iterator[Finding]:
    by_reason = library.sql(
        """SELECT market, reason, count(*) AS rows, string_agg(DISTINCT provider, ', ' ORDER BY provider) AS providers
           FROM (SELECT market, provider, unnest(reasons) AS reason FROM clean.quarantine)
           GROUP BY ALL ORDER BY rows DESC, market, reason"""
    )
    total = library.sql("SELECT count(*) AS rows FROM clean.quarantine")["rows"].item()
    reasons = ", ".join(by_reason["reason"].unique(maintain_order=True).head(3))
    yield Finding("quarantine", "rows", OK, f"{total:,}", reasons)
    if detailed:
        for market, reason, rows, providers in by_reason.iter_rows():
            yield Finding("quarantine", f"{market} {reason}", OK, f"{rows:,}", providers)


def _pulls(house: House, library: Library) -> Iterator[Finding]:
    """When every provider last answered, and what it refused since. What that costs shows as late markets."""
    from vprism_pipelines.warehouse.pulls import SETTLED_WITHOUT_ROWS

    pulls = library.sql(
        """WITH pulls AS (SELECT *, error_code IS NULL OR list_contains($settled, error_code) AS ok FROM raw.fetches)
           SELECT provider, max(fetched_at) FILTER (ok) AS succeeded, max(fetched_at) AS asked,
                  arg_max(error_code, fetched_at) AS error_code, count(*) AS pulls,
                  count(*) FILTER (fetched_at > $now::TIMESTAMPTZ - INTERVAL 1 DAY AND NOT ok) AS failed
           FROM pulls GROUP BY provider ORDER BY provider""",
        {"settled": list(SETTLED_WITHOUT_ROWS), "now": house.clock()},
    )
    for provider, succeeded, asked, error_code, count, failed in pulls.iter_rows():
        status = WARN if failed or not succeeded else OK
        when = f"{succeeded:%Y-%m-%d %H:%M:%SZ}" if succeeded else "never"
        refused = f", last {error_code} at {asked:%Y-%m-%d %H:%M:%SZ}" if succeeded != asked else ""
        yield Finding("provider", provider, status, when, f"{count:,} pulls, {failed} failed in a day{refused}")


def _disk(house: House, *, detailed: bool) -> Iterator[Finding]:
    settings = house.settings
    folders = {
        "lake": settings.lake_dir,
        "private warehouse": settings.warehouse_dir / "write",
        "snapshots": settings.warehouse_dir / "snapshots",
        "run storage": settings.dagster_dir,
    }
    sizes = {name: _size(folder) for name, folder in folders.items()}
    yield Finding("disk", "data", OK, _bytes(sum(sizes.values())), str(settings.data_dir))
    if detailed:
        for name, folder in folders.items():
            yield Finding("disk", name, OK, _bytes(sizes[name]), str(folder))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _bytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB"


def _ago(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} old"
    return f"{seconds:.0f} seconds old"
