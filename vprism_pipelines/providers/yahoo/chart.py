"""The v8 chart: daily bars and corporate actions of one symbol, out of one answer.

Prices, volumes and dividends stand as split-adjusted at the time of the answer. The splits in the same answer undo
that exactly, provided the answer reaches its own present; if it does not, `basis_factor` is null: nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from vprism_pipelines.errors import Malformed, NoData, NotFound
from vprism_pipelines.providers.base import Dataset, Parsed, Payload, raw_frame
from vprism_pipelines.providers.window import within
from vprism_pipelines.providers.yahoo.terms import (
    currency_unit,
    exchange_date,
    float32_decimal,
    later_splits,
    number_array,
    stamp_array,
)

_PRICES: Final = ("open", "high", "low", "close")
_QUOTE: Final = (*_PRICES, "volume")
_DAY: Final = 86_400
_RATIOS: Final = (1e-6, 1e6)
_CASH: Final = {"dividends": "cash", "capitalGains": "capital_gain"}
_EVENT_SCHEMA: Final = {
    "stamp": pl.Int64,
    "event_type": pl.String,
    "cash": pl.Float64,
    "split_ratio": pl.Float64,
    "currency": pl.String,
    "price_unit": pl.Float64,
    "detail": pl.String,
}


@dataclass(frozen=True, slots=True)
class _Meta:
    """The part of `meta` that decides how the arrays are read."""

    symbol: str
    zone: str
    currency: str | None
    unit: float
    exchange: str | None
    last_trade: int | None
    running: bool
    """The last trade happened within the regular session that Yahoo calls current."""


def parse_chart(document: Mapping[str, Any], payload: Payload) -> Parsed:
    """Bars and actions of a chart answer.

    Bars are trimmed to the sessions asked for. Actions keep whatever lies after them, because it explains the
    adjustment. A stamp whose five numbers are all null is not a bar: it is dropped and named in the notes, so that
    its session stays missing and is asked for again; a row with some of its numbers is kept for the row checks.

    Raises:
        NotFound: The symbol is unknown, or only the empty shell of a delisted one is left.
        NoData: No bar in the window.
        Malformed: Anything else than daily bars in the promised form.
    """
    result = _only_result(document)
    meta_node = _object(result.get("meta"), "meta")
    stamps = result.get("timestamp")
    if stamps is None or stamps == []:
        raise _nothing(meta_node)
    if meta_node.get("dataGranularity") != "1d":
        raise Malformed(
            f"the chart has granularity {meta_node.get('dataGranularity')!r} where days were asked for",
            hint="ask with interval=1d",
        )
    meta = _read_meta(meta_node, payload)
    try:
        table = _quote_table(result, stamp_array(stamps, "timestamp"))
        table = table.with_columns(session=exchange_date(pl.col("stamp"), meta.zone, meta.last_trade))
        events = _events(result.get("events"), meta)
    except pl.exceptions.PolarsError as error:
        raise Malformed(f"the chart's time stamps cannot be read in zone {meta.zone!r}") from error
    blank = pl.all_horizontal(pl.col(_QUOTE).is_null())
    known = _reaches_present(meta, payload)
    notes = _notes(meta, payload, table.filter(blank)["session"], known)
    table = _last_session_once(table.filter(~blank), meta)
    table, events = _with_basis(table, events, known)

    request = payload.request
    table = table.filter(within("session", request.start, request.end))
    if table.is_empty():
        raise NoData(
            f"no bar of {meta.symbol} from {request.start} to {request.end}",
            hint="the exchange may have been closed, or the symbol not listed",
        )
    bars = table.select(
        "row",
        "session",
        *(float32_decimal(pl.col(name)).alias(name) for name in (*_PRICES, "adj_close")),
        "volume",
        "basis_factor",
        "live",
        raw_symbol=pl.lit(meta.symbol),
        currency=pl.lit(meta.currency),
        exchange=pl.lit(meta.exchange),
        price_basis=pl.lit("split_adjusted"),
        price_unit=pl.lit(meta.unit),
    )
    frames: dict[Dataset, pl.DataFrame] = {"bars": raw_frame("bars", bars, payload)}
    events = events.filter(within("ex_date", request.start)).sort("ex_date", maintain_order=True)
    if not events.is_empty():
        actions = events.with_columns(float32_decimal(pl.col("cash")), raw_symbol=pl.lit(meta.symbol))
        frames["actions"] = raw_frame("actions", actions.drop("stamp"), payload)
    return Parsed(frames, notes)


def _notes(meta: _Meta, payload: Payload, blank: pl.Series, known: bool) -> tuple[str, ...]:
    asked = payload.request.provider_symbol
    notes = []
    if asked and asked.upper() != meta.symbol.upper():
        notes.append(f"asked about {asked}, answered about {meta.symbol}")
    if not blank.is_empty():
        days = ", ".join(map(str, blank.head(5)))
        notes.append(f"{len(blank)} stamps without a bar, ask again: {days}")
    if not known:
        notes.append("the answer ends before its present: later splits are unknown, and so is the raw price")
    return tuple(notes)


def _only_result(document: Mapping[str, Any]) -> Mapping[str, Any]:
    if "chart" not in document:
        raise Malformed(f"the answer is no chart but {', '.join(document)[:80] or 'something else'}")
    result = _object(document["chart"], "chart").get("result")
    if not isinstance(result, list) or len(result) != 1:
        raise Malformed("the chart has not exactly one result")
    return _object(result[0], "chart.result[0]")


def _nothing(meta: Mapping[str, Any]) -> NotFound | NoData:
    if meta.get("firstTradeDate") is None and meta.get("currency") is None:
        return NotFound(
            "Yahoo keeps only an empty shell of this symbol",
            hint="it is probably delisted, and Yahoo drops the history of those",
        )
    return NoData("the window has no bar", hint="the exchange may have been closed")


def _read_meta(meta: Mapping[str, Any], payload: Payload) -> _Meta:
    def text(key: str) -> str | None:
        value = meta.get(key)
        if value is not None and not isinstance(value, str):
            raise Malformed(f"meta.{key} is {type(value).__name__}, not text")
        return value

    zone = text("exchangeTimezoneName")
    symbol = text("symbol") or payload.request.provider_symbol
    if not zone or not symbol:
        raise Malformed("meta names no symbol or no exchangeTimezoneName")
    currency, unit = currency_unit(text("currency"))
    last_trade = _stamp(meta.get("regularMarketTime"))
    period = meta.get("currentTradingPeriod")
    regular = period.get("regular") if isinstance(period, dict) else None
    start, end = (_stamp(regular.get(key)) if isinstance(regular, dict) else None for key in ("start", "end"))
    running = last_trade is not None and start is not None and end is not None and start <= last_trade < end
    return _Meta(symbol, zone, currency, unit, text("exchangeName"), last_trade, running)


def _quote_table(result: Mapping[str, Any], stamps: pl.Series) -> pl.DataFrame:
    """`row`, `stamp`, open to volume and adj_close; arrays that are not there are null."""
    indicators = _object(result.get("indicators"), "indicators")
    quote = _first(indicators.get("quote"), "indicators.quote")
    if quote.get("close") is None:
        raise Malformed("the chart has time stamps and no closes")
    arrays = {name: quote.get(name) for name in _QUOTE}
    if indicators.get("adjclose"):
        arrays["adj_close"] = _first(indicators["adjclose"], "indicators.adjclose").get("adjclose")
    nothing = [None] * len(stamps)
    return pl.DataFrame(
        [stamps]
        + [
            number_array(nothing if arrays.get(name) is None else arrays[name], name, len(stamps))
            for name in (*_QUOTE, "adj_close")
        ]
    ).with_row_index("row")


def _last_session_once(table: pl.DataFrame, meta: _Meta) -> pl.DataFrame:
    """Marks the bar that still moves, and drops the opening stamp that Yahoo may return beside it.

    A finished bar is stamped with the session's opening. The one that still moves carries the last trade's time, or
    belongs to a session that is running. A second stamp of an earlier session is left for the checks.
    """
    stamp, session = pl.col("stamp"), pl.col("session")
    last_trade = pl.lit(meta.last_trade, dtype=pl.Int64)
    newest = stamp == stamp.max()
    older = (session == session.max()) & ~newest
    running = pl.lit(meta.running) & (session == exchange_date(last_trade, meta.zone, meta.last_trade))
    live = newest & (stamp.eq_missing(last_trade) | older.any() | running.fill_null(value=False))
    return table.with_columns(live=live, older=older).filter(~pl.col("older")).drop("older")


def _with_basis(table: pl.DataFrame, events: pl.DataFrame, known: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Adds `basis_factor` to bars and events: what undoes the splits that came after them."""
    splits = events.filter(pl.col("event_type") == "split").select("ex_date", "split_ratio")
    of_bars = later_splits(table["session"], splits, same_day=False)
    of_cash = later_splits(events["ex_date"], splits, same_day=True)
    certain = pl.lit(1.0 if known else None, dtype=pl.Float64)
    is_split = pl.col("event_type") == "split"  # a ratio has nothing to undo
    return (
        table.with_columns(basis_factor=certain * of_bars),
        events.with_columns(basis_factor=pl.when(is_split).then(1.0).otherwise(certain * of_cash)),
    )


