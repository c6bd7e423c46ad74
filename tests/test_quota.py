"""What a provider can rely on: it is never asked more often than it allows, by all processes together."""

from __future__ import annotations

import asyncio
import bisect
import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.house import scripted
from vprism_pipelines.errors import QuotaExhausted, StorageUnwritable
from vprism_pipelines.providers import registry
from vprism_pipelines.providers.base import Limit, Quota
from vprism_pipelines.providers.breaker import BreakerPolicy, CircuitBreaker, CircuitState
from vprism_pipelines.providers.quota import Limiter, Metered
from vprism_pipelines.providers.state import State

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC).timestamp()


class Clock:
    """A clock that only moves when somebody sleeps or says so."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds
        await asyncio.sleep(0)


def limiter(clock: Clock, quota: Quota, state: State | None = None, **caps: int) -> Limiter:
    return Limiter(state or State(None), {"p": quota}, clock=clock, sleep=clock.sleep, **caps)


def grants(limits: Limiter, costs: Sequence[int], provider: str = "p") -> list[float]:
    """When each of a row of requests was granted."""

    async def run() -> list[float]:
        granted = []
        for cost in costs:
            async with limits.permit(provider, cost) as at:
                granted.append(at)
        return granted

    return asyncio.run(run())


def most_in_a_window(granted: Sequence[float], seconds: float, costs: Sequence[int] | None = None) -> int:
    """The largest cost granted within any window of that length."""
    at = sorted(granted)
    total = [0]
    for cost in costs or [1] * len(at):
        total.append(total[-1] + cost)
    return max(total[i + 1] - total[bisect.bisect_right(at, end - seconds)] for i, end in enumerate(at))


# --- windows ------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    per_minute=st.integers(1, 40),
    burst=st.none() | st.integers(1, 50),
    arrivals=st.lists(st.tuples(st.floats(0, 45), st.integers(1, 3)), min_size=1, max_size=120),
)
def test_no_sixty_seconds_and_no_burst_ever_hold_more_than_allowed(
    per_minute: int, burst: int | None, arrivals: list[tuple[float, int]]
) -> None:
    clock = Clock()
    limits = limiter(clock, Quota(per_minute=per_minute, burst=burst))
    smallest = min(per_minute, burst or per_minute)
    costs = [min(cost, smallest) for _, cost in arrivals]

    async def run() -> list[float]:
        granted = []
        for (gap, _), cost in zip(arrivals, costs, strict=True):
            clock.now += gap if gap > 30 else 0  # mostly back to back, with a pause now and then
            async with limits.permit("p", cost) as at:
                granted.append(at)
        return granted

    granted = asyncio.run(run())
    assert most_in_a_window(granted, 60, costs) <= per_minute
    if burst and burst < per_minute:
        assert most_in_a_window(granted, 60 * burst / per_minute, costs) <= burst


@settings(max_examples=40, deadline=None)
@given(per_minute=st.integers(1, 60), burst=st.none() | st.integers(1, 60), count=st.integers(1, 150))
def test_nobody_waits_longer_than_a_limit_demands(per_minute: int, burst: int | None, count: int) -> None:
    granted = grants(limiter(Clock(), Quota(per_minute=per_minute, burst=burst)), [1] * count)
    windows = [(60.0, per_minute)] + ([(60 * burst / per_minute, burst)] if burst else [])
    for number, at in enumerate(granted[1:], start=2):
        waited = at > granted[number - 2]
        too_soon = [
            number - bisect.bisect_right(granted, at - 1.02 * seconds - 0.01) > most for seconds, most in windows
        ]
        assert any(too_soon) or not waited


def test_the_installations_caps_apply_to_every_provider_and_never_widen_a_limit() -> None:
    limits = Limiter(State(None), {"slow": Quota(per_minute=5, burst=2)}, per_minute=10, burst=4)
    assert (limits.quota("slow").per_minute, limits.quota("slow").burst) == (5, 2)
    assert (limits.quota("unheard of").per_minute, limits.quota("unheard of").burst) == (10, 4)


def test_a_burst_without_a_rate_is_counted_per_second() -> None:
    granted = grants(limiter(Clock(), Quota(burst=2)), [1] * 7)
    assert most_in_a_window(granted, 1.0) == 2
    assert 3 <= granted[-1] - granted[0] < 3.2


def test_a_request_that_can_never_fit_is_refused_at_once() -> None:
    with pytest.raises(QuotaExhausted, match="costs 6"):
        grants(limiter(Clock(), Quota(per_minute=5)), [6])


def test_providers_do_not_wait_for_each_other() -> None:
    clock = Clock()
    limits = Limiter(State(None), {}, per_minute=1, clock=clock, sleep=clock.sleep)
    assert grants(limits, [1], "a") + grants(limits, [1], "b") == [NOON, NOON]


def test_a_clock_that_is_set_back_costs_one_window_not_the_difference() -> None:
    clock = Clock()
    limits = limiter(clock, Quota(per_minute=2))
    grants(limits, [1, 1])
    clock.now -= 86_400
    grants(limits, [1])
    assert clock.now <= NOON - 86_400 + 62


@settings(max_examples=60, deadline=None)
@given(
    windows=st.lists(
        st.builds(Limit, st.integers(1, 40), st.sampled_from([1.0, 10.0, 60.0, 600.0, 3600.0])), max_size=3
    ),
    per_minute=st.none() | st.integers(1, 40),
    count=st.integers(1, 150),
)
def test_any_number_of_windows_holds_at_once(windows: list[Limit], per_minute: int | None, count: int) -> None:
    granted = grants(limiter(Clock(), Quota(per_minute=per_minute, windows=tuple(windows))), [1] * count)
    for window in windows:
        assert most_in_a_window(granted, window.seconds) <= window.most
    if per_minute:
        assert most_in_a_window(granted, 60) <= per_minute


def test_providers_on_one_account_draw_on_one_allowance() -> None:
    clock = Clock()
    shared = Quota(per_minute=2, account="both")
    limits = Limiter(State(None), {"a": shared, "b": shared}, clock=clock, sleep=clock.sleep)
    assert grants(limits, [1], "a") + grants(limits, [1], "b") == [NOON, NOON]
    assert grants(limits, [1], "a")[0] > NOON + 60


# --- what is to come ----------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(
    quota=st.builds(
        Quota,
        per_minute=st.none() | st.integers(3, 40),
        burst=st.none() | st.integers(3, 10),
        per_day=st.none() | st.integers(3, 60),
        concurrency=st.just(1),
        windows=st.lists(st.builds(Limit, st.integers(3, 40), st.sampled_from([10.0, 3600.0])), max_size=2).map(tuple),
    ),
    before=st.lists(st.integers(1, 3), max_size=40),
    costs=st.lists(st.integers(1, 3), min_size=1, max_size=80),
    latency=st.sampled_from([0.0, 0.5, 7.0]),
)
def test_a_forecast_is_what_then_happens(quota: Quota, before: list[int], costs: list[int], latency: float) -> None:
    clock = Clock()
    limits = limiter(clock, quota)

    async def run(asked: list[int]) -> list[float]:
        granted = []
        for cost in asked:
            while True:
                try:
                    async with limits.permit("p", cost) as at:
                        granted.append(at)
                        clock.now += latency
                    break
                except QuotaExhausted as used_up:
                    clock.now += used_up.retry_after or 0
        return granted

    asyncio.run(run(before))
    told = limits.timeline("p").extend(costs, latency)
    granted = asyncio.run(run(costs))
    assert told.begins == pytest.approx(granted[0], abs=0.02)
    assert told.ends == pytest.approx(granted[-1] + latency, abs=0.02 * len(costs))
    days = {datetime.fromtimestamp(at, UTC).date() for at in granted}
    if quota.per_day:
        assert told.days <= len(days) + 1
        assert told.today == len(costs) or told.days > 1


@pytest.mark.parametrize(
    ("quota", "count", "minutes", "days", "limit"),
    [
        (Quota(per_minute=15, concurrency=1), 1590, 107, 1, "15/min"),
        (Quota(windows=(Limit(300, 10), Limit(2_000, 600))), 5_000, 20.7, 1, "2,000/600 s"),
        (Quota(per_day=25), 60, 2 * 24 * 60 - 12 * 60, 3, "25/day"),
        (Quota(concurrency=4), 240, 1, 1, "latency"),
    ],
)
def test_a_forecast_names_the_time_the_days_and_the_limit(
    quota: Quota, count: int, minutes: float, days: int, limit: str
) -> None:
    told = limiter(Clock(), quota).timeline("p").extend([1] * count, 1.0 if limit == "latency" else 0.0)
    assert (told.ends - NOON) / 60 == pytest.approx(minutes, rel=0.01)
    assert (told.days, told.limit, told.today) == (days, limit, 25 if quota.per_day else count)


def test_every_network_provider_states_its_limits_and_who_says_so() -> None:
    offers = {name: registry.create(name).capabilities() for name, item in registry.PROVIDERS.items() if item.network}
    assert {name for name, offer in offers.items() if not offer.quota.source} == set()
    limited = {
        name for name, offer in offers.items() if offer.quota.per_minute or offer.quota.per_day or offer.quota.windows
    }
    assert limited == set(offers)
    assert offers["kbs"].quota.account == offers["vci"].quota.account != ""


def test_a_provider_with_a_way_of_its_own_is_held_to_its_quota() -> None:
    clock = Clock()
    quota = Quota(per_day=2)
    one = scripted("p")(clock=lambda: datetime.fromtimestamp(clock.now, UTC))
    metered = Metered(one, limiter(clock, quota), one.clock)
    (request,) = metered.plan("us", "bars", ["US:STOCK:A"], *[datetime(2026, 3, 2).date()] * 2, one.clock())
    said = [asyncio.run(metered.fetch(request)) for _ in range(3)]
    assert [payload.error for payload in said] == [None, None, "QUOTA_EXHAUSTED"]
    assert len(one.asked) == 2
    assert int(said[2].headers["retry-after"]) == 12 * 3600


# --- days ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["UTC", "US/Eastern", "Asia/Ho_Chi_Minh"])
def test_the_day_ends_at_midnight_where_the_provider_is(zone: str) -> None:
    clock = Clock()
    limits = limiter(clock, Quota(per_day=3, day_zone=zone))
    grants(limits, [1, 2])
    with pytest.raises(QuotaExhausted) as caught:
        grants(limits, [1])
    assert caught.value.retry_after is not None
    resets = datetime.fromtimestamp(clock.now + caught.value.retry_after, ZoneInfo(zone))
    assert (resets.hour, resets.minute, resets.second) == (0, 0, 0)
    assert resets.astimezone(UTC) == datetime.fromisoformat(caught.value.context["resets_at"])
    assert timedelta(0) < timedelta(seconds=caught.value.retry_after) <= timedelta(hours=25)
    clock.now += caught.value.retry_after - 1
    with pytest.raises(QuotaExhausted):
        grants(limits, [1])
    clock.now += 1
    assert len(grants(limits, [1, 1, 1])) == 3


@settings(max_examples=30, deadline=None)
@given(per_day=st.integers(1, 20), gaps=st.lists(st.floats(0, 20_000), max_size=80))
def test_no_day_ever_holds_more_than_allowed(per_day: int, gaps: list[float]) -> None:
    zone = ZoneInfo("America/New_York")
    clock = Clock(datetime(2026, 3, 6, tzinfo=UTC).timestamp())  # the clocks change on the 8th
    limits = limiter(clock, Quota(per_day=per_day, day_zone=zone.key))
    by_day: dict[str, int] = {}
    for gap in gaps:
        clock.now += gap
        try:
            (at,) = grants(limits, [1])
        except QuotaExhausted:
            assert by_day[str(datetime.fromtimestamp(clock.now, zone).date())] == per_day
            continue
        day = str(datetime.fromtimestamp(at, zone).date())
        by_day[day] = by_day.get(day, 0) + 1
    assert max(by_day.values(), default=0) <= per_day


# --- several processes --------------------------------------------------------------------------------------------

_ASKER = """
import asyncio, json, sys, time
from pathlib import Path
from vprism_pipelines.providers.base import Quota
from vprism_pipelines.providers.quota import Limiter, Metered
from vprism_pipelines.providers.state import State

