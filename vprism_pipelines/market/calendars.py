"""Trading calendars: which days are sessions, when they open and close, and from when on that is only projected.

XNYS, XSHG and XHKG come from exchange_calendars with their known gaps closed; XSTC (HOSE) and HSTC (HNX, UPCOM) are
ours. Importing this module is light. From then on `exchange_calendars.get_calendar("XSTC")` works as well, whether
exchange_calendars was imported before or is imported later.

    >>> hose = calendar("HOSE")
    >>> hose.is_session(date(2024, 2, 9)), hose.next(date(2024, 2, 9))
    (False, datetime.date(2024, 2, 15))
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cache, cached_property
from types import MappingProxyType
from zoneinfo import ZoneInfo

import polars as pl

from vprism_pipelines.errors import BeyondHorizon, InvalidInput, InvalidRange
from vprism_pipelines.market.calendar_types import FIRST_DAY, LAST_DAY, register, register_when_imported, schedule
from vprism_pipelines.market.spec import MARKETS, MarketSpec

__all__ = ["HORIZON", "SESSIONS", "Horizon", "SessionCalendar", "calendar", "market_sessions", "register"]

HORIZON = timedelta(days=45)
"""How far ahead a calendar must be confirmed for nobody to worry."""

# Exchanges that opened later than the calendar they share.
_OPENED: Mapping[str, date] = MappingProxyType({"UPCOM": date(2009, 6, 24), "BSE": date(2021, 11, 15)})

SESSIONS = pl.Schema(
    {
        "session": pl.Date(),
        "session_no": pl.Int32(),
        "open": pl.Datetime("us", "UTC"),
        "close": pl.Datetime("us", "UTC"),
        "projected": pl.Boolean(),
    }
)
"""Schema of `SessionCalendar.sessions`."""


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far a calendar can be trusted, seen from one day.

    Attributes:
        confirmed_until: Last day known from observation, announcement or the exchange's own rules.
        days_left: Calendar days from `today` to there; negative when it has passed.
        ok: Whether at least `HORIZON` is left; if not, warn, and update holidays, exchange_calendars or the closures.
    """

    confirmed_until: date
    days_left: int
    ok: bool


@dataclass(frozen=True, eq=False)
class SessionCalendar:
    """The sessions of one exchange calendar. Get one from `calendar`; all methods are cheap.

    Attributes:
        name: MIC under which exchange_calendars knows it (`XSTC`).
        zone: Zone of the exchange; session dates are dates there.
        known_from: First day the calendar can say anything about. Days outside raise BeyondHorizon.
        known_to: Last such day.
        last_confirmed: Sessions after this day are projected.
    """

    name: str
    zone: ZoneInfo
    known_from: date
    known_to: date
    last_confirmed: date
    _table: pl.DataFrame = field(repr=False)

    @cached_property
    def _days(self) -> list[date]:
        return self._table["session"].to_list()

    @cached_property
    def _closes(self) -> list[datetime]:
        return self._table["close"].to_list()

    @property
    def first_session(self) -> date:
        return self._days[0]

    @property
    def last_session(self) -> date:
        return self._days[-1]

    def sessions(self, start: date, end: date) -> pl.DataFrame:
        """The sessions from `start` to `end`, both inclusive.

        Returns:
            One row a session in order, columns as in `SESSIONS`: `session_no` counts from 0 at the first session and
            never changes for a confirmed one; `close` shows early closes; `projected` marks what may still change.

        Raises:
            BeyondHorizon: A bound lies outside what the calendar knows.
            InvalidRange: `start` is after `end`.
        """
        if self._known(start) > self._known(end):
            raise InvalidRange(f"{start} is after {end}", hint="swap the two dates", calendar=self.name)
        first = bisect_left(self._days, start)
        return self._table.slice(first, bisect_right(self._days, end) - first)

    def is_session(self, day: date) -> bool:
        """Whether the exchange trades on `day`.

        Raises:
            BeyondHorizon: The calendar does not know the day.
        """
        position = bisect_left(self._days, self._known(day))
        return position < len(self._days) and self._days[position] == day

    def ordinal(self, session: date) -> int:
        """The `session_no` of a session.

        Raises:
            BeyondHorizon: The calendar does not know the day.
            InvalidInput: The day is not a session.
        """
        if not self.is_session(session):
            raise InvalidInput(
                f"{session} is not a session of {self.name}",
                hint="ask for `next` or `previous` first",
                calendar=self.name,
                day=session,
            )
        return bisect_left(self._days, session)

    def previous(self, day: date, n: int = 1) -> date:
        """The n-th session before `day`, which need not be a session itself.

        Raises:
            BeyondHorizon: `day` is not known, or there are not `n` known sessions before it.
        """
        return self._at(bisect_left(self._days, self._known(day)) - self._count(n), day)

    def next(self, day: date, n: int = 1) -> date:
        """The n-th session after `day`, which need not be a session itself.

        Raises:
            BeyondHorizon: `day` is not known, or there are not `n` known sessions after it.
        """
        return self._at(bisect_right(self._days, self._known(day)) + self._count(n) - 1, day)

    def latest_final(self, now: datetime, settle: timedelta) -> date:
        """The last session whose close lies at least `settle` before `now`.

        Raises:
            BeyondHorizon: No session was final then, or `now` is past the calendar's end.
            InvalidInput: `now` has no zone.
        """
        self._known(self._aware(now).astimezone(self.zone).date())
        return self._at(bisect_right(self._closes, now - settle) - 1, now)

    def is_final(self, session: date, now: datetime, settle: timedelta) -> bool:
        """Whether the bar of `session` may be believed at `now`: its close lies at least `settle` in the past.

        Raises:
            BeyondHorizon: The calendar does not know the day.
            InvalidInput: The day is not a session, or `now` has no zone.
        """
        return self._closes[self.ordinal(session)] + settle <= self._aware(now)

    def horizon(self, today: date) -> Horizon:
        """How long the calendar stays confirmed, seen from `today`."""
        left = self.last_confirmed - today
        return Horizon(self.last_confirmed, left.days, left >= HORIZON)

    def _known(self, day: date) -> date:
        if isinstance(day, datetime):
            raise InvalidInput(
                f"{day} is an instant, a calendar is asked about dates", hint="pass the date in the exchange's zone"
            )
        if not self.known_from <= day <= self.known_to:
            raise self._beyond(day)
        return day

    def _at(self, position: int, asked: date) -> date:
        if not 0 <= position < len(self._days):
            raise self._beyond(asked)
        return self._days[position]

    def _beyond(self, asked: date) -> BeyondHorizon:
        return BeyondHorizon(
            f"{self.name} cannot answer for {asked}: it knows {self.known_from} to {self.known_to}",
            hint=f"stay between its first session {self.first_session} and its last {self.last_session}",
            calendar=self.name,
        )

    @staticmethod
    def _count(n: int) -> int:
        if n < 1:
            raise InvalidInput(f"n must be at least 1, not {n}", hint="`previous` and `next` are the two directions")
        return n

    @staticmethod
    def _aware(now: datetime) -> datetime:
        if now.tzinfo is None:
            raise InvalidInput(f"{now} has no zone", hint="pass an aware datetime, e.g. datetime.now(UTC)")
        return now


