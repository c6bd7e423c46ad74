"""What a user of Nasdaq Data Link can rely on: one page per request, traded prices, and every way it says no."""

from __future__ import annotations

import json
import logging
from datetime import date
from pathlib import Path
from typing import Any

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
    Malformed,
    NoData,
    NotFound,
    PremiumRequired,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    Retired,
    Unavailable,
)
from vprism_pipelines.providers.base import Parsed, Provider
from vprism_pipelines.providers.nasdaq_data_link import NasdaqDataLinkProvider

PROVIDER = NasdaqDataLinkProvider()
KEY = "secret-key-of-nobody"
NAMES = ["ticker", "date", "open", "high", "low", "close", "volume", "ex-dividend", "split_ratio", "adj_close"]
SPLIT_DAY = ["AAPL", "2014-06-09", 92.7, 93.88, 91.75, 93.7, 75415000.0, 0.0, 7.0, 86.5]
EX_DAY = ["AAPL", "2014-05-08", 588.25, 594.41, 586.4, 587.99, 8218000.0, 3.29, 1.0, 77.5]
WIKI = ["Date", "Open", "High", "Low", "Close", "Volume", "Ex-Dividend", "Split Ratio", "Adj. Close"]


def page(rows: list[list[Any]], names: list[str] = NAMES, cursor: str | None = None) -> str:
    columns = [{"name": name, "type": "String"} for name in names]
    return json.dumps({"datatable": {"data": rows, "columns": columns}, "meta": {"next_cursor_id": cursor}})


def dataset(rows: list[list[Any]], key: str = "dataset_data", names: list[str] = WIKI, **more: Any) -> str:
    return json.dumps({key: {"column_names": names, "data": rows, "frequency": "daily", **more}})


def read(body: str | bytes, status: int = 200, **request: Any) -> Parsed:
    return check(PROVIDER.parse(payload("nasdaq_data_link", body, status, **request)))


# --- what is asked ---------------------------------------------------------------------------------------------------


def test_a_request_is_one_ticker_and_never_more_than_a_page() -> None:
    requests = PROVIDER.plan("us", "bars", ["US:STOCK:BRK.A"], date(1950, 1, 1), date(2026, 1, 2), NOW)
    assert [(r.start, r.end) for r in requests] == [
        (date(1962, 1, 2), date(1999, 12, 24)),
        (date(1999, 12, 25), date(2018, 3, 27)),
    ]
    for request in requests:
        assert request.params["ticker"] == request.provider_symbol == "BRK_A"
        assert (request.params["date.gte"], request.params["date.lte"]) == (str(request.start), str(request.end))
        assert request.end is not None
        assert request.start is not None
        assert (request.end - request.start).days * 253 / 365 < 10_000 == int(request.params["qopts.per_page"])


def test_nothing_is_asked_about_the_time_after_the_table_was_frozen() -> None:
    assert isinstance(PROVIDER, Provider)
    assert PROVIDER.plan("us", "bars", ["US:STOCK:AAPL"], date(2018, 3, 28), date(2026, 1, 2), NOW) == []
    assert PROVIDER.capabilities().immutable


def test_a_page_names_the_request_for_the_next_one() -> None:
    first = payload("nasdaq_data_link", page([SPLIT_DAY], cursor="abc"), params={"ticker": "AAPL,MSFT"})
    following = PROVIDER.parse(first).following
    assert following is not None
    assert following.params == {"ticker": "AAPL,MSFT", "qopts.cursor_id": "abc"}
    assert PROVIDER.parse(payload("nasdaq_data_link", page([SPLIT_DAY]))).following is None


# --- how answers are read --------------------------------------------------------------------------------------------


