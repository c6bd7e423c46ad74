"""The rule book's CSV tables, and asking them about whole columns at once.

A row names the venues and assets it is about (several are separated by blanks) and holds from `valid_from` until the
next row for the same ones. Before the first row, and for venues and assets without rows, the answer is null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, reduce
from itertools import groupby
from operator import or_
from pathlib import Path
from types import MappingProxyType
from typing import Any

import polars as pl

Row = Mapping[str, Any]
Version = Callable[[Sequence[Row]], pl.Expr]
"""What the rows of one table that came into force together say."""
Rule = Callable[[pl.DataFrame], pl.Series]
"""One answer for every row of a frame of `ARGUMENTS`."""

_DATA = Path(__file__).parent / "data"

ARGUMENTS: Mapping[str, pl.DataType] = MappingProxyType(
    {
        "venue": pl.String(),
        "session": pl.Date(),
        "asset": pl.String(),
        "price": pl.Float64(),
        "listing_session": pl.Int64(),
        "idle_sessions": pl.Int64(),
        "st": pl.Boolean(),
    }
)
"""What a rule may depend on, and the columns it is given."""


@cache
def rows(table: str) -> tuple[Row, ...]:
    """The rows of `data/<table>.csv` in file order, dates parsed."""
    return tuple(pl.read_csv(_DATA / f"{table}.csv", try_parse_dates=True).iter_rows(named=True))


def ask(rule: Rule, dtype: pl.DataType, name: str, **arguments: Any) -> Any:
    """Apply a rule to expressions, or to plain values.

    The rule sees a frame, not expressions: it can take its steps one after another, where a single expression would
    repeat its inputs for every row of every table.

    Args:
        rule: From a frame with the columns named in `arguments` to as many answers.
        dtype: Type of the answer.
        name: Name of the answer's column.
        **arguments: Of `ARGUMENTS`. A string is a value, never a column name.

    Returns:
        An expression if any argument is one, else the value.
    """
    columns = {key: value.cast(ARGUMENTS[key]) for key, value in arguments.items() if isinstance(value, pl.Expr)}
    constants = [
        pl.lit(value, dtype=ARGUMENTS[key]).alias(key) for key, value in arguments.items() if key not in columns
    ]
    if not columns:
        return rule(pl.select(constants)).cast(dtype).item()

    def answer(given: pl.Series) -> pl.Series:
        return rule(given.struct.unnest().with_columns(constants)).cast(dtype)

    inputs = pl.struct(column.alias(key) for key, column in columns.items())
    return inputs.map_batches(answer, return_dtype=dtype, is_elementwise=True).alias(name)


def answers(frame: pl.DataFrame, expression: pl.Expr) -> pl.Series:
    """An expression's value in every row, even if it is a constant."""
    return frame.with_columns(answer=expression).get_column("answer")


def in_force(frame: pl.DataFrame, table: Iterable[Row], say: Version) -> pl.Expr:
    """What the table says for every row of a frame with venue and session, and asset if the table has `assets`."""

    def by(column: str, names: str, found: Iterable[Row], then: Callable[[list[Row]], pl.Expr]) -> pl.Expr:
        present = set(frame[column].unique())
        groups: dict[str, list[Row]] = {}
        for row in found:
            for name in present.intersection(row[names].split()):
                groups.setdefault(name, []).append(row)
        answer = pl.lit(None)
        for name, group in groups.items():
            answer = pl.when(pl.col(column) == name).then(then(group)).otherwise(answer)
        return answer

    def versions(found: list[Row]) -> pl.Expr:
        answer = pl.lit(None)
        for valid_from, version in groupby(found, key=lambda row: row["valid_from"]):
            answer = pl.when(pl.col("session") >= valid_from).then(say(list(version))).otherwise(answer)
        return answer

    def assets(found: list[Row]) -> pl.Expr:
        return by("asset", "assets", found, versions) if "assets" in found[0] else versions(found)

    return by("venue", "venues", table, assets)


def only(column: str) -> Version:
    """For versions of one row: its value in a column."""
    return lambda version: pl.lit(version[0][column])


def one_of(column: str, names: Sequence[str]) -> pl.Expr:
    """Whether a column holds one of a few strings; several times faster than `is_in`."""
    return reduce(or_, (pl.col(column) == name for name in names))
