"""What a provider is: it states what it can do, plans requests, fetches payloads, and parses them purely.

    plan(…) -> [Request]      which requests answer "these symbols, these sessions", and what they cost
    fetch(Request) -> Payload bytes as they came, errors included; archived before anyone looks inside
    parse(Payload) -> Parsed  pure and total: frames in the provider's own terms, or one typed ProviderError

Replaying a payload from the lake therefore takes the same path as pulling it from the network.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cache
from typing import Literal, Protocol, get_args, runtime_checkable

import polars as pl

from vprism_pipelines import tables

Dataset = Literal["bars", "actions", "instruments", "quotes", "fundamentals", "ticks"]
DATASETS: tuple[Dataset, ...] = get_args(Dataset)
PriceBasis = Literal["raw", "split_adjusted", "adjusted_by_source"]


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `most` requests in any `seconds` seconds."""

    most: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Quota:
    """What a provider lets one client do. `None` means: no such limit is known.

    Attributes:
        per_minute: Requests in any minute.
        burst: Requests at a time: in the part of a minute that is their part of `per_minute`; without it, in a second.
        per_day: Requests in a calendar day of `day_zone`.
        concurrency: Requests in flight.
        windows: Further limits, any number of them; all hold at once.
        account: What is counted together, when several providers draw on one allowance; empty: the provider alone.
        source: Who says so, or where the pace comes from when nobody does.
    """

    per_minute: int | None = None
    burst: int | None = None
    per_day: int | None = None
    concurrency: int = 4
    day_zone: str = "UTC"
    windows: tuple[Limit, ...] = ()
    account: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider offers, as stated on its page in docs/providers."""

    name: str
    title: str
    markets: tuple[str, ...]
    asset_types: tuple[str, ...]
    datasets: tuple[Dataset, ...]
    price_basis: PriceBasis
    history: str
    quota: Quota
    licence: str
    needs_network: bool = True
    needs_key: str | None = None
    immutable: bool = False
    """Its answers never change: what is archived is never asked for again."""
    universe: tuple[str, ...] = ()
    """Canonical symbols it can answer for, when that is a closed set."""
    span: tuple[date, date] | None = None
    """First and last session of a closed history; None: it goes on."""
    synthetic: bool = False
    """Invented data; people must be told wherever they see it."""
    perishable: timedelta | None = None
    """How long after the close a session's quotes and ticks can still be asked for; None: for ever, or it has none."""


@dataclass(frozen=True, slots=True)
class Request:
    """One question to one provider. `start` and `end` are session dates, both inclusive; secrets are not in it."""

    provider: str
    dataset: Dataset
    market: str
    symbol: str | None
    """Canonical symbol the answer is about; None when it covers many."""
    provider_symbol: str | None
    start: date | None
    end: date | None
    method: str = "GET"
    url: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    cost: int = 1
    part: str = ""
    """Which part of the answer it brings, when only several requests together answer for a symbol and a range."""

    def to_json(self) -> str:
        """Stable text form, as archived."""
        return json.dumps(
            {
                "provider": self.provider,
                "dataset": self.dataset,
                "market": self.market,
                "symbol": self.symbol,
                "provider_symbol": self.provider_symbol,
                "start": self.start.isoformat() if self.start else None,
                "end": self.end.isoformat() if self.end else None,
                "method": self.method,
                "url": self.url,
                "params": dict(self.params),
                "headers": dict(self.headers),
                "body": self.body,
                "cost": self.cost,
                **({"part": self.part} if self.part else {}),
            },
            sort_keys=True,
            ensure_ascii=False,
        )

    @classmethod
    def from_json(cls, text: str) -> Request:
        """The inverse of `to_json`."""
        fields = json.loads(text)
        for name in ("start", "end"):
            fields[name] = date.fromisoformat(fields[name]) if fields[name] else None
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Payload:
    """One answer, byte for byte, whatever it says.

    Attributes:
        status: HTTP status; 0 when no answer came, and then `error` says why.
        headers: The response headers that matter (content type, retry-after, rate limits), lower-case names.
        body: Decoded response body. Secrets the provider echoed are redacted by the transport.
        fetched_at: When the answer was complete, UTC.
        latency_ms: From the first byte sent to the last received, the final attempt only.
        error: Name of the `ProviderError` code for a failure below HTTP (`UNAVAILABLE`), else None.
    """

    request: Request
    status: int
    body: bytes
    fetched_at: datetime
    headers: Mapping[str, str] = field(default_factory=dict)
    latency_ms: float = 0.0
    error: str | None = None
    fetch_id: str = ""

    def __post_init__(self) -> None:
        if self.fetched_at.tzinfo is None:
            raise ValueError("Payload.fetched_at must be an aware datetime")
        if not self.fetch_id:
            object.__setattr__(self, "fetch_id", new_id())

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


