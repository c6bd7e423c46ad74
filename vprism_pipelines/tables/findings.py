"""What the window checks found in each provider's bars, and how far each provider can be relied on."""

from __future__ import annotations

from vprism_pipelines.tables.base import KNOWN_FROM, KNOWN_TO, MARKET, PROVIDER, SESSION, SYMBOL, Column, Table

FINDINGS = Table(
    "quality",
    "findings",
    ("symbol", "session", "provider"),
    "Bars on which a check of the symbol's window fired. A quarantined one is no candidate for golden; it stays in the"
    " ledger as the provider said it.",
    (
        SYMBOL,
        SESSION,
        PROVIDER,
        Column("checks", "VARCHAR[]", "names of the checks that fired (quality.window_checks)"),
        Column("quarantined", "BOOLEAN", "one of them is of severity QUARANTINE"),
        Column("bits", "INTEGER", "bits of quality.flags.BarFlag to add to the bar's flags"),
        Column("ticket", "VARCHAR", "missing_event, split, unit: what would explain it", nullable=True),
        Column("jump", "DOUBLE", "close / reference price where a limit is broken", "ratio", nullable=True),
        Column("turnover", "DOUBLE", "value / (volume x close)", "ratio", nullable=True),
        Column("z_return", "DOUBLE", "robust z-score of the log return", nullable=True),
        Column("z_volume", "DOUBLE", "robust z-score of the log volume", nullable=True),
    ),
)

TRACK_RECORD = Table(
    "quality",
    "track_record",
    ("market", "provider", "month"),
    "What became of a provider's bars of one month: what its reliability is made of.",
    (
        MARKET,
        PROVIDER,
        Column("month", "DATE", "first day of the month"),
        Column("bars", "BIGINT", "bars it gave, rejected ones included", "bars"),
        Column("rejected", "BIGINT", "of them in clean.quarantine, each session once", "bars"),
        Column("quarantined", "BIGINT", "of them quarantined by window checks", "bars"),
        Column("outvoted", "DOUBLE", "of them contradicted by more providers than agree; a tie counts half", "bars"),
        Column("known_from", "TIMESTAMPTZ", "newest instant anybody's bars of that month became known"),
    ),
)

RELIABILITY = Table(
    "quality",
    "reliability",
    ("market", "provider", "month", "known_from"),
    "Share of a provider's bars in the twelve months before a month that were neither quarantined nor outvoted, all"
    " versions: the weight of its vote in that month.",
    (
        MARKET,
        PROVIDER,
        Column("month", "DATE", "first day of the month it is the weight for"),
        Column("bars", "BIGINT", "bars it rested on when the weight last changed", "bars"),
        Column("faulty", "DOUBLE", "of them quarantined or outvoted; a tie counts half", "bars"),
        Column("value", "DOUBLE", "the weight, smoothed, to three decimals", "0..1", rule="share"),
        KNOWN_FROM,
        KNOWN_TO,
    ),
)
