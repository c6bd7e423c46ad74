"""Yahoo beside bars: quotes, profiles, key statistics and accounts, and the crumb that some of them take."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest

from tests.fault_server import FaultServer, Reply, fault_server_fixture  # noqa: F401
from tests.provider_kit import NOW, check, payload, pull
from vprism_pipelines.errors import AuthRequired, Malformed, NoData, NotFound, RateLimited
from vprism_pipelines.market.spec import US
from vprism_pipelines.providers.base import Dataset, Parsed
from vprism_pipelines.providers.yahoo import YahooProvider

YAHOO = YahooProvider()
SYMBOLS = ["US:STOCK:AAPL", "US:STOCK:BRK.B"]
WINDOW = date(2026, 11, 2), date(2026, 11, 20)
AT = datetime(2026, 11, 20, 21, tzinfo=UTC)
PRICE = {
    "symbol": "AAPL",
    "quoteType": "EQUITY",
    "longName": "Apple Inc.",
    "currency": "USD",
    "exchange": "NMS",
    "exchangeDataDelayedBy": 0,
    "regularMarketTime": int(AT.timestamp()),
    "regularMarketPrice": 244.6,
    "regularMarketPreviousClose": 241.53,
    "regularMarketVolume": 40896227,
    "marketCap": 3674405863424,
}
STATISTICS = {"mostRecentQuarter": 1727481600, "trailingEps": 6.31, "sharesOutstanding": 15022100480, "beta": None}


def read(document: dict[str, Any], dataset: Dataset = "bars", **request: Any) -> Parsed:
    named = {"provider_symbol": "AAPL", **request}
    return check(YAHOO.parse(payload("yahoo", json.dumps(document), dataset=dataset, **named)))


def quotes(*found: dict[str, Any]) -> dict[str, Any]:
    return {"quoteResponse": {"result": list(found), "error": None}}


def summary(**modules: Any) -> dict[str, Any]:
    return {"quoteSummary": {"result": [modules], "error": None}}


def reported(name: str, *values: tuple[str, float | None]) -> dict[str, Any]:
    entries = [{"asOfDate": end, "currencyCode": "USD", "reportedValue": {"raw": value}} for end, value in values]
    return {"meta": {"symbol": ["AAPL"], "type": [name]}, name: [*entries, None]}


# --- quotes -----------------------------------------------------------------------------------------------------------


def test_quotes_are_asked_for_a_hundred_at_a_time_and_for_now() -> None:
    (asked,) = YAHOO.plan("us", "quotes", [*SYMBOLS, SYMBOLS[0]], *WINDOW, NOW)
    assert (asked.symbol, asked.params) == (None, {"symbols": "AAPL,BRK-B"})
    assert asked.start == asked.end == US.today(NOW)
    many = [f"US:STOCK:{a}{b}" for a in "ABCDEFGHIJKLM" for b in "ABCDEFGHIJ"]
    assert [len(r.params["symbols"].split(",")) for r in YAHOO.plan("us", "quotes", many, *WINDOW, NOW)] == [100, 30]


def test_a_quote_has_its_instant_its_reference_and_says_whether_it_is_delayed() -> None:
    late = {**PRICE, "symbol": "BRK-B", "exchangeDataDelayedBy": 15, "bid": 0.0, "ask": 470.5}
    rows = read(quotes(PRICE, late)).frames["quotes"]
    assert rows.select("raw_symbol", "instant", "last", "reference", "delayed").rows() == [
        ("AAPL", AT, 244.6, 241.53, False),
        ("BRK-B", AT, 244.6, 241.53, True),
    ]
    assert rows.select("bid", "ask", "volume").rows() == [(None, None, 40896227.0), (0.0, 470.5, 40896227.0)]


def test_pence_are_hundredths_of_the_currency() -> None:
    rows = read(quotes({**PRICE, "currency": "GBp"})).frames["quotes"]
    assert rows.select("currency", "price_unit").row(0) == ("GBP", 0.01)


def test_formatted_numbers_are_the_same_numbers() -> None:
    formatted = {k: {"raw": v, "fmt": "x"} if isinstance(v, int | float) else v for k, v in PRICE.items()}
    plain, other = (read(quotes(quote)).frames["quotes"].drop("fetch_id") for quote in (PRICE, formatted | {"bid": {}}))
    assert plain.equals(other)


def test_symbols_that_yahoo_passes_over_are_named() -> None:
    parsed = read(quotes(PRICE), params={"symbols": "AAPL,NONEXIST"})
    assert parsed.notes == ("Yahoo says nothing of NONEXIST",)
    for nothing in (quotes(), quotes({"symbol": "AAPL"})):
        with pytest.raises(NotFound):
            read(nothing)
    with pytest.raises(Malformed):
        read(quotes({**PRICE, "regularMarketTime": None}))


# --- companies --------------------------------------------------------------------------------------------------------


def test_a_profile_and_a_price_together_describe_an_instrument() -> None:
    rows = read(summary(price=PRICE, assetProfile={"sector": "Technology"}), "instruments")
    assert set(rows.frames) == {"instruments"}
    described = rows.frames["instruments"].select("raw_symbol", "asset", "name", "exchange", "currency", "sector")
    assert described.rows() == [("AAPL", "STOCK", "Apple Inc.", "NMS", "USD", "Technology")]


def test_an_answer_about_figures_describes_nothing_so_that_no_description_flickers() -> None:
    rows = read(summary(price=PRICE, defaultKeyStatistics=STATISTICS), "fundamentals").frames
    assert set(rows) == {"fundamentals"}
    assert rows["fundamentals"].select("period_end", "period_kind", "item", "value", "unit").rows() == [
        (date(2024, 9, 28), "TTM", "trailingEps", 6.31, "per_share"),
        (date(2026, 11, 20), "D", "marketCap", 3674405863424.0, "currency"),
        (date(2026, 11, 20), "D", "sharesOutstanding", 15022100480.0, "shares"),
    ]


def test_a_module_that_nobody_reads_is_no_data() -> None:
    with pytest.raises(NoData):
        read(summary(calendarEvents={"exDividendDate": 1}))
    missing = {
        "quoteSummary": {"result": None, "error": {"code": "Not Found", "description": "No fundamentals data found"}}
    }
    with pytest.raises(NoData):
        YAHOO.parse(payload("yahoo", json.dumps(missing), status=404))


def test_accounts_have_a_period_a_statement_and_a_unit() -> None:
    parsed = read(
        {
            "timeseries": {
                "result": [
                    reported("annualTotalRevenue", ("2023-09-30", 383285e6), ("2024-09-30", 391035e6)),
                    reported("quarterlyDilutedEPS", ("2024-12-31", 2.4)),
                    reported("trailingBasicAverageShares", ("2024-12-31", 15e9), ("2024-09-30", None)),
                    reported("annualPensionandWhatNot", ("2024-09-30", 1.0)),
                ],
                "error": None,
            }
        },
        "fundamentals",
    ).frames["fundamentals"]
    assert parsed.select("row", "period_end", "period_kind", "statement", "item", "value", "unit").rows() == [
        (0, date(2023, 9, 30), "Y", "income", "TotalRevenue", 383285e6, "currency"),
        (1, date(2024, 9, 30), "Y", "income", "TotalRevenue", 391035e6, "currency"),
        (2, date(2024, 12, 31), "Q", "income", "DilutedEPS", 2.4, "per_share"),
        (3, date(2024, 12, 31), "TTM", "income", "BasicAverageShares", 15e9, "shares"),
        (5, date(2024, 9, 30), "Y", "report", "PensionandWhatNot", 1.0, "currency"),
    ]
    with pytest.raises(NoData):
        read({"timeseries": {"result": [reported("annualTotalRevenue")], "error": None}}, "fundamentals")


def test_the_figures_of_a_symbol_take_two_requests_both_part_of_the_answer() -> None:
    asked = YAHOO.plan("us", "fundamentals", SYMBOLS[:1], *WINDOW, NOW)
    assert [request.part for request in asked] == ["accounts", "today"]
    assert {"annualTotalRevenue", "quarterlyNetIncome", "trailingEBITDA"} <= set(asked[0].params["type"].split(","))
    assert asked[0].params["period1"] == "0"


# --- the crumb --------------------------------------------------------------------------------------------------------


def crumbs(server: FaultServer, *bodies: bytes, status: int = 200) -> None:
    server.serve("/", b"nothing here", status=404, headers={"Set-Cookie": "A3=cookie; Path=/"})
    for body in bodies[:-1]:
        server.serve("/v1/test/getcrumb", body, status=status, times=1, headers={"Content-Type": "text/plain"})
    server.serve("/v1/test/getcrumb", bodies[-1], status=status, headers={"Content-Type": "text/plain"})


def test_a_quote_is_asked_for_with_a_crumb_that_never_reaches_the_archive(fault_server: FaultServer) -> None:
    crumbs(fault_server, b"Ab1/c.DeF2g")
    fault_server.serve("/v7/finance/quote", json.dumps(quotes(PRICE)).encode(), query={"crumb": "Ab1/c.DeF2g"})
    (asked,) = YAHOO.plan("us", "quotes", SYMBOLS[:1], *WINDOW, NOW)
    answers = pull(YahooProvider, fault_server, [asked, asked])
    assert [answer.status for answer in answers] == [200, 200]
    assert check(YAHOO.parse(answers[0])).rows == 1
    assert fault_server.count("/v1/test/getcrumb") == 1
    assert "Ab1/c" not in answers[0].request.to_json()


def test_a_refused_crumb_is_renewed_once(fault_server: FaultServer) -> None:
    crumbs(fault_server, b"old.crumb.1", b"new.crumb.2")
    refused = {"finance": {"result": None, "error": {"code": "Unauthorized", "description": "Invalid Crumb"}}}
    fault_server.serve("/v7/finance/quote", json.dumps(refused).encode(), status=401)
    (asked,) = YAHOO.plan("us", "quotes", SYMBOLS[:1], *WINDOW, NOW)
    (answer,) = pull(YahooProvider, fault_server, [asked])
    with pytest.raises(AuthRequired):
        YAHOO.parse(answer)
    assert fault_server.count("/v7/finance/quote") == fault_server.count("/v1/test/getcrumb") == 2


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"Too Many Requests\r\n", 200, RateLimited),
        (b"Too Many Requests\r\n", 429, RateLimited),
        (b"<html>consent</html>", 200, AuthRequired),
        (b"", 200, AuthRequired),
    ],
)
def test_what_is_no_crumb_is_never_used_as_one(
    fault_server: FaultServer, body: bytes, status: int, error: type[Exception]
) -> None:
    crumbs(fault_server, body, status=status)
    fault_server.serve("/v7/finance/quote", lambda seen: Reply(b"{}"))
    (asked,) = YAHOO.plan("us", "quotes", SYMBOLS[:1], *WINDOW, NOW)
    (answer,) = pull(YahooProvider, fault_server, [asked])
    assert answer.request == asked
    assert fault_server.count("/v7/finance/quote") == 0
    with pytest.raises(error):
        YAHOO.parse(answer)