def _reaches_present(meta: _Meta, payload: Payload) -> bool:
    """Whether every split that the prices were adjusted for is in the answer.

    Without `period2` Yahoo answers up to now. One day is what may pass between planning and fetching.
    """
    asked = str(payload.request.params.get("period2", ""))
    if not asked.lstrip("-").isdecimal():
        return True
    fetched = int(payload.fetched_at.timestamp())
    present = fetched if meta.last_trade is None else min(meta.last_trade, fetched)
    return int(asked) + _DAY >= present


def _events(node: object, meta: _Meta) -> pl.DataFrame:
    """Cash, splits and capital gains. The key of an event is not its date: of old events it can be years off."""
    groups = {} if node is None else _object(node, "events")
    rows = [
        row
        for group, read in (("dividends", _cash), ("capitalGains", _cash), ("splits", _split))
        for row in read(group, _entries(groups.get(group), group), meta)
    ]
    stamp_array([row["stamp"] for row in rows], "event dates")
    return (
        pl.DataFrame(rows, schema=_EVENT_SCHEMA)
        .with_row_index("row")
        .with_columns(ex_date=exchange_date(pl.col("stamp"), meta.zone))
    )


def _entries(node: object, group: str) -> list[Mapping[str, Any]]:
    if node is None:
        return []
    return [_object(entry, f"events.{group}") for entry in _object(node, f"events.{group}").values()]


