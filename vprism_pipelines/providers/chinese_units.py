"""Units of Chinese and Hong Kong feeds, by board: what one unit of volume is, and what currency a line is quoted in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from vprism_pipelines.market.symbols import resolve

__all__ = ["LOT", "currency", "volume_unit"]

LOT: Final = 100.0
"""Shares in a lot (手); a lot of bonds is ten."""

_BOND_LOT: Final = 10.0
_MAINLAND: Final = re.compile(r"(sh|sz|bj|[012]\.)\d")
_STAR: Final = re.compile(r"CN:STOCK:SH68[89]\d{3}")
# Lines quoted in another currency than their market.
_CURRENCIES: Mapping[re.Pattern[str], str] = MappingProxyType(
    {
        re.compile(r"CN:STOCK:SH900\d{3}"): "USD",
        re.compile(r"CN:STOCK:SZ20\d{4}"): "HKD",
        re.compile(r"HK:[A-Z]+:8\d{4}"): "CNY",
        re.compile(r"CN:.*"): "CNY",
        re.compile(r"HK:.*"): "HKD",
        re.compile(r"US:.*"): "USD",
    }
)


def volume_unit(spelling: str, *, star: float = LOT) -> float:
    """Shares (or bonds) per unit of volume, for feeds that count mainland volume in lots.

    Args:
        spelling: The line as the feed spells it, with its market (`sh600519`, `1.600519`, `hk00700`).
        star: What the feed counts on the STAR market.
    """
    symbol = resolve(spelling).symbol or ""
    market, _, rest = symbol.partition(":")
    if market != "CN" and (market or not _MAINLAND.match(spelling)):
        return 1.0
    if rest.startswith(("CONVERTIBLE_BOND", "BOND")):
        return _BOND_LOT
    return star if _STAR.fullmatch(symbol) else LOT


def currency(spelling: str) -> str | None:
    """ISO 4217 code of a line's quotes; None when the line is unknown."""
    symbol = resolve(spelling).symbol or ""
    return next((code for pattern, code in _CURRENCIES.items() if pattern.fullmatch(symbol)), None)
