"""What people type, understood: markets, providers and symbols, with the nearest name when there is none such."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from vprism_pipelines.errors import InvalidInput, UnknownMarket, UnknownProvider, UnknownSymbol

if TYPE_CHECKING:
    from vprism_pipelines.market.spec import MarketSpec
    from vprism_pipelines.providers.base import Capabilities

Start = Annotated[str | None, typer.Option(help="First session, YYYY-MM-DD.")]
End = Annotated[str | None, typer.Option(help="Last session, YYYY-MM-DD.")]


def market_of(code: str) -> MarketSpec:
    """The market named `code`.

    Raises:
        UnknownMarket: There is none; the hint names the nearest.
    """
    from vprism_pipelines.market.spec import MARKETS, market
    from vprism_pipelines.serving.asking import nearest

    try:
        return market(code)
    except UnknownMarket as error:
        error.hint = " ".join(filter(None, (nearest(code, MARKETS), error.hint)))
        raise


def provider_of(name: str, spec: MarketSpec | None = None) -> str:
    """The registry name of a provider, which serves `spec`.

    Raises:
        UnknownProvider: There is none, or it does not serve that market.
    """
    from vprism_pipelines.providers import registry
    from vprism_pipelines.serving.asking import nearest

    known = name.strip().lower()
    try:
        entry = registry.entry(known)
    except UnknownProvider as error:
        error.hint = " ".join(filter(None, (nearest(name, registry.PROVIDERS), error.hint)))
        raise
    if spec and spec.code not in entry.markets:
        raise UnknownProvider(
            f"{known} does not serve the {spec.code} market",
            hint=f"use one of: {', '.join(registry.for_market(spec.code))}",
            provider=known,
        )
    return known


def symbols_of(raw: Sequence[str], market: str | None) -> tuple[MarketSpec, list[str]]:
    """Canonical symbols of one market. Without `market` the symbols may tell it; if they cannot, it is `us`.

    Raises:
        UnknownSymbol: A spelling cannot be resolved.
        InvalidInput: They are of several markets.
    """
    from vprism_pipelines.market.spec import MARKETS, US
    from vprism_pipelines.market.symbols import resolve, resolve_strict

    named = market_of(market) if market else None
    prefixes = {found.split(":")[0] for text in raw if (found := resolve(text).symbol)} if not named else set()
    if len(prefixes) > 1:
        raise InvalidInput(
            f"these symbols are of several markets: {', '.join(sorted(prefixes))}", hint="ask for one market at a time"
        )
    spec = named or next((spec for spec in MARKETS.values() if spec.prefix in prefixes), US)
    return spec, [resolve_strict(text, market=spec.prefix) for text in raw]


def offered(symbols: Sequence[str], capabilities: Capabilities) -> None:
    """Refuse symbols outside a provider's closed universe.

    Raises:
        UnknownSymbol: A symbol is not in it; the hint names the nearest.
    """
    from vprism_pipelines.serving.asking import nearest

    codes = [known.rpartition(":")[2] for known in capabilities.universe]
    for symbol in symbols:
        if capabilities.universe and symbol not in capabilities.universe:
            near = nearest(symbol.rpartition(":")[2], codes)
            raise UnknownSymbol(
                f"{capabilities.name} has no {symbol}",
                hint=f"{near} it has {', '.join(codes)}".strip(),
                provider=capabilities.name,
                symbol=symbol,
            )
