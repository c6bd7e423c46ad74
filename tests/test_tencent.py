"""What a user of Tencent can rely on: traded prices, shares whatever a board counts in, a mark on what moves."""

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
from vprism_pipelines.errors import InvalidInput, Malformed, NoData, NotFound, ProviderError
from vprism_pipelines.market.symbols import resolve
from vprism_pipelines.providers.base import Parsed, Provider
from vprism_pipelines.providers.tencent import TencentProvider
from vprism_pipelines.providers.transport import EGRESS

PROVIDER = TencentProvider()
DAYS = [
    ["2024-01-02", "9.390", "9.210", "9.420", "9.200", "1158366.000", {}, "0.60", "107574.23"],
    ["2024-01-03", "9.190", "9.200", "9.220", "9.150", "733610.000", {}, "0.38", "67367.30"],
]


def kline(symbol: str = "sz000001", rows: Any = DAYS, key: str = "day", **node: Any) -> str:
    return json.dumps({"code": 0, "msg": "", "data": {symbol: {key: rows, "version": "16", **node}}})


def quote(symbol: str, **fields: str) -> str:
    """A quote line of 40 fields, a trade at 10 in a session at 10."""
    cells = ["0"] * 40
    stated = {3: "10.0", 5: "10.0", 6: "5", 30: "20240102150000", 33: "10.5", 34: "9.5", 35: "10.0/5/5000", 37: "1"}
    for place, text in {**stated, **{int(name[1:]): value for name, value in fields.items()}}.items():
        cells[place] = text
    return f'v_{symbol}="{"~".join(cells)}";'


def read(body: str | bytes, **request: Any) -> Parsed:
    return check(PROVIDER.parse(payload("tencent", body, market="cn", **request)))


def bars(body: str | bytes, **request: Any) -> pl.DataFrame:
    return read(body, **request).frames["bars"]


# --- what is asked ---------------------------------------------------------------------------------------------------


def test_a_request_is_one_symbol_unadjusted_and_never_more_than_an_answer_holds() -> None:
    assert isinstance(PROVIDER, Provider)
    requests = PROVIDER.plan("cn", "bars", ["CN:STOCK:SH600519"], date(2020, 1, 2), date(2024, 6, 28), NOW)
    assert requests[0].params == {"param": "sh600519,day,2020-01-02,2021-12-31,640,"}
    assert [r.start for r in requests][1:] == [date(2022, 1, 1), date(2024, 1, 1)]
    assert requests[-1].end == date(2024, 6, 28)
    (hong_kong,) = PROVIDER.plan("hk", "bars", ["HK:STOCK:00700"], date(2024, 1, 2), date(2024, 1, 3), NOW)
    assert hong_kong.params["param"].startswith("hk00700,day,")
    for request in (*requests, hong_kong):
        assert urlsplit(request.url).hostname in EGRESS["tencent"]
    with pytest.raises(InvalidInput):
        PROVIDER.plan("us", "bars", ["US:STOCK:AAPL"], date(2024, 1, 2), date(2024, 1, 3), NOW)


# --- how answers are read --------------------------------------------------------------------------------------------


def test_the_second_price_is_the_close_and_the_third_the_high() -> None:
    row = bars(kline()).row(0, named=True)
    assert [row[name] for name in ("open", "close", "high", "low")] == [9.39, 9.21, 9.42, 9.2]
    assert (row["raw_symbol"], row["session"], row["price_basis"]) == ("sz000001", date(2024, 1, 2), "raw")


def test_traded_value_lies_within_the_day_s_prices_once_units_are_applied() -> None:
    frame = bars(kline())
    vwap = pl.col("value") * pl.col("value_unit") / (pl.col("volume") * pl.col("volume_unit"))
    assert frame.select(vwap.is_between("low", "high").all()).item()


@pytest.mark.parametrize(
    ("symbol", "unit"),
    [
        ("sh600519", 100.0),
        ("sz300750", 100.0),
        ("sz000001", 100.0),
        ("bj920001", 100.0),
        ("sh510300", 100.0),
        ("sh000300", 100.0),
        ("sh688981", 1.0),
        ("sh689009", 1.0),
        ("sz123001", 10.0),
        ("hk00700", 1.0),
        ("usAAPL.OQ", 1.0),
    ],
)
def test_volume_is_in_lots_but_for_star_and_abroad(symbol: str, unit: float) -> None:
    assert bars(kline(symbol)).get_column("volume_unit").to_list() == [unit, unit]


