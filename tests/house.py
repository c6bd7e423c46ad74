"""Builders shared by the tests of the warehouse: an installation, scripted providers, refreshes without Dagster."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, ClassVar, Self

import duckdb
import polars as pl
import pytest

from vprism_pipelines.errors import Malformed
from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.market.spec import MarketSpec, market
from vprism_pipelines.providers import registry
from vprism_pipelines.providers.base import Capabilities, Dataset, Parsed, Payload, Quota, Request, raw_frame
from vprism_pipelines.settings import Settings
from vprism_pipelines.warehouse import acquire, across, analytics, factor_fit, findings, golden, revisions, schema
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.ingest import Ingested, clean_pulls, ingest, pending
from vprism_pipelines.warehouse.lake import Lake
from vprism_pipelines.warehouse.publish import Published, publish
from vprism_pipelines.warehouse.rebuild import build

US = market("us")
NOW = datetime(2026, 11, 20, 22, 0, tzinfo=UTC)  # a Friday, an hour after the close in New York
DAYS: tuple[date, ...] = tuple(calendar("XNYS").sessions(date(2024, 1, 2), date(2026, 11, 20))["session"])
"""Sessions in New York, for synthetic bars."""

Bar = Mapping[str, Any]


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def house(data: Path, *, clock: Callable[[], datetime] | None = None, **settings: Any) -> House:
    """An installation of its own under `data`; unless told otherwise it is the evening of `NOW`."""
    return House(settings_of(data, **settings), clock=clock or Clock())


def settings_of(data: Path, **settings: Any) -> Settings:
    """Settings under `data`, whatever the environment says."""
    plain = {"data_dir": data, "duckdb_database": data / "vprism.duckdb", "lock_timeout": 60.0}
    return Settings(_env_file=None, **(plain | settings))


# --- bars -----------------------------------------------------------------------------------------------------------


def bar(code: str, session: date, close: float, **fields: Any) -> dict[str, Any]:
    """A plausible daily bar around its close, as a provider's answer carries it."""
    plain = {
        "raw_symbol": code,
        "session": session.isoformat(),
        "open": close,
        "high": round(close * 1.01, 4),
        "low": round(close * 0.99, 4),
        "close": close,
        "volume": 1000.0,
        "currency": "USD",
    }
    return plain | fields


def action(code: str, ex_date: date, **terms: Any) -> dict[str, Any]:
    """A corporate action; `event_type` is a cash dividend unless said otherwise."""
    return {"raw_symbol": code, "ex_date": ex_date.isoformat(), "event_type": "cash", "currency": "USD"} | terms


def answer(bars: Iterable[Bar] = (), actions: Iterable[Bar] = ()) -> bytes:
    """The body of a synthetic answer."""
    return json.dumps({"bars": list(bars), "actions": list(actions)}, default=str).encode()


# --- providers --------------------------------------------------------------------------------------------------------


class Scripted:
    """A provider whose answers a test writes: per symbol, whatever `says` holds at the time of the request.

    Subclasses are providers of different names; `says` maps a canonical symbol to a body, or to an exception that
    `fetch` raises; `asked` is every request so far.
    """

    name: ClassVar[str] = "scripted"
    parser_version = "1"
    says: ClassVar[dict[str, bytes | Exception]] = {}
    asked: ClassVar[list[Request]] = []
    immutable: ClassVar[bool] = False

    def __init__(self, transport: object = None, *, clock: Callable[[], datetime] = Clock()) -> None:  # noqa: B008
        self.transport, self.clock = transport, clock

    def capabilities(self) -> Capabilities:
        return Capabilities(
            name=self.name,
            title=f"Scripted {self.name}",
            markets=("us",),
            asset_types=("STOCK",),
            datasets=("bars", "actions"),
            price_basis="raw",
            history="whatever the test says",
            quota=Quota(),
            licence="none",
            needs_network=False,
            immutable=self.immutable,
        )

    def plan(
        self, market: str, dataset: Dataset, symbols: Sequence[str], start: date, end: date, now: datetime
    ) -> list[Request]:
        return [
            Request(self.name, dataset, market, symbol, symbol.split(":")[-1], start, end, url=f"test:{symbol}")
            for symbol in symbols
        ]

    async def fetch(self, request: Request) -> Payload:
        type(self).asked.append(request)
        said = self.says.get(str(request.symbol), answer())
        if isinstance(said, Exception):
            raise said
        return Payload(request, 200, said, self.clock())

    def parse(self, payload: Payload) -> Parsed:
        """The rows of the answer, cut to the sessions asked for."""
        try:
            document = json.loads(payload.body)
        except ValueError:
            raise Malformed("the answer is not JSON", provider=self.name) from None
        request = payload.request
        frames: dict[Dataset, pl.DataFrame] = {}
        for dataset, column in (("bars", "session"), ("actions", "ex_date")):
            if document[dataset]:
                rows = pl.DataFrame(document[dataset], infer_schema_length=None)
                rows = rows.with_row_index("row").with_columns(pl.col(column).str.to_date())
                if request.start and request.end and dataset == "bars":
                    rows = rows.filter(pl.col(column).is_between(request.start, request.end))
                if rows.height:
                    frames[dataset] = raw_frame(dataset, rows, payload)  # type: ignore[index, arg-type]
        return Parsed(frames)

    async def aclose(self) -> None:
        """Nothing to release."""


