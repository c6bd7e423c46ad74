"""The data dictionary: every table that crosses a boundary, described once as data.

The same `Table` gives the DuckDB DDL, the polars schema, the pandera contract (`quality.contracts`), Dagster's column
schema and the pages in docs/. It stands on the lowest floor because providers, quality and warehouse all speak it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import polars as pl

SqlType = Literal[
    "VARCHAR", "DATE", "DOUBLE", "BIGINT", "INTEGER", "BOOLEAN", "TIMESTAMPTZ", "VARCHAR[]", "JSON", "BLOB"
]
Rule = Literal["", "positive", "not_negative", "finite", "share", "symbol", "currency"]

POLARS: Mapping[SqlType, pl.DataType] = MappingProxyType(
    {
        "VARCHAR": pl.String(),
        "DATE": pl.Date(),
        "DOUBLE": pl.Float64(),
        "BIGINT": pl.Int64(),
        "INTEGER": pl.Int32(),
        "BOOLEAN": pl.Boolean(),
        "TIMESTAMPTZ": pl.Datetime("us", "UTC"),
        "VARCHAR[]": pl.List(pl.String()),
        "JSON": pl.String(),
        "BLOB": pl.Binary(),
    }
)
SYMBOL_PATTERN = r"^[A-Z]{2}:[A-Z_]+:[A-Z0-9.\-]+$"


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its type, meaning and unit, whether it may be null, and the rule each value obeys."""

    name: str
    type: SqlType
    description: str
    unit: str = ""
    nullable: bool = False
    rule: Rule = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its columns, its key (unique, proven before publishing), and what one row is."""

    schema: str
    name: str
    key: tuple[str, ...]
    description: str
    columns: tuple[Column, ...]
    ohlc: bool = False
    """low <= open, close <= high holds on every row."""

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def polars_schema(self) -> dict[str, pl.DataType]:
        return {column.name: POLARS[column.type] for column in self.columns}

    def ddl(self) -> str:
        """CREATE TABLE without keys or indexes: uniqueness is guaranteed by the writer and proven by a check."""
        columns = ", ".join(f'"{c.name}" {c.type}{"" if c.nullable else " NOT NULL"}' for c in self.columns)
        return f"CREATE TABLE IF NOT EXISTS {self.full_name} ({columns})"

    def conform(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame with exactly this table's columns, in order and type."""
        return frame.select(pl.col(name).cast(dtype) for name, dtype in self.polars_schema.items())


def _ohlc(scope: str = "") -> tuple[Column, ...]:
    unit = "currency per share"
    return (
        Column("open", "DOUBLE", f"first price of the session{scope}", unit, rule="positive"),
        Column("high", "DOUBLE", f"highest price{scope}", unit, rule="positive"),
        Column("low", "DOUBLE", f"lowest price{scope}", unit, rule="positive"),
        Column("close", "DOUBLE", f"last price{scope}", unit, rule="positive"),
    )


SYMBOL = Column("symbol", "VARCHAR", "canonical identifier MARKET:ASSET:CODE", rule="symbol")
SESSION = Column("session", "DATE", "trading day in the exchange's zone")
PROVIDER = Column("provider", "VARCHAR", "who says so")
CURRENCY = Column("currency", "VARCHAR", "ISO 4217 code", rule="currency")
FETCH_ID = Column("fetch_id", "VARCHAR", "the pull it came from (raw.fetches)")
PAYLOAD_ROW = Column("payload_row", "BIGINT", "row within the payload", "index from 0")
VOLUME = Column("volume", "BIGINT", "shares traded", "shares", nullable=True, rule="not_negative")
VALUE = Column("value", "DOUBLE", "traded value", "currency", nullable=True, rule="not_negative")
FLAGS = Column("flags", "INTEGER", "bits of quality.flags.BarFlag")
KNOWN_FROM = Column("known_from", "TIMESTAMPTZ", "since when this was believed: when the pull was complete")
KNOWN_TO = Column("known_to", "TIMESTAMPTZ", "until when; null: still believed", nullable=True)
CHANGE_CLASS = Column("change_class", "VARCHAR", "why this version exists (quality.revisions)")
BATCH = Column("batch", "BIGINT", "writer transaction that added it: the watermark of incremental builds")

