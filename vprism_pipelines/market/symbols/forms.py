"""Qualified spellings: how a vendor attaches a market or an exchange to a code (`600519.SH`, `hk00700`, `1.000001`).

A form is a pattern with the groups `mark` and `code`; its table says what each mark means. Forms are tried in
order of priority, and a code that is still qualified is read again (`VN:HOSE:FPT`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from vprism_pipelines.market.spec import MARKETS


@dataclass(frozen=True, slots=True)
class Marker:
    """What a qualifier says about the instrument.

    Attributes:
        market: Canonical market prefix; None when the qualifier names none.
        exchanges: Exchanges the code may belong to, in CN where they are part of the identifier; empty: any.
        asset: Asset class when the qualifier implies one.
        rule_id: The form that read it.
        closed: A code that the market's rules accept as it stands is not read for further qualifiers.
    """

    market: str | None
    exchanges: tuple[str, ...] = ()
    asset: str | None = None
    rule_id: str = ""
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Form:
    """One spelling convention."""

    rule_id: str
    priority: int
    pattern: re.Pattern[str]
    marks: Mapping[str, Marker]
    closed: bool = False

    def read(self, text: str) -> tuple[Marker, str] | None:
        """The marker and the remaining code, or None when the text is not of this form."""
        match = self.pattern.fullmatch(text)
        if match is None or (marker := self.marks.get(match["mark"])) is None:
            return None
        return replace(marker, rule_id=self.rule_id, closed=self.closed), match["code"].strip()


def _marks(market: str, spellings: str, *exchanges: str, asset: str | None = None) -> dict[str, Marker]:
    return {name: Marker(market, exchanges, asset) for name in spellings.split("|")}


MARKET_MARKS = {spec.prefix: Marker(spec.prefix) for spec in MARKETS.values()}

_CN = (
    _marks("CN", "SH|SHSE", "SH")
    | _marks("CN", "SZ|SZSE", "SZ")
    | _marks("CN", "BJ|BJSE", "BJ")
    | _marks("CN", "OF", "OF", asset="FUND")
    | _marks("CN", "CSI", "CSI", asset="INDEX")
)
_MICS = (
    _marks("CN", "XSHG", "SH")
    | _marks("CN", "XSHE", "SZ")
    | _marks("CN", "XBEI", "BJ")
    | _marks("HK", "XHKG")
    | _marks("US", "XNYS|XNAS|ARCX|XASE")
    | _marks("VN", "XSTC|HSTC|XHNX")
)
_EXCHANGES = (
    MARKET_MARKS
    | _CN
    | _MICS
    | _marks("CN", "SSE|SHA", "SH")
    | _marks("CN", "SHE", "SZ")
    | _marks("CN", "BSE", "BJ")
    | _marks("HK", "HKEX|HKG|SEHK")
    | _marks("US", "NYSE|NASDAQ|AMEX|ARCA|NYSEARCA|NYSE ARCA|BATS|CBOE|OTC")
    | _marks("VN", "HOSE|HSX|HNX|HASTC|UPCOM|STO|STX|UPX")
)
_SUFFIXES = (
    MARKET_MARKS
    | _CN
    | _MICS
    | _marks("CN", "SS|SHH", "SH")
    | _marks("CN", "SHZ", "SZ")
    | _marks("US", "OQ")
    | _marks("VN", "HM|HN|HNO")
)
_SECIDS = (
    _marks("CN", "1", "SH")
    | _marks("CN", "0", "SZ", "BJ")
    | _marks("CN", "2", "CSI", asset="INDEX")
    | _marks("HK", "116")
    | _marks("US", "105|106|107")
)
_BLOOMBERG = (
    _marks("VN", "VN|VM")
    | _marks("US", "US|UN|UQ|UW|UA|UP")
    | _marks("HK", "HK")
    | _marks("CN", "CH")
    | _marks("CN", "CG", "SH")
    | _marks("CN", "CS", "SZ")
)


def _form(rule_id: str, priority: int, pattern: str, marks: Mapping[str, Marker], closed: bool = False) -> Form:
    return Form(rule_id, priority, re.compile(pattern), marks, closed)


# Tencent's US lines, with or without the exchange. The one spelling whose case counts: `USB.N` is another matter.
LOWER_US = _form(
    "form.lower_us",
    0,
    r"(?P<mark>us)(?P<code>[A-Z]{1,5}(?:\.[A-MO-Z])?)(?:\.(?:N|OQ|AM|PS|PK))?",
    {"us": Marker("US")},
)

# Where a mark could also begin or end a bare code, the pattern demands more of the rest: no bare code of any market
# is read as a qualified one, but `US.A`, which is Futu's Agilent and not a class share of `US`.
FORMS: tuple[Form, ...] = tuple(
    sorted(
        (
            _form("form.market_prefix", 10, r"(?P<mark>[A-Z]{2}):(?P<code>.+)", MARKET_MARKS, closed=True),
            _form("form.exchange_prefix", 20, r"(?P<mark>[A-Z ]{2,9}):(?P<code>.+)", _EXCHANGES),
            _form("form.venue_suffix", 30, r"(?P<code>[^:]+):(?P<mark>BAT)", _marks("US", "BAT")),
            _form("form.dataset", 40, r"(?P<mark>WIKI|EOD)/(?P<code>.+)", _marks("US", "WIKI|EOD")),
            _form("form.secid", 50, r"(?P<mark>[0-2])\.(?P<code>\d{6})", _SECIDS),
            _form("form.secid_hk", 50, r"(?P<mark>116)\.(?P<code>\d{5})", _SECIDS),
            _form("form.secid_us", 50, r"(?P<mark>10[5-7])\.(?P<code>[A-Z][A-Z_.]*)", _SECIDS),
            _form("form.dotted_prefix_cn", 60, r"(?P<mark>SH|SHSE|SZ|SZSE|BJ|BJSE|OF|CSI)\.(?P<code>\d{6})", _CN),
            _form("form.dotted_prefix_hk", 60, r"(?P<mark>HK)\.(?P<code>\d{1,5})", MARKET_MARKS),
            _form("form.dotted_prefix_us", 60, r"(?P<mark>US)\.(?P<code>[A-Z].*)", MARKET_MARKS),
            _form("form.suffix", 70, r"(?P<code>.+)\.(?P<mark>[A-Z]{2,4})", _SUFFIXES),
            _form("form.glued_prefix_cn", 80, r"(?P<mark>SH|SZ|BJ|OF|CSI)(?P<code>\d{6})", _CN),
            _form("form.glued_prefix_hk", 80, r"(?P<mark>HK)(?P<code>\d{3,5})", MARKET_MARKS),
            _form("form.glued_prefix_us", 80, r"(?P<mark>US)(?P<code>[A-Z]{4,5})", MARKET_MARKS),
            _form("form.bloomberg", 90, r"(?P<code>.+) (?P<mark>[A-Z]{2})(?: EQUITY)?", _BLOOMBERG),
        ),
        key=lambda form: form.priority,
    )
)
