"""Numbering rules: which codes exist in each market and what they are, as data.

A rule accepts a code by its pattern and says its canonical form. Lower priority numbers win; rules of equal priority
that read one code as two instruments make it ambiguous. `rule_id` is stored in the warehouse and never changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

# How a rule counts when nobody named the asset: it resolves, it makes the code ambiguous, or it stays out.
Implied = Literal["yes", "doubt", "no"]
CodeOf = Callable[[re.Match[str]], str | None]
CodeText = Callable[[str], str]


def _whole(match: re.Match[str]) -> str:
    return match[0]


@dataclass(frozen=True, slots=True)
class Rule:
    """One range of codes.

    Attributes:
        rule_id: Stable name.
        market: Canonical market prefix.
        assets: What the codes are; several when the shape cannot tell them apart, and then the first is meant
            unless the caller knows better.
        pattern: What the whole code must look like.
        exchange: Where the codes are listed, in CN where it is part of the identifier.
        code: The canonical code of a match; None refuses it.
        implied: How the rule counts when nobody named the asset.
        excludes: Whether a code of this range cannot be of another asset class (`ASSET_CONFLICT` rather than
            `PATTERN` when one is asked for).
    """

    rule_id: str
    market: str
    assets: tuple[str, ...]
    pattern: re.Pattern[str]
    exchange: str | None = None
    code: CodeOf = _whole
    priority: int = 50
    implied: Implied = "yes"
    excludes: bool = True

    def read(self, code: str) -> Reading | None:
        """What the code is by this rule; None when it is not in its range."""
        match = self.pattern.fullmatch(code)
        canonical = self.code(match) if match else None
        return None if canonical is None else Reading(self, canonical)


@dataclass(frozen=True, slots=True)
class Reading:
    """A code as one rule understands it."""

    rule: Rule
    code: str

    def symbol(self, asset: str | None) -> str:
        """The canonical symbol if the caller means `asset`, or of the rule's default asset."""
        return f"{self.rule.market}:{asset or self.rule.assets[0]}:{self.code}"


# --- Mainland China: six digits; the exchange is part of the identifier because the digits collide ------------------

# A fund sold over the counter may share its number with a share, never with a listed fund: that is the same fund.
_NOT_OTC = r"(?!5(?:0[01268]|1[0-8]|[2356]\d|8[89])|1(?:5[09]|6\d|8[04])|60[0135]|900|30[0-2])"


def _cn(rule_id: str, exchange: str, asset: str, ranges: str, implied: Implied = "yes", excludes: bool = True) -> Rule:
    return Rule(
        rule_id,
        "CN",
        (asset,),
        re.compile(ranges),
        exchange,
        lambda match: f"{exchange}{match[0]}",
        implied=implied,
        excludes=excludes,
    )


_CN_RULES = (
    _cn("cn.stock.sh", "SH", "STOCK", r"(?:60[0135]|68[89]|900)\d{3}"),
    _cn("cn.stock.sz", "SZ", "STOCK", r"(?:00[0-3]|30[0-2]|200)\d{3}"),
    _cn("cn.stock.bj", "BJ", "STOCK", r"(?:920\d|43\d\d|8[378]\d\d)\d\d"),
    _cn("cn.etf.sh", "SH", "ETF", r"5(?:1[0-8]|[2356]\d|8[89])\d{3}"),
    _cn("cn.etf.sz", "SZ", "ETF", r"159\d{3}"),
    _cn("cn.fund.sh", "SH", "FUND", r"50[01268]\d{3}"),
    _cn("cn.fund.sz", "SZ", "FUND", r"1(?:50|6\d|8[04])\d{3}"),
    _cn("cn.convertible.sh", "SH", "CONVERTIBLE_BOND", r"11[0138]\d{3}"),
    _cn("cn.convertible.sz", "SZ", "CONVERTIBLE_BOND", r"12[378]\d{3}"),
    # Index numbers are also fund numbers, so they are no evidence about what else a code may be.
    _cn("cn.index.sh", "SH", "INDEX", r"000\d{3}", excludes=False),
    _cn("cn.index.sz", "SZ", "INDEX", r"399\d{3}", excludes=False),
    _cn("cn.index.bj", "BJ", "INDEX", r"899\d{3}", excludes=False),
    _cn("cn.index.csi", "CSI", "INDEX", r"93[0-2]\d{3}", excludes=False),
    _cn("cn.fund.otc", "OF", "FUND", _NOT_OTC + r"\d{6}", implied="no", excludes=False),
)

# --- Hong Kong: up to five digits, stored zero-padded ----------------------------------------------------------------

_HK_ETF = r"(?:0|8)(?:28[0-4]|3[01]\d)\d"
_HK_WARRANT = r"[12]\d{4}|4[7-9]\d{3}|[56]\d{4}"
_HK_RULES = (
    Rule("hk.warrant", "HK", ("WARRANT",), re.compile(_HK_WARRANT)),
    Rule("hk.etf", "HK", ("ETF",), re.compile(_HK_ETF)),
    Rule("hk.share", "HK", ("STOCK", "ETF"), re.compile(rf"(?!00000|{_HK_ETF}|{_HK_WARRANT})\d{{5}}")),
)

# --- United States: a root of up to five letters and, after any separator, what kind of line it is -------------------

