"""Bring your own files: what a mapping promises, and what happens to files that are not what they claim."""

from __future__ import annotations

import datetime as dt
import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vprism_pipelines.errors import InvalidConfiguration, InvalidInput, Malformed, ProviderError
from vprism_pipelines.market.spec import market
from vprism_pipelines.providers.base import RAW_FRAMES, Parsed, Payload, Provider, Request
from vprism_pipelines.providers.files import FilesProvider, Mapping, guess, preview, read, request, shipped
from vprism_pipelines.quality.rows import clean_actions, clean_bars

NOW = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
HEAD = "symbol,date,open,high,low,close,volume"
DAY = "AAPL,2024-01-02,10,12,9,11,1000"


def mapping(**changes: Any) -> Mapping:
    """A mapping of bars under their plain names; `columns`, `file`, `table` add to it, the rest replaces."""
    columns = {"symbol": "symbol", "session": "date"} | {n: n for n in ("open", "high", "low", "close", "volume")}
    table = {"dataset": "bars", "columns": columns | changes.pop("columns", {})} | changes.pop("table", {})
    return Mapping.parse({"provider": "mine", "market": "us", "table": [table]} | changes)


def actions(columns: dict[str, Any], **table: Any) -> Mapping:
    return Mapping.parse(
        {"provider": "mine", "market": "vn", "table": [{"dataset": "actions", "columns": columns, **table}]}
    )


def parse(body: bytes | str, how: Mapping, folder: Path, name: str = "bars.csv") -> Parsed:
    path = folder / name
    path.write_bytes(body.encode() if isinstance(body, str) else body)
    return FilesProvider().parse(read(path, how, NOW))


def bars(body: bytes | str, how: Mapping, folder: Path, name: str = "bars.csv") -> pl.DataFrame:
    return parse(body, how, folder, name).frames["bars"]


def parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def days(code: str = "us") -> pl.DataFrame:
    """A calendar in which every day of January 2024 is a session."""
    dates = pl.date_range(dt.date(2024, 1, 1), dt.date(2024, 1, 31), eager=True)
    spec = market(code)
    names = {spec.calendar, *(exchange.calendar for exchange in spec.exchanges.values())}
    return pl.concat(
        pl.DataFrame({"session": dates}).with_columns(
            calendar=pl.lit(name), close=pl.col("session").cast(pl.Datetime("us", "UTC")), projected=pl.lit(value=False)
        )
        for name in sorted(names)
    )


def pulls(frame: pl.DataFrame) -> pl.DataFrame:
    return pl.DataFrame({"fetch_id": [frame["fetch_id"][0]], "provider": ["mine"], "fetched_at": [NOW]})


# --- mappings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(shipped()))
def test_every_shipped_mapping_loads_and_survives_its_archived_form(name: str) -> None:
    loaded = Mapping.load(name)
    assert Mapping.model_validate_json(loaded.to_json()) == loaded


def test_equal_mappings_have_one_text_whatever_the_order_of_their_keys() -> None:
    data = json.loads(mapping().to_json())
    turned = dict(reversed(data.items())) | {
        "table": [dict(reversed({**t, "columns": dict(reversed(t["columns"].items()))}.items())) for t in data["table"]]
    }
    assert Mapping.parse(turned).to_json() == mapping().to_json()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"markt": "us"}, r"unknown key 'markt'; did you mean 'market'"),
        ({"market": "mars"}, r"market: there is no market 'mars'"),
        ({"provider": "yahoo"}, r"'yahoo' is a provider of its own"),
        ({"provider": "My Broker"}, r"provider: "),
        ({"time_zone": "Asia/Saigonn"}, r"there is no time zone 'Asia/Saigonn'"),
        ({"file": {"encoding": "windows-1528"}}, r"there is no text encoding 'windows-1528'"),
        ({"file": {"header": False}}, r"needs names for its columns"),
        ({"table": {"units": {"price": 0}}}, r"units\.price.*greater than 0 \(it is 0\)"),
        ({"table": {"units": {"price": "thousand"}}}, r"units\.price.*valid number.*'thousand'"),
        ({"table": {"price_basis": "adjusted"}}, r"price_basis.*adjusted_by_source"),
        ({"table": {"close_only": True}}, r"close_only is for bars without open"),
        ({"columns": {"cloze": "close"}}, r"'cloze' is no column of bars; did you mean 'close'"),
        ({"columns": {"close": {"pattern": "(x)"}}}, r"needs exactly one of column, constant"),
        ({"columns": {"close": {"column": "c", "pattern": "("}}}, r"is no regular expression"),
        ({"columns": {"close": {"column": "c", "pattern": "a(?=b)(c)"}}}, r"is no regular expression"),
        ({"columns": {"close": {"column": "c", "eval": "1+1"}}}, r"unknown key .*eval"),
    ],
)
def test_a_wrong_mapping_is_refused_with_its_key_and_what_exists(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidConfiguration, match=says):
        mapping(**change)


