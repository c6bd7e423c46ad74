"""The exchange's rule book as arrays by session: the dated rules of `market.rules`, looked up once for a whole range.

Where the book knows no limit (HOSE before 2008-03-27, first days before 2011) the simulated exchange keeps the
narrowest band that was ever in force for years.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from itertools import pairwise
from types import MappingProxyType
from typing import Final, Self

import numpy as np
import polars as pl

from vprism_pipelines.errors import InvalidRange
from vprism_pipelines.market import rules
from vprism_pipelines.market.calendars import SessionCalendar, calendar
from vprism_pipelines.market.rule_tables import rows
from vprism_pipelines.market.spec import VN
from vprism_pipelines.providers.simulated.noise import Flags, Integers, Reals

VENUES: Final = tuple(VN.exchanges)
"""Exchanges by number: a venue is an index into this."""

_UNKNOWN_BAND: Final = 0.05
_FORGIVEN: Final = 1e-6  # ticks, as in `market.rules`: 26,400 * 1.07 must not lose a tick
NEAREST: Final = 0.5
DOWN: Final = _FORGIVEN
UP: Final = 1 - _FORGIVEN


def calendars() -> Mapping[str, SessionCalendar]:
    """The calendar of each venue."""
    return MappingProxyType({venue: calendar(VN.exchanges[venue].calendar) for venue in VENUES})


@cache
def opened(venue: str) -> date:
    """When a venue opened: its first rule about ticks."""
    first: date = min(row["valid_from"] for row in rows("ticks") if venue in row["venues"].split())
    return first


@cache
def trading_days(venue: str) -> Integers:
    """Every session of a venue that its calendar knows, in days since 1970."""
    days = calendars()[venue]
    return epoch_days(days.sessions(max(days.first_session, opened(venue)), days.last_session)["session"])


def epoch_days(dates: pl.Series) -> Integers:
    """Dates as days since 1970."""
    return dates.to_physical().cast(pl.Int64).to_numpy()


def epoch_day(day: date) -> int:
    return (day - date(1970, 1, 1)).days


@dataclass(frozen=True, slots=True)
class Lattice:
    """The price steps in force for each of some instruments, those with several tiers before all others.

    Attributes:
        base: Step of the lowest tier.
        tiers: Of each further tier the prices it starts from, and by how much the step rises there; of the instruments
            that have several tiers only.
    """

    base: Reals
    tiers: tuple[tuple[Reals, Reals], ...]

    def tick(self, price: Reals) -> Reals:
        """Price step at each price; instruments along the last axis."""
        size = np.empty_like(price)
        size[:] = self.base
        for start, rise in self.tiers:
            tiered = (..., slice(len(start)))
            reached = (price[tiered] >= start).astype(np.float64)
            reached *= rise
            size[tiered] += reached
        return size

    def snap(self, price: Reals, rounding: Reals | float) -> Reals:
        """Each price moved onto the lattice: `NEAREST`, `DOWN` or `UP`."""
        size = self.tick(price)
        return np.floor(price / size + rounding) * size


@dataclass(frozen=True, slots=True)
class Rulebook:
    """Rules by session (rows) and venue (columns), for the sessions on which any venue trades.

    Attributes:
        days: Sessions, in days since 1970.
        open: Whether the venue trades that day.
        band: Greatest move from the reference price, as a fraction.
        opening: The same on the first day, and after a long absence.
        step: What volumes are a multiple of.
        from_vwap: Whether the *next* session's reference is this session's average price rather than its close.
        starts: Tiers of the tick table, see `Lattice`; sessions, venues, tiers.
        rises: The same.
    """

    days: Integers
    open: Flags
    band: Reals
    opening: Reals
    step: Reals
    from_vwap: Flags
    starts: Reals
    rises: Reals

    @classmethod
    def of(cls, start: date, end: date) -> Self:
        """The rules of all sessions from `start` to `end`, both inclusive.

        Raises:
            InvalidRange: `start` lies before the first session of the market, or after `end`.
            BeyondHorizon: `end` lies after the last session that the calendars know.
        """
        if start < VN.first_session or start > end:
            raise InvalidRange(
                f"the simulated exchange cannot trade from {start} to {end}",
                hint=f"start on {VN.first_session} or later, and not after the end",
            )
        known = {
            venue: days.sessions(max(start, days.known_from), end)
            for venue, days in calendars().items()
            if end >= days.known_from
        }
        frame = pl.concat([sessions.select("session") for sessions in known.values()]).unique().sort("session")
        # The day after the last one decides which price the last one hands on.
        following = frame["session"].shift(-1).fill_null(end)
        shape = (frame.height, len(VENUES))
        is_open, from_vwap = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_)
        band, opening, step = np.empty(shape), np.empty(shape), np.empty(shape)
        tiers = [_tiers(venue, frame["session"]) for venue in VENUES]
        day = pl.col("session")
        for column, venue in enumerate(VENUES):
            said = frame.select(
                rules.band(venue, day).fill_null(_UNKNOWN_BAND).alias("band"),
                rules.band(venue, day, listing_session=1).fill_null(_UNKNOWN_BAND).alias("opening"),
                rules.step(venue, day).fill_null(1).cast(pl.Float64).alias("step"),
            )
            band[:, column], opening[:, column], step[:, column] = (said[name].to_numpy() for name in said.columns)
            basis = pl.select(rules.reference_basis(venue, pl.lit(following))).to_series()
            from_vwap[:, column] = (basis == "vwap").fill_null(value=False).to_numpy()
            if venue in known:
                is_open[:, column] = frame["session"].is_in(known[venue]["session"].implode()).to_numpy()
        return cls(
            epoch_days(frame["session"]),
            is_open,
            band,
            opening,
            step,
            from_vwap,
            np.stack([starts for starts, _ in tiers], axis=1),
            np.stack([rises for _, rises in tiers], axis=1),
        )

    def lattice(self, session: int, venues: Integers) -> Lattice:
        """The price steps on one session for instruments of the given venues, which are in ascending order."""
        starts, rises = self.starts[session], self.rises[session]
        last = np.flatnonzero((rises[:, 1:] > 0).any(axis=1)).max(initial=-1)
        tiered = venues[: np.searchsorted(venues, last, side="right")]
        return Lattice(rises[venues, 0], tuple((starts[tiered, n], rises[tiered, n]) for n in range(1, _TIERS)))

    def stretches(self) -> list[slice]:
        """Sessions by calendar month, cut where a rule changes."""
        months = self.days.astype("datetime64[D]").astype("datetime64[M]")
        same = months[1:] == months[:-1]
        for table in (self.band, self.opening, self.step, self.from_vwap, self.starts, self.rises):
            same &= (table[1:] == table[:-1]).all(axis=tuple(range(1, table.ndim)))
        bounds = [0, *(np.flatnonzero(~same) + 1).tolist(), len(self.days)]
        return [slice(first, last) for first, last in pairwise(bounds) if last > first]


_TIERS: Final = 3


def _tiers(venue: str, sessions: pl.Series) -> tuple[Reals, Reals]:
    """Start and rise of every tier of a venue's tick table, by session."""
    starts, rises = np.full((len(sessions), _TIERS), np.inf), np.zeros((len(sessions), _TIERS))
    versions: dict[date, list[tuple[float, float]]] = {}
    for row in rows("ticks"):
        if venue in row["venues"].split() and "STOCK" in row["assets"].split():
            start = float(row["above"]) if row["inclusive"] else float(np.nextafter(row["above"], np.inf))
            versions.setdefault(row["valid_from"], []).append((start, float(row["tick"])))
    for valid_from, version in sorted(versions.items()):
        since = (sessions >= valid_from).to_numpy()
        starts[since], rises[since] = np.inf, 0.0
        before = 0.0
        for tier, (start, size) in enumerate(sorted(version)):
            starts[since, tier], rises[since, tier] = start, size - before
            before = size
    # Nobody trades before the venue opens; its steps only have to be positive then.
    closed = rises[:, 0] == 0
    starts[closed, 0], rises[closed, 0] = 0.0, 1.0
    return starts, rises
