"""Who is listed: codes that nobody mistakes for real ones, and what each company is like, from its code alone.

No Vietnamese ticker begins with Z, or with a digit followed by a letter. The first 360 codes are Z, a digit and one
more character (Z0A … Z99), the next 9,360 a digit, a letter and one more (0AA … 9Z9).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from string import ascii_uppercase, digits
from typing import Final

import numpy as np

from vprism_pipelines.errors import InvalidInput, UnknownSymbol
from vprism_pipelines.providers.simulated.noise import (
    UNIFORM,
    Flags,
    Integers,
    Reals,
    Words,
    draw,
    keys,
    lane,
    pick,
    share,
)
from vprism_pipelines.providers.simulated.rulebook import VENUES, epoch_day, opened, trading_days

_CHARACTERS: Final = ascii_uppercase + digits
_Z_CODES: Final = len(digits) * len(_CHARACTERS)
CAPACITY: Final = _Z_CODES + len(digits) * len(ascii_uppercase) * len(_CHARACTERS)
"""How many companies there can be."""

_CODE: Final = re.compile(r"VN:STOCK:(Z[0-9][A-Z0-9]|[0-9][A-Z][A-Z0-9])")
_PREFIX: Final = "VN:STOCK:"
SECTORS: Final = (
    "Banks",
    "Construction",
    "Food and beverage",
    "Industrial goods",
    "Oil and gas",
    "Real estate",
    "Retail",
    "Securities",
    "Technology",
    "Utilities",
)

# Half of the companies on HOSE, a fifth on HNX, the rest on UPCOM, at any number of companies.
_VENUE_PATTERN: Final = np.array([0, 2, 1, 0, 0, 2, 0, 1, 2, 0])
_BASE_PRICES: Final = (6e3, 8e3, 11e3, 14e3, 18e3, 23e3, 29e3, 36e3, 45e3, 58e3, 76e3, 110e3)
_TURNOVERS: Final = tuple(1_000 * 1.5**power for power in range(20))  # shares on a median day of a liquid company
# Share of the sessions on which a venue's least traded company does not trade.
_IDLENESS: Final = np.array([0.35, 0.8, 0.98])

_CHARACTER, _LIFE, _SUSPENSION = 101, 102, 103
NEVER: Final = 1 << 30  # a day that a date can still express
_SUSPENSION_BLOCK: Final = 256  # days; at most one suspension each


def symbol_of(number: int) -> str:
    """The canonical symbol of a company, counting from 0."""
    if number < _Z_CODES:
        return f"{_PREFIX}Z{digits[number // 36]}{_CHARACTERS[number % 36]}"
    first, rest = divmod(number - _Z_CODES, 26 * 36)
    return f"{_PREFIX}{digits[first]}{ascii_uppercase[rest // 36]}{_CHARACTERS[rest % 36]}"


def venue_of(number: int) -> str:
    """The exchange of a company, counting from 0."""
    return VENUES[int(_VENUE_PATTERN[number % len(_VENUE_PATTERN)])]


def number_of(symbol: str) -> int | None:
    """The inverse of `symbol_of`; None for a symbol that is no simulated company."""
    match = _CODE.fullmatch(symbol)
    if match is None:
        return None
    first, second, third = tuple(match[1])
    if first == "Z":
        return digits.index(second) * 36 + _CHARACTERS.index(third)
    return _Z_CODES + (digits.index(first) * 26 + ascii_uppercase.index(second)) * 36 + _CHARACTERS.index(third)


def numbers_of(symbols: int | Sequence[str]) -> Integers:
    """Company numbers: the first so many, or those of canonical symbols.

    Raises:
        InvalidInput: There are not so many, or a symbol is named twice.
        UnknownSymbol: A symbol is no simulated company.
    """
    if isinstance(symbols, int):
        if not 0 <= symbols <= CAPACITY:
            raise InvalidInput(f"{symbols} companies cannot be simulated", hint=f"ask for up to {CAPACITY}")
        return np.arange(symbols)
    found = [number_of(symbol) for symbol in symbols]
    known = [number for number in found if number is not None]
    if len(known) < len(found):
        raise UnknownSymbol(
            f"{symbols[found.index(None)]!r} is no simulated company",
            hint=f"they are {symbol_of(0)} to {symbol_of(CAPACITY - 1)}",
            symbol=symbols[found.index(None)],
        )
    if len(set(known)) < len(known):
        raise InvalidInput("a company cannot be listed twice", hint="name each symbol once")
    return np.array(known, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Companies:
    """What some companies are like, one array element each, by venue.

    Attributes:
        symbols: Canonical symbols.
        keys: What their randomness is drawn from.
        venue: Exchange, as an index into `VENUES`.
        listed: First session, in days since 1970; `NEVER` if it comes after the calendars end.
        delisted: Last session, `NEVER` if there is none.
        base: Price that the company's own price is drawn to, VND; first reference price of a new listing.
        volatility: Size of a usual daily move, as a fraction.
        beta: How much of the market's move it makes.
        liquidity: Probability of any trade on a session.
        turnover: Shares traded on a median day.
        capital: Shares outstanding, for the index.
        sector: Index into `SECTORS`.
    """

    symbols: tuple[str, ...]
    keys: Words
    venue: Integers
    listed: Integers
    delisted: Integers
    base: Reals
    volatility: Reals
    beta: Reals
    liquidity: Reals
    turnover: Reals
    capital: Reals
    sector: Integers

    @classmethod
    def of(cls, seed: int, numbers: Integers, opening: date) -> Companies:
        """The companies with these numbers on an exchange whose simulation begins on `opening`."""
        numbers = numbers[np.argsort(_VENUE_PATTERN[numbers % len(_VENUE_PATTERN)], kind="stable")]
        venue = _VENUE_PATTERN[numbers % len(_VENUE_PATTERN)]
        key = keys(seed, numbers)
        words = draw(key, np.zeros(1, dtype=np.int64), _CHARACTER)
        more = draw(words, np.zeros(1, dtype=np.int64), _CHARACTER)  # lanes for what the four do not suffice for
        size, wildness, eagerness = (UNIFORM[lane(words, number)] for number in range(3))
        liquidity = 1 - _IDLENESS[venue] * np.choose(venue, [size * size * size * size, size * size, size])
        base = pick(lane(words, 3), _BASE_PRICES) * (0.8 + 0.4 * UNIFORM[lane(more, 0)])
        coarse = np.where(base < 50_000, 100.0, 1_000.0)  # on every tick table there was
        listed, delisted = _lives(key, venue, opening)
        return cls(
            symbols=tuple(map(symbol_of, numbers.tolist())),
            keys=key,
            venue=venue,
            listed=listed,
            delisted=delisted,
            base=np.floor(base / coarse) * coarse,
            volatility=0.008 + 0.024 * wildness * wildness,
            beta=0.4 + eagerness,
            liquidity=liquidity,
            turnover=pick(lane(more, 1), _TURNOVERS) * liquidity * liquidity,
            capital=np.floor(1e7 + 1e9 * UNIFORM[lane(more, 2)] * UNIFORM[lane(more, 3)]),
            sector=(lane(words, 2).astype(np.int64) % len(SECTORS)),
        )

    def suspended(self, days: Integers) -> Flags:
        """Whether each company is suspended on each day; days in rows."""
        blocks, row = np.unique(days // _SUSPENSION_BLOCK, return_inverse=True)
        words = draw(self.keys, blocks[:, None], _SUSPENSION)
        first = lane(words, 1).astype(np.int64) % 190
        length = np.where(lane(words, 0) < share(0.04), 3 + lane(words, 2).astype(np.int64) % 58, 0)
        within = (days % _SUSPENSION_BLOCK)[:, None] - first[row]
        inside: Flags = (within >= 0) & (within < length[row]) & (days[:, None] > self.listed)
        return inside


def _lives(key: Words, venue: Integers, opening: date) -> tuple[Integers, Integers]:
    """First and last session of each company."""
    words = draw(key, np.zeros(1, dtype=np.int64), _LIFE)
    kind, when, life = (UNIFORM[lane(words, number)] for number in range(3))
    skewed = np.floor(600 * when / (1.05 - when)).astype(np.int64)
    start = epoch_day(opening)
    day = np.where(kind < 0.75, start - 30 - np.floor(2_000 * when).astype(np.int64), start + 20 + skewed)
    mortal = lane(words, 3) < share(0.12)
    span = 250 + np.floor(800 * life / (1.05 - life)).astype(np.int64)
    listed, delisted = np.empty_like(day), np.empty_like(day)
    for number, name in enumerate(VENUES):
        here, sessions = venue == number, trading_days(name)
        open_day = epoch_day(opened(name))
        wanted = np.where(day[here] < open_day, open_day + skewed[here] % 700, day[here])
        at = np.searchsorted(sessions, wanted)
        known = at < len(sessions)
        listed[here] = np.where(known, sessions[np.minimum(at, len(sessions) - 1)], NEVER)
        end = np.searchsorted(sessions, np.maximum(listed[here], start) + span[here], side="right") - 1
        dies = mortal[here] & known & (end < len(sessions) - 1)
        delisted[here] = np.where(dies, sessions[end], NEVER)
    return listed, delisted
