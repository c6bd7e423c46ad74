"""Yahoo Finance: daily bars, dividends and splits from the v8 chart; quotes, profiles and reported figures besides.

Undocumented, unlicensed for redistribution, rewritten at every split. What it says of prices is split-adjusted as of
the moment of the answer, so every request for bars reaches up to now: the splits it names are what turns its prices
back into traded ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import quote

from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.market.symbols import to_provider
from vprism_pipelines.providers.base import Capabilities, Dataset, Parsed, Payload, Quota, Request
from vprism_pipelines.providers.web import WebProvider
from vprism_pipelines.providers.yahoo.chart import parse_chart
from vprism_pipelines.providers.yahoo.crumb import Crumbs
from vprism_pipelines.providers.yahoo.download import parse_download
from vprism_pipelines.providers.yahoo.faults import read_json
from vprism_pipelines.providers.yahoo.items import PERIODS, STATEMENTS
from vprism_pipelines.providers.yahoo.quotes import parse_quotes
from vprism_pipelines.providers.yahoo.summary import parse_summary, parse_timeseries

if TYPE_CHECKING:
    from vprism_pipelines.providers.transport import Transport

__all__ = ["YahooProvider"]

_HOST: Final = "https://query2.finance.yahoo.com"
_SUMMARY: Final = "/v10/finance/quoteSummary/"
_QUOTE: Final = "/v7/finance/quote"
_NEEDS_CRUMB: Final = (_SUMMARY, _QUOTE)
_QUOTES_AT_ONCE: Final = 100
_CAPABILITIES: Final = Capabilities(
    name="yahoo",
    title="Yahoo Finance",
    markets=("us", "hk", "cn"),
    asset_types=("STOCK", "ETF", "INDEX"),
    datasets=("bars", "actions", "instruments", "fundamentals", "quotes"),
    price_basis="split_adjusted",
    history="as far back as the listing, US blue chips to 1962; delisted symbols lose theirs; four years of accounts",
    quota=Quota(
        per_minute=60,
        burst=5,
        concurrency=2,
        source="Yahoo publishes none: what its users get along with, one or two a second",
    ),
    licence="personal use under Yahoo's terms of service; no redistribution",
    perishable=timedelta(days=1),
)
_ENVELOPES: Final[Mapping[str, Callable[[Mapping[str, Any], Payload], Parsed]]] = {
    "quoteResponse": parse_quotes,
    "quoteSummary": parse_summary,
    "timeseries": parse_timeseries,
}


class YahooProvider(WebProvider):
    """Yahoo Finance as a provider."""

    name = "yahoo"
    parser_version = "2"
    offers: ClassVar[Capabilities] = _CAPABILITIES

    def __init__(self, transport: Transport | None = None, **options: Any) -> None:
        super().__init__(transport, **options)
        self._crumbs = Crumbs()

    def _plan(
        self, spec: MarketSpec, dataset: Dataset, symbols: Sequence[str], start: date, end: date, now: datetime
    ) -> list[Request]:
        """Requests by dataset.

        bars, actions: one chart per symbol, from `start` to now whatever `end` is; its answer holds both.
        quotes: one request per hundred symbols, about this moment.
        instruments: one profile per symbol. fundamentals: the accounts and the key statistics of each symbol.
        """
        if dataset == "quotes":
            return self._quotes(spec.code, symbols, spec.today(now))

        def about(ask: Callable[[str], tuple[str, Mapping[str, str]]], part: str = "") -> list[Request]:
            asked = self._requests(spec.code, dataset, symbols, [(start, end)], lambda spelling, _: ask(spelling))
            return [replace(request, part=part) for request in asked]

        if dataset == "instruments":
            return about(lambda spelling: _summary(spelling, "price,assetProfile"))
        if dataset == "fundamentals":
            until = str(int(now.timestamp()))
            statistics = about(lambda spelling: _summary(spelling, "price,defaultKeyStatistics,summaryDetail"), "today")
            return about(lambda spelling: _accounts(spelling, until), "accounts") + statistics
        midnight = datetime.combine(start, time.min, spec.zone)
        params = {
            "period1": str(int(midnight.timestamp())),
            "period2": str(int(now.timestamp())),
            "interval": "1d",
            "events": "div,splits,capitalGains",
            "includeAdjustedClose": "true",
        }
        return about(lambda spelling: (f"{_HOST}/v8/finance/chart/{quote(spelling, safe='')}", params))

    async def fetch(self, request: Request) -> Payload:
        """Ask, with a crumb where Yahoo wants one; why there is none is an answer, too."""
        if self._transport is None or not any(path in request.url for path in _NEEDS_CRUMB):
            return await super().fetch(request)
        return await self._crumbs.ask(self._transport, request)

    def _quotes(self, market: str, symbols: Sequence[str], today: date) -> list[Request]:
        """One request per hundred symbols. Whatever was asked for, the answer is about today."""
        spelled = [to_provider(symbol, self.name) for symbol in dict.fromkeys(symbols)]
        chunks = [spelled[first : first + _QUOTES_AT_ONCE] for first in range(0, len(spelled), _QUOTES_AT_ONCE)]
        return [
            Request(
                provider=self.name,
                dataset="quotes",
                market=market,
                symbol=None,
                provider_symbol=None,
                start=today,
                end=today,
                url=f"{_HOST}{_QUOTE}",
                params={"symbols": ",".join(chunk)},
            )
            for chunk in chunks
        ]

    def _read(self, payload: Payload) -> Parsed:
        """By the shape of the answer; see `chart.parse_chart` for the rules of bars, and `summary`, `quotes`."""
        if payload.status == 200 and payload.body.startswith(b"Date,"):
            return parse_download(payload)
        document = read_json(payload)
        parse = next((_ENVELOPES[name] for name in _ENVELOPES if name in document), parse_chart)
        return parse(document, payload)


def _summary(spelling: str, modules: str) -> tuple[str, Mapping[str, str]]:
    return f"{_HOST}{_SUMMARY}{quote(spelling, safe='')}", {"modules": modules, "formatted": "false"}


def _accounts(spelling: str, until: str) -> tuple[str, Mapping[str, str]]:
    """Always the whole history: old figures are restated, and there are few of them."""
    types = ",".join(period + item for items in STATEMENTS.values() for item in items for period in PERIODS)
    url = f"{_HOST}/ws/fundamentals-timeseries/v1/finance/timeseries/{quote(spelling, safe='')}"
    return url, {"type": types, "period1": "0", "period2": until}
