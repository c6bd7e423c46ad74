"""What a user can rely on when a provider fails: the next one is asked for what is missing, and nothing is silent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, ClassVar

import dagster as dg
import polars as pl
import pytest

from tests.house import DAYS, NOW, US, Scripted, answer, bar, house, registered
from vprism_pipelines.errors import (
    Blocked,
    Malformed,
    NotFound,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    Unavailable,
)
from vprism_pipelines.providers import registry
from vprism_pipelines.providers.base import Capabilities, Dataset, Parsed, Payload, Quota, Request
from vprism_pipelines.providers.breaker import BreakerPolicy, CircuitBreaker
from vprism_pipelines.providers.state import State
from vprism_pipelines.serving import launch
from vprism_pipelines.serving.cli.run import told_failovers
from vprism_pipelines.serving.launch import RunReport, run_market
from vprism_pipelines.warehouse import router
from vprism_pipelines.warehouse.house import House

SPAN = DAYS[-5], DAYS[-1]
CODES = "ABC"


class Moody(Scripted):
    """A provider that refuses symbols as a test says; `*` is all of them."""

    immutable: ClassVar[bool] = True
    refuses: ClassVar[dict[str, ProviderError]] = {}
    offer: ClassVar[Mapping[str, Any]] = {}

    def capabilities(self) -> Capabilities:
        return replace(super().capabilities(), **self.offer)

    async def fetch(self, request: Request) -> Payload:
        type(self).asked.append(request)
        code = str(request.symbol)[-1]
        return Payload(request, 200, answer([bar(code, day, 10.0) for day in DAYS[-5:]]), self.clock())

    def parse(self, payload: Payload) -> Parsed:
        refusal = self.refuses.get(str(payload.request.symbol)[-1], self.refuses.get("*"))
        if refusal:
            raise refusal
        return super().parse(payload)

    @classmethod
    def codes(cls) -> list[str]:
        return sorted({str(request.symbol)[-1] for request in cls.asked})


def moody(name: str, **fields: Any) -> type[Moody]:
    plain: dict[str, Any] = {"name": name, "says": {}, "asked": [], "refuses": {}}
    return type(name.capitalize(), (Moody,), plain | fields)


@pytest.fixture
def one() -> type[Moody]:
    return moody("one")


@pytest.fixture
def two() -> type[Moody]:
    return moody("two")


@pytest.fixture
def three() -> type[Moody]:
    return moody("three")


@pytest.fixture(autouse=True)
def _listed(one: type[Moody], two: type[Moody], three: type[Moody]) -> Iterator[None]:
    with registered(one, two, three):
        yield


@pytest.fixture
def place(tmp_path: Path) -> House:
    return installation(tmp_path)


def installation(data: Path, standby: Sequence[str] = ("two", "three")) -> House:
    return house(data, universe={"us": list(CODES)}, providers={"us": ["one"]}, standby={"us": list(standby)})


def pull(place: House, beside: Sequence[str] = (), span: tuple[date, date] = SPAN) -> router.Delivery:
    return router.pull(place, US, "one", span, "test", dataset="bars", beside=beside)


def outcomes(made: router.Delivery) -> list[tuple[str, str, str]]:
    rows = made.failovers.select("symbol", "fallback", "outcome").rows()
    return sorted((symbol[-1], fallback, outcome) for symbol, fallback, outcome in rows)


# --- who is asked for what --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [
        Blocked("no"),
        RateLimited("later", retry_after=7200),
        QuotaExhausted("25 a day"),
        Unavailable("down"),
        Malformed("?"),
    ],
    ids=lambda failure: failure.code,
)
def test_the_next_provider_is_asked_for_what_is_missing_and_for_nothing_else(
    place: House, one: type[Moody], two: type[Moody], three: type[Moody], failure: ProviderError
) -> None:
    one.refuses = {"C": failure}
    made = pull(place)
    assert outcomes(made) == [("C", "two", "delivered")]
    assert made.failovers.row(0, named=True)["reason"] == failure.code
    assert (one.codes(), two.codes(), three.codes()) == (["A", "B", "C"], ["C"], [])
    assert made.refusal is None


def test_a_provider_that_delivers_everything_is_left_alone(place: House, two: type[Moody]) -> None:
    made = pull(place)
    assert (made.failovers.height, made.considered, two.asked) == (0, (), [])


def test_that_a_provider_does_not_know_a_symbol_is_an_answer(place: House, one: type[Moody], two: type[Moody]) -> None:
    one.refuses = {"B": NotFound("delisted")}
    assert pull(place).failovers.is_empty()
    assert two.asked == []


def test_what_the_next_one_fails_to_deliver_goes_to_the_one_after(
    place: House, one: type[Moody], two: type[Moody], three: type[Moody]
) -> None:
    one.refuses, two.refuses = {"*": Blocked("no")}, {"C": NotFound("what is C?")}
    made = pull(place)
    assert outcomes(made) == [
        ("A", "two", "delivered"),
        ("B", "two", "delivered"),
        ("C", "three", "delivered"),
        ("C", "two", "failed"),
    ]
    assert three.codes() == ["C"]
    assert made.refusal is None


def test_requests_that_were_never_sent_are_owed_too(tmp_path: Path, one: type[Moody], two: type[Moody]) -> None:
    many = [chr(65 + number // 26) + chr(65 + number % 26) for number in range(60)]
    place = house(tmp_path, universe={"us": many}, providers={"us": ["one"]}, standby={"us": ["two"]})
    one.refuses = {"*": QuotaExhausted("25 a day")}
    made = pull(place)
    assert 0 < made.first.requests < 10
    assert made.failovers.height == len(two.asked) == 60


def test_every_symbol_of_a_question_about_several_is_owed(
    place: House, one: type[Moody], two: type[Moody], monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan(self: Moody, market: str, dataset: Dataset, symbols: Sequence[str], *days: Any) -> list[Request]:
        if not symbols:
            return []
        (first, *_) = Moody.plan(self, market, dataset, symbols, *days)
        return [replace(first, symbol=None, provider_symbol=None, params={"symbols": ",".join(symbols)})]

    monkeypatch.setattr(one, "plan", plan)
    one.refuses = {"*": Blocked("no")}
    assert outcomes(pull(place)) == [(code, "two", "delivered") for code in CODES]
    assert len(one.asked) == 1


def test_a_provider_of_the_same_run_is_not_asked_twice(
    place: House, one: type[Moody], two: type[Moody], three: type[Moody]
) -> None:
    one.refuses = {"*": Blocked("no")}
    assert outcomes(pull(place, beside=["two"])) == [(code, "two", "pending") for code in CODES]
    assert (two.asked, three.asked) == ([], [])


def test_what_a_provider_of_the_same_run_has_delivered_already_is_not_owed(
    place: House, one: type[Moody], two: type[Moody], three: type[Moody]
) -> None:
    one.refuses, two.refuses = {"*": Blocked("no")}, {"C": Blocked("no")}
    router.pull(place, US, "two", SPAN, "test", dataset="bars", beside=["one"])
    assert outcomes(pull(place, beside=["two"])) == [
        ("A", "two", "delivered"),
        ("B", "two", "delivered"),
        ("C", "three", "delivered"),
    ]


# --- in which order ---------------------------------------------------------------------------------------------------


def test_a_provider_that_failed_a_lot_lately_comes_after_one_that_did_not(
    place: House, one: type[Moody], two: type[Moody], three: type[Moody]
) -> None:
    one.refuses = {"*": Blocked("no")}
    with place.warehouse.transaction() as connection:
        connection.execute(
            "INSERT INTO quality.provider_health BY NAME SELECT 'two' AS provider, 'us' AS market, ? AS date,"
            " 100 AS requests, 40 AS failed, 0.4 AS error_rate",
            [NOW.date()],
        )
    made = pull(place)
    assert [(each.provider, each.score) for each in made.considered] == [("three", 1.0), ("two", 0.6)]
    assert two.asked == []


def test_a_provider_whose_day_has_room_for_few_comes_later_and_gets_no_more_than_that(
    place: House, one: type[Moody], two: type[Moody], three: type[Moody]
) -> None:
    one.refuses, two.offer = {"*": Blocked("no")}, {"quota": Quota(per_day=1)}
    three.refuses = {"C": Unavailable("down")}
    made = pull(place)
    assert [each.provider for each in made.considered] == ["three", "two"]
    assert two.codes() == ["C"]


def test_a_provider_whose_circuit_is_open_is_not_asked(
    place: House, one: type[Moody], two: type[Moody], three: type[Moody]
) -> None:
    breaker = CircuitBreaker(State(place.state_path), BreakerPolicy(threshold=1))
    breaker.settle("two", breaker.admit("two"), Blocked.code)
    one.refuses = {"*": Blocked("no")}
    made = pull(place)
    assert "circuit is open" in made.considered[-1].refusal
    assert (two.codes(), three.codes()) == ([], ["A", "B", "C"])


@pytest.mark.parametrize(
    "offer", [{"asset_types": ("ETF",)}, {"universe": ("US:STOCK:Z",)}, {"span": (DAYS[0], DAYS[9])}], ids=str
)
def test_who_cannot_know_the_answer_is_not_asked(
    place: House, one: type[Moody], two: type[Moody], three: type[Moody], offer: Mapping[str, Any]
) -> None:
    one.refuses, two.offer = {"*": Blocked("no")}, offer
    pull(place)
    assert (two.codes(), three.codes()) == ([], ["A", "B", "C"])


def test_invented_data_never_stands_in_for_real_data(
    place: House, one: type[Moody], two: type[Moody], three: type[Moody], monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = {**registry.PROVIDERS, "two": replace(registry.entry("two"), synthetic=True)}
    monkeypatch.setattr(registry, "PROVIDERS", entries)
    one.refuses = three.refuses = {"*": Blocked("no")}
    made = pull(place)
    assert two.asked == []
    assert made.stale.height == 3


# --- what is left -----------------------------------------------------------------------------------------------------


def test_what_nobody_delivers_is_stale_and_said_so(place: House, one: type[Moody], two: type[Moody]) -> None:
    one.refuses = two.refuses = {"A": Unavailable("down")}
    place = House(place.settings.model_copy(update={"standby": {"us": ["two"]}}), place.clock)
    made = pull(place)
    assert outcomes(made) == [("A", "stored", "stale"), ("A", "two", "failed")]
    assert made.refusal is None  # B and C came
    with place.warehouse.transaction() as connection:
        router.keep(connection, US, made, "test", NOW)
        router.keep(connection, US, made, "test", NOW)
        measured = router.staleness(connection, US, "one", "test", place.thresholds)
        kept = connection.execute("SELECT count(*) FROM quality.failovers").fetchone()
    assert (measured.value, measured.status.value, kept) == (1.0, "WARN", (2,))
    assert measured.evidence["symbol"].to_list() == ["US:STOCK:A"]


def test_when_nobody_delivers_anything_the_first_failure_is_the_error(
    place: House, one: type[Moody], two: type[Moody], three: type[Moody]
) -> None:
    one.refuses, two.refuses, three.refuses = {"*": Blocked("no")}, {"*": Unavailable("?")}, {"*": Malformed("?")}
    assert isinstance(pull(place).refusal, Blocked)


# --- in a run ---------------------------------------------------------------------------------------------------------


def run(place: House, providers: Sequence[str] | None = None) -> RunReport:
    return run_market(place, "us", providers=providers, start=SPAN[0], end=SPAN[1])


def test_a_run_goes_on_with_the_next_provider_and_shows_it_everywhere(place: House, one: type[Moody]) -> None:
    one.refuses = {"*": Blocked("the wall")}
    report = run(place)
    assert report.success, report.failures
    believed = place.reader.query("SELECT DISTINCT symbol, chosen_provider FROM golden.bars ORDER BY ALL").rows()
    assert believed == [(f"US:STOCK:{code}", "two") for code in CODES]
    (raw,) = (step for step in report.steps if step.asset == "raw/us/one_bars")
    assert "| BLOCKED | two | delivered | 3 |" in raw.metadata["failover"]
    entered = place.reader.query("SELECT DISTINCT provider, reason, detail, fallback, outcome FROM quality.failovers")
    assert entered.rows() == [("one", "BLOCKED", "the wall", "two", "delivered")]
    assert told_failovers(place, report) == ["one owed 3 symbols (BLOCKED); two: delivered"]
    errors = place.reader.query("SELECT DISTINCT provider, error_code FROM raw.fetches WHERE error_code IS NOT NULL")
    assert errors.rows() == [("one", "BLOCKED")]
    with launch.instance(place.settings) as store:
        assert store.get_run_by_id(report.run_id).tags["vprism/failover/one"] == "two"  # type: ignore[union-attr]
        seen = store.fetch_observations(dg.AssetKey(["raw", "us", "two_bars"]), limit=10).records
    (observed,) = [record.asset_observation for record in seen]
    assert observed
    assert observed.metadata["asked instead of"].value == "one"


def test_one_of_two_providers_does_not_stop_a_run_and_stored_data_that_stands_in_is_a_warning(
    place: House, one: type[Moody], two: type[Moody], three: type[Moody]
) -> None:
    one.refuses = {"*": Unavailable("down")}
    report = run(place, ["one", "two"])
    assert report.success, report.failures
    assert (two.codes(), three.codes()) == (["A", "B", "C"], [])
    # Then nobody else is asked.
    one.refuses = {"A": Blocked("no")}
    place = House(place.settings.model_copy(update={"standby": {}}), place.clock)
    report = run(place)
    assert report.success, report.failures
    metrics = place.reader.query(
        "SELECT provider, value, status FROM quality.metrics WHERE metric = 'stale_fallback' AND run_id = $run",
        {"run": report.run_id},
    )
    assert metrics.rows() == [("one", 1.0, "WARN")]
    with launch.instance(place.settings) as store:
        (check,) = store.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(dg.AssetKey(["raw", "us", "one_bars"]), "stale_fallback"), limit=1
        )
    evidence = check.event.asset_check_evaluation.metadata["evidence"].value  # type: ignore[union-attr]
    assert f"| US:STOCK:A | bars | BLOCKED | {DAYS[-1]} |" in str(evidence)


def test_a_run_without_anything_new_fails_and_its_reasons_are_kept(place: House, one: type[Moody]) -> None:
    one.refuses = {"*": Blocked("no")}
    place = House(place.settings.model_copy(update={"standby": {}}), place.clock)
    report = run(place)
    assert [(failure.code, failure.exit_status) for failure in report.failures] == [("BLOCKED", 20)]
    with place.warehouse.connect() as connection:
        kept = pl.DataFrame(connection.execute("FROM quality.failovers").to_arrow_table())
    assert set(kept["outcome"]) == {"stale"}
    assert kept.height == 3
