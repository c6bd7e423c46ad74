"""The lake: rows in the provider's own terms and units, under common column names, and the pulls they came from."""

from __future__ import annotations

from vprism_pipelines.tables.base import FETCH_ID, MARKET, PROVIDER, Column, Table

ROW = Column("row", "BIGINT", "row within the payload: every value can be traced to its place", "index from 0")
RAW_SYMBOL = Column("raw_symbol", "VARCHAR", "the provider's spelling")
PRICE_UNIT = Column(
    "price_unit",
    "DOUBLE",
    "1000 for thousand VND, 0.01 for pence",
    "currency per unit of price",
    rule="positive",
)

RAW_BARS = Table(
    "raw",
    "bars",
    ("fetch_id", "row"),
    "Daily bars as one provider tells them; the unit columns say how to reach currency units and shares.",
    (
        FETCH_ID,
        ROW,
        RAW_SYMBOL,
        Column("session", "DATE", "the date the provider gives, in the exchange's zone", nullable=True),
        Column("open", "DOUBLE", "first price", "price_unit", nullable=True),
        Column("high", "DOUBLE", "highest price", "price_unit", nullable=True),
        Column("low", "DOUBLE", "lowest price", "price_unit", nullable=True),
        Column("close", "DOUBLE", "last price", "price_unit", nullable=True),
        Column("volume", "DOUBLE", "traded volume", "volume_unit", nullable=True),
        Column("value", "DOUBLE", "traded value", "value_unit", nullable=True),
        Column("adj_close", "DOUBLE", "the provider's own adjusted close", "price_unit", nullable=True),
        Column("currency", "VARCHAR", "as stated; null: the market's", nullable=True),
        Column("exchange", "VARCHAR", "as the provider spells it", nullable=True),
        Column("price_basis", "VARCHAR", "raw, split_adjusted or adjusted_by_source"),
        PRICE_UNIT,
        Column("volume_unit", "DOUBLE", "100 for Chinese lots", "shares per unit of volume", rule="positive"),
        Column("value_unit", "DOUBLE", "1e6 for million VND", "currency per unit of value", rule="positive"),
        Column(
            "basis_factor",
            "DOUBLE",
            "raw price = price * basis_factor, raw volume = volume / basis_factor; null: nobody knows",
            "ratio",
            nullable=True,
            rule="positive",
        ),
        Column("live", "BOOLEAN", "the provider itself marks the bar as still moving"),
    ),
)

RAW_ACTIONS = Table(
    "raw",
    "actions",
    ("fetch_id", "row"),
    "Corporate actions as one provider declares them.",
    (
        FETCH_ID,
        ROW,
        RAW_SYMBOL,
        Column("ex_date", "DATE", "first session without the entitlement", nullable=True),
        Column("event_type", "VARCHAR", "cash, split, stock_dividend, bonus, rights, capital_gain, spin_off"),
        Column("cash", "DOUBLE", "per share held before the event", "price_unit", nullable=True),
        Column("split_ratio", "DOUBLE", "new shares per old", "ratio", nullable=True),
        Column(
            "bonus_ratio",
            "DOUBLE",
            "additional shares per old (stock dividend and bonus)",
            "ratio",
            nullable=True,
        ),
        Column("rights_ratio", "DOUBLE", "subscribable shares per old", "ratio", nullable=True),
        Column("rights_price", "DOUBLE", "subscription price", "price_unit", nullable=True),
        Column("currency", "VARCHAR", "as stated; null: the market's", nullable=True),
        PRICE_UNIT,
        Column(
            "basis_factor",
            "DOUBLE",
            "raw cash = cash * basis_factor",
            "ratio",
            nullable=True,
            rule="positive",
        ),
        Column("inferred", "BOOLEAN", "deduced by us from prices, declared by nobody"),
        Column("detail", "VARCHAR", "the provider's own words", nullable=True),
    ),
)

RAW_INSTRUMENTS = Table(
    "raw",
    "instruments",
    ("fetch_id", "row"),
    "Listings as one provider gives them.",
    (
        FETCH_ID,
        ROW,
        RAW_SYMBOL,
        Column("asset", "VARCHAR", "STOCK, ETF, … when the provider says", nullable=True),
        Column("name", "VARCHAR", "issuer or product", nullable=True),
        Column("exchange", "VARCHAR", "as the provider spells it", nullable=True),
        Column("currency", "VARCHAR", "as stated", nullable=True),
        Column("listed", "DATE", "first trading day", nullable=True),
        Column("delisted", "DATE", "last trading day", nullable=True),
        Column("sector", "VARCHAR", "as the provider classifies", nullable=True),
        Column("isin", "VARCHAR", "ISO 6166", nullable=True),
    ),
)

FETCHES = Table(
    "raw",
    "fetches",
    ("fetch_id",),
    "One row per pull, failed ones included.",
    (
        FETCH_ID,
        PROVIDER,
        Column("dataset", "VARCHAR", "what was asked for"),
        MARKET,
        Column("symbol", "VARCHAR", "canonical symbol the answer is about; null: many", nullable=True),
        Column("range_start", "DATE", "first session asked for, or that a shorter answer speaks for", nullable=True),
        Column("range_end", "DATE", "last session asked for, or that a shorter answer speaks for", nullable=True),
        Column("request", "JSON", "the request as sent, without secrets"),
        Column("status", "INTEGER", "HTTP status; 0: no answer"),
        Column("fetched_at", "TIMESTAMPTZ", "when the answer was complete"),
        Column("latency_ms", "DOUBLE", "duration of the final attempt", "milliseconds"),
        Column("bytes", "BIGINT", "size of the decoded body", "bytes"),
        Column("sha256", "VARCHAR", "of the decoded body"),
        Column("lake_path", "VARCHAR", "payload archive, relative to the lake"),
        Column("frames", "VARCHAR[]", "datasets it yielded rows of"),
        Column("rows_path", "VARCHAR", "parsed rows, under raw/<provider>_<dataset>/ of the lake", nullable=True),
        Column("rows", "BIGINT", "rows parsed", "rows"),
        Column("parser_version", "VARCHAR", "parser that read it"),
        Column("error_code", "VARCHAR", "typed error (errors.py) instead of rows", nullable=True),
        Column("error", "VARCHAR", "its message", nullable=True),
        Column("following", "JSON", "the request for the rest, when the answer names one", nullable=True),
        Column("run_id", "VARCHAR", "Dagster run or command that asked"),
    ),
)
