"""What a user of Alpha Vantage can rely on: what is asked, how answers are read, that refusals are never data."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fault_server import FaultServer, fault_server_fixture  # noqa: F401
from tests.provider_kit import (
    FAULTS_BY_CODE,
    NOW,
    check,
    damaged,
    environment,
    failures,
    payload,
    pull,
    report,
    survives,
)
from vprism_pipelines.errors import (
    AuthRequired,
    InvalidInput,
    InvalidRange,
    Malformed,
    NoData,
    NotFound,
    PremiumRequired,
    ProviderError,
    QuotaExhausted,
    RateLimited,
)
from vprism_pipelines.providers.alpha_vantage import AlphaVantageProvider
from vprism_pipelines.providers.base import Parsed, Provider

PROVIDER = AlphaVantageProvider()
KEY = "SECRET0KEY0ALPHA"
ADJUSTED = {
    "1. open": "120.0",
    "2. high": "121.5",
    "3. low": "119.0",
    "4. close": "121.0",
    "5. adjusted close": "17.1",
    "6. volume": "1000",
    "7. dividend amount": "0.5000",
    "8. split coefficient": "7.0",
}
DAILY = {"1. open": "840.0", "2. high": "850.0", "3. low": "830.0", "4. close": "845.0", "5. volume": "900"}
LISTING = (
    "symbol,name,exchange,assetType,ipoDate,delistingDate,status\n"
    "A,Agilent Technologies Inc,NYSE,Stock,1999-11-18,null,Active\n"
    'NA,"Nano Labs, Ltd",NASDAQ,Stock,2022-07-12,null,Active\n'
    "TRUE,TrueCar,NASDAQ,ETF,2014-05-16,2025-01-02,Delisted\n"
)
SPLITS = "effective_date,split_factor\n2021-11-04,1.0460\n1999-05-27,2.0000\n"


def series(rows: dict[str, Any], name: str = "Time Series (Daily)", **meta: str) -> str:
    stated = {"2. Symbol": "IBM", "3. Last Refreshed": "2024-06-12", **meta}
    return json.dumps({"Meta Data": stated, name: rows})


def read(body: str | bytes, **request: Any) -> Parsed:
    return check(PROVIDER.parse(payload("alpha_vantage", body, **{"provider_symbol": "IBM", **request})))


def refusal(said: object, name: str = "Information") -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        PROVIDER.parse(payload("alpha_vantage", json.dumps({name: said})))
    return caught.value


# --- what is asked ---------------------------------------------------------------------------------------------------


def test_it_is_a_provider_with_the_quota_of_a_free_key() -> None:
    assert isinstance(PROVIDER, Provider)
    quota = PROVIDER.capabilities().quota
    assert (quota.per_day, quota.per_minute, quota.burst, quota.concurrency) == (25, 60, 1, 1)
    assert PROVIDER.capabilities().needs_key == "ALPHA_VANTAGE_API_KEY"


def test_recent_sessions_are_asked_for_as_the_compact_tail_and_older_ones_as_everything() -> None:
    recent, old = (
        PROVIDER.plan("us", "bars", ["US:STOCK:BRK.B"], start, date(2026, 11, 20), NOW)[0]
        for start in (date(2026, 9, 1), date(2020, 1, 2))
    )
    assert recent.params == {
        "function": "TIME_SERIES_DAILY",
        "symbol": "BRK-B",
        "outputsize": "compact",
        "datatype": "json",
    }
    assert old.params["outputsize"] == "full"
    assert (recent.symbol, recent.provider_symbol) == ("US:STOCK:BRK.B", "BRK-B")


def test_a_paid_key_asks_for_bars_and_events_at_once() -> None:
    (request,) = AlphaVantageProvider(premium=True).plan(
        "us", "bars", ["US:STOCK:IBM"], date(2020, 1, 2), date(2020, 1, 3), NOW
    )
    assert request.params["function"] == "TIME_SERIES_DAILY_ADJUSTED"


def test_actions_take_two_requests_a_symbol_and_listings_two_in_all() -> None:
    symbols = ["US:STOCK:IBM", "US:STOCK:MSFT", "US:STOCK:IBM"]
    actions = PROVIDER.plan("us", "actions", symbols, date(2020, 1, 2), date(2020, 1, 3), NOW)
    assert [(r.params["symbol"], r.params["function"]) for r in actions] == [
        (symbol, function) for symbol in ("IBM", "MSFT") for function in ("DIVIDENDS", "SPLITS")
    ]
    listings = PROVIDER.plan("us", "instruments", symbols, date(2020, 1, 2), date(2020, 1, 3), NOW)
    assert [(r.symbol, r.params["state"]) for r in listings] == [(None, "active"), (None, "delisted")]


def test_impossible_questions_are_refused_before_they_cost_anything() -> None:
    with pytest.raises(InvalidInput):
        PROVIDER.plan("vn", "bars", ["VN:STOCK:FPT"], date(2024, 1, 2), date(2024, 1, 3), NOW)
    with pytest.raises(InvalidRange):
        PROVIDER.plan("us", "bars", ["US:STOCK:IBM"], date(2024, 1, 3), date(2024, 1, 2), NOW)


def test_without_a_key_nothing_is_sent_and_the_payload_says_so(fault_server: FaultServer) -> None:
    (request,) = PROVIDER.plan("us", "bars", ["US:STOCK:IBM"], date(2026, 11, 2), date(2026, 11, 3), NOW)
    with environment():
        (refused,) = pull(AlphaVantageProvider, fault_server, [request])
    assert (refused.status, refused.error, fault_server.count()) == (0, "AUTH_REQUIRED", 0)
    with pytest.raises(AuthRequired, match="ALPHA_VANTAGE_API_KEY"):
        PROVIDER.parse(refused)


def test_offline_a_fetch_is_refused_with_a_payload() -> None:
    (request,) = PROVIDER.plan("us", "bars", ["US:STOCK:IBM"], date(2026, 11, 2), date(2026, 11, 3), NOW)
    refused = asyncio.run(AlphaVantageProvider(clock=lambda: NOW).fetch(request))
    assert (refused.status, refused.error, refused.fetched_at) == (0, "UNAVAILABLE", NOW)


# --- how answers are read --------------------------------------------------------------------------------------------


def test_adjusted_bars_keep_the_traded_prices_and_give_the_events_of_their_days() -> None:
    parsed = read(series({"2014-06-09": ADJUSTED, "2014-06-06": {**ADJUSTED, **DAILY, "7. dividend amount": "0.0000"}}))
    bar = parsed.frames["bars"].row(0, named=True)
    assert (bar["session"], bar["close"], bar["adj_close"], bar["volume"]) == (date(2014, 6, 9), 121.0, 17.1, 1000.0)
    assert (bar["price_basis"], bar["basis_factor"], bar["currency"]) == ("raw", 1.0, None)
    events = parsed.frames["actions"].select("row", "event_type", "cash", "split_ratio").rows()
    assert {(0, "cash", 0.5, 1.0), (2, "split", 0.0, 7.0)} <= set(events)


def test_fields_are_known_by_their_words_not_by_their_numbers() -> None:
    assert read(series({"2024-06-12": DAILY})).frames["bars"]["volume"].to_list() == [900.0]
    assert read(series({"2024-06-12": ADJUSTED})).frames["bars"]["volume"].to_list() == [1000.0]


def test_the_day_that_was_refreshed_at_a_time_of_day_still_moves() -> None:
    rows = {"2024-06-12": DAILY, "2024-06-11": DAILY}
    running = read(series(rows, **{"3. Last Refreshed": "2024-06-12 14:07:03"}))
    assert running.frames["bars"]["live"].to_list() == [True, False]
    assert not read(series(rows)).frames["bars"]["live"].any()


def test_bars_outside_the_window_are_left_out() -> None:
    rows = {f"2024-06-{day}": DAILY for day in (14, 13, 12, 11)}
    window = {"start": date(2024, 6, 12), "end": date(2024, 6, 13)}
    assert read(series(rows), **window).frames["bars"]["session"].to_list() == [date(2024, 6, 13), date(2024, 6, 12)]
    with pytest.raises(NoData):
        read(series(rows), start=date(2023, 1, 2), end=date(2023, 1, 3))


def test_currencies_are_pairs_quoted_in_the_second_one() -> None:
    named = {"2. From Symbol": "EUR", "3. To Symbol": "AUD", "5. Last Refreshed": "2021-07-27 11:35:00"}
    prices = {"1. open": "1.5", "2. high": "1.6", "3. low": "1.4", "4. close": "1.55"}
    bar = read(series({"2021-07-27": prices}, "Time Series FX (Daily)", **named)).frames["bars"].row(0, named=True)
    assert (bar["raw_symbol"], bar["currency"], bar["volume"]) == ("EUR/AUD", "AUD", None)


def test_old_crypto_fields_give_the_price_in_the_market_s_currency() -> None:
    named = {"2. Digital Currency Code": "BTC", "4. Market Code": "CNY", "6. Last Refreshed": "2018-01-02 00:00:00"}
    prices = {
        f"{n}{letter}. {name} ({code})": price
        for n, name in enumerate(("open", "high", "low", "close"), 1)
        for letter, code, price in (("a", "CNY", "7.0"), ("b", "USD", "1.0"))
    }
    body = series({"2018-01-02": prices}, "Time Series (Digital Currency Daily)", **named)
    bar = read(body).frames["bars"].row(0, named=True)
    assert (bar["raw_symbol"], bar["currency"], bar["close"], bar["live"]) == ("BTC/CNY", "CNY", 7.0, True)


def test_a_quote_is_a_bar_that_still_moves() -> None:
    quote = {
        "01. symbol": "MSFT",
        "02. open": "1",
        "03. high": "3",
        "04. low": "1",
        "05. price": "2",
        "06. volume": "7",
        "07. latest trading day": "2018-10-05",
    }
    bar = read(json.dumps({"Global Quote": quote})).frames["bars"].row(0, named=True)
    assert (bar["raw_symbol"], bar["session"], bar["close"], bar["live"]) == ("MSFT", date(2018, 10, 5), 2.0, True)


def test_listings_keep_tickers_that_look_like_something_else() -> None:
    frame = read(LISTING).frames["instruments"]
    assert frame["raw_symbol"].to_list() == ["A", "NA", "TRUE"]
    assert frame["asset"].to_list() == ["STOCK", "STOCK", "ETF"]
    assert frame["delisted"].to_list() == [None, None, date(2025, 1, 2)]


def test_dividends_and_splits_read_alike_from_csv_and_json() -> None:
    csv = "ex_dividend_date,declaration_date,record_date,payment_date,amount\n2024-05-09,None,None,None,1.67\n"
    entry = {"ex_dividend_date": "2024-05-09", "declaration_date": "None", "amount": "1.67"}
    frames = [
        read(body).frames["actions"].drop("fetch_id") for body in (csv, json.dumps({"symbol": "IBM", "data": [entry]}))
    ]
    assert frames[0].equals(frames[1])
    assert frames[0].select("raw_symbol", "ex_date", "cash").row(0) == ("IBM", date(2024, 5, 9), 1.67)
    ratios = read(SPLITS).frames["actions"].select("row", "ex_date", "split_ratio").rows()
    assert ratios == [(1, date(1999, 5, 27), 2.0), (0, date(2021, 11, 4), 1.046)]


def test_csv_that_names_no_symbol_takes_it_from_the_request_or_is_refused() -> None:
    csv = "timestamp,open,high,low,close,volume\n2024-06-12,1,2,1,2,9\n"
    assert read(csv).frames["bars"]["raw_symbol"].to_list() == ["IBM"]
    with pytest.raises(Malformed, match="symbol"):
        read(csv, provider_symbol=None)


def test_weekly_and_intraday_bars_are_not_taken_for_daily_ones() -> None:
    head = "timestamp,open,high,low,close,volume\n"
    weekly = head + "".join(f"2024-05-{day:02},1,2,1,2,9\n" for day in (31, 24, 17, 10, 3))
    for body, request in (
        (weekly, {}),
        (head + "2024-06-12,1,2,1,2,9\n", {"params": {"function": "TIME_SERIES_WEEKLY", "symbol": "IBM"}}),
        (head + "2024-06-12 19:55:00,1,2,1,2,9\n", {}),
        (series({"2024-06-12 19:55:00": DAILY}, "Time Series (5min)"), {}),
        (series({"2024-06-12": DAILY}, "Weekly Time Series"), {}),
    ):
        with pytest.raises(Malformed):
            read(body, **request)


def test_an_answer_about_another_symbol_is_noted() -> None:
    assert read(series({"2024-06-12": DAILY}), provider_symbol="MSFT").notes == (
        "asked about MSFT, answered about IBM",
    )


# --- refusals, all with HTTP 200 -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Our standard API rate limit is 25 requests per day. Please subscribe to any premium plan", QuotaExhausted),
        (
            "We have detected your API key as ABCDEF0123456789 and our standard API rate limit is 25 requests per day",
            QuotaExhausted,
        ),
        (
            "Our standard API call frequency is 5 calls per minute and 500 calls per day. Please visit /premium/",
            RateLimited,
        ),
        (
            "Please consider spreading out your free API requests more sparingly (1 request per second). You may "
            "lift the free key rate limit (25 requests per day) and instantly unlock all premium endpoints",
            RateLimited,
        ),
        (
            "Thank you! This is a premium endpoint and there are multiple ways to unlock premium endpoints",
            PremiumRequired,
        ),
        (
            "The outputsize=full parameter value is a premium feature for the TIME_SERIES_DAILY endpoint.",
            PremiumRequired,
        ),
        ("The **demo** API key is for demo purposes only. Please claim your free API key", AuthRequired),
        ("the parameter apikey is invalid or missing. Please claim your free API key", AuthRequired),
        ("Invalid API call. Please retry or visit the documentation for TIME_SERIES_DAILY.", NotFound),
        ("something that nobody has heard yet", ProviderError),
    ],
)
def test_every_notice_is_the_right_error(said: str, kind: type[ProviderError]) -> None:
    for name in ("Information", "Note", "Error Message"):
        error = refusal(said, name)
        assert type(error) is kind
        assert error.hint
    assert "ABCDEF0123456789" not in str(refusal(said).to_dict())


def test_rows_beside_a_premium_notice_are_artificial_and_never_read() -> None:
    body = {"message": "This is a premium endpoint. ***THE SAMPLE DATA IS ARTIFICIAL***", "symbol": "IBM",
            "data": [{"ex_dividend_date": "2024-05-09", "amount": "1.67"}]}  # fmt: skip
    with pytest.raises(PremiumRequired):
        read(json.dumps(body))


def test_empty_answers_say_what_is_missing() -> None:
    for body, kind in (
        ("{}", NoData),
        ('{"Global Quote": {}}', NotFound),
        ('{"symbol": "IBM", "data": []}', NoData),
        (SPLITS.splitlines()[0] + "\n", NoData),
        ('{"bestMatches": []}', Malformed),
        ("[]", Malformed),
    ):
        with pytest.raises(kind):
            read(body)


# --- over real sockets -----------------------------------------------------------------------------------------------


def test_the_key_travels_in_the_query_and_is_nowhere_to_be_found_afterwards(
    fault_server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    said = f"We have detected your API key as {KEY} and our standard API rate limit is 25 requests per day"
    fault_server.serve("/query", series({"2026-11-20": DAILY}), query={"symbol": "IBM"})
    fault_server.serve("/query", json.dumps({"Information": said}), query={"symbol": "MSFT"})
    requests = PROVIDER.plan(
        "us", "bars", ["US:STOCK:IBM", "US:STOCK:MSFT"], date(2026, 11, 2), date(2026, 11, 20), NOW
    )
    with environment(ALPHA_VANTAGE_API_KEY=KEY):
        answer, refused = pull(AlphaVantageProvider, fault_server, requests)
    assert [seen.query["apikey"] for seen in fault_server.seen("/query")] == [KEY, KEY]
    assert check(PROVIDER.parse(answer)).rows == 1
    with pytest.raises(QuotaExhausted) as caught:
        PROVIDER.parse(refused)
    told = [answer.request.to_json(), repr(refused), refused.body.decode(), str(caught.value.to_dict()), caplog.text]
    assert not any(KEY in text for text in told)


def test_failures_of_the_network_and_of_http_are_typed(fault_server: FaultServer) -> None:
    (request,) = PROVIDER.plan("us", "bars", ["US:STOCK:IBM"], date(2026, 11, 2), date(2026, 11, 3), NOW)
    with environment(ALPHA_VANTAGE_API_KEY=KEY):
        assert failures(AlphaVantageProvider, fault_server, request) == FAULTS_BY_CODE


# --- companies and currencies ----------------------------------------------------------------------------------------

OVERVIEW = {
    "Symbol": "IBM",
    "AssetType": "Common Stock",
    "Name": "International Business Machines",
    "Currency": "USD",
    "LatestQuarter": "2020-06-30",
    "RevenueTTM": "75499003904",
    "BookValue": "23.076",
    "ProfitMargin": "None",
    "Beta": "1.2071",
}
EARNINGS = {
    "symbol": "IBM",
    "annualEarnings": [
        {"fiscalDateEnding": end, "reportedEPS": eps}
        for end, eps in (("2026-03-31", "1.91"), ("2025-12-31", "11.57"), ("2024-12-31", "10.33"))
    ],
    "quarterlyEarnings": [
        {"fiscalDateEnding": "2026-03-31", "reportedDate": "2026-04-22", "reportedEPS": "1.91", "estimatedEPS": "None"},
        {
            "fiscalDateEnding": "2025-12-31",
            "reportedDate": "2026-01-28",
            "reportedEPS": "4.52",
            "surprisePercentage": "5.3",
        },
    ],
}


def test_the_figures_of_a_company_take_its_earnings_and_its_overview() -> None:
    asked = PROVIDER.plan("us", "fundamentals", ["US:STOCK:IBM"], date(2026, 11, 2), date(2026, 11, 3), NOW)
    assert [(r.params["function"], r.part) for r in asked] == [("EARNINGS", "earnings"), ("OVERVIEW", "overview")]


def test_earnings_are_dated_by_the_day_they_were_reported_on_and_a_running_year_is_none() -> None:
    rows = read(json.dumps(EARNINGS)).frames["fundamentals"]
    figures = rows.with_columns(value=pl.col("value") * pl.col("value_unit"))
    assert figures.select("period_end", "period_kind", "item", "value", "published").rows() == [
        (date(2026, 3, 31), "Q", "reportedEPS", 1.91, date(2026, 4, 22)),
        (date(2025, 12, 31), "Q", "reportedEPS", 4.52, date(2026, 1, 28)),
        (date(2025, 12, 31), "Q", "surprisePercentage", pytest.approx(0.053), date(2026, 1, 28)),
        (date(2025, 12, 31), "Y", "reportedEPS", 11.57, date(2026, 1, 28)),
        (date(2024, 12, 31), "Y", "reportedEPS", 10.33, None),
    ]


def test_an_overview_tells_figures_of_the_quarter_from_those_of_the_day() -> None:
    rows = read(json.dumps(OVERVIEW)).frames["fundamentals"]
    assert rows.select("period_end", "period_kind", "item", "value", "unit", "currency").rows() == [
        (date(2020, 6, 30), "TTM", "RevenueTTM", 75499003904.0, "currency", "USD"),
        (date(2020, 6, 30), "Q", "BookValue", 23.076, "per_share", "USD"),
        (date(2026, 11, 20), "D", "Beta", 1.2071, "ratio", "USD"),
    ]


def test_an_exchange_rate_is_a_quote_of_one_currency_in_another() -> None:
    rate = {
        "1. From_Currency Code": "USD",
        "3. To_Currency Code": "JPY",
        "5. Exchange Rate": "158.73166867",
        "6. Last Refreshed": "2026-05-17 17:12:44",
        "7. Time Zone": "UTC",
        "8. Bid Price": "158.72838292",
        "9. Ask Price": "-",
    }
    name = "Realtime Currency Exchange Rate"
    rows = read(json.dumps({name: rate})).frames["quotes"]
    assert rows.select("raw_symbol", "currency", "instant", "last", "bid", "ask").rows() == [
        ("USD/JPY", "JPY", datetime(2026, 5, 17, 17, 12, 44, tzinfo=UTC), 158.73166867, 158.72838292, None)
    ]
    for broken in ({"7. Time Zone": "US/Eastern"}, {"6. Last Refreshed": "lately"}, {"5. Exchange Rate": "-"}):
        with pytest.raises(Malformed):
            read(json.dumps({name: rate | broken}))


# --- recordings and damage -------------------------------------------------------------------------------------------


@pytest.mark.shared
def test_every_recording_is_sound_rows_or_the_right_error(shared_fixtures: Path) -> None:
    table = report(PROVIDER, shared_fixtures / "alpha_vantage")
    for name, what in table.items():
        if name.startswith(("TIME_SERIES_DAILY", "TIME_SERIES_daily", "FX_DAILY", "DIGITAL_CURRENCY_DAILY")):
            assert what.startswith("bars"), name
        if name.startswith(("DIVIDENDS", "SPLITS")):
            assert what.startswith("actions"), name
        if name.startswith(("OVERVIEW", "LISTING_STATUS")):
            assert what.startswith("instruments"), name
        if name.startswith("error_") or "premium" in name:
            assert what in {"AUTH_REQUIRED", "PREMIUM_REQUIRED", "QUOTA_EXHAUSTED", "RATE_LIMITED", "NOT_FOUND"}, name
        if name.startswith("EARNINGS_"):
            assert what.startswith("fundamentals"), name
        if name.startswith("CURRENCY_EXCHANGE_RATE"):
            assert what.startswith("quotes"), name
    assert Counter(what.startswith(("bars", "actions", "instr")) for what in table.values())[True] > len(table) // 4


BODIES = [
    series({"2014-06-09": ADJUSTED, "2014-06-06": DAILY}).encode(),
    LISTING.encode(),
    SPLITS.encode(),
    b"timestamp,open,high,low,close,volume\n2024-06-12,1,2,1,2,9\n2024-06-11,1,2,1,2,9\n",
    b'{"Information": "rate limit is 25 requests per day"}',
]


@settings(max_examples=250, deadline=None)
@given(body=damaged(BODIES), status=st.sampled_from([200, 200, 200, 403, 500]))
def test_a_damaged_body_is_rows_that_keep_the_contract_or_a_typed_error(body: bytes, status: int) -> None:
    survives(PROVIDER, payload("alpha_vantage", body, status, provider_symbol="IBM"))
