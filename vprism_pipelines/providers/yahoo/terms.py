"""Yahoo's own terms: minor currencies, widened numbers, exchange-local dates, split-adjusted amounts."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from operator import mul
from types import MappingProxyType

import polars as pl

from vprism_pipelines.errors import Malformed

# Quotes in hundredths of the currency unit, as Yahoo spells them.
MINOR_CURRENCIES: Mapping[str, str] = MappingProxyType({"GBp": "GBP", "GBX": "GBP", "ZAc": "ZAR", "ILA": "ILS"})

_NUMBER = {int, float, type(None)}
_STAMP = {int}
_YEAR_1800, _YEAR_2200 = -5_364_662_400, 7_258_118_400
# A decimal that a double holds lies about 3e-8 of itself away from the nearest float32, a widened one not at all;
# some encoders print only 14 digits.
_WIDENED = 1e-12


def currency_unit(code: str | None) -> tuple[str | None, float]:
    """ISO 4217 code and currency units per unit of price: `GBp` is `("GBP", 0.01)`."""
    major = MINOR_CURRENCIES.get(code or "")
    return (code, 1.0) if major is None else (major, 0.01)


def float32_decimal(number: pl.Expr, within: float | None = None) -> pl.Expr:
    """The shortest decimal of the float32 that was widened: 129.0399932861328 is read as 129.04.

    Numbers that no float32 was widened to (0.205, 39142.23) are left alone.

    Args:
        number: Float64 values.
        within: Largest absolute distance from the float32, for text rounded to fixed decimals; by default a relative
            one that only real widening meets.
    """
    narrow = number.cast(pl.Float32)
    distance = (narrow.cast(pl.Float64) - number).abs()
    widened = distance <= (number.abs() * _WIDENED if within is None else pl.lit(within))
    return pl.when(widened).then(narrow.cast(pl.String).cast(pl.Float64)).otherwise(number)


def number_array(values: object, name: str, length: int) -> pl.Series:
    """One of Yahoo's parallel arrays as Float64, null where it has null.

    Raises:
        Malformed: Not a list of `length` finite numbers and nulls.
    """
    if not isinstance(values, list) or len(values) != length:
        found = f"{len(values)} values" if isinstance(values, list) else type(values).__name__
        raise Malformed(f"array {name!r} of the chart has {found} for {length} time stamps")
    if not set(map(type, values)) <= _NUMBER:
        raise Malformed(f"array {name!r} of the chart holds something that is not a number")
    try:
        series = pl.Series(name, values, dtype=pl.Float64)
    except (OverflowError, TypeError, pl.exceptions.PolarsError) as error:
        raise Malformed(f"array {name!r} of the chart holds a number beyond all bounds") from error
    if not series.is_finite().all():
        raise Malformed(f"array {name!r} of the chart holds a number that is not finite")
    return series


def stamp_array(values: object, name: str) -> pl.Series:
    """Unix seconds as Int64, between the years 1800 and 2200.

    Raises:
        Malformed: Not a list of such integers.
    """
    if (
        not isinstance(values, list)
        or not set(map(type, values)) <= _STAMP
        or not all(_YEAR_1800 <= stamp < _YEAR_2200 for stamp in values)
    ):
        raise Malformed(f"{name} is not a list of Unix seconds")
    return pl.Series("stamp", values, dtype=pl.Int64)


def exchange_date(stamp: pl.Expr, zone: str, last_trade: int | None = None) -> pl.Expr:
    """The exchange's date of a Unix second.

    A stamp on 22:00 or 23:00 sharp is midnight of the next day seen through a clock change that Yahoo missed, unless
    it is the time of the last trade.
    """
    local = pl.from_epoch(stamp, time_unit="s").dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    sharp = local.dt.hour().is_in([22, 23]) & (local.dt.minute() == 0) & (local.dt.second() == 0)
    slipped = sharp & stamp.ne_missing(pl.lit(last_trade, dtype=pl.Int64))
    return local.dt.date() + pl.duration(days=slipped.cast(pl.Int64))


def later_splits(dates: pl.Series, splits: pl.DataFrame, *, same_day: bool) -> pl.Series:
    """Product of the ratios of all splits after each date: what split-adjusted amounts have to be multiplied by.

    Args:
        dates: Date per row, in any order.
        splits: `ex_date`, `split_ratio`.
        same_day: A split on the date itself counts too: for cash, which is paid per share held before the split.
    """
    steps = splits.sort("ex_date")
    products = list(accumulate(reversed(steps["split_ratio"].to_list()), mul))[::-1]
    following = steps.select("ex_date", pl.Series("factor", products, dtype=pl.Float64)).unique(
        "ex_date", keep="first", maintain_order=True
    )
    return (
        pl.DataFrame({"ex_date": dates})
        .with_row_index("place")
        .sort("ex_date")
        .join_asof(following, on="ex_date", strategy="forward", allow_exact_matches=same_day)
        .sort("place")["factor"]
        .fill_null(1.0)
    )
