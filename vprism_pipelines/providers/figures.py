"""Reported figures as parsers find them, one by one, and the raw frame they make together. Pure."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import polars as pl

from vprism_pipelines.errors import Malformed, NoData
from vprism_pipelines.providers.base import Payload, raw_frame
from vprism_pipelines.providers.text_tables import dates, numbers

__all__ = ["Figure", "figures_frame", "quarter_end"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of one company and period; see `tables.RAW_FUNDAMENTALS`.

    Attributes:
        period_end: Last day of the period, as text like 2024-03-31.
        value: A number, text that spells one, or what the source writes where it has none.
        value_unit: Units per 1 of `value`.
        published: Day of publication, as text, when declared.
    """

    period_end: object
    period_kind: str
    statement: str
    item: str
    value: object
    unit: str | None = None
    currency: str | None = None
    value_unit: float = 1.0
    published: object = None


def figures_frame(
    symbol: str, figures: Iterable[Figure], payload: Payload, *, missing: Collection[str] = ("",)
) -> pl.DataFrame:
    """The raw frame of figures; those without a value are none, and `row` counts them all the same.

    Args:
        symbol: Whose figures, in the provider's spelling.
        figures: In the order of the answer.
        payload: Where they came from.
        missing: What the source writes where it has no value.

    Raises:
        NoData: None has a value.
        Malformed: A value is no finite number, or a date no date.
    """
    told = list(figures)
    texts = ("period_kind", "statement", "item", "unit", "currency")
    table = pl.DataFrame(
        [
            dates([figure.period_end for figure in told], "period_end", missing=missing),
            dates([figure.published for figure in told], "published", missing=missing),
            numbers([figure.value for figure in told], "value", missing=missing),
            pl.Series("value_unit", [figure.value_unit for figure in told], dtype=pl.Float64),
            *(pl.Series(name, [getattr(figure, name) for figure in told], dtype=pl.String) for name in texts),
        ]
    ).with_row_index("row")
    known = table.drop_nulls("value").with_columns(raw_symbol=pl.lit(symbol))
    if known.is_empty():
        raise NoData("no figure has a value", hint="the company may report others, or none")
    return raw_frame("fundamentals", known, payload)


def quarter_end(year: object, quarter: object) -> str:
    """Last day of a quarter of the calendar, as text. Where a fiscal year differs from it, few sources say so.

    Raises:
        Malformed: There is no such quarter.
    """
    if type(year) is not int or type(quarter) is not int or not (1990 <= year <= 2200 and 1 <= quarter <= 4):
        raise Malformed(f"there is no quarter {str(quarter)[:20]!r} of {str(year)[:20]!r}")
    month = 3 * quarter
    return f"{year}-{month:02d}-{monthrange(year, month)[1]}"