def test_wiki_rows_are_traded_prices_with_the_events_of_their_days() -> None:
    parsed = read(page([SPLIT_DAY, EX_DAY]))
    bars = parsed.frames["bars"]
    assert bars.select("raw_symbol", "session", "close", "volume", "adj_close", "price_basis", "basis_factor").row(
        0
    ) == (
        "AAPL",
        date(2014, 6, 9),
        93.7,
        75415000.0,
        86.5,
        "raw",
        1.0,
    )
    assert parsed.frames["actions"].select("row", "ex_date", "event_type", "cash", "split_ratio").rows() == [
        (1, date(2014, 5, 8), "cash", 3.29, 1.0),
        (0, date(2014, 6, 9), "split", 0.0, 7.0),
    ]


def test_the_same_rows_read_alike_as_table_as_csv_and_from_the_archives_of_three_apis() -> None:
    cells = SPLIT_DAY[1:]
    url = "https://www.quandl.com/api/v3/datasets/WIKI/AAPL/data.json"
    v1 = json.dumps({"errors": {}, "source_code": "WIKI", "code": "AAPL", "frequency": "daily", "column_names": WIKI,
                     "data": [cells]})  # fmt: skip
    answers = [
        read(page([SPLIT_DAY])),
        read(",".join(NAMES) + "\n" + ",".join(map(str, SPLIT_DAY)) + "\n"),
        read(dataset([cells], "dataset", database_code="WIKI", dataset_code="AAPL")),
        read(dataset([cells]), url=url),
        read(",".join(WIKI) + "\n" + ",".join(map(str, cells)) + "\n", url=url.replace("/data.json", ".csv")),
        read(v1),
    ]
    for dataset_name in ("bars", "actions"):
        frames = [answer.frames[dataset_name].drop("fetch_id") for answer in answers]  # type: ignore[index]
        assert all(frame.equals(frames[0]) for frame in frames)


def test_prices_of_other_databases_are_of_unknown_basis_and_keep_their_database_in_the_name() -> None:
    body = dataset([["2014-10-10", 1.0, 2.0, 1.0, 1.5]], "dataset", WIKI[:5], database_code="NSE", dataset_code="X")
    parsed = read(body)
    assert parsed.frames["bars"].select("raw_symbol", "price_basis", "basis_factor").row(0) == (
        "NSE/X",
        "adjusted_by_source",
        None,
    )
    assert parsed.notes


def test_collapsed_transformed_and_priceless_tables_are_refused() -> None:
    row = SPLIT_DAY[1:]
    for body, request in (
        (dataset([row], collapse="weekly"), {"provider_symbol": "AAPL"}),
        (dataset([row], transform="rdiff"), {"provider_symbol": "AAPL"}),
        (dataset([row]), {"provider_symbol": "AAPL", "params": {"transformation": "rdiff"}}),
        (dataset([["2014-06-09", 1.0]], names=["Date", "Value"]), {"provider_symbol": "AAPL"}),
        (json.dumps({"docs": [], "total_count": 3}), {}),
        ("file.link,file.status\nhttps://files.example,fresh\n", {}),
    ):
        with pytest.raises(Malformed):
            read(body, **request)


def test_nothing_in_the_window_and_metadata_alone_are_no_data() -> None:
    for body in (page([]), json.dumps({"errors": {}, "column_names": WIKI, "code": "X", "source_code": "WIKI"})):
        with pytest.raises(NoData):
            read(body)
    with pytest.raises(NoData):
        read(page([SPLIT_DAY]), start=date(2015, 1, 2), end=date(2015, 1, 3))


def test_an_export_that_is_being_made_can_be_asked_for_again() -> None:
    body = json.dumps({"datatable_bulk_download": {"file": {"link": None, "status": "creating"}}})
    with pytest.raises(Unavailable):
        read(body)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (429, "QELx01", QuotaExhausted),
        (429, "QELx04", RateLimited),
        (422, "QELx06", ProviderError),
        (400, "QEAx01", AuthRequired),
        (403, "QEPx04", PremiumRequired),
        (403, "QEPx05", PremiumRequired),
        (422, "QESx08", ProviderError),
        (404, "QECx02", NotFound),
        (500, "QEMx01", Unavailable),
        (200, "QECx02", NotFound),
        (410, "QECx02", Retired),
        (418, "QEZx01", ProviderError),
    ],
)
def test_every_code_of_the_service_is_the_right_error(status: int, code: str, kind: type[ProviderError]) -> None:
    body = json.dumps({"quandl_error": {"code": code, "message": "No."}})
    with pytest.raises(ProviderError) as caught:
        read(body, status)
    assert type(caught.value) is kind
    assert caught.value.hint