def _cash(group: str, entries: list[Mapping[str, Any]], meta: _Meta) -> Iterator[dict[str, object]]:
    for entry in entries:
        stated = entry.get("currency")
        currency, unit = currency_unit(stated) if isinstance(stated, str) and stated else (meta.currency, meta.unit)
        amount = number_array([entry.get("amount")], f"events.{group}.amount", 1).item()
        if amount is None:
            raise Malformed(f"events.{group} has an entry without an amount")
        yield {
            "stamp": entry.get("date"),
            "event_type": _CASH[group],
            "cash": amount,
            "split_ratio": 1.0,
            "currency": currency,
            "price_unit": unit,
            "detail": None,
        }


def _split(group: str, entries: list[Mapping[str, Any]], meta: _Meta) -> Iterator[dict[str, object]]:
    for entry in entries:
        terms = number_array([entry.get("numerator"), entry.get("denominator")], f"events.{group}", 2)
        new, old = terms.to_list()
        if not new or not old or not _RATIOS[0] <= new / old <= _RATIOS[1]:
            raise Malformed(f"events.{group} has an entry in a ratio that no share was ever split in: {new}:{old}")
        yield {
            "stamp": entry.get("date"),
            "event_type": "split",
            "cash": 0.0,
            "split_ratio": new / old,
            "currency": meta.currency,
            "price_unit": meta.unit,
            "detail": f"{new:g}:{old:g}",
        }


def _stamp(value: object) -> int | None:
    return value if type(value) is int and abs(value) < 2**40 else None


def _first(node: object, where: str) -> Mapping[str, Any]:
    if not isinstance(node, list) or not node:
        raise Malformed(f"{where} is not a list with one object")
    return _object(node[0], f"{where}[0]")


def _object(node: object, where: str) -> Mapping[str, Any]:
    if not isinstance(node, dict):
        raise Malformed(f"{where} is {type(node).__name__}, not an object")
    return node
