"""pandera contracts of every table that crosses a boundary, made from the data dictionary (`vprism_pipelines.tables`).

pandera is imported when a contract is first used: it is too heavy for the start of the code location.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import polars as pl

from vprism_pipelines.tables import POLARS, SYMBOL_PATTERN, Table

if TYPE_CHECKING:
    import pandera.polars as pa


@cache
def contract(table: Table) -> pa.DataFrameSchema:
    """The pandera schema of a table: types, nullability, value rules, key uniqueness, order of prices."""
    import pandera.polars as pa

    # Comparing alone would let NaN pass: polars takes it for larger than any number.
    finite = pa.Check(lambda data: data.lazyframe.select(pl.col(data.key).is_finite()), name="finite")
    rules: dict[str, list[Any]] = {
        "positive": [pa.Check.gt(0), finite],
        "not_negative": [pa.Check.ge(0), finite],
        "share": [pa.Check.in_range(0, 1)],
        "symbol": [pa.Check.str_matches(SYMBOL_PATTERN)],
        "currency": [pa.Check.str_matches(r"^[A-Z]{3}$")],
        "finite": [finite],
        "": [],
    }
    columns = {
        c.name: pa.Column(POLARS[c.type], rules[c.rule], nullable=c.nullable, description=c.description)
        for c in table.columns
    }
    checks = []
    if table.ohlc:
        ordered = (pl.col("low") <= pl.min_horizontal("open", "close")) & (
            pl.col("high") >= pl.max_horizontal("open", "close")
        )
        checks.append(pa.Check(lambda data: data.lazyframe.select(ordered), name="low <= open, close <= high"))
    return pa.DataFrameSchema(columns, checks=checks, unique=list(table.key), strict=True, name=table.full_name)


def violations(table: Table, frame: pl.DataFrame, limit: int = 20) -> pl.DataFrame:
    """Rows of `frame` that break the table's contract.

    Always validates the collected frame: a LazyFrame would have its schema checked and its values believed.

    Returns:
        A frame column, check, failure_case (as text), index; empty when the contract holds. At most `limit` rows.
    """
    import pandera.errors

    try:
        contract(table).validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        cases: pl.DataFrame = error.failure_cases
        return cases.select(
            pl.col("column").cast(pl.String),
            pl.col("check").cast(pl.String),
            pl.col("failure_case").cast(pl.String),
            pl.col("index").cast(pl.Int64),
        ).head(limit)
    return pl.DataFrame(schema={"column": pl.String, "check": pl.String, "failure_case": pl.String, "index": pl.Int64})
