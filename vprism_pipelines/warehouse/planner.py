"""Planning: what a goal of coverage still costs of each provider, how long that takes, and what is about to perish.

    plan(house, Goal(market("vn"), (date(2026, 1, 1), date(2026, 11, 20)))).finishes

A plan asks nobody. It comes from the archive (what is missing), from the quotas and what is drawn on them already, and
from how long providers took to answer lately; an acquisition that starts now goes the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import duckdb
import polars as pl

from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.providers import registry
from vprism_pipelines.providers.base import Dataset, Payload, Quota, Request
from vprism_pipelines.providers.quota import Limiter, describe
from vprism_pipelines.providers.timeline import Forecast, Timeline
from vprism_pipelines.quality.checks import Status
from vprism_pipelines.tables import METRICS
from vprism_pipelines.warehouse import pulls
from vprism_pipelines.warehouse.acquire import missing, universe
from vprism_pipelines.warehouse.building import insert
from vprism_pipelines.warehouse.house import House

__all__ = ["Goal", "Leg", "Plan", "plan", "record_perishing"]

# Answers whose median latency stands for the next ones.
_RECENT = 500
# Less than this part of its time left: data that perishes is worth an alert.
_ALERT = 0.5
_FOREVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Goal:
    """Coverage wanted.

    Attributes:
        spec: Market.
        window: First and last session.
        providers: Whom to ask; empty: those that scheduled runs ask.
        datasets: What for; empty: whatever a provider has a raw asset of.
        symbols: Canonical symbols; empty: each provider's own closed set, or the configured universe.
    """

    spec: MarketSpec
    window: tuple[date, date]
    providers: tuple[str, ...] = ()
    datasets: tuple[Dataset, ...] = ()
    symbols: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Leg:
    """What one dataset of one provider still takes. All instants are UTC.

    Attributes:
        symbols: Symbols of the goal.
        to_ask: Of them not wholly archived.
        requests: In the order in which they will be sent.
        waiting: Answers of an interrupted run in the archive, which only have to be entered.
        limits: The quota in words.
        held_by: The limit that sets the pace; empty: none does.
        latency: Seconds per answer lately; None: it never answered, counted as none.
        begins: When the first request is granted, if nobody else is asked before.
        run_ends: When a run is done with it: with all, or with what the provider's day allows.
        finishes: When everything is there.
        days: Days of the provider over which its daily limit spreads it.
        today: Requests of the first of these days.
        closes: When the oldest missing data is gone for good; None: it keeps.
        urgency: WARN when half of its time is over, FAIL when it closes before everything is there.
    """

    provider: str
    dataset: Dataset
    symbols: int
    to_ask: int
    requests: tuple[Request, ...]
    waiting: int
    limits: str
    held_by: str
    latency: float | None
    begins: datetime
    run_ends: datetime
    finishes: datetime
    days: int
    today: int
    closes: datetime | None
    urgency: Status

    @property
    def cost(self) -> int:
        """What the requests take from the quota."""
        return sum(request.cost for request in self.requests)

    @property
    def warning(self) -> str | None:
        """What is about to be lost, if anything is."""
        if self.closes is None or self.urgency is Status.OK:
            return None
        what = f"{self.provider} {self.dataset}: the oldest that is missing is gone at {self.closes:%Y-%m-%dT%H:%MZ}"
        if self.urgency is Status.WARN:
            return f"{what}; fetch it before"
        return f"{what}, and fetching takes until {self.finishes:%Y-%m-%dT%H:%MZ}: some of it will be lost"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a goal takes.

    Attributes:
        legs: One per provider and dataset, in the order in which to ask: what perishes first, first.
        made_at: When it was planned.
        run_ends: When a run that asks one provider after the other is done.
        side_by_side: When it would be if all were asked at once.
        finishes: When everything is there, however many days that takes.
    """

    goal: Goal
    legs: tuple[Leg, ...]
    made_at: datetime
    run_ends: datetime
    side_by_side: datetime
    finishes: datetime

    @property
    def requests(self) -> int:
        return sum(len(leg.requests) for leg in self.legs)

    @property
    def cost(self) -> int:
        return sum(leg.cost for leg in self.legs)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is about to perish."""
        return tuple(leg.warning for leg in self.legs if leg.warning)


def plan(house: House, goal: Goal) -> Plan:
    """What is missing of a goal, what it costs, and when it would be there. Nobody is asked.

    Args:
        house: The installation.
        goal: Coverage wanted.

    Raises:
        UnknownProvider: There is no such provider.
        QuotaExhausted: A request costs more than a quota ever allows.
    """
    now = house.clock()
    names = goal.providers or tuple(house.providers_of(goal.spec))
    with house.warehouse.connect() as connection:
        works = [
            _work(house, connection, goal, name, dataset, now)
            for name in names
            for dataset in _datasets(name, goal.datasets)
        ]
    works.sort(key=lambda work: work.closes or _FOREVER)
    with house.limiter(names, clock=now.timestamp) as limiter:
        alone = _forecasts(works, limiter, now, in_turn=False)
        in_turn = _forecasts(works, limiter, now, in_turn=True)
    legs = tuple(_leg(work, forecast, now) for work, forecast in zip(works, alone, strict=True))
    return Plan(
        goal,
        legs,
        now,
        run_ends=_utc(max((forecast.today_ends for forecast in in_turn), default=now.timestamp())),
        side_by_side=max((leg.run_ends for leg in legs), default=now),
        finishes=_utc(max((forecast.ends for forecast in in_turn), default=now.timestamp())),
    )


def record_perishing(connection: duckdb.DuckDBPyConnection, made: Plan, run_id: str) -> None:
    """Keep the hours left for perishable data in `quality.metrics`, as `perishing_<dataset>`; once for a run."""
    rows = [
        {
            "date": made.goal.spec.today(made.made_at),
            "market": made.goal.spec.code,
            "symbol": "*",
            "provider": leg.provider,
            "metric": f"perishing_{leg.dataset}",
            "value": round((leg.closes - made.made_at).total_seconds() / 3600, 6),
            "status": leg.urgency.value,
            "run_id": run_id,
        }
        for leg in made.legs
        if leg.closes
    ]
    connection.execute(
        f"DELETE FROM {METRICS.full_name} WHERE run_id = ? AND starts_with(metric, 'perishing_')", [run_id]
    )
    insert(connection, METRICS, pl.DataFrame(rows, schema=METRICS.polars_schema))


@dataclass(frozen=True, slots=True)
class _Work:
    """What is missing of one dataset of one provider, before anybody asks how long it takes."""

    provider: str
    dataset: Dataset
    quota: Quota
    symbols: int
    requests: tuple[Request, ...]
    waiting: int
    latency: float | None
    closes: datetime | None
    keeps: timedelta | None


def _datasets(provider: str, wanted: Sequence[Dataset]) -> list[Dataset]:
    item = registry.entry(provider)
    if not wanted:
        return [item.dataset, *item.also]
    return [dataset for dataset in item.datasets if dataset in wanted]


def _work(
    house: House, connection: duckdb.DuckDBPyConnection, goal: Goal, name: str, dataset: Dataset, now: datetime
) -> _Work:
    parser = house.parser(name)
    offer = parser.capabilities()
    symbols = goal.symbols or tuple(universe(house, connection, goal.spec, parser))
    staged = {_question(answer.request) for answer in house.lake.staged(name) if _answered(answer)}
    asked = missing(house, connection, goal.spec, parser, goal.window, dataset, symbols)
    requests = tuple(request for request in asked if _question(request) not in staged)
    kept = offer.perishable if dataset in pulls.PERISHABLE else None
    return _Work(
        name,
        dataset,
        offer.quota,
        len(symbols),
        requests,
        len(asked) - len(requests),
        _latency(connection, name),
        _closes(goal.spec, requests, kept) if kept else None,
        kept,
    )


def _question(request: Request) -> tuple[object, ...]:
    return request.dataset, request.market, request.symbol, request.part, request.start, request.end


def _answered(payload: Payload) -> bool:
    return payload.error is None and payload.status < 400


def _latency(connection: duckdb.DuckDBPyConnection, provider: str) -> float | None:
    """Median of the newest answers, in seconds."""
    row = connection.execute(
        """SELECT median(latency_ms) / 1000 FROM (
               SELECT latency_ms FROM raw.fetches WHERE provider = ? AND status <> 0
               ORDER BY fetched_at DESC LIMIT ?)""",
        [provider, _RECENT],
    ).fetchone()
    return row[0] if row else None


def _closes(spec: MarketSpec, requests: Sequence[Request], keeps: timedelta) -> datetime | None:
    """When the first session asked for is gone."""
    firsts = [request.start for request in requests if request.start]
    if not firsts:
        return None
    first = min(firsts)
    sessions = calendar(spec.calendar).sessions(first, first + timedelta(days=31))
    close: datetime | None = sessions["close"][0] if sessions.height else None
    return close + keeps if close else None


def _forecasts(works: Sequence[_Work], limiter: Limiter, now: datetime, *, in_turn: bool) -> list[Forecast]:
    """How each goes: one provider after the other, or all at once but for those that share an account."""
    timelines: dict[str, Timeline] = {}
    since, found = now.timestamp(), []
    for work in works:
        account = work.quota.account or work.provider
        if account not in timelines:
            timelines[account] = limiter.timeline(work.provider)
        costs = [request.cost for request in work.requests]
        found.append(timelines[account].extend(costs, work.latency or 0.0, since))
        since = found[-1].today_ends if in_turn and costs else since
    return found


def _leg(work: _Work, forecast: Forecast, now: datetime) -> Leg:
    finishes = _utc(forecast.ends)
    urgency = Status.OK
    if work.closes and work.keeps:
        urgency = Status.WARN if work.closes - now < _ALERT * work.keeps else urgency
        urgency = Status.FAIL if finishes > work.closes else urgency
    return Leg(
        work.provider,
        work.dataset,
        work.symbols,
        _symbols(work),
        work.requests,
        work.waiting,
        describe(work.quota),
        forecast.limit,
        work.latency,
        _utc(forecast.begins),
        _utc(forecast.today_ends),
        finishes,
        forecast.days,
        forecast.today,
        work.closes,
        urgency,
    )


def _symbols(work: _Work) -> int:
    """How many symbols the requests are about."""
    named = {symbol for request in work.requests for symbol in pulls.symbols_of(request)}
    return work.symbols if None in named else len(named)


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
