"""The answers of Alpha Vantage, JSON and CSV, as raw frames. Fields are known by their words: their numbers shift."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import polars as pl

from vprism_pipelines.errors import Malformed, NoData, NotFound
from vprism_pipelines.providers.alpha_vantage.reports import overview_figures, parse_earnings, parse_exchange_rate
from vprism_pipelines.providers.base import Dataset, Parsed, Payload, raw_frame
from vprism_pipelines.providers.text_tables import (
    PRICES,
    csv_table,
    dates,
    declared_events,
    in_window,
    numbers,
    require_daily,
)
from vprism_pipelines.providers.web import asked
from vprism_pipelines.providers.window import within

__all__ = ["parse_csv", "parse_json"]

_SERIES: Final = ("Time Series (Daily)", "Time Series FX (Daily)", "Time Series (Digital Currency Daily)")
_RATE: Final = "Realtime Currency Exchange Rate"
_NUMBERED: Final = re.compile(r"^\d+[a-z]?\.\s*")
_MISSING: Final = ("", "None", "null", "-")
_ASSETS: Final = {"Stock": "STOCK", "Common Stock": "STOCK", "ETF": "ETF", "Mutual Fund": "FUND"}
_DAILY: Final = {"TIME_SERIES_DAILY", "TIME_SERIES_DAILY_ADJUSTED", "FX_DAILY", "DIGITAL_CURRENCY_DAILY"}
_FIELDS: Final = {
    "adjusted close": "adj_close",
    "adjusted_close": "adj_close",
    "dividend amount": "dividend",
    "dividend_amount": "dividend",
    "split coefficient": "split",
    "split_coefficient": "split",
}

Columns = Mapping[str, Sequence[object] | pl.Series]


def parse_json(document: Mapping[str, Any], payload: Payload) -> Parsed:
    """The frames of a JSON answer without a notice.

    Raises:
        NotFound: An empty quote: nobody knows the symbol.
        NoData: An empty object, an empty list, or nothing in the window.
        Malformed: Another question's answer, or not what the format promises.
    """
    if not document:
        raise NoData("the answer is empty", hint="Alpha Vantage has nothing of this kind for the symbol")
    for name in _SERIES:
        if name in document:
            meta = {_plain(key): value for key, value in _object(document.get("Meta Data", {}), "Meta Data").items()}
            return _series(_object(document[name], name), meta, payload)
    if "Global Quote" in document:
        return _quote({_plain(k): [v] for k, v in _object(document["Global Quote"], "Global Quote").items()}, payload)
    if "data" in document and "symbol" in document:
        entries = document["data"]
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise Malformed("'data' is not a list of objects")
        return _events(
            {key: [entry.get(key) for entry in entries] for key in _keys(entries)}, document["symbol"], payload
        )
    if _RATE in document:
        node = _object(document[_RATE], _RATE)
        return parse_exchange_rate({_plain(key): value for key, value in node.items()}, payload)
    if "symbol" in document and {"quarterlyEarnings", "annualEarnings"} & set(document):
        return parse_earnings(document, _required(document["symbol"], "the symbol"), payload)
    if any(name.startswith(("Time Series", "Weekly", "Monthly")) for name in document):
        raise Malformed("the bars are not daily", hint="ask for TIME_SERIES_DAILY")
    if "Symbol" in document and "AssetType" in document:
        return _overview(document, payload)
    raise _another(", ".join(document))


def parse_csv(payload: Payload) -> Parsed:
    """The same for CSV, told apart by the header.

    Raises:
        NoData: A header and no row, or none in the window.
        Malformed: Another question's answer, or not what the format promises.
    """
    table = csv_table(payload)
    columns: dict[str, pl.Series] = {name.strip(): table[name] for name in table.columns}
    for first, read in _BY_HEADER.items():
        if next(iter(columns), "") == first[0] and set(first) <= set(columns):
            if table.is_empty():
                raise NoData("the table has a header and no row", hint="there is nothing of this kind for the symbol")
            return read(columns, payload)
    raise _another(", ".join(columns))


def _series(rows: Mapping[str, Any], meta: Mapping[str, Any], payload: Payload) -> Parsed:
    market = meta.get("Market Code")
    pair = _pair(meta.get("From Symbol"), meta.get("To Symbol")) or _pair(meta.get("Digital Currency Code"), market)
    symbol, currency = pair or (_text(meta.get("Symbol")) or _symbol(payload), None)
    if not rows:
        raise NoData("the time series has no bar")
    bars = [_object(row, "a bar") for row in rows.values()]
    fields = {key: _plain(key).removesuffix(f" ({market})") for key in _keys(bars)}
    columns: dict[str, Sequence[object]] = {"session": list(rows)}
    for key, field in fields.items():
        columns.setdefault(field, [bar.get(key) for bar in bars])
    refreshed = _text(meta.get("Last Refreshed")) or ""
    running = refreshed[:10] if len(refreshed) > len("2024-01-31") else None  # a time of day: that day still moves
    return _bars(columns, symbol, currency, running, payload)


def _timestamps(columns: Columns, payload: Payload) -> Parsed:
    query = asked(payload.request)
    function = query.get("function", "TIME_SERIES_DAILY")
    if function not in _DAILY:
        raise Malformed(f"{function} has no daily bars", hint="ask for one of " + ", ".join(sorted(_DAILY)))
    pair = _pair(query.get("from_symbol"), query.get("to_symbol")) or _pair(query.get("symbol"), query.get("market"))
    symbol, currency = pair or (_symbol(payload), None)
    stamps = pl.Series(columns["timestamp"])
    if stamps.str.len_chars().gt(len("2024-01-31")).any():
        raise Malformed("the bars are intraday where days were asked for", hint="ask for TIME_SERIES_DAILY")
    require_daily(dates(stamps, "timestamp"))
    running = stamps.max() if function == "DIGITAL_CURRENCY_DAILY" else None  # the running UTC day comes first
    return _bars({**columns, "session": stamps}, symbol, currency, running, payload)


def _bars(columns: Columns, symbol: str, currency: str | None, running: object, payload: Payload) -> Parsed:
    named = {_FIELDS.get(name, name): values for name, values in columns.items()}
    if not {*PRICES} <= set(named):
        raise Malformed(f"the bars have no {', '.join(sorted({*PRICES} - set(named)))}")
    sought = (*PRICES, "volume", "adj_close", "dividend", "split")
    table = pl.DataFrame(
        [dates(named["session"], "session")]
        + [numbers(named[name], name, missing=_MISSING) for name in sought if name in named]
    ).with_columns(raw_symbol=pl.lit(symbol), currency=pl.lit(currency, dtype=pl.String))
    bars = table.with_row_index("row").with_columns(live=pl.col("session").cast(pl.String).eq_missing(pl.lit(running)))
    request = payload.request
    trimmed = in_window(bars, request.start, request.end).drop("dividend", "split", strict=False)
    frames: dict[Dataset, pl.DataFrame] = {"bars": raw_frame("bars", trimmed, payload)}
    if {"dividend", "split"} <= set(table.columns):
        events = declared_events(bars.filter(within("session", request.start)))
        if not events.is_empty():
            frames["actions"] = raw_frame("actions", events, payload)
    other = request.provider_symbol and request.provider_symbol.upper() != symbol.upper().partition("/")[0]
    return Parsed(frames, (f"asked about {request.provider_symbol}, answered about {symbol}",) if other else ())


def _quote(columns: Columns, payload: Payload) -> Parsed:
    if not columns:
        raise NotFound("the quote is empty", hint="nobody trades this symbol, or it is spelled differently here")
    day = columns.get("latest trading day", columns.get("latestDay"))
    symbols = columns.get("symbol")
    if day is None or symbols is None or not {"open", "high", "low", "price"} <= set(columns):
        raise Malformed("the quote lacks its symbol, its day or a price")
    renamed = {"session": day, "close": columns["price"]}
    kept = {name: columns[name] for name in ("open", "high", "low", "volume") if name in columns}
    first = {name: list(values)[:1] for name, values in {**kept, **renamed}.items()}
    return _bars(first, _required(symbols[0], "the symbol"), None, first["session"][0], payload)


def _events(columns: Columns, symbol: object, payload: Payload) -> Parsed:
    """Dividends or splits; per share as declared, so nothing has to be undone."""
    if not columns:
        raise NoData("there are no such events for the symbol")
    kind = next((kind for kind in _EVENTS if set(kind) <= set(columns)), None)
    if kind is None:
        raise _another(", ".join(columns))
    day, amount = kind
    dividends = _EVENTS[kind]
    values = numbers(columns[amount], amount, missing=_MISSING)
    stated = pl.DataFrame([dates(columns[day], day, missing=_MISSING).alias("session"), values.alias("value")])
    if values.null_count():
        raise Malformed(f"an event has no {amount}")
    nothing = pl.lit(None, dtype=pl.Float64)
    beside = stated.with_row_index("row").with_columns(
        raw_symbol=pl.lit(_required(symbol, "the symbol")),
        dividend=pl.col("value") if dividends else nothing,
        split=nothing if dividends else pl.col("value"),
    )
    events = declared_events(beside).filter(within("ex_date", payload.request.start))
    if events.is_empty():
        raise NoData("no event in the window")
    return Parsed({"actions": raw_frame("actions", events, payload)})


def _listing(columns: Columns, payload: Payload) -> Parsed:
    texts = {name: pl.Series(values) for name, values in columns.items()}
    table = pl.DataFrame(
        [
            texts["symbol"].alias("raw_symbol"),  # NA, NAN and TRUE are tickers
            texts["assetType"].replace_strict(_ASSETS, default=None, return_dtype=pl.String).alias("asset"),
            texts["name"].alias("name"),
            texts["exchange"].alias("exchange"),
            dates(texts["ipoDate"], "ipoDate", missing=_MISSING).alias("listed"),
            dates(texts["delistingDate"], "delistingDate", missing=_MISSING).alias("delisted"),
        ]
    )
    known = table.with_row_index("row").filter(pl.col("raw_symbol").is_not_null())
    if known.is_empty():
        raise Malformed("the listing has rows and no symbol")
    unnamed = table.height - known.height
    notes = (f"{unnamed} rows without a symbol",) if unnamed else ()
    return Parsed({"instruments": raw_frame("instruments", known, payload)}, notes)


def _overview(document: Mapping[str, Any], payload: Payload) -> Parsed:
    fields = {"name": "Name", "exchange": "Exchange", "currency": "Currency", "sector": "Sector"}
    row = {ours: _text(document.get(theirs)) for ours, theirs in fields.items()}
    symbol = row["raw_symbol"] = _required(document["Symbol"], "Symbol")
    row["asset"] = _ASSETS.get(_text(document["AssetType"]) or "")
    frames: dict[Dataset, pl.DataFrame] = {}
    # Asked for its figures alone: the listings describe the same symbol, in fewer fields, and would contradict it.
    if payload.request.dataset != "fundamentals":
        table = pl.DataFrame([row], schema=dict.fromkeys(row, pl.String))
        frames["instruments"] = raw_frame("instruments", table, payload)
    figures = overview_figures(document, symbol, payload)
    if figures is not None:
        frames["fundamentals"] = figures
    if not frames:
        raise NoData("the overview has no figure", hint="funds have none")
    return Parsed(frames)


_EVENTS: Final = {("ex_dividend_date", "amount"): True, ("effective_date", "split_factor"): False}
_BY_HEADER: Final[Mapping[tuple[str, ...], Callable[[Columns, Payload], Parsed]]] = {
    ("timestamp", *PRICES): _timestamps,
    ("symbol", "open", "high", "low", "price", "latestDay"): _quote,
    ("symbol", "name", "exchange", "assetType", "ipoDate", "delistingDate"): _listing,
    **{kind: lambda columns, payload: _events(columns, _symbol(payload), payload) for kind in _EVENTS},
}


def _symbol(payload: Payload) -> str:
    return _required(asked(payload.request).get("symbol") or payload.request.provider_symbol, "the symbol")


def _pair(base: object, quote: object) -> tuple[str, str] | None:
    """A currency pair as symbol and currency, from ISO-like codes."""
    one, other = _text(base), _text(quote)
    return (f"{one}/{other}", other) if one and other else None


def _plain(key: str) -> str:
    return _NUMBERED.sub("", key)


def _keys(rows: Sequence[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value not in _MISSING else None


def _required(value: object, what: str) -> str:
    text = _text(value)
    if text is None:
        raise Malformed(f"neither the answer nor its request gives {what}")
    return text


def _object(node: object, where: str) -> Mapping[str, Any]:
    if not isinstance(node, dict):
        raise Malformed(f"{where} is {type(node).__name__}, not an object")
    return node


def _another(what: str) -> Malformed:
    return Malformed(
        f"an answer of {what[:80]!r} holds no daily bars, actions or instruments",
        hint="it answers another function of Alpha Vantage",
    )
