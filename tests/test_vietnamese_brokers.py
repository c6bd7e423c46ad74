"""TCBS and VNDirect: what each is asked, and how its units, its dates and its dividends are read."""

from __future__ import annotations

import json
from datetime import date, datetime
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import pytest

from tests.fault_server import FaultServer, fault_server_fixture  # noqa: F401
from tests.provider_kit import FAULTS_BY_CODE, NOW, check, failures, payload
from vprism_pipelines.errors import InvalidInput, Malformed, NoData, UnknownSymbol
from vprism_pipelines.providers.base import Dataset, Parsed
from vprism_pipelines.providers.tcbs import TcbsProvider
from vprism_pipelines.providers.vndirect import VndirectProvider
from vprism_pipelines.providers.web import WebProvider

TCBS, VNDIRECT = TcbsProvider(), VndirectProvider()
VNM = "VN:STOCK:VNM"
WINDOW = date(2024, 3, 21), date(2026, 3, 20)
BAR = {"open": 65394, "high": 65682, "low": 65107, "close": 65586, "volume": 4910550}
PRICE = {
    "code": "ABB", "date": "2021-12-03", "floor": "UPCOM", "type": "STOCK", "open": 19.1, "high": 22.4, "low": 19.1,
    "close": 21.4, "adClose": 20.9, "nmVolume": 3213269, "nmValue": 70199779200, "ptVolume": 500, "ptValue": 1,
}  # fmt: skip


def read(provider: WebProvider, document: Any, dataset: Dataset = "bars", **request: Any) -> Parsed:
    asked = {"market": "vn", "provider_symbol": "VNM", **request}
    return check(provider.parse(payload(provider.name, json.dumps(document), dataset=dataset, **asked)))


def chart(*days: str) -> dict[str, Any]:
    return {"ticker": "VNM", "data": [{**BAR, "tradingDate": f"{day}T00:00:00.000Z"} for day in days]}


# --- TCBS -------------------------------------------------------------------------------------------------------------


def test_tcbs_is_asked_for_a_year_of_bars_at_a_time_up_to_the_end_of_its_last_day() -> None:
    requests = TCBS.plan("vn", "bars", [VNM], *WINDOW, NOW)
    assert [(r.start, r.end) for r in requests] == [
        (date(2024, 3, 21), date(2025, 3, 20)),
        (date(2025, 3, 21), date(2026, 3, 20)),
    ]
    assert datetime.fromtimestamp(int(requests[0].params["to"])).timestamp() == 1742490000  # 2025-03-21 in Vietnam
    assert {request.params["ticker"] for request in requests} == {"VNM"}


def test_tcbs_bars_are_vnd_on_the_day_they_name_and_nothing_before_the_window() -> None:
    rows = read(TCBS, chart("2024-03-20", "2024-03-21"), start=WINDOW[0], end=WINDOW[1]).frames["bars"]
    assert rows.select("raw_symbol", "session", "close", "price_unit", "price_basis", "basis_factor").rows() == [
        ("VNM", date(2024, 3, 21), 65586.0, 1.0, "adjusted_by_source", None)
    ]
    with pytest.raises(NoData):
        read(TCBS, chart("2024-03-20"), start=WINDOW[0], end=WINDOW[1])


def test_a_dividend_of_tcbs_is_a_part_of_the_par_value_and_one_without_a_date_stays_without() -> None:
    paid = {"cashDividendPercentage": 0.05, "issueMethod": "cash", "ticker": "VNM"}
    said = [{**paid, "exerciseDate": day} for day in ("26/12/24", "01/01/53")]
    share = {**paid, "issueMethod": "share", "exerciseDate": "26/12/24"}
    parsed = read(TCBS, {"listDividendPaymentHis": [*said, share]}, "actions")
    events = parsed.frames["actions"].with_columns(vnd=pl.col("cash") * pl.col("price_unit"))
    assert events.select("ex_date", "event_type", "vnd").rows() == [(date(2024, 12, 26), "cash", 500.0)]
    assert parsed.notes == ("not emitted: 1 that are not cash",)


