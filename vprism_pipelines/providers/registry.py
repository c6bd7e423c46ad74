"""Which providers there are, by name; a provider's module is imported when it is first needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from vprism_pipelines.errors import UnknownProvider
from vprism_pipelines.providers import installed
from vprism_pipelines.providers.base import Provider, Request
from vprism_pipelines.providers.entry import Entry

if TYPE_CHECKING:
    from vprism_pipelines.providers.transport import Transport
    from vprism_pipelines.settings import Settings


def utc_now() -> datetime:
    """The clock of production."""
    return datetime.now(UTC)


BUILT_IN: Mapping[str, Entry] = MappingProxyType(
    {
        "sample": Entry("Bundled US history", "sample:SampleProvider", ("us",), network=False, bulk=True),
        "files": Entry("Files of your own", "files:FilesProvider", ("us", "vn", "cn", "hk"), network=False, bulk=True),
        "alpha_vantage": Entry(
            "Alpha Vantage",
            "alpha_vantage:AlphaVantageProvider",
            ("us",),
            also=("actions",),
            beside=("instruments", "fundamentals"),
        ),
        "nasdaq_data_link": Entry("Nasdaq Data Link", "nasdaq_data_link:NasdaqDataLinkProvider", ("us",)),
        "tencent": Entry("Tencent", "tencent:TencentProvider", ("cn", "hk")),
        "sina": Entry("Sina", "sina:SinaProvider", ("cn",)),
        "eastmoney": Entry("Eastmoney", "eastmoney:EastmoneyProvider", ("cn", "hk")),
        "yahoo": Entry(
            "Yahoo Finance",
            "yahoo:YahooProvider",
            ("us", "hk", "cn"),
            beside=("instruments", "fundamentals", "quotes"),
        ),
        "simulated": Entry(
            "Simulated exchange, vendor A (synthetic)",
            "simulated:SimulatedProvider",
            ("vn",),
            network=False,
            synthetic=True,
        ),
        "simulated_b": Entry(
            "Simulated exchange, vendor B (synthetic)",
            "simulated:SimulatedBProvider",
            ("vn",),
            network=False,
            synthetic=True,
        ),
        "kbs": Entry(
            "KB Securities Vietnam through vnstock",
            "vnstock:KbsProvider",
            ("vn",),
            also=("instruments",),
            beside=("quotes", "ticks"),
            own_process=True,
        ),
        "vci": Entry(
            "Vietcap through vnstock",
            "vnstock:VciProvider",
            ("vn",),
            also=("actions", "instruments"),
            beside=("fundamentals", "quotes"),
            own_process=True,
        ),
        "tcbs": Entry("TCBS", "tcbs:TcbsProvider", ("vn",), also=("actions",), beside=("fundamentals",)),
        "vndirect_finfo": Entry("VNDirect", "vndirect:VndirectProvider", ("vn",)),
    }
)

_entries, ADDED = installed.providers(BUILT_IN)
PROVIDERS: Mapping[str, Entry] = MappingProxyType({**BUILT_IN, **_entries})
"""Those of plugins among them; `ADDED` says what became of each provider a plugin offers."""


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


def hosts() -> dict[str, tuple[str, ...]]:
    """Hosts that the providers of plugins may be asked at."""
    return {name: item.hosts for name, item in PROVIDERS.items() if item.hosts}


def for_market(market: str) -> list[str]:
    """Names of the providers that serve a market."""
    return [name for name, item in PROVIDERS.items() if market in item.markets]


def parser_of(request: Request, clock: Callable[[], datetime] = utc_now) -> Provider:
    """What reads an archived answer: the provider of its request, or the reader of files or of decisions.

    Raises:
        UnknownProvider: It came from a provider that is not installed.
    """
    if request.url.startswith("file:"):
        from vprism_pipelines.providers.files import FilesProvider

        return FilesProvider(name=request.provider, clock=clock)
    if request.url.startswith("decision:"):
        from vprism_pipelines.providers.detective import DetectiveProvider

        return DetectiveProvider(clock=clock)
    return create(request.provider, clock=clock)


def create(
    name: str,
    transport: Transport | None = None,
    *,
    settings: Settings | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> Provider:
    """A provider, ready to plan and parse, and to fetch when it is given the means.

    Args:
        name: Registry name.
        transport: The way out; None: it only plans and parses.
        settings: For a provider that fetches through a process of its own; None: it only plans and parses.
        clock: Stamps its payloads.
    """
    item = entry(name)
    module, _, attribute = item.where.partition(":")
    kind = getattr(import_module(f"{item.package}.{module}".removeprefix(".")), attribute)
    way = kind.process(settings) if item.own_process and settings else None if item.own_process else transport
    provider: Provider = kind(way, clock=clock)
    return provider