_ROOT = r"([A-Z]{1,5})"
_SEP = r"[.\-/_ ]"
_SERIES = rf"{_SEP}?([A-Z])"
# `-PR` is series R of a vendor that writes `-P` for preferred; only `.PR` and ` PR` are the word itself.
_PREFERRED = rf"{_ROOT}(?:[. ]PR(?:{_SERIES})?|[-/_]PR{_SERIES}|(?:{_SEP}P|\^)(?:{_SERIES})?)"


def _line(kind: str = "") -> CodeOf:
    """Root, kind of line and series, joined by dots; whichever of them there are."""

    def code(match: re.Match[str]) -> str:
        root, *series = match.groups()
        return ".".join(part for part in (root, kind, *series) if part)

    return code


_US_RULES = (
    Rule("us.share", "US", ("STOCK", "ETF", "FUND"), re.compile(_ROOT)),
    # The fifth letter X is what Nasdaq gives to mutual funds.
    Rule("us.fund", "US", ("FUND",), re.compile(r"[A-Z]{4}X"), priority=40, excludes=False),
    Rule("us.class", "US", ("STOCK",), re.compile(rf"{_ROOT}{_SEP}([A-OQSTV-Z])"), code=_line()),
    Rule("us.preferred", "US", ("STOCK",), re.compile(_PREFERRED), code=_line("PR")),
    Rule("us.unit", "US", ("STOCK",), re.compile(rf"{_ROOT}{_SEP}UN?"), code=_line("U")),
    Rule("us.right", "US", ("STOCK",), re.compile(rf"{_ROOT}{_SEP}RT?"), code=_line("R")),
    Rule("us.warrant", "US", ("WARRANT",), re.compile(rf"{_ROOT}{_SEP}W[ST](?:{_SERIES})?"), code=_line("WS")),
)

# --- Vietnam ---------------------------------------------------------------------------------------------------------

# KRX writes the underlying, the year on a cycle of thirty characters and the month in one character each.
KRX_ROOTS: Mapping[str, str] = MappingProxyType({"I1": "VN30", "I2": "VN100", "B5": "GB05", "BA": "GB10"})
_KRX_YEARS = "0123456789ABCDEFGHJKLMNPQRSTVW"
_KRX_MONTHS = "123456789ABC"
_KRX_EPOCH = 2010
# One turn of the cycle, from the year the first Vietnamese futures were listed.
_FIRST_YEAR = 2017

_ROOT_NAMES = "|".join(KRX_ROOTS.values())
_CONTRACT = re.compile(rf"(?P<root>{_ROOT_NAMES})F(?P<year>\d\d)(?P<month>0[1-9]|1[0-2])")
_KRX = re.compile(rf"41(?P<root>{'|'.join(KRX_ROOTS)})(?P<year>[{_KRX_YEARS}])(?P<month>[{_KRX_MONTHS}])000")


def _contract(match: re.Match[str]) -> str | None:
    year = 2000 + int(match["year"])
    return match[0] if _FIRST_YEAR <= year < _FIRST_YEAR + len(_KRX_YEARS) else None


def _from_krx(match: re.Match[str]) -> str:
    turn = _KRX_EPOCH + _KRX_YEARS.index(match["year"]) - _FIRST_YEAR
    year = _FIRST_YEAR + turn % len(_KRX_YEARS)
    return f"{KRX_ROOTS[match['root']]}F{year % 100:02d}{_KRX_MONTHS.index(match['month']) + 1:02d}"


def krx_code(contract: str) -> str | None:
    """The KRX code of a dated futures contract (`VN30F2507` -> `41I1F7000`); None for anything else."""
    match = _CONTRACT.fullmatch(contract)
    if match is None:
        return None
    root = next(key for key, name in KRX_ROOTS.items() if name == match["root"])
    year = _KRX_YEARS[(2000 + int(match["year"]) - _KRX_EPOCH) % len(_KRX_YEARS)]
    return f"41{root}{year}{_KRX_MONTHS[int(match['month']) - 1]}000"


_TICKER = r"(?!\d{3})[A-Z0-9]{3}"
_VN_RULES = (
    Rule("vn.stock", "VN", ("STOCK",), re.compile(_TICKER)),
    Rule("vn.etf", "VN", ("ETF",), re.compile(r"FUE[A-Z0-9]{5}|E1[A-Z0-9]{6}")),
    Rule("vn.fund", "VN", ("FUND",), re.compile(r"FUC[A-Z0-9]{5}")),
    # C, the underlying, the year of issue (the first were listed in 2019) and a running number.
    Rule("vn.warrant", "VN", ("WARRANT",), re.compile(rf"C{_TICKER}(?:19|[2-4]\d)(?!00)\d\d")),
    Rule("vn.futures.contract", "VN", ("FUTURES",), _CONTRACT, code=_contract),
    Rule("vn.futures.rolling", "VN", ("FUTURES",), re.compile(rf"(?:{_ROOT_NAMES})F[12][MQ]")),
    Rule("vn.futures.krx", "VN", ("FUTURES",), _KRX, code=_from_krx),
    Rule("vn.bond", "VN", ("BOND",), re.compile(r"[A-Z]{3}\d{6}")),
)

RULES: Mapping[str, tuple[Rule, ...]] = MappingProxyType(
    {"CN": _CN_RULES, "HK": _HK_RULES, "US": _US_RULES, "VN": _VN_RULES}
)

# What is done to a bare code before the rules read it: spreadsheets eat the leading zeros of Hong Kong codes.
BARE: Mapping[str, CodeText] = MappingProxyType(
    {"HK": lambda code: code.zfill(5) if code.isdigit() and len(code) <= 5 else code}
)
