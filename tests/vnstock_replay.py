"""A small exchange on a real local socket that speaks KBS's and VCI's formats, for the vnstock process to talk to.

    with ReplayServer() as server:
        child = VnstockChild(base_urls={"kbs": server.url, "vci": server.url})
        server.faults["AAA"] = Fault(500, b"oops")
        …
        server.requests   # what was asked, in order

Prices are invented: a wave around 20,000 VND on every weekday, the same for every symbol. VCI says them with
decimals, KBS in whole VND without a value before 2024-02-01, as both do before a symbol's last ex-date.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import threading
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from vprism_pipelines.providers.base import Dataset, Payload, Provider, Request

FIRST, LAST = date(2015, 1, 5), date(2024, 6, 28)
VALUE_SINCE = date(2024, 2, 1)
INDICES = {"VNINDEX", "HNXIndex", "HNXINDEX", "HNXUpcomIndex", "VN30"}
UNKNOWN = "ZZZ"
NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
WEEK = date(2024, 6, 3), date(2024, 6, 7)


def request(
    provider: Provider,
    symbol: str | None = "VN:STOCK:FPT",
    dataset: Dataset = "bars",
    window: tuple[date, date] = WEEK,
) -> Request:
    """The one request a provider plans for a symbol and a short window."""
    start, end = window
    (planned,) = provider.plan("vn", dataset, [symbol] if symbol else [], start, end, NOW)
    return planned


def fetch(provider: Provider, asked: Request) -> Payload:
    return asyncio.run(provider.fetch(asked))


@dataclass(frozen=True)
class Fault:
    """An answer instead of data."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/html"})


@dataclass(frozen=True)
class Bar:
    """An invented session. Prices in VND with two decimals, or points."""

    session: date
    open: float
    high: float
    low: float
    close: float
    volume: int


def bars(symbol: str, start: date, end: date) -> list[Bar]:
    """The sessions of a symbol from `start` to `end`, oldest first."""
    if symbol == UNKNOWN:
        return []
    level = 1200.0 if symbol in INDICES else 20_000.0
    days = (start + timedelta(days=n) for n in range((end - start).days + 1))
    return [
        Bar(
            day,
            open=round(level * (1 + wave), 2),
            high=round(level * (1 + wave + 0.01), 2),
            low=round(level * (1 + wave - 0.01), 2),
            close=round(level * (1 + wave + 0.004), 2),
            volume=1_000_000 + 100 * (day.toordinal() % 997),
        )
        for day in days
        if FIRST <= day <= LAST and day.weekday() < 5
        for wave in [math.sin(day.toordinal() / 50) / 10]
    ]


def event(code: str, title: str, ex_date: str | None, ratio: float | None, value: float | None) -> dict[str, Any]:
    """An entry of VCI's event list."""
    return {
        "id": f"{code}-{ex_date}-{ratio}",
        "ticker": "FPT",
        "eventCode": code,
        "eventTitleVi": title,
        "eventTitleEn": None,
        "category": "DIVIDEND",
        "publicDate": "2024-01-02T00:00:00",
        "displayDate1": "2024-01-02T00:00:00",
        "recordDate": ex_date,
        "exrightDate": ex_date,
        "payoutDate": None,
        "exerciseRatio": ratio,
        "valuePerShare": value,
    }


EVENTS = [
    event("DIV", "Trả cổ tức đợt 2/2023 bằng tiền, 1000 VND/CP", "2024-06-12T00:00:00", 0.1, 1000.0),
    event("ISS", "Phát hành cổ phiếu - Trả Cổ tức bằng Cổ phiếu tỉ lệ 15.0%", "2024-06-12T00:00:00", 0.15, None),
    event("ISS", "Phát hành cổ phiếu - Cổ phiếu thưởng tỉ lệ 7.2%", "2023-05-10T00:00:00", 0.0715, None),
    event("ISS", "Phát hành cổ phiếu - Quyền mua CP cho Cổ đông hiện hữu tỉ lệ 10.0%", "2022-08-11", 0.1, None),
    event("ISS", "Phát hành cổ phiếu - Phát hành cho CBCNV tỉ lệ 0.3%", "2022-03-01", 0.0033, None),
    event("ISS", "Phát hành cổ phiếu - Cổ phiếu thưởng tỉ lệ 20.0%", None, 0.2, None),
    event("DDINS", "Ông A đăng ký mua 10.000 CP", None, None, None),
]


