"""Sound answers of every parser, made by hand: what the fuzzer damages. Recordings, if there are any, come on top."""

from __future__ import annotations

import asyncio
import io
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from vprism_pipelines.providers import registry
from vprism_pipelines.providers.base import Payload, Request

__all__ = ["NOW", "bodies"]

NOW = datetime(2026, 11, 20, 22, tzinfo=UTC)
_START, _END = date(2024, 1, 2), date(2024, 1, 31)
_DAYS = [f"2024-01-{day:02}" for day in (2, 3, 4, 5, 8)]
_STAMPS = [1704205800 + 86_400 * day for day in range(5)]
_OHLC = [10.0, 10.5, 9.5, 10.25]

_CHART: dict[str, Any] = {
    "meta": {
        "currency": "USD", "symbol": "X", "exchangeName": "NMS", "instrumentType": "EQUITY", "dataGranularity": "1d",
        "firstTradeDate": 0, "regularMarketTime": _STAMPS[-1], "exchangeTimezoneName": "America/New_York",
        "currentTradingPeriod": {"regular": {"start": _STAMPS[-1] - 9, "end": _STAMPS[-1] + 9, "timezone": "EST"}},
    },
    "timestamp": _STAMPS,
    "events": {
        "dividends": {"1": {"amount": 0.25, "date": _STAMPS[1]}},
        "splits": {"2": {"date": _STAMPS[2], "numerator": 4, "denominator": 1, "splitRatio": "4:1"}},
    },
    "indicators": {
        "quote": [{name: [10.0, None, 10.5, 9.75, 10.0] for name in ("open", "high", "low", "close", "volume")}],
        "adjclose": [{"adjclose": [9.9, 9.9, 10.4, 9.7, 10.0]}],
    },
}  # fmt: skip
_PRICE = {
    "symbol": "X", "quoteType": "EQUITY", "longName": "Y", "currency": "USD", "exchange": "NMS", "marketCap": 9e9,
    "regularMarketTime": _STAMPS[-1], "regularMarketPrice": 10.25, "regularMarketPreviousClose": 10.0, "bid": 0.0,
}  # fmt: skip
_PRICES = ("1. open", "2. high", "3. low", "4. close")
_SERIES = {
    "Meta Data": {"2. Symbol": "X", "3. Last Refreshed": "2024-01-08 16:00:00", "5. Time Zone": "US/Eastern"},
    "Time Series (Daily)": {
        day: {
            **dict.fromkeys(_PRICES, "10.5"), "5. adjusted close": "10.1", "6. volume": "1000",
            "7. dividend amount": "0.25", "8. split coefficient": "2.0",
        }
        for day in reversed(_DAYS)
    },
}  # fmt: skip
_QUOTE = {
    "01. symbol": "X", "02. open": "10.0", "03. high": "10.5", "04. low": "9.5", "05. price": "10.25",
    "06. volume": "9", "07. latest trading day": _DAYS[0], "10. change percent": "-0.5852%",
}  # fmt: skip
_WIKI = ("ticker", "date", "open", "high", "low", "close", "volume", "ex-dividend", "split_ratio", "adj_close")
_WIKI_ROWS = [["X", day, *_OHLC, 1000.0, 0.25, 2.0, 9.9] for day in _DAYS]
_SET = {"dataset_code": "X", "database_code": "WIKI", "frequency": "daily", "collapse": None, "transform": None}
_KLINES = [f"{day},10.00,10.25,10.50,9.50,1000,1025000.00,2.96,1.64,0.10,1.03" for day in _DAYS]
_ROWS = [[day, "10.000", "10.250", "10.500", "9.500", "1000.000", {}, "0.60", "102.5"] for day in _DAYS]
_LINE = {3: "10.0", 5: "10.0", 6: "5", 30: "20240102150000", 33: "10.5", 34: "9.5", 35: "10.0/5/5000", 37: "1"}
_TILDES = "~".join(_LINE.get(place, "0") for place in range(40))
_COMMAS = ",".join(["x", "10.0", "9.9", "10.1", "10.5", "9.8", *["1000"] * 24, "2024-01-02", "15:00:03", "00"])
_SINA = [
    {"day": day, "open": "10.0", "high": "10.5", "low": "9.5", "close": "10.2", "volume": "9", "amount": "91.8"}
    for day in _DAYS
]
_KBS = [{"t": f"{day} 07:00", "o": 100, "h": 105.5, "l": 95, "c": "102", "v": 1000, "va": 1e5} for day in _DAYS]
_LISTS = {"symbol": "X", **{key: [100.25, 101] for key in "ohlcv"}, "t": ["1704153600", "1704240000"]}
_EVENT = {
    "event_code": "DIV", "event_title_vi": "Cổ tức bằng tiền, tỷ lệ 10%", "exright_date": "2024-01-03",
    "exercise_ratio": 0.1, "value_per_share": 1000,
}  # fmt: skip
_CHILD = {"versions": {"vnstock": "4.0.8"}, "symbol": "X"}