def scripted(name: str) -> type[Scripted]:
    """A new provider class with a script of its own."""
    return type(name.capitalize(), (Scripted,), {"name": name, "says": {}, "asked": []})


@contextmanager
def registered(*classes: type[Scripted], alone: bool = False) -> Iterator[None]:
    """The registry with these providers of the us market, beside the real ones or alone."""
    module = ModuleType("vprism_pipelines.providers.scripted_by_tests")
    entries = {}
    for kind in classes:
        setattr(module, kind.__name__, kind)
        where = f"scripted_by_tests:{kind.__name__}"
        entries[kind.name] = registry.Entry(f"Scripted {kind.name}", where, ("us",), network=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        patch.setattr(registry, "PROVIDERS", MappingProxyType(entries if alone else {**registry.PROVIDERS, **entries}))
        yield


# --- a warehouse without Dagster ------------------------------------------------------------------------------------


class Bench:
    """A warehouse in memory over a lake on disk: the stages of a run by hand, in one process, in milliseconds.

    Args:
        lake: The lake; several benches may share one, as a rebuild does.
        spec: Market.
    """

    def __init__(self, lake: Lake, spec: MarketSpec = US) -> None:
        self.lake, self.spec = lake, spec
        self.connection = duckdb.connect()
        self.connection.execute("SET TimeZone = 'UTC'; SET threads = 1")  # small tables: threads only cost
        schema.ensure(self.connection)
        golden.build_sessions(self.connection, spec, DAYS[-1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def pull(self, provider: type[Scripted], body: bytes, at: datetime, days: tuple[date, date]) -> Payload:
        """Archive one answer and enter it into `raw.fetches`, as a fetch at `at` would."""
        request = Request(provider.name, "bars", self.spec.code, None, None, *days)
        payload = Payload(request, 200, body, at)
        self.register(provider, [payload], self.lake.seal([payload], "test"))
        return payload

    def register(self, provider: type[Scripted], payloads: Sequence[Payload], path: str) -> None:
        """Enter sealed payloads."""
        from vprism_pipelines.warehouse import pulls

        parser = provider()
        fetches = pulls.keep(self.lake, parser, pulls.parse_all(parser, payloads), path)
        pulls.register(self.connection, fetches, "test")

    def ingest(
        self, dataset: str = "bars", *, again: bool = False, window: tuple[date, date] | None = None
    ) -> Ingested:
        """Clean and remember what is pending."""
        found = pending(self.connection, self.spec, dataset, window, again=again)
        if found.is_empty():
            return Ingested()
        cleaned = clean_pulls(self.lake, self.spec, dataset, found)
        return ingest(self.connection, self.spec, dataset, found, cleaned)

    def build(self) -> None:
        """Golden and analytics."""
        revisions.build_revisions(self.connection, self.spec)
        golden.build_events(self.connection, self.spec)
        findings.build_findings(self.connection, self.spec)
        golden.build_bars(self.connection, self.spec)
        golden.build_factors(self.connection, self.spec)
        factor_fit.refresh(self.connection, self.spec)
        analytics.build_daily(self.connection, self.spec)
        across.build_market(self.connection, self.spec)

    def refresh(self, *, again: bool = False) -> None:
        """Everything from pending pulls to analytics."""
        for dataset in ("bars", "actions"):
            self.ingest(dataset, again=again)
        self.build()

    def frame(self, sql: str) -> pl.DataFrame:
        """The result of a query."""
        return pl.DataFrame(self.connection.execute(sql).to_arrow_table())


def content(source: Bench | duckdb.DuckDBPyConnection) -> dict[str, pl.DataFrame]:
    """Every table that is a function of the lake alone, ordered by its key."""
    connection = source.connection if isinstance(source, Bench) else source
    return {
        table.full_name: pl.DataFrame(
            connection.execute(f"FROM {table.full_name} ORDER BY {', '.join(table.key)}").to_arrow_table()
        )
        for table in schema.LOGICAL
    }


# --- a whole installation without Dagster ---------------------------------------------------------------------------


def acquire_all(place: House, provider: str, days: tuple[date, date], run_id: str = "test") -> acquire.Acquired:
    """Pull one provider for the us market."""
    return acquire.acquire(place, US, provider, days, run_id)


def refresh(place: House, provider: str, days: tuple[date, date], run_id: str = "test") -> Published:
    """What a run does, without the conductor: pull, clean, remember, believe, analyse, publish."""
    acquire_all(place, provider, days, run_id)
    for dataset in ("bars", "actions"):
        with place.warehouse.connect() as connection:
            found = pending(connection, US, dataset)
        if not found.is_empty():
            cleaned = clean_pulls(place.lake, US, dataset, found)
            with place.warehouse.transaction() as connection:
                ingest(connection, US, dataset, found, cleaned)
    build(place, US)
    return publish(place.warehouse, run_id, place.clock())


def published_content(place: House) -> dict[str, pl.DataFrame]:
    """Every table that is a function of the lake alone, as readers see it."""
    with duckdb.connect(str(place.settings.database), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return content(connection)


def equal(one: Mapping[str, pl.DataFrame], other: Mapping[str, pl.DataFrame]) -> bool:
    """Whether two contents are the same, bit for bit."""
    return one.keys() == other.keys() and all(frame.equals(other[name]) for name, frame in one.items())
