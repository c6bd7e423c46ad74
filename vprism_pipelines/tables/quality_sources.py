"""What the tables of schema `quality` are made of; see `tables.sources`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from vprism_pipelines.tables.origins import DECIDES, TERMS, Sources, made_of, nobodys

_COMPARED = made_of("clean.bars_ledger", all="session open high low close volume")["all"]
_GROUNDS = (
    "symbol open close known_from quality.findings.ticket quality.findings.jump quality.rebases.ratio"
    " quality.rebases.ex_date golden.adjustment_events.ex_date golden.adjustment_events.event_type "
) + " ".join(f"golden.adjustment_events.{name}" for name in TERMS)
_MULTIPLIERS = "golden.factor_steps.effective_session golden.factor_steps.m golden.factor_steps.m_ex_close"
_AS_TRADED = tuple(f"clean.bars_ledger.{name}" for name in ("known_to", "price_basis", "provisional"))

QUALITY: Final[Mapping[str, Sources]] = {
    # --- what is believed of providers --------------------------------------------------------------------------------
    "quality.findings": {
        **made_of(
            "clean.bars_ledger",
            "symbol",
            "session",
            "provider",
            checks="open high low close volume value flags exchange",
            quarantined="open high low close volume value flags exchange",
            bits="open high low close volume value flags exchange",
            ticket="open high low close",
            jump=" ".join(("close", *(f"golden.adjustment_events.{name}" for name in TERMS))),
            turnover="value volume close",
            z_return="close",
            z_volume="volume",
        ),
        DECIDES: (
            "clean.bars_ledger.known_to",
            "clean.bars_ledger.price_basis",
            "golden.adjustment_events.ex_date",
        ),
    },
    "quality.track_record": {
        **made_of(
            "clean.bars_ledger",
            "provider",
            "known_from",
            month="session",
            bars="session clean.quarantine.session",
            rejected="clean.quarantine.session",
            quarantined="quality.findings.quarantined",
            outvoted="close",
        ),
        **nobodys("market"),
    },
    "quality.reliability": {
        **made_of(
            "quality.track_record",
            "provider",
            "month",
            "bars",
            "known_from",
            faulty="rejected quarantined outvoted",
            value="bars rejected quarantined outvoted",
            known_to="known_from",
        ),
        **nobodys("market"),
    },
    "quality.rebases": {
        **made_of(
            "clean.bars_ledger",
            "symbol",
            "provider",
            "known_from",
            field="open high low close adj_close change_class",
            ratio="open high low close adj_close",
            ratio_low="open high low close adj_close",
            ratio_high="open high low close adj_close",
            factor="open high low close adj_close",
            first_session="session",
            last_session="session",
            ex_date="session",
            ex_date_latest="session",
            rows="session",
            spread="open high low close adj_close",
            volume_ratio="volume",
        ),
    },
    "quality.action_proposals": {
        **made_of(
            "clean.bars_ledger",
            "symbol",
            proposal_id=_GROUNDS,
            kind=_GROUNDS,
            ex_date=_GROUNDS,
            event_type=_GROUNDS,
            proposed=_GROUNDS,
            confidence=_GROUNDS,
            evidence=_GROUNDS,
        ),
        **made_of("golden.adjustment_events", "currency", declared=" ".join(("provider", "event_type", *TERMS))),
        **nobodys("status", "decided_at", "decided_by", "note"),
    },
    # --- what the checks measured -----------------------------------------------------------------------------------
    "quality.metrics": {
        **made_of(
            "golden.bars",
            "symbol",
            date="session",
            provider="chosen_provider",
            value="session open high low close volume value quality.findings.checks",
            status="session open high low close volume value quality.findings.checks",
        ),
        **nobodys("market", "metric", "warn", "fail", "run_id"),
    },
    "quality.reconciliation_runs": {
        **made_of("clean.bars_ledger", source_a="provider", source_b="provider", start="session", end="session"),
        **made_of("clean.bars_ledger", symbols="symbol", symbols_only_a="symbol", symbols_only_b="symbol"),
        **dict.fromkeys(
            (
                "compared",
                "exact_share",
                "pass_count",
                "warn_count",
                "fail_count",
                "missing_source_a",
                "missing_source_b",
                "outside",
                "untraded",
                "fail_share",
                "recent_rows",
                "recent_fail_share",
                "status",
            ),
            _COMPARED,
        ),
        **made_of("clean.bars_ledger", p50_close_bp_diff="close", p95_close_bp_diff="close"),
        **nobodys("run_id", "market", "scope", "sample", "compared_at"),
    },
    "quality.reconciliation_diffs": {
        **made_of("clean.bars_ledger", "symbol", "session", source_a="provider", source_b="provider"),
        **made_of("clean.bars_ledger", close_a="close", close_b="close", close_bp_diff="close"),
        **made_of("clean.bars_ledger", volume_a="volume", volume_b="volume", volume_ratio="volume"),
        **dict.fromkeys(("status", "reason", "difference"), _COMPARED),
        **nobodys("run_id", "market"),
    },
    "quality.drift": {
        **made_of("golden.bars", "symbol", "session", value="close volume"),
        **made_of("golden.bars", observations="session"),
        **dict.fromkeys(
            ("mean", "std", "z", "status"), ("golden.bars.close", "golden.bars.volume", "golden.factor_steps.v")
        ),
        **nobodys("metric"),
    },
    "quality.provider_health": {
        **made_of(
            "raw.fetches",
            "provider",
            "market",
            date="fetched_at",
            requests="fetch_id",
            failed="error_code",
            error_rate="error_code",
            latency_p50_ms="latency_ms",
            latency_p95_ms="latency_ms",
            session="clean.bars_ledger.session",
            lag_hours="clean.bars_ledger.known_from golden.sessions.close",
        ),
    },
    "quality.failovers": {
        **made_of(
            "raw.fetches",
            *("run_id", "market", "dataset", "provider", "symbol"),
            reason="error_code",
            detail="error",
            fallback="provider",
            outcome="error_code",
        ),
        **nobodys("decided_at"),
    },
    "quality.scorecard": {
        **made_of(
            "clean.bars_ledger",
            "symbol",
            "provider",
            month="session",
            bars="session provisional",
            rejected="clean.quarantine.session",
            missing="session golden.sessions.session",
            revised="change_class",
            quarantined="quality.findings.quarantined",
            flagged="quality.findings.checks",
            outvoted="close golden.bars.close",
            expected="session golden.sessions.session clean.quarantine.session",
            score="session close golden.bars.close golden.sessions.session clean.quarantine.session"
            " quality.findings.quarantined",
        ),
    },
    "quality.factor_fit": {
        **made_of("clean.bars_ledger", "symbol", "provider", unit="adj_close", published="adj_close"),
        **made_of(
            "clean.bars_ledger",
            bars="close adj_close",
            **dict.fromkeys(
                ("convention", "missed", "session", "close", "missed_by"), f"session close adj_close {_MULTIPLIERS}"
            ),
        ),
        DECIDES: _AS_TRADED,
    },
    "quality.adjustment_steps": {
        **made_of("clean.bars_ledger", "symbol", "provider", "session", theirs="close adj_close", ours=_MULTIPLIERS),
        **made_of("clean.bars_ledger", finding=f"close adj_close {_MULTIPLIERS}"),
        DECIDES: (*_AS_TRADED, "clean.bars_ledger.close", "clean.bars_ledger.adj_close"),
    },
    "quality.shadow_runs": {
        **made_of(
            "clean.bars_ledger",
            "batch",
            provider="provider",
            against="provider",
            range_start="session",
            range_end="session",
            symbols="symbol",
            rows="session",
            gap_ratio="session",
            price_diff_bp_p95="close",
        ),
        **dict.fromkeys(("row_diff_pct", "passed"), _COMPARED),
        **nobodys("market", "run_id", "compared_at"),
    },
}
