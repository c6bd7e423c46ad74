"""TCBS: daily bars of Vietnamese shares as it adjusts them, cash dividends, ratios and income by year and quarter.

A legacy: its analysis went behind a login in 2024, and much of the rest with it. What it still answers, and what
archives hold of it, is read here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Final

import polars as pl

from vprism_pipelines.errors import Malformed, NoData
from vprism_pipelines.market.spec import VN, MarketSpec
from vprism_pipelines.providers.base import Capabilities, Dataset, Parsed, Payload, Quota, Request, raw_frame
from vprism_pipelines.providers.figures import Figure, figures_frame, quarter_end
from vprism_pipelines.providers.http_errors import load_json, raise_for_payload
from vprism_pipelines.providers.text_tables import PRICES, bar_table, daily_bars, numbers
from vprism_pipelines.providers.web import Span, WebProvider
from vprism_pipelines.providers.window import within

__all__ = ["TcbsProvider"]

Row = Mapping[str, Any]

_HOST: Final = "https://apipubaws.tcbs.com.vn"
_MOST_BARS: Final = 365
_PAR: Final = 10_000.0  # VND: dividends are said in percent of it
_NO_DATE: Final = "01/01/53"  # 1753, where a date is missing
_YEAR: Final = 5  # the "quarter" of a whole year
_BILLION: Final = 1e9
_PATHS: Final[Mapping[Dataset, tuple[tuple[str, str], ...]]] = MappingProxyType(
    {
        "actions": (("dividends", "/tcanalysis/v1/company/{}/dividend-payment-histories?page=0&size=100"),),
        "fundamentals": tuple(
            (f"{report}_{period}", f"/tcanalysis/v1/finance/{{}}/{report}?yearly={yearly}")
            for report in ("financialratio", "incomestatement")
            for yearly, period in enumerate(("quarter", "year"))
        ),
    }
)
_RATIO_UNITS: Final = (
    (re.compile(r"earningPerShare|bookValuePerShare|ebitdaOnStock"), "per_share", 1.0),
    (re.compile(r"capitalBalance"), "currency", _BILLION),
    (re.compile(r"days\w+|cashCirculation"), "days", 1.0),
)


class TcbsProvider(WebProvider):
    """TCBS as a provider."""

    name = "tcbs"
    offers: ClassVar[Capabilities] = Capabilities(
        name="tcbs",
        title="TCBS",
        markets=("vn",),
        asset_types=("STOCK", "ETF", "FUND"),
        datasets=("bars", "actions", "fundamentals"),
        price_basis="adjusted_by_source",
        history="daily bars, a year a request; back-adjusted, rewritten after every ex-date",
        quota=Quota(per_minute=30, burst=1, concurrency=1, source="TCBS publishes none: one every two seconds"),
        licence="undocumented and unlicensed: personal use, no redistribution",
    )

    def _plan(
        self, spec: MarketSpec, dataset: Dataset, symbols: Sequence[str], start: date, end: date, now: datetime
    ) -> list[Request]:
        """One request per symbol and year of bars, one for all dividends, four for the figures of a company."""
        if dataset == "bars":
            firsts = range(start.toordinal(), end.toordinal() + 1, _MOST_BARS)
            spans: list[Span] = [
                (date.fromordinal(first), min(end, date.fromordinal(first + _MOST_BARS - 1))) for first in firsts
            ]
            return self._requests(spec.code, dataset, symbols, spans, _chart)
        return [
            replace(request, part=part)
            for part, path in _PATHS[dataset]
            for request in self._requests(spec.code, dataset, symbols, [(start, end)], partial(_report, path))
        ]

    def _read(self, payload: Payload) -> Parsed:
        raise_for_payload(payload)
        content = load_json(payload)
        about = content if isinstance(content, dict) else {}
        if "outstandingShare" in about:
            return _company(about, payload)
        listed = next((about[key] for key in ("data", "listDividendPaymentHis") if key in about), content)
        if listed is about:
            raise Malformed(f"an answer of {', '.join(about)[:80]!r} is not read", hint="it answers another question")
        if not isinstance(listed, list) or not all(isinstance(row, dict) for row in listed):
            raise Malformed("the answer is no list of rows")
        if not listed:
            raise NoData("the answer has no row", hint="the symbol may be unknown, or not listed in that window")
        symbol = about.get("ticker") or listed[0].get("ticker") or payload.request.provider_symbol
        read = next((read for key, read in _READERS.items() if key in listed[0]), None)
        if read is None:
            hint = "trades carry a time and no date" if {"p", "v", "t"} <= set(listed[0]) else "ask for bars"
            raise Malformed(f"rows of {', '.join(listed[0])[:80]!r} are not read", hint=hint)
        return read(_named(symbol), listed, payload)


def _chart(spelling: str, span: Span) -> tuple[str, Mapping[str, str]]:
    """Bars are counted back from the end: the window's first day is ours to cut at."""
    last = span[1] or date.max
    until = int(datetime.combine(last + timedelta(days=1), time.min, VN.zone).timestamp())
    asked = {"ticker": spelling, "type": "stock", "resolution": "D", "to": str(until), "countBack": str(_MOST_BARS)}
    return f"{_HOST}/stock-insight/v2/stock/bars-long-term", asked


