"""What each provider said, in one set of units and identifiers, all versions of it."""

from __future__ import annotations

from vprism_pipelines.tables.base import (
    CURRENCY,
    EX_DATE,
    FETCH_ID,
    FLAGS,
    MARKET,
    PAYLOAD_ROW,
    PROVIDER,
    SESSION,
    SYMBOL,
    VALUE,
    VERSION,
    VOLUME,
    Column,
    Table,
    event_terms,
    prices,
)

CLEAN_BARS = Table(
    "clean",
    "bars_ledger",
    ("symbol", "session", "provider", "known_from"),
    "Everything every provider ever said about a session: versions, never overwritten.",
    (
        SYMBOL,
        SESSION,
        PROVIDER,
        *prices(" on the stated price basis"),
        VOLUME,
        VALUE,
        Column("adj_close", "DOUBLE", "the provider's own adjusted close", "currency per share", nullable=True),
        CURRENCY,
        Column("exchange", "VARCHAR", "venue, when the provider says", nullable=True),
        Column("price_basis", "VARCHAR", "raw, split_adjusted or adjusted_by_source"),
        FLAGS,
        Column("provisional", "BOOLEAN", "the session was still running or settling when it was pulled"),
        *VERSION,
    ),
    ohlc=True,
)

CLEAN_ACTIONS = Table(
    "clean",
    "corporate_actions_ledger",
    ("symbol", "ex_date", "provider", "event_type", "seq", "known_from"),
    "Corporate actions as each provider declared them (or as deduced from prices), all versions.",
    (
        SYMBOL,
        EX_DATE,
        PROVIDER,
        *event_terms(),
        Column("inferred", "BOOLEAN", "deduced from prices, declared by nobody"),
        Column("detail", "VARCHAR", "the provider's own words", nullable=True),
        Column("withdrawn", "BOOLEAN", "taken back by who said it: it counts no more", nullable=True),
        *VERSION,
    ),
)

INSTRUMENTS = Table(
    "clean",
    "instruments_ledger",
    ("symbol", "provider", "known_from"),
    "What each provider said a symbol is, all versions. clean.instruments shows them with the dates they are true.",
    (
        SYMBOL,
        PROVIDER,
        Column("name", "VARCHAR", "issuer or product", nullable=True),
        Column("exchange", "VARCHAR", "venue code (market.spec)", nullable=True),
        CURRENCY,
        Column("listed", "DATE", "first trading day", nullable=True),
        Column("delisted", "DATE", "last trading day", nullable=True),
        Column("sector", "VARCHAR", "as the provider classifies", nullable=True),
        Column("isin", "VARCHAR", "ISO 6166", nullable=True),
        *VERSION,
    ),
)

SYMBOL_MAP = Table(
    "clean",
    "symbol_map",
    ("raw_symbol", "provider", "market"),
    "How each provider's spelling was understood.",
    (
        Column("raw_symbol", "VARCHAR", "the provider's spelling"),
        PROVIDER,
        Column("market", "VARCHAR", "market hint"),
        SYMBOL,
        Column("rule_id", "VARCHAR", "rule of market.symbols that decided"),
        Column("valid_from", "TIMESTAMPTZ", "first pull that used it"),
    ),
)

QUARANTINE = Table(
    "clean",
    "quarantine",
    ("fetch_id", "dataset", "payload_row"),
    "Rows that were not believed, whole, with every reason.",
    (
        FETCH_ID,
        Column("dataset", "VARCHAR", "bars, actions, …"),
        PAYLOAD_ROW,
        PROVIDER,
        MARKET,
        Column("raw_symbol", "VARCHAR", "the provider's spelling", nullable=True),
        Column("session", "DATE", "the date it claims", nullable=True),
        Column("reasons", "VARCHAR[]", "names of the rules it broke"),
        Column("row_json", "JSON", "the raw row"),
        Column("fetched_at", "TIMESTAMPTZ", "when it was pulled"),
    ),
)