path, quota, minute, hold, until = sys.argv[1], json.loads(sys.argv[2]), *map(float, sys.argv[3:6])
limits = Limiter(State(Path(path)), {"p": Quota(**quota)}, minute=minute)
seen = []

async def ask():
    while time.time() < until:
        async with limits.gate("p"), limits.permit("p") as at:
            await asyncio.sleep(hold)
            seen.append((at, time.time()))

async def main():
    await asyncio.gather(*(ask() for _ in range(4)))

asyncio.run(main())
print(json.dumps(seen))
"""


def ask_from_processes(
    path: Path, quota: Mapping[str, int], *, minute: float, hold: float, seconds: float, processes: int = 2
) -> list[list[tuple[float, float]]]:
    """What each process was granted: when it began and ended."""
    until = datetime.now(UTC).timestamp() + 2 + seconds  # two seconds to start
    arguments = [str(path), json.dumps(quota), str(minute), str(hold), str(until)]
    running = [
        subprocess.Popen([sys.executable, "-c", _ASKER, *arguments], stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    return [json.loads(process.communicate(timeout=60)[0]) for process in running]


@pytest.mark.processes
def test_two_processes_share_one_allowance(tmp_path: Path) -> None:
    quota = {"per_minute": 20, "burst": 5}
    by_process = ask_from_processes(tmp_path / "state", quota, minute=1.0, hold=0, seconds=3)
    granted = [at for grants in by_process for at, _ in grants]
    assert most_in_a_window(granted, 1.0) <= 20
    assert most_in_a_window(granted, 0.25) <= 5
    assert all(by_process), "each process gets its share"
    assert len(granted) >= 30


@pytest.mark.processes
def test_two_processes_never_have_more_requests_in_flight_than_one_may(tmp_path: Path) -> None:
    by_process = ask_from_processes(tmp_path / "state", {"concurrency": 3}, minute=1.0, hold=0.05, seconds=1.5)
    flights = [flight for grants in by_process for flight in grants]
    assert all(by_process)
    for begins, _ in flights:
        assert sum(start <= begins < end - 0.01 for start, end in flights) <= 3


def test_the_place_of_a_process_that_died_is_free_after_its_lease() -> None:
    state, clock = State(None), Clock()
    quota = Quota(concurrency=1)
    dead, loop = limiter(clock, quota, state).permit("p"), asyncio.new_event_loop()
    loop.run_until_complete(dead.__aenter__())
    (at,) = grants(limiter(clock, quota, state), [1])
    loop.close()
    assert 119 < at - NOON < 125


@pytest.mark.processes
def test_the_place_of_a_process_that_was_killed_is_free_at_once(tmp_path: Path) -> None:
    begin = """
