"""What a user of the bundled sample can rely on."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import re
import socket
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from vprism_pipelines import tables
from vprism_pipelines.errors import InvalidInput, InvalidRange, Malformed, NoData, NotFound, ProviderError, Unavailable
from vprism_pipelines.market.adjustment import adjusted, factor_sets
from vprism_pipelines.market.symbols import resolve_frame
from vprism_pipelines.providers import sample_build
from vprism_pipelines.providers.base import Parsed, Payload, Provider, Request
from vprism_pipelines.providers.registry import create
from vprism_pipelines.providers.sample import SampleProvider, sample_file
from vprism_pipelines.providers.sample_build import build
from vprism_pipelines.quality.contracts import violations

NOW = datetime(2026, 11, 20, 22, tzinfo=UTC)
FIRST, LAST = date(2000, 3, 1), date(2013, 3, 1)
ROWS = {"AAPL": 3270, "FB": 196, "GOOG": 2148, "IBM": 3270, "MSFT": 3270}
SAMPLE = SampleProvider(clock=lambda: NOW)


def asked(*codes: str, start: date = FIRST, end: date = LAST) -> Payload:
    (request,) = SAMPLE.plan("us", "bars", [f"US:STOCK:{code}" for code in codes], start, end, NOW)
    return asyncio.run(SAMPLE.fetch(request))


@pytest.fixture(scope="module")
def everything() -> Parsed:
    return SAMPLE.parse(asked(*ROWS))


def test_it_is_a_provider_without_network_key_or_change() -> None:
    offered = SAMPLE.capabilities()
    assert isinstance(create("sample", None), Provider)
    assert (offered.name, offered.price_basis, offered.licence) == ("sample", "raw", "public domain")
    assert offered.immutable
    assert not offered.needs_network
    assert offered.needs_key is None
    assert not offered.synthetic


def test_one_request_asks_for_all_symbols() -> None:
    symbols = ["US:STOCK:AAPL", "US:STOCK:IBM", "US:STOCK:AAPL"]
    (request,) = SAMPLE.plan("US", "bars", symbols, date(2005, 1, 3), date(2005, 1, 31), NOW)
    assert request.symbol is None
    assert request.params == {"symbols": "US:STOCK:AAPL,US:STOCK:IBM"}
    assert Request.from_json(request.to_json()) == request
    assert SAMPLE.plan("us", "bars", [], FIRST, LAST, NOW) == []
    with pytest.raises(InvalidRange):
        SAMPLE.plan("us", "bars", symbols, LAST, FIRST, NOW)
    with pytest.raises(InvalidInput):
        SAMPLE.plan("vn", "bars", symbols, FIRST, LAST, NOW)
    with pytest.raises(InvalidInput):
        SAMPLE.plan("us", "ticks", symbols, FIRST, LAST, NOW)


def test_a_payload_is_the_file_and_is_stamped_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the sample opened a socket")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    answer = asked("AAPL")
    assert answer.body == sample_file().read_bytes()
    assert (answer.status, answer.fetched_at) == (200, NOW)


def test_all_of_it_keeps_the_contract(everything: Parsed) -> None:
    bars, actions = everything.frames["bars"], everything.frames["actions"]
    assert violations(tables.RAW_BARS, bars).is_empty()
    assert violations(tables.RAW_ACTIONS, actions).is_empty()
    assert dict(bars.group_by("raw_symbol").len().iter_rows()) == ROWS
    assert (bars["session"].min(), bars["session"].max()) == (FIRST, LAST)
    assert bars.select("raw_symbol", "session").is_unique().all()
    for column, only in {"price_basis": "raw", "currency": "USD", "basis_factor": 1.0, "live": False}.items():
        assert bars[column].unique().to_list() == [only]
    assert bars.select(pl.col("volume").fill_null(-1).min()).item() >= 0


def test_a_row_is_traced_to_its_place_in_the_file(everything: Parsed) -> None:
    table = pl.read_parquet(sample_file())
    bar = everything.frames["bars"].filter(raw_symbol="MSFT", session=date(2004, 11, 15)).row(0, named=True)
    source = table.row(bar["row"], named=True)
    assert (source["symbol"], source["date"], source["Close"]) == ("MSFT", date(2004, 11, 15), bar["close"])


def test_known_splits_and_dividends_are_inferred_and_say_so(everything: Parsed) -> None:
    actions = everything.frames["actions"]
    assert actions["inferred"].all()
    assert actions["detail"].str.contains("inferred").all()
    splits = actions.filter(event_type="split").select("raw_symbol", "ex_date", "split_ratio").rows()
    assert splits == [
        ("AAPL", date(2000, 6, 21), 2.0),
        ("AAPL", date(2005, 2, 28), 2.0),
        ("MSFT", date(2003, 2, 18), 2.0),
    ]
    cash = {(symbol, day): amount for symbol, day, amount in actions.select("raw_symbol", "ex_date", "cash").rows()}
    assert cash["MSFT", date(2004, 11, 15)] == pytest.approx(3.08)
    assert cash["AAPL", date(2012, 8, 9)] == pytest.approx(2.65)
    assert cash["IBM", date(2000, 5, 8)] == pytest.approx(0.13)
    assert not {symbol for symbol, _ in cash} & {"FB", "GOOG"}, "they neither paid nor split in these years"


def test_the_actions_give_the_adjusted_closes_back_but_for_what_came_after(everything: Parsed) -> None:
    bars = everything.frames["bars"].rename({"raw_symbol": "symbol"})
    steps = factor_sets(everything.frames["actions"].rename({"raw_symbol": "symbol"}), bars, "USD").steps
    ratio = (
        adjusted(bars, steps, "qfq", "ex_close")
        .join(bars.select("symbol", "session", "adj_close"), on=["symbol", "session"])
        .group_by("symbol")
        .agg(low=(pl.col("adj_close") / pl.col("close")).min(), high=(pl.col("adj_close") / pl.col("close")).max())
    )
    assert ratio.height == len(ROWS)
    assert ratio.select((pl.col("high") / pl.col("low") - 1).max()).item() < 1e-9


def test_actions_are_inferred_from_the_whole_history_whatever_the_window() -> None:
    parsed = SAMPLE.parse(asked("MSFT", start=date(2004, 11, 15), end=date(2004, 11, 15)))
    assert parsed.frames["bars"].height == 1
    first = parsed.frames["actions"].row(0, named=True)
    assert (first["ex_date"], first["cash"]) == (date(2004, 11, 15), pytest.approx(3.08))


@settings(max_examples=25, deadline=None)
@given(
    codes=st.lists(st.sampled_from(sorted(ROWS)), min_size=1, unique=True),
    start=st.dates(date(2000, 1, 1), date(2014, 1, 1)),
    days=st.integers(0, 1500),
)
def test_exactly_the_symbols_and_sessions_asked_for_are_returned(codes: list[str], start: date, days: int) -> None:
    end = date.fromordinal(start.toordinal() + days)
    expected = pl.read_parquet(sample_file()).filter(
        pl.col("symbol").is_in(codes), pl.col("date").is_between(start, end)
    )
    try:
        bars = SAMPLE.parse(asked(*codes, start=start, end=end)).frames["bars"]
    except NoData:
        assert expected.is_empty()
        return
    assert bars.select("raw_symbol", "session", "close").rows() == expected.select("symbol", "date", "Close").rows()


def test_tickers_of_the_time_are_found_under_todays_symbols() -> None:
    for today, then in (("META", "FB"), ("GOOGL", "GOOG")):
        bars = SAMPLE.parse(asked(today)).frames["bars"]
        assert bars["raw_symbol"].unique().to_list() == [then]
        assert bars.equals(SAMPLE.parse(asked(then)).frames["bars"].with_columns(bars["fetch_id"]))
        canonical = resolve_frame(bars, market="us", as_of="session")["symbol"].unique().to_list()
        assert canonical == [f"US:STOCK:{today}"]
        both = SAMPLE.parse(asked(today, then)).frames["bars"]
        assert both.height == bars.height, "two names of one instrument are one series"


def test_unknown_symbols_are_not_found_and_the_answer_names_what_there_is() -> None:
    with pytest.raises(NotFound) as caught:
        SAMPLE.parse(asked("TSLA", "NVDA"))
    assert "US:STOCK:TSLA" in caught.value.message
    assert "US:STOCK:AAPL" in caught.value.hint
    parsed = SAMPLE.parse(asked("AAPL", "TSLA", "FB", start=FIRST, end=date(2000, 3, 31)))
    assert parsed.frames["bars"]["raw_symbol"].unique().to_list() == ["AAPL"]
    assert any("TSLA" in note for note in parsed.notes)
    assert any("FB" in note for note in parsed.notes)


def test_a_window_without_sessions_has_no_data() -> None:
    for start, end in ((date(2014, 1, 1), date(2014, 2, 1)), (date(2005, 1, 1), date(2005, 1, 2))):
        with pytest.raises(NoData, match="no session") as caught:
            SAMPLE.parse(asked("AAPL", start=start, end=end))
        assert str(LAST) in caught.value.hint


def test_a_missing_file_is_unavailable(tmp_path: Path) -> None:
    gone = SampleProvider(clock=lambda: NOW, path=tmp_path / "gone.parquet")
    (request,) = gone.plan("us", "bars", ["US:STOCK:AAPL"], FIRST, LAST, NOW)
    with pytest.raises(Unavailable, match=re.escape(str(tmp_path))):
        gone.parse(asyncio.run(gone.fetch(request)))


def test_whatever_is_not_the_sample_is_a_typed_error() -> None:
    answer = asked("AAPL")
    buffer = io.BytesIO()
    pl.DataFrame({"symbol": [1]}).write_parquet(buffer)
    for body in (buffer.getvalue(), b"PAR1", b"not a table", b""):
        with pytest.raises(Malformed):
            SAMPLE.parse(Payload(answer.request, 200, body, NOW))


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 263_000), junk=st.binary(min_size=1, max_size=64), cut=st.booleans())
def test_a_damaged_file_is_a_typed_error_or_still_keeps_the_contract(at: int, junk: bytes, cut: bool) -> None:
    answer = asked("IBM")
    body = answer.body[:at] + junk + (b"" if cut else answer.body[at + len(junk) :])
    try:
        parsed = SAMPLE.parse(Payload(answer.request, 200, body, NOW))
    except ProviderError:
        return
    assert violations(tables.RAW_BARS, parsed.frames["bars"]).is_empty()


@pytest.mark.parametrize("wrong", [float("inf"), 1e308])
def test_adjusted_closes_that_no_cash_explains_are_refused(wrong: float) -> None:
    answer = asked("IBM")
    table = pl.read_parquet(answer.body)
    newest = pl.int_range(pl.len()) == table.height - 1
    buffer = io.BytesIO()
    table.with_columns(pl.when(newest).then(wrong).otherwise("Adj Close").alias("Adj Close")).write_parquet(buffer)
    with pytest.raises(Malformed):
        SAMPLE.parse(Payload(answer.request, 200, buffer.getvalue(), NOW))


def test_the_readme_states_the_hash_of_the_file() -> None:
    digest = hashlib.sha256(sample_file().read_bytes()).hexdigest()
    assert digest in (ROOT / "data" / "sample" / "README.md").read_text()


def test_the_sample_is_built_from_its_source_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "stocks.csv.gz", tmp_path / "out" / "sample.parquet"
    rows = ("MSFT,2013-03-01,27.72,27.98,27.52,27.95,34849700,24.684342419163", "FB,2013-03-01,27,28,27,27.78,1,27.78")
    source.write_bytes(gzip.compress("\n".join(("Ticker,Date,Open,High,Low,Close,Volume,Adj Close", *rows)).encode()))
    with pytest.raises(InvalidInput) as caught:
        build(source, target)
    assert "bokeh_sampledata" in caught.value.hint
    assert not target.exists()
    monkeypatch.setattr(sample_build, "SOURCE_SHA256", hashlib.sha256(source.read_bytes()).hexdigest())
    build(source, target)
    provider = SampleProvider(clock=lambda: NOW, path=target)
    (request,) = provider.plan("us", "bars", ["US:STOCK:MSFT", "US:STOCK:META"], FIRST, LAST, NOW)
    bars = provider.parse(asyncio.run(provider.fetch(request))).frames["bars"]
    assert bars.select("raw_symbol", "close", "adj_close").rows() == [
        ("FB", 27.78, 27.78),
        ("MSFT", 27.95, 24.684342419163),
    ]


@pytest.mark.shared
def test_the_sample_is_what_its_source_published(shared_data: Path) -> None:
    source = shared_data / "us_bokeh_2026_1_wiki5_public_domain.parquet"
    if not source.is_file():
        pytest.skip("needs the table extracted from bokeh_sampledata")
    assert pl.read_parquet(sample_file()).equals(pl.read_parquet(source))
