"""What a user can rely on when a plan says what is missing, what it costs, how long it takes and what is perishing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import dagster as dg
import pytest
import typer

from benchmarks.acquisition import simulate
from tests.house import DAYS, NOW, Clock, Scripted, acquire_all, answer, bar, house, registered
from tests.receiver import receiver
from tests.sensing import look
from vprism_pipelines.market.spec import US
from vprism_pipelines.providers import registry
from vprism_pipelines.providers.base import Capabilities, Payload, Quota, Request
from vprism_pipelines.quality.checks import Status
from vprism_pipelines.serving.cli import data
from vprism_pipelines.serving.cli import plan as plan_command
from vprism_pipelines.serving.cli.render import Answer
from vprism_pipelines.serving.cli.session import Session, application
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.planner import Goal, plan, record_perishing

SPAN = DAYS[0], DAYS[19]
GOAL = Goal(US, SPAN, ("slow",), ("bars",))


class Slow(Scripted):
    """Fifteen requests a minute, a fifth of a second each."""

    name = "slow"
    immutable = True
    says: ClassVar[dict[str, bytes | Exception]] = {}
    asked: ClassVar[list[Request]] = []
    quota: ClassVar[Quota] = Quota(per_minute=15, concurrency=1)

    def capabilities(self) -> Capabilities:
        return replace(super().capabilities(), quota=self.quota)

    async def fetch(self, request: Request) -> Payload:
        return replace(await super().fetch(request), latency_ms=200.0)


class Board(Slow):
    """Ticks that are kept for three days."""

    name = "board"
    says: ClassVar[dict[str, bytes | Exception]] = {}
    asked: ClassVar[list[Request]] = []

    def capabilities(self) -> Capabilities:
        return replace(super().capabilities(), datasets=("bars", "ticks"), perishable=timedelta(days=3))


@pytest.fixture(autouse=True)
def providers() -> Iterator[None]:
    for kind in (Slow, Board):
        kind.asked = []
        kind.says = {f"US:STOCK:{code}": answer([bar(code, day, 10.0) for day in DAYS[:20]]) for code in "ABC"}
    with registered(Slow, Board):
        yield


def place_of(tmp_path: Path, count: int) -> House:
    codes = [chr(65 + n // 676) + chr(65 + n // 26 % 26) + chr(65 + n % 26) for n in range(count)]
    return house(tmp_path, clock=Clock(NOW), universe={"us": codes})


# --- what it costs and how long it takes ------------------------------------------------------------------------------


def test_a_plan_tells_requests_cost_pace_and_time(tmp_path: Path) -> None:
    made = plan(place_of(tmp_path, 1590), GOAL)
    (leg,) = made.legs
    assert (leg.symbols, leg.to_ask, len(leg.requests), leg.cost) == (1590, 1590, 1590, 1590)
    assert leg.limits == "15/min, 1 at a time"
    assert leg.held_by == "15/min"
    assert (leg.finishes - NOW) / timedelta(minutes=1) == pytest.approx(1590 / 15, rel=0.02)
    assert (leg.days, leg.today) == (1, 1590)
    assert made.finishes == made.run_ends == leg.finishes
    assert Slow.asked == []


def test_a_daily_limit_spreads_a_plan_over_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slow, "quota", Quota(per_minute=60, per_day=25, concurrency=1))
    (leg,) = plan(place_of(tmp_path, 60), GOAL).legs
    assert (leg.days, leg.today, leg.held_by) == (3, 25, "25/day")
    assert leg.run_ends < NOW + timedelta(minutes=2)
    assert leg.finishes.date() == (NOW + timedelta(days=2)).date()


def test_only_what_is_missing_is_planned_with_the_latency_of_late(tmp_path: Path) -> None:
    place = house(tmp_path, clock=Clock(NOW), universe={"us": ["A", "B", "C"]})
    acquire_all(place, "slow", SPAN)
    assert plan(place, GOAL).requests == 0
    (leg,) = plan(place, replace(GOAL, window=(DAYS[0], DAYS[39]))).legs
    assert [(request.start, request.end) for request in leg.requests] == [(DAYS[19] + timedelta(days=1), DAYS[39])] * 3
    assert leg.latency == pytest.approx(0.2)


def test_answers_of_an_interrupted_run_are_not_planned_again(tmp_path: Path) -> None:
    place = house(tmp_path, clock=Clock(NOW), universe={"us": ["A", "B", "C"]})
    first = plan(place, GOAL).legs[0].requests[0]
    place.lake.stage(Payload(first, 200, Slow.says["US:STOCK:A"], NOW))  # type: ignore[arg-type]
    (leg,) = plan(place, GOAL).legs
    assert ([str(request.symbol) for request in leg.requests], leg.waiting) == (["US:STOCK:B", "US:STOCK:C"], 1)


def test_what_is_drawn_already_counts(tmp_path: Path) -> None:
    place = place_of(tmp_path, 15)
    fresh = plan(place, GOAL).finishes
    with place.limiter(["slow"]) as limiter:
        for _ in range(15):
            with limiter._state.transaction() as db:
                db.execute("INSERT INTO draws VALUES ('slow', ?, 1)", (NOW.timestamp() - 1,))
    assert timedelta(seconds=55) < plan(place, GOAL).finishes - fresh < timedelta(seconds=62)


def test_providers_one_after_the_other_take_the_sum_and_side_by_side_the_longest(tmp_path: Path) -> None:
    made = plan(place_of(tmp_path, 300), replace(GOAL, providers=("slow", "board")))
    alone = [(leg.run_ends - NOW).total_seconds() for leg in made.legs]
    assert (made.side_by_side - NOW).total_seconds() == pytest.approx(max(alone))
    assert (made.run_ends - NOW).total_seconds() == pytest.approx(sum(alone), rel=0.01)


# --- what perishes ----------------------------------------------------------------------------------------------------


@pytest.fixture
def with_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {**registry.PROVIDERS, "board": replace(registry.PROVIDERS["board"], also=("ticks",))}
    monkeypatch.setattr(registry, "PROVIDERS", MappingProxyType(entries))


@pytest.mark.usefixtures("with_ticks")
def test_perishable_data_comes_first(tmp_path: Path) -> None:
    made = plan(place_of(tmp_path, 3), Goal(US, (DAYS[-5], DAYS[-1]), ("slow", "board")))
    assert [(leg.provider, leg.dataset) for leg in made.legs] == [
        ("board", "ticks"),
        ("slow", "bars"),
        ("board", "bars"),
    ]


@pytest.mark.usefixtures("with_ticks")
@pytest.mark.parametrize(
    ("count", "since", "urgency", "said"),
    [
        (3, DAYS[-1], Status.OK, None),
        (3, DAYS[-3], Status.WARN, "fetch it before"),
        (40_000, DAYS[-3], Status.FAIL, "some of it will be lost"),
    ],
)
def test_an_alert_comes_before_a_window_closes(
    tmp_path: Path, count: int, since: object, urgency: Status, said: str | None
) -> None:
    place = house(tmp_path, clock=Clock(NOW), universe={"us": ["A", "B", "C"]})
    symbols = tuple(f"US:STOCK:A{n}" for n in range(count)) if count > 3 else ()
    goal = Goal(US, (since, DAYS[-1]), ("board",), ("ticks",), symbols)  # type: ignore[arg-type]
    made = plan(place, goal)
    assert made.legs[0].urgency is urgency
    assert [said in warning for warning in made.warnings if said] == ([True] if said else [])
    assert bool(made.warnings) == bool(said)
    with place.warehouse.transaction() as connection:
        record_perishing(connection, made, "run")
        (row,) = connection.execute("SELECT provider, metric, value, status FROM quality.metrics").fetchall()
    assert (row[0], row[1], row[3]) == ("board", "perishing_ticks", urgency.value)
    assert 0 < row[2] <= 72


def test_what_is_about_to_perish_is_told_once_and_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = replace(registry.PROVIDERS["board"], beside=("ticks",))
    monkeypatch.setattr(registry, "PROVIDERS", MappingProxyType({**registry.PROVIDERS, "board": board}))
    clock = Clock(NOW - timedelta(days=1))
    with receiver() as (url, received):
        place = house(tmp_path, clock=clock, universe={"us": ["A"]}, providers={"us": ["board"]}, webhook_url=url)
        request, cursor = look(place, "us_perishing")
        assert isinstance(request, dg.RunRequest)
        assert dg.AssetKey(["raw", "us", "board_ticks"]) in (request.asset_selection or [])
        assert cursor == request.run_key
        again, same = look(place, "us_perishing", cursor)
        assert (again, same) == (request, cursor)  # Dagster runs nothing twice under one key
        clock.now = NOW
        later, _ = look(place, "us_perishing", cursor)
        assert isinstance(later, dg.RunRequest)
        assert later.run_key != request.run_key  # other sessions are about to perish
    assert [message.method for message in received] == ["POST", "POST"]
    assert b"board ticks: the oldest that is missing is gone at" in received[0].body
    with place.warehouse.connect() as connection:
        kept = connection.execute("SELECT run_id, metric, status FROM quality.metrics ORDER BY run_id").fetchall()
    assert kept == [(key, "perishing_ticks", "WARN") for key in sorted((request.run_key, later.run_key))]


def test_nothing_is_asked_for_where_nothing_perishes(tmp_path: Path) -> None:
    place = house(tmp_path, universe={"us": ["A"]}, providers={"us": ["slow"]})
    assert look(place, "us_perishing")[0] == "no provider of scheduled runs has quotes or ticks"


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_tells_it_per_provider_and_in_total(tmp_path: Path) -> None:
    root = application()
    data.add_to(root)
    plan_command.add_to(root)
    groups = [known.name for known in root.registered_groups]
    assert groups.count("data") == 1
    assert isinstance(root, typer.Typer)
    session = Session(given_house=place_of(tmp_path, 1590))
    told: Answer = plan_command.plan(session, "us", ["slow"], ["bars"], str(SPAN[0]), str(SPAN[1]))
    assert told.frame["provider"].to_list() == ["slow", "total"]
    assert told.frame["requests"].to_list() == [1590, 1590]
    assert any("1,590 symbols at 15/min: 10" in note and note.endswith("min") for note in told.notes)
    assert any(note.startswith("in total: 1,590 requests") for note in told.notes)


# --- a day ------------------------------------------------------------------------------------------------------------


@pytest.mark.processes
def test_a_day_with_five_providers_goes_as_planned_and_exceeds_no_quota(tmp_path: Path) -> None:
    """Scaled down; `benchmarks/acquisition.py` is the whole day."""
    day = simulate(tmp_path, vn=80, us=60, speed=60.0, ban_after=20)
    assert day.coverage == 1.0
    assert day.broken == []
    by_provider = {each.provider: each for each in day.asked}
    assert by_provider["yahoo"].delivered == 20
    assert by_provider["yahoo"].sent <= 20 + 10 + 2  # and those in flight
    assert (by_provider["alpha_vantage"].delivered, by_provider["nasdaq_data_link"].delivered) == (25, 15)
    assert abs(day.taken - day.told) <= 0.1 * day.told + max(0.0, day.overslept)
