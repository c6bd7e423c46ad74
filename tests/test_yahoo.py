"""What a user of the Yahoo provider can rely on: what is asked, how answers are read, what each failure is called."""

from __future__ import annotations

import asyncio
import copy
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.fault_server import FAULTS, FaultServer, Reply, fault_server_fixture  # noqa: F401
from tests.provider_kit import RAW_TABLES
from vprism_pipelines.errors import (
    AuthRequired,
    Blocked,
    InvalidInput,
    InvalidRange,
    Malformed,
    NoData,
    NotFound,
    ProviderError,
    RateLimited,
    Unavailable,
)
from vprism_pipelines.providers.base import Parsed, Payload, Provider, Request
from vprism_pipelines.providers.transport import Transport
from vprism_pipelines.providers.yahoo import YahooProvider
from vprism_pipelines.providers.yahoo.terms import currency_unit, float32_decimal
from vprism_pipelines.quality.contracts import violations
from vprism_pipelines.settings import Settings

NOW = datetime(2026, 11, 20, 22, tzinfo=UTC)
NEW_YORK = ZoneInfo("America/New_York")
YAHOO = YahooProvider()


# --- answers made by hand --------------------------------------------------------------------------------------------


def stamp(day: date, at: time = time(9, 30), zone: str = "America/New_York") -> int:
    return int(datetime.combine(day, at, ZoneInfo(zone)).timestamp())


def widened(number: float) -> float:
    return float(np.float32(number))


def weekdays(first: date, count: int) -> list[date]:
    days = (first + timedelta(days=n) for n in range(2 * count + 5))
    return [day for day in days if day.weekday() < 5][:count]


