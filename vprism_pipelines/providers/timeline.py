"""When requests would be granted: a provider's limits played forward from what it has granted already. Pure."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from datetime import time as clock_time
from operator import itemgetter
from zoneinfo import ZoneInfo

from vprism_pipelines.errors import QuotaExhausted
from vprism_pipelines.providers.base import Limit, Quota

__all__ = ["MARGIN", "Forecast", "Timeline", "calendar_day", "check_fits"]

MARGIN = 0.001
"""Seconds more than a window demands: rounding must not make us ask again for nothing."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """When a row of requests would be done. Instants are seconds since 1970.

    Attributes:
        begins: The first is granted.
        ends: The last is answered.
        today: How many are granted before a used-up day makes the rest wait for the next.
        today_ends: The last of those is answered.
        days: Calendar days of the provider on which they are granted; 1 without a daily limit.
        limit: What makes them wait longest: `15/min`, `latency`; empty when nothing does.
    """

    begins: float
    ends: float
    today: int
    today_ends: float
    days: int
    limit: str


class Timeline:
    """Grants of one account, past and to come, under its windows, its day and its concurrency.

    Args:
        quota: The limits.
        windows: All its windows by name, as long as the limiter makes them.
        drawn: Instant and cost of what was granted, oldest first.
        used: Cost of it in the provider's running day.
        now: Nothing is granted before.
    """

    def __init__(
        self, quota: Quota, windows: Mapping[str, Limit], drawn: Sequence[tuple[float, int]], used: int, now: float
    ) -> None:
        self._quota, self._used, self._now = quota, used, now
        taken = sum(cost for _, cost in drawn)
        self._windows = [_Filled(name, window, deque(drawn), taken) for name, window in windows.items()]
        self._flying: deque[float] = deque(maxlen=quota.concurrency)

    def extend(self, costs: Sequence[int], latency: float = 0.0, since: float = 0.0) -> Forecast:
        """Grant more requests, as early as the limits let.

        Args:
            costs: What each takes from the quota, in order.
            latency: Seconds until one is answered.
            since: Nobody asks before.

        Raises:
            QuotaExhausted: One costs more than any window or day allows.
        """
        per_day = self._quota.per_day
        limits = [filled.window for filled in self._windows] + ([Limit(per_day, 86_400.0)] if per_day else [])
        check_fits(self._quota.account, max(costs, default=0), limits)
        begins = at = max(self._now, since)
        midnight, today, today_ends, days = self._midnight(at), 0, at, 1
        held: defaultdict[str, float] = defaultdict(float)
        for number, cost in enumerate(costs):
            waits = [(at, ""), *((filled.room(cost), filled.name) for filled in self._windows)]
            if len(self._flying) == self._flying.maxlen:
                waits.append((self._flying[0], "latency"))
            before, (at, limit) = at, max(waits, key=itemgetter(0))
            if at < midnight and per_day is not None and self._used + cost > per_day:
                at, limit, days = midnight, f"{per_day:,}/day", days + 1
            if at >= midnight:
                self._used, midnight = 0, self._midnight(at)
            held[limit] += at - before
            self._used += cost
            for filled in self._windows:
                filled.take(at, cost)
            self._flying.append(at + latency)
            begins = at if number == 0 else begins
            if days == 1:
                today, today_ends = today + 1, at + latency
        self._now = at
        limit = max(held, key=held.__getitem__, default="")
        return Forecast(begins, at + latency if costs else at, today, today_ends, days, limit)

    def _midnight(self, at: float) -> float:
        return calendar_day(at, self._quota.day_zone)[1].timestamp()


@dataclass(slots=True)
class _Filled:
    """A window and what may still lie in it, oldest first."""

    name: str
    window: Limit
    inside: deque[tuple[float, int]]
    taken: int

    def room(self, cost: int) -> float:
        """When there is room for `cost`; what has left by then is forgotten."""
        at = 0.0
        while self.taken + cost > self.window.most:
            drawn, freed = self.inside.popleft()
            at, self.taken = drawn + self.window.seconds + MARGIN, self.taken - freed
        return at

    def take(self, at: float, cost: int) -> None:
        self.inside.append((at, cost))
        self.taken += cost


def calendar_day(now: float, zone: str) -> tuple[str, datetime]:
    """The provider's calendar day at `now`, and the instant it ends."""
    here = datetime.fromtimestamp(now, ZoneInfo(zone))
    midnight = datetime.combine(here.date() + timedelta(days=1), clock_time.min, here.tzinfo)
    return here.date().isoformat(), midnight.astimezone(UTC)


def check_fits(provider: str, cost: int, windows: Iterable[Limit]) -> None:
    """Refuse a request that no window will ever have room for.

    Raises:
        QuotaExhausted: It costs more than the narrowest window holds.
    """
    most = min((window.most for window in windows), default=cost)
    if cost > most:
        raise QuotaExhausted(
            f"one {provider or 'such'} request costs {cost}, more than the {most} allowed at a time",
            hint="raise RATE_LIMIT_REQUESTS_PER_MINUTE or RATE_LIMIT_BURST, or ask for less per request",
            provider=provider or None,
        )
