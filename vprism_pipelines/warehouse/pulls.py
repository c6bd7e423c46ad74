"""Pulls: asking a provider for what is missing, archiving every answer, and keeping what was parsed from it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import duckdb
import polars as pl

from vprism_pipelines.errors import Blocked, Malformed, ProviderError, QuotaExhausted
from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.providers.base import OVERLAP, Capabilities, Dataset, Parsed, Payload, Provider, Request
from vprism_pipelines.tables import FETCHES
from vprism_pipelines.telemetry import SHOWN, count, observe, span
from vprism_pipelines.telemetry.metrics import OK, PROVIDER_REQUESTS, QUERY_FAIL, QUERY_LATENCY
from vprism_pipelines.warehouse.lake import Lake

logger = logging.getLogger(__name__)

# Answers that settle a question although they bring no rows.
SETTLED_WITHOUT_ROWS = ("NO_DATA",)
# Failures of the moment: the same request may succeed later.
TRANSIENT = ("UNAVAILABLE", "RATE_LIMITED", "QUOTA_EXHAUSTED", "BLOCKED", "AUTH_REQUIRED")
# Asking again will hardly help; others go first.
REFUSED = ("NOT_FOUND", "PREMIUM_REQUIRED", "RETIRED")
# Data that providers keep for a while only.
PERISHABLE: tuple[Dataset, ...] = ("quotes", "ticks")
# So many questions in a row blocked or without any answer: the provider is closed to us, for now.
CLOSED_AFTER = 10


@dataclass(frozen=True, slots=True)
class Pulled:
    """One answer and what its parser made of it."""

    payload: Payload
    parsed: Parsed | None
    error: ProviderError | None

    @property
    def ok(self) -> bool:
        return self.error is None

    @property
    def code(self) -> str:
        """OK, or the code of its error."""
        return self.error.code if self.error else OK


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
    """Requests for what is not archived yet, or may still be corrected; pages that were named and not fetched first.

    Archived and final sessions are not asked for again; the last ones always are, unless the provider never changes.
    A symbol's sessions count as archived when every part of the answer is. What is refused for good when it was asked
    last comes last.
    """
    capabilities = provider.capabilities()
    days = calendar(spec.calendar)
    begins = perishes(capabilities, spec, dataset, now)
    start = max(start, begins) if begins else start
    whole = provider.plan(spec.code, dataset, symbols, start, end, now) if start <= end else []
    reopen = None if capabilities.immutable else days.latest_final(now, spec.settle) - OVERLAP
    standing = _Standing.read(connection, provider.name, dataset, spec, symbols, start, end)
    groups: dict[tuple[str, date, date], list[str]] = {}
    for part in dict.fromkeys(request.part for request in whole):
        for symbol in symbols:
            for first, last in _gaps(start, end, standing.known(symbol, part), reopen):
                groups.setdefault((part, first, last), []).append(symbol)
    missing = [
        request
        for (part, first, last), members in groups.items()
        for request in provider.plan(spec.code, dataset, members, first, last, now)
        if request.part == part
    ]
    # All parts of one symbol before the next one: half an answer for everybody is worth nothing.
    several = len({request.part for request in missing}) > 1
    place: dict[str | None, int] = {symbol: number for number, symbol in enumerate(symbols)} if several else {}
    missing.sort(key=lambda request: ((request.symbol, request.part) in standing.refused, place.get(request.symbol, 0)))
    asked = {None, *symbols}
    return [page for page in standing.open_pages if page.symbol in asked] + missing


def perishes(capabilities: Capabilities, spec: MarketSpec, dataset: Dataset, now: datetime) -> date | None:
    """The first session whose quotes or ticks can still be asked for; None: this data does not perish."""
    if capabilities.perishable is None or dataset not in PERISHABLE:
        return None
    days = calendar(spec.calendar)
    today = spec.today(now)
    recent = days.sessions(today - capabilities.perishable - timedelta(days=31), today)
    kept = recent.filter(pl.col("close") + capabilities.perishable > now)
    return kept["session"][0] if kept.height else today + timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Standing:
    """What is archived of one dataset of a provider.

    Attributes:
        covered: Session ranges that were answered, by symbol and part, cut to what was final when they were pulled.
        refused: Symbols and parts that were refused for good when last asked.
        open_pages: Requests that answers named and nobody has put yet.
    """

    covered: Mapping[tuple[str | None, str], list[tuple[date, date]]]
    refused: frozenset[tuple[str | None, str]]
    open_pages: list[Request]

    def known(self, symbol: str, part: str) -> list[tuple[date, date]]:
        return self.covered.get((symbol, part), []) + self.covered.get((None, part), [])

    @classmethod
    def read(
        cls,
        connection: duckdb.DuckDBPyConnection,
        provider: str,
        dataset: str,
        spec: MarketSpec,
        symbols: Sequence[str],
        start: date,
        end: date,
    ) -> _Standing:
        """From the pulls in `raw.fetches` about these symbols, or the whole market, and sessions in start..end.

        A request for several symbols lists them in its parameters; one that lists none was about the whole market
        (None). An answer that names a next page counts while that page may still be fetched: it was not asked for yet,
        or failed for the moment. When it is refused, the whole range is missing again, from the first page on.
        """
        rows = connection.execute(
            """WITH pulls AS (
                   SELECT fetch_id, request::VARCHAR AS request, following::VARCHAR AS following, fetched_at,
                          error_code, range_start, range_end, coalesce(request->>'$.part', '') AS part,
                          coalesce(CASE WHEN symbol IS NOT NULL THEN [symbol] END,
                                   string_split(request->>'$.params.symbols', ','), [NULL]) AS symbols,
                          error_code IS NULL OR list_contains($settled, error_code) AS settled
                   FROM raw.fetches
                   WHERE provider = $provider AND dataset = $dataset AND market = $market
                     AND range_start <= $end AND range_end >= $start),
               -- Whether the next page may still come: it was not asked for yet, or failed for the moment.
               pages AS (
                   SELECT p.fetch_id,
                          coalesce(list_contains($transient, arg_max(coalesce(n.error_code, ''), n.fetched_at)), true)
                              AS pending
                   FROM pulls AS p LEFT JOIN pulls AS n ON n.request = p.following AND n.fetched_at >= p.fetched_at
                   WHERE p.settled AND p.following IS NOT NULL GROUP BY p.fetch_id),
               judged AS (
                   SELECT unnest(symbols) AS symbol, part, range_start, range_end, fetched_at, error_code,
                          settled AND coalesce(pending, true) AS counts,
                          CASE WHEN pending THEN following END AS following
                   FROM pulls LEFT JOIN pages USING (fetch_id))
               SELECT symbol, part, range_start, range_end, counts, max(fetched_at) AS fetched_at,
                      arg_max(coalesce(error_code, ''), fetched_at) AS error_code, any_value(following) AS following
               FROM judged
               WHERE symbol IS NULL OR following IS NOT NULL OR symbol IN (SELECT unnest($symbols::VARCHAR[]))
               GROUP BY ALL""",
            {
                "provider": provider,
                "dataset": dataset,
                "market": spec.code,
                "symbols": list(symbols),
                "start": start,
                "end": end,
                "settled": list(SETTLED_WITHOUT_ROWS),
                "transient": list(TRANSIENT),
            },
        ).fetchall()
        days = calendar(spec.calendar)
        covered: dict[tuple[str | None, str], list[tuple[date, date]]] = {}
        latest: dict[tuple[str | None, str], tuple[datetime, str]] = {}
        pages: dict[str, Request] = {}
        for symbol, part, first, last, counts, fetched_at, error, following in rows:
            if counts:
                final = min(last, days.latest_final(fetched_at, spec.settle))
                covered.setdefault((symbol, part), []).append((first, final))
            if following:
                pages.setdefault(following, Request.from_json(following))
            latest[symbol, part] = max(latest.get((symbol, part), (fetched_at, error)), (fetched_at, error))
        refused = frozenset(key for key, (_, error) in latest.items() if error in REFUSED)
        return cls(covered, refused, list(pages.values()))


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
    provider: Provider,
    requests: Iterable[Request],
    lake: Lake,
    arrived: Callable[[Pulled], Awaitable[None]] | None = None,
) -> list[Request]:
    """Send requests, as many at once as the provider allows; every answer is staged as it arrives, then read.

    A page that an answer names is asked for next. Nothing more is asked of a provider whose day is used up, or that ten
    times in a row blocked us or did not answer: it bans us, its circuit is open, a key is missing, the net is down.

    Args:
        provider: Whom to ask.
        requests: In the order in which to ask.
        lake: Where answers are staged.
        arrived: Told about each answer once it is staged.

    Returns:
        The requests left unasked.
    """
    waiting = deque(requests)
    silent = 0

    async def ask() -> None:
        nonlocal silent
        while waiting and silent < CLOSED_AFTER:
            pulled = await _ask(provider, waiting.popleft(), lake)
            payload = pulled.payload
            if pulled.parsed and pulled.parsed.following:
                waiting.appendleft(pulled.parsed.following)
            shut = isinstance(pulled.error, Blocked) or (payload.status == 0 and pulled.error is not None)
            silent = silent + 1 if shut else 0
            if isinstance(pulled.error, QuotaExhausted):
                silent = CLOSED_AFTER
            if arrived:
                await arrived(pulled)

    asking = [asyncio.create_task(ask()) for _ in range(max(1, provider.capabilities().quota.concurrency))]
    try:
        await asyncio.gather(*asking)
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    return list(waiting)


def symbols_of(request: Request) -> list[str] | list[None]:
    """Symbols a request is about, as it spells them; [None]: the whole market."""
    listed = request.symbol or request.params.get("symbols")
    return listed.split(",") if listed else [None]


async def _ask(provider: Provider, request: Request, lake: Lake) -> Pulled:
    """Put one question, stage the answer, read it, and count how it ended."""
    about = {"provider": request.provider, "symbol": request.symbol, "dataset": request.dataset}
    with span("fetch", **about) as work:
        payload = await provider.fetch(request)
        lake.stage(payload)
        pulled = parse_one(provider, payload)
        work.note(code=pulled.code, status=payload.status, bytes=len(payload.body))
        count(PROVIDER_REQUESTS, provider=request.provider, code=pulled.code)
        if payload.latency_ms:  # else there was no answer, or nobody had to be asked
            observe(QUERY_LATENCY, payload.latency_ms, provider=request.provider)
        if pulled.error and pulled.code not in SETTLED_WITHOUT_ROWS:
            count(QUERY_FAIL, provider=request.provider, code=pulled.code)
            logger.info("%s", pulled.error, extra={"code": pulled.code, SHOWN: True})
    return pulled


def parse_one(provider: Provider, payload: Payload) -> Pulled:
    """Parse a payload; a refusal is a result too."""
    with span("parse", provider=provider.name, symbol=payload.request.symbol) as work:
        try:
            pulled = Pulled(payload, provider.parse(payload), None)
        except ProviderError as error:
            pulled = Pulled(payload, None, error)
        except Exception as error:  # a defect of one parser, ours or a plugin's, costs one answer
            logger.exception("the parser of %s failed", provider.name)
            pulled = Pulled(payload, None, _defect(provider, error))
        work.note(code=pulled.code, rows=pulled.parsed.rows if pulled.parsed else 0)
    return pulled


def _defect(provider: Provider, error: Exception) -> ProviderError:
    return Malformed(
        f"the parser failed: {type(error).__name__}: {error}",
        hint="the answer is archived; please report it, a corrected parser will read it again",
        provider=provider.name,
        parser=provider.parser_version,
    )


def parse_all(provider: Provider, payloads: Iterable[Payload]) -> list[Pulled]:
    """Parse payloads; a refusal is a result too."""
    return [parse_one(provider, payload) for payload in payloads]


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
    following = pull.parsed.following if pull.parsed else None
    first, last = (pull.parsed.answered if pull.parsed else None) or (request.start, request.end)
    frames = [dataset for dataset, frame in (pull.parsed.frames if pull.parsed else {}).items() if frame.height]
    return {
        "fetch_id": payload.fetch_id,
        "provider": request.provider,
        "dataset": request.dataset,
        "market": request.market,
        "symbol": request.symbol,
        "range_start": first,
        "range_end": last,
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
        "following": following.to_json() if following else None,
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
