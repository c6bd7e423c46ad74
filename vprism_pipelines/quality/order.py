"""Rows that stand series by series, as most deliveries do: a few runs tell what would have to be asked of every row."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

__all__ = ["in_order", "repeats"]


def repeats(frame: pl.DataFrame, key: Sequence[str]) -> bool:
    """Whether any key is there twice. Where every series is one run, up or down its dates, neighbours tell."""
    changes = frame.select(_changes(key)).sum().row(0, named=True)
    *series, last = sorted(key, key=changes.__getitem__)
    before, begins = pl.col(last).shift(1), _begins(series)
    steps = frame.select(
        up=(begins | (pl.col(last) > before)).fill_null(value=False).all(),
        down=(begins | (pl.col(last) < before)).fill_null(value=False).all(),
    )
    one_run_each = any(steps.row(0)) and not frame.filter(begins).select(series).is_duplicated().any()
    return not one_run_each and bool(frame.select(key).is_duplicated().any())


def in_order(frame: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """The rows in order of the key. Where the rows of every first key stand together in order, only runs are moved."""
    first, *rest = key
    follows: pl.Expr = pl.lit(value=True)
    for name in reversed(rest):
        before = pl.col(name).shift(1)
        follows = (pl.col(name) > before) | ((pl.col(name) == before) & follows)
    begins = _begins([first])
    if not frame.select((begins | follows).fill_null(value=False).all()).item():
        return frame.sort(key)
    runs = (
        frame.select(first, begins=begins)
        .with_row_index("start")
        .filter("begins")
        .with_columns(length=pl.col("start").shift(-1, fill_value=frame.height) - pl.col("start"))
        .sort(first)
    )
    if runs[first].is_duplicated().any():
        return frame.sort(key)
    if runs["start"].is_sorted():
        return frame
    moved = (frame.slice(start, length) for start, length in runs.select("start", "length").iter_rows())
    return pl.concat(moved, rechunk=True)


def _changes(names: Sequence[str]) -> list[pl.Expr]:
    """Rows that differ from the one before; two nulls do not."""
    return [pl.col(name).ne_missing(pl.col(name).shift(1)) for name in names]


def _begins(names: Sequence[str]) -> pl.Expr:
    """Whether a run of equal values begins with a row, the first included."""
    return pl.any_horizontal(pl.int_range(pl.len()) == 0, *_changes(names))
