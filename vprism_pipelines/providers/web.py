"""What providers behind plain HTTP share: offers checked before planning, keys added on the way out, named errors.

A subclass states its capabilities and writes `plan` and `_read`; it knows nothing about sockets.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final
from urllib.parse import parse_qsl, urlsplit

from vprism_pipelines.errors import AuthRequired, InvalidInput, InvalidRange, ProviderError, Unavailable
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.market.spec import market as market_spec
from vprism_pipelines.market.symbols import to_provider
from vprism_pipelines.providers.base import Capabilities, Dataset, Parsed, Payload, Request
from vprism_pipelines.providers.http_errors import REASON_HEADER

if TYPE_CHECKING:
    from vprism_pipelines.providers.transport import Transport

__all__ = ["Span", "WebProvider", "asked"]

_NOW: Final = partial(datetime.now, UTC)
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})

Span = tuple[date | None, date | None]
"""First and last session of a request, both inclusive."""


class WebProvider(ABC):
    """A provider whose requests are HTTP requests.

    Args:
        transport: What sends requests; None: offline, every fetch is refused.
        clock: Current time, for the payload of a refused fetch.
    """

    name: str
    parser_version = "1"
    offers: ClassVar[Capabilities]

    def __init__(self, transport: Transport | None = None, *, clock: Callable[[], datetime] = _NOW) -> None:
        self._transport = transport
        self._clock = clock

    def capabilities(self) -> Capabilities:
        return self.offers

    def plan(
        self, market: str, dataset: Dataset, symbols: Sequence[str], start: date, end: date, now: datetime
    ) -> list[Request]:
        """Requests that answer `dataset` for canonical `symbols` over sessions `start`..`end` inclusive.

        Raises:
            InvalidRange: `start` lies after `end` or in the exchange's future.
            InvalidInput: The provider has no such market or dataset here.
            UnknownSymbol: The provider cannot spell a symbol.
        """
        spec = self._market(market, dataset, start, end, now)
        return self._plan(spec, dataset, symbols, start, end, now)

    async def fetch(self, request: Request) -> Payload:
        """Ask. Without a transport, or without the key it takes, the answer is a payload that says so."""
        if self._transport is None:
            return self._refusal(request, Unavailable, "offline: this provider was made without a transport")
        secrets = self._secrets()
        if secrets is None:
            needed = self.capabilities().needs_key
            return self._refusal(request, AuthRequired, f"{needed} is not set: nothing was sent")
        return await self._transport.send(request, secrets=secrets)

    def parse(self, payload: Payload) -> Parsed:
        """Frames of one payload; pure.

        Raises:
            ProviderError: The payload is not the data asked for; the class says what it is instead.
        """
        try:
            return self._read(payload)
        except ProviderError as error:
            asked_for = {"provider": self.name, "symbol": payload.request.symbol or payload.request.provider_symbol}
            error.context = {key: value for key, value in asked_for.items() if value} | error.context
            error.hint = (
                error.hint or f"the format of {self.name} may have changed: the archived payload shows what came"
            )
            raise

    async def aclose(self) -> None:  # noqa: B027
        """Nothing to release: the transport belongs to whoever made it."""

    @abstractmethod
    def _plan(
        self, spec: MarketSpec, dataset: Dataset, symbols: Sequence[str], start: date, end: date, now: datetime
    ) -> list[Request]:
        """`plan`, of a dataset that is offered for the market and a range that sessions can lie in."""

    @abstractmethod
    def _read(self, payload: Payload) -> Parsed: ...

    def _secrets(self) -> Mapping[str, str] | None:
        """API keys by parameter or header name, read at this moment; None: one is needed and there is none."""
        return {}

    def _spelling(self, symbol: str) -> str:
        """A canonical symbol as this provider writes it; providers of plugins bring their own."""
        return to_provider(symbol, self.name)

    def _refusal(self, request: Request, kind: type[ProviderError], reason: str) -> Payload:
        return Payload(request, 0, b"", self._clock(), headers={REASON_HEADER: reason}, error=kind.code)

    def _requests(
        self,
        market: str,
        dataset: Dataset,
        symbols: Sequence[str],
        spans: Sequence[Span],
        ask: Callable[[str, Span], tuple[str, Mapping[str, str]]],
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> list[Request]:
        """One request per symbol and span; a symbol named twice is asked about once.

        Args:
            market: Its code.
            dataset: What is asked for.
            symbols: Canonical symbols.
            spans: Of each symbol.
            ask: URL and query parameters for a provider's spelling and a span.
            headers: Sent along.

        Raises:
            UnknownSymbol: The provider cannot spell a symbol.
        """
        spelled = {symbol: self._spelling(symbol) for symbol in symbols}
        asking = [
            (symbol, spelling, span, *ask(spelling, span)) for symbol, spelling in spelled.items() for span in spans
        ]
        return [
            Request(
                provider=self.name,
                dataset=dataset,
                market=market,
                symbol=symbol,
                provider_symbol=spelling,
                start=start,
                end=end,
                url=url,
                params=params,
                headers=headers,
            )
            for symbol, spelling, (start, end), url, params in asking
        ]

    def _market(self, market: str, dataset: Dataset, start: date, end: date, now: datetime) -> MarketSpec:
        """The market, when this provider has the dataset for it and sessions can lie in the range.

        Raises:
            InvalidRange: `start` lies after `end` or in the exchange's future.
            InvalidInput: No such market or dataset here.
        """
        spec, offers = market_spec(market), self.capabilities()
        if spec.code not in offers.markets or dataset not in offers.datasets:
            raise InvalidInput(
                f"{self.name} has no {dataset} for market {spec.code}",
                hint=f"it has {', '.join(offers.datasets)} for {', '.join(offers.markets)}",
            )
        if start > end or start > spec.today(now):
            raise InvalidRange(
                f"no session can lie from {start} to {end}",
                hint=f"start at {spec.today(now)} or earlier, and not after the end",
                market=spec.code,
            )
        return spec


def asked(request: Request) -> Mapping[str, str]:
    """Query parameters of a request, whether they stand in its URL or beside it."""
    return {**dict(parse_qsl(urlsplit(request.url).query, keep_blank_values=True)), **request.params}