def _report(path: str, spelling: str, _: Span) -> tuple[str, Mapping[str, str]]:
    return _HOST + path.format(spelling), {}


def _bars(symbol: str, rows: Sequence[Row], payload: Payload) -> Parsed:
    cells = {name: [row.get(name) for row in rows] for name in (*PRICES, "volume")}
    cells = {"session": [str(row.get("tradingDate") or "")[:10] for row in rows], **cells}
    table = bar_table(cells).with_columns(
        raw_symbol=pl.lit(symbol),
        price_basis=pl.lit("adjusted_by_source"),
        basis_factor=pl.lit(None, dtype=pl.Float64),
        currency=pl.lit(VN.currency),
    )
    return daily_bars(table, payload)


def _dividends(symbol: str, rows: Sequence[Row], payload: Payload) -> Parsed:
    """Cash dividends; in shares TCBS says a percentage, too, but not of what."""
    days = pl.Series("said", [str(row.get("exerciseDate")) for row in rows])
    table = (
        pl.DataFrame([days, numbers([row.get("cashDividendPercentage") for row in rows], "cashDividendPercentage")])
        .with_row_index("row")
        .with_columns(
            pl.Series("method", [row.get("issueMethod") for row in rows], dtype=pl.String, strict=False),
            ex_date=pl.when(pl.col("said") != _NO_DATE).then(pl.col("said").str.to_date("%d/%m/%y", strict=False)),
        )
    )
    cash = table.filter(pl.col("method") == "cash").select(
        "row",
        "ex_date",
        raw_symbol=pl.lit(symbol),
        event_type=pl.lit("cash"),
        cash=pl.col("cashDividendPercentage"),
        price_unit=pl.lit(_PAR),
        currency=pl.lit(VN.currency),
    )
    sure = cash.filter(within("ex_date", payload.request.start))
    if sure.is_empty():
        raise NoData("no cash dividend in the window", hint="dividends in shares are not taken from TCBS")
    left = table.height - cash.height
    notes = (f"not emitted: {left} that are not cash",) if left else ()
    return Parsed({"actions": raw_frame("actions", sure, payload)}, notes)


def _company(about: Row, payload: Payload) -> Parsed:
    """What a company is, and its figures of the day of the answer."""
    symbol = _named(about.get("ticker") or payload.request.provider_symbol)
    today = VN.today(payload.fetched_at).isoformat()
    said = (("outstandingShare", "shares", 1e6), ("foreignPercent", "ratio", 1.0))
    figures = [Figure(today, "D", "market", item, about.get(item), unit, None, scale) for item, unit, scale in said]
    fields = {"name": "shortName", "exchange": "exchange", "sector": "industryEn"}
    texts = {ours: about.get(theirs) for ours, theirs in fields.items()}
    row = {"raw_symbol": symbol, **{name: text if isinstance(text, str) else None for name, text in texts.items()}}
    described = pl.DataFrame([row], schema=dict.fromkeys(row, pl.String))
    return Parsed(
        {
            "instruments": raw_frame("instruments", described, payload),
            "fundamentals": figures_frame(symbol, figures, payload),
        }
    )


def _named(symbol: object) -> str:
    if not isinstance(symbol, str) or not symbol:
        raise Malformed("the answer names no symbol and neither does its request")
    return symbol


def _ratios(symbol: str, rows: Sequence[Row], payload: Payload) -> Parsed:
    return _figures(symbol, rows, payload, "ratio", _ratio_unit)


def _income(symbol: str, rows: Sequence[Row], payload: Payload) -> Parsed:
    return _figures(symbol, rows, payload, "income", _income_unit)


def _figures(
    symbol: str, rows: Sequence[Row], payload: Payload, statement: str, unit: Callable[[str], tuple[str, float]]
) -> Parsed:
    def found() -> Iterator[Figure]:
        for row in rows:
            year, quarter = row.get("year"), row.get("quarter")
            whole = quarter == _YEAR
            end = quarter_end(year, 4 if whole else quarter)
            for item, value in row.items():
                if item not in ("ticker", "year", "quarter") and value is not None:
                    kind, scale = unit(item)
                    yield Figure(end, "Y" if whole else "Q", statement, item, value, kind, VN.currency, scale)

    return Parsed({"fundamentals": figures_frame(symbol, found(), payload)})


def _ratio_unit(item: str) -> tuple[str, float]:
    return next(((unit, scale) for pattern, unit, scale in _RATIO_UNITS if pattern.fullmatch(item)), ("ratio", 1.0))


def _income_unit(item: str) -> tuple[str, float]:
    return ("ratio", 1.0) if item.endswith("Growth") else ("currency", _BILLION)


# By a key that only their rows have.
_READERS: Final[Mapping[str, Callable[[str, Sequence[Row], Payload], Parsed]]] = {
    "tradingDate": _bars,
    "exerciseDate": _dividends,
    "priceToEarning": _ratios,
    "postTaxProfit": _income,
}