# Everything people call a calendar: its own name, or the code or MIC of an exchange that follows it.
_NAMES: Mapping[str, str] = MappingProxyType(
    {name: name for name in FIRST_DAY}
    | {
        name: exchange.calendar
        for spec in MARKETS.values()
        for exchange in spec.exchanges.values()
        for name in (exchange.code, exchange.mic)
    }
)


def calendar(name: str) -> SessionCalendar:
    """The calendar of an exchange. The first call for each takes about a second, later ones nothing.

    Args:
        name: A calendar (`XSTC`), an exchange (`HOSE`) or a MIC (`XHNX`), in any case.

    Raises:
        InvalidInput: Nothing has that name.
    """
    key = name.strip().upper()
    if key not in _NAMES:
        raise InvalidInput(
            f"there is no trading calendar {name!r}", hint=f"use one of: {', '.join(sorted(_NAMES))}", calendar=name
        )
    return _build(_NAMES[key])


@cache
def _build(name: str) -> SessionCalendar:
    zone, confirmed, frame = schedule(name)
    table = frame.with_row_index("session_no").with_columns(projected=pl.col("session") > confirmed)
    return SessionCalendar(name, zone, FIRST_DAY[name], LAST_DAY, confirmed, table.select(*SESSIONS).cast(SESSIONS))


def market_sessions(spec: MarketSpec, start: date, end: date) -> pl.DataFrame:
    """The rows of `golden.sessions` for a market: every exchange's sessions from `start` to `end`, both inclusive.

    An exchange contributes from its own opening on; `session_no` counts along the calendar it follows.

    Returns:
        market, exchange, then the columns of `SESSIONS`; ordered by exchange and session.

    Raises:
        BeyondHorizon: A bound lies outside what the market's main calendar knows.
        InvalidRange: `start` is after `end`.
    """
    calendar(spec.calendar).sessions(start, end)
    frames = []
    for code, exchange in sorted(spec.exchanges.items()):
        source = calendar(exchange.calendar)
        opened = max(start, source.known_from, _OPENED.get(code, start))
        rows = source.sessions(opened, max(opened, end)).filter(pl.col("session") <= end)
        frames.append(rows.select(pl.lit(spec.code).alias("market"), pl.lit(code).alias("exchange"), *SESSIONS))
    return pl.concat(frames)


register_when_imported()
