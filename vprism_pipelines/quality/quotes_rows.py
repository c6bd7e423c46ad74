"""Quotes and single trades of a provider made ours. Both are kept as they came: nobody can ask for them again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import polars as pl

from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.row_rules import mark_duplicates
from vprism_pipelines.quality.rows import (
    UNKNOWN_CURRENCY,
    VALUE_DIGITS,
    Cleaned,
    converted,
    finite,
    identify,
    identity_rules,
)
from vprism_pipelines.quality.rows import split as split_rows
from vprism_pipelines.tables import CLEAN_QUOTES, CLEAN_TICKS, RAW_QUOTES, RAW_TICKS

SIDES: Final = ("buy", "sell", "auction")
_CLOCKS_DIFFER: Final = timedelta(minutes=5)  # a provider's clock may be ahead of ours by so much


def clean_quotes(raw: pl.DataFrame, pulls: pl.DataFrame, spec: MarketSpec) -> Cleaned:
    """Normalise and check quotes.

    Args:
        raw: `tables.RAW_QUOTES`.
        pulls: fetch_id, provider, fetched_at (UTC) of every pull in `raw`.
        spec: The market they belong to.
    """
    prices = ("last", "bid", "ask", "reference")
    frame = identify(raw, pulls, spec).with_columns(
        *(converted(pl.col(name), pl.col("price_unit")) for name in prices),
        finite(converted(pl.col("value"), pl.col("value_unit"), VALUE_DIGITS)),
        finite(pl.col("volume")).round(0).cast(pl.Int64, strict=False),
        currency=pl.col("currency").fill_null(spec.currency),
        session=_session(spec),
    )
    frame = frame.with_columns(
        # Providers write 0 where there is nothing.
        *(pl.when(pl.col(name).is_finite() & (pl.col(name) > 0)).then(name).alias(name) for name in prices[1:])
    )
    frame = frame.with_columns(change=pl.col("last") / pl.col("reference") - 1)
    frame = mark_duplicates(frame, ["provider", "fetch_id", "symbol", "instant"], [*prices, "volume", "value"])
    rules = {
        **_traded("last"),
        "negative_volume": pl.col("volume") < 0,
        "negative_value": pl.col("value") < 0,
        "unknown_currency": UNKNOWN_CURRENCY,
        **identity_rules(),
    }
    return split_rows(frame, rules, raw, RAW_QUOTES, CLEAN_QUOTES, "quotes", spec, "session")


def clean_ticks(raw: pl.DataFrame, pulls: pl.DataFrame, spec: MarketSpec) -> Cleaned:
    """Normalise and check single trades.

    Args:
        raw: `tables.RAW_TICKS`.
        pulls: fetch_id, provider, fetched_at (UTC) of every pull in `raw`.
        spec: The market they belong to.
    """
    frame = identify(raw, pulls, spec).with_columns(
        converted(pl.col("price"), pl.col("price_unit")),
        finite(pl.col("volume")).round(0).cast(pl.Int64, strict=False),
        side=pl.when(pl.col("side").is_in(SIDES)).then("side"),
        session=_session(spec),
    )
    frame = mark_duplicates(frame, ["provider", "fetch_id", "symbol", "instant", "seq"], ["price", "volume", "side"])
    rules = {
        **_traded("price"),
        "missing_seq": pl.col("seq").is_null(),
        "no_volume": pl.col("volume").fill_null(0) <= 0,
        **identity_rules(),
    }
    return split_rows(frame, rules, raw, RAW_TICKS, CLEAN_TICKS, "ticks", spec, "session")


def _session(spec: MarketSpec) -> pl.Expr:
    return pl.col("instant").dt.convert_time_zone(spec.timezone).dt.date()


def _traded(price: str) -> Mapping[str, pl.Expr]:
    """What no instant and no price may be."""
    return {
        "missing_time": pl.col("instant").is_null(),
        "from_the_future": pl.col("instant") > pl.col("fetched_at") + _CLOCKS_DIFFER,
        "missing_price": pl.col(price).is_null(),
        "price_not_finite": ~pl.col(price).is_finite(),
        "price_not_positive": pl.col(price) <= 0,
    }
