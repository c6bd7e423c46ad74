"""What a user can rely on when data is acquired: nothing half credited, nothing lost, nothing asked in vain."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import polars as pl
import pytest

from tests.house import DAYS, NOW, Clock, Scripted, acquire_all, answer, bar, house, registered, scripted
from vprism_pipelines.errors import NotFound, QuotaExhausted, Unavailable, WarehouseLocked
from vprism_pipelines.market.spec import MARKETS, US
from vprism_pipelines.providers.base import Capabilities, Dataset, Parsed, Payload, Request
from vprism_pipelines.warehouse import acquire
from vprism_pipelines.warehouse.house import House

SPAN = DAYS[0], DAYS[19]
CODES = "ABC"


def said(codes: str = CODES) -> dict[str, bytes | Exception]:
    return {f"US:STOCK:{code}": answer([bar(code, day, 10.0) for day in DAYS[:20]]) for code in codes}


def many(count: int) -> list[str]:
    """Tickers of two letters."""
    return [chr(65 + n // 26) + chr(65 + n % 26) for n in range(count)]


@pytest.fixture
def place(tmp_path: Path) -> House:
    return house(tmp_path, universe={"us": list(CODES)})


def fetches(place: House) -> pl.DataFrame:
    with place.warehouse.connect() as connection:
        return pl.DataFrame(connection.execute("FROM raw.fetches ORDER BY fetched_at, fetch_id").to_arrow_table())


# --- answers in several parts -----------------------------------------------------------------------------------------


class InParts(Scripted):
    """Dividends and splits are two questions about the same symbol and range."""

    name = "parts"
    immutable = True
    says: ClassVar[dict[str, bytes | Exception]] = {}
    asked: ClassVar[list[Request]] = []
    refused: ClassVar[set[tuple[str, str]]] = set()

    def plan(
        self, market: str, dataset: Dataset, symbols: Sequence[str], start: date, end: date, now: datetime
    ) -> list[Request]:
        whole = super().plan(market, dataset, symbols, start, end, now)
        return [replace(request, part=part) for request in whole for part in ("dividends", "splits")]

    def parse(self, payload: Payload) -> Parsed:
        if (str(payload.request.symbol)[-1], payload.request.part) in self.refused:
            raise Unavailable("not now")
        return super().parse(payload)


@pytest.fixture
def parts() -> Iterator[type[InParts]]:
    InParts.asked, InParts.refused, InParts.says = [], set(), said()
    with registered(InParts):
        yield InParts


def questions(provider: type[Scripted]) -> list[tuple[str, str]]:
    return [(str(request.symbol)[-1], request.part) for request in provider.asked]


def test_a_symbol_is_not_credited_when_only_some_of_its_requests_succeeded(place: House, parts: type[InParts]) -> None:
    parts.refused = {("B", "splits")}
    acquire_all(place, "parts", SPAN)
    assert len(parts.asked) == 6
    parts.asked, parts.refused = [], set()
    acquire_all(place, "parts", SPAN)
    assert questions(parts) == [("B", "splits")]
    parts.asked = []
    acquire_all(place, "parts", SPAN)
    assert parts.asked == []


def test_all_parts_of_one_symbol_are_asked_for_before_the_next(place: House, parts: type[InParts]) -> None:
    parts_of_all = [(code, part) for code in CODES for part in ("dividends", "splits")]
    acquire_all(place, "parts", SPAN)
    assert sorted(questions(parts)) == parts_of_all
    with place.warehouse.connect() as connection:
        connection.execute("DELETE FROM raw.fetches")
        requests = acquire.missing(place, connection, US, place.parser("parts"), SPAN, "bars")
    assert [(str(request.symbol)[-1], request.part) for request in requests] == parts_of_all


# --- answers shorter than asked ---------------------------------------------------------------------------------------


class CutShort(Scripted):
    """Answers speak for their last sessions only, and say so."""

    name = "cut"
    immutable = True
    says: ClassVar[dict[str, bytes | Exception]] = {}
    asked: ClassVar[list[Request]] = []
    since: ClassVar[date] = DAYS[5]

    def parse(self, payload: Payload) -> Parsed:
        request = payload.request
        assert request.start
        assert request.end
        spoken = (max(request.start, self.since), request.end)
        return replace(super().parse(payload), answered=spoken if spoken[0] <= spoken[1] else None)


def test_sessions_that_a_shorter_answer_does_not_speak_for_are_a_known_gap(place: House) -> None:
    CutShort.asked, CutShort.says, CutShort.since = [], said(), DAYS[5]
    with registered(CutShort):
        acquire_all(place, "cut", SPAN)
        assert set(fetches(place)["range_start"]) == {DAYS[5]}
        CutShort.asked, CutShort.since = [], DAYS[0]
        acquire_all(place, "cut", SPAN)
        gap = DAYS[0], DAYS[5] - timedelta(days=1)
        assert [(request.start, request.end) for request in CutShort.asked] == [gap] * 3


# --- pages ------------------------------------------------------------------------------------------------------------


class Paged(Scripted):
    """Every symbol takes three pages; an answer names the next one."""

    name = "paged"
    immutable = True
    says: ClassVar[dict[str, bytes | Exception]] = {}
    asked: ClassVar[list[Request]] = []
    dies_at: ClassVar[str | None] = None
    expired: ClassVar[bool] = False

    async def fetch(self, request: Request) -> Payload:
        if request.params.get("page") == self.dies_at and self.dies_at:
            raise KeyboardInterrupt
        return await super().fetch(request)

    def parse(self, payload: Payload) -> Parsed:
        page = int(payload.request.params.get("page", "1"))
        if page > 1 and self.expired:
            raise NotFound("this cursor is no longer known")
        following = replace(payload.request, params={"page": str(page + 1)}) if page < 3 else None
        return replace(super().parse(payload), following=following)


@pytest.fixture
def paged() -> Iterator[type[Paged]]:
    Paged.asked, Paged.says, Paged.dies_at, Paged.expired = [], said("A"), None, False
    with registered(Paged):
        yield Paged


@pytest.fixture
def single(tmp_path: Path) -> House:
    return house(tmp_path, universe={"us": ["A"]})


def pages(provider: type[Scripted]) -> list[str]:
    return [request.params.get("page", "1") for request in provider.asked]


def test_the_next_page_is_fetched_in_the_same_acquisition(single: House, paged: type[Paged]) -> None:
    done = acquire_all(single, "paged", SPAN)
    assert (pages(paged), done.requests) == (["1", "2", "3"], 3)
    acquire_all(single, "paged", SPAN)
    assert pages(paged) == ["1", "2", "3"]


def test_a_killed_acquisition_goes_on_with_the_next_page(single: House, paged: type[Paged]) -> None:
    paged.dies_at = "3"
    with pytest.raises(KeyboardInterrupt):
        acquire_all(single, "paged", SPAN)
    paged.dies_at, paged.asked = None, []
    acquire_all(single, "paged", SPAN)
    assert pages(paged) == ["3"]
    acquire_all(single, "paged", SPAN)
    assert pages(paged) == ["3"]


def test_a_cursor_that_has_expired_means_beginning_anew(single: House, paged: type[Paged]) -> None:
    paged.dies_at = "2"
    with pytest.raises(KeyboardInterrupt):
        acquire_all(single, "paged", SPAN)
    paged.dies_at, paged.expired, paged.asked = None, True, []
    with pytest.raises(NotFound):
        acquire_all(single, "paged", SPAN)
    assert pages(paged) == ["2"]
    paged.expired, paged.asked = False, []
    acquire_all(single, "paged", SPAN)
    assert pages(paged) == ["1", "2", "3"]


# --- providers that close ---------------------------------------------------------------------------------------------


@pytest.fixture
def one() -> Iterator[type[Scripted]]:
    kind = scripted("one")
    kind.immutable = True
    with registered(kind):
        yield kind


def test_nothing_more_is_asked_once_the_day_is_used_up(
    tmp_path: Path, one: type[Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = house(tmp_path, universe={"us": many(40)})

    def parse(self: Scripted, payload: Payload) -> Parsed:
        if len(self.asked) > 6:
            raise QuotaExhausted("25 requests per day")
        return Parsed({})

    monkeypatch.setattr(one, "parse", parse)
    done = acquire_all(place, "one", SPAN)
    assert done.requests + done.left == 40
    assert done.requests <= 6 + 4  # those in flight
    assert "QUOTA_EXHAUSTED" in done.warnings[0]


def test_a_provider_that_does_not_answer_is_not_asked_a_thousand_times(
    tmp_path: Path, one: type[Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = house(tmp_path, universe={"us": many(200)})

    async def fetch(self: Scripted, request: Request) -> Payload:
        self.asked.append(request)
        return Payload(request, 0, b"", NOW, error="UNAVAILABLE")

    def parse(self: Scripted, payload: Payload) -> Parsed:
        raise Unavailable("circuit open")

    monkeypatch.setattr(one, "fetch", fetch)
    monkeypatch.setattr(one, "parse", parse)
    with pytest.raises(Unavailable):
        acquire_all(place, "one", SPAN)
    assert len(one.asked) <= 14
    assert fetches(place).height == len(one.asked)


def test_an_answer_that_breaks_the_parser_costs_nobody_elses(
    place: House, one: type[Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    one.says = said()
    parse = one.parse

    def breaks(self: Scripted, payload: Payload) -> Parsed:
        if payload.request.symbol == "US:STOCK:B":
            raise KeyError("close")
        return parse(self, payload)

    monkeypatch.setattr(one, "parse", breaks)
    acquire_all(place, "one", SPAN)
    kept = fetches(place).select("symbol", "error_code").sort("symbol").rows()
    assert kept == [("US:STOCK:A", None), ("US:STOCK:B", "MALFORMED"), ("US:STOCK:C", None)]


def test_what_was_refused_for_good_is_asked_last(place: House, one: type[Scripted]) -> None:
    one.says = said("BC") | {"US:STOCK:A": b"{}"}

    def parse(self: Scripted, payload: Payload) -> Parsed:
        if json.loads(payload.body) == {}:
            raise NotFound("no such symbol")
        return Scripted.parse(self, payload)

    one.parse = parse  # type: ignore[method-assign]
    acquire_all(place, "one", SPAN)
    one.asked = []
    acquire_all(place, "one", (DAYS[0], DAYS[25]))
    assert [str(request.symbol)[-1] for request in one.asked] == ["B", "C", "A"]


# --- chunks -----------------------------------------------------------------------------------------------------------


def test_answers_are_sealed_and_entered_while_others_are_still_to_come(
    tmp_path: Path, one: type[Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acquire, "CHUNK", 10)
    place = house(tmp_path, universe={"us": many(100)})
    seen: list[int] = []
    entered = acquire._enter

    def count(*arguments: object) -> pl.DataFrame:
        seen.append(len(one.asked))
        return entered(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(acquire, "_enter", count)
    done = acquire_all(place, "one", SPAN)
    assert (done.requests, fetches(place).height, len(place.lake.payload_files())) == (100, 100, 10)
    assert seen[0] <= 44  # a chunk of each of the four that ask at once
    assert place.lake.staged("one") == []


def test_a_warehouse_that_is_locked_for_long_does_not_end_an_acquisition(
    tmp_path: Path, one: type[Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acquire, "CHUNK", 10)
    place = house(tmp_path, universe={"us": many(35)})
    entered, refusals = acquire._enter, [WarehouseLocked("busy")] * 2

    def locked(*arguments: object) -> pl.DataFrame:
        if refusals:
            raise refusals.pop()
        return entered(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(acquire, "_enter", locked)
    assert acquire_all(place, "one", SPAN).requests == 35
    assert fetches(place).height == 35


# --- data that perishes -----------------------------------------------------------------------------------------------


class Board(Scripted):
    """Ticks that are kept for three days."""

    name = "board"
    says: ClassVar[dict[str, bytes | Exception]] = {}
    asked: ClassVar[list[Request]] = []

    def capabilities(self) -> Capabilities:
        return replace(super().capabilities(), datasets=("bars", "ticks"), perishable=timedelta(days=3))


def test_data_that_is_gone_is_not_asked_for(tmp_path: Path) -> None:
    Board.asked = []
    place = house(tmp_path, clock=Clock(NOW), universe={"us": ["A"]})
    with registered(Board):
        acquire.acquire(place, US, "board", (DAYS[-20], DAYS[-1]), "test", dataset="ticks")
        (request,) = Board.asked
        assert (request.start, request.end) == (DAYS[-3], DAYS[-1])  # Wednesday's close was less than 3 days ago
        Board.asked = []
        acquire.acquire(place, US, "board", (DAYS[-20], DAYS[-1]), "test", dataset="bars")
        assert Board.asked[0].start == DAYS[-20]


def test_where_nobody_chose_symbols_all_that_the_listings_name_are_asked_for(
    tmp_path: Path, one: type[Scripted]
) -> None:
    place, vn = house(tmp_path), MARKETS["vn"]
    with place.warehouse.transaction() as connection:
        connection.execute(
            """INSERT INTO clean.instruments_ledger BY NAME
               SELECT symbol, 'kbs' AS provider, 'VND' AS currency, gone::DATE AS delisted, now() AS known_from,
                      'new' AS change_class, 'f' AS fetch_id, 0 AS payload_row, 1 AS batch
               FROM (VALUES ('VN:STOCK:FPT', NULL), ('VN:STOCK:OLD', '2020-01-01'), ('VN:WARRANT:CFPT', NULL),
                            ('VN:STOCK:ACB', NULL), ('US:STOCK:A', NULL)) AS t(symbol, gone)"""
        )
        assert acquire.universe(place, connection, vn, one()) == ["VN:STOCK:ACB", "VN:STOCK:FPT"]
        place = house(tmp_path, universe={"vn": ["HPG"]})
        assert acquire.universe(place, connection, vn, one()) == ["VN:STOCK:HPG"]
