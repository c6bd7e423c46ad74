"""Yahoo Finance: daily bars, dividends and splits from the v8 chart, one request per symbol.

Undocumented, unlicensed for redistribution, rewritten at every split. What it says is split-adjusted as of the moment
of the answer, so every request reaches up to now: the splits it names are what turns its prices back into traded ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time
from typing import ClassVar, Final
from urllib.parse import quote

from vprism_pipelines.providers.base import Capabilities, Dataset, Parsed, Payload, Quota, Request
from vprism_pipelines.providers.web import WebProvider
from vprism_pipelines.providers.yahoo.chart import parse_chart
from vprism_pipelines.providers.yahoo.download import parse_download
from vprism_pipelines.providers.yahoo.faults import read_json

__all__ = ["YahooProvider"]

_HOST: Final = "https://query2.finance.yahoo.com"
_CAPABILITIES: Final = Capabilities(
    name="yahoo",
    title="Yahoo Finance",
    markets=("us", "hk", "cn"),
    asset_types=("STOCK", "ETF", "INDEX"),
    datasets=("bars", "actions"),
    price_basis="split_adjusted",
    history="as far back as the listing, US blue chips to 1962; delisted symbols lose theirs",
    quota=Quota(
        per_minute=60,
        burst=5,
        concurrency=2,
        source="Yahoo publishes none: what its users get along with, one or two a second",
    ),
    licence="personal use under Yahoo's terms of service; no redistribution",
)


class YahooProvider(WebProvider):
    """Yahoo Finance as a provider."""

    name = "yahoo"
    offers: ClassVar[Capabilities] = _CAPABILITIES

    def plan(
        self, market: str, dataset: Dataset, symbols: Sequence[str], start: date, end: date, now: datetime
    ) -> list[Request]:
        """One chart request per symbol, from `start` to now whatever `end` is; its answer holds bars and actions.

        Raises:
            InvalidRange: `start` lies after `end` or in the exchange's future.
            InvalidInput: Yahoo has no such market or dataset here.
            UnknownSymbol: Yahoo cannot spell a symbol.
        """
        spec = self._market(market, dataset, start, end, now)
        midnight = datetime.combine(start, time.min, spec.zone)
        params = {
            "period1": str(int(midnight.timestamp())),
            "period2": str(int(now.timestamp())),
            "interval": "1d",
            "events": "div,splits,capitalGains",
            "includeAdjustedClose": "true",
        }
        return self._requests(
            spec.code,
            dataset,
            symbols,
            [(start, end)],
            lambda spelling, _: (f"{_HOST}/v8/finance/chart/{quote(spelling, safe='')}", params),
        )

    def _read(self, payload: Payload) -> Parsed:
        """Bars and actions of a chart, or bars of an archived download; see `chart.parse_chart` for the rules."""
        if payload.status == 200 and payload.body.startswith(b"Date,"):
            return parse_download(payload)
        return parse_chart(read_json(payload), payload)
