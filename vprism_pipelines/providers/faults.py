"""Faults with known truth: damages a frame of daily bars in the ways providers do, and says exactly where.

The scoreboard measures checks with it, on real history as well as on the simulated exchange. Pure: the same seed and
the same bars give the same damage.

    >>> faulty, labels = Faults(seed=1, rate=0.01).inject(bars)
    >>> labels.filter(fault="volume_unit").select("symbol", "session", "field", "original")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
import polars as pl

from vprism_pipelines.errors import ContractViolation, InvalidInput
from vprism_pipelines.providers.simulated.noise import UNIFORM, Flags, Integers, Reals, Words, draw, keys, lane

__all__ = ["FAULTS", "LABELS", "RUN", "Fault", "Faults"]

PRICES: Final = ("open", "high", "low", "close")
NUMBERS: Final = (*PRICES, "volume", "value")
RUN: Final = 20
"""Rows of a fault that comes in runs."""

LABELS: Final = pl.Schema(
    {
        "symbol": pl.String(),
        "session": pl.Date(),  # of the true bar
        "fault": pl.String(),  # name of the class
        "field": pl.String(),  # what is wrong; `row` where the whole bar is there twice
        "original": pl.Float64(),  # true value of a number
        "original_text": pl.String(),  # true value of a session or currency
        "seen_session": pl.Date(),  # where the bar stands in the faulty frame; null: nowhere
    }
)
"""Columns of the labels: one row for each field of each bar that differs, ordered by symbol, session and field."""

_DICE: Final = pl.col("_dice")  # uniform on (0, 1): one per bar, or one for a whole run
_SPLITS: Final = (1.5, 2.0, 3.0, 4.0, 5.0, 10.0)
_VOLUME_UNITS: Final = (1 / 100, 1 / 10, 100.0, 1_000.0)
# What the source takes the currency for, and what one unit is worth in it; the sizes, not the day's rates, matter.
_FOREIGN: Final = {"VND": ("USD", 1 / 25_000), "USD": ("EUR", 0.9), "CNY": ("HKD", 1.1), "HKD": ("CNY", 0.9)}
_MOST: Final = 0.2  # beyond that share of bad rows the rest no longer tells what is normal
_SALT: Final = 401
_ONCE: Final = np.zeros(1, dtype=np.int64)
_SYMBOL: Final = pl.col("symbol")


def _one_of(values: Sequence[float]) -> pl.Expr:
    """One of a few values, equally likely."""
    return (_DICE * len(values)).floor().cast(pl.Int64).replace_strict(dict(enumerate(values)), return_dtype=pl.Float64)


def _before(name: str) -> pl.Expr:
    """The value of the symbol's bar before."""
    return pl.when(_SYMBOL.shift(1) == _SYMBOL).then(pl.col(name).shift(1))


def _times(factor: pl.Expr | float, names: Sequence[str] = PRICES) -> dict[str, pl.Expr]:
    return {name: pl.col(name) * factor for name in names}


def _whole(volume: pl.Expr) -> pl.Expr:
    return (volume + 1e-6).floor()  # a product that is a whole number but for float noise


_SOUND: Final = pl.all_horizontal((pl.col(name) > 0) & pl.col(name).is_finite() for name in PRICES)
_TRADED: Final = _SOUND & (pl.col("volume") > 0).fill_null(value=True)
_NEWS: Final = pl.any_horizontal(pl.col(name) != _before(name) for name in (*PRICES, "volume"))
_LAST_SEEN: Final = pl.when(_DICE < 1 / 3).then("open").when(_DICE < 2 / 3).then("high").otherwise("low")
_SO_FAR: Final = _whole(pl.col("volume") * (0.1 + 0.6 * _DICE))
_AVERAGE: Final = (pl.col("value") / pl.col("volume")).clip(
    pl.min_horizontal("open", _LAST_SEEN), pl.max_horizontal("open", _LAST_SEEN)
)
_RATE: Final = pl.col("currency").replace_strict({name: rate for name, (_, rate) in _FOREIGN.items()}, default=None)
_OTHER: Final = pl.col("currency").replace_strict({name: other for name, (other, _) in _FOREIGN.items()}, default=None)

