"""Randomness by place instead of by order: every number is a hash of who, when and what it is for.

Asking for one more day, or for fewer symbols, therefore changes no number that was drawn before. Only operations whose
result IEEE 754 or integer arithmetic fixes to the last bit are used, so a seed means the same bytes on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Integers = NDArray[np.int64]
Reals = NDArray[np.float64]
Flags = NDArray[np.bool_]

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_ODD: Final = np.uint64(0xD6E8FEB86659FD93)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)
LEVELS: Final = 1 << 16
"""A 64-bit word is four lanes of so many equally likely levels."""


def scramble(words: Words) -> Words:
    """The finaliser of splitmix64: neighbouring words come out unrelated."""
    mixed = words ^ (words >> np.uint64(30))
    mixed *= _FIRST
    mixed ^= mixed >> np.uint64(27)
    mixed *= _SECOND
    mixed ^= mixed >> np.uint64(31)
    return mixed


def keys(seed: int, numbers: Integers) -> Words:
    """A key for each of some numbered things, unrelated for different seeds."""
    root = scramble(np.array([seed & 0xFFFF_FFFF_FFFF_FFFF], dtype=np.uint64))
    return scramble(root + numbers.astype(np.uint64) * _GOLDEN)


def draw(key: Words, day: Integers, purpose: int) -> Words:
    """One word for every key on every day (arrays that broadcast), unrelated for different purposes."""
    salt = np.array([purpose], dtype=np.uint64) * _ODD
    return scramble(key + (day.astype(np.uint64) * _GOLDEN + salt))


def lane(words: Words, number: int) -> NDArray[np.uint16]:
    """One of the four independent lanes of each word."""
    return (words >> np.uint64(16 * number)).astype(np.uint16)


def pick(levels: NDArray[np.uint16], choices: Sequence[float] | Reals) -> Reals:
    """For each lane one of a few equally likely choices."""
    table = np.asarray(choices, dtype=np.float64)
    return table[levels.astype(np.int64) * len(table) // LEVELS]


def share(fraction: float) -> int:
    """The level below which a lane lies with this probability."""
    return round(fraction * LEVELS)


def _distributions() -> tuple[Reals, Reals, Reals, Reals]:
    uniform = (np.arange(LEVELS, dtype=np.float64) + 0.5) / LEVELS
    student = (uniform - 0.5) / np.sqrt(uniform * (1 - uniform))  # quantiles of Student's t with two degrees of freedom
    shock = 0.8 * student / np.sqrt(1 + student * student / 36)  # the tails bent to end at 4.8, variance about one
    odds = (0.92 * uniform + 0.04) / (0.96 - 0.92 * uniform)
    wick = 0.4 * uniform / (1.1 - uniform)
    return uniform, shock, odds, wick


UNIFORM, SHOCK, SIZE, WICK = _distributions()
"""Quantiles by lane: uniform on (0, 1); a heavy-tailed unit shock; a skewed factor with median 1; a length from 0."""
