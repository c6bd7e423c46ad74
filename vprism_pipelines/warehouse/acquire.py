"""Acquiring: bring the archive of one provider up to a range of sessions; nothing is lost, nothing asked twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import partial

import duckdb
import polars as pl

from vprism_pipelines.errors import NoData, ProviderError, WarehouseLocked, error_class
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.market.symbols import resolve_strict
from vprism_pipelines.providers import registry
from vprism_pipelines.providers.base import Dataset, Payload, Provider, Request
from vprism_pipelines.tables import FETCHES
from vprism_pipelines.warehouse import pulls
from vprism_pipelines.warehouse.building import prefix
from vprism_pipelines.warehouse.house import House

# Answers are sealed, parsed and entered while others are still to come: no more of them, bytes of them, or seconds.
CHUNK, CHUNK_BYTES, CHUNK_SECONDS = 500, 64 << 20, 300.0


@dataclass(frozen=True, slots=True)
class Acquired:
    """What an acquisition did.

    Attributes:
        adopted: Answers of a killed run that were found in the lake.
        fetches: The new rows of `raw.fetches`, without run_id.
        unasked: Requests not sent, because the provider's day was used up or it had stopped answering.
    """

    adopted: int
    fetches: pl.DataFrame
    unasked: tuple[Request, ...] = ()

    @property
    def requests(self) -> int:
        """Requests sent."""
        return self.fetches.height

    @property
    def left(self) -> int:
        return len(self.unasked)

    @property
    def rows(self) -> int:
        return int(self.fetches["rows"].sum())

    @property
    def failed(self) -> pl.DataFrame:
        """Pulls that brought an error instead of rows."""
        return self.fetches.filter(pl.col("error_code").is_not_null())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What somebody should know: requests left, and the last failure."""
        if not self.unasked:
            return ()
        last, provider = self.failed.row(-1, named=True), self.unasked[0].provider
        return (f"{self.left:,} requests were not sent to {provider}: {last['error_code']}: {last['error']}",)

    @property
    def missed(self) -> pl.DataFrame:
        """symbol, error_code, error: who got no whole answer, and why; a null symbol is the whole market."""
        failed = self.failed.filter(~pl.col("error_code").is_in(pulls.SETTLED_WITHOUT_ROWS))
        told = failed.select("request", "error_code", "error").rows()
        rows = [(symbol, *why) for text, *why in told for symbol in pulls.symbols_of(Request.from_json(text))]
        if told:
            _, code, error = told[-1]
            rows += [
                (symbol, code, f"not asked any more: {error}")
                for request in self.unasked
                for symbol in pulls.symbols_of(request)
            ]
        schema = {"symbol": pl.String, "error_code": pl.String, "error": pl.String}
        return pl.DataFrame(rows, schema, orient="row").unique("symbol", keep="first", maintain_order=True)

    @property
    def refusal(self) -> ProviderError | None:
        """One error for all, the most frequent one, when every request failed."""
        failed = self.failed
        if failed.height < self.requests or failed["error_code"].is_in([NoData.code]).all():
            return None
        return _spokesman(failed)


_NONE = pl.DataFrame(schema={name: dtype for name, dtype in FETCHES.polars_schema.items() if name != "run_id"})