def test_the_fifth_quarter_of_tcbs_is_the_year_and_its_income_is_in_billions() -> None:
    income = [{"ticker": "VNM", "quarter": quarter, "year": 2024, "revenue": 61783, "postTaxProfit": 9453,
               "yearRevenueGrowth": 0.023, "ebitda": None} for quarter in (5, 2)]  # fmt: skip
    rows = read(TCBS, income, "fundamentals").frames["fundamentals"]
    assert rows.head(3).select("period_end", "period_kind", "item", "value", "value_unit", "unit").rows() == [
        (date(2024, 12, 31), "Y", "revenue", 61783.0, 1e9, "currency"),
        (date(2024, 12, 31), "Y", "postTaxProfit", 9453.0, 1e9, "currency"),
        (date(2024, 12, 31), "Y", "yearRevenueGrowth", 0.023, 1.0, "ratio"),
    ]
    assert rows["period_end"].to_list()[3:] == [date(2024, 6, 30)] * 3
    ratios = [{"quarter": 5, "year": 2024, "priceToEarning": 13.6, "daysPayable": 39, "earningPerShare": 4494}]
    units = read(TCBS, ratios, "fundamentals").frames["fundamentals"].select("item", "unit").rows()
    assert units == [("priceToEarning", "ratio"), ("daysPayable", "days"), ("earningPerShare", "per_share")]


def test_trades_without_a_date_are_refused() -> None:
    with pytest.raises(Malformed, match="not read") as caught:
        read(TCBS, {"ticker": "VNM", "data": [{"p": 61300, "v": 420600, "a": "", "t": "14:45:07"}]})
    assert "date" in caught.value.hint


# --- VNDirect ---------------------------------------------------------------------------------------------------------


def test_vndirect_is_asked_for_exactly_the_sessions_and_follows_its_pages() -> None:
    (asked,) = VNDIRECT.plan("vn", "bars", [VNM], *WINDOW, NOW)
    assert asked.params["q"] == "code:VNM~date:gte:2024-03-21~date:lte:2026-03-20"
    page = {"data": [{**PRICE, "code": "VNM", "date": "2024-03-21"}], "currentPage": 1, "totalPages": 2}
    parsed = check(VNDIRECT.parse(payload("vndirect_finfo", json.dumps(page), market="vn", params=asked.params)))
    assert parsed.following is not None
    assert parsed.following.params == {**asked.params, "page": "2"}
    assert read(VNDIRECT, {**page, "currentPage": 2}).following is None


def test_vndirect_bars_are_as_traded_in_thousand_vnd_with_the_adjusted_close_beside() -> None:
    rows = read(VNDIRECT, {"data": [PRICE]}).frames["bars"]
    assert rows.select("raw_symbol", "session", "close", "adj_close", "price_unit", "volume", "value").rows() == [
        ("ABB", date(2021, 12, 3), 21.4, 20.9, 1000.0, 3213269.0, 70199779200.0)
    ]
    assert rows.select("exchange", "price_basis", "basis_factor").row(0) == ("UPCOM", "raw", 1.0)
    average = rows.select(pl.col("value") / pl.col("volume") / pl.col("price_unit")).item()
    assert PRICE["low"] <= average <= PRICE["high"]


@pytest.mark.parametrize("document", [{}, {"data": {}}, {"data": [1]}, {"data": [{"close": 1.0}]}, []])
def test_what_is_no_price_list_of_vndirect_is_malformed(document: Any) -> None:
    with pytest.raises(Malformed):
        read(VNDIRECT, document)


# --- both -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", [TCBS, VNDIRECT], ids=lambda provider: provider.name)
def test_other_markets_and_indices_are_not_asked_for(provider: WebProvider) -> None:
    with pytest.raises(InvalidInput):
        provider.plan("us", "bars", ["US:STOCK:AAPL"], *WINDOW, NOW)
    with pytest.raises(UnknownSymbol):
        provider.plan("vn", "bars", ["VN:INDEX:VNINDEX"], *WINDOW, NOW)


@pytest.mark.parametrize("kind", [TcbsProvider, VndirectProvider])
def test_failures_of_the_network_and_of_http_are_typed(kind: type[WebProvider], fault_server: FaultServer) -> None:
    (asked, *_) = kind().plan("vn", "bars", [VNM], date(2026, 11, 2), date(2026, 11, 3), NOW)
    assert urlsplit(asked.url).scheme == "https"
    assert failures(kind, fault_server, asked) == FAULTS_BY_CODE
