"""What the checks measured and concluded."""

from __future__ import annotations

from vprism_pipelines.tables.base import MARKET, PROVIDER, SESSION, SYMBOL, Column, Table

METRICS = Table(
    "quality",
    "metrics",
    ("date", "market", "symbol", "provider", "metric", "run_id"),
    "What the checks measured, with the thresholds in force.",
    (
        Column("date", "DATE", "day the measurement is about"),
        MARKET,
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
    "Two providers compared over the sessions that changed since they were last compared, and some around them.",
    (
        Column("run_id", "VARCHAR", "run or command that compared"),
        MARKET,
        Column("source_a", "VARCHAR", "provider"),
        Column("source_b", "VARCHAR", "provider"),
        Column("scope", "VARCHAR", "changes: what a run found changed; asked: what a command asked for"),
        Column("start", "DATE", "first session compared", nullable=True),
        Column("end", "DATE", "last session compared", nullable=True),
        Column("symbols", "BIGINT", "symbols of either side", "symbols"),
        Column("symbols_only_a", "BIGINT", "of them only source_a has", "symbols"),
        Column("symbols_only_b", "BIGINT", "of them only source_b has", "symbols"),
        Column("sample", "BIGINT", "symbols drawn; null: all", "symbols", nullable=True),
        Column("compared", "BIGINT", "common traded rows", "rows"),
        Column("exact_share", "DOUBLE", "of them with the same close to the last digit", "share", nullable=True),
        Column("pass_count", "BIGINT", "rows within tolerance", "rows"),
        Column("warn_count", "BIGINT", "rows from the first threshold on", "rows"),
        Column("fail_count", "BIGINT", "rows from the second threshold on, one-sided ones included", "rows"),
        Column("missing_source_a", "BIGINT", "sessions that only source_b has", "rows"),
        Column("missing_source_b", "BIGINT", "sessions that only source_a has", "rows"),
        Column("outside", "BIGINT", "rows of one side before or after the other covers the symbol", "rows"),
        Column("untraded", "BIGINT", "rows left out because nobody traded, both sides", "rows"),
        Column("fail_share", "DOUBLE", "fail_count over all judged rows", "share", nullable=True),
        Column("recent_rows", "BIGINT", "rows judged in the newest sessions of both", "rows"),
        Column("recent_fail_share", "DOUBLE", "of them failing", "share", nullable=True),
        Column("p50_close_bp_diff", "DOUBLE", "median of |difference|", "basis points", nullable=True),
        Column("p95_close_bp_diff", "DOUBLE", "95th percentile of |difference|, linear", "basis points", nullable=True),
        Column("status", "VARCHAR", "PASS, WARN or FAIL"),
        Column("compared_at", "TIMESTAMPTZ", "when"),
    ),
)

RECONCILIATION_DIFFS = Table(
    "quality",
    "reconciliation_diffs",
    ("market", "source_a", "source_b", "symbol", "session"),
    "Every row of two providers that is not the same on both sides, as last compared.",
    (
        Column("run_id", "VARCHAR", "run or command that last compared it"),
        MARKET,
        Column("source_a", "VARCHAR", "provider"),
        Column("source_b", "VARCHAR", "provider"),
        SYMBOL,
        SESSION,
        Column("close_a", "DOUBLE", "as traded", "currency per share", nullable=True),
        Column("close_b", "DOUBLE", "as traded", "currency per share", nullable=True),
        Column("close_bp_diff", "DOUBLE", "(a - b) / b x 10,000", "basis points", nullable=True),
        Column("volume_a", "BIGINT", "shares", "shares", nullable=True),
        Column("volume_b", "BIGINT", "shares", "shares", nullable=True),
        Column("volume_ratio", "DOUBLE", "volume_a / volume_b", "ratio", nullable=True),
        Column("status", "VARCHAR", "PASS, WARN or FAIL"),
        Column("reason", "VARCHAR", "close, volume, close+volume, missing_source_a, missing_source_b", nullable=True),
        Column("difference", "VARCHAR", "class of the difference (quality.reconcile)"),
    ),
)

DRIFT = Table(
    "quality",
    "drift",
    ("symbol", "metric"),
    "Latest close and volume of every symbol against the observations before. Advisory: by construction one in six"
    " closes is a WARN.",
    (
        SYMBOL,
        SESSION,
        Column("metric", "VARCHAR", "close or volume"),
        Column("value", "DOUBLE", "latest observation", nullable=True),
        Column("observations", "BIGINT", "before it, at most the window", "observations"),
        Column("mean", "DOUBLE", "of the window, brought to today's shares", nullable=True),
        Column("std", "DOUBLE", "of the window, sample", nullable=True),
        Column("z", "DOUBLE", "(value - mean) / std; 0 where std is 0; null: window not full", nullable=True),
        Column("status", "VARCHAR", "OK, WARN from |z| = 2 on, FAIL from 3 on"),
    ),
)

PROVIDER_HEALTH = Table(
    "quality",
    "provider_health",
    ("provider", "market", "date"),
    "How each provider answered on one day.",
    (
        PROVIDER,
        MARKET,
        Column("date", "DATE", "day of the pulls, UTC"),
        Column("requests", "BIGINT", "pulls", "requests"),
        Column("failed", "BIGINT", "of them answered with an error; that there is nothing is an answer", "requests"),
        Column("error_rate", "DOUBLE", "failed / requests", "share", rule="share"),
        Column("latency_p50_ms", "DOUBLE", "median", "milliseconds", nullable=True),
        Column("latency_p95_ms", "DOUBLE", "95th percentile, linear", "milliseconds", nullable=True),
        Column("session", "DATE", "newest session first told on that day; null: none, or old history", nullable=True),
        Column("lag_hours", "DOUBLE", "from that session's close to its first bar", "hours", nullable=True),
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
        Column("expected", "BIGINT", "bars + rejected + missing", "sessions"),
        Column("bars", "BIGINT", "sessions with a final bar", "bars"),
        Column("rejected", "BIGINT", "sessions whose row was refused when read, and nothing better came", "sessions"),
        Column("missing", "BIGINT", "sessions between two of its rows without any; a suspension is none", "sessions"),
        Column("revised", "BIGINT", "bars that changed after they were final, rounding aside", "bars"),
        Column("quarantined", "BIGINT", "bars quarantined by window checks", "bars"),
        Column("flagged", "BIGINT", "other bars on which a window check fired", "bars"),
        Column("outvoted", "BIGINT", "other bars on which golden follows another price", "bars"),
        Column("score", "DOUBLE", "(bars - quarantined - outvoted) / expected", "0..1", rule="share"),
    ),
)
