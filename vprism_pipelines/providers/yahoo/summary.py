"""quoteSummary and fundamentals-timeseries: who a company is, what it reported, and what it is worth today."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import polars as pl

from vprism_pipelines.errors import Malformed, NoData
from vprism_pipelines.market.spec import market
from vprism_pipelines.providers.base import Dataset, Parsed, Payload, raw_frame
from vprism_pipelines.providers.figures import Figure, figures_frame
from vprism_pipelines.providers.text_tables import as_object
from vprism_pipelines.providers.yahoo.items import PERIODS, STATISTICS, statement_of, unit_of
from vprism_pipelines.providers.yahoo.quotes import plain, quote_rows, text
from vprism_pipelines.providers.yahoo.terms import currency_unit, exchange_date, stamp_array

__all__ = ["parse_summary", "parse_timeseries"]

_TYPE: Final = re.compile(rf"({'|'.join(PERIODS)})([A-Z]\w{{1,120}})")
_ASSETS: Final = {"EQUITY": "STOCK", "ETF": "ETF", "MUTUALFUND": "FUND", "INDEX": "INDEX"}


def parse_summary(document: Mapping[str, Any], payload: Payload) -> Parsed:
    """A description of the company, its quote and its statistics, as far as the modules of the answer hold them.

    An answer to one of these questions is taken for that alone: half a description in an answer about statistics
    would contradict the whole one.

    Raises:
        NoData: None of the modules in it is read here.
        Malformed: Not what the format promises.
    """
    result = as_object(document.get("quoteSummary"), "quoteSummary").get("result")
    if not isinstance(result, list) or len(result) != 1:
        raise Malformed("the quoteSummary has not exactly one result")
    modules = {name: as_object(node, name) for name, node in as_object(result[0], "result").items() if node}
    price = modules.get("price", {})
    symbol = text(price, "symbol") or payload.request.provider_symbol
    if not symbol:
        raise Malformed("the quoteSummary names no symbol and neither does its request")
    asked = payload.request.dataset
    wanted = {asked} if asked in ("instruments", "fundamentals") else {"quotes", "instruments", "fundamentals"}
    frames: dict[Dataset, pl.DataFrame] = {}
    if "quotes" in wanted and plain(price.get("regularMarketPrice")) is not None:
        frames["quotes"] = quote_rows([price], payload)
    if "instruments" in wanted and (price or "assetProfile" in modules):
        frames["instruments"] = _description(symbol, price, modules.get("assetProfile", {}), payload)
    statistics = _statistics(symbol, modules, payload) if "fundamentals" in wanted else None
    if statistics is not None:
        frames["fundamentals"] = statistics
    if not frames:
        raise NoData(
            f"nothing is read of the modules {', '.join(modules)[:80] or 'none'}",
            hint="ask for price, assetProfile, defaultKeyStatistics or summaryDetail",
        )
    return Parsed(frames)


def parse_timeseries(document: Mapping[str, Any], payload: Payload) -> Parsed:
    """Reported figures, one row per figure and period.

    Raises:
        NoData: No figure at all.
        Malformed: Not what the format promises.
    """
    results = as_object(document.get("timeseries"), "timeseries").get("result")
    if not isinstance(results, list):
        raise Malformed("the timeseries has no list of results")
    symbol = payload.request.provider_symbol
    rows = []
    for result in (as_object(entry, "a result") for entry in results):
        named = as_object(result.get("meta"), "meta").get("symbol")
        symbol = named[0] if isinstance(named, list) and named and isinstance(named[0], str) else symbol
        rows += list(_reported(result))
    if not rows:
        raise NoData("no figure was reported in the window", hint="the company may report others, or none")
    if not symbol:
        raise Malformed("the timeseries names no symbol and neither does its request")
    return Parsed({"fundamentals": figures_frame(symbol, rows, payload)})


def _reported(result: Mapping[str, Any]) -> Iterator[Figure]:
    for name, entries in result.items():
        known = _TYPE.fullmatch(name)
        if known is None:
            continue
        if not isinstance(entries, list):
            raise Malformed(f"{name[:40]} is not a list")
        for entry in (as_object(entry, name) for entry in entries if entry is not None):
            yield Figure(
                entry.get("asOfDate"),
                PERIODS[known[1]],
                statement_of(known[2]),
                known[2],
                plain(entry.get("reportedValue")),
                unit_of(known[2]),
                currency_unit(text(entry, "currencyCode"))[0],
            )


def _description(symbol: str, price: Mapping[str, Any], profile: Mapping[str, Any], payload: Payload) -> pl.DataFrame:
    row = {
        "raw_symbol": symbol,
        "asset": _ASSETS.get(text(price, "quoteType") or ""),
        "name": text(price, "longName") or text(price, "shortName"),
        "exchange": text(price, "exchange"),
        "currency": currency_unit(text(price, "currency"))[0],
        "sector": text(profile, "sector"),
    }
    return raw_frame("instruments", pl.DataFrame([row], schema=dict.fromkeys(row, pl.String)), payload)


def _statistics(symbol: str, modules: Mapping[str, Mapping[str, Any]], payload: Payload) -> pl.DataFrame | None:
    """Key statistics. Those about a quarter need the module that names it."""
    named = [modules[name] for name in ("defaultKeyStatistics", "summaryDetail", "price") if name in modules]
    quarter = plain(modules.get("defaultKeyStatistics", {}).get("mostRecentQuarter"))
    today = market(payload.request.market).today(payload.fetched_at).isoformat()
    ends = {"D": today, "Q": _day(quarter), "TTM": _day(quarter)}
    currency, _ = currency_unit(next((text(module, "currency") for module in named if "currency" in module), None))
    found = []
    for item, (kind, about) in STATISTICS.items():
        value = next((plain(module[item]) for module in named if plain(module.get(item)) is not None), None)
        if value is None or ends[about] is None:
            continue
        statement = "market" if about == "D" else "ratio"
        found.append(Figure(ends[about], about, statement, item, value, kind, currency))
    return figures_frame(symbol, found, payload) if found else None


def _day(stamp: object) -> str | None:
    """The date of a Unix second at midnight UTC, as text."""
    if stamp is None:
        return None
    seconds = stamp_array([stamp], "mostRecentQuarter")
    return str(seconds.to_frame("stamp").select(exchange_date(pl.col("stamp"), "UTC")).item())