import asyncio, os, signal, sys
from pathlib import Path
from vprism_pipelines.providers.base import Quota
from vprism_pipelines.providers.quota import Limiter
from vprism_pipelines.providers.state import State

async def main():
    async with Limiter(State(Path(sys.argv[1])), {"p": Quota(concurrency=1)}).permit("p"):
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""
    assert subprocess.run([sys.executable, "-c", begin, str(tmp_path / "state")], check=False).returncode == -9
    limits = Limiter(State(tmp_path / "state"), {"p": Quota(concurrency=1)})
    started = time.monotonic()
    grants(limits, [1])
    assert time.monotonic() - started < 10


def test_counters_survive_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    for _ in range(3):
        state = State(tmp_path / "state")
        grants(limiter(clock, Quota(per_day=3), state), [1])
        state.close()
    with pytest.raises(QuotaExhausted):
        grants(limiter(clock, Quota(per_day=3), State(tmp_path / "state")), [1])


def test_the_state_stays_small() -> None:
    state, clock = State(None), Clock()
    limits = limiter(clock, Quota(per_minute=10, per_day=100_000), state)
    for _ in range(40):
        clock.now += 86_400
        grants(limits, [1] * 15)
    with state.transaction() as db:
        counts = [db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in ("draws", "days", "flights")]
    assert counts[0] <= 11
    assert counts[1] <= 9
    assert counts[2] == 0


