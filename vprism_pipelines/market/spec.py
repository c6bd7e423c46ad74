"""What a market is, as data: one literal per market, and nothing else in the code names a market."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from types import MappingProxyType
from zoneinfo import ZoneInfo

from vprism_pipelines.errors import UnknownMarket


@dataclass(frozen=True, slots=True)
class Exchange:
    """A venue of a market.

    Attributes:
        code: The name people use (`HOSE`).
        mic: ISO 10383 market identifier code.
        calendar: Name of the trading calendar in `market.calendars`.
        aliases: Spellings providers use for it.
    """

    code: str
    mic: str
    calendar: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MarketSpec:
    """Everything a pipeline needs to know about one market.

    Attributes:
        code: Lower-case name used in asset keys and on the command line (`us`).
        prefix: First part of canonical symbols (`US`).
        timezone: IANA zone of the exchanges.
        calendar: The market's main calendar; exchanges may differ.
        currency: ISO 4217 code of ordinary quotes.
        exchanges: Venues, keyed by code.
        settle: Time after the close until a session's bar may be believed.
        refresh_cron: When the scheduled refresh runs, in the market's zone: the close plus the settle time.
        first_session: No session before this date is known to the calendars.
        embedded_provider: The provider that works without network or keys.
        providers: Network and embedded providers by rank, best first. The rank breaks ties between candidates.
        universe: Symbols asked for when nobody configured any.
        annualisation: Sessions per year used to annualise volatility.
        benchmark: Canonical symbol that beta is measured against.
    """

    code: str
    prefix: str
    name: str
    timezone: str
    calendar: str
    currency: str
    exchanges: Mapping[str, Exchange]
    settle: timedelta
    refresh_cron: str
    first_session: date
    embedded_provider: str
    providers: tuple[str, ...]
    universe: tuple[str, ...] = ()
    annualisation: int = 252
    benchmark: str | None = None
    notes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    def today(self, now: datetime) -> date:
        """The exchange's calendar date at `now` (an aware datetime)."""
        return now.astimezone(self.zone).date()

    def rank(self, provider: str) -> int:
        """Position of a provider in this market's order of trust; unknown ones come last.

        Another parser of a provider (`name@version`) stands where the provider does.
        """
        name = provider.partition("@")[0]
        return self.providers.index(name) if name in self.providers else len(self.providers)


US = MarketSpec(
    code="us",
    prefix="US",
    name="United States",
    timezone="America/New_York",
    calendar="XNYS",
    currency="USD",
    exchanges=MappingProxyType(
        {
            "NYSE": Exchange("NYSE", "XNYS", "XNYS", ("NYQ", "N", "NYSE")),
            "NASDAQ": Exchange("NASDAQ", "XNAS", "XNYS", ("NMS", "NGM", "NCM", "Q", "NASDAQ")),
            "ARCA": Exchange("ARCA", "ARCX", "XNYS", ("PCX", "P", "NYSE ARCA")),
        }
    ),
    settle=timedelta(minutes=30),
    refresh_cron="30 16 * * 1-5",
    first_session=date(1990, 1, 2),
    embedded_provider="sample",
    providers=("yahoo", "alpha_vantage", "nasdaq_data_link", "files", "sample"),
    universe=("AAPL", "GOOG", "IBM", "META", "MSFT"),
    benchmark="US:ETF:SPY",
)

VN = MarketSpec(
    code="vn",
    prefix="VN",
    name="Vietnam",
    timezone="Asia/Ho_Chi_Minh",
    calendar="XSTC",
    currency="VND",
    exchanges=MappingProxyType(
        {
            "HOSE": Exchange("HOSE", "XSTC", "XSTC", ("HSX", "HOSE", "STO")),
            "HNX": Exchange("HNX", "HSTC", "HSTC", ("HNX", "HASTC", "STX")),
            "UPCOM": Exchange("UPCOM", "XHNX", "HSTC", ("UPCOM", "UPX")),
        }
    ),
    settle=timedelta(minutes=30),
    refresh_cron="30 15 * * 1-5",
    first_session=date(2000, 7, 28),
    embedded_provider="simulated",
    providers=("kbs", "vci", "files", "simulated", "simulated_b"),
    annualisation=252,
    benchmark="VN:INDEX:VNINDEX",
)

CN = MarketSpec(
    code="cn",
    prefix="CN",
    name="Mainland China",
    timezone="Asia/Shanghai",
    calendar="XSHG",
    currency="CNY",
    exchanges=MappingProxyType(
        {
            "SSE": Exchange("SSE", "XSHG", "XSHG", ("SH", "SSE", "SHSE")),
            "SZSE": Exchange("SZSE", "XSHE", "XSHG", ("SZ", "SZSE")),
            "BSE": Exchange("BSE", "XBEI", "XSHG", ("BJ", "BSE")),
        }
    ),
    settle=timedelta(minutes=30),
    refresh_cron="30 15 * * 1-5",
    first_session=date(1990, 12, 19),
    embedded_provider="files",
    providers=("tencent", "eastmoney", "sina", "files"),
    benchmark="CN:INDEX:SH000300",
)

HK = MarketSpec(
    code="hk",
    prefix="HK",
    name="Hong Kong",
    timezone="Asia/Hong_Kong",
    calendar="XHKG",
    currency="HKD",
    exchanges=MappingProxyType({"HKEX": Exchange("HKEX", "XHKG", "XHKG", ("HK", "HKEX", "HKG", "SEHK"))}),
    settle=timedelta(minutes=30),
    refresh_cron="40 16 * * 1-5",
    first_session=date(1990, 1, 2),
    embedded_provider="files",
    providers=("yahoo", "tencent", "eastmoney", "files"),
    benchmark="HK:INDEX:HSI",
)

MARKETS: Mapping[str, MarketSpec] = MappingProxyType({spec.code: spec for spec in (US, VN, CN, HK)})


def market_of(symbol: str) -> MarketSpec:
    """The market of a canonical symbol."""
    prefix = symbol.partition(":")[0]
    return next(spec for spec in MARKETS.values() if spec.prefix == prefix)


def market(code: str) -> MarketSpec:
    """The market named `code`, in any case.

    Raises:
        UnknownMarket: There is no such market.
    """
    try:
        return MARKETS[code.strip().lower()]
    except KeyError:
        raise UnknownMarket(
            f"there is no market {code!r}", hint=f"use one of: {', '.join(sorted(MARKETS))}", market=code
        ) from None