# Changes, and which bars fit, of faults that happen to single bars and to pages alike.
_LOTS: Final = ({"volume": _whole(pl.col("volume") * _one_of(_VOLUME_UNITS))}, _TRADED & (pl.col("volume") >= 100))
_ABROAD: Final = (
    {
        **_times(_RATE, (*PRICES, "value")),
        "currency": pl.when(_DICE < 0.5).then(_OTHER).otherwise("currency"),
    },
    _TRADED & _RATE.is_not_null(),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One class of faults.

    Attributes:
        what: What went wrong, in words.
        changes: Wrong value of each field that it touches.
        fits: Which bars it can happen to; for runs it must hold for every bar of the run.
        run: It happens to `RUN` consecutive bars of a symbol, not to a single one.
        effect: Whether the bar is changed, is missing or is there twice.
    """

    what: str
    changes: Mapping[str, pl.Expr] = field(default_factory=dict)
    fits: pl.Expr = _TRADED
    run: bool = False
    effect: Literal["change", "remove", "repeat"] = "change"


FAULTS: Final[Mapping[str, Fault]] = MappingProxyType(
    {
        **{
            f"scale_{factor:g}": Fault(f"the four prices times {factor:g}", _times(factor))
            for factor in (1.2, 0.9, 10.0, 100.0, 1_000.0)
        },
        "sign": Fault(
            "one of the four prices negative",
            {
                name: pl.col(name) * pl.when((_DICE * 4).floor() == number).then(-1).otherwise(1)
                for number, name in enumerate(PRICES)
            },
        ),
        "high_low_swap": Fault(
            "high and low exchanged",
            {"high": pl.col("low"), "low": pl.col("high")},
            _TRADED & (pl.col("high") > pl.col("low")),
        ),
        "stale_copy": Fault(
            "the bar of the session before once more",
            {name: pl.col(f"_before_{name}") for name in NUMBERS},
            _TRADED & _NEWS & (_before("volume") > 0).fill_null(value=True),
        ),
        "missing_day": Fault(
            "no bar, though the symbol has bars before and after",
            fits=_TRADED & _before("close").is_not_null() & (_SYMBOL.shift(-1) == _SYMBOL),
            effect="remove",
        ),
        "duplicate": Fault("the bar twice", effect="repeat"),
        "date_shift": Fault(
            "the date a calendar day early: a time stamp read in the wrong zone",
            {"session": pl.col("session").dt.offset_by("-1d")},
            _SOUND & _NEWS,
            run=True,
        ),
        "volume_unit": Fault("the volume in lots of 100 or 10, or taken for such lots, or for thousands", *_LOTS),
        "volume_unit_run": Fault("the same for a page of bars", *_LOTS, run=True),
        "missed_split": Fault(
            "not adjusted for a split that the bars after it reflect",
            {**_times(_one_of(_SPLITS)), "volume": _whole(pl.col("volume") / _one_of(_SPLITS))},
            _SOUND,
            run=True,
        ),
        "double_split": Fault(
            "adjusted twice for one split",
            {**_times(1 / _one_of(_SPLITS)), "volume": _whole(pl.col("volume") * _one_of(_SPLITS))},
            _SOUND,
            run=True,
        ),
        "wrong_dividend": Fault(
            "adjusted for 1 % to 10 % more dividend than was paid", _times(1 - (0.01 + 0.09 * _DICE)), _SOUND, run=True
        ),
        "in_progress": Fault(
            "caught while the session was running: an early price for the close, a part of the volume",
            {
                "close": _LAST_SEEN,
                "high": pl.max_horizontal("open", _LAST_SEEN),
                "low": pl.min_horizontal("open", _LAST_SEEN),
                "volume": _SO_FAR,
                "value": _SO_FAR * _AVERAGE,
            },
            _TRADED & (pl.col("volume") >= 10),
        ),
        "currency_switch": Fault("prices and value in another currency; half of the time the bar says so", *_ABROAD),
        "currency_run": Fault("the same for a page of bars", *_ABROAD, run=True),
    }
)
"""Every class by name."""


@dataclass(frozen=True, slots=True)
class Faults:
    """A recipe of damage.

    Attributes:
        seed: Any integer.
        rate: Share of the bars to damage, in equal parts by class; each class gets at least one fault if any bar fits.
        classes: Names in `FAULTS`.

    Raises:
        InvalidInput: The rate is not above 0 and at most 0.2, or a class is unknown or named twice.
    """

    seed: int
    rate: float = 0.01
    classes: tuple[str, ...] = tuple(FAULTS)

    def __post_init__(self) -> None:
        if not 0 < self.rate <= _MOST:
            raise InvalidInput(f"a share of {self.rate} cannot be damaged", hint=f"choose a rate up to {_MOST}")
        unknown = [name for name in self.classes if name not in FAULTS]
        if unknown or not self.classes or len(set(self.classes)) < len(self.classes):
            raise InvalidInput(
                f"these are no classes of faults, each once: {', '.join(unknown or self.classes)!r}",
                hint=f"choose among {', '.join(FAULTS)}",
            )

    def inject(self, bars: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Damage some bars, each in at most one way, and never two neighbours of one symbol in different ways.

        Args:
            bars: symbol, session, open, high, low, close, volume, value, currency, and any other columns; one bar per
                symbol and session. Bars without a trade or a positive price are left alone, except within runs.

        Returns:
            The faulty bars, same columns and types, by symbol and session; and the labels, columns of `LABELS`.

        Raises:
            ContractViolation: A column is missing, or a bar is there twice.
        """
        missing = {"symbol", "session", *NUMBERS, "currency"} - set(bars.columns)
        if missing:
            raise ContractViolation(f"the bars lack {', '.join(sorted(missing))}", hint="pass canonical daily bars")
        truth = bars.sort("symbol", "session")
        if truth.select(pl.struct("symbol", "session").is_duplicated().any()).item():
            raise ContractViolation("some bars are there twice", hint="keep one per symbol and session")
        fault, dice = self._chosen(truth)
        work = truth.with_columns(
            *(_before(name).alias(f"_before_{name}") for name in NUMBERS),
            fault.alias("_fault"),
            pl.Series("_dice", dice),
            pl.col("session").alias("_true_session"),
        )
        faulty, labels = [work.filter(fault.is_null()).select(truth.columns)], [pl.DataFrame(schema=LABELS)]
        for (name,), rows in work.filter(fault.is_not_null()).group_by("_fault", maintain_order=True):
            seen, differences = _damage(str(name), rows, truth.schema)
            faulty.append(seen)
            labels.append(differences)
        return (
            pl.concat(faulty).sort("symbol", "session", maintain_order=True),
            pl.concat(labels).sort("symbol", "session", "field"),
        )

    def _chosen(self, truth: pl.DataFrame) -> tuple[pl.Series, Reals]:
        """The class of each row (null: none) and its dice."""
        position = truth.select(pl.int_range(pl.len()).over("symbol")).to_series().to_numpy()
        fits = {name: _mask(truth, FAULTS[name].fits) for name in self.classes}
        words = draw(keys(self.seed, np.arange(truth.height)), _ONCE, _SALT)
        code = np.full(truth.height, -1)
        quota = self.rate * truth.height / len(self.classes)

        # A run takes every other stretch of RUN rows, with a bar after it: no two runs touch.
        first = np.flatnonzero((position % (2 * RUN) == 0) & _mask(truth, _SYMBOL.shift(-RUN) == _SYMBOL))
        after_gap = _mask(truth, (pl.col("session") - _before("session") > pl.duration(days=1)).fill_null(value=True))
        for choice, name in self._by_kind(run=True):
            fit = (code[first] < 0) & fits[name][first[:, None] + np.arange(RUN)].all(axis=1)
            if "session" in FAULTS[name].changes:
                fit &= after_gap[first]  # else it would land on the bar before
            rows = first[_smallest(draw(words[first], _ONCE, choice), fit, quota / RUN)][:, None] + np.arange(RUN)
            code[rows], words[rows] = choice, words[rows[:, :1]]
        # Single faults take even positions that are not beside a run: no two of them touch either.
        taken = code >= 0
        free = (position % 2 == 0) & ~(taken | np.roll(taken, 1) | np.roll(taken, -1))
        for choice, name in self._by_kind(run=False):
            rows = _smallest(draw(words, _ONCE, choice), fits[name] & free, quota)
            code[rows], free[rows] = choice, False
        names = pl.Series(code).replace_strict(dict(enumerate(self.classes)), default=None, return_dtype=pl.String)
        return names, UNIFORM[lane(words, 0)]

    def _by_kind(self, *, run: bool) -> list[tuple[int, str]]:
        return [(choice, name) for choice, name in enumerate(self.classes) if FAULTS[name].run is run]


def _mask(frame: pl.DataFrame, condition: pl.Expr) -> Flags:
    return frame.select(condition.fill_null(value=False)).to_series().to_numpy()


def _smallest(words: Words, among: Flags, wanted: float) -> Integers:
    """Positions of the smallest words among some, about as many as wanted and at least one."""
    found = np.flatnonzero(among)
    number = max(1, round(wanted))
    return found if number >= len(found) else found[np.argpartition(words[found], number)[:number]]


def _damage(name: str, truth: pl.DataFrame, schema: pl.Schema) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Bars as a class of faults leaves them, and the labels of what differs."""
    fault = FAULTS[name]
    seen = truth.with_columns(value.cast(schema[column]).alias(column) for column, value in fault.changes.items())
    gone, twice = fault.effect == "remove", fault.effect == "repeat"
    key = truth.select(
        "symbol",
        pl.col("_true_session").alias("session"),
        pl.lit(name).alias("fault"),
        pl.when(pl.lit(not gone)).then(seen["session"]).alias("seen_session"),
    )
    labels = [key.with_columns(field=pl.lit("row"))] if twice else []
    for column in (*NUMBERS, "currency", "session"):
        differs = truth[column].ne_missing(seen[column]) | (gone and column != "session")
        kind = "original" if column in NUMBERS else "original_text"
        original = truth[column].cast(LABELS[kind]).alias(kind)
        labels.append(key.with_columns(original, field=pl.lit(column)).filter(differs))
    copies = {"change": [seen], "remove": [seen.clear()], "repeat": [seen, seen]}[fault.effect]
    empty = pl.DataFrame(schema=LABELS)
    return (
        pl.concat(copies).select(schema.names()),
        pl.concat([empty, *labels], how="diagonal").select(LABELS.names()),
    )
