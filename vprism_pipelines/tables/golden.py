"""What we believe: one bar per symbol and session, trading days, corporate actions and factors."""

from __future__ import annotations

from vprism_pipelines.tables.base import (
    CURRENCY,
    EX_DATE,
    FLAGS,
    KNOWN_FROM,
    MARKET,
    PROVIDER,
    SESSION,
    SYMBOL,
    VALUE,
    VOLUME,
    Column,
    Table,
    event_terms,
    prices,
)

TRADED = "(volume IS NULL OR volume > 0 OR symbol LIKE '%:INDEX:%')"
"""SQL: a trade made the bar's close. An index is not traded; what has no volume is taken at its word."""

GOLDEN_BARS = Table(
    "golden",
    "bars",
    ("symbol", "session"),
    "The one bar we believe: as traded, in currency units and shares, with who said it and how sure we are.",
    (
        SYMBOL,
        SESSION,
        *prices(", as traded"),
        VOLUME,
        VALUE,
        CURRENCY,
        Column("exchange", "VARCHAR", "venue, when known", nullable=True),
        Column("chosen_provider", "VARCHAR", "whose bar this is"),
        Column("n_sources", "INTEGER", "providers that had a say", "providers"),
        Column("confidence", "DOUBLE", "share of reliability weight that agrees", "0..1", rule="share"),
        Column("price_basis", "VARCHAR", "raw, or adjusted_by_source when nobody knows the traded price"),
        FLAGS,
        KNOWN_FROM,
    ),
    ohlc=True,
)

GOLDEN_SESSIONS = Table(
    "golden",
    "sessions",
    ("market", "exchange", "session"),
    "Trading days of every exchange.",
    (
        MARKET,
        Column("exchange", "VARCHAR", "venue code"),
        SESSION,
        Column("session_no", "INTEGER", "ordinal within the exchange's calendar", "sessions"),
        Column("open", "TIMESTAMPTZ", "start of the session"),
        Column("close", "TIMESTAMPTZ", "end of the session"),
        Column("projected", "BOOLEAN", "not confirmed by an exchange list yet"),
    ),
)

EVENTS = Table(
    "golden",
    "adjustment_events",
    ("symbol", "ex_date", "event_type", "seq"),
    "Corporate actions after merging providers: what the factors are made of.",
    (
        SYMBOL,
        EX_DATE,
        *event_terms(),
        PROVIDER,
        Column("n_sources", "INTEGER", "providers that declared it", "providers"),
        Column("inferred", "BOOLEAN", "deduced from prices, declared by nobody"),
        Column("conflict", "BOOLEAN", "providers disagree about its size"),
        KNOWN_FROM,
    ),
)

FACTOR_STEPS = Table(
    "golden",
    "factor_steps",
    ("symbol", "ex_date"),
    "One row per ex-date: the price multiplier and the share multiplier of everything that happened on it.",
    (
        SYMBOL,
        Column("ex_date", "DATE", "declared first session without the entitlement"),
        Column("version", "VARCHAR", "factor set it belongs to"),
        Column("effective_session", "DATE", "first bar on or after it; null: pending", nullable=True),
        Column("prev_close", "DOUBLE", "last traded close before it", "currency per share", nullable=True),
        Column("ref_price", "DOUBLE", "theoretical reference price", "currency per share", nullable=True),
        Column("m", "DOUBLE", "event multiplier, previous-close convention", "ratio", nullable=True),
        Column("m_ex_close", "DOUBLE", "event multiplier, ex-close convention", "ratio", nullable=True),
        Column("v", "DOUBLE", "share multiplier", "ratio", nullable=True),
        Column("hfq", "DOUBLE", "product of m up to and including this step", "ratio", nullable=True),
        Column("hfq_ex_close", "DOUBLE", "product of m_ex_close up to here", "ratio", nullable=True),
        Column("shares", "DOUBLE", "product of v up to here", "ratio", nullable=True),
        Column("cash", "DOUBLE", "sum per share held before", "currency per share"),
        Column("split_ratio", "DOUBLE", "product", "ratio"),
        Column("bonus_ratio", "DOUBLE", "sum", "ratio"),
        Column("rights_ratio", "DOUBLE", "sum of the issues below the price", "ratio"),
        Column("rights_value", "DOUBLE", "what they cost per share held before", "currency per share"),
        Column("inferred", "BOOLEAN", "any part of it was deduced from prices"),
        Column("status", "VARCHAR", "applied, pending, or why it was not applied"),
        Column("gap", "BOOLEAN", "the ex-date itself has no bar"),
    ),
)

FACTOR_SETS = Table(
    "golden",
    "factor_sets",
    ("symbol",),
    "The version of a symbol's factors: equal versions mean equal adjusted prices.",
    (
        SYMBOL,
        Column("version", "VARCHAR", "1: and twelve hex digits of the events hash"),
        Column("events_hash", "VARCHAR", "sha256 of the events' projection"),
        Column("price_basis_hash", "VARCHAR", "sha256 of the closes the factors rest on"),
        Column("algorithm", "VARCHAR", "formula and its revision"),
        Column("n_events", "INTEGER", "corporate actions in the set", "events"),
        Column("action_gap_flag", "BOOLEAN", "an ex-date has no bar"),
        Column("built_at", "TIMESTAMPTZ", "when the newest fact in it became known"),
    ),
)
