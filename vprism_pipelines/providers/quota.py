"""How often a provider may be asked: in a minute, in any other window, at a time, in a day, at once.

A token bucket of size b refilled at n per minute lets n + b requests through in its first minute, and providers count
requests, not tokens. So every grant is logged, and the next one waits until no window holds more than it may. A
`Timeline` tells beforehand when the next ones would be granted.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from socket import gethostname

from vprism_pipelines.errors import QuotaExhausted
from vprism_pipelines.providers.base import Dataset, Limit, Payload, Provider, Quota, Request
from vprism_pipelines.providers.http_errors import REASON_HEADER
from vprism_pipelines.providers.state import State
from vprism_pipelines.providers.timeline import MARGIN, Timeline, calendar_day, check_fits

__all__ = ["Limiter", "Metered", "describe"]

# Windows are this much longer than promised, for requests that travel at different speeds.
_GUARD = 1.01
# How often what no longer counts is thrown away, in seconds.
_TIDY = 1.0
# How often a process looks whether another one has finished its request.
_LEASE_POLL = 0.05


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
        minute: Length of a minute in seconds, to which every window but the day is scaled; shorter in tests.
        lease: Seconds after which the request of a process that nobody hears of any more does not count as running.
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
        self._tidied: dict[str, float] = {}

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
        return self._gates.setdefault(self._account(provider), asyncio.Semaphore(self.quota(provider).concurrency))

    def timeline(self, provider: str) -> Timeline:
        """What was granted so far, to ask when more would be."""
        quota, account = self.quota(provider), self._account(provider)
        windows = self._windows(quota)
        with self._state.transaction() as db:
            now = self._clock()
            since = now - _longest(windows)
            drawn = db.execute(
                "SELECT at, cost FROM draws WHERE provider = ? AND at > ? ORDER BY at, rowid", (account, since)
            ).fetchall()
            used = _used(db, account, calendar_day(now, quota.day_zone)[0])
        return Timeline(quota, windows, drawn, used, now)

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
        async with self._turns.setdefault(self._account(provider), asyncio.Lock()):
            while isinstance(decision := self._decide(provider, cost), _Wait):
                await self._sleep(decision.seconds)
        try:
            yield decision.at
        finally:
            with self._state.transaction() as db:
                db.execute("DELETE FROM flights WHERE id = ?", (decision.lease,))

    def release(self) -> None:
        """Forget waiting places, which belong to one event loop."""
        self._gates.clear()
        self._turns.clear()

    def _account(self, provider: str) -> str:
        return self._quotas.get(provider, Quota()).account or provider

    def _decide(self, provider: str, cost: int) -> _Grant | _Wait:
        quota, account = self.quota(provider), self._account(provider)
        windows = self._windows(quota)
        check_fits(provider, cost, windows.values())
        with self._state.transaction() as db:
            now = self._clock()  # not before: others may have been granted requests while we waited for the file
            self._forget(db, account, now, windows)
            day, resets = calendar_day(now, quota.day_zone)
            if quota.per_day is not None:
                _check_day(_used(db, account, day), provider, cost, quota.per_day, resets, now)
            waits = [_wait_for_window(db, account, cost, window, now) for window in windows.values()]
            waits.append(self._wait_for_lease(db, account, quota.concurrency, now))
            if (wait := max(waits)) > 0:
                return _Wait(wait)
            db.execute("INSERT INTO draws VALUES (?, ?, ?)", (account, now, cost))
            db.execute(
                "INSERT INTO days VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET used = used + excluded.used",
                (account, day, cost),
            )
            lease = db.execute(
                "INSERT INTO flights (provider, expires, host, pid) VALUES (?, ?, ?, ?)",
                (account, now + self._lease, gethostname(), os.getpid()),
            ).lastrowid
        assert lease is not None
        return _Grant(lease, now)

    def _windows(self, quota: Quota) -> dict[str, Limit]:
        """Every window that counts by its name, in this clock's seconds, a little longer than promised."""
        minutes = {}
        if quota.per_minute is not None:
            minutes[f"{quota.per_minute:,}/min"] = (quota.per_minute, 1.0)
        if quota.burst is not None and (quota.per_minute is None or quota.burst < quota.per_minute):
            # As much of the minute as it is of the minute's requests; without those, a second.
            share = 1 / 60 if quota.per_minute is None else quota.burst / quota.per_minute
            minutes[f"bursts of {quota.burst:,}"] = (quota.burst, share)
        minutes |= {_spell(window): (window.most, window.seconds / 60) for window in quota.windows}
        return {name: Limit(most, self._minute * _GUARD * length) for name, (most, length) in minutes.items()}

    def _forget(self, db: sqlite3.Connection, account: str, now: float, windows: Mapping[str, Limit]) -> None:
        if 0 <= now - self._tidied.get(account, -_TIDY) < _TIDY:
            return
        self._tidied[account] = now
        # A clock that was set back leaves grants in the future; they count from now, or we would wait for them.
        db.execute("UPDATE draws SET at = ? WHERE provider = ? AND at > ?", (now, account, now))
        db.execute("UPDATE flights SET expires = ? WHERE expires > ?", (now + self._lease, now + self._lease))
        db.execute("DELETE FROM draws WHERE provider = ? AND at <= ?", (account, now - _longest(windows)))
        db.execute("DELETE FROM flights WHERE expires <= ?", (now,))
        week_ago = datetime.fromtimestamp(now, UTC).date() - timedelta(days=7)
        db.execute("DELETE FROM days WHERE provider = ? AND day < ?", (account, week_ago.isoformat()))

    @staticmethod
    def _wait_for_lease(db: sqlite3.Connection, account: str, most: int, now: float) -> float:
        flights = db.execute(
            "SELECT id, expires, host, pid FROM flights WHERE provider = ? AND expires > ?", (account, now)
        ).fetchall()
        if len(flights) < most:
            return 0.0
        # The next run need not wait for the request of one that was killed.
        lost = [(number,) for number, _, host, pid in flights if host == gethostname() and not _alive(pid)]
        db.executemany("DELETE FROM flights WHERE id = ?", lost)
        if len(flights) - len(lost) < most:
            return 0.0
        first: float = min(expires for _, expires, *_ in flights)
        return min(_LEASE_POLL, first - now)


