"""Checks of whole tables: what is measured over a market, its thresholds, and the verdict.

A measure is a number; the thresholds say from where on it is a warning or a failure. Numbers are rounded before they
are compared, so that a value on the boundary does not depend on float noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vprism_pipelines.quality.checks import Check, Severity, Status
from vprism_pipelines.quality.row_checks import ROW_CHECKS
from vprism_pipelines.quality.window_checks import WINDOW_CHECKS

__all__ = ["CHECKS", "DATASET_CHECKS", "Check", "Status"]

DATASET_CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        check.name: check
        for check in (
            Check(
                "D1",
                "completeness",
                "share of expected (symbol, session) bars that are missing in history, on the worst exchange of the "
                "worst provider; suspensions are not expected",
                0.002,
                0.005,
            ),
            Check(
                "D1",
                "completeness_latest",
                "share of the symbols of the five sessions before that the newest one lacks, worst exchange and "
                "provider; fewer than five symbols count as none",
                0.002,
                0.005,
                title="Completeness of the newest session",
            ),
            Check(
                "D2",
                "newest_session",
                "share by which the newest session falls short of the median number of symbols of 20 sessions, worst "
                "exchange and provider",
                0.1,
                0.4,
                blocks=True,
                title="Newest session is all there",
            ),
            Check("D2", "whole_day_gap", "sessions on which fewer than 60 % of the usual symbols have a bar", 1, None),
            Check("D3", "duplicates", "keys with more than one golden bar", 1, 3, blocks=True),
            Check(
                "D4",
                "date_shift",
                "deliveries whose dates fit the calendar better when moved by a day: a wrong time zone",
                None,
                1,
                blocks=True,
            ),
            # A disagreement between providers is what golden is there for: it is shown, the vote settles it.
            Check("D5", "reconciliation", "share of compared rows that fail, worst pair of providers", 0.005, 0.02),
            Check("D6", "shadow_gate", "candidates on probation that do not keep within the limits", 1, None),
            Check("D7", "freshness", "sessions missing at the end", 1, 2),
            Check(
                "D8",
                "survivorship",
                "share of a session's symbols that end on it without a delisting date, worst of 250 sessions; two at "
                "least",
                0.01,
                None,
            ),
            Check(
                "D9",
                "index_sanity",
                "sessions of the last 250 on which the members' median return is more than 2 % off the index",
                1,
                None,
                severity=Severity.FLAG,
            ),
            Check(
                "D1",
                "gap_ratio",
                "share of the sessions between a provider's rows that it has no row for, in its two newest months; "
                "suspensions are not expected",
                0.002,
                0.005,
                title="Gaps of a provider",
            ),
            Check("D3", "duplicate_rows", "rows of the newest day's pulls that state a bar twice", 1, 3),
            Check("D7", "ingest_lag", "hours from the close of the newest session to its first bar", 4, 18),
            Check("D12", "error_rate", "share of the newest day's pulls that ended in an error", 0.05, 0.25),
            Check(
                "D13",
                "stale_fallback",
                "symbols that no provider delivered when asked: the data stored before stands in",
                1,
                None,
                title="Stored data stands in",
            ),
            Check(
                "W13",
                "drift",
                "share of the symbols whose newest close or volume is 3 standard deviations off the 30 before; "
                "advisory: prices wander",
                severity=Severity.INFO,
            ),
            # Too many bad rows are refused before they are written (MIN_DATA_QUALITY), a few alone stop nothing.
            Check("D10", "rejection_rate", "share of the newest rows that were quarantined", 0.01, 0.05),
            Check("D11", "calendar_horizon", "days by which the calendar falls short of 45 days ahead", 1, None),
            Check("P1", "contract", "rows that break the table's contract", None, 1, blocks=True),
            Check(
                "A1",
                "adjusted_close",
                "bars on which our factors miss a provider's adjusted close, beyond its rounding",
                1,
                None,
            ),
            Check(
                "A2", "declared_actions", "open proposals about corporate actions of confidence 0.9 or more", 1, None
            ),
            Check(
                "W11",
                "adjustment_steps",
                "sessions on which a provider's adjusted close / close steps though no event is known, or by another "
                "step than ours",
                1,
                None,
                title="Adjusted and raw closes agree on the events",
            ),
            Check(
                "W12",
                "revision_rate",
                "share of a market's symbols of which a provider restated bars in one pull, worst pull",
                0.05,
                None,
                title="Restated symbols in one pull",
            ),
            Check(
                "B1",
                "blocked_symbols",
                "share of the symbols that units or average prices block as a whole",
                0.0001,
                0.05,
                blocks=True,
            ),
            Check(
                "B2",
                "blocked_sessions",
                "sessions more than 5 % of whose bars repeat the bar before",
                None,
                1,
                blocks=True,
            ),
        )
    }
)
"""Checks of a table as a whole."""

CHECKS: Mapping[str, Check] = MappingProxyType({**ROW_CHECKS, **WINDOW_CHECKS, **DATASET_CHECKS})
"""Every check there is, by name."""