def chart(
    stamps: list[int],
    *,
    close: list[float | None] | None = None,
    volume: list[float | None] | None = None,
    meta: Mapping[str, Any] | None = None,
    events: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A chart as Yahoo sends it, every price 1 % around the close."""
    closes = [100.0] * len(stamps) if close is None else close
    result: dict[str, Any] = {
        "meta": {
            "currency": "USD",
            "symbol": "AAPL",
            "exchangeName": "NMS",
            "instrumentType": "EQUITY",
            "firstTradeDate": 345479400,
            "regularMarketTime": int(NOW.timestamp()) - 3600,
            "exchangeTimezoneName": "America/New_York",
            "gmtoffset": -18000,
            "dataGranularity": "1d",
            **(meta or {}),
        },
        "timestamp": stamps,
        "indicators": {
            "quote": [
                {
                    "open": closes,
                    "high": [None if c is None else c * 1.01 for c in closes],
                    "low": [None if c is None else c * 0.99 for c in closes],
                    "close": closes,
                    "volume": [1000] * len(stamps) if volume is None else volume,
                }
            ],
            "adjclose": [{"adjclose": closes}],
        },
    }
    if events is not None:
        result["events"] = events
    return {"chart": {"result": [result], "error": None}}


def split(day: date, new: float, old: float = 1) -> dict[str, Any]:
    return {str(stamp(day)): {"date": stamp(day), "numerator": new, "denominator": old, "splitRatio": f"{new}:{old}"}}


def dividend(day: date, amount: float, **more: Any) -> dict[str, Any]:
    return {str(stamp(day)): {"date": stamp(day), "amount": amount, **more}}


def payload(
    body: object,
    status: int = 200,
    *,
    start: date | None = None,
    end: date | None = None,
    params: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    symbol: str | None = "AAPL",
) -> Payload:
    canonical = f"US:STOCK:{symbol}" if symbol else None
    request = Request("yahoo", "bars", "us", canonical, symbol, start, end, params=params or {})
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Payload(request, status, raw, NOW, headers or {})


def bars_of(answer: Payload) -> pl.DataFrame:
    return YAHOO.parse(answer).frames["bars"]


# --- what is asked ---------------------------------------------------------------------------------------------------


def test_it_is_a_provider_that_states_what_it_offers() -> None:
    offered = YAHOO.capabilities()
    assert isinstance(YAHOO, Provider)
    assert offered.name == YAHOO.name == "yahoo"
    assert set(offered.datasets) == {"bars", "actions", "instruments", "fundamentals", "quotes"}
    assert offered.price_basis == "split_adjusted"
    assert (offered.quota.per_minute, offered.quota.burst, offered.quota.concurrency) == (60, 5, 2)


def test_a_plan_is_one_request_per_symbol_from_the_first_session_to_now() -> None:
    symbols = ["US:STOCK:AAPL", "US:STOCK:BRK.B", "US:INDEX:SPX", "US:STOCK:AAPL"]
    requests = YAHOO.plan("us", "bars", symbols, date(2020, 8, 24), date(2020, 8, 28), NOW)
    assert [request.symbol for request in requests] == symbols[:3]
    assert [request.provider_symbol for request in requests] == ["AAPL", "BRK-B", "^GSPC"]
    assert requests[2].url.endswith("/v8/finance/chart/%5EGSPC")
    for request in requests:
        assert (request.start, request.end) == (date(2020, 8, 24), date(2020, 8, 28))
        assert int(request.params["period1"]) == stamp(date(2020, 8, 24), time(0))
        assert int(request.params["period2"]) == int(NOW.timestamp())
        assert request.params["interval"] == "1d"
        assert Request.from_json(request.to_json()) == request


def test_period1_is_midnight_where_the_exchange_is() -> None:
    (request,) = YAHOO.plan("hk", "bars", ["HK:STOCK:00700"], date(2024, 1, 2), date(2024, 1, 2), NOW)
    assert request.provider_symbol == "0700.HK"
    assert datetime.fromtimestamp(int(request.params["period1"]), UTC) == datetime(2024, 1, 1, 16, tzinfo=UTC)


def test_ranges_without_any_session_are_refused() -> None:
    for start, end in ((date(2024, 1, 3), date(2024, 1, 2)), (date(2026, 11, 21), date(2026, 11, 30))):
        with pytest.raises(InvalidRange):
            YAHOO.plan("us", "bars", ["US:STOCK:AAPL"], start, end, NOW)
    today_or_later = YAHOO.plan("us", "bars", ["US:STOCK:AAPL"], date(2026, 11, 20), date(2027, 1, 1), NOW)
    assert today_or_later[0].end == date(2027, 1, 1)


def test_markets_and_datasets_that_are_not_offered_are_refused() -> None:
    with pytest.raises(InvalidInput):
        YAHOO.plan("vn", "bars", ["VN:STOCK:FPT"], date(2024, 1, 2), date(2024, 1, 3), NOW)
    with pytest.raises(InvalidInput):
        YAHOO.plan("us", "ticks", ["US:STOCK:AAPL"], date(2024, 1, 2), date(2024, 1, 3), NOW)


def test_offline_a_fetch_is_refused_with_a_payload() -> None:
    (request,) = YAHOO.plan("us", "bars", ["US:STOCK:AAPL"], date(2024, 1, 2), date(2024, 1, 3), NOW)
    refused = asyncio.run(YahooProvider(None, clock=lambda: NOW).fetch(request))
    assert (refused.status, refused.error, refused.fetched_at) == (0, "UNAVAILABLE", NOW)
    with pytest.raises(Unavailable):
        YAHOO.parse(refused)


# --- sessions --------------------------------------------------------------------------------------------------------

OPENINGS = (
    ("America/New_York", time(9, 30)),
    ("America/New_York", time(0, 0)),  # futures
    ("Europe/Berlin", time(9, 0)),
    ("Europe/London", time(0, 0)),  # currencies
    ("Australia/Sydney", time(10, 0)),  # the evening before in UTC
    ("Asia/Hong_Kong", time(9, 30)),
    ("Asia/Shanghai", time(9, 30)),
    ("Asia/Ho_Chi_Minh", time(9, 0)),
    ("UTC", time(0, 0)),  # crypto
)


@given(
    opening=st.sampled_from(OPENINGS),
    first=st.dates(date(1962, 1, 2), date(2026, 10, 1)),
    count=st.integers(1, 8),
)
def test_a_session_is_the_date_at_the_exchange(opening: tuple[str, time], first: date, count: int) -> None:
    zone, at = opening
    days = weekdays(first, count)
    frame = bars_of(payload(chart([stamp(day, at, zone) for day in days], meta={"exchangeTimezoneName": zone})))
    assert frame["session"].to_list() == days
    assert not frame["live"].any()


@pytest.mark.parametrize("at", [time(22), time(23)])
def test_a_midnight_that_a_clock_change_moved_to_the_evening_before_is_still_the_next_day(at: time) -> None:
    frame = bars_of(payload(chart([stamp(date(2024, 3, 28), at)])))
    assert frame["session"].to_list() == [date(2024, 3, 29)]


def test_only_the_window_asked_for_is_returned() -> None:
    days = weekdays(date(2024, 1, 1), 10)
    frame = bars_of(payload(chart([stamp(day) for day in days]), start=days[2], end=days[4]))
    assert frame["session"].to_list() == days[2:5]
    assert frame["row"].to_list() == [2, 3, 4], "a row is traced to its place in the payload"
    with pytest.raises(NoData):
        bars_of(payload(chart([stamp(day) for day in days]), start=date(2024, 1, 6), end=date(2024, 1, 7)))


def test_the_last_bar_is_live_when_it_carries_the_time_of_the_last_trade() -> None:
    days = weekdays(date(2026, 11, 16), 3)
    trade = stamp(days[-1], time(16, 0, 1))
    stamps = [*map(stamp, days[:-1]), trade]
    frame = bars_of(payload(chart(stamps, meta={"regularMarketTime": trade})))
    assert frame["session"].to_list() == days
    assert frame["live"].to_list() == [False, False, True]


def test_a_session_that_is_there_twice_keeps_the_live_bar() -> None:
    days = weekdays(date(2026, 11, 16), 3)
    trade = stamp(days[-1], time(11, 5, 17))
    answer = chart(
        [*map(stamp, days), trade],
        volume=[10, 20, 30, 35],
        close=[1.0, 2.0, 3.0, 3.5],
        meta={"regularMarketTime": trade},
    )
    frame = bars_of(payload(answer))
    assert frame["session"].to_list() == days
    assert frame["volume"].to_list() == [10, 20, 35]
    assert frame["live"].to_list() == [False, False, True]
    assert frame["row"].to_list() == [0, 1, 3]


@pytest.mark.parametrize(("minute", "live"), [(-1, False), (30, True), (391, False)])
def test_a_bar_stamped_at_the_opening_is_live_while_its_session_runs(minute: int, live: bool) -> None:
    days = weekdays(date(2026, 11, 16), 3)
    opened, closed = stamp(days[-1]), stamp(days[-1], time(16))
    answer = chart(
        list(map(stamp, days)),
        meta={
            "regularMarketTime": opened + 60 * minute,
            "currentTradingPeriod": {"regular": {"start": opened, "end": closed}},
        },
    )
    assert bars_of(payload(answer))["live"].to_list() == [False, False, live]


def test_yesterdays_bar_is_not_live_before_the_market_opens() -> None:
    days = weekdays(date(2026, 11, 16), 4)
    answer = chart(
        list(map(stamp, days[:-1])),
        meta={
            "regularMarketTime": stamp(days[-2], time(16, 0, 1)),
            "currentTradingPeriod": {"regular": {"start": stamp(days[-1]), "end": stamp(days[-1], time(16))}},
        },
    )
    assert not bars_of(payload(answer))["live"].any()


def test_a_last_trade_at_eleven_in_the_evening_sharp_belongs_to_its_own_day() -> None:
    trade = stamp(date(2024, 5, 7), time(23), "UTC")
    stamps = [stamp(date(2024, 5, 6), time(0), "UTC"), trade]
    frame = bars_of(payload(chart(stamps, meta={"exchangeTimezoneName": "UTC", "regularMarketTime": trade})))
    assert frame["session"].to_list() == [date(2024, 5, 6), date(2024, 5, 7)]
    assert frame["live"].to_list() == [False, True]


# --- prices ----------------------------------------------------------------------------------------------------------


def read_number(number: float) -> float:
    value: float = pl.select(float32_decimal(pl.lit(number))).item()
    return value


@given(st.integers(1, 999_999), st.integers(0, 4))
def test_a_widened_price_is_read_as_the_price_that_was_traded(digits: int, decimals: int) -> None:
    price = float(f"{digits}e-{decimals}")
    assert read_number(widened(price)) == price


@given(st.floats(2.0**-14, 2.0**20, width=32))
def test_reading_a_widened_number_loses_nothing(number: float) -> None:
    assert np.float32(read_number(number)) == np.float32(number)


@pytest.mark.parametrize("number", [39142.23, 0.205, 1234567.89, 123456789.0, 0.1])
def test_numbers_that_were_never_a_float32_are_left_alone(number: float) -> None:
    assert read_number(number) == number


def test_prices_come_as_decimals_and_volume_as_it_is() -> None:
    price = 129.0399932861328
    frame = bars_of(payload(chart([stamp(date(2024, 1, 2))], close=[price], volume=[225702700])))
    assert frame.select("open", "close", "adj_close", "volume").row(0) == (129.04, 129.04, 129.04, 225702700.0)


@pytest.mark.parametrize(
    ("stated", "currency", "unit"),
    [("USD", "USD", 1.0), ("GBp", "GBP", 0.01), ("ZAc", "ZAR", 0.01), ("ILA", "ILS", 0.01), (None, None, 1.0)],
)
def test_minor_currencies_become_a_unit_of_the_major_one(stated: str | None, currency: str | None, unit: float) -> None:
    assert currency_unit(stated) == (currency, unit)
    frame = bars_of(payload(chart([stamp(date(2024, 1, 2))], meta={"currency": stated})))
    assert frame.select("currency", "price_unit").row(0) == (currency, unit)


def test_a_stamp_without_any_number_is_no_bar_and_is_named_in_the_notes() -> None:
    days = weekdays(date(2024, 1, 1), 4)
    closes: list[float | None] = [10.0, None, 12.0, None]
    volumes: list[float | None] = [100, None, 100, 100]
    parsed = YAHOO.parse(payload(chart(list(map(stamp, days)), close=closes, volume=volumes)))
    frame = parsed.frames["bars"]
    assert frame["session"].to_list() == [days[0], days[2], days[3]]
    assert frame["close"].to_list() == [10.0, 12.0, None], "nulls beside a volume are data, for the row checks"
    assert any(str(days[1]) in note for note in parsed.notes)
    with pytest.raises(NoData):
        YAHOO.parse(payload(chart([stamp(days[0])], close=[None], volume=[None])))


def test_closes_alone_are_bars_whose_other_prices_are_null() -> None:
    answer = chart([stamp(date(2024, 1, 2))])
    answer["chart"]["result"][0]["indicators"] = {"quote": [{"close": [188.55]}]}
    frame = bars_of(payload(answer))
    assert frame.select("open", "high", "low", "close", "volume", "adj_close").row(0) == (
        *[None] * 3,
        188.55,
        None,
        None,
    )


# --- splits and dividends --------------------------------------------------------------------------------------------


@given(
    data=st.data(),
    closes=st.lists(st.integers(100, 90_000), min_size=2, max_size=30),
    first=st.dates(date(1990, 1, 2), date(2020, 1, 2)),
)
def test_traded_prices_volumes_and_dividends_come_back_through_any_splits(
    data: st.DataObject, closes: list[int], first: date
) -> None:
    days = weekdays(first, len(closes))
    ratio = st.sampled_from([(2, 1), (3, 2), (7, 1), (1, 10), (20, 1)])
    splits = data.draw(st.dictionaries(st.sampled_from(days), ratio, max_size=4), label="splits")
    paid = data.draw(st.dictionaries(st.sampled_from(days), st.integers(1, 500), max_size=4), label="dividends")

    def later(day: date, *, same_day: bool) -> float:
        after = [new / old for when, (new, old) in splits.items() if when > day or (same_day and when == day)]
        return float(np.prod(after)) if after else 1.0

    answer = chart(
        list(map(stamp, days)),
        close=[widened(cents / 100 / later(day, same_day=False)) for day, cents in zip(days, closes, strict=True)],
        volume=[round(5_000_000 * later(day, same_day=False)) for day in days],
        events={
            "splits": {key: entry for day, terms in splits.items() for key, entry in split(day, *terms).items()},
            "dividends": {
                key: entry
                for day, cents in paid.items()
                for key, entry in dividend(day, cents / 100 / later(day, same_day=True)).items()
            },
        },
    )
    frames = YAHOO.parse(payload(answer)).frames
    bars = frames["bars"].select(
        close=pl.col("close") * pl.col("basis_factor"), volume=pl.col("volume") / pl.col("basis_factor")
    )
    assert bars["close"].to_list() == pytest.approx([cents / 100 for cents in closes], rel=1e-6)
    assert bars["volume"].to_list() == pytest.approx([5_000_000] * len(days), rel=1e-6)
    if not splits and not paid:
        assert "actions" not in frames
        return
    actions = frames["actions"]
    assert actions["ex_date"].is_sorted()
    cash = actions.filter(event_type="cash").select("ex_date", raw=pl.col("cash") * pl.col("basis_factor"))
    assert dict(cash.iter_rows()) == pytest.approx({day: cents / 100 for day, cents in paid.items()}, rel=1e-6)
    declared = actions.filter(event_type="split").select("ex_date", "split_ratio")
    assert dict(declared.iter_rows()) == pytest.approx({day: new / old for day, (new, old) in splits.items()})


def test_a_split_after_the_window_still_undoes_the_prices_in_it() -> None:
    days = weekdays(date(2020, 8, 24), 6)
    answer = chart(
        list(map(stamp, days)), close=[widened(124.8075)] * 5 + [widened(129.04)], events={"splits": split(days[5], 4)}
    )
    frame = bars_of(payload(answer, start=days[0], end=days[4]))
    assert frame["session"].to_list() == days[:5]
    assert frame["basis_factor"].to_list() == [4.0] * 5
    assert frame["close"][4] * frame["basis_factor"][4] == pytest.approx(499.23, abs=1e-9)


def test_without_the_years_up_to_now_nobody_knows_the_traded_price() -> None:
    day = date(2021, 2, 1)
    ended = {"period1": str(stamp(day)), "period2": str(stamp(day) + 86400)}
    parsed = YAHOO.parse(payload(chart([stamp(day)], events={"dividends": dividend(day, 0.1)}), params=ended))
    assert parsed.frames["bars"]["basis_factor"].to_list() == [None]
    assert parsed.frames["actions"]["basis_factor"].to_list() == [None]
    assert any("later splits" in note for note in parsed.notes)
    planned_an_hour_ago = {"period2": str(int((NOW - timedelta(hours=1)).timestamp()))}
    assert bars_of(payload(chart([stamp(day)]), params=planned_an_hour_ago))["basis_factor"].to_list() == [1.0]
    delisted = chart([stamp(day)], meta={"regularMarketTime": stamp(day, time(16))})
    assert bars_of(payload(delisted, params=ended))["basis_factor"].to_list() == [1.0], "nothing came after"


def test_an_event_is_dated_by_its_date_not_by_its_key() -> None:
    day = date(2020, 8, 31)
    off = {"1596254400": next(iter(split(day, 4).values()))}
    actions = YAHOO.parse(payload(chart([stamp(day)], events={"splits": off}))).frames["actions"]
    assert actions.select("ex_date", "event_type", "split_ratio", "detail").rows() == [(day, "split", 4.0, "4:1")]


def test_cash_may_be_stated_in_another_currency_than_the_price() -> None:
    day = date(2024, 5, 2)
    events = {
        "dividends": {**dividend(day, 5.5), **{"1": {"date": stamp(day), "amount": 0.07, "currency": "GBP"}}},
        "capitalGains": dividend(day, 1.25),
    }
    actions = YAHOO.parse(payload(chart([stamp(day)], meta={"currency": "GBp"}, events=events))).frames["actions"]
    assert actions.select("event_type", "cash", "currency", "price_unit").rows() == [
        ("cash", 5.5, "GBP", 0.01),
        ("cash", 0.07, "GBP", 1.0),
        ("capital_gain", 1.25, "GBP", 0.01),
    ]


# --- what is not an answer -------------------------------------------------------------------------------------------

FINANCE_401 = {"finance": {"result": None, "error": {"code": "Unauthorized", "description": "Invalid Crumb"}}}
CHART_404 = {
    "chart": {"result": None, "error": {"code": "Not Found", "description": "No data found, symbol may be delisted"}}
}
CHART_400 = {
    "chart": {
        "result": None,
        "error": {"code": "Bad Request", "description": "Data doesn't exist for startDate = 1, endDate = 2"},
    }
}
LOOK_BACK = {
    "chart": {
        "result": None,
        "error": {
            "code": "Unprocessable Entity",
            "description": "1m data not available for startTime=1 and endTime=2. The requested range must be within …",
        },
    }
}
BAD_PARAMETER = {"finance": {"result": None, "error": {"code": "Bad Request", "description": "Missing parameter=q"}}}
FAILURES: list[tuple[object, int, type[ProviderError]]] = [
    (CHART_404, 404, NotFound),
    (CHART_404, 200, NotFound),
    (b"404 Not Found: No data found, symbol may be delisted", 404, NotFound),
    (b"", 404, NotFound),
    (CHART_400, 400, NoData),
    (CHART_400, 200, NoData),
    (b"400 Bad Request: Data doesn't exist for startDate = 1577836800, endDate = 1578009600", 400, NoData),
    (LOOK_BACK, 422, NoData),
    (BAD_PARAMETER, 400, ProviderError),
    (BAD_PARAMETER, 200, ProviderError),
    (FINANCE_401, 401, AuthRequired),
    (FINANCE_401, 200, AuthRequired),
    (b"Too Many Requests\r\n", 429, RateLimited),
    (b"Too Many Requests\r\n", 200, RateLimited),
    (b"<html><body>Will be right back</body></html>", 200, Blocked),
    (b"<html><body>Will be right back</body></html>", 503, Unavailable),
    (b"<html>consent</html>", 302, Blocked),
    (b"<html>sorry</html>", 999, Blocked),
    (b'{"finance": {"error": {"code": "internal-error", "description": "Not Found"}}}', 500, Unavailable),
    (b"", 200, Malformed),
    (b"Date,Dividends\n2020-01-01,0.5\n", 200, Malformed),
    (b"[]", 200, Malformed),
    (b"{}", 200, Malformed),
    (b'{"chart": {"result": [{"meta": {}', 200, Malformed),
    ({"chart": {"result": [], "error": None}}, 200, NotFound),
    ({"quoteResponse": {"result": [], "error": None}}, 200, NotFound),
    ({"quoteResponse": {"result": [{"symbol": "AAPL", "regularMarketPrice": 1.0}], "error": None}}, 200, Malformed),
    (chart([stamp(date(2024, 1, 2))], meta={"dataGranularity": "1m"}), 200, Malformed),
    (chart([stamp(date(2024, 1, 2))], meta={"dataGranularity": "1mo"}), 200, Malformed),
    (chart([stamp(date(2024, 1, 2))], meta={"exchangeTimezoneName": "Mars/Olympus"}), 200, Malformed),
    (chart([stamp(date(2024, 1, 2))], close=[1.0, 2.0]), 200, Malformed),
    (chart([stamp(date(2024, 1, 2))], events={"splits": split(date(2024, 1, 2), 4, 0)}), 200, Malformed),
    (chart([2**80]), 200, Malformed),
]


@pytest.mark.parametrize(("body", "status", "error"), FAILURES)
def test_every_failure_has_its_type(body: object, status: int, error: type[ProviderError]) -> None:
    with pytest.raises(ProviderError) as caught:
        YAHOO.parse(payload(body, status))
    assert type(caught.value) is error
    assert caught.value.hint
    assert caught.value.context["provider"] == "yahoo"
    assert caught.value.context["symbol"]


def test_a_window_without_bars_is_told_apart_from_a_delisted_symbol() -> None:
    nothing = chart([])
    del nothing["chart"]["result"][0]["timestamp"]
    nothing["chart"]["result"][0]["indicators"] = {"quote": [{}]}
    with pytest.raises(NoData):
        YAHOO.parse(payload(nothing))
    nothing["chart"]["result"][0]["meta"] |= {"dataGranularity": "1m"}
    with pytest.raises(NoData):
        YAHOO.parse(payload(nothing))
    nothing["chart"]["result"][0]["meta"] |= {"currency": None, "firstTradeDate": None, "exchangeName": "YHD"}
    with pytest.raises(NotFound):
        YAHOO.parse(payload(nothing))


def test_retry_after_is_passed_on() -> None:
    with pytest.raises(RateLimited) as caught:
        YAHOO.parse(payload(b"Too Many Requests", 429, headers={"retry-after": "30"}))
    assert caught.value.retry_after == 30


def test_an_archived_download_is_read_as_bars_of_unknown_basis() -> None:
    body = (
        b"Date,Open,High,Low,Close,Adj Close,Volume\n"
        b"2020-01-02,74.059998,75.150002,73.797501,75.087502,74.444603,135480400\n"
        b"2020-01-03,null,null,null,null,null,null\n"
        b"2020-01-06,73.447502,74.989998,73.187500,74.949997,74.308266,118387200\n"
    )
    parsed = YAHOO.parse(payload(body, start=date(2020, 1, 2), end=date(2020, 1, 3)))
    frame = parsed.frames["bars"]
    assert frame.select("session", "open", "close", "volume", "basis_factor").rows() == [
        (date(2020, 1, 2), 74.06, 75.0875, 135480400.0, None)
    ]
    with pytest.raises(NoData):
        YAHOO.parse(payload(body, start=date(2021, 1, 2)))
    with pytest.raises(Malformed):
        YAHOO.parse(payload(body.replace(b"135480400", b"many")))


# --- whatever comes --------------------------------------------------------------------------------------------------

EXAMPLE = chart(
    [stamp(day) for day in weekdays(date(2020, 8, 24), 6)],
    meta={"currentTradingPeriod": {"regular": {"start": 1, "end": 2}}},
    events={"splits": split(date(2020, 8, 31), 4), "dividends": dividend(date(2020, 8, 26), 0.2)},
)
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.just(-(2**63)),
    st.floats(),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
    st.just([None]),
    st.lists(st.one_of(st.integers(), st.text(max_size=2), st.none()), max_size=7),
)


def nodes(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from nodes(child, (*path, key))


PATHS = list(nodes(EXAMPLE))


@settings(max_examples=300, deadline=None)
@given(
    changes=st.lists(st.tuples(st.sampled_from(PATHS), st.sampled_from(["delete", "replace", "cut"]), JUNK), max_size=4)
)
def test_a_mutated_answer_is_bars_that_keep_the_contract_or_a_typed_error(changes: list[tuple[Any, str, Any]]) -> None:
    body = copy.deepcopy(EXAMPLE)
    for path, change, junk in changes:
        parent: Any = body
        try:
            for key in path[:-1]:
                parent = parent[key]
            if change == "delete":
                del parent[path[-1]]
            elif change == "cut":
                del parent[path[-1]][1:]
            else:
                parent[path[-1]] = junk
        except (KeyError, IndexError, TypeError):
            continue
    try:
        parsed = YAHOO.parse(payload(body))
    except ProviderError:
        return
    assert_contract(parsed)


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=40), st.integers(0, 600), st.sampled_from([0, 200, 204, 301, 400, 401, 403, 404, 422, 429, 500])
)
def test_damaged_bytes_are_a_typed_error(junk: bytes, at: int, status: int) -> None:
    body = json.dumps(EXAMPLE).encode()
    assume(junk != body[at : at + len(junk)])
    try:
        parsed = YAHOO.parse(payload(body[:at] + junk + body[at + len(junk) :], status))
    except ProviderError:
        return
    assert_contract(parsed)


def assert_contract(parsed: Parsed) -> None:
    assert parsed.frames
    for dataset, frame in parsed.frames.items():
        assert violations(RAW_TABLES[dataset], frame).is_empty()


# --- recordings ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recording:
    path: Path
    endpoint: str
    status: int

    def outcome(self, parameters: Mapping[str, str] | None = None) -> Parsed | ProviderError:
        symbol = self.endpoint.rsplit("/", 1)[-1]
        answer = payload(self.path.read_bytes(), self.status, params=parameters, symbol=symbol)
        try:
            return YAHOO.parse(answer)
        except ProviderError as error:
            return error


def recordings(folder: Path) -> list[Recording]:
    """Every recording that the index describes and the folder has."""
    found = []
    for line in (folder / "INDEX.md").read_text().splitlines():
        cells = [cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) > 3 and cells[0].startswith("yahoo/") and (folder / cells[0]).is_file():
            status = re.match(r"\d{3}", cells[3])
            found.append(Recording(folder / cells[0], cells[1], int(status[0]) if status else 200))
    return found


@pytest.mark.shared
def test_every_recording_is_bars_that_keep_the_contract_or_the_right_error(shared_fixtures: Path) -> None:
    checked = recordings(shared_fixtures)
    assert checked
    for recording in checked:
        outcome = recording.outcome()
        where = recording.path.name
        if "/v8/finance/chart/" in recording.endpoint and recording.status == 200:
            result = json.loads(recording.path.read_bytes())["chart"]["result"][0]
            meta, stamps, quote = result["meta"], result.get("timestamp") or [], result["indicators"]["quote"][0]
            real = [i for i in range(len(stamps)) if any(array[i] is not None for array in quote.values())]
            if stamps and meta["dataGranularity"] != "1d":
                assert type(outcome) is Malformed, where
                continue
            if not real:
                shell = not stamps and meta.get("currency") is None and meta.get("firstTradeDate") is None
                assert type(outcome) is (NotFound if shell else NoData), where
                continue
            assert isinstance(outcome, Parsed), where
            assert_contract(outcome)
            bars = outcome.frames["bars"]
            rows = bars["row"].to_list()
            assert set(rows) <= set(real), where
            assert len(rows) >= len(real) - 1, where
            assert bars["session"].is_sorted(), where
            assert bars["raw_symbol"].unique().to_list() == [meta["symbol"]], where
            closes = [quote["close"][row] for row in rows]
            assert np.array_equal(np.float32(bars["close"]), np.array(closes, dtype="f4"), equal_nan=True), where
            events = sum(map(len, (result.get("events") or {}).values()))
            assert outcome.frames.get("actions", pl.DataFrame()).height == events, where
        elif "/v7/finance/download/" in recording.endpoint and recording.status == 200:
            assert isinstance(outcome, Parsed), where
            assert_contract(outcome)
        elif re.search(r"/quote$|/quoteSummary/|/timeseries/", recording.endpoint) and recording.status == 200:
            if type(outcome) is not NotFound or b'"result":[]' not in recording.path.read_bytes():
                assert isinstance(outcome, Parsed), where
                assert_contract(outcome)
        elif recording.status in (401, 404, 429):
            missing_module = "/quoteSummary/" in recording.endpoint and recording.status == 404
            kind = NoData if missing_module else {401: AuthRequired, 404: NotFound, 429: RateLimited}[recording.status]
            assert type(outcome) is kind, where
        else:
            assert isinstance(outcome, ProviderError), where


@pytest.mark.shared
def test_the_recorded_apple_split_is_read_as_it_happened(shared_fixtures: Path) -> None:
    found = [item for item in recordings(shared_fixtures) if "AAPL_1d_split_and_dividend" in item.path.name]
    if not found:
        pytest.skip("needs the recording of Apple's split in 2020")
    parsed = found[0].outcome()
    assert isinstance(parsed, Parsed)
    bars, actions = parsed.frames["bars"], parsed.frames["actions"]
    assert (bars.height, bars["session"][0], bars["session"][-1]) == (49, date(2020, 8, 31), date(2020, 11, 6))
    assert bars.select("open", "high", "low", "close", "volume").row(0) == (127.58, 131.0, 126.0, 129.04, 225702700.0)
    assert actions.select("ex_date", "event_type", "cash", "split_ratio", "basis_factor").rows() == [
        (date(2020, 8, 31), "split", 0.0, 4.0, 1.0),
        (date(2020, 11, 6), "cash", 0.205, 1.0, 1.0),
    ]
    assert found[0].outcome({"period2": "1604707200"}).frames["bars"]["basis_factor"].null_count() == 49  # type: ignore[union-attr]


@pytest.mark.shared
def test_apples_traded_closes_agree_with_another_vendor_through_the_split_of_2020(shared_data: Path) -> None:
    files = [shared_data / name for name in ("us_yahoo_sp500_asof_2026_03.parquet", "us_lean_daily_raw.parquet")]
    if not all(file.is_file() for file in files):
        pytest.skip("needs Yahoo's and Lean's history of Apple")
    yahoo, lean = (pl.scan_parquet(file).filter(pl.col("symbol") == "AAPL").sort("date").collect() for file in files)
    terms = yahoo.select("date", "Stock Splits", "Dividends").rows()
    answer = chart(
        [stamp(day) for day in yahoo["date"]],
        close=yahoo["Close"].cast(pl.Float64).to_list(),
        events={
            "splits": {key: entry for day, ratio, _ in terms if ratio for key, entry in split(day, ratio).items()},
            "dividends": {key: entry for day, _, paid in terms if paid for key, entry in dividend(day, paid).items()},
        },
    )
    traded = bars_of(payload(answer)).select(date="session", traded=pl.col("close") * pl.col("basis_factor"))
    both = traded.join(lean, on="date")
    assert both.height > 1000
    agree = (both["traded"] - both["close"]).abs() < 0.005
    assert agree.mean() > 0.99
    assert agree.filter(both["date"] < date(2020, 8, 31)).mean() > 0.99


# --- over a real socket ----------------------------------------------------------------------------------------------

DAYS = weekdays(date(2020, 8, 24), 6)
ANSWER = json.dumps(
    chart(
        [stamp(day) for day in DAYS],
        close=[widened(124.8075)] * 5 + [widened(129.04)],
        events={"splits": split(DAYS[5], 4), "dividends": dividend(DAYS[1], 0.205)},
    )
)


def ask(server: FaultServer, symbol: str = "US:STOCK:AAPL", **options: str) -> Payload:
    """Plan one request and fetch it through a real transport."""
    settings = Settings(
        _env_file=None,
        VPRISM_PROVIDER_BASE_URLS={"yahoo": server.url_for("yahoo")},
        PROVIDER_BACKOFF_FACTOR=0.01,
        **options,  # type: ignore[arg-type]
    )

    async def run() -> Payload:
        async with Transport(settings, quotas={"yahoo": YAHOO.capabilities().quota}) as transport:
            provider = YahooProvider(transport)
            (request,) = provider.plan("us", "bars", [symbol], DAYS[0], DAYS[4], NOW)
            answer = await provider.fetch(request)
            await provider.aclose()
            return answer

    return asyncio.run(run())


def test_plan_fetch_and_parse_give_the_traded_prices(fault_server: FaultServer) -> None:
    fault_server.serve("/v8/finance/chart/AAPL", ANSWER)
    frames = YAHOO.parse(ask(fault_server)).frames
    bars = frames["bars"]
    assert bars["session"].to_list() == DAYS[:5]
    assert (bars["close"] * bars["basis_factor"]).to_list() == pytest.approx([499.23] * 5, abs=1e-9)
    cash = frames["actions"].filter(event_type="cash")
    assert (cash["cash"] * cash["basis_factor"]).to_list() == pytest.approx([0.82])
    (seen,) = fault_server.seen(provider="yahoo")
    assert seen.query["events"] == "div,splits,capitalGains"
    assert seen.headers["user-agent"].startswith("Mozilla/5.0")


def test_symbols_with_a_caret_reach_the_server_encoded_once(fault_server: FaultServer) -> None:
    fault_server.serve("/v8/finance/chart/%5EGSPC", ANSWER)
    assert ask(fault_server, "US:INDEX:SPX").status == 200
    assert fault_server.seen()[0].target.startswith("/v8/finance/chart/%5EGSPC?")


def test_a_limit_that_passes_is_retried(fault_server: FaultServer) -> None:
    fault_server.serve("/v8/finance/chart/AAPL", Reply(b"Too Many Requests\r\n", 429), times=1)
    fault_server.serve("/v8/finance/chart/AAPL", ANSWER)
    assert YAHOO.parse(ask(fault_server)).rows == 7
    assert fault_server.count() == 2


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("html_200", Blocked),
        ("stall", Unavailable),
        ("truncated", Unavailable),
        ("reset", Unavailable),
        ("500", Unavailable),
        ("429", RateLimited),
        ("999", Blocked),
        ("redirect_elsewhere", Blocked),
        ("nan", Malformed),
        ("duplicate_keys", Malformed),
        ("empty", Malformed),
    ],
)
def test_a_server_that_misbehaves_ends_in_a_typed_error(
    fault_server: FaultServer,
    fault: str,
    error: type[ProviderError],
) -> None:
    assert fault in FAULTS
    fault_server.fault("/v8/finance/chart/AAPL", fault)
    with pytest.raises(error):
        YAHOO.parse(ask(fault_server, PROVIDER_TIMEOUT="0.5", PROVIDER_RETRY_ATTEMPTS="1"))
