"""Alpha Vantage: daily bars as traded, dividends, splits, earnings and listings, one request per symbol and kind.

A free key is worth 25 requests a day and the last 100 sessions; whatever is wrong is said with HTTP 200.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

from vprism_pipelines.errors import Malformed
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.market.symbols import to_provider
from vprism_pipelines.providers.alpha_vantage.answers import parse_csv, parse_json
from vprism_pipelines.providers.alpha_vantage.faults import raise_for_notice
from vprism_pipelines.providers.base import Capabilities, Dataset, Limit, Parsed, Payload, Quota, Request
from vprism_pipelines.providers.http_errors import load_json, raise_for_payload
from vprism_pipelines.providers.web import WebProvider
from vprism_pipelines.settings import settings

if TYPE_CHECKING:
    from vprism_pipelines.providers.transport import Transport

__all__ = ["AlphaVantageProvider"]

_URL: Final = "https://www.alphavantage.co/query"
_NOW: Final = partial(datetime.now, UTC)
_FUNCTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "actions": ("DIVIDENDS", "SPLITS"),
    "fundamentals": ("EARNINGS", "OVERVIEW"),
}
# Calendar days that the 100 sessions of a compact answer span at least.
_COMPACT_DAYS: Final = 130


class AlphaVantageProvider(WebProvider):
    """Alpha Vantage as a provider.

    Args:
        transport: What sends requests; None: offline, every fetch is refused.
        clock: Current time, for the payload of a refused fetch.
        premium: Plan for a paid key: one request has bars, adjusted closes, dividends and splits of the whole history.
    """

    name = "alpha_vantage"
    parser_version = "2"
    offers: ClassVar[Capabilities] = Capabilities(
        name="alpha_vantage",
        title="Alpha Vantage",
        markets=("us", "cn"),
        asset_types=("STOCK", "ETF", "FUND"),
        datasets=("bars", "actions", "instruments", "fundamentals"),
        price_basis="raw",
        history="20 years and more with a paid key; the last 100 sessions with a free one",
        quota=Quota(
            per_minute=60,
            burst=1,
            per_day=25,
            concurrency=1,
            day_zone="America/New_York",
            windows=(Limit(5, 60),),
            source="alphavantage.co/support and its own notices: a free key's 25 a day, one a second, 5 a minute",
        ),
        licence="per key, under Alpha Vantage's terms of service; no redistribution",
        needs_key="ALPHA_VANTAGE_API_KEY",
    )

    def __init__(
        self, transport: Transport | None = None, *, clock: Callable[[], datetime] = _NOW, premium: bool = False
    ) -> None:
        super().__init__(transport, clock=clock)
        self._premium = premium

    def _plan(
        self, spec: MarketSpec, dataset: Dataset, symbols: Sequence[str], start: date, end: date, now: datetime
    ) -> list[Request]:
        """One request per symbol and kind; the listings of all symbols take two.

        Bars that begin within the last 100 sessions are asked for as such, earlier ones with the whole history: there
        is no range in between, and a free key is refused the latter (`PremiumRequired`).
        """
        size = "compact" if (spec.today(now) - start).days <= _COMPACT_DAYS else "full"
        if dataset == "instruments":
            asked: list[tuple[str | None, dict[str, str]]] = [
                (None, {"function": "LISTING_STATUS", "state": state}) for state in ("active", "delisted")
            ]
        else:
            series = "TIME_SERIES_DAILY_ADJUSTED" if self._premium else "TIME_SERIES_DAILY"
            kinds: list[dict[str, str]] = (
                [{"function": series, "outputsize": size, "datatype": "json"}]
                if dataset == "bars"
                else [{"function": function, "datatype": "json"} for function in _FUNCTIONS[dataset]]
            )
            asked = [
                (symbol, kind | {"symbol": to_provider(symbol, self.name)})
                for symbol in dict.fromkeys(symbols)
                for kind in kinds
            ]
        return [
            Request(
                provider=self.name,
                dataset=dataset,
                market=spec.code,
                symbol=symbol,
                provider_symbol=params.get("symbol"),
                start=start,
                end=end,
                url=_URL,
                params=params,
                part="" if dataset == "bars" else params.get("state", params["function"]).lower(),
            )
            for symbol, params in asked
        ]

    def _secrets(self) -> Mapping[str, str] | None:
        key = settings().alpha_vantage_api_key
        return {"apikey": key.get_secret_value()} if key and key.get_secret_value() else None

    def _read(self, payload: Payload) -> Parsed:
        raise_for_payload(payload)
        if not payload.body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
            return parse_csv(payload)
        document = load_json(payload)
        if not isinstance(document, dict):
            raise Malformed("the answer is a list, not an object")
        raise_for_notice(document)
        return parse_json(document, payload)
