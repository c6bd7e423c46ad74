"""What the two vendors know at a given moment: the truth, seen late, partly, wrongly at first, or rebased.

Every flaw is drawn for its place (symbol and session), so two pulls at one moment agree, and so do two machines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Final

import numpy as np
import polars as pl

from vprism_pipelines.market.spec import VN
from vprism_pipelines.providers.simulated.exchange import Exchange
from vprism_pipelines.providers.simulated.index import INDEX, INDEX_NAME, index_bars
from vprism_pipelines.providers.simulated.listing import number_of
from vprism_pipelines.providers.simulated.noise import Words, draw, keys, lane, share
from vprism_pipelines.providers.simulated.rulebook import VENUES, calendars, epoch_day, epoch_days
from vprism_pipelines.providers.window import within

CORRECTED: Final = 1 / 400
"""Share of vendor A's traded bars that are wrong at first."""
HOLES: Final = 1 / 250
"""Share of the bars that vendor B never delivers."""
BLACKOUTS: Final = 1 / 120
"""Share of the sessions of which vendor B misses a whole exchange."""
LATE: Final = 1 / 5
"""Share of the sessions that vendor B delivers only on the next day."""

_MISPRINT, _HOLE, _DAY = 301, 302, 303
# Numbers that no company has.
_INDEX_NUMBER: Final = -2
_VENUE_NUMBERS: Final = {venue: -10 - number for number, venue in enumerate(VENUES)}
_PROMPT, _SLOW = timedelta(minutes=45), timedelta(hours=18)
_LONGEST_CORRECTION = 6  # days


@dataclass(frozen=True, slots=True)
class Market:
    """One simulated market, and the companies of it that somebody asks about."""

    seed: int
    start: date
    symbols: tuple[str, ...]

    @classmethod
    def of(cls, seed: int, start: date, asked: Sequence[str]) -> Market:
        """The companies among the symbols asked for."""
        return cls(seed, start, tuple(symbol for symbol in dict.fromkeys(asked) if number_of(symbol) is not None))

    def truth(self, today: date) -> Exchange:
        """The exchange up to the end of the year: what lies after `today` is there, but nobody may tell it yet."""
        return _exchange(self.seed, self.symbols, self.start, _end_of_year(today))

    def index(self, today: date) -> pl.DataFrame:
        """The index, likewise."""
        return _index(self.seed, self.start, _end_of_year(today))


# Many requests of one run, and both vendors, look at one truth; one more day needs no new one.
@lru_cache(maxsize=4)
def _exchange(seed: int, symbols: tuple[str, ...], start: date, end: date) -> Exchange:
    return Exchange(seed, symbols, start, end)


@lru_cache(maxsize=2)
def _index(seed: int, start: date, end: date) -> pl.DataFrame:
    return index_bars(seed, start, end)


def _end_of_year(day: date) -> date:
    return day.replace(month=12, day=31)


