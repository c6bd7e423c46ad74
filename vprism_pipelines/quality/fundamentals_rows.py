"""Reported figures of a provider made ours: units and identifiers made one, and the day from which each may be used.

A figure may be used from the day after it was published. Where nobody declares that day, from the day after the
deadline for filing it, or after the pull that brought it: whoever had it by then had it.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from vprism_pipelines.market.filings import filed_by
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.row_rules import mark_duplicates
from vprism_pipelines.quality.rows import UNKNOWN_CURRENCY, VALUE_DIGITS, Cleaned, converted, identify, identity_rules
from vprism_pipelines.quality.rows import split as split_rows
from vprism_pipelines.tables import CLEAN_FUNDAMENTALS, RAW_FUNDAMENTALS

KINDS: Final = ("Q", "Y", "TTM", "D")
STATEMENTS: Final = ("income", "balance", "cash_flow", "ratio", "earnings", "market", "report")
UNITS: Final = ("currency", "per_share", "shares", "ratio", "days")
AMOUNTS: Final = ("currency", "per_share")

_FIGURE: Final = ("provider", "fetch_id", "symbol", "period_end", "period_kind", "statement", "item")


def clean_fundamentals(raw: pl.DataFrame, pulls: pl.DataFrame, spec: MarketSpec) -> Cleaned:
    """Normalise and check reported figures, and date their availability.

    Args:
        raw: `tables.RAW_FUNDAMENTALS`.
        pulls: fetch_id, provider, fetched_at (UTC) of every pull in `raw`.
        spec: The market they belong to.
    """
    read_on = pl.col("fetched_at").dt.convert_time_zone(spec.timezone).dt.date()
    frame = identify(raw, pulls, spec).with_columns(
        converted(pl.col("value"), pl.col("value_unit"), VALUE_DIGITS),
        currency=pl.when(pl.col("unit").is_in(AMOUNTS)).then(pl.col("currency").fill_null(spec.currency)),
        read_on=read_on,
        # Nothing is published before its period is over, nor after it was read: then the date means something else.
        published=pl.when(pl.col("published").is_between(pl.col("period_end"), read_on)).then("published"),
        closes_year=_closes_year(),
    )
    due = filed_by(spec.code, pl.col("period_kind"), pl.col("period_end"), pl.col("closes_year"))
    known = pl.coalesce("published", pl.min_horizontal(due, "read_on"))
    frame = frame.with_columns(
        available_from=known + pl.duration(days=1),
        estimated=pl.col("published").is_null() & (due < pl.col("read_on")),
    )
    rules = {
        "missing_period": pl.col("period_end").is_null(),
        "period_not_over": pl.col("period_end") > pl.col("read_on"),
        "unknown_period_kind": ~pl.col("period_kind").is_in(KINDS),
        "unknown_statement": ~pl.col("statement").is_in(STATEMENTS),
        "unknown_unit": ~pl.col("unit").is_in(UNITS),
        "missing_value": pl.col("value").is_null(),
        "not_finite": ~pl.col("value").is_finite(),
        "unknown_currency": UNKNOWN_CURRENCY,
        **identity_rules(),
    }
    frame = mark_duplicates(frame, _FIGURE, ["value", "published"])
    return split_rows(frame, rules, raw, RAW_FUNDAMENTALS, CLEAN_FUNDAMENTALS, "fundamentals", spec, "period_end")


def _closes_year() -> pl.Expr:
    """Whether a fiscal year ends with the period: in December, or where the same answer has a year that ends then."""
    years = (pl.col("period_kind") == "Y").any().over("fetch_id", "symbol", "period_end")
    return (pl.col("period_end").dt.month() == 12) | years