class ReplayServer:
    """The server; a context manager. `faults` by symbol, `listing_fault` for both listings."""

    def __init__(self) -> None:
        self.faults: dict[str, Fault] = {}
        self.listing_fault: Fault | None = None
        self.requests: list[str] = []
        replay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(b"")

            def do_POST(self) -> None:
                self._answer(self.rfile.read(int(self.headers["Content-Length"])))

            def _answer(self, body: bytes) -> None:
                replay.requests.append(f"{self.command} {self.path}")
                fault = replay.route(self.path, body)
                self.send_response(fault.status)
                for name, value in {**fault.headers, "Content-Length": str(len(fault.body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(fault.body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        # By name, so that the process has to resolve it like a real host.
        self.url = f"http://localhost:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def route(self, target: str, body: bytes) -> Fault:
        """The answer to one request."""
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        content: Any
        if chart := re.fullmatch(r"/iis-server/investment/(?:stocks|index)/(\w+)/data_day", url.path):
            symbol = chart[1]
            content = {"symbol": symbol, "data_day": _kbs(symbol, query["sdate"], query["edate"])}
        elif url.path == "/api/chart/OHLCChart/gap-chart":
            asked = json.loads(body)
            symbol = asked["symbols"][0]
            content = _vci(symbol, asked["to"], asked["countBack"])
        elif url.path == "/api/iq-insight-service/v1/events":
            symbol, codes = query["ticker"], query["eventCode"].split(",")
            content = {"status": 200, "data": {"content": [e for e in EVENTS if e["eventCode"] in codes]}}
        elif url.path == "/iis-server/investment/stock/search/data":
            symbol, content = "", KBS_LISTING
        elif url.path == "/api/price/symbols/getAll":
            symbol, content = "", VCI_LISTING
        elif url.path in BESIDE:
            symbol, content = "", BESIDE[url.path]
        elif report := re.fullmatch(r"/api/iq-insight-service/v1/company/(\w+)/financial-statement", url.path):
            symbol, content = report[1], {"data": STATEMENTS[query["section"]]}
        elif ratios := re.fullmatch(r"/api/iq-insight-service/v1/company/(\w+)/statistics-financial", url.path):
            symbol, content = ratios[1], {"data": RATIOS}
        elif re.fullmatch(r"/api/iq-insight-service/v1/company/\w+/financial-statement/metrics", url.path):
            symbol, content = "", METRICS
        elif trades := re.fullmatch(r"/iis-server/investment/trade/history/(\w+)", url.path):
            symbol, content = trades[1], {"data": KBS_TRADES}
        else:
            return Fault(404, b"no such path")
        fault = self.faults.get(symbol) if symbol else self.listing_fault
        return fault or Fault(200, json.dumps(content).encode(), {"Content-Type": "application/json"})


def _kbs(symbol: str, start: str, end: str) -> list[dict[str, Any]]:
    first, last = (datetime.strptime(day, "%d-%m-%Y").date() for day in (start, end))
    rows = []
    for bar in reversed(bars(symbol, first, last)):
        scale = (lambda x: str(x)) if symbol in INDICES else round
        row: dict[str, Any] = {
            "t": f"{bar.session} 07:00",
            "o": scale(bar.open),
            "h": scale(bar.high),
            "l": scale(bar.low),
            "c": scale(bar.close),
            "v": bar.volume,
        }
        if bar.session >= VALUE_SINCE:
            row["va"] = round(bar.close) * bar.volume
        rows.append(row)
    return rows


def _vci(symbol: str, to: int, count: int) -> list[dict[str, Any]]:
    last = datetime.fromtimestamp(to, UTC).date()
    found = bars(symbol, FIRST, last)[-count:]
    return [
        {
            "symbol": symbol,
            "o": [bar.open for bar in found],
            "h": [bar.high for bar in found],
            "l": [bar.low for bar in found],
            "c": [bar.close for bar in found],
            "v": [bar.volume for bar in found],
            "t": [str(int(datetime(*bar.session.timetuple()[:3], tzinfo=UTC).timestamp())) for bar in found],
            "accumulatedVolume": [bar.volume for bar in found],
            "accumulatedValue": [round(bar.close * bar.volume / 1e6, 3) for bar in found],
        }
    ]


KBS_LISTING = [
    {"symbol": code, "name": f"CTCP {code}", "nameEn": f"{code} JSC", "exchange": where, "type": kind, "index": 1}
    for code, where, kind in [
        ("FPT", "HOSE", "stock"),
        ("SHS", "HNX", "stock"),
        ("E1VFVN30", "HOSE", "fund"),
        ("CFPT2305", "HOSE", "cw"),
    ]
]
VCI_LISTING = [
    {
        "id": number,
        "symbol": code,
        "type": kind,
        "board": board,
        "organName": f"Công ty {code}",
        "enOrganName": f"{code} Corp",
        "organShortName": code,
        "enOrganShortName": code,
        "productGrpID": "STO",
    }
    for number, (code, board, kind) in enumerate(
        [("FPT", "HSX", "STOCK"), ("E1VFVN30", "HSX", "ETF"), ("BBT", "DELISTED", "STOCK"), ("XYZ", "HNX", "NEWKIND")]
    )
]

# --- beside bars ----------------------------------------------------------------------------------------------------

KBS_TRADES = [
    {"t": f"2024-06-28 {at}", "TD": "30/06/2024", "SB": "FPT", "LC": side, "FMP": price, "FV": volume, "AVO": sofar}
    for at, side, price, volume, sofar in [
        ("14:45:04:15", None, 131_000, 9_000, 13_300),
        ("10:00:01:02", "S", 130_900, 300, 4_300),
        ("09:15:03:99", "", 131_200, 4_000, 4_000),
    ]
]
KBS_BOARD = [
    {"SB": "FPT", "t": 1_719_561_600_000, "EX": "HOSE", "RE": 130_000, "CP": 131_000, "TT": 13_300, "TV": 1_742_300_000,
     "B1": "130900.0", "S1": "ATC"},
    {"SB": "SHS", "t": 1_719_561_600_000, "EX": "HNX", "RE": 17_000, "CP": 0, "TT": 0, "TV": 0, "B1": "", "S1": ""},
]  # fmt: skip
VCI_BOARD = [
    {
        "listingInfo": {"code": "FPT", "symbol": "FPT", "refPrice": 130_000, "board": "HSX"},
        "bidAsk": {"bidPrices": [{"price": 130_900, "volume": 100}], "askPrices": []},
        "matchPrice": {"symbol": "FPT", "matchPrice": 131_000, "accumulatedVolume": 13_300, "accumulatedValue": 1742.3,
                       "time": "2024-06-28T07:45:04.150Z", "receivedTime": 1_719_561_600_000},
    }
]  # fmt: skip
STATEMENTS = {
    section: {
        "years": [
            {"ticker": "FPT", "yearReport": year, "lengthReport": 5, "publicDate": f"{year + 1}-03-30T00:00:00",
             code: year * 1e9}
            for year in range(2023, 2013, -1)
        ],
        "quarters": [
            {"ticker": "FPT", "yearReport": 2024 - n // 4, "lengthReport": 4 - n % 4, "publicDate": None, code: n * 1e9}
            for n in range(3, 13)
        ],
    }
    for section, code in {"BALANCE_SHEET": "bsa1", "INCOME_STATEMENT": "isa1", "CASH_FLOW": "cfa1"}.items()
}  # fmt: skip
METRICS = {
    "data": {
        section: [{"field": code, "parent": None, "titleEn": code, "titleVi": code, "fullTitleVi": code,
                   "fullTitleEn": code}]
        for section, code in {"BALANCE_SHEET": "bsa1", "INCOME_STATEMENT": "isa1", "CASH_FLOW": "cfa1"}.items()
    }
}  # fmt: skip
RATIOS = [
    {"ticker": "FPT", "year": 2024, "quarter": quarter, "ratioType": "RATIO_TTM", "ratioTTMId": 1, "pe": 12.5 + quarter,
     "marketCap": 9e13, "numberOfSharesMktCap": 1.46e9}
    for quarter in (2, 1)
]  # fmt: skip
BESIDE: dict[str, Any] = {
    "/priceboard": {},
    "/api/price/symbols/getList": VCI_BOARD,
    "/iis-server/investment/stock/iss": KBS_BOARD,
    "/api/iq-insight-service/v2/company/search-bar": {
        "data": [
            {"code": "FPT", "name": "FPT", "comTypeCode": "CT", "icbLv1": {"code": "9000", "name": "Technology"},
             "icbLv2": {"code": "9500", "name": "Software & Services"}}
        ]
    },
    "/api/iq-insight-service/v1/company/details": {
        "data": {"ticker": "FPT", "viOrganName": "Công ty FPT", "sector": "Technology", "marketCap": 1.9e14,
                 "listingDate": "2006-12-13T00:00:00", "numberOfSharesMktCap": 1.46e9, "freeFloatPercentage": 0.85}
    },
}  # fmt: skip
