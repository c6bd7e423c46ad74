"""The catalogue of window checks: what each computes, how grave it is, where it applies, and its thresholds as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from types import MappingProxyType

from vprism_pipelines.market.rule_tables import Row
from vprism_pipelines.quality.flags import BarFlag

__all__ = ["THRESHOLDS", "WINDOW_CHECKS", "Severity", "WindowCheck"]

ALL = ("us", "vn", "cn", "hk")
LIMITED = ("vn", "cn")  # exchanges with daily price limits


class Severity(StrEnum):
    """What happens to what a check finds."""

    QUARANTINE = "QUARANTINE"  # the bar is set aside with the check's name as reason
    FLAG = "FLAG"  # the bar is kept with a flag bit
    INFO = "INFO"  # counted


@dataclass(frozen=True, slots=True)
class WindowCheck:
    """A check of a bar among its neighbours; its column in `examine` is Boolean: true where it fires.

    Attributes:
        id: Number in the catalogue of checks.
        formula: What it computes.
        flag: `BarFlag` set where it fires.
        blocks: What it takes for the symbol or session to be blocked as a whole; empty: never.
        markets: Codes of the markets it applies to.
    """

    id: str
    name: str
    severity: Severity
    formula: str
    flag: int = 0
    blocks: str = ""
    markets: tuple[str, ...] = ALL


WINDOW_CHECKS: Mapping[str, WindowCheck] = MappingProxyType(
    {
        check.name: check
        for check in (
            WindowCheck(
                "W1",
                "price_band",
                Severity.QUARANTINE,
                "close beyond the dated price limits by more than a tick, and the next close beyond them on the other "
                "side; or the newest close above the ceiling",
                markets=LIMITED,
            ),
            WindowCheck(
                "W1",
                "band_breach",
                Severity.FLAG,
                "close beyond the limits by more than a tick, and it stays there: an event is missing",
                BarFlag.BAND_BREACH,
                markets=LIMITED,
            ),
            WindowCheck(
                "W14",
                "tick_lattice",
                Severity.QUARANTINE,
                "a price off the tick lattice of every exchange of the market, in a symbol whose prices are on it",
                markets=("vn",),  # elsewhere providers keep prices a thousandth off the tick
            ),
            WindowCheck(
                "W2",
                "vwap_bound",
                Severity.QUARANTINE,
                "value / volume outside [low, high] by more than a tick and the rounding of value",
                blocks="20 consecutive bars",
            ),
            WindowCheck(
                "W3",
                "unit_ratio",
                Severity.QUARANTINE,
                "value / (volume x close) outside [0.8, 1.25]",
                blocks="median of the symbol outside [0.9, 1.1]",
            ),
            WindowCheck(
                "W4",
                "return_z",
                Severity.FLAG,
                "|log return - median of 60 before| / max(1.4826 MAD of 60 before, 0.5 %) > 20, off ex-dates",
                BarFlag.SPIKE,
            ),
            WindowCheck(
                "W5",
                "spike_reversal",
                Severity.FLAG,
                "|r| > k and |next r + r| < 0.2 |r|, log returns, k per exchange",
                BarFlag.SPIKE,
            ),
            WindowCheck(
                "W5",
                "scale_spike",
                Severity.QUARANTINE,
                "the same with |r| >= ln 3: no price trebles and returns",
            ),
            WindowCheck(
                "W6",
                "split_like_jump",
                Severity.FLAG,
                "close / reference within the band of 1.5, 2, 3, 4, 5, 10, 100, 1000 or an inverse, stays, no event",
                BarFlag.BAND_BREACH,
                blocks="a factor of 100 or more: the unit changed",
            ),
            WindowCheck(
                "W7",
                "stale_copy",
                Severity.FLAG,
                "open, high, low, close and volume >= 1000 all equal to those of the traded bar before",
                BarFlag.STALE_COPY,
                blocks="more than 5 % of a session's traded bars",
            ),
            WindowCheck(
                "W8", "flat_run", Severity.INFO, "the same close on more traded bars in a row than 99.9 % of runs"
            ),
            WindowCheck(
                "W9",
                "zero_volume_range",
                Severity.FLAG,
                "no volume, yet high and low differ: somebody traded, the volume is missing",
                BarFlag.ZERO_VOLUME,
            ),
            WindowCheck(
                "W9",
                "placeholder",
                Severity.FLAG,
                "no volume and one price: a copy of the last price, or of the next reference",
                BarFlag.PLACEHOLDER,
            ),
            WindowCheck(
                "W10",
                "volume_spike",
                Severity.INFO,
                "(ln volume - median of 60 before) / max(1.4826 MAD of 60 before, 0.1) > 6",
            ),
        )
    }
)
"""Every check in the order in which it is made. Market rules come before statistics."""


def _dated(default: float, *exceptions: tuple[str, float]) -> tuple[float, tuple[Row, ...]]:
    since = date(1990, 1, 1)
    return default, tuple({"venues": code, "valid_from": since, "value": value} for code, value in exceptions)


THRESHOLDS: Mapping[str, tuple[float, tuple[Row, ...]]] = MappingProxyType(
    {
        # p99.9 of the runs of traded bars with one close
        "flat_run": _dated(13.0, ("HOSE", 8.0), ("HNX", 12.0), ("UPCOM", 13.0)),
        "spike": _dated(0.20),
        "band": _dated(0.20),  # a day's own return beside a split, where the exchange sets no limit
    }
)
"""Default and, by venue and date, other thresholds of the checks: rows of venues, valid_from, value."""
