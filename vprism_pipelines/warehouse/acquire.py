"""Acquiring: bring the archive of one provider up to a range of sessions; nothing is lost, nothing asked twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from vprism_pipelines.errors import NoData, ProviderError, error_class
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.market.symbols import resolve_strict
from vprism_pipelines.providers import registry
from vprism_pipelines.providers.base import Dataset, Payload, Provider, Request
from vprism_pipelines.warehouse import pulls
from vprism_pipelines.warehouse.house import House


@dataclass(frozen=True, slots=True)
class Acquired:
    """What an acquisition did.

    Attributes:
        requests: Requests sent.
        adopted: Answers of a killed run that were found in the lake.
        fetches: The new rows of `raw.fetches`, without run_id.
    """

    requests: int
    adopted: int
    fetches: pl.DataFrame

    @property
    def rows(self) -> int:
        return int(self.fetches["rows"].sum()) if self.fetches.height else 0

    @property
    def failed(self) -> pl.DataFrame:
        """Pulls that brought an error instead of rows."""
        return self.fetches.filter(pl.col("error_code").is_not_null()) if self.fetches.height else self.fetches


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
    """Pull what the archive lacks of `provider` for the sessions in `window`.

    Args:
        house: The installation.
        spec: The market.
        provider: Registry name.
        window: First and last session date; cut to what the market knows and to today.
        run_id: Recorded with every pull.
        dataset: What to ask for; None: the provider's main dataset.
        symbols: Canonical symbols; empty: the provider's own closed set, or the configured universe.
        progress: Called with (answers so far, requests) after each answer.

    Raises:
        ProviderError: Every request failed; the class is that of the most frequent failure. All answers are archived.
    """
    parser, now = house.parser(provider), house.clock()
    adopted = _adopt(house, parser, run_id)
    with house.warehouse.connect() as connection:
        requests = pulls.plan(
            connection,
            parser,
            spec,
            dataset or registry.entry(provider).dataset,
            symbols or universe(house, spec, parser),
            max(window[0], spec.first_session),
            min(window[1], spec.today(now)),
            now,
        )
    if not requests:
        return Acquired(0, adopted, pl.DataFrame())
    payloads = asyncio.run(_fetch(house, provider, requests, progress))
    acquired = Acquired(len(requests), adopted, _file(house, parser, payloads, run_id))
    refused = acquired.failed
    if refused.height == len(requests) and not refused["error_code"].is_in(["NO_DATA"]).all():
        raise _spokesman(refused, provider)
    return acquired


def universe(house: House, spec: MarketSpec, provider: Provider) -> list[str]:
    """Symbols to ask a provider for: its closed set, else the configured universe, else the market's."""
    closed = provider.capabilities().universe
    if closed:
        return list(closed)
    configured = house.settings.universe.get(spec.code) or spec.universe
    return [resolve_strict(raw, market=spec.prefix) for raw in configured]


async def _fetch(
    house: House, name: str, requests: Sequence[Request], progress: Callable[[int, int], None] | None
) -> list[Payload]:
    answered = 0

    def count(payload: Payload) -> None:
        nonlocal answered
        answered += 1
        if progress:
            progress(answered, len(requests))

    async with house.provider(name) as provider:
        return await pulls.fetch_all(provider, requests, house.lake, count)


def _adopt(house: House, parser: Provider, run_id: str) -> int:
    """Enter what a killed run had archived."""
    with house.warehouse.connect() as connection:
        orphans = pulls.unregistered(connection, house.lake, parser.name)
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
        found += _file(house, parser, fresh, run_id).height
    return found


def _file(house: House, parser: Provider, payloads: Sequence[Payload], run_id: str) -> pl.DataFrame:
    return register(house, parser, payloads, house.lake.seal(payloads, run_id), run_id)


def register(house: House, parser: Provider, payloads: Sequence[Payload], lake_path: str, run_id: str) -> pl.DataFrame:
    """Parse archived payloads, keep their rows in the lake, and enter them into `raw.fetches`."""
    fetches = pulls.keep(house.lake, parser, pulls.parse_all(parser, payloads), lake_path)
    with house.warehouse.transaction() as connection:
        pulls.register(connection, fetches, run_id)
    house.lake.drop_superseded(
        lake_path,
        {
            f"{parser.name}_{dataset}/{rows_path}"
            for datasets, rows_path in fetches.select("frames", "rows_path").iter_rows()
            for dataset in datasets
        },
    )
    return fetches


def _spokesman(refused: pl.DataFrame, provider: str) -> ProviderError:
    """One error for a pull in which nothing succeeded: the most frequent one."""
    codes = refused.filter(pl.col("error_code") != NoData.code)["error_code"]
    code = str(codes.mode().sort()[0])
    example = refused.filter(pl.col("error_code") == code).row(0, named=True)
    kind = error_class(code)
    assert issubclass(kind, ProviderError)
    others = f"; the same for {refused.height - 1} other requests" if refused.height > 1 else ""
    return kind(
        f"{str(example['error']).removeprefix(f'{provider}: ')}{others}",
        hint="answers are archived; the published warehouse is unchanged. Try again later or use another --provider",
        provider=provider,
        symbol=example["symbol"],
    )