class Metered:
    """A provider that fetches by means of its own, held to its quota like those behind the transport.

    Args:
        provider: Who is asked.
        limiter: Grants its requests.
        clock: Stamps the answer when the quota refuses.
    """

    def __init__(self, provider: Provider, limiter: Limiter, clock: Callable[[], datetime]) -> None:
        self.name, self.parser_version = provider.name, provider.parser_version
        self.capabilities, self.parse, self.aclose = provider.capabilities, provider.parse, provider.aclose
        self._provider, self._limiter, self._clock = provider, limiter, clock

    def plan(
        self, market: str, dataset: Dataset, symbols: Sequence[str], start: date, end: date, now: datetime
    ) -> list[Request]:
        """The provider's own plan."""
        return self._provider.plan(market, dataset, symbols, start, end, now)

    async def fetch(self, request: Request) -> Payload:
        """Ask when it is allowed; a used-up day is a payload that says so."""
        try:
            async with self._limiter.gate(self.name), self._limiter.permit(self.name, request.cost):
                return await self._provider.fetch(request)
        except QuotaExhausted as refusal:
            headers = {REASON_HEADER: refusal.message}
            if refusal.retry_after is not None:
                headers["retry-after"] = f"{refusal.retry_after:.0f}"
            return Payload(request, 0, b"", self._clock(), headers, error=refusal.code)


def describe(quota: Quota) -> str:
    """The limits in words: `15/min, bursts of 1, 5,000/day, 1 at a time`."""
    windows = [Limit(quota.per_minute, 60.0)] if quota.per_minute is not None else []
    said = [_spell(window) for window in (*windows, *quota.windows)]
    said += [f"bursts of {quota.burst:,}"] if quota.burst is not None else []
    said += [f"{quota.per_day:,}/day"] if quota.per_day is not None else []
    return ", ".join([*said, f"{quota.concurrency} at a time"])


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def _smaller(one: int | None, other: int | None) -> int | None:
    known = [limit for limit in (one, other) if limit is not None]
    return min(known, default=None)


def _used(db: sqlite3.Connection, account: str, day: str) -> int:
    row = db.execute("SELECT used FROM days WHERE provider = ? AND day = ?", (account, day)).fetchone()
    return int(row[0]) if row else 0


def _check_day(used: int, provider: str, cost: int, most: int, resets: datetime, now: float) -> None:
    if used + cost > most:
        raise QuotaExhausted(
            f"{used} of today's {most} {provider} requests are used up; they come back at {resets:%Y-%m-%dT%H:%MZ}",
            retry_after=resets.timestamp() - now,
            hint="run again after that, or use a key with a larger allowance",
            provider=provider,
            resets_at=resets.isoformat(),
        )


def _wait_for_window(db: sqlite3.Connection, account: str, cost: int, window: Limit, now: float) -> float:
    since = now - window.seconds
    (taken,) = db.execute("SELECT SUM(cost) FROM draws WHERE provider = ? AND at > ?", (account, since)).fetchone()
    if (taken or 0) + cost <= window.most:
        return 0.0
    # The newest grant that must have left the window before `cost` more fit into it.
    (blocking,) = db.execute(
        """SELECT MAX(at) FROM (
             SELECT at, SUM(cost) OVER (ORDER BY at DESC, rowid DESC) AS taken FROM draws WHERE provider = ? AND at > ?
           ) WHERE taken > ?""",
        (account, since, window.most - cost),
    ).fetchone()
    return float(blocking + window.seconds - now + MARGIN)


def _longest(windows: Mapping[str, Limit]) -> float:
    return max((window.seconds for window in windows.values()), default=0.0)


_SPELLED = {1.0: "s", 60.0: "min", 3600.0: "h", 86_400.0: "day"}


def _spell(window: Limit) -> str:
    return f"{window.most:,}/{_SPELLED.get(window.seconds) or f'{window.seconds:g} s'}"
