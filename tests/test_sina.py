"""What a user of Sina can rely on: recent traded bars in shares, factors for comparison only, quotes that move."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fault_server import FaultServer, fault_server_fixture  # noqa: F401
from tests.provider_kit import FAULTS_BY_CODE, NOW, check, damaged, failures, payload, pull, report, survives
from vprism_pipelines.errors import Blocked, Malformed, NoData, NotFound, ProviderError
from vprism_pipelines.providers.base import Parsed, Provider
from vprism_pipelines.providers.sina import SinaProvider, read_factors

PROVIDER = SinaProvider()
HOTLINK = "/*<script>location.href='//sina.com';</script>*/\n"
ROWS = [
    {"day": "2024-01-02", "open": "9.390", "high": "9.420", "low": "9.200", "close": "9.210", "volume": "115836645",
     "amount": "1075742252.45"},
    {"day": "2024-01-03", "open": "9.190", "high": "9.220", "low": "9.150", "close": "9.200", "volume": "73361031",
     "amount": "673673613.54"},
]  # fmt: skip
CHART = f"{HOTLINK}var _day=({json.dumps(ROWS)});"
FACTORS = 'var sh600000hfq={"total":2,"data":[{"d":"2024-06-13","f":"1.23"},{"d":"1900-01-01","f":"1.0"}]}\n/* note */'


def line(symbol: str = "sh600000", **fields: str) -> str:
    cells = ["浦发银行", "10.0", "9.9", "10.1", "10.5", "9.8", "10.0", "10.1", "1000", "10050.0", *["0"] * 20]
    cells += ["2024-01-02", "15:00:03", "00"]
    for name, value in fields.items():
        cells[int(name[1:])] = value
    return f'var hq_str_{symbol}="{",".join(cells)}";\n'


def read(body: str | bytes, **request: Any) -> Parsed:
    return check(PROVIDER.parse(payload("sina", body, market="cn", **{"provider_symbol": "sz000001", **request})))


def test_a_request_asks_for_as_many_bars_as_there_can_be_and_says_where_it_comes_from() -> None:
    assert isinstance(PROVIDER, Provider)
    recent, old = (
        PROVIDER.plan("cn", "bars", ["CN:STOCK:SZ000001"], start, date(2026, 11, 20), NOW)[0]
        for start in (date(2026, 11, 2), date(2001, 1, 2))
    )
    assert (recent.params["symbol"], recent.params["scale"], recent.params["datalen"]) == ("sz000001", "240", "20")
    assert old.params["datalen"] == "1970"
    assert recent.headers["Referer"] == "https://finance.sina.com.cn"


def test_bars_are_traded_prices_in_shares_and_yuan() -> None:
    frame = read(CHART).frames["bars"]
    assert frame.select("raw_symbol", "session", "open", "high", "low", "close", "volume_unit", "price_basis").row(
        0
    ) == (
        "sz000001",
        date(2024, 1, 2),
        9.39,
        9.42,
        9.2,
        9.21,
        1.0,
        "raw",
    )
    assert frame.select((pl.col("value") / pl.col("volume")).is_between("low", "high").all()).item()


def test_every_wrapping_of_the_same_bars_reads_alike() -> None:
    bare = json.dumps(ROWS)
    frames = [
        read(body).frames["bars"].drop("fetch_id")
        for body in (CHART, bare, f"cb({bare});", f"var x={bare};", f"{HOTLINK}{HOTLINK}x = {bare}")
    ]
    assert all(frame.equals(frames[0]) for frame in frames)


def test_prices_whose_adjustment_is_not_known_say_so() -> None:
    short = [{"d": "2024-01-02", "o": "1", "h": "2", "l": "1", "c": "2", "v": "9", "a": "15"}]
    parsed = read(json.dumps(short), provider_symbol="aapl")
    assert parsed.frames["bars"].select("price_basis", "basis_factor").row(0) == ("adjusted_by_source", None)
    assert parsed.notes


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("var _day=(null);", NotFound),
        ("var _day=([]);", NoData),
        (json.dumps([{**ROWS[0], "day": "2024-01-02 15:00:00"}]), Malformed),
        (json.dumps([{**ROWS[0], "day": f"2024-03-{day:02}"} for day in (1, 8, 15, 22, 29)]), Malformed),
        (json.dumps([{"day": "2024-01-02"}]), Malformed),
        ('var suggestvalue="x,41,aapl";', Malformed),
        ('var KLC_KL_sh600000="hasBfqData";', Malformed),
        ("__ERROR=(1);", Malformed),
    ],
)
def test_what_is_no_daily_bar_is_a_typed_error(body: str, kind: type[ProviderError]) -> None:
    with pytest.raises(ProviderError) as caught:
        read(body)
    assert type(caught.value) is kind


def test_an_answer_with_the_most_bars_there_can_be_speaks_for_no_session_before_its_first() -> None:
    first, last = date(2018, 1, 1), date(2024, 1, 2)
    days = [str(first + timedelta(days=day)) for day in range((last - first).days + 1)][-1970:]
    whole = json.dumps([{**ROWS[0], "day": day} for day in days])
    assert read(whole, start=first, end=last).answered == (date.fromisoformat(days[0]), last)
    assert read(whole, start=date(2023, 1, 2), end=last).answered == (date(2023, 1, 2), last)
    assert read(CHART, start=first, end=last).answered is None


def test_bars_of_nobody_in_particular_are_refused() -> None:
    with pytest.raises(Malformed, match="symbol"):
        read(CHART, provider_symbol=None)


def test_factors_are_no_corporate_actions_but_can_be_read_as_what_they_are() -> None:
    requests = PROVIDER.plan_factors(["CN:STOCK:SH600000"])
    assert [r.url.rpartition("/")[2] for r in requests] == ["hfq.js", "qfq.js"]
    answer = payload("sina", FACTORS)
    with pytest.raises(NoData, match="2 adjustment factors"):
        PROVIDER.parse(answer)
    assert read_factors(answer).rows() == [(date(1900, 1, 1), 1.0, 1.0), (date(2024, 6, 13), 1.23, 1.23)]
    for body, kind in (
        (FACTORS.replace("1.23", "-1"), Malformed),
        ('var x={"total":0,"data":[]}', NoData),
        (CHART, Malformed),
    ):
        with pytest.raises(kind):
            read_factors(payload("sina", body))


def test_quotes_in_either_encoding_are_bars_that_still_move() -> None:
    for encoding in ("utf-8", "gb18030"):
        frame = read((line() + 'var hq_str_sh600001="";\n').encode(encoding)).frames["bars"]
        assert frame["live"].all()
        assert frame.select("raw_symbol", "session", "close", "volume", "value").row(0) == (
            "sh600000",
            date(2024, 1, 2),
            10.1,
            1000.0,
            10050.0,
        )


def test_quotes_that_are_empty_without_a_trade_or_of_another_market_are_not_bars() -> None:
    for body, kind in (
        ('var hq_str_sz160923="";\n', NotFound),
        (line(e3="0.000", e8="0"), NoData),
        ('var hq_str_gb_aapl="x,310.66";\n', Malformed),
        ('var hq_str_sh600000="x,1";\n', Malformed),
        (line() + "oops", Malformed),
    ):
        with pytest.raises(kind):
            read(body)
    assert read(line() + line("sh600001", e8="0")).notes == (
        "1 quotes unknown, without a trade, or not of the mainland",
    )


def test_plan_fetch_and_parse_fit_together_over_real_sockets(fault_server: FaultServer) -> None:
    (request,) = PROVIDER.plan("cn", "bars", ["CN:STOCK:SZ000001"], date(2024, 1, 2), date(2024, 1, 3), NOW)
    fault_server.serve("/cn/api/*", CHART, query={"symbol": "sz000001", "scale": "240"})
    (answer,) = pull(SinaProvider, fault_server, [request])
    assert fault_server.seen()[0].headers["referer"] == "https://finance.sina.com.cn"
    assert check(PROVIDER.parse(answer)).rows == 2


def test_failures_of_the_network_and_of_http_are_typed(fault_server: FaultServer) -> None:
    (request,) = PROVIDER.plan_factors(["CN:STOCK:SH600000"])[:1]
    assert failures(SinaProvider, fault_server, request) == FAULTS_BY_CODE
    with pytest.raises(Blocked):
        PROVIDER.parse(payload("sina", "Kinsoku jikou desu!", 456))


@pytest.mark.shared
def test_every_recording_is_sound_rows_or_the_right_error(shared_fixtures: Path) -> None:
    table = report(PROVIDER, shared_fixtures / "cn_sina")
    assert table
    for name, what in table.items():
        assert "A_share" not in name or what.startswith("bars"), name
        assert "min5" not in name or what == "MALFORMED", name
        assert "suggest" not in name or what == "MALFORMED", name


BODIES = [CHART.encode(), FACTORS.encode(), line().encode("gb18030"), json.dumps(ROWS).encode()]


@settings(max_examples=250, deadline=None)
@given(body=damaged(BODIES), status=st.sampled_from([200, 200, 200, 403, 456]))
def test_a_damaged_body_is_rows_that_keep_the_contract_or_a_typed_error(body: bytes, status: int) -> None:
    answer = payload("sina", body, status, market="cn", provider_symbol="sz000001")
    survives(PROVIDER, answer)
    try:
        read_factors(answer)
    except ProviderError:
        return