def acquire(
    house: House,
    spec: MarketSpec,
    provider: str,
    window: tuple[date, date],
    run_id: str,
    *,
    dataset: Dataset | None = None,
    symbols: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Acquired:
    """As `attempt`.

    Raises:
        ProviderError: Every request failed; the class is that of the most frequent failure. All answers are archived.
    """
    done = attempt(house, spec, provider, window, run_id, dataset=dataset, symbols=symbols, progress=progress)
    if done.refusal:
        raise done.refusal
    return done


def attempt(
    house: House,
    spec: MarketSpec,
    provider: str,
    window: tuple[date, date],
    run_id: str,
    *,
    dataset: Dataset | None = None,
    symbols: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Acquired:
    """Pull what the archive lacks of `provider` for the sessions in `window`; failures are part of the result.

    It may be killed at any moment: every answer is staged when it arrives, and the next acquisition asks for the rest.

    Args:
        house: The installation.
        spec: The market.
        provider: Registry name.
        window: First and last session date; cut to what the market knows and to today.
        run_id: Recorded with every pull.
        dataset: What to ask for; None: the provider's main dataset.
        symbols: Canonical symbols; empty: the provider's own closed set, or the configured universe.
        progress: Called with (answers so far, requests) after each answer.
    """
    parser = house.parser(provider)
    wanted = dataset or registry.entry(provider).dataset
    lacking = partial(missing, house, spec=spec, parser=parser, window=window, dataset=wanted, symbols=symbols)
    adopted = 0
    with house.warehouse.connect() as connection:  # opened once where nothing was left: that costs more than looking
        orphans = pulls.unregistered(connection, house.lake, parser.name)
        left = bool(orphans or house.lake.staged(parser.name))
        requests = [] if left else lacking(connection)
    if left:
        adopted = _adopt(house, parser, orphans, run_id)
        with house.warehouse.connect() as connection:
            requests = lacking(connection)
    if not requests:
        return Acquired(adopted, _NONE)
    filing = _Filing(house, parser, run_id)
    unasked = asyncio.run(_fetch(house, provider, requests, filing, progress))
    return Acquired(adopted, filing.finish(), tuple(unasked))


def missing(
    house: House,
    connection: duckdb.DuckDBPyConnection,
    spec: MarketSpec,
    parser: Provider,
    window: tuple[date, date],
    dataset: Dataset,
    symbols: Sequence[str] = (),
) -> list[Request]:
    """Requests for what the archive lacks, in the order in which to ask; arguments as for `acquire`."""
    now = house.clock()
    first, last = max(window[0], spec.first_session), min(window[1], spec.today(now))
    return pulls.plan(
        connection, parser, spec, dataset, symbols or universe(house, connection, spec, parser), first, last, now
    )


def universe(house: House, connection: duckdb.DuckDBPyConnection, spec: MarketSpec, provider: Provider) -> list[str]:
    """Symbols to ask a provider for: its closed set, else the configured universe, else the market's, else all that
    the listings name and that were not delisted.
    """
    offer = provider.capabilities()
    if offer.universe:
        return list(offer.universe)
    if configured := house.settings.universe.get(spec.code) or spec.universe:
        return [resolve_strict(raw, market=spec.prefix) for raw in configured]
    listed = connection.execute(
        f"""SELECT symbol FROM clean.instruments_ledger
            WHERE {prefix(spec)} AND known_to IS NULL AND list_contains($kinds, split_part(symbol, ':', 2))
            GROUP BY symbol HAVING coalesce(max(delisted) >= $today, true) ORDER BY symbol""",
        {"kinds": list(offer.asset_types), "today": spec.today(house.clock())},
    )
    return [str(symbol) for (symbol,) in listed.fetchall()]


async def _fetch(
    house: House,
    name: str,
    requests: Sequence[Request],
    filing: _Filing,
    progress: Callable[[int, int], None] | None,
) -> list[Request]:
    answered = 0

    async def arrived(pulled: pulls.Pulled) -> None:
        nonlocal answered
        answered += 1
        if progress:
            progress(answered, max(answered, len(requests)))
        await filing.take(pulled)

    async with house.provider(name) as provider:
        return await pulls.fetch_all(provider, requests, house.lake, arrived)


class _Filing:
    """Seals answers chunk by chunk and enters them, in a thread of its own, so that nobody stops asking meanwhile."""

    def __init__(self, house: House, parser: Provider, run_id: str) -> None:
        self._house, self._parser, self._run_id = house, parser, run_id
        self._chunk: list[pulls.Pulled] = []
        self._since = time.monotonic()
        self._bytes = 0
        self._sealed: list[_Sealed] = []
        self._entered: list[pl.DataFrame] = []
        self._busy = asyncio.Lock()

    async def take(self, pulled: pulls.Pulled) -> None:
        """Add an answer; the one that fills a chunk waits until it is filed."""
        self._chunk.append(pulled)
        self._bytes += len(pulled.payload.body)
        full = len(self._chunk) >= CHUNK or self._bytes >= CHUNK_BYTES
        if not full and time.monotonic() - self._since < CHUNK_SECONDS:
            return
        chunk, self._chunk, self._bytes, self._since = self._chunk, [], 0, time.monotonic()
        async with self._busy:
            await asyncio.to_thread(self._file, chunk)

    def finish(self) -> pl.DataFrame:
        """File what is left.

        Returns:
            The rows of `raw.fetches` for every answer, without run_id.

        Raises:
            WarehouseLocked: Another process holds the warehouse; everything is archived and the next run enters it.
        """
        if self._chunk:
            self._sealed.append(_seal(self._house, self._parser, self._chunk, self._run_id))
        self._enter()
        return pl.concat(self._entered)

    def _file(self, chunk: list[pulls.Pulled]) -> None:
        self._sealed.append(_seal(self._house, self._parser, chunk, self._run_id))
        with suppress(WarehouseLocked):  # somebody writes for long: the next chunk, or the next run, enters it
            self._enter()

    def _enter(self) -> None:
        while self._sealed:
            self._entered.append(_enter(self._house, self._parser, self._sealed[0], self._run_id))
            del self._sealed[0]


def _adopt(house: House, parser: Provider, orphans: Sequence[str], run_id: str) -> int:
    """Enter what a killed run had archived: sealed files, then what was still staged."""
    found = 0
    for path in orphans:
        found += register(house, parser, list(house.lake.payloads(path)), path, house.lake.run_of(path)).height
    staged = house.lake.staged(parser.name)
    if not staged:
        return found
    with house.warehouse.connect() as connection:
        known = pulls.registered(connection, [payload.fetch_id for payload in staged])
    house.lake.unstage(payload for payload in staged if payload.fetch_id in known)  # killed right after sealing them
    fresh = [payload for payload in staged if payload.fetch_id not in known]
    if fresh:
        sealed = _seal(house, parser, pulls.parse_all(parser, fresh), run_id)
        found += _enter(house, parser, sealed, run_id).height
    return found


def register(house: House, parser: Provider, payloads: Sequence[Payload], lake_path: str, run_id: str) -> pl.DataFrame:
    """Parse archived payloads, keep their rows in the lake, and enter them into `raw.fetches`."""
    fetches = pulls.keep(house.lake, parser, pulls.parse_all(parser, payloads), lake_path)
    return _enter(house, parser, _Sealed(lake_path, fetches), run_id)


@dataclass(frozen=True, slots=True)
class _Sealed:
    """Answers in the archive, and their rows for `raw.fetches`."""

    lake_path: str
    fetches: pl.DataFrame


def _seal(house: House, parser: Provider, pulled: Sequence[pulls.Pulled], run_id: str) -> _Sealed:
    lake_path = house.lake.seal([each.payload for each in pulled], run_id)
    return _Sealed(lake_path, pulls.keep(house.lake, parser, pulled, lake_path))


def _enter(house: House, parser: Provider, sealed: _Sealed, run_id: str) -> pl.DataFrame:
    with house.warehouse.transaction() as connection:
        pulls.register(connection, sealed.fetches, run_id)
    house.lake.drop_superseded(
        sealed.lake_path,
        {
            f"{parser.name}_{dataset}/{rows_path}"
            for datasets, rows_path in sealed.fetches.select("frames", "rows_path").iter_rows()
            for dataset in datasets
        },
    )
    return sealed.fetches


def _spokesman(refused: pl.DataFrame) -> ProviderError:
    codes = refused.filter(pl.col("error_code") != NoData.code)["error_code"]
    code = str(codes.mode().sort()[0])
    example = refused.filter(pl.col("error_code") == code).row(0, named=True)
    kind = error_class(code)
    assert issubclass(kind, ProviderError)
    provider = example["provider"]
    others = f"; the same for {refused.height - 1} other requests" if refused.height > 1 else ""
    return kind(
        f"{str(example['error']).removeprefix(f'{provider}: ')}{others}",
        hint="answers are archived; the published warehouse is unchanged. Try again later or use another --provider",
        provider=provider,
        symbol=example["symbol"],
    )