def printed(market: Market, first: date, last: date, now: datetime, *, index: bool = False) -> pl.DataFrame:
    """Vendor A: every session once it has closed, as first printed until the correction comes; columns of `BARS`."""
    today = VN.today(now)
    told = [market.truth(today).bars(first, last)]
    if index:
        told.append(market.index(today).filter(within("session", first, last)))
    bars = _closed(pl.concat(told), first, last, now)
    words, day = _places(market.seed, bars, _MISPRINT), epoch_days(bars["session"])
    settled = day + 1 + lane(words, 1).astype(np.int64) % _LONGEST_CORRECTION
    misprinted = pl.Series((lane(words, 0) < share(CORRECTED)) & (settled > epoch_day(today)))
    step = pl.when(pl.col("volume") % 100 == 0).then(100).when(pl.col("volume") % 10 == 0).then(10).otherwise(1)
    volume = pl.max_horizontal(pl.col("volume") * 7 // 8 // step * step, step)
    traded = pl.col("volume") > 0
    return bars.with_columns(
        pl.when(misprinted & traded).then(value).otherwise(name).alias(name)
        for name, value in {
            "close": pl.when(pl.col("close") < pl.col("high")).then("high").otherwise("low"),
            "volume": volume,
            "value": pl.col("value") / pl.col("volume") * volume,
        }.items()
    )


def rebased(market: Market, first: date, last: date, now: datetime) -> pl.DataFrame:
    """Vendor B: what it has, on the price basis of today.

    Returns:
        symbol, session, open, high, low, close (thousand VND to two decimals, adjusted for every ex-date since),
        volume (shares, as traded), exchange.
    """
    today = VN.today(now)
    truth = market.truth(today)
    bars = truth.bars(first, last)
    venue = bars["exchange"].replace_strict(_VENUE_NUMBERS, return_dtype=pl.Int64).to_numpy()
    announcement = draw(keys(market.seed, venue), epoch_days(bars["session"]), _DAY)
    slow = pl.Series("slow", lane(announcement, 0) < share(LATE))
    dark = lane(announcement, 1) < share(BLACKOUTS)
    hole = lane(_places(market.seed, bars, _HOLE), 0) < share(HOLES)
    delay = pl.when(slow).then(pl.lit(_SLOW)).otherwise(pl.lit(_PROMPT))
    kept = _closed(bars.with_columns(delay.alias("delay")).filter(pl.Series(~(dark | hole))), first, last, now)
    # Rounded per ex-date to four digits, as vendors do.
    factors = (
        truth.ex_dates(None, today)
        .select("symbol", "ex_date", factor=(pl.col("reference") / pl.col("base")).round(4))
        .with_columns(pl.col("factor").cum_prod(reverse=True).over("symbol"))
    )
    return (
        kept.join_asof(
            factors.sort("symbol", "ex_date"),
            left_on="session",
            right_on="ex_date",
            by="symbol",
            strategy="forward",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        .with_columns(pl.col("factor").fill_null(1.0))
        .select(
            "symbol",
            "session",
            *((pl.col(name) * pl.col("factor") / 1_000).round(2) for name in ("open", "high", "low", "close")),
            "volume",
            "exchange",
        )
    )


def declared(market: Market, first: date, last: date, now: datetime) -> pl.DataFrame:
    """Corporate actions with an ex-date in the window, from that day on; columns of `terms.ACTIONS`."""
    today = VN.today(now)
    return market.truth(today).actions(first, min(last, today))


def listed(market: Market, now: datetime, *, index: bool = False) -> pl.DataFrame:
    """Companies listed by now: symbol, name, exchange, currency, sector, listed, delisted."""
    today = VN.today(now)
    frame = market.truth(today).instruments(today)
    row = {"symbol": INDEX, "name": INDEX_NAME, "exchange": "HOSE", "currency": VN.currency}
    return pl.concat([frame, pl.DataFrame([row])], how="diagonal") if index else frame


def _closed(bars: pl.DataFrame, first: date, last: date, now: datetime) -> pl.DataFrame:
    """Bars of sessions that closed by `now`, or by the column `delay` before it."""
    after = pl.col("delay") if "delay" in bars.columns else pl.duration()
    closes = pl.concat(
        days.sessions(max(first, days.known_from), max(last, days.known_from))
        .select("session", "close")
        .with_columns(pl.lit(venue).alias("exchange"))
        for venue, days in calendars().items()
    )
    return (
        bars.join(closes.rename({"close": "closed"}), on=["session", "exchange"], how="left", maintain_order="left")
        .filter(pl.col("closed") + after <= now)
        .drop("closed", "delay", strict=False)
    )


def _places(seed: int, bars: pl.DataFrame, purpose: int) -> Words:
    """One word a row, drawn for its symbol and session."""
    numbers = {symbol: _INDEX_NUMBER if symbol == INDEX else number_of(symbol) for symbol in bars["symbol"].unique()}
    number = bars["symbol"].replace_strict(numbers, return_dtype=pl.Int64).to_numpy()
    return draw(keys(seed, number), epoch_days(bars["session"]), purpose)
