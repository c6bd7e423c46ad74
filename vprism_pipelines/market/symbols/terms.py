"""The words of symbol resolution: asset classes, failure codes, a parsed identifier and what `resolve` answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

Asset = Literal["STOCK", "ETF", "FUND", "INDEX", "FUTURES", "WARRANT", "BOND", "CONVERTIBLE_BOND"]
ASSETS: tuple[str, ...] = get_args(Asset)

# What providers call the same things; anything else must be said in our own words.
ASSET_SPELLINGS: Mapping[str, str] = MappingProxyType(
    {asset: asset for asset in ASSETS}
    | {
        "EQUITY": "STOCK",
        "COMMON STOCK": "STOCK",
        "MUTUALFUND": "FUND",
        "FUTURE": "FUTURES",
        "CW": "WARRANT",
        "CONVERTIBLE BOND": "CONVERTIBLE_BOND",
    }
)

Status = Literal["resolved", "unresolved"]
Code = Literal[
    "EMPTY",
    "MARKET_REQUIRED",
    "MARKET_UNSUPPORTED",
    "MARKET_CONFLICT",
    "ASSET_UNSUPPORTED",
    "ASSET_CONFLICT",
    "AMBIGUOUS_ASSET",
    "EXCHANGE_CONFLICT",
    "PATTERN",
]

ADVICE: Mapping[Code, str] = MappingProxyType(
    {
        "EMPTY": "give a symbol",
        "MARKET_REQUIRED": "name the market (cn, hk, us, vn) or qualify the symbol, as in AAPL.US, FPT.VN, 600519.SH",
        "MARKET_UNSUPPORTED": "use one of the markets cn, hk, us, vn",
        "MARKET_CONFLICT": "drop the market or the qualifier: they name different markets",
        "ASSET_UNSUPPORTED": f"use one of the assets {', '.join(ASSETS)}",
        "ASSET_CONFLICT": "drop the asset, or ask for the one the code belongs to",
        "AMBIGUOUS_ASSET": "name the asset (stock, index, fund): the code means several instruments",
        "EXCHANGE_CONFLICT": "drop or correct the exchange: its own number ranges do not contain this code",
        "PATTERN": "check the code: no numbering rule of the market accepts it",
    }
)


@dataclass(frozen=True, slots=True)
class Canonical:
    """The three parts of `MARKET:ASSET:CODE`."""

    market: str
    asset: str
    code: str

    def __str__(self) -> str:
        return f"{self.market}:{self.asset}:{self.code}"


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a raw symbol turned out to be, or why it did not.

    Attributes:
        raw: The symbol as given.
        symbol: Canonical `MARKET:ASSET:CODE`; None when unresolved.
        status: Whether there is a `symbol`.
        code: Why there is none; None when resolved.
        rule_id: The rule that decided; None when unresolved.
        diagnostics: What was read and tried, in order; for a failure the last entry says what to do.
    """

    raw: str
    symbol: str | None
    status: Status
    code: Code | None
    rule_id: str | None
    diagnostics: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for jsonl output."""
        return {
            "raw": self.raw,
            "status": self.status,
            "symbol": self.symbol,
            "code": self.code,
            "rule_id": self.rule_id,
            "diagnostics": list(self.diagnostics),
        }


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """How often a resolution was remembered rather than worked out, since the process started."""

    hits: int
    misses: int
    size: int
    capacity: int

    @property
    def hit_rate(self) -> float:
        """Share of calls answered from memory; 0 before the first call."""
        calls = self.hits + self.misses
        return self.hits / calls if calls else 0.0
