"""Handing DuckDB rows in the portions in which it stores them."""

from __future__ import annotations

import polars as pl

__all__ = ["ROW_GROUP", "in_row_groups"]

ROW_GROUP = 122_880
"""Rows that DuckDB keeps and compresses together."""


def in_row_groups(rows: pl.DataFrame) -> pl.DataFrame:
    """The same rows, a chunk for every row group.

    Each chunk is then stored as it is. Cut anywhere else, pieces of groups are put together afterwards and compressed
    again: twice the work on millions of rows.
    """
    return pl.concat(rows.rechunk().iter_slices(ROW_GROUP), rechunk=False) if rows.height > ROW_GROUP else rows
