"""How often a provider may be asked: requests per minute, bursts, requests per day, requests at once.

A token bucket of size b refilled at n per minute lets n + b requests through in its first minute, and providers count
requests, not tokens. So every grant is logged, and the next one waits until no window holds more than it may.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from datetime import time as clock_time
from zoneinfo import ZoneInfo

from vprism_pipelines.errors import QuotaExhausted
from vprism_pipelines.providers.base import Quota
from vprism_pipelines.providers.state import State

# Windows are this much longer than promised, for requests that travel at different speeds.
_GUARD = 1.01
# How often a process looks whether another one has finished its request.
_LEASE_POLL = 0.05


@dataclass(frozen=True, slots=True)
class _Window:
    seconds: float
    most: int


@dataclass(frozen=True, slots=True)
class _Wait:
    seconds: float


@dataclass(frozen=True, slots=True)
class _Grant:
    lease: int
    at: float


class Limiter:
    """Grants requests within each provider's quota, across all processes that share a `State`.

    Args:
        state: Where grants are counted.
        quotas: Limits by provider; a provider without an entry gets `Quota()`.
        per_minute: Cap on every provider's requests per minute.
        burst: Cap on every provider's burst.
        clock: Now, in seconds since 1970.
        sleep: Waits for a number of seconds.
        minute: Length of a minute in seconds; shorter in tests.
        lease: Seconds after which the request of a process that died no longer counts as running.
    """

    def __init__(
        self,
        state: State,
        quotas: Mapping[str, Quota],
        *,
        per_minute: int | None = None,
        burst: int | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        minute: float = 60.0,
        lease: float = 120.0,
    ) -> None:
        self._state = state
        self._quotas = quotas
        self._per_minute = per_minute
        self._burst = burst
        self._clock = clock
        self._sleep = sleep
        self._minute = minute
        self._lease = lease
        self._gates: dict[str, asyncio.Semaphore] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    def quota(self, provider: str) -> Quota:
        """The limits in force: the provider's own, capped by the installation's."""
        own = self._quotas.get(provider, Quota())
        return replace(
            own,
            per_minute=_smaller(own.per_minute, self._per_minute),
            burst=_smaller(own.burst, self._burst),
            concurrency=max(1, own.concurrency),
        )

    def gate(self, provider: str) -> asyncio.Semaphore:
        """Admits as many questions at once, within this process, as the provider allows. First come, first served."""
        return self._gates.setdefault(provider, asyncio.Semaphore(self.quota(provider).concurrency))

    @asynccontextmanager
    async def permit(self, provider: str, cost: int = 1) -> AsyncIterator[float]:
        """Wait until one more request is allowed, count it, and hold its place among the concurrent ones.

        Args:
            provider: Whom to ask.
            cost: What the request takes from the quota.

        Yields:
            When the request was granted, in seconds since 1970.

        Raises:
            QuotaExhausted: The day's allowance is used up (`retry_after` says for how long), or no window is wide
                enough for `cost`.
        """
        async with self._turns.setdefault(provider, asyncio.Lock()):
            while isinstance(decision := self._decide(provider, cost), _Wait):
                await self._sleep(decision.seconds)
        try:
            yield decision.at
        finally:
            with self._state.transaction() as db:
                db.execute("DELETE FROM leases WHERE id = ?", (decision.lease,))

    def release(self) -> None:
        """Forget waiting places, which belong to one event loop."""
        self._gates.clear()
        self._turns.clear()

    def _decide(self, provider: str, cost: int) -> _Grant | _Wait:
        quota = self.quota(provider)
        windows = self._windows(quota)
        with self._state.transaction() as db:
            now = self._clock()  # not before: others may have been granted requests while we waited for the file
            self._forget(db, provider, now, windows)
            day, resets = _day(now, quota.day_zone)
            if quota.per_day is not None:
                _check_day(db, provider, cost, quota.per_day, day, resets, now)
            waits = [_wait_for_window(db, provider, cost, window, now) for window in windows]
            waits.append(self._wait_for_lease(db, provider, quota.concurrency, now))
            if (wait := max(waits)) > 0:
                return _Wait(wait)
            db.execute("INSERT INTO draws VALUES (?, ?, ?)", (provider, now, cost))
            db.execute(
                "INSERT INTO days VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET used = used + excluded.used",
                (provider, day, cost),
            )
            lease = db.execute(
                "INSERT INTO leases (provider, expires) VALUES (?, ?)", (provider, now + self._lease)
            ).lastrowid
        assert lease is not None
        return _Grant(lease, now)

    def _windows(self, quota: Quota) -> list[_Window]:
        windows = []
        if quota.per_minute is not None:
            windows.append(_Window(self._minute * _GUARD, quota.per_minute))
        if quota.burst is not None and (quota.per_minute is None or quota.burst < quota.per_minute):
            # As much of the minute as it is of the minute's requests; without those, a second.
            share = 1 / 60 if quota.per_minute is None else quota.burst / quota.per_minute
            windows.append(_Window(self._minute * _GUARD * share, quota.burst))
        return windows

    def _forget(self, db: sqlite3.Connection, provider: str, now: float, windows: list[_Window]) -> None:
        # A clock that was set back leaves grants in the future; they count from now, or we would wait for them.
        db.execute("UPDATE draws SET at = ? WHERE provider = ? AND at > ?", (now, provider, now))
        db.execute("UPDATE leases SET expires = ? WHERE expires > ?", (now + self._lease, now + self._lease))
        horizon = now - max((window.seconds for window in windows), default=0.0)
        db.execute("DELETE FROM draws WHERE provider = ? AND at <= ?", (provider, horizon))
        db.execute("DELETE FROM leases WHERE expires <= ?", (now,))
        week_ago = datetime.fromtimestamp(now, UTC).date() - timedelta(days=7)
        db.execute("DELETE FROM days WHERE provider = ? AND day < ?", (provider, week_ago.isoformat()))

    @staticmethod
    def _wait_for_lease(db: sqlite3.Connection, provider: str, most: int, now: float) -> float:
        running, expires = db.execute(
            "SELECT COUNT(*), MIN(expires) FROM leases WHERE provider = ?", (provider,)
        ).fetchone()
        return min(_LEASE_POLL, expires - now) if running >= most else 0.0


def _smaller(one: int | None, other: int | None) -> int | None:
    known = [limit for limit in (one, other) if limit is not None]
    return min(known, default=None)


def _day(now: float, zone: str) -> tuple[str, datetime]:
    """The provider's calendar day at `now`, and the instant it ends."""
    here = datetime.fromtimestamp(now, ZoneInfo(zone))
    midnight = datetime.combine(here.date() + timedelta(days=1), clock_time.min, here.tzinfo)
    return here.date().isoformat(), midnight.astimezone(UTC)


