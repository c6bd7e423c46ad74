"""Sina: recent daily bars of mainland China as traded, from the chart API; adjustment factors, and quotes as bars.

Unofficial and without a key. Factors are ratios of whole prices: they say nothing about cash or shares, so they are
no corporate actions; `read_factors` gives them for comparison with our own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any, ClassVar, Final

import polars as pl

from vprism_pipelines.errors import Malformed, NoData, NotFound
from vprism_pipelines.market.spec import CN, MarketSpec
from vprism_pipelines.providers.base import Capabilities, Dataset, Parsed, Payload, Quota, Request
from vprism_pipelines.providers.chinese_units import currency
from vprism_pipelines.providers.http_errors import raise_for_payload
from vprism_pipelines.providers.text_tables import (
    PRICES,
    bar_table,
    daily_bars,
    dates,
    numbers,
    quote_lines,
    require_daily,
    script_json,
)
from vprism_pipelines.providers.web import WebProvider, asked

__all__ = ["SinaProvider", "read_factors"]

_CHART: Final = "https://quotes.sina.cn/cn/api/jsonp_v2.php/var%20_day=/CN_MarketDataService.getKLineData"
_FACTORS: Final = "https://finance.sina.com.cn/realstock/company/{}/{}.js"
_HEADERS: Final = {"Referer": "https://finance.sina.com.cn"}  # refused with 403 without
_MOST_BARS: Final = 1970
_DAY: Final = "240"  # minutes per bar: a mainland session

_LONG: Final = ("day", "open", "high", "low", "close", "volume", "amount")
_SHORT: Final = ("d", "o", "h", "l", "c", "v", "a")
_OURS: Final = ("session", *PRICES, "volume", "value")
_MAINLAND: Final = re.compile(r"(sh|sz|bj)\d{6}")

_QUOTE: Final = re.compile(r'var hq_str_([\w.]+)="([^"]*)"')
_QUOTE_DATE: Final = 30
_FIELDS: Final = {"session": _QUOTE_DATE, "open": 1, "close": 3, "high": 4, "low": 5, "volume": 8, "value": 9}


class SinaProvider(WebProvider):
    """Sina's market data as a provider."""

    name = "sina"
    offers: ClassVar[Capabilities] = Capabilities(
        name="sina",
        title="Sina Finance",
        markets=("cn",),
        asset_types=("STOCK", "ETF", "FUND", "INDEX", "CONVERTIBLE_BOND"),
        datasets=("bars",),
        price_basis="raw",
        history=f"the last {_MOST_BARS} sessions",
        quota=Quota(
            per_minute=20, burst=1, concurrency=1, source="Sina publishes none: it bans faster clients (HTTP 456)"
        ),
        licence="undocumented and unlicensed: personal use, no redistribution",
    )

    def _plan(
        self, spec: MarketSpec, dataset: Dataset, symbols: Sequence[str], start: date, end: date, now: datetime
    ) -> list[Request]:
        """One request per symbol for the newest bars, as many as there can be since `start`."""
        count = min(_MOST_BARS, (spec.today(now) - start).days + 1)
        common = {"scale": _DAY, "ma": "no", "datalen": str(count)}
        return self._requests(
            spec.code, dataset, symbols, [(start, end)], lambda name, _: (_CHART, {"symbol": name, **common}), _HEADERS
        )

    def plan_factors(self, symbols: Sequence[str]) -> list[Request]:
        """Requests for the whole history of factors, `hfq` then `qfq` of each symbol; read them with `read_factors`.

        Raises:
            UnknownSymbol: Sina cannot spell a symbol.
        """
        first = self._requests(
            CN.code, "bars", symbols, [(None, None)], lambda name, _: (_FACTORS.format(name, "hfq"), {}), _HEADERS
        )
        return [r for request in first for r in (request, replace(request, url=request.url.replace("/hfq.", "/qfq.")))]

    def _read(self, payload: Payload) -> Parsed:
        raise_for_payload(payload)
        if b"hq_str_" in payload.body[:200]:
            return _quotes(payload)
        document = _document(payload)
        if isinstance(document, dict) and "total" in document:
            steps = read_factors(payload).height
            raise NoData(
                f"{steps} adjustment factors, and no corporate action: a factor mixes cash with shares",
                hint="compare them with our own factors; see read_factors",
            )
        if document is None:
            raise NotFound("the answer is null", hint="the symbol is unknown to Sina")
        if not isinstance(document, list):
            raise Malformed("the answer is no list of bars", hint="it answers another question")
        return _bars(document, payload)


