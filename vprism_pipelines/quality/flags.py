"""Flags of a bar: facts worth keeping beside a value that do not make it wrong. Stored as one integer of bits."""

from __future__ import annotations

from enum import IntFlag


class BarFlag(IntFlag):
    """Bits of the `flags` columns. Values are part of the stored data: never renumber, only append."""

    ZERO_VOLUME = 1  # nothing traded
    PLACEHOLDER = 2  # nothing traded and the price merely copied from the previous bar: no information
    RAW_RECONSTRUCTED = 4  # as-traded price rebuilt from a split-adjusted one
    ADJUSTED_BY_SOURCE = 8  # the provider adjusted it and does not say how: not comparable with raw prices
    OBSERVED_ON_THE_DAY = 16  # first seen before any later ex-date could rewrite it: raw whatever the provider does
    DISSENT = 32  # another provider disagrees beyond tolerance
    PROJECTED_SESSION = 64  # the calendar had to guess that this was a session
    SYNTHETIC = 128  # invented data
    BAND_BREACH = 256  # outside the exchange's daily price band
    SPIKE = 512
    STALE_COPY = 1024
    OFF_LATTICE = 2048  # a price between two ticks
    VOLUME_UNIT = 4096  # the volume looks like another unit
    FLAT_RUN = 8192  # the close has not moved for unusually many traded bars
    VOLUME_SPIKE = 16384
    SPLIT_LIKE_JUMP = 32768  # a jump by a split ratio that no known event explains
    FIRST_OBSERVED = 65536  # the first version the provider gave, kept although it has rewritten the bar since


def names(bits: int) -> list[str]:
    """Lower-case names of the set bits, in order."""
    return [str(flag.name).lower() for flag in BarFlag if bits & flag]
