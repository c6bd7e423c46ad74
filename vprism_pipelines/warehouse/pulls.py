"""Pulls: asking a provider for what is missing, archiving every answer, and keeping what was parsed from it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import duckdb
import polars as pl

from vprism_pipelines.errors import ProviderError
from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.providers.base import OVERLAP, Dataset, Parsed, Payload, Provider, Request
from vprism_pipelines.tables import FETCHES
from vprism_pipelines.warehouse.lake import Lake

# Answers that settle a question although they bring no rows.
SETTLED_WITHOUT_ROWS = ("NO_DATA",)


@dataclass(frozen=True, slots=True)
class Pulled:
    """One answer and what its parser made of it."""

    payload: Payload
    parsed: Parsed | None
    error: ProviderError | None

    @property
    def ok(self) -> bool:
        return self.error is None


def plan(
    connection: duckdb.DuckDBPyConnection,
    provider: Provider,
    spec: MarketSpec,
    dataset: Dataset,
    symbols: Sequence[str],
    start: date,
    end: date,
    now: datetime,
) -> list[Request]:
    """Requests for what is not archived yet, or may still be corrected.

    Archived and final sessions are not asked for again; the last ones always are, unless the provider never changes.
    """
    capabilities = provider.capabilities()
    known = _covered(connection, provider.name, dataset, spec)
    settled = calendar(spec.calendar).latest_final(now, spec.settle)
    reopen = None if capabilities.immutable else settled - OVERLAP
    groups: dict[tuple[date, date], list[str]] = {}
    for symbol in symbols:
        for gap in _gaps(start, end, known.get(symbol, []) + known.get(None, []), reopen):
            groups.setdefault(gap, []).append(symbol)
    return [
        request
        for (first, last), members in groups.items()
        for request in provider.plan(spec.code, dataset, members, first, last, now)
    ]


def _covered(
    connection: duckdb.DuckDBPyConnection, provider: str, dataset: str, spec: MarketSpec
) -> dict[str | None, list[tuple[date, date]]]:
    """Session ranges that were answered for each symbol, cut to what was final when it was pulled.

    A request for several symbols lists them in its parameters; one that lists none was about the whole market (None).
    """
    rows = connection.execute(
        """SELECT unnest(symbols) AS symbol, range_start, range_end, fetched_at FROM (
               SELECT coalesce(CASE WHEN symbol IS NOT NULL THEN [symbol] END,
                               string_split(request->>'$.params.symbols', ','), [NULL]) AS symbols,
                      range_start, range_end, max(fetched_at) AS fetched_at
               FROM raw.fetches
               WHERE provider = ? AND dataset = ? AND market = ?
                 AND range_start IS NOT NULL AND range_end IS NOT NULL
                 AND (error_code IS NULL OR list_contains(?, error_code))
               GROUP BY ALL)""",
        [provider, dataset, spec.code, list(SETTLED_WITHOUT_ROWS)],
    ).fetchall()
    days = calendar(spec.calendar)
    ranges: dict[str | None, list[tuple[date, date]]] = {}
    for symbol, first, last, fetched_at in rows:
        ranges.setdefault(symbol, []).append((first, min(last, days.latest_final(fetched_at, spec.settle))))
    return ranges


def _gaps(start: date, end: date, known: Iterable[tuple[date, date]], reopen: date | None) -> list[tuple[date, date]]:
    """Parts of start..end outside the known ranges; everything after `reopen` counts as unknown."""
    gaps, cursor, day = [], start, timedelta(days=1)
    for first, last in sorted(known):
        until = min(last, reopen) if reopen else last
        if until < first:
            continue
        if first > cursor:
            gaps.append((cursor, min(end, first - day)))
        cursor = max(cursor, until + day)
        if cursor > end:
            break
    if cursor <= end:
        gaps.append((cursor, end))
    return [gap for gap in gaps if gap[0] <= gap[1]]


async def fetch_all(
    provider: Provider, requests: Sequence[Request], lake: Lake, progress: Callable[[Payload], None] | None = None
) -> list[Payload]:
    """Send requests, as many at once as the provider allows, and stage every answer as it arrives."""
    slots = asyncio.Semaphore(provider.capabilities().quota.concurrency)

    async def one(request: Request) -> Payload:
        async with slots:
            payload = await provider.fetch(request)
        lake.stage(payload)
        if progress:
            progress(payload)
        return payload

    return list(await asyncio.gather(*(one(request) for request in requests)))


def parse_all(provider: Provider, payloads: Iterable[Payload]) -> list[Pulled]:
    """Parse payloads; a refusal is a result too."""
    pulled = []
    for payload in payloads:
        try:
            pulled.append(Pulled(payload, provider.parse(payload), None))
        except ProviderError as error:
            pulled.append(Pulled(payload, None, error))
    return pulled


def keep(lake: Lake, provider: Provider, pulled: Sequence[Pulled], lake_path: str) -> pl.DataFrame:
    """Write the parsed rows to the lake.

    Returns:
        Rows for `raw.fetches`, without run_id.
    """
    name = f"{provider.parser_version}/{lake_path.rsplit('/', 1)[-1]}"
    frames: dict[str, list[pl.DataFrame]] = {}
    for pull in pulled:
        for dataset, frame in (pull.parsed.frames if pull.parsed else {}).items():
            if not frame.is_empty():
                frames.setdefault(f"{provider.name}_{dataset}", []).append(frame)
    lake.write_rows(name, {folder: pl.concat(parts) for folder, parts in frames.items()})
    return pl.DataFrame(
        [_fetch_row(provider, pull, lake_path, name) for pull in pulled],
        schema={name: dtype for name, dtype in FETCHES.polars_schema.items() if name != "run_id"},
    )


def _fetch_row(provider: Provider, pull: Pulled, lake_path: str, rows_path: str) -> Mapping[str, object]:
    payload, request = pull.payload, pull.payload.request
    frames = [dataset for dataset, frame in (pull.parsed.frames if pull.parsed else {}).items() if frame.height]
    return {
        "fetch_id": payload.fetch_id,
        "provider": request.provider,
        "dataset": request.dataset,
        "market": request.market,
        "symbol": request.symbol,
        "range_start": request.start,
        "range_end": request.end,
        "request": request.to_json(),
        "status": payload.status,
        "fetched_at": payload.fetched_at,
        "latency_ms": payload.latency_ms,
        "bytes": len(payload.body),
        "sha256": payload.sha256,
        "lake_path": lake_path,
        "frames": frames,
        "rows_path": rows_path if frames else None,
        "rows": pull.parsed.rows if pull.parsed else 0,
        "parser_version": provider.parser_version,
        "error_code": pull.error.code if pull.error else None,
        "error": pull.error.message if pull.error else None,
    }


def register(connection: duckdb.DuckDBPyConnection, fetches: pl.DataFrame, run_id: str) -> None:
    """Enter pulls into `raw.fetches`, replacing what stood there for the same pulls."""
    rows = FETCHES.conform(fetches.with_columns(run_id=pl.lit(run_id)))
    connection.register("pulls", rows)
    try:
        connection.execute("DELETE FROM raw.fetches WHERE fetch_id IN (SELECT fetch_id FROM pulls)")
        connection.execute("INSERT INTO raw.fetches BY NAME SELECT * FROM pulls ORDER BY fetched_at")
    finally:
        connection.unregister("pulls")


def unregistered(connection: duckdb.DuckDBPyConnection, lake: Lake, provider: str) -> list[str]:
    """Sealed payload files of a provider that no transaction has entered: left by a run that was killed in between.

    A file whose every payload is entered from another file is none of them: two runs had sealed the same answers.
    """
    known = {
        row[0]
        for row in connection.execute(
            "SELECT DISTINCT lake_path FROM raw.fetches WHERE provider = ?", [provider]
        ).fetchall()
    }
    unknown = [path for path in lake.payload_files() if path.split("/")[1] == provider and path not in known]
    return [path for path in unknown if not registered(connection, held := lake.fetch_ids(path)).issuperset(held)]


def registered(connection: duckdb.DuckDBPyConnection, fetch_ids: Sequence[str]) -> set[str]:
    """Which of these pulls are in `raw.fetches`."""
    rows = connection.execute(
        "SELECT fetch_id FROM raw.fetches WHERE list_contains(?, fetch_id)", [list(fetch_ids)]
    ).fetchall()
    return {str(row[0]) for row in rows}