def test_the_retired_api_is_recognised_whatever_its_body_says() -> None:
    for body in ("", "Gone", "{}", "<html>gone</html>"):
        with pytest.raises(Retired):
            read(body, 410)


def test_the_key_travels_in_a_header_and_is_nowhere_to_be_found_afterwards(
    fault_server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    path = "/api/v3/datatables/WIKI/PRICES.json"
    fault_server.serve(path, page([SPLIT_DAY]), times=1)
    fault_server.serve(path, json.dumps({"quandl_error": {"code": "QEAx01", "message": f"key {KEY}?"}}), status=400)
    requests = PROVIDER.plan(
        "us", "bars", ["US:STOCK:AAPL", "US:STOCK:MSFT"], date(2014, 1, 2), date(2014, 12, 31), NOW
    )
    with environment(QUANDL_API_KEY=KEY):
        answer, refused = pull(NasdaqDataLinkProvider, fault_server, requests)
    assert all(seen.headers["x-api-token"] == KEY and KEY not in seen.target for seen in fault_server.seen(path))
    assert check(PROVIDER.parse(answer)).rows == 2
    with pytest.raises(AuthRequired) as caught:
        PROVIDER.parse(refused)
    told = [answer.request.to_json(), repr(refused), refused.body.decode(), str(caught.value.to_dict()), caplog.text]
    assert not any(KEY in text for text in told)


def test_without_a_key_nothing_is_sent(fault_server: FaultServer) -> None:
    requests = PROVIDER.plan("us", "bars", ["US:STOCK:AAPL"], date(2014, 1, 2), date(2014, 12, 31), NOW)
    with environment():
        (refused,) = pull(NasdaqDataLinkProvider, fault_server, requests)
    assert (refused.error, fault_server.count()) == ("AUTH_REQUIRED", 0)


def test_failures_of_the_network_and_of_http_are_typed(fault_server: FaultServer) -> None:
    (request,) = PROVIDER.plan("us", "bars", ["US:STOCK:AAPL"], date(2014, 1, 2), date(2014, 12, 31), NOW)
    with environment(QUANDL_API_KEY=KEY):
        assert failures(NasdaqDataLinkProvider, fault_server, request) == FAULTS_BY_CODE


@pytest.mark.shared
def test_every_recording_is_sound_rows_or_the_right_error(shared_fixtures: Path) -> None:
    table = report(PROVIDER, shared_fixtures / "nasdaq_data_link")
    expected = {"error_QECx": "NOT_FOUND", "error_QEP": "PREMIUM_REQUIRED", "error_QES": "PROVIDER_ERROR",
                "v1_meta": "NO_DATA"}  # fmt: skip
    for name, what in table.items():
        for start, code in expected.items():
            assert not name.startswith(start) or what == code, name
        assert "WIKI" not in name or "export_status" in name or what.startswith("bars"), name


BODIES = [page([SPLIT_DAY, EX_DAY], cursor="x").encode(), dataset([SPLIT_DAY[1:]]).encode(),
          (",".join(NAMES) + "\n" + ",".join(map(str, EX_DAY)) + "\n").encode(),
          b'{"quandl_error": {"code": "QELx04", "message": "slow"}}']  # fmt: skip


@settings(max_examples=250, deadline=None)
@given(body=damaged(BODIES), status=st.sampled_from([200, 200, 200, 403, 410, 429]))
def test_a_damaged_body_is_rows_that_keep_the_contract_or_a_typed_error(body: bytes, status: int) -> None:
    survives(PROVIDER, payload("nasdaq_data_link", body, status, provider_symbol="AAPL"))
