"""What the checks measured and concluded."""

from __future__ import annotations

from vprism_pipelines.tables.base import PROVIDER, SESSION, SYMBOL, Column, Table

METRICS = Table(
    "quality",
    "metrics",
    ("date", "market", "symbol", "provider", "metric", "run_id"),
    "What the checks measured, with the thresholds in force.",
    (
        Column("date", "DATE", "day the measurement is about"),
        Column("market", "VARCHAR", "market code"),
        Column("symbol", "VARCHAR", "canonical symbol, or * for the market"),
        Column("provider", "VARCHAR", "provider, or * for all"),
        Column("metric", "VARCHAR", "check or measure"),
        Column("value", "DOUBLE", "measured", nullable=True),
        Column("status", "VARCHAR", "OK, WARN or FAIL"),
        Column("warn", "DOUBLE", "threshold", nullable=True),
        Column("fail", "DOUBLE", "threshold", nullable=True),
        Column("run_id", "VARCHAR", "run that measured"),
    ),
)

RECONCILIATION_RUNS = Table(
    "quality",
    "reconciliation_runs",
    ("run_id", "market", "source_a", "source_b"),
    "Two providers compared over all their common rows.",
    (
        Column("run_id", "VARCHAR", "run or command that compared"),
        Column("market", "VARCHAR", "market code"),
        Column("source_a", "VARCHAR", "provider"),
        Column("source_b", "VARCHAR", "provider"),
        Column("start", "DATE", "first session", nullable=True),
        Column("end", "DATE", "last session", nullable=True),
        Column("symbols", "BIGINT", "symbols that both have", "symbols"),
        Column("compared", "BIGINT", "common traded rows", "rows"),
        Column("exact_share", "DOUBLE", "of them equal to the last digit", "share", nullable=True),
        Column("pass_count", "BIGINT", "rows within tolerance", "rows"),
        Column("warn_count", "BIGINT", "rows from the first threshold on", "rows"),
        Column("fail_count", "BIGINT", "rows from the second threshold on, one-sided ones included", "rows"),
        Column("missing_source_a", "BIGINT", "sessions that only source_b has", "rows"),
        Column("missing_source_b", "BIGINT", "sessions that only source_a has", "rows"),
        Column("p50_close_bp_diff", "DOUBLE", "median of |difference|", "basis points", nullable=True),
        Column("p95_close_bp_diff", "DOUBLE", "95th percentile of |difference|, linear", "basis points", nullable=True),
        Column("status", "VARCHAR", "PASS, WARN or FAIL"),
        Column("compared_at", "TIMESTAMPTZ", "when"),
    ),
)

RECONCILIATION_DIFFS = Table(
    "quality",
    "reconciliation_diffs",
    ("run_id", "market", "source_a", "source_b", "symbol", "session"),
    "Every row of the latest comparison of two providers that is not the same on both sides.",
    (
        Column("run_id", "VARCHAR", "run or command that compared"),
        Column("market", "VARCHAR", "market code"),
        Column("source_a", "VARCHAR", "provider"),
        Column("source_b", "VARCHAR", "provider"),
        SYMBOL,
        SESSION,
        Column("close_a", "DOUBLE", "as traded", "currency per share", nullable=True),
        Column("close_b", "DOUBLE", "as traded", "currency per share", nullable=True),
        Column("close_bp_diff", "DOUBLE", "(b / a - 1) x 10,000", "basis points", nullable=True),
        Column("volume_a", "BIGINT", "shares", "shares", nullable=True),
        Column("volume_b", "BIGINT", "shares", "shares", nullable=True),
        Column("volume_ratio", "DOUBLE", "greater over smaller", "ratio", nullable=True),
        Column("status", "VARCHAR", "PASS, WARN or FAIL"),
        Column("reason", "VARCHAR", "close, volume, missing_source_a, …", nullable=True),
        Column("difference", "VARCHAR", "class of the difference (quality.reconcile)", nullable=True),
    ),
)

DRIFT = Table(
    "quality",
    "drift",
    ("symbol", "session", "metric"),
    "Latest close and volume against the 30 observations before. Advisory: one in six days is a WARN by construction.",
    (
        SYMBOL,
        SESSION,
        Column("metric", "VARCHAR", "close or volume"),
        Column("value", "DOUBLE", "latest observation", nullable=True),
        Column("mean", "DOUBLE", "of the window", nullable=True),
        Column("std", "DOUBLE", "of the window, sample", nullable=True),
        Column("z", "DOUBLE", "(value - mean) / std; 0 where std is 0", nullable=True),
        Column("status", "VARCHAR", "OK, WARN or FAIL"),
    ),
)

PROVIDER_HEALTH = Table(
    "quality",
    "provider_health",
    ("provider", "market", "date"),
    "How each provider answered on one day.",
    (
        PROVIDER,
        Column("market", "VARCHAR", "market code"),
        Column("date", "DATE", "day of the pulls, UTC"),
        Column("requests", "BIGINT", "pulls", "requests"),
        Column("failed", "BIGINT", "of them answered with an error", "requests"),
        Column("error_rate", "DOUBLE", "failed / requests", "share", rule="share"),
        Column("latency_p50_ms", "DOUBLE", "median", "milliseconds", nullable=True),
        Column("latency_p95_ms", "DOUBLE", "95th percentile", "milliseconds", nullable=True),
        Column("lag_hours", "DOUBLE", "last session's close to its first bar", "hours", nullable=True),
    ),
)

SCORECARD = Table(
    "quality",
    "scorecard",
    ("symbol", "provider", "month"),
    "What was right and wrong with a provider's bars of one symbol in one month.",
    (
        SYMBOL,
        PROVIDER,
        Column("month", "DATE", "first day of the month"),
        Column("expected", "BIGINT", "sessions between its first and last bar", "bars"),
        Column("bars", "BIGINT", "bars it has", "bars"),
        Column("missing", "BIGINT", "expected - bars", "bars"),
        Column("rejected", "BIGINT", "rows quarantined when they were read", "rows"),
        Column("quarantined", "BIGINT", "bars quarantined by window checks", "bars"),
        Column("flagged", "BIGINT", "bars with a flag from window checks", "bars"),
        Column("revised", "BIGINT", "bars with a second version", "bars"),
        Column("outvoted", "BIGINT", "bars on which golden follows another price", "bars"),
        Column(
            "score",
            "DOUBLE",
            "1 - (missing + rejected + quarantined + outvoted) / expected, not below 0",
            "0..1",
            rule="share",
        ),
    ),
)
