"""What a user of the two simulated vendors can rely on: known flaws of a known truth, told in two formats."""

from __future__ import annotations

import asyncio
import re
import socket
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vprism_pipelines import tables
from vprism_pipelines.errors import InvalidInput, InvalidRange, Malformed, NoData, NotFound, ProviderError, Unavailable
from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.market.spec import VN
from vprism_pipelines.providers.base import Dataset, Parsed, Payload, Provider, Request, empty_raw
from vprism_pipelines.providers.simulated import INDEX, Exchange, SimulatedBProvider, SimulatedProvider
from vprism_pipelines.providers.simulated.views import BLACKOUTS, CORRECTED, HOLES
from vprism_pipelines.quality.contracts import violations
from vprism_pipelines.quality.rows import Cleaned, clean_bars

START, SEED, SIZE = date(2024, 1, 2), 5, 90
NOW = datetime(2025, 6, 16, 12, tzinfo=UTC)  # a Monday evening in Vietnam
TODAY = date(2025, 6, 16)
KEY = ["symbol", "session"]
PRICES = ["open", "high", "low", "close"]
Vendor = type[SimulatedProvider] | type[SimulatedBProvider]
BOTH = pytest.mark.parametrize("vendor", [SimulatedProvider, SimulatedBProvider])
TRUTH = Exchange(SEED, SIZE, START, TODAY)


def provider(vendor: Vendor, now: datetime = NOW) -> SimulatedProvider | SimulatedBProvider:
    return vendor(clock=lambda: now, seed=SEED, symbols=SIZE, start=START)


def pull(
    vendor: Vendor,
    start: date = START,
    end: date = TODAY,
    now: datetime = NOW,
    symbols: list[str] | None = None,
    dataset: Dataset = "bars",
) -> list[Payload]:
    source = provider(vendor, now)
    requests = source.plan("vn", dataset, symbols or TRUTH.symbols, start, end, now)
    return [asyncio.run(source.fetch(request)) for request in requests]


def rows(payloads: list[Payload], dataset: Dataset = "bars") -> pl.DataFrame:
    """Parsed rows with canonical symbols."""
    parsed = []
    for payload in payloads:
        try:
            parsed.append(provider(_vendor(payload)).parse(payload))
        except NoData:
            continue
    frames = [empty_raw(dataset), *(each.frames[dataset] for each in parsed if dataset in each.frames)]
    return pl.concat(frames).with_columns(symbol="VN:STOCK:" + pl.col("raw_symbol"))


def _vendor(payload: Payload) -> Vendor:
    return SimulatedProvider if payload.request.provider == "simulated" else SimulatedBProvider


def cleaned(payloads: list[Payload]) -> Cleaned:
    """The bars as the pipeline would accept them."""
    raw = rows(payloads).drop("symbol")
    pulls = pl.DataFrame(
        [(p.fetch_id, p.request.provider, p.fetched_at) for p in payloads],
        schema={"fetch_id": pl.String, "provider": pl.String, "fetched_at": pl.Datetime("us", "UTC")},
        orient="row",
    )
    days = [calendar(name).sessions(START, TODAY).with_columns(calendar=pl.lit(name)) for name in ("XSTC", "HSTC")]
    return clean_bars(raw, pulls, VN, pl.concat(days), synthetic=True)


@pytest.fixture(scope="module")
def told_by_a() -> list[Payload]:
    return pull(SimulatedProvider)


@pytest.fixture(scope="module")
def told_by_b() -> list[Payload]:
    return pull(SimulatedBProvider)


@pytest.fixture(scope="module")
def truth() -> pl.DataFrame:
    return TRUTH.bars()


# --- both ------------------------------------------------------------------------------------------------------------


