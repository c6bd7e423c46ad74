"""Where one value of ours comes from: a column, a constant, a piece of text, or arithmetic on such. Never code."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from datetime import date
from difflib import get_close_matches
from functools import lru_cache

import polars as pl
from pydantic import BaseModel, ConfigDict, field_validator, model_validator

Scalar = str | int | float | bool | date


class Strict(BaseModel):
    """A part of a mapping: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@lru_cache  # every file of a folder brings the same mapping
def regex(pattern: str | None, groups: int) -> str | None:
    """A pattern polars accepts, with the groups it needs."""
    if pattern is None:
        return None
    try:
        found = re.compile(pattern).groups
        pl.select(pl.lit("").str.contains(pattern))
    except (re.error, pl.exceptions.PolarsError) as error:
        raise ValueError(f"{pattern!r} is no regular expression: {str(error).splitlines()[0]}") from None
    if found < groups:
        raise ValueError(f"{pattern!r} needs {groups} group(s) in parentheses, it has {found}")
    return pattern


class Source(Strict):
    """Where one value of ours comes from. In TOML a bare string means `{ column = … }`.

    Attributes:
        column: Name in the file; a list names alternatives, the first that exists is used.
        constant: The same value for every row.
        file_name: Regular expression over the file's name; its first group is the value.
        sum, product: Arithmetic on other sources; null when any is null.
        first: The first of other sources that is not null.
        agree: The first of two sources that is not null, or null where both speak and differ by more than 1 %.
        pattern: Takes the first group of this expression out of a text.
        terms: Takes "old:new" out of a text (two groups) and gives new shares per old.
        map: Replaces values; what is not listed becomes null.
        default: Used where the value is null.
        grouped: Points and commas before three digits only group them (`12.500 đ` is 12500).
        dates: strftime formats tried in order, or `epoch_s`, `epoch_ms`.
        scale: Multiplies a number: 0.01 for percent, 100 for percent of a par value of 10,000.
        optional: The column may be absent; then the value is null.
    """

    column: str | tuple[str, ...] | None = None
    constant: Scalar | None = None
    file_name: str | None = None
    sum: tuple[Source, ...] = ()
    product: tuple[Source, ...] = ()
    first: tuple[Source, ...] = ()
    agree: tuple[Source, ...] = ()
    pattern: str | None = None
    terms: str | None = None
    map: dict[str, Scalar] | None = None
    default: Scalar | None = None
    grouped: bool = False
    dates: tuple[str, ...] = ()
    scale: float = 1.0
    optional: bool = False

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        return {"column": value} if isinstance(value, str) else value

    @field_validator("pattern", "file_name")
    @classmethod
    def _one_group(cls, value: str | None) -> str | None:
        return regex(value, 1)

    @field_validator("terms")
    @classmethod
    def _two_groups(cls, value: str | None) -> str | None:
        return regex(value, 2)

    @model_validator(mode="after")
    def _one_origin(self) -> Source:
        origins = ("column", "constant", "file_name", "sum", "product", "first", "agree")
        given = [name for name in origins if getattr(self, name) not in (None, ())]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of {', '.join(origins)}; it has {', '.join(given) or 'none'}")
        if self.agree and len(self.agree) != 2:
            raise ValueError("agree compares exactly two sources")
        return self

    @property
    def parts(self) -> tuple[Source, ...]:
        """The sources it is made of."""
        return self.sum or self.product or self.first or self.agree

    @property
    def alternatives(self) -> tuple[str, ...]:
        """Column names to look for, best first."""
        return (self.column,) if isinstance(self.column, str) else self.column or ()

    @property
    def of_file_name(self) -> bool:
        """Whether the name of the file says any of it."""
        return self.file_name is not None or any(part.of_file_name for part in self.parts)

    def leaves(self, *, optional: bool = False) -> Iterator[tuple[Source, bool]]:
        """Every source that reads a column, and whether that column may be absent."""
        if self.column is not None:
            yield self, optional or self.optional
        for part in self.parts:
            yield from part.leaves(optional=optional or self.optional)


def nearest(name: str, known: Collection[str]) -> str:
    """`; did you mean 'x'?` when something close exists, else nothing."""
    lower = {item.lower(): item for item in sorted(known)}
    close = get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    return f"; did you mean {lower[close[0]]!r}?" if close else ""


def one_of(what: str, name: str, known: Collection[str]) -> None:
    """Refuse a name that does not exist, and say which ones do."""
    if name not in known:
        raise ValueError(f"{name!r} is no {what}{nearest(name, known)} (there are {', '.join(sorted(known))})")
