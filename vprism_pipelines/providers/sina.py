"""Sina: recent daily bars of mainland China as traded, from the chart API; adjustment factors, and quotes as bars.

Unofficial and without a key. Factors are ratios of whole prices: they say nothing about cash or shares, so they are
no corporate actions; `read_factors` gives them for comparison with our own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, ClassVar, Final

import polars as pl

from vprism_pipelines.errors import Malformed, NoData, NotFound
from vprism_pipelines.market.symbols import parse_canonical, to_provider
from vprism_pipelines.providers.base import Capabilities, Dataset, Parsed, Payload, Quota, Request, raw_frame
from vprism_pipelines.providers.chinese_units import currency
from vprism_pipelines.providers.http_errors import raise_for_payload
from vprism_pipelines.providers.text_tables import (
    PRICES,
    dates,
    in_window,
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
_FIELDS: Final = {"open": 1, "close": 3, "high": 4, "low": 5, "volume": 8, "value": 9}
_QUOTE_DATE: Final = 30


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
        quota=Quota(per_minute=20, burst=1, concurrency=1),
        licence="undocumented and unlicensed: personal use, no redistribution",
    )

    def plan(
        self, market: str, dataset: Dataset, symbols: Sequence[str], start: date, end: date, now: datetime
    ) -> list[Request]:
        """One request per symbol for the newest bars, as many as there can be since `start`.

        Raises:
            InvalidRange: `start` lies after `end` or in the exchange's future.
            InvalidInput: Sina has no such market or dataset here.
            UnknownSymbol: Sina cannot spell a symbol.
        """
        spec = self._market(market, dataset, start, end, now)
        count = min(_MOST_BARS, (spec.today(now) - start).days + 1)
        return [
            _request(symbol, _CHART, {"scale": _DAY, "ma": "no", "datalen": str(count)}, (start, end))
            for symbol in dict.fromkeys(symbols)
        ]

    def plan_factors(self, symbols: Sequence[str]) -> list[Request]:
        """Requests for the whole history of factors, `hfq` then `qfq` of each symbol; read them with `read_factors`.

        Raises:
            UnknownSymbol: Sina cannot spell a symbol.
        """
        return [
            _request(symbol, _FACTORS.format(_spelling(symbol), kind), {}, (None, None))
            for symbol in dict.fromkeys(symbols)
            for kind in ("hfq", "qfq")
        ]

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
        ex_date (Date; 1900-01-01: since the listing), factor (Float64, positive), oldest first.

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
    return table


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
    table = pl.DataFrame([dates(cells.pop("session"), "session"), *(numbers(v, name) for name, v in cells.items())])
    require_daily(table["session"])
    symbol = asked(payload.request).get("symbol") or payload.request.provider_symbol
    if not symbol:
        raise Malformed("neither the answer nor its request names the symbol")
    traded = _MAINLAND.fullmatch(symbol) is not None
    listed = table.with_row_index("row").with_columns(
        raw_symbol=pl.lit(symbol),
        currency=pl.lit(currency(symbol), dtype=pl.String),
        price_basis=pl.lit("raw" if traded else "adjusted_by_source"),
        basis_factor=pl.lit(1.0 if traded else None, dtype=pl.Float64),
    )
    trimmed = in_window(listed, payload.request.start, payload.request.end)
    notes = () if traded else ("it is not known how these prices are adjusted",)
    return Parsed({"bars": raw_frame("bars", trimmed, payload)}, notes)


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
    table = pl.DataFrame(
        [dates([cells[_QUOTE_DATE] for cells in mainland.values()], "date").alias("session")]
        + [numbers([cells[place] for cells in mainland.values()], name) for name, place in _FIELDS.items()]
        + [
            pl.Series("raw_symbol", list(mainland)),
            pl.Series("currency", [currency(name) for name in mainland], pl.String),
        ]
    ).with_row_index("row")
    traded = table.filter(pl.col("volume") > 0, *(pl.col(name) > 0 for name in PRICES))
    bars = in_window(traded.with_columns(live=pl.lit(value=True)), payload.request.start, payload.request.end)
    idle = len(lines) - traded.height
    frames: dict[Dataset, pl.DataFrame] = {"bars": raw_frame("bars", bars, payload)}
    return Parsed(frames, (f"{idle} quotes unknown, without a trade, or not of the mainland",) if idle else ())


def _request(symbol: str, url: str, params: Mapping[str, str], window: tuple[date | None, date | None]) -> Request:
    spelling = _spelling(symbol)
    return Request(
        provider=SinaProvider.name,
        dataset="bars",
        market=parse_canonical(symbol).market.lower(),
        symbol=symbol,
        provider_symbol=spelling,
        start=window[0],
        end=window[1],
        url=url,
        params={**params, "symbol": spelling} if params else {},
        headers=_HEADERS,
    )


def _spelling(symbol: str) -> str:
    return to_provider(symbol, "tencent")  # the two spell the mainland alike
