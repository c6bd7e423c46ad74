"""The trading floor: lets a group of companies trade a stretch of sessions under rules that do not change within it.

Prices of one session follow from those of the session before (reference price, band, tick lattice), so the only loop is
over sessions; everything else is arithmetic on whole matrices, sessions by companies. Groups are small enough for these
to stay in the processor's cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from vprism_pipelines.market.rules import IDLE_SESSIONS
from vprism_pipelines.market.spec import VN
from vprism_pipelines.providers.simulated.listing import Companies
from vprism_pipelines.providers.simulated.noise import (
    SHOCK,
    SIZE,
    UNIFORM,
    WICK,
    Flags,
    Integers,
    Reals,
    Words,
    draw,
    keys,
    lane,
    share,
)
from vprism_pipelines.providers.simulated.rulebook import DOWN, NEAREST, UP, VENUES, Rulebook
from vprism_pipelines.providers.simulated.terms import ExDates, Season

BARS: Final = pl.Schema(
    {
        "symbol": pl.String(),
        "session": pl.Date(),
        "open": pl.Float64(),  # VND per share, as traded
        "high": pl.Float64(),
        "low": pl.Float64(),
        "close": pl.Float64(),
        "volume": pl.Int64(),  # shares; 0: nothing traded, the four prices repeat the last close
        "value": pl.Float64(),  # VND
        "currency": pl.String(),
        "exchange": pl.String(),
        "reference": pl.Float64(),  # price that the session's band is measured from, VND
    }
)
"""Columns of the true bars."""

_TRADE, _SHAPE, _MARKET = 1, 2, 3
_MARKET_NUMBER: Final = -1
_MARKET_MOVE: Final = 0.007
_WILDNESS: Final = 8.0  # of a first day, and of the first after a long absence
_REVERSION: Final = 0.006  # daily, of the distance to the base price: keeps prices of decades readable
_EX_DATES: Final = 1 / 180  # per company and session
_LIVELIEST: Final = 5.0  # volumes rise with the size of the move, up to this factor
_ROUNDING: Final = np.array([[DOWN], [UP], [NEAREST], [NEAREST]])


@dataclass(frozen=True, slots=True)
class State:
    """What one session hands on to the next, for each company.

    Attributes:
        basis: Price the next reference starts from: close, average price, or an untraded session's reference.
        close: Last traded close.
        idle: Sessions since the last trade.
        fresh: Whether there was a trade since the last ex-date: two of them never share one close.
    """

    basis: Reals
    close: Reals
    idle: Reals
    fresh: Flags


@dataclass(frozen=True, slots=True)
class Tape:
    """A stretch of sessions as it traded; matrices of sessions by companies."""

    start: int
    days: Integers
    active: Flags
    traded: Flags
    prices: Reals  # the six: reference, floor, ceiling, open, close, average
    shape: Words  # randomness for what does not matter to the sessions after
    ex_dates: ExDates


class Floor:
    """Companies under the rules of their exchanges.

    Args:
        seed: Of the market as a whole.
        rules: Of all sessions.
        companies: Who trades.
    """

    def __init__(self, seed: int, rules: Rulebook, companies: Companies) -> None:
        self.companies = companies
        self.names = pl.Series("symbol", companies.symbols, dtype=pl.String)
        self.venues = pl.Series("exchange", VENUES).gather(companies.venue)
        self._rules = rules
        self._market = keys(seed, np.array([_MARKET_NUMBER]))
        self._by_name = self.names.arg_sort().to_numpy()

    def opening(self) -> State:
        """How the first session finds the companies."""
        base = self.companies.base
        return State(base, base, np.zeros(len(base)), np.zeros(len(base), dtype=np.bool_))

    def trade(self, stretch: slice, state: State) -> tuple[Tape, State]:
        """Let the sessions of a stretch trade.

        Args:
            stretch: Sessions of the rule book, all under the same rules.
            state: What the session before handed on.

        Returns:
            What happened, and what the last session hands on.
        """
        rules, firms, at = self._rules, self.companies, stretch.start
        days, venue = rules.days[stretch], firms.venue
        day, is_open = days[:, None], rules.open[stretch][:, venue]
        active = is_open & (day >= firms.listed) & (day <= firms.delisted) & ~firms.suspended(days)
        debut = day == firms.listed
        chance, shape = draw(firms.keys, day, _TRADE), draw(firms.keys, day, _SHAPE)
        traded = active & ((UNIFORM[lane(chance, 0)] < firms.liquidity) | debut)
        tide = _MARKET_MOVE * SHOCK[lane(draw(self._market, days, _MARKET), 0)]
        common = firms.beta * tide[:, None]
        move = common + firms.volatility * SHOCK[lane(chance, 1)]
        gap = 0.3 * (common + firms.volatility * SHOCK[lane(chance, 2)])
        late = UNIFORM[lane(chance, 3)]
        season = Season(active & ~debut & (lane(shape, 0) < share(_EX_DATES)), days, firms.keys)

        lattice, averaging = rules.lattice(at, venue), np.flatnonzero(rules.from_vwap[at][venue])
        regular, opening = rules.band[at][venue], rules.opening[at][venue]
        counted, untraded = is_open.astype(np.float64), ~traded
        basis, last, idle, fresh = state.basis.copy(), state.close, state.idle, state.fresh.copy()
        prices, targets = np.empty((6, *active.shape)), np.empty((5, len(venue)))
        for s in range(len(days)):
            season.go_ex(s, basis, last, fresh)
            reference, floor, ceiling, first, close, average = prices[:, s]
            reference[:] = lattice.snap(basis, NEAREST)
            band, returning = regular.copy(), np.flatnonzero(debut[s] | (idle > IDLE_SESSIONS))
            band[returning] = opening[returning]
            drift = move[s] + _REVERSION * (firms.base - reference) / (firms.base + reference)
            drift[returning] *= _WILDNESS
            for target, change in zip(targets, (band, -band, gap[s], drift), strict=False):
                np.multiply(reference, 1 + change, out=target)
            targets[4] = reference
            tick = lattice.tick(targets)
            snapped = np.floor(targets[:4] / tick[:4] + _ROUNDING) * tick[:4]
            np.maximum(snapped[0], reference + tick[4], out=ceiling)
            np.minimum(snapped[1], reference - tick[4], out=floor)
            np.copyto(floor, reference, where=floor <= 0)
            np.minimum(np.maximum(snapped[2:], floor), ceiling, out=prices[3:5, s])
            average[:] = close + np.floor((first - close) * late[s])
            quiet = np.flatnonzero(untraded[s])
            basis = close.copy()
            basis[averaging] = average[averaging]
            basis[quiet] = reference[quiet]
            close[quiet] = first[quiet] = last[quiet]
            last = close
            idle = (idle + counted[s]) * untraded[s]
            fresh |= traded[s]
        tape = Tape(at, days, active, traded, prices, shape, season.ex_dates)
        return tape, State(basis, last.copy(), idle, fresh)

    def bars(self, tape: Tape, first: int, last: int) -> pl.DataFrame:
        """The bars of days from `first` to `last` (since 1970): columns of `BARS`, by symbol and session."""
        firms, rules = self.companies, self._rules
        lattice = rules.lattice(tape.start, firms.venue)
        reference, floor, ceiling, first_price, close, average = tape.prices
        top, bottom = np.maximum(first_price, close), np.minimum(first_price, close)
        up = lattice.snap(top * (1 + firms.volatility * WICK[lane(tape.shape, 1)]), DOWN)
        down = lattice.snap(bottom * (1 - firms.volatility * WICK[lane(tape.shape, 2)]), UP)
        step = rules.step[tape.start][firms.venue]
        surprise = np.abs(close - reference) / (reference * firms.volatility)
        shares = firms.turnover * SIZE[lane(tape.shape, 3)] * np.minimum(1 + surprise, _LIVELIEST)
        volume = np.maximum(np.floor(shares / step), 1.0) * step * tape.traded
        columns = {
            "open": first_price,
            "high": close + (np.minimum(up, ceiling) - close) * tape.traded,
            "low": close - (close - np.maximum(down, floor)) * tape.traded,
            "close": close,
            "volume": volume.astype(np.int64),
            "value": volume * average,
            "reference": reference,
        }
        within = tape.active & ((tape.days >= first) & (tape.days <= last))[:, None]
        rank, session = np.nonzero(within.T[self._by_name])
        company = self._by_name[rank]
        place = session * len(firms.venue) + company
        return pl.DataFrame(
            {
                "symbol": self.names.gather(company),
                "session": pl.Series(tape.days.astype(np.int32).take(session)).cast(pl.Date),
                "exchange": self.venues.gather(company),
                **{name: matrix.ravel().take(place) for name, matrix in columns.items()},
            }
        ).select(*(pl.lit(VN.currency).alias(name) if name == "currency" else name for name in BARS))
