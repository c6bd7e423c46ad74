"""The catalogue of window checks: what each computes, how grave it is, where it applies, and its thresholds as data."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from types import MappingProxyType

from vprism_pipelines.quality.checks import LIMITED, Check, Severity, Threshold
from vprism_pipelines.quality.flags import BarFlag

__all__ = ["WINDOW_CHECKS", "Severity"]

QUARANTINE, FLAG, INFO = Severity.QUARANTINE, Severity.FLAG, Severity.INFO
# Share of a market's bars on which a check may fire before people should look, and before something is broken.
RARE = (0.001, 0.01)
ODD = (0.005, 0.05)

WINDOW_CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        check.name: check
        for check in (
            Check(
                "W1",
                "price_band",
                "close beyond the dated price limits by more than a tick, and the next close beyond them on the other "
                "side; or the newest close above the ceiling",
                *RARE,
                title="Price limit broken and undone",
                severity=QUARANTINE,
                markets=LIMITED,
            ),
            Check(
                "W1",
                "band_breach",
                "close beyond the limits by more than a tick, and it stays there: an event is missing",
                *ODD,
                title="Price limit broken for good",
                flag=BarFlag.BAND_BREACH,
                markets=LIMITED,
            ),
            Check(
                "W14",
                "tick_lattice",
                "a price off the tick lattice of every exchange of the market, in a symbol of whose other bars, 250 "
                "before and 80 after, at most this share is",
                *RARE,
                title="Price between two ticks",
                severity=QUARANTINE,
                flag=BarFlag.OFF_LATTICE,
                markets=("vn",),  # elsewhere providers keep prices a thousandth off the tick
                values=(Threshold(0.3),),
                unit="share of bars",
            ),
            Check(
                "W2",
                "vwap_bound",
                "value / volume outside [low, high] by more than a tick and the rounding of value",
                *RARE,
                title="Average price outside the range",
                severity=QUARANTINE,
            ),
            Check(
                "W3",
                "unit_ratio",
                "value / (volume x close) greater than this, or less than its inverse",
                *RARE,
                title="Value does not fit volume and price",
                severity=QUARANTINE,
                values=(Threshold(1.25),),
                unit="ratio",
            ),
            Check(
                "W4",
                "return_z",
                "|log return - median of 60 before| / max(1.4826 MAD of 60 before, 0.5 %) above this, off ex-dates",
                *ODD,
                title="Return far from usual",
                flag=BarFlag.SPIKE,
                values=(Threshold(20.0),),
                unit="robust standard deviations",
            ),
            Check(
                "W5",
                "spike_reversal",
                "|r| above this and |next r + r| < 0.2 |r|, log returns",
                *ODD,
                title="Price leaps and returns",
                flag=BarFlag.SPIKE,
                values=(Threshold(0.20),),
                unit="log return",
            ),
            Check(
                "W5",
                "scale_spike",
                "the same where the price is multiplied by this or more, or divided",
                *RARE,
                title="Price multiplied and back",
                severity=QUARANTINE,
                values=(Threshold(3.0),),
                unit="ratio",
            ),
            Check(
                "W6",
                "split_like_jump",
                "close / reference within the band (this, where there is none) of 1.5, 2, 3, 4, 5, 10, 100, 1000 or an "
                "inverse, stays, no event",
                *ODD,
                title="Jump like an undeclared split",
                flag=BarFlag.SPLIT_LIKE_JUMP,
                values=(Threshold(0.20),),
                unit="fraction",
            ),
            Check(
                "W6",
                "scaled_run",
                "2 to 40 bars between two jumps beyond the limits, or by a factor of 3, that cancel each other: one "
                "factor too many in between",
                *RARE,
                title="Run of bars multiplied and back",
                severity=QUARANTINE,
            ),
            Check(
                "W7",
                "stale_copy",
                "open, high, low, close and volume all equal to those of the traded bar before, volume at least this",
                *ODD,
                title="Copy of the bar before",
                flag=BarFlag.STALE_COPY,
                values=(Threshold(1_000.0),),
                unit="shares",
            ),
            Check(
                "W8",
                "flat_run",
                "the same close on more than this many traded bars in a row, which 99.9 % of runs never reach",
                warn=0.05,
                title="Close does not move",
                severity=INFO,
                flag=BarFlag.FLAT_RUN,
                values=(Threshold(13.0), Threshold(8.0, "HOSE"), Threshold(12.0, "HNX"), Threshold(13.0, "UPCOM")),
                unit="traded bars",
            ),
            Check(
                "W9",
                "zero_volume_range",
                "no volume, yet high and low differ: somebody traded, the volume is missing",
                *ODD,
                title="Range without volume",
                flag=BarFlag.ZERO_VOLUME,
            ),
            Check(
                "W9",
                "placeholder",
                "no volume and one price: a copy of the last price, or of the next reference",
                title="Bar without a trade",
                flag=BarFlag.PLACEHOLDER,
            ),
            Check(
                "W10",
                "volume_spike",
                "(ln volume - median of 60 before) / max(1.4826 MAD of 60 before, 0.1) above this",
                warn=0.05,
                title="Volume far above usual",
                severity=INFO,
                flag=BarFlag.VOLUME_SPIKE,
                values=(Threshold(6.0),),
                unit="robust standard deviations",
            ),
            Check(
                "W15",
                "volume_step",
                "volume no multiple of the exchange's volume step (this, where the provider leaves odd lots out), in a "
                "symbol whose volumes are",
                *ODD,
                title="Volume off the exchange's step",
                flag=BarFlag.VOLUME_UNIT,
                values=(Threshold(1.0), Threshold(100.0, "HOSE", date(2022, 9, 12))),
                unit="shares",
            ),
            Check(
                "W16",
                "volume_unit",
                "a run of volumes off the step, or all multiples of 10, 100 or 1000 of it, that chance and a change of "
                "habit do not explain",
                *RARE,
                title="Run of volumes in another unit",
                severity=QUARANTINE,
                flag=BarFlag.VOLUME_UNIT,
            ),
        )
    }
)
"""Every check in the order in which it is made. Market rules come before statistics."""
