"""Which providers there are, by name; a provider's module is imported when it is first needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from vprism_pipelines.errors import UnknownProvider
from vprism_pipelines.providers.base import Dataset, Provider

if TYPE_CHECKING:
    from vprism_pipelines.providers.transport import Transport


@dataclass(frozen=True, slots=True)
class Entry:
    """A provider before it is loaded.

    Attributes:
        title: Name people know it by.
        where: `module:class` under this package.
        markets: Markets it has assets in.
        dataset: What its requests ask for; an answer may carry other datasets too.
        yields: Datasets its answers may carry.
        network: Its pulls leave this machine.
        synthetic: It invents its data.
        bulk: One answer holds a whole history: its raw asset has no partitions.
    """

    title: str
    where: str
    markets: tuple[str, ...]
    dataset: Dataset = "bars"
    yields: tuple[Dataset, ...] = ("bars", "actions")
    network: bool = True
    synthetic: bool = False
    bulk: bool = False


PROVIDERS: Mapping[str, Entry] = MappingProxyType(
    {
        "sample": Entry("Bundled US history", "sample:SampleProvider", ("us",), network=False, bulk=True),
        "yahoo": Entry("Yahoo Finance", "yahoo:YahooProvider", ("us",)),
    }
)


def entry(name: str) -> Entry:
    """The registry entry of a provider.

    Raises:
        UnknownProvider: There is no such provider.
    """
    try:
        return PROVIDERS[name.strip().lower()]
    except KeyError:
        raise UnknownProvider(
            f"there is no provider {name!r}", hint=f"use one of: {', '.join(sorted(PROVIDERS))}", provider=name
        ) from None


def for_market(market: str) -> list[str]:
    """Names of the providers that serve a market."""
    return [name for name, item in PROVIDERS.items() if market in item.markets]


def create(name: str, transport: Transport | None) -> Provider:
    """A provider, ready to plan, fetch through `transport`, and parse; without a transport it only parses."""
    module, _, attribute = entry(name).where.partition(":")
    provider: Provider = getattr(import_module(f"{__package__}.{module}"), attribute)(transport)
    return provider