@dataclass(frozen=True, slots=True)
class Parsed:
    """Frames by dataset, each satisfying the raw contract of `quality.contracts` for it. Absent means: none.

    Attributes:
        notes: What a person should know about the answer.
        following: The request for the rest, when the answer names one: the next page.
        answered: First and last session the answer speaks for, when it was cut short of what was asked.
    """

    frames: Mapping[Dataset, pl.DataFrame]
    notes: tuple[str, ...] = ()
    following: Request | None = None
    answered: tuple[date, date] | None = None

    @property
    def rows(self) -> int:
        return sum(frame.height for frame in self.frames.values())


@runtime_checkable
class Provider(Protocol):
    """The whole interface between a source of data and the rest of the house."""

    name: str
    parser_version: str
    """Changes whenever `parse` may answer differently for the same payload; then payloads are parsed again."""

    def capabilities(self) -> Capabilities: ...

    def plan(
        self, market: str, dataset: Dataset, symbols: Sequence[str], start: date, end: date, now: datetime
    ) -> list[Request]:
        """Requests that answer `dataset` for canonical `symbols` over sessions `start`..`end` inclusive."""
        ...

    async def fetch(self, request: Request) -> Payload:
        """Ask. Never raises for what the upstream does: a failure is a payload with its status or error."""
        ...

    def parse(self, payload: Payload) -> Parsed:
        """Read one payload.

        Raises:
            ProviderError: The payload is not the data asked for; the class says what it is instead.
        """
        ...

    async def aclose(self) -> None:
        """Release connections and child processes."""
        ...


# The raw frames a parser may return, by dataset: column name -> polars type (described in `vprism_pipelines.tables`).
RAW_BARS: Mapping[str, pl.DataType] = tables.RAW_BARS.polars_schema
RAW_ACTIONS: Mapping[str, pl.DataType] = tables.RAW_ACTIONS.polars_schema
RAW_INSTRUMENTS: Mapping[str, pl.DataType] = tables.RAW_INSTRUMENTS.polars_schema
RAW_FRAMES: Mapping[Dataset, Mapping[str, pl.DataType]] = {
    "bars": RAW_BARS,
    "actions": RAW_ACTIONS,
    "instruments": RAW_INSTRUMENTS,
    "fundamentals": tables.RAW_FUNDAMENTALS.polars_schema,
    "quotes": tables.RAW_QUOTES.polars_schema,
    "ticks": tables.RAW_TICKS.polars_schema,
}

_RAW_DEFAULTS: Mapping[str, object] = {
    "price_basis": "raw",
    "price_unit": 1.0,
    "volume_unit": 1.0,
    "value_unit": 1.0,
    "basis_factor": 1.0,
    "split_ratio": 1.0,
    "cash": 0.0,
    "bonus_ratio": 0.0,
    "rights_ratio": 0.0,
    "rights_price": 0.0,
    "live": False,
    "inferred": False,
}


def raw_frame(dataset: Dataset, columns: pl.DataFrame, payload: Payload) -> pl.DataFrame:
    """A raw frame from the columns a parser has: adds `fetch_id`, `row` and the defaults, casts, orders.

    Args:
        dataset: Which raw frame.
        columns: At least `raw_symbol` and the date column; extra columns are an error of the parser.
        payload: Where the rows came from.
    """
    schema = RAW_FRAMES[dataset]
    unknown = set(columns.columns) - set(schema)
    if unknown:
        raise ValueError(f"not columns of raw {dataset}: {sorted(unknown)}")
    if "row" not in columns.columns:
        columns = columns.with_row_index("row")
    casts, defaults = _expressions(dataset)
    fetch_id = pl.lit(payload.fetch_id).alias("fetch_id")
    given = {*columns.columns} - {"fetch_id"}
    return columns.select(
        casts[name] if name in given else fetch_id if name == "fetch_id" else defaults[name] for name in schema
    )


@cache
def _expressions(dataset: Dataset) -> tuple[Mapping[str, pl.Expr], Mapping[str, pl.Expr]]:
    """A raw frame's columns where a parser has them, and where it has not: made once, not for every answer."""
    schema = RAW_FRAMES[dataset]
    return (
        {name: pl.col(name).cast(dtype) for name, dtype in schema.items()},
        {name: pl.lit(_RAW_DEFAULTS.get(name), dtype=dtype).alias(name) for name, dtype in schema.items()},
    )


def empty_raw(dataset: Dataset) -> pl.DataFrame:
    """A raw frame without rows."""
    return pl.DataFrame(schema=dict(RAW_FRAMES[dataset]))


def new_id() -> str:
    """A sortable unique id: milliseconds since 1970 in hexadecimal, then 80 random bits (the layout of UUIDv7)."""
    return f"{int(time.time() * 1000):012x}{os.urandom(10).hex()}"


# How often the last sessions are asked for again although they are archived: providers correct them late.
OVERLAP = timedelta(days=7)