def test_lines_are_quoted_in_their_own_currency() -> None:
    stated = {symbol: bars(kline(symbol))["currency"][0] for symbol in ("sh600519", "sh900901", "sz200002", "hk00700")}
    assert stated == {"sh600519": "CNY", "sh900901": "USD", "sz200002": "HKD", "hk00700": "HKD"}


def test_an_answer_about_several_symbols_may_give_each_in_its_own_form() -> None:
    node = {"sz000001": {"day": DAYS}, "hk00700": {"qfqday": [row[:6] for row in DAYS]}}
    frame = bars(json.dumps({"code": 0, "data": node}))
    assert frame["value"].to_list() == [107574.23, 67367.3, None, None]
    assert frame["price_basis"].to_list() == ["raw", "raw", "adjusted_by_source", "adjusted_by_source"]
    assert frame["row"].to_list() == [0, 1, 2, 3]


def test_adjusted_series_are_never_taken_for_traded_prices() -> None:
    for key in ("qfqday", "hfqday"):
        parsed = read(kline(key=key))
        assert parsed.frames["bars"]["price_basis"].unique().to_list() == ["adjusted_by_source"]
        assert parsed.frames["bars"]["basis_factor"].null_count() == 2
        assert "adjusted" in parsed.notes[-1]


def test_an_ex_date_in_a_row_is_noted_and_harms_nothing() -> None:
    plain, ex = DAYS[0][:6], [*DAYS[1][:6], {"cqr": "2024-01-03", "FHcontent": "10派1.5元"}]
    parsed = read(kline(rows=[plain, ex]))
    assert parsed.rows == 2
    assert parsed.notes == ("sz000001 went ex on 2024-01-03 10派1.5元",)
    assert parsed.frames["bars"]["value"].null_count() == 2


def test_the_mainland_row_that_is_not_in_its_final_form_still_moves() -> None:
    running = ["2024-01-04", "9.19", "9.20", "9.22", "9.15", "733610"]
    assert bars(kline(rows=[*DAYS, running]))["live"].to_list() == [False, False, True]


@pytest.mark.parametrize(
    ("state", "time", "live"),
    [
        ("US_open_交易中", "2024-01-03 10:05:09", True),
        ("US_close_已收盘", "2024-01-03 16:00:01", False),
        ("US_close_午间休市", "2024-01-03 12:05:09", True),
        ("US_open_交易中", "2024-01-04 09:30:09", False),
    ],
)
def test_elsewhere_the_row_of_an_open_market_s_day_still_moves(state: str, time: str, live: bool) -> None:
    line = ["real", "", "AAPL.OQ", *["0"] * 27, time]
    node = {"qt": {"usAAPL.OQ": line, "market": [f"2024-01-03 22:05:01|HK_open_交易中|{state}"]}}
    assert bars(kline("usAAPL.OQ", **node))["live"].to_list() == [False, live]


def test_a_variable_before_the_json_makes_no_difference() -> None:
    plain, wrapped = bars(kline()), bars("kline_day2024=" + kline())
    assert plain.drop("fetch_id").equals(wrapped.drop("fetch_id"))


def test_the_window_is_kept_and_an_empty_one_is_no_data() -> None:
    assert bars(kline(), start=date(2024, 1, 3), end=date(2024, 1, 3))["row"].to_list() == [1]
    for body in (kline(rows=[]), '{"code": 0, "msg": "", "data": []}', '{"code":0,"msg":"","data":{"hk00700":[]}}'):
        with pytest.raises(NoData):
            read(body)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ('{"code": 1, "msg": "bad params", "data": []}', NotFound),
        ('{"code": -1, "msg": "busy", "data": []}', ProviderError),
        (kline(key="qfqweek"), Malformed),
        (kline(key="m5"), Malformed),
        (kline(rows=[["2024-01-02", "1"]]), Malformed),
        (kline(rows=[["2024-01-02 10:00", "1", "1", "1", "1", "1"]]), Malformed),
        ("[]", Malformed),
    ],
)
def test_what_is_no_daily_bar_is_a_typed_error(body: str, kind: type[ProviderError]) -> None:
    with pytest.raises(ProviderError) as caught:
        read(body)
    assert type(caught.value) is kind