def _text(content: object) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode()


def _csv(names: tuple[str, ...], rows: list[list[Any]]) -> bytes:
    return "\n".join(",".join(map(str, row)) for row in (names, *rows)).encode()


def _said(op: str, source: str, rows: list[Any]) -> bytes:
    return _text({"source": source, "op": op, **_CHILD, "rows": rows})


_BY_HAND: Mapping[str, tuple[tuple[bytes, dict[str, Any]], ...]] = {
    "yahoo": (
        (_text({"chart": {"result": [_CHART], "error": None}}), {"params": {"interval": "1d"}}),
        (_text({"chart": {"result": None, "error": {"code": "Not Found", "description": "delisted"}}}), {}),
        (_csv(("Date", "Open", "High", "Low", "Close", "Adj Close", "Volume"), [[_DAYS[0], *_OHLC, 9.9, 1]]), {}),
        (_text({"quoteResponse": {"result": [_PRICE], "error": None}}), {}),
        (_text({"quoteSummary": {"result": [{"price": _PRICE, "assetProfile": {"sector": "Z"}, "defaultKeyStatistics": {
            "mostRecentQuarter": 1704067200, "trailingEps": {"raw": 6.31}}}], "error": None}}), {}),
        (_text({"timeseries": {"result": [{"meta": {"symbol": ["X"]}, "annualTotalRevenue": [None, {
            "asOfDate": _DAYS[0], "currencyCode": "USD", "reportedValue": {"raw": 9.0}}]}], "error": None}}), {}),
    ),
    "alpha_vantage": (
        (_text(_SERIES), {}),
        (_csv(("timestamp", "open", "high", "low", "close", "volume"), [[day, *_OHLC, 9] for day in _DAYS]), {}),
        (_text({"symbol": "X", "data": [{"ex_dividend_date": _DAYS[0], "amount": "0.25"}]}), {}),
        (_csv(("effective_date", "split_factor"), [[_DAYS[0], "2.0000"]]), {}),
        (_text({"Global Quote": _QUOTE}), {}),
        (_text({"symbol": "X", "annualEarnings": [{"fiscalDateEnding": _DAYS[0], "reportedEPS": "1.9"}],
                "quarterlyEarnings": [{"fiscalDateEnding": _DAYS[0], "reportedDate": _DAYS[1], "reportedEPS": "1"}]}),
         {}),
        (_text({"Realtime Currency Exchange Rate": {
            "1. From_Currency Code": "USD", "3. To_Currency Code": "JPY", "5. Exchange Rate": "158.7",
            "6. Last Refreshed": "2024-01-08 17:12:44", "7. Time Zone": "UTC"}}), {}),
        (_text({"Information": "our standard API rate limit is 25 requests per day"}), {}),
        (_text({"Symbol": "X", "AssetType": "Common Stock", "Name": "Y", "Exchange": "NYSE", "Sector": "Z"}), {}),
        (_csv(("symbol", "name", "exchange", "assetType", "ipoDate", "delistingDate", "status"),
              [["X", "Y", "NYSE", "Stock", _DAYS[0], "null", "Active"]]), {}),
    ),
    "nasdaq_data_link": (
        (_text({"datatable": {"data": _WIKI_ROWS, "columns": [{"name": name, "type": "text"} for name in _WIKI]},
                "meta": {"next_cursor_id": None}}), {}),
        (_text({"dataset": {**_SET, "column_names": [name.title() for name in _WIKI[1:]],
                            "data": [row[1:] for row in _WIKI_ROWS]}}), {}),
        (_csv(_WIKI, _WIKI_ROWS), {}),
        (_text({"quandl_error": {"code": "QELx04", "message": "too many"}}), {"status": 429}),
        (_text({"datatable_bulk_download": {"file": {"status": "creating", "link": None}}}), {}),
    ),
    "tencent": (
        (_text({"code": 0, "msg": "", "data": {"sz000001": {"day": _ROWS, "version": "16"}}}), {}),
        (b"k=" + _text({"code": 0, "msg": "", "data": {"hk00700": {"qfqday": [row[:6] for row in _ROWS], "qt": {
            "hk00700": ["0"] * 30 + ["2024/01/08 10:00:00"], "market": ["2024|HK_open_x"]}}}}), {}),
        (f'v_sh600000="{_TILDES}"; v_usX="{_TILDES}"; v_pv_none_match="1";'.encode(), {}),
    ),
    "eastmoney": (
        (_text({"rc": 0, "data": {"code": "600036", "market": 1, "klines": _KLINES}}), {}),
        (b"cb(" + _text({"rc": 0, "data": {"code": "00700", "market": 116, "klines": _KLINES[:1]}}) + b");",
         {"params": {"fqt": "0"}}),
        (_text({"rc": 102, "data": None}), {}),
    ),
    "sina": (
        (b"/*<script>location.href='//sina.com';</script>*/\nvar _x=(" + _text(_SINA) + b");",
         {"provider_symbol": "sh600000"}),
        (f'var hq_str_sh600000="{_COMMAS}";\nvar hq_str_sz000001="";\n'.encode("gb18030"), {}),
        (b'var f={"total":2,"data":[{"d":"2024-06-13","f":"1.23"},{"d":"1900-01-01","f":"1.0"}]}', {}),
    ),
    "kbs": (
        (_text({"symbol": "X", "data_day": _KBS}), {"url": "https://host/stocks/X/data_day"}),
        (_said("history", "KBS", _KBS), {"url": "vnstock://kbs/history"}),
        (_said("listing", "KBS", [{"symbol": "X", "type": "stock", "organ_name": "Y", "exchange": "HOSE"}]),
         {"url": "vnstock://kbs/listing", "dataset": "instruments"}),
        (_text([{"SB": "X", "t": 1704700000000, "CP": 10, "RE": 10, "TT": 9, "TV": 90, "B1": "9.0", "S1": "ATC"}]), {}),
        (_text({"data": [{"t": "2024-01-08 14:45:04:15", "SB": "X", "LC": "B", "FMP": 10, "FV": 9, "AVO": 9}]}), {}),
    ),
    "vci": (
        (_text([{**_LISTS, "accumulatedValue": [0.1, 0.2]}]), {"url": "https://host/gap-chart"}),
        (_said("history", "VCI", [{"time": _DAYS[0], "open": 1.0, "high": 1.1, "low": 0.9, "close": 1.0, "volume": 5}]),
         {"url": "vnstock://vci/history"}),
        (_said("events", "VCI", [_EVENT]), {"url": "vnstock://vci/events", "dataset": "actions"}),
        (_text([{"listingInfo": {"symbol": "X", "refPrice": 10}, "bidAsk": {"bidPrices": [{"price": 9}]},
                 "matchPrice": {"matchPrice": 10, "accumulatedVolume": 9, "time": "2024-01-08T07:45:04.150Z"}}]), {}),
        (_text([{"id": 7, "symbol": "X", "truncTime": "1704700000", "matchType": "b", "matchVol": "9",
                 "matchPrice": "10"}]), {}),
        (_text({"data": {"ticker": "X", "viOrganName": "Y", "marketCap": 9.0, "listingDate": "2006-12-13"}}), {}),
        (_text([{"ticker": "X", "yearReport": 2023, "lengthReport": 5, "publicDate": "2024-03-30", "bsa1": 9.0}]),
         {"dataset": "fundamentals"}),
        (_text([{"ticker": "X", "year": 2023, "quarter": 4, "ratioType": "RATIO_TTM", "pe": 12.5}]),
         {"dataset": "fundamentals"}),
    ),
    "tcbs": (
        (_text({"ticker": "X", "data": [{**dict(zip(("open", "high", "low", "close"), _OHLC, strict=True)),
                                         "volume": 9, "tradingDate": f"{day}T00:00:00.000Z"} for day in _DAYS]}), {}),
        (_text({"listDividendPaymentHis": [{"exerciseDate": "26/12/24", "cashDividendPercentage": 0.05,
                                            "issueMethod": "cash", "ticker": "X"}]}), {"dataset": "actions"}),
        (_text({"ticker": "X", "shortName": "Y", "exchange": "HOSE", "industryEn": "Z", "outstandingShare": 2090}), {}),
        (_text([{"ticker": "X", "quarter": 5, "year": 2024, "priceToEarning": 13.6, "capitalBalance": 19094}]),
         {"dataset": "fundamentals"}),
    ),
    "vndirect_finfo": (
        (_text({"data": [{"code": "X", "date": day, "floor": "HOSE", "adClose": 9.9, "nmVolume": 9, "nmValue": 92_250,
                          **dict(zip(("open", "high", "low", "close"), _OHLC, strict=True))} for day in _DAYS],
                "currentPage": 1, "size": 5, "totalElements": 9, "totalPages": 2}), {}),
    ),
    "detective": (
        (_text({"decision": "accepted", "by": "me", "note": None, "proposal_id": "p", "symbol": "US:STOCK:X",
                "kind": "missing", "event_type": "split", "confidence": 0.9, "currency": "USD", "ex_date": _DAYS[0],
                "declared": None, "evidence": {}, "proposed": [{
                    "ex_date": _DAYS[0], "event_type": "split", "cash": 0.0, "split_ratio": 2.0, "bonus_ratio": 0.0,
                    "rights_ratio": 0.0, "rights_price": 0.0}]}), {"url": "decision:p", "dataset": "actions"}),
    ),
}  # fmt: skip