@BOTH
def test_a_vendor_is_an_embedded_synthetic_provider(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the simulation opened a socket")

    offered = vendor().capabilities()
    assert isinstance(vendor(), Provider)
    assert "synthetic" in offered.title
    assert (offered.markets, offered.needs_network, offered.needs_key) == (("vn",), False, None)
    assert offered.synthetic
    assert not offered.immutable, "late corrections and rebases have to be asked for"
    assert 25 <= len(offered.universe) <= 40
    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert pull(vendor, date(2025, 6, 2))[0].status == 200


@BOTH
def test_one_request_a_month_asks_for_all_symbols(vendor: Vendor) -> None:
    source = provider(vendor)
    symbols = ["VN:STOCK:Z0A", "VN:STOCK:Z0B", "VN:STOCK:Z0A"]
    requests = source.plan("VN", "bars", symbols, date(2024, 11, 20), date(2025, 1, 10), NOW)
    assert [(r.start, r.end) for r in requests] == [
        (date(2024, 11, 20), date(2024, 11, 30)),
        (date(2024, 12, 1), date(2024, 12, 31)),
        (date(2025, 1, 1), date(2025, 1, 10)),
    ]
    assert {r.params["symbols"] for r in requests} == {"VN:STOCK:Z0A,VN:STOCK:Z0B"}
    assert {r.symbol for r in requests} == {None}
    assert all(Request.from_json(r.to_json()) == r for r in requests)


@BOTH
def test_nothing_is_asked_for_before_the_opening_or_after_today(vendor: Vendor) -> None:
    source, one = provider(vendor), ["VN:STOCK:Z0A"]
    (first, *_, last) = source.plan("vn", "bars", one, date(2000, 7, 28), date(2030, 1, 1), NOW)
    assert (first.start, last.end, first.symbol) == (START, TODAY, "VN:STOCK:Z0A")
    assert source.plan("vn", "bars", one, date(2000, 7, 28), date(2023, 12, 31), NOW) == []
    assert source.plan("vn", "bars", [], START, TODAY, NOW) == []
    with pytest.raises(InvalidRange):
        source.plan("vn", "bars", one, TODAY, START, NOW)
    with pytest.raises(InvalidInput):
        source.plan("us", "bars", one, START, TODAY, NOW)
    with pytest.raises(InvalidInput):
        source.plan("vn", "ticks", one, START, TODAY, NOW)


@BOTH
def test_the_same_question_at_the_same_moment_has_the_same_answer(vendor: Vendor) -> None:
    first, again = (pull(vendor, date(2025, 5, 1), date(2025, 5, 31)) for _ in range(2))
    assert [p.body for p in first] == [p.body for p in again]


@BOTH
def test_fewer_symbols_in_another_order_are_told_the_same(vendor: Vendor) -> None:
    some = ["VN:STOCK:Z1A", "VN:STOCK:Z0C"]
    few = rows(pull(vendor, date(2025, 3, 1), date(2025, 3, 31), symbols=some)).sort(KEY)
    all_rows = rows(pull(vendor, date(2025, 3, 1), date(2025, 3, 31))).filter(pl.col("symbol").is_in(some)).sort(KEY)
    assert few.drop("fetch_id", "row").equals(all_rows.drop("fetch_id", "row"))


@BOTH
def test_the_pipeline_accepts_every_row(vendor: Vendor, request: pytest.FixtureRequest) -> None:
    payloads = request.getfixturevalue("told_by_a" if vendor is SimulatedProvider else "told_by_b")
    done = cleaned(payloads)
    assert done.quarantined.is_empty()
    assert done.accepted.height > 20_000
    assert not done.accepted["provisional"].any()
    assert set(done.accepted["exchange"]) == {"HOSE", "HNX", "UPCOM"}
    assert violations(tables.RAW_BARS, rows(payloads[-1:]).drop("symbol")).is_empty()


@BOTH
def test_companies_that_are_not_simulated_are_not_found(vendor: Vendor) -> None:
    (payload,) = pull(vendor, date(2025, 6, 2), symbols=["VN:STOCK:FPT"])
    assert payload.status == 404
    with pytest.raises(NotFound, match="VN:STOCK:FPT") as caught:
        provider(vendor).parse(payload)
    assert "VN:STOCK:Z0A" in caught.value.hint
    (payload,) = pull(vendor, date(2025, 6, 2), symbols=["VN:STOCK:FPT", "VN:STOCK:Z0D"])
    parsed: Parsed = provider(vendor).parse(payload)
    assert parsed.frames["bars"]["raw_symbol"].unique().to_list() == ["Z0D"]
    assert any("VN:STOCK:FPT" in note for note in parsed.notes)


@BOTH
def test_days_without_sessions_have_no_data(vendor: Vendor) -> None:
    (payload,) = pull(vendor, date(2025, 6, 14), date(2025, 6, 15))
    with pytest.raises(NoData):
        provider(vendor).parse(payload)


@BOTH
def test_a_request_that_makes_no_sense_is_unavailable_and_says_why(vendor: Vendor) -> None:
    (good,) = provider(vendor).plan("vn", "bars", ["VN:STOCK:Z0A"], TODAY, TODAY, NOW)
    bad = Request.from_json(good.to_json().replace(START.isoformat(), "1999-01-01"))
    payload = asyncio.run(provider(vendor).fetch(bad))
    with pytest.raises(Unavailable, match="1999"):
        provider(vendor).parse(payload)


@BOTH
@settings(max_examples=80, deadline=None)
@given(
    at=st.floats(0, 1),
    junk=st.one_of(
        st.binary(min_size=1, max_size=24), st.sampled_from([b"\n", b",", b"9" * 30, b"nan", b"null", b"-"])
    ),
    cut=st.booleans(),
)
def test_a_damaged_answer_is_a_typed_error_or_keeps_the_contract(
    vendor: Vendor, at: float, junk: bytes, cut: bool
) -> None:
    (sound,) = pull(vendor, date(2025, 6, 2), date(2025, 6, 16), symbols=["VN:STOCK:Z0A", "VN:STOCK:Z0D"])
    place = int(at * len(sound.body))
    body = sound.body[:place] + junk + (b"" if cut else sound.body[place + len(junk) :])
    try:
        parsed = provider(vendor).parse(Payload(sound.request, 200, body, NOW))
    except ProviderError:
        return
    assert violations(tables.RAW_BARS, parsed.frames["bars"]).is_empty()


@pytest.mark.parametrize(
    ("vendor", "column", "nothing"),
    [
        (SimulatedProvider, r"(?m)^Z0A(?=,)", ""),
        (SimulatedProvider, r"(?m)(?<=^Z0A,)[0-9-]+", ""),
        (SimulatedBProvider, '"Z0A"', "null"),
    ],
)
def test_rows_that_do_not_say_what_they_are_about_are_refused(vendor: Vendor, column: str, nothing: str) -> None:
    payload = pull(vendor, symbols=["VN:STOCK:Z0A"])[0]
    assert provider(vendor).parse(payload).frames
    nameless = re.sub(column, nothing, payload.body.decode(), count=1)
    assert nameless.encode() != payload.body
    with pytest.raises(Malformed):
        provider(vendor).parse(Payload(payload.request, 200, nameless.encode(), NOW))


@pytest.mark.parametrize("wrong", ["1e999", "-1e999", "{}", '"12"', "[1]"])
def test_b_numbers_that_are_none_are_refused(wrong: str) -> None:
    (payload,) = pull(SimulatedBProvider, date(2025, 6, 2), date(2025, 6, 16), symbols=["VN:STOCK:Z0A"])
    sound = payload.body.decode()
    for array in ("o", "h", "l", "c", "v"):
        damaged = re.sub(rf'("{array}":\s*\[)[^,\]]+', rf"\g<1>{wrong}", sound, count=1)
        assert damaged != sound
        with pytest.raises(Malformed):
            provider(SimulatedBProvider).parse(Payload(payload.request, 200, damaged.encode(), NOW))


# --- vendor A --------------------------------------------------------------------------------------------------------


def test_a_tells_the_truth_but_for_bars_that_it_corrects_within_a_week(
    told_by_a: list[Payload], truth: pl.DataFrame
) -> None:
    told = cleaned(told_by_a).accepted
    week_ago = TODAY - timedelta(days=7)
    columns = [*KEY, *PRICES, "volume", "value"]
    old = pl.col("session") <= week_ago
    assert told.filter(old).select(columns).sort(KEY).equals(truth.filter(old).select(columns))
    assert told.height == truth.height, "complete"


def test_a_prints_some_bars_wrong_first_and_whoever_asks_again_sees_the_correction(truth: pl.DataFrame) -> None:
    evening = datetime(2025, 5, 30, 12, tzinfo=UTC)
    wrong = 0
    sessions = truth.filter(pl.col("session").is_between(date(2025, 3, 3), date(2025, 5, 30)))["session"].unique()
    for day in sessions.sort():
        asked = evening.replace(month=day.month, day=day.day)
        early = rows(pull(SimulatedProvider, day, day, asked)).sort(KEY).cast({"volume": pl.Int64})
        late = rows(pull(SimulatedProvider, day, day, asked + timedelta(days=7))).sort(KEY)
        final = truth.filter(pl.col("session") == day)
        assert late.select(*KEY, "close", "value").equals(final.select(*KEY, "close", "value"))
        differs = early.filter(early["volume"] != final["volume"])
        wrong += differs.height
        bad = pl.col("value") / pl.col("volume")
        assert differs.filter((pl.col("close") > pl.col("high")) | (pl.col("close") < pl.col("low"))).is_empty()
        assert differs.filter((bad > pl.col("high")) | (bad < pl.col("low"))).is_empty(), "no rule can tell"
    traded = truth.filter(pl.col("session").is_in(sessions.implode()), pl.col("volume") > 0).height
    assert CORRECTED / 3 < wrong / traded < CORRECTED * 3


def test_a_has_no_bar_of_a_session_that_is_still_running() -> None:
    running = datetime(2025, 6, 16, 7, tzinfo=UTC)  # 14:00 in Vietnam
    sessions = set(rows(pull(SimulatedProvider, date(2025, 6, 9), TODAY, running))["session"])
    assert max(sessions) == date(2025, 6, 13)
    assert TODAY in set(rows(pull(SimulatedProvider, date(2025, 6, 9), TODAY, running.replace(hour=8)))["session"])


def test_a_declares_the_true_actions_from_their_ex_date_on(told_by_a: list[Payload]) -> None:
    terms = ["symbol", "ex_date", "event_type", "cash", "bonus_ratio", "rights_ratio", "rights_price"]
    told = rows(told_by_a, "actions")
    assert violations(tables.RAW_ACTIONS, told.drop("symbol")).is_empty()
    assert told.select(terms).sort(terms).equals(TRUTH.actions().select(terms).sort(terms))
    assert told["detail"].unique().to_list() == ["synthetic"]
    event = told.filter(pl.col("ex_date") > date(2025, 1, 1)).row(0, named=True)
    day_before = datetime.combine(event["ex_date"], datetime.min.time(), UTC) - timedelta(days=1)
    month = event["ex_date"].replace(day=1)
    early = pull(SimulatedProvider, month - timedelta(days=31), event["ex_date"], day_before, [event["symbol"]])
    known = [provider(SimulatedProvider).parse(p).frames.get("actions") for p in early]
    assert all(frame is None or event["ex_date"] not in frame["ex_date"] for frame in known)


def test_a_lists_the_companies_with_exchange_and_dates_and_calls_them_synthetic(told_by_a: list[Payload]) -> None:
    told = rows(told_by_a[-1:], "instruments")
    assert violations(tables.RAW_INSTRUMENTS, told.drop("symbol")).is_empty()
    columns = ["symbol", "exchange", "listed", "delisted", "name"]
    assert told.select(columns).sort("symbol").equals(TRUTH.instruments().select(columns))
    assert told["name"].str.contains("(synthetic)", literal=True).all()
    gone = TRUTH.instruments().drop_nulls("delisted").row(0, named=True)
    before = datetime.combine(gone["delisted"], datetime.min.time(), UTC) - timedelta(days=3)
    (early,) = pull(SimulatedProvider, before.date(), before.date(), before, [gone["symbol"]], "instruments")
    (row,) = provider(SimulatedProvider).parse(early).frames["instruments"].iter_rows(named=True)
    assert row["delisted"] is None, "nobody knows the future"


def test_a_tells_the_index_when_it_is_asked_for() -> None:
    (payload,) = pull(SimulatedProvider, date(2025, 6, 2), symbols=[INDEX])
    parsed = provider(SimulatedProvider).parse(payload)
    assert parsed.frames["bars"]["raw_symbol"].unique().to_list() == ["ZSIM"]
    (listed,) = parsed.frames["instruments"].iter_rows(named=True)
    assert (listed["asset"], "(synthetic)" in listed["name"]) == ("INDEX", True)


# --- vendor B --------------------------------------------------------------------------------------------------------


def test_b_quotes_thousands_to_two_decimals_adjusted_for_what_came_later(
    told_by_b: list[Payload], truth: pl.DataFrame
) -> None:
    told = rows(told_by_b)
    assert told["price_unit"].unique().to_list() == [1000.0]
    assert told["price_basis"].unique().to_list() == ["adjusted_by_source"]
    assert told["basis_factor"].null_count() == told["value"].null_count() == told.height
    factors = TRUTH.ex_dates().with_columns(factor=pl.col("reference") / pl.col("base"))
    pairs = told.join(truth, on=KEY, suffix="_true")
    assert pairs.height == told.height
    expected = (
        pairs.select(*KEY, "close", "close_true", "volume", "volume_true")
        .join(factors.select("symbol", "ex_date", "factor"), on="symbol", how="left")
        .group_by(*KEY, "close", "close_true", "volume", "volume_true")
        .agg(pl.col("factor").filter(pl.col("ex_date") > pl.col("session")).product())
    )
    rounding = 6 + 4e-4 * pl.col("close_true")  # 10 VND, and 4 digits of each factor
    assert expected.filter(
        (pl.col("close") * 1000 - pl.col("close_true") * pl.col("factor")).abs() > rounding
    ).is_empty()
    assert expected.filter(pl.col("volume") != pl.col("volume_true")).is_empty()
    assert expected.filter(pl.col("factor") < 0.9).height > 1_000


def test_b_rewrites_history_after_an_ex_date_by_one_ratio_and_leaves_the_others_alone() -> None:
    event = (
        TRUTH.ex_dates(date(2025, 3, 1), date(2025, 5, 1))
        .with_columns(m=pl.col("reference") / pl.col("base"))
        .sort("m")
        .row(0, named=True)
    )
    quiet = sorted(set(TRUTH.symbols) - set(TRUTH.ex_dates(date(2025, 1, 1))["symbol"]))[0]
    window = date(2025, 1, 2), date(2025, 1, 24)
    noon = datetime.combine(event["ex_date"], datetime.min.time(), UTC)
    before, after = (
        rows(pull(SimulatedBProvider, *window, noon + timedelta(days=days), [event["symbol"], quiet])).sort(KEY)
        for days in (-1, 1)
    )
    pairs = before.join(after, on=KEY, suffix="_after").with_columns(ratio=pl.col("close_after") / pl.col("close"))
    changed = pairs.filter(symbol=event["symbol"])
    assert changed.height > 5
    assert changed.select((pl.col("ratio") / event["m"] - 1).abs().max()).item() < 2e-3
    assert pairs.filter(symbol=quiet).select((pl.col("ratio") == 1).all()).item()


def test_b_misses_bars_and_sometimes_a_whole_exchange(told_by_b: list[Payload], truth: pl.DataFrame) -> None:
    settled = truth.filter(pl.col("session") < TODAY)
    missing = settled.join(rows(told_by_b), on=KEY, how="anti")
    by_day = (
        settled.group_by("exchange", "session")
        .len("expected")
        .join(missing.group_by("exchange", "session").len("missing"), on=["exchange", "session"], how="left")
    )
    dark = by_day.filter(pl.col("missing") == pl.col("expected"))
    assert 0.3 < dark.height / by_day.height / BLACKOUTS < 3
    single = missing.join(dark, on=["exchange", "session"], how="anti")
    assert 0.5 < single.height / settled.height / HOLES < 2


def test_b_tells_some_sessions_only_on_the_next_morning() -> None:
    late = set()
    for day in calendar("HOSE").sessions(date(2025, 4, 1), date(2025, 4, 29))["session"]:
        evening = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        tonight, tomorrow = (pull(SimulatedBProvider, day, day, at) for at in (evening, evening + timedelta(hours=15)))
        late |= {(day, name) for name in set(rows(tomorrow)["exchange"]) - set(rows(tonight)["exchange"])}
    assert 4 < len(late) < 25
