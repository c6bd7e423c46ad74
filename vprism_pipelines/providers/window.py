"""The window that was asked for, as a filter: providers answer with more than that."""

from __future__ import annotations

from datetime import date

import polars as pl


def within(column: str, start: date | None, end: date | None = None) -> pl.Expr:
    """Whether a date lies from `start` to `end`, both inclusive; None: without bound on that side."""
    inside = pl.col(column).is_not_null()
    if start is not None:
        inside &= pl.col(column) >= start
    if end is not None:
        inside &= pl.col(column) <= end
    return inside