def test_a_mapping_that_cannot_be_read_lists_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration) as missing:
        Mapping.load(tmp_path / "none.toml")
    assert "cafef_daily" in missing.value.hint
    (tmp_path / "bad.toml").write_text("provider = ")
    with pytest.raises(InvalidConfiguration, match=r"bad.toml is not TOML"):
        Mapping.load(tmp_path / "bad.toml")


def test_a_missing_column_names_the_key_the_column_and_what_the_file_has(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text("symbol,date,open,high,low,close_price,volume\n")
    for ask in (lambda: request(path, mapping()), lambda: preview(path, mapping())):
        with pytest.raises(InvalidConfiguration, match=r"bars.close asks for column 'close'; did you mean") as error:
            ask()
        assert "close_price" in error.value.hint


def test_a_mapping_may_be_used_for_another_market_and_provider() -> None:
    other = Mapping.load("ohlcv", market="vn", provider="mybroker")
    assert (other.market, other.provider) == ("vn", "mybroker")


# --- values ----------------------------------------------------------------------------------------------------------


def test_rows_become_raw_rows_with_their_place_and_the_declared_units(tmp_path: Path) -> None:
    how = mapping(table={"units": {"price": 1000, "except": [{"symbols": "VN(INDEX|30)", "price": 1}]}}, market="vn")
    frame = bars(f"{HEAD}\nFPT,2024-01-02,10,12,9,11,5\nVNINDEX,2024-01-02,10,12,9,11,5\n", how, tmp_path)
    assert frame.schema == dict(RAW_FRAMES["bars"])
    assert frame.select("raw_symbol", "row", "close", "price_unit").rows() == [
        ("FPT", 0, 11.0, 1000.0),
        ("VNINDEX", 1, 11.0, 1.0),
    ]


def test_rows_carry_the_mappings_provider_through_the_request(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(f"{HEAD}\n{DAY}\n")
    asked = request(path, mapping())
    assert (asked.provider, asked.market, asked.dataset, asked.url) == ("mine", "us", "bars", "file:bars.csv")
    assert Request.from_json(asked.to_json()) == asked
    assert isinstance(FilesProvider(), Provider)


def test_a_file_dropped_twice_asks_the_same_question(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(f"{HEAD}\n{DAY}\n")
    first = request(path, mapping())
    path.write_bytes(path.read_bytes())
    assert request(path, mapping()) == first
    path.write_text(f"{HEAD}\n{DAY}1\n")
    assert request(path, mapping()) != first


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("1234.5", {}),
        ("1,234.5", {"thousands": ","}),
        ("1.234,5", {"decimal": ",", "thousands": "."}),
        ("1234,5", {"decimal": ","}),
    ],
)
def test_numbers_are_read_as_the_mapping_says(tmp_path: Path, text: str, form: dict[str, str]) -> None:
    body = f"{HEAD}\nAAPL,2024-01-02,1,1,1,{text},1".replace(",", ";", 99).replace(text.replace(",", ";"), text)
    frame = bars(body, mapping(file={"separator": ";"} | form), tmp_path)
    assert frame["close"].to_list() == [1234.5]


@pytest.mark.parametrize(
    ("text", "dates", "zone"),
    [
        ("2024-01-02", [], None),
        ("20240102", [], None),
        ("02/01/2024", ["%d/%m/%Y"], None),
        ("01/02/2024", ["%m/%d/%Y"], None),
        ("2024-01-02 00:00:00-0500", ["%Y-%m-%d %H:%M:%S%z"], None),
        ("1704225600", ["epoch_s"], None),  # 20:00 UTC: still the 2nd in New York
        ("1704225600000", ["epoch_ms"], None),
        ("2024-01-03 03:00", ["%Y-%m-%d %H:%M"], "Asia/Ho_Chi_Minh"),
        ("2024-01-02 23:30", ["%Y-%m-%d %H:%M"], None),
    ],
)
def test_dates_are_session_dates_of_the_exchange(tmp_path: Path, text: str, dates: list[str], zone: str | None) -> None:
    how = mapping(columns={"session": {"column": "date", "dates": dates}}, time_zone=zone)
    assert bars(f"{HEAD}\nAAPL,{text},10,12,9,11,1", how, tmp_path)["session"].to_list() == [dt.date(2024, 1, 2)]


def test_float32_prices_are_the_decimals_they_were_printed_from(tmp_path: Path) -> None:
    data = {"symbol": ["A"], "date": [dt.date(2024, 1, 2)], "volume": [7]}
    prices = {name: pl.Series([39.1], dtype=pl.Float32) for name in ("open", "high", "low", "close")}
    frame = bars(parquet(pl.DataFrame(data | prices)), mapping(), tmp_path, "bars.parquet")
    assert frame["close"].to_list() == [39.1]


def test_values_may_be_constants_parts_of_texts_names_of_files_and_sums(tmp_path: Path) -> None:
    how = mapping(
        columns={
            "symbol": {"file_name": "^([^_]+)_"},
            "currency": {"constant": "USD"},
            "volume": {"sum": ["matched", {"column": "put", "default": 0}]},
            "exchange": {"column": "venue", "map": {"1": "NYSE"}, "default": "NASDAQ"},
            "value": {"product": ["close", "matched"]},
            "adj_close": {"column": "adj", "optional": True},
        }
    )
    body = "date,open,high,low,close,matched,put,venue\n2024-01-02,1,1,1,2,10,5,1\n2024-01-03,1,1,1,2,10,,9\n"
    frame = bars(body, how, tmp_path, "AAPL_d.csv")
    assert frame.select("raw_symbol", "currency", "volume", "exchange", "value", "adj_close").rows() == [
        ("AAPL", "USD", 15.0, "NYSE", 20.0, None),
        ("AAPL", "USD", 10.0, "NASDAQ", 20.0, None),
    ]


def test_an_asset_makes_an_ambiguous_spelling_clear(tmp_path: Path) -> None:
    how = mapping(columns={"asset": {"constant": "INDEX"}}, market="vn")
    frame = bars(f"{HEAD}\nHNX,2024-01-02,10,12,9,11,5", how, tmp_path)
    assert clean_bars(frame, pulls(frame), market("vn"), days("vn")).accepted["symbol"].to_list() == [
        "VN:INDEX:HNXINDEX"
    ]


def test_closes_alone_make_a_flat_bar_and_a_note(tmp_path: Path) -> None:
    columns = {"symbol": "symbol", "session": "date", "close": "close"}
    table = {"dataset": "bars", "close_only": True, "columns": columns}
    how = Mapping.parse({"provider": "mine", "market": "us", "table": [table]})
    parsed = parse("symbol,date,close\nAAPL,2024-01-02,11\n", how, tmp_path)
    assert parsed.frames["bars"].select("open", "high", "low", "close").rows() == [(11.0,) * 4]
    assert any("closes only" in note for note in parsed.notes)


def test_later_splits_turn_split_adjusted_prices_back_to_traded_ones(tmp_path: Path) -> None:
    body = (
        "symbol,date,Open,High,Low,Close,Adj Close,Volume,Dividends,Stock Splits\n"
        "AAPL,2024-01-02,10,10,10,10,9,400,0.5,0\nAAPL,2024-01-03,10,10,10,10,10,400,0,4\n"
        "MSFT,2024-01-02,10,10,10,10,9,400,0,0\n"
    )
    parsed = parse(body, Mapping.load("yahoo_history"), tmp_path)
    raw = parsed.frames["bars"]
    clean = clean_bars(raw, pulls(raw), market("us"), days()).accepted
    assert clean.select("close", "volume", "price_basis").rows() == [
        (40.0, 100, "raw"),
        (10.0, 400, "raw"),
        (10.0, 400, "raw"),
    ]
    events = parsed.frames["actions"]
    assert events.select("event_type", "cash", "split_ratio", "basis_factor").rows() == [
        ("cash", 0.5, 1.0, 4.0),
        ("split", 0.0, 4.0, 1.0),
    ]
    assert events["row"].is_unique().all()


def test_adjusted_prices_stay_adjusted_when_nobody_says_by_what(tmp_path: Path) -> None:
    body = "Date,Open,High,Low,Close,Volume\n2024-01-02,10,12,9,11,1000\n"
    frame = bars(body, Mapping.load("stooq_csv"), tmp_path, "aapl_us_d.csv")
    clean = clean_bars(frame, pulls(frame), market("us"), days()).accepted
    assert clean.select("symbol", "price_basis").rows() == [("US:STOCK:AAPL", "adjusted_by_source")]


# --- corporate actions -----------------------------------------------------------------------------------------------

EVENTS = """symbol,type,effectiveDate,content,dividend,ratio
FPT,DIVIDEND,2024-01-02,Trả cổ tức (1000 đ/cp),1000,10
FPT,STOCKDIV,2024-01-02,"Tỷ lệ 100:8.125",,8.13
FPT,KINDDIV,2024-01-03,"Tỷ lệ 5:1",,20
FPT,ISSUE,2024-01-04,"Tỷ lệ 2:1, giá 12.500 đ/cp",,50
FPT,ISSUE,2024-01-05,"Tỷ lệ 2:1, giá 12.500 đ/cp",,8.4
FPT,ISSUE,2024-01-08,"cho CBCNV, giá 12500 đ/cp",,5
FPT,MEETING,2024-01-09,Họp cổ đông,,
"""


def test_events_are_told_apart_and_what_is_not_certain_is_quarantined(tmp_path: Path) -> None:
    parsed = parse(EVENTS, Mapping.load("vndirect_events"), tmp_path)
    raw = parsed.frames["actions"]
    assert raw.select("event_type", "cash", "bonus_ratio", "rights_ratio", "rights_price").rows() == [
        ("cash", 1000.0, None, None, None),
        ("stock_dividend", None, 0.08125, None, None),
        ("bonus", None, 0.2, None, None),
        ("rights", None, None, 0.5, 12500.0),
        ("unknown", None, None, None, None),  # text and column contradict each other
        ("unknown", None, None, None, None),  # for the staff, not for holders
    ]
    cleaned = clean_actions(raw, pulls(raw), market("vn"))
    assert (cleaned.accepted.height, cleaned.quarantined.height) == (4, 2)
    assert cleaned.reasons()["unknown_event_type"] == 2
    assert any("6 of 7 rows" in note and "MEETING 1" in note for note in parsed.notes)


def test_two_events_of_one_row_are_two_rows(tmp_path: Path) -> None:
    body = (
        "symbol,date,Open,High,Low,Close,Volume,Ex-Dividend,Split Ratio,Adj. Close\n"
        "AAPL,2024-01-02,1,1,1,1,1,0.5,2,1\nAAPL,2024-01-03,1,1,1,1,1,0,1,1\n"
    )
    events = parse(body, Mapping.load("wiki_prices"), tmp_path).frames["actions"]
    assert events.select("row", "event_type").rows() == [(0, "cash"), (2, "split")]


def test_a_plain_table_of_actions_needs_no_event_rules(tmp_path: Path) -> None:
    how = actions(
        {
            "symbol": "symbol",
            "ex_date": "date",
            "event_type": {"column": "kind", "map": {"D": "cash", "B": "bonus"}},
            "cash": {"column": "percent_of_par", "scale": 100},
            "bonus_ratio": {"column": "terms", "terms": r"(\d+):(\d+)"},
        }
    )
    body = "symbol,date,kind,percent_of_par,terms\nFPT,2024-01-02,D,10,\nFPT,2024-01-03,B,,10:3\nFPT,2024-01-04,?,,\n"
    raw = parse(body, how, tmp_path).frames["actions"]
    assert raw.select("event_type", "cash", "bonus_ratio").rows() == [
        ("cash", 1000.0, None),
        ("bonus", None, 0.3),
        (None, None, None),
    ]


# --- bad input -------------------------------------------------------------------------------------------------------


def test_another_encoding_is_named_with_the_byte_and_the_one_that_fits(tmp_path: Path) -> None:
    body = f"{HEAD},name\n{DAY},Công ty cổ phần Đức\n".encode("cp1258", errors="ignore")
    with pytest.raises(Malformed, match=r"not utf-8: byte 0xf4 at position \d+ \(line 2\)") as error:
        parse(body, mapping(), tmp_path)
    assert "windows-1258" in error.value.hint
    assert bars(body, mapping(file={"encoding": "windows-1258"}), tmp_path).height == 1


def test_utf8_declared_as_windows_1258_is_refused_instead_of_garbled(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match="the file is utf-8, the mapping says windows-1258"):
        parse(f"{HEAD}\nCông,2024-01-02,1,1,1,1,1", mapping(file={"encoding": "windows-1258"}), tmp_path)


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_the_data(tmp_path: Path) -> None:
    body = b"\xef\xbb\xbf" + f"{HEAD}\r\n{DAY}\r\n".encode()
    assert bars(body, mapping(), tmp_path)["raw_symbol"].to_list() == ["AAPL"]


def test_a_truncated_parquet_is_named_as_such(tmp_path: Path) -> None:
    names = {key: [str(number) for number in range(1000)] for key in HEAD.split(",")}
    whole = parquet(pl.DataFrame(names))
    for length in (5, len(whole) // 2, len(whole) - 1):
        with pytest.raises(Malformed, match="cut off"):
            parse(whole[:length], mapping(), tmp_path, "bars.parquet")
    damaged = whole[:4] + b"\x00" * 1000 + whole[1004:]
    with pytest.raises(Malformed, match="damaged"):
        parse(damaged, mapping(), tmp_path, "bars.parquet")


@pytest.mark.parametrize("body", [b"", b"\n\n", b"PK\x03\x04rest", b"\x1f\x8brest"])
def test_what_is_no_table_is_malformed(body: bytes, tmp_path: Path) -> None:
    with pytest.raises(Malformed):
        parse(body, mapping(), tmp_path)


def test_ragged_lines_are_quarantined_with_their_row_and_text(tmp_path: Path) -> None:
    body = f"{HEAD}\n{DAY}\nAAPL,2024-01-03,10,12\n\nAAPL,2024-01-04,10,12,9,11,5\nAAPL,2024-01-05,1,1,1,1,1,1,1\n"
    parsed = parse(body, mapping(), tmp_path)
    raw = parsed.frames["bars"]
    assert raw.select("row", "raw_symbol", "close").rows() == [
        (0, "AAPL", 11.0),
        (1, "AAPL,2024-01-03,10,12", None),
        (2, "AAPL", 11.0),
        (3, "AAPL,2024-01-05,1,1,1,1,1,1,1", None),
    ]
    cleaned = clean_bars(raw, pulls(raw), market("us"), days())
    assert cleaned.quarantined["payload_row"].to_list() == [1, 3]
    assert cleaned.accepted.height + cleaned.quarantined.height == 4
    assert any("2 lines have not the header's 7 fields" in note for note in parsed.notes)


def test_quoted_fields_may_hold_separators_and_line_breaks(tmp_path: Path) -> None:
    body = 'code,name\nAAA,"Nhựa, xanh"\nBBB,"two\nlines"\nCCC,plain\n'
    columns = {"symbol": "code", "name": "name"}
    how = Mapping.parse({"provider": "mine", "market": "vn", "table": [{"dataset": "instruments", "columns": columns}]})
    frame = parse(body, how, tmp_path).frames["instruments"]
    assert frame.select("raw_symbol", "name").rows() == [
        ("AAA", "Nhựa, xanh"),
        ("BBB", "two\nlines"),
        ("CCC", "plain"),
    ]


def test_a_cell_that_cannot_be_read_is_missing_and_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(f"{HEAD}\n{DAY}\nAAPL,2024-01-03,10,12,9,eleven,many\nAAPL,03.01.2024,10,12,9,11,\n")
    shown = preview(path, mapping())
    assert set(shown.rejected.select("row", "reason", "text").rows()) == {
        (1, "close cannot be read", "eleven"),
        (1, "volume cannot be read", "many"),
        (2, "session cannot be read", "03.01.2024"),
    }
    raw = shown.after["bars"]
    cleaned = clean_bars(raw, pulls(raw), market("us"), days())
    assert cleaned.reasons() == {"missing_price": 1, "missing_date": 1}


def test_a_preview_shows_rows_before_and_after(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text("\n".join([HEAD, *[DAY] * 20]))
    shown = preview(path, mapping(), rows=3)
    assert shown.before.height == shown.after["bars"].height == 3
    assert shown.before.columns == ["row", *HEAD.split(",")]
    assert shown.rows == {"file": 20, "bars": 20}


def test_a_file_that_is_not_there_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        request(tmp_path / "none.csv", mapping())


@pytest.mark.anyio
async def test_a_file_that_changed_since_it_was_asked_for_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(f"{HEAD}\n{DAY}\n")
    asked, provider = request(path, mapping()), FilesProvider(folder=tmp_path, clock=lambda: NOW)
    assert provider.parse(await provider.fetch(asked)).rows == 1
    path.write_text(f"{HEAD}\n")
    with pytest.raises(Malformed, match="has changed"):
        provider.parse(await provider.fetch(asked))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


_LOOSE = mapping(
    columns={name: {"column": name, "optional": True} for name in [*HEAD.split(",")[2:], "symbol"]}
    | {"session": {"column": "date", "optional": True}}
)


@settings(max_examples=150, deadline=None)
@given(body=st.binary(max_size=300) | st.text(alphabet='A1,"\n\r;.é\x00', max_size=200).map(str.encode))
def test_any_bytes_are_rows_or_a_provider_error(body: bytes) -> None:
    asked = Request("mine", "bars", "us", None, None, None, None, url="file:x", params={"mapping": _LOOSE.to_json()})
    try:
        parsed = FilesProvider().parse(Payload(asked, 200, body, NOW))
    except ProviderError:
        return
    lines = [line for line in body.decode().splitlines() if line.strip()]
    assert parsed.rows <= max(len(lines), 1)


field = st.sampled_from(["1", "2.5", "x", "", "AAPL", "2024-01-02", "-"])


@settings(max_examples=80, deadline=None)
@given(lines=st.lists(st.lists(field, min_size=2, max_size=9), max_size=12))
def test_every_line_of_a_file_becomes_exactly_one_row_in_order(lines: list[list[str]]) -> None:
    body = "\n".join([HEAD, *(",".join(line) for line in lines)]).encode()
    asked = Request("mine", "bars", "us", None, None, None, None, url="file:x", params={"mapping": mapping().to_json()})
    frame = FilesProvider().parse(Payload(asked, 200, body, NOW)).frames["bars"]
    assert frame["row"].to_list() == list(range(len(lines)))
    sound = pl.Series([len(line) == 7 for line in lines], dtype=pl.Boolean)
    unread = frame.filter(~sound).select("session", "close")
    assert unread.null_count().row(0) == (unread.height, unread.height)


# --- real layouts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "name", "dataset"),
    [
        ("vn_index_daily", "vn_index_bars", "bars"),
        ("vn_listing_cafef", "cafef_listing", "instruments"),
        ("vn_listing_sectors", "vn_listing", "instruments"),
        ("vn_vndirect_events", "vndirect_events", "actions"),
        ("vn_vndirect_close_asof_2021_02", "vndirect_closes", "bars"),
        ("us_lean_daily_raw", "lean_daily", "bars"),
        ("us_quandl_wiki_aapl_msft", "wiki_prices", "bars"),
        ("cn_hikyuu_daily_raw_8", "hikyuu_daily", "bars"),
        ("vn_cafef_daily", "cafef_daily", "bars"),
    ],
)
def test_real_layouts_map_every_row(shared_data: Path, file: str, name: str, dataset: str) -> None:
    path = shared_data / f"{file}.parquet"
    how = Mapping.load(name)
    frame = FilesProvider().parse(read(path, how, NOW)).frames[dataset]  # type: ignore[index]
    if dataset == "actions":
        assert (frame["event_type"] == "unknown").mean() < 0.02
    else:
        assert frame.height == pl.scan_parquet(path).select(pl.len()).collect().item()
    assert (frame["raw_symbol"] != "").all()


@pytest.mark.parametrize("name", ["cafef_daily", "vndirect_closes", "vndirect_events"])
def test_real_layouts_are_recognised_by_their_columns(shared_data: Path, name: str) -> None:
    files = {
        "cafef_daily": "vn_cafef_daily",
        "vndirect_closes": "vn_vndirect_close_asof_2021_02",
        "vndirect_events": "vn_vndirect_events",
    }
    assert guess(shared_data / f"{files[name]}.parquet") == Mapping.load(name)


def test_cafef_prices_are_in_vnd_and_its_index_in_points(shared_data: Path) -> None:
    how = Mapping.load("cafef_daily")
    raw = FilesProvider().parse(read(shared_data / "vn_cafef_daily.parquet", how, NOW)).frames["bars"]
    day = raw.filter(pl.col("session") == dt.date(2025, 8, 22), pl.col("raw_symbol").is_in(["FPT", "VNINDEX"]))
    prices = dict(day.select("raw_symbol", pl.col("close") * pl.col("price_unit")).iter_rows())
    assert prices["FPT"] == 99_000.0
    assert 1_000 < prices["VNINDEX"] < 2_000