def test_a_state_in_an_impossible_place_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageUnwritable) as caught, State(tmp_path / "file" / "state").transaction():
        pass
    assert "delete" in caught.value.hint


def test_a_failed_transaction_leaves_nothing_behind() -> None:
    state = State(None)
    with pytest.raises(StorageUnwritable), state.transaction() as db:
        db.execute("INSERT INTO days VALUES ('p', '2026-01-01', 1)").execute("INSERT INTO nowhere VALUES (1)")
    with state.transaction() as db:
        assert db.execute("SELECT COUNT(*) FROM days").fetchone() == (0,)


def test_threads_may_share_a_state(tmp_path: Path) -> None:
    state = State(tmp_path / "state")

    def ask() -> None:
        limits = Limiter(state, {"p": Quota(per_day=1000)})
        grants(limits, [1] * 25)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with state.transaction() as db:
        assert db.execute("SELECT SUM(used) FROM days").fetchone() == (100,)


# --- circuits -----------------------------------------------------------------------------------------------------


def breaker(clock: Clock, state: State | None = None, **policy: float) -> CircuitBreaker:
    return CircuitBreaker(state or State(None), BreakerPolicy(**policy), clock=clock)  # type: ignore[arg-type]


def fail(circuits: CircuitBreaker, times: int = 1, cause: str = "UNAVAILABLE") -> None:
    for _ in range(times):
        circuits.settle("p", circuits.admit("p"), cause)


