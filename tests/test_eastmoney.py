"""What a user of Eastmoney can rely on: as traded or refused, lots by board, and a block never taken for silence."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fault_server import FaultServer, fault_server_fixture  # noqa: F401
from tests.provider_kit import FAULTS_BY_CODE, NOW, check, damaged, failures, payload, pull, report, survives
from vprism_pipelines.errors import InvalidRange, Malformed, NoData, NotFound, ProviderError
from vprism_pipelines.providers.base import Parsed, Payload, Provider
from vprism_pipelines.providers.eastmoney import EastmoneyProvider
from vprism_pipelines.providers.transport import EGRESS

PROVIDER = EastmoneyProvider()
LINES = [
    "2024-12-26,39.20,39.40,39.54,39.01,539252,2125139425.00,1.35,0.20,0.08,0.26",
    "2024-12-27,39.40,39.30,39.60,39.10,400000,1572000000.00,1.27,-0.25,-0.10,0.19",
]


def answer(market: int = 1, code: str = "600036", lines: Any = LINES, **top: Any) -> str:
    data = {"code": code, "market": market, "name": "x", "decimal": 2, "preKPrice": 39.2, "klines": lines}
    return json.dumps({"rc": 0, "rt": 17, "full": 0, "data": data, **top})


def read(body: str | bytes, **request: Any) -> Parsed:
    asked = {"fqt": "0", **request.pop("params", {})}
    return check(PROVIDER.parse(payload("eastmoney", body, market="cn", params=asked, **request)))


def bars(body: str | bytes, **request: Any) -> pl.DataFrame:
    return read(body, **request).frames["bars"]


def test_a_request_is_one_symbol_by_day_as_traded_with_its_market_named() -> None:
    assert isinstance(PROVIDER, Provider)
    symbols = ["CN:STOCK:SH600036", "CN:STOCK:BJ920001", "CN:INDEX:SH000300", "CN:STOCK:SH600036"]
    requests = PROVIDER.plan("cn", "bars", symbols, date(2024, 12, 26), date(2024, 12, 27), NOW)
    assert [r.params["secid"] for r in requests] == ["1.600036", "0.920001", "1.000300"]
    for request in requests:
        stated = {name: request.params[name] for name in ("klt", "fqt", "beg", "end")}
        assert stated == {"klt": "101", "fqt": "0", "beg": "20241226", "end": "20241227"}
        assert urlsplit(request.url).hostname in EGRESS["eastmoney"]
    with pytest.raises(InvalidRange):
        PROVIDER.plan("cn", "bars", symbols, date(2027, 1, 4), date(2027, 1, 5), NOW)


def test_the_second_price_is_the_close_and_value_lies_within_the_prices_once_units_are_applied() -> None:
    frame = bars(answer())
    row = frame.row(0, named=True)
    assert [row[name] for name in ("open", "close", "high", "low")] == [39.2, 39.4, 39.54, 39.01]
    vwap = pl.col("value") * pl.col("value_unit") / (pl.col("volume") * pl.col("volume_unit"))
    assert frame.select(vwap.is_between("low", "high").all()).item()
    assert (row["raw_symbol"], row["session"], row["price_basis"]) == ("1.600036", date(2024, 12, 26), "raw")


@pytest.mark.parametrize(
    ("market", "code", "unit", "currency"),
    [
        (1, "600036", 100.0, "CNY"),
        (1, "688981", 100.0, "CNY"),
        (0, "300750", 100.0, "CNY"),
        (1, "510300", 100.0, "CNY"),
        (1, "113050", 10.0, "CNY"),
        (1, "900901", 100.0, "USD"),
        (116, "00700", 1.0, "HKD"),
        (105, "APP", 1.0, "USD"),
    ],
)
def test_volume_is_in_lots_on_the_mainland_and_in_shares_elsewhere(
    market: int, code: str, unit: float, currency: str
) -> None:
    frame = bars(answer(market, code))
    assert (frame["volume_unit"][0], frame["currency"][0]) == (unit, currency)


@pytest.mark.parametrize("fqt", ["1", "2", "3", "qfq"])
def test_an_adjusted_answer_is_refused_even_from_an_archive(fqt: str) -> None:
    for request in ({"params": {"fqt": fqt}}, {"url": f"https://push2his.eastmoney.com/x?fqt={fqt}"}):
        with pytest.raises(Malformed, match="adjusted"):
            PROVIDER.parse(payload("eastmoney", answer(), market="cn", **request))


def test_prices_of_which_nobody_says_whether_they_are_adjusted_are_taken_when_they_were_paid() -> None:
    def unsaid(*lines: str) -> Payload:
        return payload("eastmoney", answer(lines=list(lines)), market="cn")

    assert check(PROVIDER.parse(unsaid(*LINES))).rows == 2
    lowered = LINES[0].replace("39.", "38.")
    for lines in ((lowered, LINES[1]), (",".join(LINES[0].split(",")[:6]),)):
        with pytest.raises(Malformed, match="adjusted"):
            PROVIDER.parse(unsaid(*lines))


def test_weeks_and_months_are_not_taken_for_days() -> None:
    weeks = [f"2024-11-{day:02},{LINES[0].partition(',')[2]}" for day in (1, 8, 15, 22, 29)]
    with pytest.raises(Malformed, match="weekly"):
        read(answer(lines=weeks))
    with pytest.raises(Malformed, match="klt=102"):
        read(answer(), params={"klt": "102"})


def test_columns_follow_the_fields_that_were_asked_for() -> None:
    few = [",".join(LINES[0].split(",")[:6])]
    assert bars(answer(lines=few))["value"].to_list() == [None]
    moved = ["39.40,2024-12-26,39.20,39.54,39.01"]
    assert bars(answer(lines=moved), params={"fields2": "f53,f51,f52,f54,f55"})["close"].to_list() == [39.4]
    for lines, params in ((few, {"fields2": "f51,f52"}), ([LINES[0], few[0]], {}), (["2024-12-26"], {}), ([1], {})):
        with pytest.raises(Malformed):
            read(answer(lines=lines), params=params)


def test_jsonp_reads_like_json() -> None:
    plain, wrapped = bars(answer()), bars(f"jQuery35_17586({answer()});")
    assert plain.drop("fetch_id").equals(wrapped.drop("fetch_id"))


def test_missing_numbers_are_null_and_the_window_is_kept() -> None:
    frame = bars(answer(lines=[*LINES, "2024-12-30,-,-,-,-,-,-,-,-,-,-"]), start=date(2024, 12, 27))
    assert frame["row"].to_list() == [1, 2]
    assert frame["close"].to_list() == [39.3, None]


def test_an_answer_about_another_code_is_noted() -> None:
    assert read(answer(), provider_symbol="1.600000").notes == ("asked about 1.600000, answered about 1.600036",)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (answer(lines=[]), NoData),
        ('{"rc": 102, "data": null}', NotFound),
        ('{"rc": 0, "data": null}', NotFound),
        (answer(rc=7), ProviderError),
        (answer(data=5), Malformed),
        (answer(code="../x"), Malformed),
        ('{"rc": 0}', Malformed),
    ],
)
def test_what_holds_no_bar_is_a_typed_error(body: str, kind: type[ProviderError]) -> None:
    with pytest.raises(ProviderError) as caught:
        read(body)
    assert type(caught.value) is kind


def test_plan_fetch_and_parse_fit_together_over_real_sockets(fault_server: FaultServer) -> None:
    (request,) = PROVIDER.plan("cn", "bars", ["CN:STOCK:SH600036"], date(2024, 12, 26), date(2024, 12, 27), NOW)
    fault_server.serve("/api/qt/stock/kline/get", answer(), query={"secid": "1.600036", "fqt": "0"})
    (got,) = pull(EastmoneyProvider, fault_server, [request])
    assert check(PROVIDER.parse(got)).rows == 2


def test_failures_of_the_network_and_of_http_are_typed(fault_server: FaultServer) -> None:
    (request,) = PROVIDER.plan("cn", "bars", ["CN:STOCK:SH600036"], date(2024, 12, 26), date(2024, 12, 27), NOW)
    assert failures(EastmoneyProvider, fault_server, request) == FAULTS_BY_CODE
    fault_server.fault("/api/qt/stock/kline/get", "no_reply")
    (dropped,) = pull(EastmoneyProvider, fault_server, [request])
    assert dropped.error == "UNAVAILABLE"


@pytest.mark.shared
def test_every_recording_is_sound_rows_or_the_right_error(shared_fixtures: Path) -> None:
    table = report(PROVIDER, shared_fixtures / "cn_eastmoney")
    assert table
    for name, what in table.items():
        assert "_day_" not in name or what.startswith("bars") or what == "MALFORMED", name
        assert "week" not in name or what == "MALFORMED", name
        assert "empty" not in name or what == "NO_DATA", name


BODIES = [answer().encode(), f"cb({answer(116, '00700')});".encode(), b'{"rc": 102, "data": null}']


@settings(max_examples=250, deadline=None)
@given(body=damaged(BODIES), status=st.sampled_from([200, 200, 200, 403, 502]))
def test_a_damaged_body_is_rows_that_keep_the_contract_or_a_typed_error(body: bytes, status: int) -> None:
    survives(PROVIDER, payload("eastmoney", body, status, market="cn"))
