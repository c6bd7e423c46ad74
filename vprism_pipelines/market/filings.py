"""How long a company may take to publish a period: the deadlines of each market, as dated rules.

They stand in where nobody declares when a report came out, so each is the longest that the rule grants anybody: who
counts on a report from its deadline on is late rather than clairvoyant. Extensions and late filers are beyond it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

import polars as pl

Period = Literal["Q", "H", "Q4", "Y"]
"""A quarter, the one that ends in June, the last one of a fiscal year, a fiscal year."""

_ALWAYS: Final = date(1900, 1, 1)


@dataclass(frozen=True, slots=True)
class Deadline:
    """At most `days` calendar days after a `period` that ends on `since` or later, in `market`."""

    market: str
    period: Period
    days: int
    source: str
    since: date = _ALWAYS


_SEC = "SEC Forms 10-Q and 10-K, general instructions A: non-accelerated filers"
_VN_2016 = "Circular 155/2015/TT-BTC, later 96/2020/TT-BTC, articles 10 to 14: consolidated statements"
_VN_2012 = "Circulars 09/2010 and 52/2012/TT-BTC: consolidated statements, with extension"
_CSRC = "CSRC Measures on Information Disclosure by Listed Companies: one, two and four months"
_HK_2010 = "HKEX Main Board rules 13.49(1) and (6), since the accounting periods of 2010"
_HK = "HKEX Main Board rules 13.49 before 2010: four months and three"

DEADLINES: Final[tuple[Deadline, ...]] = (
    Deadline("us", "Q", 45, _SEC),
    Deadline("us", "Q4", 90, _SEC),
    Deadline("us", "Y", 90, _SEC),
    Deadline("vn", "Q", 45, _VN_2012),
    Deadline("vn", "Q", 30, _VN_2016, date(2016, 1, 1)),
    Deadline("vn", "Y", 100, _VN_2012),
    Deadline("vn", "Y", 90, _VN_2016, date(2016, 1, 1)),
    Deadline("cn", "Q", 31, _CSRC),
    Deadline("cn", "H", 62, _CSRC),
    Deadline("cn", "Q4", 121, _CSRC),
    Deadline("cn", "Y", 121, _CSRC),
    # Nobody has to report quarters; who does may take as long as with the year.
    Deadline("hk", "Q", 123, _HK),
    Deadline("hk", "Q", 92, _HK_2010, date(2010, 12, 31)),
    Deadline("hk", "Y", 123, _HK),
    Deadline("hk", "Y", 92, _HK_2010, date(2010, 12, 31)),
)


def filed_by(market: str, kind: pl.Expr, end: pl.Expr, closes_year: pl.Expr) -> pl.Expr:
    """Last day on which the report of a period may come out.

    Args:
        market: Its code.
        kind: Q, Y, TTM (reported with its last quarter) or D (known when the day is over).
        end: Last day of the period.
        closes_year: Whether a fiscal year ends with it.

    Returns:
        Date; null for another kind.
    """
    quarter = kind.is_in(["Q", "TTM"])
    is_of = {
        "Y": kind == "Y",
        "Q4": quarter & closes_year,
        "H": quarter & (end.dt.month() == 6) & ~closes_year,
        "Q": quarter,
    }
    rules = [rule for rule in DEADLINES if rule.market == market]
    # The most particular period first, and of its rules the newest.
    rules.sort(key=lambda rule: (list(is_of).index(rule.period), -rule.since.toordinal()))
    days = pl.coalesce(
        pl.when(kind == "D").then(0),
        *(pl.when(is_of[rule.period] & (end >= rule.since)).then(rule.days) for rule in rules),
    )
    return end + pl.duration(days=days)
