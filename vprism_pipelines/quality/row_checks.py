"""The catalogue of row checks: what is asked of each row on its own, its pull and the calendar."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vprism_pipelines.quality.checks import Check, Severity

__all__ = ["ROW_CHECKS"]

# Shares of the rows read. Single rows are set aside without further ado; many of one kind are somebody's mistake.
FEW = (0.01, 0.05)

ROW_CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        name: Check(identity, name, description, *FEW, severity=severity, blocks=severity is Severity.BLOCK)
        for identity, severity, name, description in (
            ("R1", Severity.QUARANTINE, "missing_date", "no date, or one that cannot be read"),
            ("R1", Severity.QUARANTINE, "missing_price", "open, high, low or close is missing"),
            ("R1", Severity.QUARANTINE, "price_not_finite", "open, high, low or close is no finite number"),
            (
                "R2",
                Severity.QUARANTINE,
                "price_order",
                "low above open or close, or high below them, by more than 1e-12",
            ),
            ("R3", Severity.QUARANTINE, "price_not_positive", "open, high, low or close is zero or negative"),
            ("R3", Severity.QUARANTINE, "volume_negative", "fewer than no shares"),
            ("R3", Severity.QUARANTINE, "value_negative", "less than no turnover"),
            ("R4", Severity.INFO, "duplicate", "the same bar again in one pull: the first stands"),
            ("R4", Severity.QUARANTINE, "contradicting_duplicate", "bars of one session that differ, in one pull"),
            ("R5", Severity.QUARANTINE, "future_session", "a session after the day of the pull, in the market's zone"),
            ("R6", Severity.QUARANTINE, "not_a_session", "no trading day of the exchange"),
            (
                "R6",
                Severity.INFO,
                "filler",
                "no trading day, and no trade at the last close, or the bar before once more: a gap filled in",
            ),
            (
                "R6",
                Severity.QUARANTINE,
                "shifted_date",
                "after a bar on the closed day before a week, up to the first session without one: all are dated a day "
                "early",
            ),
            ("R7", Severity.QUARANTINE, "unknown_symbol", "a spelling that no rule resolves"),
            ("R7", Severity.QUARANTINE, "unknown_pull", "a row of no known pull"),
            (
                "R7",
                Severity.BLOCK,
                "wrong_currency",
                "another currency than the listing trades in (B shares, renminbi counters and all others)",
            ),
            (
                "R8",
                Severity.QUARANTINE,
                "not_monotone",
                "a date that does not fit between the two rows before and the two after, which are in order",
            ),
        )
    }
)
"""Every check by name, which is also the reason in `clean.quarantine`."""
