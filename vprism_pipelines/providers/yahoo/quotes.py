"""Quotes: the v7 quote of many symbols, and the `price` module of a quoteSummary, which has the same fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

from vprism_pipelines.errors import Malformed, NotFound
from vprism_pipelines.providers.base import Parsed, Payload, raw_frame
from vprism_pipelines.providers.text_tables import as_object, numbers
from vprism_pipelines.providers.yahoo.terms import currency_unit, float32_decimal, stamp_array

__all__ = ["parse_quotes", "plain", "quote_rows", "text"]

_NUMBERS: Final = {
    "last": "regularMarketPrice",
    "bid": "bid",
    "ask": "ask",
    "reference": "regularMarketPreviousClose",
    "volume": "regularMarketVolume",
}
_PRICES: Final = ("last", "bid", "ask", "reference")


def parse_quotes(document: Mapping[str, Any], payload: Payload) -> Parsed:
    """Quotes of a v7 answer; it passes over symbols that it does not know in silence.

    Raises:
        NotFound: None of them has a price.
        Malformed: Not what the format promises.
    """
    found = as_object(document.get("quoteResponse"), "quoteResponse").get("result")
    if not isinstance(found, list):
        raise Malformed("quoteResponse has no list of results")
    quotes = [as_object(entry, "a quote") for entry in found]
    asked = [symbol for symbol in str(payload.request.params.get("symbols", "")).split(",") if symbol]
    silent = sorted(set(asked) - {str(quote.get("symbol")) for quote in quotes})
    notes = (f"Yahoo says nothing of {', '.join(silent[:20])}",) if silent else ()
    return Parsed({"quotes": quote_rows(quotes, payload)}, notes)


def quote_rows(quotes: Sequence[Mapping[str, Any]], payload: Payload) -> pl.DataFrame:
    """The raw frame of quotes; those without a price or its time are none.

    Raises:
        NotFound: There is none at all: the shell of a delisted symbol, or another product.
        Malformed: A price without its time, or a field that is not what it promises to be.
    """
    fields = [{name: plain(value) for name, value in quote.items()} for quote in quotes]
    priced = [quote for quote in fields if quote.get("regularMarketPrice") is not None]
    timed = [quote for quote in priced if quote.get("regularMarketTime") is not None]
    if not priced:
        raise NotFound("Yahoo has no price of this symbol", hint="it may be delisted, or spelled differently")
    if not timed:
        raise Malformed("a quote has a price and no time")
    units = [currency_unit(text(quote, "currency")) for quote in timed]
    table = pl.DataFrame(
        [
            stamp_array([quote["regularMarketTime"] for quote in timed], "regularMarketTime"),
            *(numbers([quote.get(key) for quote in timed], key).alias(name) for name, key in _NUMBERS.items()),
            pl.Series("delay", numbers([quote.get("exchangeDataDelayedBy") for quote in timed], "delay")),
        ]
    ).with_columns(
        float32_decimal(pl.col(_PRICES)),
        raw_symbol=pl.Series([_symbol(quote, payload) for quote in timed], dtype=pl.String),
        instant=pl.from_epoch("stamp", time_unit="s").dt.replace_time_zone("UTC"),
        delayed=pl.col("delay") > 0,
        currency=pl.Series([code for code, _ in units], dtype=pl.String),
        price_unit=pl.Series([unit for _, unit in units], dtype=pl.Float64),
    )
    return raw_frame("quotes", table.drop("stamp", "delay"), payload)


def plain(value: object) -> object:
    """A number as such, whether the answer is formatted (`{"raw": 1, "fmt": "1"}`) or not; `{}` is missing."""
    return value.get("raw") if isinstance(value, dict) else value


def text(node: Mapping[str, Any], key: str) -> str | None:
    """A text field, blank or missing being null.

    Raises:
        Malformed: It is something else.
    """
    value = node.get(key)
    if value is not None and not isinstance(value, str):
        raise Malformed(f"{key} is {type(value).__name__}, not text")
    return value or None


def _symbol(quote: Mapping[str, Any], payload: Payload) -> str:
    symbol = text(quote, "symbol") or payload.request.provider_symbol
    if not symbol:
        raise Malformed("a quote names no symbol")
    return symbol
