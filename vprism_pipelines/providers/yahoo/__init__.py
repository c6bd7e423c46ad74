"""Yahoo Finance: daily bars, dividends and splits from the v8 chart, one request per symbol.

Undocumented, unlicensed for redistribution, rewritten at every split. What it says is split-adjusted as of the moment
of the answer, so every request reaches up to now: the splits it names are what turns its prices back into traded ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from vprism_pipelines.errors import InvalidInput, InvalidRange, ProviderError, Unavailable
from vprism_pipelines.market.spec import market as market_spec
from vprism_pipelines.market.symbols import to_provider
from vprism_pipelines.providers.base import Capabilities, Dataset, Parsed, Payload, Quota, Request
from vprism_pipelines.providers.http_errors import REASON_HEADER
from vprism_pipelines.providers.yahoo.chart import parse_chart
from vprism_pipelines.providers.yahoo.download import parse_download
from vprism_pipelines.providers.yahoo.faults import read_json

if TYPE_CHECKING:
    from vprism_pipelines.providers.transport import Transport

__all__ = ["YahooProvider"]

_HOST: Final = "https://query2.finance.yahoo.com"
_NOW: Final = partial(datetime.now, UTC)
_CAPABILITIES: Final = Capabilities(
    name="yahoo",
    title="Yahoo Finance",
    markets=("us", "hk", "cn"),
    asset_types=("STOCK", "ETF", "INDEX"),
    datasets=("bars", "actions"),
    price_basis="split_adjusted",
    history="as far back as the listing, US blue chips to 1962; delisted symbols lose theirs",
    quota=Quota(per_minute=60, burst=5, concurrency=2),
    licence="personal use under Yahoo's terms of service; no redistribution",
)


class YahooProvider:
    """Yahoo Finance as a provider.

    Args:
        transport: What sends requests; None: offline, every fetch is refused.
        clock: Current time, for the payload of a refused fetch.
    """

    name = "yahoo"
    parser_version = "1"

    def __init__(self, transport: Transport | None = None, *, clock: Callable[[], datetime] = _NOW) -> None:
        self._transport = transport
        self._clock = clock

    def capabilities(self) -> Capabilities:
        return _CAPABILITIES

    def plan(
        self, market: str, dataset: Dataset, symbols: Sequence[str], start: date, end: date, now: datetime
    ) -> list[Request]:
        """One chart request per symbol, from `start` to now whatever `end` is; its answer holds bars and actions.

        Raises:
            InvalidRange: `start` lies after `end` or in the exchange's future.
            InvalidInput: Yahoo has no such market or dataset here.
            UnknownSymbol: Yahoo cannot spell a symbol.
        """
        spec = market_spec(market)
        offered = self.capabilities()
        if spec.code not in offered.markets or dataset not in offered.datasets:
            raise InvalidInput(
                f"yahoo has no {dataset} for market {spec.code}",
                hint=f"it has {', '.join(offered.datasets)} for {', '.join(offered.markets)}",
            )
        if start > end or start > spec.today(now):
            raise InvalidRange(
                f"no session can lie from {start} to {end}",
                hint=f"start at {spec.today(now)} or earlier, and not after the end",
                market=spec.code,
            )
        midnight = datetime.combine(start, time.min, spec.zone)
        params = {
            "period1": str(int(midnight.timestamp())),
            "period2": str(int(now.timestamp())),
            "interval": "1d",
            "events": "div,splits,capitalGains",
            "includeAdjustedClose": "true",
        }
        spelled = {symbol: to_provider(symbol, self.name) for symbol in symbols}
        return [
            Request(
                provider=self.name,
                dataset=dataset,
                market=spec.code,
                symbol=symbol,
                provider_symbol=spelling,
                start=start,
                end=end,
                url=f"{_HOST}/v8/finance/chart/{quote(spelling, safe='')}",
                params=params,
            )
            for symbol, spelling in spelled.items()
        ]

    async def fetch(self, request: Request) -> Payload:
        if self._transport is None:
            reason = {REASON_HEADER: "offline: this provider was made without a transport"}
            return Payload(request, 0, b"", self._clock(), headers=reason, error=Unavailable.code)
        return await self._transport.send(request)

    def parse(self, payload: Payload) -> Parsed:
        """Bars and actions of a chart, or bars of an archived download; see `chart.parse_chart` for the rules.

        Raises:
            ProviderError: The payload is not the data asked for; the class says what it is instead.
        """
        try:
            if payload.status == 200 and payload.body.startswith(b"Date,"):
                return parse_download(payload)
            return parse_chart(read_json(payload), payload)
        except ProviderError as error:
            asked = {"provider": self.name, "symbol": payload.request.symbol or payload.request.provider_symbol}
            error.context = {key: value for key, value in asked.items() if value} | error.context
            error.hint = error.hint or "Yahoo's format may have changed: the archived payload shows what came"
            raise

    async def aclose(self) -> None:
        """Nothing to release: the transport belongs to whoever made it."""