def bodies(parser: str, recordings: Path | None = None) -> list[Payload]:
    """Sound answers for one parser, each with the request that asked for it.

    Args:
        parser: Name in the registry, `files` or `detective`.
        recordings: Folder of recorded answers with its index; theirs are added.
    """
    found = [_payload(parser, body, **{"provider_symbol": "X", **asked}) for body, asked in _BY_HAND.get(parser, ())]
    found += _files() if parser == "files" else _asked(parser) if not found else []
    if recordings is not None:
        from tests import recordings as recorded

        found += [one.payload for one in recorded.recordings(recordings) if one.provider == parser]
    return found


def _payload(provider: str, body: bytes, status: int = 200, **asked: Any) -> Payload:
    nobody = {"dataset": "bars", "market": "us", "symbol": None, "provider_symbol": None, "start": None, "end": None}
    return Payload(Request(provider, **{**nobody, **asked}), status, body, NOW, fetch_id="fuzz")


def _asked(parser: str) -> Iterator[Payload]:
    """A short answer of a provider that needs no network: it is asked."""
    import polars as pl

    provider = registry.create(parser, clock=lambda: NOW)
    offered = provider.capabilities()
    start, end = offered.span or (_START, _END)
    first, last = (start, end) if end < _START else (_START, date(2024, 1, 5))
    (request, *_) = provider.plan(offered.markets[0], "bars", list(offered.universe[:2]), first, last, NOW)
    answer = asyncio.run(provider.fetch(request))
    if answer.body.startswith(b"PAR1"):  # the bundled history is far longer than a fuzzer needs
        shorter = io.BytesIO()
        pl.read_parquet(io.BytesIO(answer.body)).group_by("symbol", maintain_order=True).head(5).write_parquet(shorter)
        answer = replace(answer, body=shorter.getvalue())
    yield answer


def _files() -> list[Payload]:
    """A table as CSV and as parquet, with the mapping that explains it."""
    import polars as pl

    from vprism_pipelines.providers.files import Mapping as FileMapping
    from vprism_pipelines.providers.files import read

    names = {"symbol": "symbol", "session": "date"} | {n: n for n in ("open", "high", "low", "close", "volume")}
    mapping = FileMapping.parse({"provider": "mine", "market": "us", "table": [{"dataset": "bars", "columns": names}]})
    rows = [["AAPL", day, *_OHLC, 1000] for day in _DAYS]
    with tempfile.TemporaryDirectory() as folder:
        text, table = Path(folder) / "bars.csv", Path(folder) / "bars.parquet"
        text.write_bytes(_csv(tuple(names.values()), rows))
        pl.DataFrame(rows, schema=list(names.values()), orient="row").write_parquet(table)
        return [read(text, mapping, NOW), read(table, mapping, NOW)]
