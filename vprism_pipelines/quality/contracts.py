"""pandera contracts of every table that crosses a boundary, made from the data dictionary (`vprism_pipelines.tables`).

pandera is imported when a contract is first used: it is too heavy for the start of the code location.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import polars as pl

from vprism_pipelines.quality.order import repeats
from vprism_pipelines.tables import POLARS, SYMBOL_PATTERN, Column, Table

if TYPE_CHECKING:
    import pandera.polars as pa

CURRENCY_PATTERN = r"^[A-Z]{3}$"
_ORDERED = (pl.col("low") <= pl.min_horizontal("open", "close")) & (
    pl.col("high") >= pl.max_horizontal("open", "close")
)


@cache
def contract(table: Table) -> pa.DataFrameSchema:
    """The pandera schema of a table: types, nullability, value rules, key uniqueness, order of prices."""
    import pandera.polars as pa

    # Comparing alone would let NaN pass: polars takes it for larger than any number.
    finite = pa.Check(lambda data: data.lazyframe.select(pl.col(data.key).is_finite()), name="finite")
    rules = value_rules(pa.Check, finite)
    columns = {
        c.name: pa.Column(POLARS[c.type], rules[c.rule], nullable=c.nullable, description=c.description)
        for c in table.columns
    }
    checks = []
    if table.ohlc:
        checks.append(pa.Check(lambda data: data.lazyframe.select(_ORDERED), name="low <= open, close <= high"))
    return pa.DataFrameSchema(columns, checks=checks, unique=list(table.key), strict=True, name=table.full_name)


def value_rules(check: Any, finite: Any) -> dict[str, list[Any]]:
    """The checks of every rule of the dictionary: pandera's `Check` for one kind of frame, and one that is finite."""
    return {
        "positive": [check.gt(0), finite],
        "not_negative": [check.ge(0), finite],
        "share": [check.in_range(0, 1)],
        "symbol": [check.str_matches(SYMBOL_PATTERN)],
        "currency": [check.str_matches(CURRENCY_PATTERN)],
        "finite": [finite],
        "": [],
    }


def violations(table: Table, frame: pl.DataFrame, limit: int = 20) -> pl.DataFrame:
    """Rows of `frame` that break the table's contract.

    Always validates the collected frame: a LazyFrame would have its schema checked and its values believed.

    Returns:
        A frame column, check, failure_case (as text), index; empty when the contract holds. At most `limit` rows.
    """
    nothing = {"column": pl.String(), "check": pl.String(), "failure_case": pl.String(), "index": pl.Int64()}
    if holds(table, frame):
        return pl.DataFrame(schema=nothing)
    import pandera.errors

    try:
        contract(table).validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        cases: pl.DataFrame = error.failure_cases
        return cases.select(pl.col(name).cast(dtype) for name, dtype in nothing.items()).head(limit)
    return pl.DataFrame(schema=nothing)


def holds(table: Table, frame: pl.DataFrame) -> bool:
    """Whether the table's contract holds: what pandera would say, several times faster, without saying where not."""
    if dict(frame.schema) != table.polars_schema:
        return False
    sound = [_sound(column) for column in table.columns]
    if table.ohlc:
        sound.append(_ORDERED.fill_null(value=True).all())
    said = frame.select(expression.alias(str(number)) for number, expression in enumerate(sound))
    return all(said.row(0)) and not repeats(frame, table.key)


def _sound(column: Column) -> pl.Expr:
    """Whether every value of a column may stand; null is judged by `nullable` alone."""
    value = pl.col(column.name)
    # Few spellings in many rows: each is matched once.
    matched = value.unique()
    rules: dict[str, pl.Expr] = {
        "positive": ((value > 0) & value.is_finite()),
        "not_negative": ((value >= 0) & value.is_finite()),
        "share": value.is_between(0, 1),
        "symbol": matched.str.contains(SYMBOL_PATTERN),
        "currency": matched.str.contains(CURRENCY_PATTERN),
        "finite": value.is_finite(),
    }
    obeyed = rules[column.rule].fill_null(value=True).all() if column.rule else pl.lit(value=True)
    return obeyed if column.nullable else obeyed & (value.null_count() == 0)
