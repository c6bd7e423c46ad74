"""Quotes and single trades: whose they are, what is no quote, and that they are kept as they came."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from tests.house import Bench
from vprism_pipelines import tables
from vprism_pipelines.market.spec import MarketSpec, market
from vprism_pipelines.providers.base import Dataset, Payload, Request, raw_frame
from vprism_pipelines.quality.revisions import classify_terms
from vprism_pipelines.quality.rows import Cleaned
from vprism_pipelines.warehouse import ledger
from vprism_pipelines.warehouse.ingest import clean_raw
from vprism_pipelines.warehouse.lake import Lake

US, VN = market("us"), market("vn")
AT = datetime(2026, 11, 20, 21, tzinfo=UTC)
READ = AT + timedelta(hours=1)


def quote(**fields: Any) -> dict[str, Any]:
    plain = {"raw_symbol": "AAPL", "instant": AT, "last": 244.6, "bid": 244.4, "ask": 244.8, "reference": 241.53}
    return plain | {"volume": 40896227.0, "delayed": False} | fields


def tick(seq: int = 1, **fields: Any) -> dict[str, Any]:
    plain = {"raw_symbol": "AAPL", "instant": AT, "seq": seq, "price": 244.6, "volume": 100.0, "side": "buy"}
    return plain | fields


def cleaned(
    dataset: Dataset, rows: Sequence[dict[str, Any]], spec: MarketSpec = US, at: datetime = READ, fetch_id: str = "f"
) -> Cleaned:
    payload = Payload(Request("one", dataset, spec.code, None, None, None, None), 200, b"", at, fetch_id=fetch_id)
    raw = raw_frame(dataset, pl.DataFrame(rows, infer_schema_length=None), payload)
    pulls = pl.DataFrame({"fetch_id": [fetch_id], "provider": ["one"], "fetched_at": [at]})
    return clean_raw(raw, pulls.with_columns(pl.col("fetched_at").cast(pl.Datetime("us", "UTC"))), spec, dataset)


def test_a_quote_is_in_currency_units_with_its_change_against_the_reference() -> None:
    rows = cleaned(
        "quotes",
        [quote(raw_symbol="FPT", last=131.0, bid=0.0, ask=131.1, reference=130.0, price_unit=1000.0, value=1742.3,
               value_unit=1e6, volume=13_300.0, delayed=None)],
        VN,
    ).accepted  # fmt: skip
    assert rows.select("symbol", "last", "bid", "ask", "volume", "value", "currency", "delayed").rows() == [
        ("VN:STOCK:FPT", 131_000.0, None, 131_100.0, 13_300, 1_742_300_000.0, "VND", None)
    ]
    assert rows["change"].item() == pytest.approx(1 / 130)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"instant": None}, "missing_time"),
        ({"instant": READ + timedelta(hours=1)}, "from_the_future"),
        ({"last": None}, "missing_price"),
        ({"last": 0.0}, "price_not_positive"),
        ({"last": float("nan")}, "price_not_finite"),
        ({"volume": -1.0}, "negative_volume"),
        ({"currency": "dollars"}, "unknown_currency"),
        ({"raw_symbol": "EURUSD=X"}, "unknown_symbol"),
    ],
)
def test_what_is_no_quote_is_set_aside_with_the_reason(broken: dict[str, Any], reason: str) -> None:
    found = cleaned("quotes", [quote(raw_symbol="MSFT"), quote(**broken)])
    assert found.accepted["symbol"].to_list() == ["US:STOCK:MSFT"]
    assert reason in found.quarantined["reasons"].item()


@pytest.mark.parametrize(
    ("broken", "reason"),
    [({"seq": None}, "missing_seq"), ({"volume": 0.0}, "no_volume"), ({"price": -1.0}, "price_not_positive")],
)
def test_what_is_no_trade_is_set_aside_with_the_reason(broken: dict[str, Any], reason: str) -> None:
    found = cleaned("ticks", [tick(1), tick(2) | broken])
    assert found.accepted["seq"].to_list() == [1]
    assert reason in found.quarantined["reasons"].item()


def test_trades_of_one_instant_are_told_apart_by_their_number_and_a_page_read_twice_counts_once() -> None:
    found = cleaned("ticks", [tick(1), tick(2), tick(2), tick(3, side="whoever")])
    assert found.accepted.select("seq", "side").rows() == [(1, "buy"), (2, "buy"), (3, None)]
    assert found.reasons() == {"duplicate": 1}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with Bench(Lake(tmp_path_factory.mktemp("lake"))) as made:
        yield made


def test_every_instant_quoted_is_kept_and_one_quoted_again_costs_nothing(bench: Bench) -> None:
    told = [quote(), quote(), quote(instant=AT + timedelta(minutes=1), last=245.0)]
    for number, said in enumerate(told):
        rows = cleaned("quotes", [said], at=READ + timedelta(minutes=number), fetch_id=f"f{number}").accepted
        ledger.remember(bench.connection, ledger.QUOTES, rows, number, classify_terms)
    assert bench.frame("SELECT last FROM clean.quotes ORDER BY instant").rows() == [(244.6,), (245.0,)]
    before = f"TIMESTAMPTZ '{READ + timedelta(minutes=1)}'"
    assert bench.frame(f"SELECT last FROM clean.quotes_as_of({before})").rows() == [(244.6,)]


def test_a_whole_session_of_trades_is_remembered_once_however_often_it_is_read(bench: Bench) -> None:
    session = [tick(n, instant=AT + timedelta(milliseconds=n), volume=100.0 * n) for n in range(1, 2_001)]
    for number in range(2):
        rows = cleaned("ticks", session, at=READ + timedelta(minutes=number), fetch_id=f"f{number}").accepted
        done = ledger.remember(bench.connection, ledger.TICKS, rows, number, classify_terms)
        assert (done.new, done.unchanged) == ((2_000, 0) if number == 0 else (0, 2_000))
    assert bench.frame("SELECT count(*), sum(volume) FROM clean.ticks").row(0) == (2_000, 100 * 2_000 * 2_001 // 2)
    assert set(tables.CLEAN_TICKS.names) - {"known_to"} == set(bench.frame("FROM clean.ticks LIMIT 0").columns)


def test_the_session_of_what_was_set_aside_is_the_exchange_s_own_day() -> None:
    after_midnight = datetime(2026, 11, 20, 2, 30, tzinfo=UTC)  # 09:30 in Vietnam, the evening before in New York
    for spec, symbol, day in ((VN, "FPT", date(2026, 11, 20)), (US, "AAPL", date(2026, 11, 19))):
        found = cleaned("ticks", [tick(raw_symbol=symbol, instant=after_midnight, price=0.0)], spec)
        assert found.quarantined["session"].to_list() == [day]