def _check_day(
    db: sqlite3.Connection, provider: str, cost: int, most: int, day: str, resets: datetime, now: float
) -> None:
    row = db.execute("SELECT used FROM days WHERE provider = ? AND day = ?", (provider, day)).fetchone()
    used = row[0] if row else 0
    if used + cost > most:
        raise QuotaExhausted(
            f"{used} of today's {most} {provider} requests are used up; they come back at {resets:%Y-%m-%dT%H:%MZ}",
            retry_after=resets.timestamp() - now,
            hint="run again after that, or use a key with a larger allowance",
            provider=provider,
            resets_at=resets.isoformat(),
        )


def _wait_for_window(db: sqlite3.Connection, provider: str, cost: int, window: _Window, now: float) -> float:
    if cost > window.most:
        raise QuotaExhausted(
            f"one {provider} request costs {cost}, more than the {window.most} allowed at a time",
            hint="raise RATE_LIMIT_REQUESTS_PER_MINUTE or RATE_LIMIT_BURST, or ask for less per request",
            provider=provider,
        )
    # The newest grant that must have left the window before `cost` more fit into it.
    (blocking,) = db.execute(
        """SELECT MAX(at) FROM (
             SELECT at, SUM(cost) OVER (ORDER BY at DESC, rowid DESC) AS taken FROM draws WHERE provider = ? AND at > ?
           ) WHERE taken > ?""",
        (provider, now - window.seconds, window.most - cost),
    ).fetchone()
    # A millisecond more than needed: rounding must not make us ask again for nothing.
    return 0.0 if blocking is None else blocking + window.seconds - now + 0.001
