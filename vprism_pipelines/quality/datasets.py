"""Checks of whole tables: what is measured over a market, its thresholds, and the verdict.

A measure is a number; the thresholds say from where on it is a warning or a failure. Numbers are rounded before they
are compared, so that a value on the boundary does not depend on float noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Status(StrEnum):
    """Verdict of a check."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Check:
    """A named measure with its thresholds.

    Attributes:
        id: Number in the catalogue of checks.
        description: What it measures and why it matters, one line.
        warn: From this value on it is a warning; None: never.
        fail: From this value on it is a failure; None: never.
        blocks: A failure stops what is downstream: the last good snapshot stays published.
        digits: Decimals kept before comparing.
    """

    id: str
    name: str
    description: str
    warn: float | None
    fail: float | None
    blocks: bool = False
    digits: int = 12

    def judge(self, value: float | None) -> Status:
        """The verdict on a measured value; nothing measured is fine."""
        if value is None:
            return Status.OK
        rounded = round(value, self.digits)
        if self.fail is not None and rounded >= self.fail:
            return Status.FAIL
        if self.warn is not None and rounded >= self.warn:
            return Status.WARN
        return Status.OK


CHECKS: MappingProxyType[str, Check] = MappingProxyType(
    {
        check.name: check
        for check in (
            Check("D1", "completeness", "share of expected (symbol, session) bars that are missing", 0.002, 0.005),
            Check("D2", "whole_day_gap", "sessions on which fewer than 60 % of the usual symbols have a bar", 1, None),
            Check("D3", "duplicates", "keys with more than one golden bar", 1, 3, blocks=True),
            Check("D7", "freshness", "sessions missing at the end", 1, 2),
            # Too many bad rows are refused before they are written (MIN_DATA_QUALITY), a few alone stop nothing.
            Check("D10", "rejection_rate", "share of the newest rows that were quarantined", 0.01, 0.05),
            Check("D11", "calendar_horizon", "days by which the calendar falls short of 45 days ahead", 1, None),
            Check("P1", "contract", "rows that break the table's contract", None, 1, blocks=True),
            Check("A1", "adjusted_close", "rows on which our factors miss a provider's adjusted close", 1, None),
        )
    }
)
