"""Canonical symbols in a provider's own spelling: what a request must say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from vprism_pipelines.errors import UnknownProvider, UnknownSymbol
from vprism_pipelines.market.symbols.engine import parse_canonical
from vprism_pipelines.market.symbols.rules import krx_code
from vprism_pipelines.market.symbols.tables import provider_names
from vprism_pipelines.market.symbols.terms import Canonical

Speller = Callable[[Canonical], str | None]

_SHARES = frozenset({"STOCK", "ETF", "FUND"})
# KRX codes replaced the old ones when the exchange changed its trading system in May 2025.
_FIRST_KRX_MONTH = "2505"


def to_provider(symbol: str, provider: str) -> str:
    """A canonical symbol as a provider writes it (`US:STOCK:BRK.B` -> `BRK-B` for yahoo).

    Raises:
        UnknownSymbol: `symbol` is not canonical, or the provider has no spelling for it.
        UnknownProvider: There is no such provider.
    """
    spellers = _PROVIDERS.get(provider.strip().lower())
    if spellers is None:
        raise UnknownProvider(
            f"there is no provider {provider!r}", hint=f"use one of: {', '.join(_PROVIDERS)}", provider=provider
        )
    parts = parse_canonical(symbol)
    spelled = provider_names().get((symbol, provider.strip().lower()))
    if spelled is None and (speller := spellers.get(parts.market)):
        spelled = speller(parts)
    if spelled is None:
        raise UnknownSymbol(
            f"{provider} has no spelling for {symbol}",
            hint=f"ask another provider; {provider} covers {', '.join(spellers)}, and not every asset there",
            symbol=symbol,
            provider=provider,
        )
    return spelled


def _code(parts: Canonical) -> str:
    return parts.code


def _us(preferred: str, unit: str, right: str, warrant: str, series: str) -> Speller:
    """US lines: what a vendor writes for each kind of line but a class, and between the kind and its series."""
    kinds = {"PR": preferred, "U": unit, "R": right, "WS": warrant}

    def spell(parts: Canonical) -> str | None:
        root, *line = parts.code.split(".")
        if parts.asset not in _SHARES | {"WARRANT"}:
            return None
        if not line:
            return root
        kind, *rest = line
        return "".join((root, kinds.get(kind, f"-{kind}"), *(series + one for one in rest)))

    return spell


def _nasdaq_data_link(parts: Canonical) -> str | None:
    root, *line = parts.code.split(".")
    plain = parts.asset == "STOCK" and len("".join(line)) <= 1
    return "_".join((root, *line)) if plain else None


def _cn(prefixes: Mapping[str, str], suffixes: Mapping[str, str], assets: frozenset[str]) -> Speller:
    """CN codes: the exchange as a prefix or a suffix of the six digits."""

    def spell(parts: Canonical) -> str | None:
        exchange, digits = parts.code[:-6], parts.code[-6:]
        if parts.asset not in assets or not (exchange in prefixes or exchange in suffixes):
            return None
        return prefixes.get(exchange, "") + digits + suffixes.get(exchange, "")

    return spell


def _hk(prefix: str, suffix: str, width: int) -> Speller:
    def spell(parts: Canonical) -> str | None:
        if not parts.code.isdigit():
            return None
        return f"{prefix}{int(parts.code):0{width}d}{suffix}"

    return spell


def _yahoo_vn(parts: Canonical) -> str | None:
    return f"{parts.code}.VN" if parts.asset in _SHARES else None


def _vn(parts: Canonical) -> str | None:
    """Vietnamese brokers write plain codes, and KRX codes for contracts that expire under that system."""
    if parts.asset == "INDEX":
        return None
    krx = krx_code(parts.code)
    return krx if krx and parts.code[-4:] >= _FIRST_KRX_MONTH else parts.code


def _vci(parts: Canonical) -> str | None:
    return parts.code if parts.asset == "INDEX" else _vn(parts)


_LISTED = _SHARES | {"INDEX"}
_EVERY_CN = _LISTED | {"CONVERTIBLE_BOND"}
_YAHOO_CN = _cn({}, {"SH": ".SS", "SZ": ".SZ"}, _LISTED)
_GLUED_CN = _cn({"SH": "sh", "SZ": "sz", "BJ": "bj"}, {}, _EVERY_CN)
_YAHOO_US = _us("-P", "-UN", "-RT", "-WT", series="")

_PROVIDERS: Mapping[str, Mapping[str, Speller]] = MappingProxyType(
    {
        "yahoo": {"US": _YAHOO_US, "HK": _hk("", ".HK", 4), "CN": _YAHOO_CN, "VN": _yahoo_vn},
        "alpha_vantage": {
            "US": _us("-P", "-U", "-R", "-WS", series="-"),
            "CN": _cn({}, {"SH": ".SHH", "SZ": ".SHZ"}, _SHARES),
        },
        "nasdaq_data_link": {"US": _nasdaq_data_link},
        "tencent": {"CN": _GLUED_CN, "HK": _hk("hk", "", 5)},
        "sina": {"CN": _GLUED_CN},
        "eastmoney": {
            "CN": _cn({"SH": "1.", "SZ": "0.", "BJ": "0.", "CSI": "2."}, {}, _EVERY_CN),
            "HK": _hk("116.", "", 5),
        },
        "vci": {"VN": _vci},
        "kbs": {"VN": _vn},
        "tcbs": {"VN": _vn},
        "vndirect_finfo": {"VN": _vn},
        "sample": {"US": _code},
        "simulated": {"VN": _code},
        "files": {"CN": str, "HK": str, "US": str, "VN": str},
    }
)
