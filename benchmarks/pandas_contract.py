"""What `quality.contracts` asks of a table, as pandera asks it of a pandas frame: from the same data dictionary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
import polars as pl

from vprism_pipelines.quality.contracts import value_rules
from vprism_pipelines.tables import Column, SqlType, Table

TEXT = "string[pyarrow]"  # several times faster than objects, both to match and to test
TYPES: dict[SqlType, Any] = {
    "VARCHAR": TEXT,
    "JSON": TEXT,
    "DATE": "datetime64[ms]",
    "DOUBLE": "float64",
    "BIGINT": "int64",
    "INTEGER": "int32",
    "BOOLEAN": "bool",
    "TIMESTAMPTZ": pd.DatetimeTZDtype("us", "UTC"),
}
NULLABLE: dict[SqlType, str] = {"BIGINT": "Int64", "INTEGER": "Int32", "BOOLEAN": "boolean"}


def contract(table: Table) -> pa.DataFrameSchema:
    """Types, nullability, value rules, uniqueness of the key, order of prices."""
    finite = pa.Check(lambda values: np.isfinite(values.astype("float64")), name="finite")
    rules = value_rules(pa.Check, finite)
    columns = {c.name: pa.Column(_type(c), rules[c.rule], nullable=c.nullable) for c in table.columns}
    checks = [pa.Check(_ordered, name="low <= open, close <= high")] if table.ohlc else []
    return pa.DataFrameSchema(columns, checks=checks, unique=list(table.key), strict=True, name=table.full_name)


def as_pandas(table: Table, frame: pl.DataFrame) -> pd.DataFrame:
    """The same rows in the types of the contract."""
    return frame.to_pandas().astype({column.name: _type(column) for column in table.columns})


def _type(column: Column) -> Any:
    return NULLABLE.get(column.type, TYPES[column.type]) if column.nullable else TYPES[column.type]


def _ordered(bars: pd.DataFrame) -> pd.Series[bool]:
    below, above = np.minimum(bars["open"], bars["close"]), np.maximum(bars["open"], bars["close"])
    ordered: pd.Series[bool] = (bars["low"] <= below) & (bars["high"] >= above)
    return ordered