# --- quotes ----------------------------------------------------------------------------------------------------------


def test_quotes_in_either_encoding_are_bars_that_still_move() -> None:
    text = (
        quote("sh600000", f1="浦发银行")
        + " "
        + quote("r_hk00700", f35="10", f37="48.5")
        + "\n"
        + quote("usAAPL", f2="AAPL.OQ")
    )
    for encoding in ("utf-8", "gb18030"):
        frame = bars(text.encode(encoding))
        assert frame["live"].all()
        assert [resolve(raw).symbol for raw in frame["raw_symbol"]] == [
            "CN:STOCK:SH600000",
            "HK:STOCK:00700",
            "US:STOCK:AAPL",
        ]
        assert frame["volume_unit"].to_list() == [100.0, 1.0, 1.0]
        assert frame["value"].to_list() == [5000.0, 48.5, 5000.0]
        assert frame["session"].unique().to_list() == [date(2024, 1, 2)]


def test_us_quotes_keep_the_code_that_tells_a_class_from_an_index() -> None:
    text = quote("usBRK.B", f2="BRK.B.N") + quote("usINX", f2=".INX")
    frame = bars(text)
    assert frame["raw_symbol"].to_list() == ["usBRK.B.N", "us.INX"]
    assert [resolve(raw).symbol for raw in frame["raw_symbol"]] == ["US:STOCK:BRK.B", "US:INDEX:SPX"]
    assert frame["volume_unit"].to_list() == [1.0, 1.0]
    assert frame["currency"].to_list() == ["USD", "USD"]


def test_quotes_of_nobody_and_of_symbols_without_a_trade_are_not_bars() -> None:
    with pytest.raises(NotFound):
        read('v_pv_none_match="1";')
    with pytest.raises(NoData):
        read(quote("sh600000", f5="0.00", f6="0"))
    parsed = read('v_pv_none_match="1";' + quote("sh600000") + quote("sh600001", f6="0"))
    assert (parsed.rows, len(parsed.notes)) == (1, 2)
    for body in (
        'v_sh600000="1~2";',
        quote("sh600000") + "<b>",
        quote("sh600000", f3="x"),
        quote("sh600000").encode() + b"\xff",
    ):
        with pytest.raises(Malformed):
            read(body)


# --- over real sockets, recordings and damage ------------------------------------------------------------------------


def test_plan_fetch_and_parse_fit_together_over_real_sockets(fault_server: FaultServer) -> None:
    (request,) = PROVIDER.plan("cn", "bars", ["CN:STOCK:SZ000001"], date(2024, 1, 2), date(2024, 1, 3), NOW)
    fault_server.serve(urlsplit(request.url).path, kline(), query={"param": request.params["param"]})
    (answer,) = pull(TencentProvider, fault_server, [request])
    assert check(PROVIDER.parse(answer)).rows == 2


def test_failures_of_the_network_and_of_http_are_typed(fault_server: FaultServer) -> None:
    (request,) = PROVIDER.plan("cn", "bars", ["CN:STOCK:SZ000001"], date(2024, 1, 2), date(2024, 1, 3), NOW)
    assert failures(TencentProvider, fault_server, request) == FAULTS_BY_CODE


@pytest.mark.shared
def test_every_recording_is_sound_rows_or_the_right_error(shared_fixtures: Path) -> None:
    table = report(PROVIDER, shared_fixtures / "cn_tencent")
    assert table
    for name, what in table.items():
        assert "day" not in name or what.startswith("bars"), name
        assert "quote" not in name or what.startswith("bars") or what == "NOT_FOUND", name


BODIES = [kline().encode(), kline(key="qfqday").encode(), quote("sh600000").encode(),
          ("x=" + kline("hk00700", qt={"hk00700": ["0"] * 31, "market": ["t|HK_open_x"]})).encode()]  # fmt: skip


@settings(max_examples=250, deadline=None)
@given(body=damaged(BODIES), status=st.sampled_from([200, 200, 200, 403, 501]))
def test_a_damaged_body_is_rows_that_keep_the_contract_or_a_typed_error(body: bytes, status: int) -> None:
    survives(PROVIDER, payload("tencent", body, status, market="cn"))
