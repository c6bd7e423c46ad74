"""`vprism providers`: whom the warehouse can ask, and whether they answer."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vprism_pipelines.errors import InvalidInput, NoData, VprismError
from vprism_pipelines.serving.cli.arguments import offered, provider_of, symbols_of
from vprism_pipelines.serving.cli.render import Answer
from vprism_pipelines.serving.cli.session import Session, command, group

if TYPE_CHECKING:
    from vprism_pipelines.providers.base import Payload, Provider, Quota, Request
    from vprism_pipelines.settings import Settings
    from vprism_pipelines.warehouse.house import House

_PROBE = timedelta(days=10)  # holds a session whatever the holidays


def add_to(root: typer.Typer) -> None:
    """Add the group to the root."""
    commands = group(root, "providers", "Whom the warehouse can ask.")
    command(commands, "list")(list_)
    command(commands, "test")(probe)


def list_(session: Session) -> Answer:
    """What providers offer, their quotas and keys.

    Whether a key is present is said, never the key.
    """
    import polars as pl

    from vprism_pipelines.providers import registry

    house = session.house
    rows = []
    for name, entry in registry.PROVIDERS.items():
        offer = house.parser(name).capabilities()
        rows.append(
            {
                "provider": name,
                "title": offer.title,
                "markets": list(offer.markets),
                "assets": list(offer.asset_types),
                "datasets": list(offer.datasets),
                "price_basis": offer.price_basis,
                "quota": _quota(offer.quota),
                "network": entry.network,
                "synthetic": entry.synthetic,
                "key_needed": offer.needs_key,
                "key_present": _has_key(house.settings, offer.needs_key) if offer.needs_key else None,
                "history": offer.history,
                "licence": offer.licence,
            }
        )
    return Answer(pl.DataFrame(rows, schema_overrides={"key_needed": pl.String, "key_present": pl.Boolean}))


def probe(
    session: Session,
    name: Annotated[str, typer.Argument(help="The provider.")],
    symbol: Annotated[str | None, typer.Option(help="What to ask for. [default: a well-known symbol]")] = None,
    market: Annotated[str | None, typer.Option(help="Market of the symbol. [default: the provider's first]")] = None,
) -> Answer:
    """Send one small request and tell how it went.

    Nothing is archived. A failure exits with the status of its error.
    """
    import asyncio

    import polars as pl

    from vprism_pipelines.providers import registry

    house = session.house
    known = provider_of(name)
    provider = house.parser(known)
    spec, (wanted,) = symbols_of(
        [symbol or _familiar(provider)], market or (None if symbol else provider_market(known))
    )
    provider_of(known, spec)
    offered([wanted], provider.capabilities())
    span, last = provider.capabilities().span, spec.today(house.clock())
    last = min(last, span[1]) if span else last
    requests = provider.plan(spec.code, registry.entry(known).dataset, [wanted], last - _PROBE, last, house.clock())
    if not requests:
        raise InvalidInput(f"{known} cannot be asked for {wanted}", hint="name another symbol", provider=known)
    payload = asyncio.run(_ask(house, known, requests[0]))
    row: dict[str, Any] = {
        "provider": known,
        "symbol": wanted,
        "status": payload.status,
        "latency_ms": round(payload.latency_ms, 1),
        "bytes": len(payload.body),
    }
    try:
        parsed = provider.parse(payload)
        bars = parsed.frames.get("bars")
        if bars is None or bars.is_empty():
            raise NoData(f"{known} answered without a bar", hint="name another symbol", provider=known)
    except VprismError as error:
        row |= {"outcome": error.code, "rows": 0, "newest": None}
        return Answer(pl.DataFrame([row], schema_overrides={"newest": pl.Date}), errors=(error,))
    row |= {"outcome": "OK", "rows": parsed.rows, "newest": bars["session"].max()}
    return Answer(pl.DataFrame([row]))


def provider_market(name: str) -> str:
    """The first market a provider serves."""
    from vprism_pipelines.providers import registry

    return registry.entry(name).markets[0]


def _familiar(provider: Provider) -> str:
    """A symbol the provider should know."""
    from vprism_pipelines.market.spec import market

    offer = provider.capabilities()
    spec = market(provider_market(provider.name))
    return next(iter((*offer.universe, *spec.universe, spec.benchmark or "")))


async def _ask(house: House, name: str, request: Request) -> Payload:
    async with house.provider(name) as provider:
        return await provider.fetch(request)


def _quota(quota: Quota) -> str:
    limits = {"{}/min": quota.per_minute, "bursts of {}": quota.burst, "{}/day": quota.per_day}
    said = [text.format(limit) for text, limit in limits.items() if limit is not None]
    return ", ".join([*said, f"{quota.concurrency} at a time"])


def _has_key(settings: Settings, variable: str) -> bool:
    """Whether the secret of an environment variable is set; never its value."""
    for name, field in type(settings).model_fields.items():
        if field.validation_alias == variable:
            secret = getattr(settings, name)
            return bool(secret and secret.get_secret_value())
    return False
