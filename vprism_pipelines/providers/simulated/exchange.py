"""The truth: a deterministic exchange that obeys the Vietnamese rule book, generated month by month.

A company's bars depend on the seed, the opening day and its code, on nothing else: one more day, or fewer symbols,
change no byte of what was there.

    >>> truth = Exchange(seed=7, symbols=30, start=date(2023, 1, 3), end=date(2025, 12, 31))
    >>> truth.bars(), truth.actions(), truth.instruments()
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from threading import RLock

import polars as pl

from vprism_pipelines.market.spec import VN
from vprism_pipelines.providers.simulated import terms
from vprism_pipelines.providers.simulated.floor import BARS, Floor, Tape
from vprism_pipelines.providers.simulated.listing import SECTORS, Companies, numbers_of
from vprism_pipelines.providers.simulated.rulebook import Rulebook, epoch_day
from vprism_pipelines.providers.window import within

__all__ = ["BARS", "Exchange"]


class Exchange:
    """A simulated Vietnamese market. Sessions trade when somebody first asks for them; safe to share among threads.

    Args:
        seed: Any integer; another seed, another market.
        symbols: How many companies, or the canonical symbols of some; see `listing`.
        start: First day of the simulation, on or after 2000-07-28. Part of the truth: another start, another market.
        end: Last day.

    Raises:
        InvalidRange: `start` lies after `end`, or before the first session of the market.
        BeyondHorizon: `end` is beyond the calendars.
        InvalidInput: More companies than there are codes, or a symbol is named twice.
        UnknownSymbol: A symbol is no simulated company.
    """

    def __init__(self, seed: int, symbols: int | Sequence[str], start: date, end: date) -> None:
        self.seed, self.start, self.end = seed, start, end
        self._rules = Rulebook.of(start, end)
        self._stretches = self._rules.stretches()
        self._companies = Companies.of(seed, numbers_of(symbols), start)
        self._floor = Floor(seed, self._rules, self._companies)
        # What each stretch starts from, as far as anybody has looked, and the ex-dates of those that are over.
        self._states = [self._floor.opening()]
        self._ex_dates: list[terms.ExDates] = []
        self._lock = RLock()

    @property
    def symbols(self) -> list[str]:
        """Canonical symbols of the companies, in order."""
        return sorted(self._companies.symbols)

    def bars(self, first: date | None = None, last: date | None = None) -> pl.DataFrame:
        """True bars of the sessions from `first` to `last`, both inclusive; columns of `BARS`, by symbol and session.

        A listed company has one on each session of its exchange unless it is suspended, also when nobody traded it.
        """
        blocks = list(self.blocks(first, last))
        return pl.concat(blocks).sort("symbol", "session") if blocks else pl.DataFrame(schema=BARS)

    def blocks(self, first: date | None = None, last: date | None = None) -> Iterator[pl.DataFrame]:
        """`bars` at most a month at a time, for ranges that do not fit into memory; each by symbol and session."""
        low, high = epoch_day(max(first or self.start, self.start)), epoch_day(min(last or self.end, self.end))
        for number, stretch in enumerate(self._stretches):
            if self._rules.days[stretch.stop - 1] >= low and self._rules.days[stretch.start] <= high:
                yield self._floor.bars(self._trade(number), low, high)

    def actions(self, first: date | None = None, last: date | None = None) -> pl.DataFrame:
        """Corporate actions with an ex-date from `first` to `last`: columns of `terms.ACTIONS`, one row an event."""
        return terms.actions(self._known(last), self._floor.names).filter(within("ex_date", first, last))

    def ex_dates(self, first: date | None = None, last: date | None = None) -> pl.DataFrame:
        """What the exchange made of the actions of each ex-date.

        Returns:
            symbol, ex_date, base (the price before: last close, on UPCOM the average) and reference (of the formula,
            before rounding), VND; by symbol and ex-date.
        """
        return terms.references(self._known(last), self._floor.names).filter(within("ex_date", first, last))

    def instruments(self, as_of: date | None = None) -> pl.DataFrame:
        """Companies listed by a day, `end` by default, and what is known of them then: later delistings are not.

        Returns:
            symbol, name, exchange, currency, sector, listed, delisted (first and last session, Date); by symbol.
        """
        companies, last = self._companies, pl.lit(as_of or self.end)
        return (
            pl.DataFrame(
                {
                    "symbol": self._floor.names,
                    "exchange": self._floor.venues,
                    "sector": pl.Series(SECTORS).gather(companies.sector),
                    "listed": companies.listed,
                    "delisted": companies.delisted,
                }
            )
            .with_columns(pl.col("listed", "delisted").cast(pl.Int32).cast(pl.Date))
            .filter(pl.col("listed") <= last)
            .select(
                "symbol",
                pl.format("Company {} (synthetic)", pl.col("symbol").str.split(":").list.last()).alias("name"),
                "exchange",
                pl.lit(VN.currency).alias("currency"),
                "sector",
                "listed",
                pl.when(pl.col("delisted") <= last).then("delisted"),
            )
            .sort("symbol")
        )

    def _trade(self, number: int) -> Tape:
        """Let one stretch of sessions trade, and those before it that nobody has looked at yet."""
        with self._lock:
            while len(self._states) <= number:
                self._trade(len(self._states) - 1)
            tape, after = self._floor.trade(self._stretches[number], self._states[number])
            if len(self._states) == number + 1:
                self._states.append(after)
                self._ex_dates.append(tape.ex_dates)
            return tape

    def _known(self, last: date | None) -> list[terms.ExDates]:
        """The ex-dates of all stretches that begin by `last`."""
        until = epoch_day(min(last or self.end, self.end))
        needed = sum(bool(self._rules.days[stretch.start] <= until) for stretch in self._stretches)
        if len(self._ex_dates) < needed:
            self._trade(needed - 1)
        return self._ex_dates[:needed]