def test_only_failures_in_a_row_open_a_circuit() -> None:
    circuits = breaker(Clock(), threshold=3)
    for _ in range(5):
        fail(circuits, 2)
        circuits.settle("p", circuits.admit("p"), None)
    assert circuits.look("p").state is CircuitState.CLOSED
    fail(circuits, 3)
    assert circuits.look("p").state is CircuitState.OPEN
    assert circuits.look("q").state is CircuitState.CLOSED


def test_pauses_double_up_to_a_cap_and_start_anew_after_success() -> None:
    clock = Clock()
    circuits = breaker(clock, threshold=1, cooldown=30, cooldown_cap=200)
    pauses = []
    for _ in range(6):
        fail(circuits)
        until = circuits.look("p").until
        assert until is not None
        pauses.append(until.timestamp() - clock.now)
        clock.now = until.timestamp()
    assert pauses == [30, 60, 120, 200, 200, 200]
    circuits.settle("p", circuits.admit("p"), None)
    fail(circuits)
    until = circuits.look("p").until
    assert until is not None
    assert until.timestamp() - clock.now == 30


def test_after_the_pause_one_probe_is_admitted_among_all_processes() -> None:
    clock, state = Clock(), State(None)
    circuits = [breaker(clock, state, threshold=1, cooldown=30) for _ in range(3)]
    fail(circuits[0], cause="BLOCKED")
    clock.now += 30
    admitted = [each.admit("p") for each in circuits]
    assert [each.state for each in admitted] == [CircuitState.HALF_OPEN, CircuitState.OPEN, CircuitState.OPEN]
    assert {each.cause for each in admitted} == {"BLOCKED"}
    circuits[0].settle("p", admitted[0], None)
    assert circuits[1].admit("p").state is CircuitState.CLOSED


def test_a_probe_that_is_given_up_or_never_comes_back_lets_another_one_try() -> None:
    clock = Clock()
    circuits = breaker(clock, threshold=1, cooldown=30, probe_lease=60)
    fail(circuits)
    clock.now += 30
    circuits.abandon("p", circuits.admit("p"))
    assert circuits.admit("p").state is CircuitState.HALF_OPEN
    assert circuits.admit("p").state is CircuitState.OPEN
    clock.now += 60
    assert circuits.admit("p").state is CircuitState.HALF_OPEN


def test_answers_to_requests_from_before_it_opened_do_not_matter() -> None:
    clock = Clock()
    circuits = breaker(clock, threshold=2, cooldown=30)
    early = [circuits.admit("p") for _ in range(4)]
    for admitted in early[:2]:
        circuits.settle("p", admitted, "UNAVAILABLE")
    opened = circuits.look("p")
    clock.now += 10
    circuits.settle("p", early[2], "UNAVAILABLE")
    circuits.settle("p", early[3], None)
    assert circuits.look("p") == opened


def test_a_circuit_outlives_its_process_and_a_clock_set_back(tmp_path: Path) -> None:
    clock = Clock()
    fail(breaker(clock, State(tmp_path / "state"), threshold=1))
    reborn = breaker(clock, State(tmp_path / "state"), threshold=1)
    assert reborn.look("p").state is CircuitState.OPEN
    clock.now -= 86_400
    assert reborn.look("p").state is CircuitState.OPEN
    clock.now += 901
    assert reborn.look("p").state is CircuitState.HALF_OPEN
