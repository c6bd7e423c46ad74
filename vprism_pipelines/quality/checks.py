"""What a check is: its name, how grave it is, its thresholds by venue and date, and the verdict on a measured value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum

__all__ = ["SINCE_EVER", "Check", "Severity", "Status", "Threshold"]

ALL = ("us", "vn", "cn", "hk")
LIMITED = ("vn", "cn")  # exchanges with daily price limits
SINCE_EVER = date(1990, 1, 1)


class Status(StrEnum):
    """Verdict of a check."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


class Severity(StrEnum):
    """What happens to what a check finds."""

    BLOCK = "BLOCK"  # a failure stops what is downstream: the last good snapshot stays published
    QUARANTINE = "QUARANTINE"  # the row or bar is set aside with the check's name as reason
    FLAG = "FLAG"  # kept, with a flag bit or a warning beside it
    INFO = "INFO"  # counted


@dataclass(frozen=True, slots=True)
class Threshold:
    """The value from which a check of single bars fires, on a venue from a date on.

    Attributes:
        venue: Exchange code or Chinese board (`market.rules.venue`); `*` is every venue without rows of its own.
    """

    value: float
    venue: str = "*"
    valid_from: date = SINCE_EVER


@dataclass(frozen=True, slots=True)
class Check:
    """A named measure with its thresholds.

    Attributes:
        id: Number in the catalogue of checks.
        description: What it measures or when it fires, one line.
        warn: Measured value from which on it is a warning; None: never.
        fail: From this value on it is a failure; None: never.
        blocks: A failure stops what is downstream: the last good snapshot stays published.
        digits: Decimals kept before comparing.
        name: Name in code, in the warehouse and in Dagster.
        title: Name for people; made from `name` where none is given.
        severity: What happens to what it finds; BLOCK where `blocks`.
        flag: `BarFlag` set on the bars it fires on.
        markets: Codes of the markets it applies to.
        values: From which value a check of single bars fires, by venue and date.
        unit: What `values` are in.
    """

    id: str
    name: str
    description: str
    warn: float | None = None
    fail: float | None = None
    blocks: bool = False
    digits: int = 12
    title: str = ""
    severity: Severity = Severity.FLAG
    flag: int = 0
    markets: tuple[str, ...] = ALL
    values: tuple[Threshold, ...] = ()
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.title:
            object.__setattr__(self, "title", self.name.replace("_", " ").capitalize())
        if self.blocks:
            object.__setattr__(self, "severity", Severity.BLOCK)

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