def read_factors(payload: Payload) -> pl.DataFrame:
    """Adjustment factors as Sina gives them: traded price times `hfq`, or divided by `qfq`, is the adjusted one.

    Args:
        payload: The answer to a request of `SinaProvider.plan_factors`.

    Returns:
        ex_date (Date; 1900-01-01: since the listing), factor (Float64, positive), step (Float64: the factor divided by
        the one before, 1 on the first row; of `hfq` it is the close before the ex-date divided by the reference price,
        of `qfq` the inverse), oldest first.

    Raises:
        NoData: There is none.
        Malformed: Not the promised form.
        ProviderError: The payload is a failure.
    """
    raise_for_payload(payload)
    document = _document(payload)
    entries = document.get("data") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise Malformed("the answer is no list of factors")
    if not entries:
        raise NoData("there is no factor", hint="the symbol may be unknown to Sina")
    columns = [dates([e.get("d") for e in entries], "ex_date"), numbers([e.get("f") for e in entries], "factor")]
    table = pl.DataFrame(columns).sort("ex_date")
    if table["factor"].null_count() or table["ex_date"].null_count() or table["factor"].le(0).any():
        raise Malformed("a factor is missing, zero or negative")
    return table.with_columns(step=(pl.col("factor") / pl.col("factor").shift()).fill_null(1.0))


def _document(payload: Payload) -> Any:
    return script_json(payload, encoding="gb18030")


def _bars(rows: Sequence[object], payload: Payload) -> Parsed:
    if not rows:
        raise NoData("the list of bars is empty", hint="the symbol may be unknown, or new")
    if not all(isinstance(row, dict) for row in rows):
        raise Malformed("the list holds something that is no bar")
    bars = [row for row in rows if isinstance(row, dict)]
    keys = next((keys for keys in (_LONG, _SHORT) if set(keys[:6]) <= set(bars[0])), None)
    if keys is None:
        raise Malformed(f"a bar of {', '.join(map(str, bars[0]))[:80]!r} lacks prices")
    cells = {name: [bar.get(key) for bar in bars] for name, key in zip(_OURS, keys, strict=True)}
    if any(isinstance(day, str) and len(day) > len("2024-01-31") for day in cells["session"]):
        raise Malformed("the bars are intraday where days were asked for", hint=f"ask with scale={_DAY}")
    table = bar_table(cells, missing=("",))
    require_daily(table["session"])
    symbol = asked(payload.request).get("symbol") or payload.request.provider_symbol
    if not symbol:
        raise Malformed("neither the answer nor its request names the symbol")
    traded = _MAINLAND.fullmatch(symbol) is not None
    listed = table.with_columns(
        raw_symbol=pl.lit(symbol),
        currency=pl.lit(currency(symbol), dtype=pl.String),
        price_basis=pl.lit("raw" if traded else "adjusted_by_source"),
        basis_factor=pl.lit(1.0 if traded else None, dtype=pl.Float64),
    )
    parsed = daily_bars(listed, payload, () if traded else ("it is not known how these prices are adjusted",))
    first, request = table["session"].min(), payload.request
    if len(bars) < _MOST_BARS or request.start is None or request.end is None or not isinstance(first, date):
        return parsed
    return replace(parsed, answered=(max(first, request.start), request.end))


def _quotes(payload: Payload) -> Parsed:
    """Mainland quote lines as bars that still move; a last price of zero means that nothing was traded."""
    lines = quote_lines(payload, _QUOTE)
    known = {name: text.split(",") for name, text in lines.items() if text}
    if not known:
        raise NotFound("the quotes are empty", hint="the symbol is unknown to Sina")
    mainland = {name: cells for name, cells in known.items() if _MAINLAND.fullmatch(name)}
    if not mainland:
        raise Malformed(f"quotes of {', '.join(known)[:80]} are not read here", hint="only sh, sz and bj lines are")
    if not all(len(cells) > _QUOTE_DATE for cells in mainland.values()):
        raise Malformed(f"a quote line has not {_QUOTE_DATE + 1} fields or more")
    table = bar_table(
        {name: [cells[place] for cells in mainland.values()] for name, place in _FIELDS.items()}, missing=("",)
    ).with_columns(
        pl.Series("raw_symbol", list(mainland)),
        pl.Series("currency", [currency(name) for name in mainland], pl.String),
        live=pl.lit(value=True),
    )
    traded = table.with_row_index("row").filter(pl.col("volume") > 0, *(pl.col(name) > 0 for name in PRICES))
    idle = len(lines) - traded.height
    notes = (f"{idle} quotes unknown, without a trade, or not of the mainland",) if idle else ()
    return daily_bars(traded, payload, notes)
