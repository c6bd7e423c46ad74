"""A provider that keeps failing is left alone for a while, by every process that shares the state."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from vprism_pipelines.providers.state import State


class CircuitState(StrEnum):
    """CLOSED: ask. OPEN: do not. HALF_OPEN: one request may find out whether the provider is back."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a circuit opens, and for how many seconds.

    Attributes:
        threshold: Requests that failed in a row, retries included in each, before the circuit opens.
        cooldown: First pause; doubled by every probe that fails.
        cooldown_cap: Longest pause.
        probe_lease: Time a probe has to report back before another one may try.
    """

    threshold: int = 5
    cooldown: float = 30.0
    cooldown_cap: float = 900.0
    probe_lease: float = 120.0


@dataclass(frozen=True, slots=True)
class Circuit:
    """One provider's circuit as somebody saw it.

    Attributes:
        until: End of the pause, UTC; None unless OPEN.
        cause: Error code of the failure that opened it (`BLOCKED`, `UNAVAILABLE`); empty while CLOSED.
        spotless: No request had failed since the last one that did not.
    """

    state: CircuitState = CircuitState.CLOSED
    until: datetime | None = None
    cause: str = ""
    spotless: bool = False


class CircuitBreaker:
    """Counts failures in a row and opens the circuit of a provider that has too many.

    Args:
        state: Where circuits are remembered.
        policy: When to open and for how long.
        clock: Now, in seconds since 1970.
    """

    def __init__(
        self, state: State, policy: BreakerPolicy | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._state = state
        self._policy = policy or BreakerPolicy()
        self._clock = clock

    def look(self, provider: str) -> Circuit:
        """The circuit now; looking admits nobody."""
        if self._spotless(provider):
            return Circuit(spotless=True)
        with self._state.transaction() as db:
            return self._read(db, provider, self._clock())

    def admit(self, provider: str) -> Circuit:
        """The circuit for a request about to be sent: OPEN means do not, HALF_OPEN means you are the one probe.

        Whoever is admitted must hand the circuit back to `settle`.
        """
        if self._spotless(provider):
            return Circuit(spotless=True)
        with self._state.transaction() as db:
            now = self._clock()
            circuit = self._read(db, provider, now)
            if circuit.state is CircuitState.HALF_OPEN:
                self._pause(db, provider, now + self._policy.probe_lease)
        return circuit

    def settle(self, provider: str, admitted: Circuit, failure: str | None) -> None:
        """Report how an admitted request ended.

        Args:
            provider: Who was asked.
            admitted: What `admit` returned.
            failure: Error code of the failure, or None when the provider answered.
        """
        if admitted.spotless and failure is None:
            return  # the usual case: nothing is known, nothing is to be remembered
        probe = admitted.state is CircuitState.HALF_OPEN
        with self._state.transaction() as db:
            row = db.execute("SELECT failures, cooldown, open_until FROM circuits WHERE provider = ?", (provider,))
            failures, cooldown, open_until = row.fetchone() or (0, self._policy.cooldown, None)
            if open_until is not None and not probe:
                return  # it was sent before the circuit opened: old news
            if failure is None:
                db.execute("DELETE FROM circuits WHERE provider = ?", (provider,))
                return
            if probe:
                cooldown = min(2 * cooldown, self._policy.cooldown_cap)
            opens = probe or failures + 1 >= self._policy.threshold
            db.execute(
                "INSERT OR REPLACE INTO circuits VALUES (?, ?, ?, ?, ?)",
                (provider, failures + 1, cooldown, self._clock() + cooldown if opens else None, failure),
            )

    def abandon(self, provider: str, admitted: Circuit) -> None:
        """Report that an admitted request was never answered for reasons of our own: the next one may probe."""
        if admitted.state is CircuitState.HALF_OPEN:
            with self._state.transaction() as db:
                self._pause(db, provider, self._clock())

    def _spotless(self, provider: str) -> bool:
        with self._state.reading() as db:
            return db.execute("SELECT 1 FROM circuits WHERE provider = ?", (provider,)).fetchone() is None

    def _read(self, db: sqlite3.Connection, provider: str, now: float) -> Circuit:
        # No pause is longer than the policy's, whatever a clock that was set back makes it look like.
        latest = now + max(self._policy.cooldown_cap, self._policy.probe_lease)
        db.execute(
            "UPDATE circuits SET open_until = ? WHERE provider = ? AND open_until > ?", (latest, provider, latest)
        )
        row = db.execute(
            "SELECT open_until, cause FROM circuits WHERE provider = ? AND open_until IS NOT NULL", (provider,)
        ).fetchone()
        if row is None:
            return Circuit()
        open_until, cause = row
        if open_until <= now:
            return Circuit(CircuitState.HALF_OPEN, None, cause)
        return Circuit(CircuitState.OPEN, datetime.fromtimestamp(open_until, UTC), cause)

    @staticmethod
    def _pause(db: sqlite3.Connection, provider: str, until: float) -> None:
        db.execute("UPDATE circuits SET open_until = ? WHERE provider = ?", (until, provider))