# --- raw: the provider's own terms and units, under common column names --------------------------------------------

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

# --- the warehouse ---------------------------------------------------------------------------------------------------

FETCHES = Table(
    "raw",
    "fetches",
    ("fetch_id",),
    "One row per pull, failed ones included.",
    (
        FETCH_ID,
        PROVIDER,
        Column("dataset", "VARCHAR", "what was asked for"),
        Column("market", "VARCHAR", "market code"),
        Column("symbol", "VARCHAR", "canonical symbol the answer is about; null: many", nullable=True),
        Column("range_start", "DATE", "first session asked for", nullable=True),
        Column("range_end", "DATE", "last session asked for", nullable=True),
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
        Column("run_id", "VARCHAR", "Dagster run or command that asked"),
    ),
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
        *_ohlc(" on the stated price basis"),
        VOLUME,
        VALUE,
        Column("adj_close", "DOUBLE", "the provider's own adjusted close", "currency per share", nullable=True),
        CURRENCY,
        Column("exchange", "VARCHAR", "venue, when the provider says", nullable=True),
        Column("price_basis", "VARCHAR", "raw, split_adjusted or adjusted_by_source"),
        FLAGS,
        Column("provisional", "BOOLEAN", "the session was still running or settling when it was pulled"),
        KNOWN_FROM,
        KNOWN_TO,
        CHANGE_CLASS,
        FETCH_ID,
        PAYLOAD_ROW,
        BATCH,
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
        Column("ex_date", "DATE", "first session without the entitlement"),
        PROVIDER,
        Column("event_type", "VARCHAR", "cash, split, stock_dividend, bonus, rights, capital_gain, spin_off"),
        Column("seq", "INTEGER", "tells several events of one type on one day apart"),
        Column("cash", "DOUBLE", "per share held before the event", "currency per share", rule="finite"),
        Column("split_ratio", "DOUBLE", "new shares per old", "ratio", rule="positive"),
        Column("bonus_ratio", "DOUBLE", "additional shares per old", "ratio", rule="not_negative"),
        Column("rights_ratio", "DOUBLE", "subscribable shares per old", "ratio", rule="not_negative"),
        Column("rights_price", "DOUBLE", "subscription price", "currency per share", rule="not_negative"),
        CURRENCY,
        Column("inferred", "BOOLEAN", "deduced from prices, declared by nobody"),
        Column("detail", "VARCHAR", "the provider's own words", nullable=True),
        KNOWN_FROM,
        KNOWN_TO,
        CHANGE_CLASS,
        FETCH_ID,
        PAYLOAD_ROW,
        BATCH,
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
        KNOWN_FROM,
        KNOWN_TO,
        CHANGE_CLASS,
        FETCH_ID,
        PAYLOAD_ROW,
        BATCH,
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
        Column("market", "VARCHAR", "market code"),
        Column("raw_symbol", "VARCHAR", "the provider's spelling", nullable=True),
        Column("session", "DATE", "the date it claims", nullable=True),
        Column("reasons", "VARCHAR[]", "names of the rules it broke"),
        Column("row_json", "JSON", "the raw row"),
        Column("fetched_at", "TIMESTAMPTZ", "when it was pulled"),
    ),
)

GOLDEN_BARS = Table(
    "golden",
    "bars",
    ("symbol", "session"),
    "The one bar we believe: as traded, in currency units and shares, with who said it and how sure we are.",
    (
        SYMBOL,
        SESSION,
        *_ohlc(", as traded"),
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
        Column("market", "VARCHAR", "market code"),
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
        Column("ex_date", "DATE", "first session without the entitlement"),
        Column("event_type", "VARCHAR", "cash, split, stock_dividend, bonus, rights, capital_gain, spin_off"),
        Column("seq", "INTEGER", "tells several events of one type on one day apart"),
        Column("cash", "DOUBLE", "per share held before the event", "currency per share", rule="finite"),
        Column("split_ratio", "DOUBLE", "new shares per old", "ratio", rule="positive"),
        Column("bonus_ratio", "DOUBLE", "additional shares per old", "ratio", rule="not_negative"),
        Column("rights_ratio", "DOUBLE", "subscribable shares per old", "ratio", rule="not_negative"),
        Column("rights_price", "DOUBLE", "subscription price", "currency per share", rule="not_negative"),
        CURRENCY,
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

INGESTS = Table(
    "ops",
    "ingests",
    ("fetch_id", "dataset", "parser_version"),
    "What became of every pull's rows: accepted + quarantined = rows, and accepted = new + changed + unchanged.",
    (
        FETCH_ID,
        Column("dataset", "VARCHAR", "clean table it fed"),
        Column("parser_version", "VARCHAR", "parser that read it"),
        Column("rows", "BIGINT", "rows parsed", "rows"),
        Column("accepted", "BIGINT", "rows believed", "rows"),
        Column("quarantined", "BIGINT", "rows set aside with a reason", "rows"),
        Column("batch", "BIGINT", "writer transaction"),
    ),
)

RUNS = Table(
    "ops",
    "runs",
    ("run_id", "step"),
    "One row per step of a run that wrote something.",
    (
        Column("run_id", "VARCHAR", "Dagster run or command"),
        Column("step", "VARCHAR", "asset key or command"),
        Column("trigger", "VARCHAR", "schedule, sensor, ui, cli"),
        Column("market", "VARCHAR", "market code", nullable=True),
        Column("range_start", "DATE", "first session in scope", nullable=True),
        Column("range_end", "DATE", "last session in scope", nullable=True),
        Column("input", "BIGINT", "rows read", "rows"),
        Column("accepted", "BIGINT", "rows new or changed", "rows"),
        Column("unchanged", "BIGINT", "rows already known", "rows"),
        Column("quarantined", "BIGINT", "rows set aside", "rows"),
        Column("seconds", "DOUBLE", "time in the step", "seconds"),
        Column("code_version", "VARCHAR", "version of this package"),
        Column("finished_at", "TIMESTAMPTZ", "when it was committed"),
        Column("batch", "BIGINT", "writer transaction"),
    ),
)

WATERMARKS = Table(
    "ops",
    "watermarks",
    ("stage", "market"),
    "How far each incremental build has come.",
    (
        Column("stage", "VARCHAR", "table being built"),
        Column("market", "VARCHAR", "market code"),
        Column("batch", "BIGINT", "last writer transaction it has seen"),
    ),
)

DIRTY = Table(
    "ops",
    "dirty",
    ("stage", "symbol", "from_session", "batch"),
    "Work an incremental build still has to do: symbols, and since which session they changed.",
    (
        Column("stage", "VARCHAR", "table that must catch up"),
        SYMBOL,
        Column("from_session", "DATE", "first session that changed"),
        Column("batch", "BIGINT", "writer transaction that changed it"),
    ),
)

SNAPSHOTS = Table(
    "ops",
    "snapshots",
    ("snapshot",),
    "Published versions of the warehouse.",
    (
        Column("snapshot", "BIGINT", "number in the file name"),
        Column("published_at", "TIMESTAMPTZ", "when"),
        Column("run_id", "VARCHAR", "by which run"),
        Column("content_hash", "VARCHAR", "of golden and analytics: equal hash, equal content"),
    ),
)

TABLES: tuple[Table, ...] = (
    FETCHES,
    CLEAN_BARS,
    CLEAN_ACTIONS,
    INSTRUMENTS,
    SYMBOL_MAP,
    QUARANTINE,
    GOLDEN_BARS,
    GOLDEN_SESSIONS,
    EVENTS,
    FACTOR_STEPS,
    FACTOR_SETS,
    METRICS,
    INGESTS,
    RUNS,
    WATERMARKS,
    DIRTY,
    SNAPSHOTS,
)

# Functions of the lake alone, up to the indicators, which are described where they are computed.
LOGICAL: tuple[Table, ...] = (GOLDEN_BARS, EVENTS, FACTOR_STEPS, FACTOR_SETS)
