"""What a user of the simulated exchange can rely on: the truth obeys the rule book and never changes."""

from __future__ import annotations

import hashlib
from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vprism_pipelines.errors import BeyondHorizon, InvalidInput, InvalidRange, UnknownSymbol
from vprism_pipelines.market import rules
from vprism_pipelines.market.adjustment import factor_sets
from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.market.symbols import resolve_frame
from vprism_pipelines.providers.simulated import INDEX, Exchange, index_bars
from vprism_pipelines.providers.simulated.exchange import BARS
from vprism_pipelines.providers.simulated.listing import CAPACITY, number_of, symbol_of

SEED, START, END = 11, date(2007, 1, 2), date(2026, 11, 20)
VENUE, SESSION, REFERENCE = (pl.col(name) for name in ("exchange", "session", "reference"))
TRADED = pl.col("volume") > 0
EXCHANGES = ("HOSE", "HNX", "UPCOM")


@pytest.fixture(scope="module")
def truth() -> Exchange:
    return Exchange(SEED, 60, START, END)


@pytest.fixture(scope="module")
def bars(truth: Exchange) -> pl.DataFrame:
    """Twenty years of sixty companies, with what the rules ask about each session."""
    numbered = pl.concat(
        calendar(name)
        .sessions(max(START, calendar(name).known_from), END)
        .select("session", number=pl.int_range(pl.len()), exchange=pl.lit(name))
        for name in EXCHANGES
    )
    frame = (
        truth.bars()
        .join(truth.instruments().select("symbol", "listed", "delisted"), on="symbol", how="left")
        .join(numbered, on=["exchange", "session"], how="left")
        .sort("symbol", "session")
    )
    known = pl.col("number").first().over("symbol") - 1
    last_trade = pl.when(TRADED).then("number").forward_fill().shift(1).over("symbol").fill_null(known)
    return frame.with_columns(
        idle=pl.col("number") - last_trade - 1,
        listing=pl.when(pl.col("listed") == SESSION).then(1).otherwise(2).cast(pl.Int64),
    )


# --- the rule book ---------------------------------------------------------------------------------------------------


def test_the_truth_has_its_columns_and_one_bar_per_symbol_and_session(truth: Exchange, bars: pl.DataFrame) -> None:
    assert truth.bars(END - timedelta(40)).schema == BARS
    assert bars.height > 150_000
    assert bars.select(pl.struct("symbol", "session").is_unique().all()).item()
    assert set(bars["exchange"]) == set(EXCHANGES)


def test_a_company_trades_on_sessions_of_its_exchange_between_listing_and_delisting_only(bars: pl.DataFrame) -> None:
    assert bars["number"].null_count() == 0, "every day is a session of that exchange"
    assert bars.filter(pl.col("listed") > SESSION).is_empty()
    assert bars.filter(pl.col("delisted") < SESSION).is_empty()
    ends = bars.group_by("symbol").agg(
        SESSION.min().alias("first"), SESSION.max().alias("last"), pl.col("listed").first()
    )
    assert ends.filter((pl.col("listed") >= START) & (pl.col("first") != pl.col("listed"))).is_empty()
    outage = [date(2018, 1, 23), date(2018, 1, 24)]
    assert set(bars.filter(SESSION.is_in(outage))["exchange"]) == {"HNX", "UPCOM"}, "HOSE was closed, the others not"


def test_every_price_is_within_the_band_of_its_date_first_days_and_returns_included(bars: pl.DataFrame) -> None:
    given = {"listing_session": pl.col("listing"), "idle_sessions": pl.col("idle")}
    limited = bars.filter(TRADED).with_columns(
        top=rules.ceiling(VENUE, SESSION, REFERENCE, **given), bottom=rules.floor(VENUE, SESSION, REFERENCE, **given)
    )
    assert limited.filter((pl.col("high") > pl.col("top")) | (pl.col("low") < pl.col("bottom"))).is_empty()
    assert limited.filter(pl.col("top").is_not_null()).height > 0.9 * limited.height
    regular = {"top": rules.ceiling(VENUE, SESSION, REFERENCE), "bottom": rules.floor(VENUE, SESSION, REFERENCE)}
    wide = limited.with_columns(**regular).filter((pl.col("high") > pl.col("top")) | (pl.col("low") < pl.col("bottom")))
    debut, back = pl.col("listing") == 1, pl.col("idle") > rules.IDLE_SESSIONS
    assert wide.filter(debut).height > 0, "somebody used the wider band of the first day"
    assert wide.filter(back).height > 0, "somebody used that of a return"
    assert wide.filter(~debut & ~back).is_empty()
    hits = limited.select(
        (pl.col("close") == pl.col("top")).sum(), (pl.col("close") == pl.col("bottom")).alias("b").sum()
    )
    assert min(hits.row(0)) > 20, "days that close at the limit are part of the market"


def test_every_price_and_reference_is_on_the_tick_lattice_of_its_date(bars: pl.DataFrame) -> None:
    for column in ("open", "high", "low", "close", "reference"):
        assert bars.filter(~rules.on_lattice(VENUE, SESSION, pl.col(column))).is_empty(), column


def test_volumes_are_whole_lots_while_lots_are_the_rule(bars: pl.DataFrame) -> None:
    assert bars.filter(pl.col("volume") % rules.step(VENUE, SESSION) != 0).is_empty()
    assert bars.filter(pl.col("volume") % 100 != 0).height > 1_000, "odd lots count once they trade"


def test_prices_volume_and_value_agree(bars: pl.DataFrame) -> None:
    low, high, average = pl.col("low"), pl.col("high"), pl.col("value") / pl.col("volume")
    assert bars.filter(
        (low > pl.min_horizontal("open", "close")) | (high < pl.max_horizontal("open", "close"))
    ).is_empty()
    assert bars.filter(TRADED & ((average < low) | (average > high))).is_empty()
    assert bars.filter(pl.min_horizontal("low", "reference") <= 0).is_empty()
    value = bars.select((pl.col("value") % 1).abs().max()).item()
    assert value == 0, "whole VND"


def test_an_untraded_session_repeats_the_last_close(bars: pl.DataFrame) -> None:
    quiet = bars.with_columns(before=pl.col("close").shift(1).over("symbol")).filter(~TRADED)
    assert quiet.height > 1_000
    assert quiet.filter(pl.any_horizontal(pl.col(p) != pl.col("close") for p in ("open", "high", "low"))).is_empty()
    assert quiet.filter((pl.col("close") != pl.col("before")) | (pl.col("value") != 0)).is_empty()


def test_the_reference_is_the_previous_close_and_on_upcom_the_previous_average(
    truth: Exchange, bars: pl.DataFrame
) -> None:
    average = pl.col("value") / pl.col("volume")
    ex_dates = truth.ex_dates().select("symbol", session="ex_date", ex=pl.lit(1))
    since = bars.join(ex_dates, on=["symbol", "session"], how="left", maintain_order="left").with_columns(
        close_before=pl.when(TRADED).then("close").forward_fill().shift(1).over("symbol"),
        average_before=pl.when(TRADED).then(average).forward_fill().shift(1).over("symbol"),
        # Ex-dates up to here against ex-dates up to the last trade: none in between.
        counted=pl.col("ex").fill_null(0).cum_sum().over("symbol"),
        basis=rules.reference_basis(VENUE, SESSION),
    )
    at_trade = pl.when(TRADED).then("counted").forward_fill().shift(1).over("symbol")
    plain = since.filter(pl.col("close_before").is_not_null() & (pl.col("counted") == at_trade))
    expected = pl.when(pl.col("basis") == "vwap").then("average_before").otherwise("close_before")
    half = rules.tick(VENUE, SESSION, REFERENCE) / 2
    known = plain.filter(pl.col("basis").is_not_null())
    assert known.filter((REFERENCE - expected).abs() > half + 1e-9).is_empty()
    exact = known.filter(pl.col("basis") == "close")
    assert exact.height > 50_000
    assert exact.filter(pl.col("close_before") != REFERENCE).is_empty()
    assert known.filter((pl.col("basis") == "vwap") & (pl.col("close_before") != REFERENCE)).height > 1_000


def test_the_reference_of_an_ex_date_is_that_of_the_one_formula(truth: Exchange, bars: pl.DataFrame) -> None:
    closes = bars.select("symbol", "session", "close", traded=TRADED)
    result = factor_sets(truth.actions().with_columns(provider=pl.lit("truth")), closes, "VND")
    announced = truth.ex_dates()
    assert result.steps["status"].unique().to_list() == ["applied"]
    assert not result.sets["action_gap_flag"].any()
    steps = result.steps.join(announced, on=["symbol", "ex_date"], how="full", coalesce=True, validate="1:1").join(
        bars.select("symbol", "exchange", "session", opened="reference"),
        left_on=["symbol", "ex_date"],
        right_on=["symbol", "session"],
    )
    assert steps.height == announced.height > 500
    hose = steps.filter(exchange="HOSE")
    assert hose.select((pl.col("ref_price") / REFERENCE - 1).abs().max()).item() < 1e-12
    tick = rules.tick(VENUE, pl.col("ex_date"), pl.col("opened"))
    assert steps.filter((pl.col("opened") - REFERENCE).abs() > tick / 2 + 1e-6).height < 0.01 * steps.height
    assert steps.filter((pl.col("opened") - REFERENCE).abs() > tick).is_empty()


def test_all_kinds_of_actions_happen_also_several_on_one_day(truth: Exchange) -> None:
    actions = truth.actions()
    assert set(actions["event_type"]) == {"cash", "stock_dividend", "bonus", "rights"}
    together = actions.group_by("symbol", "ex_date").agg(pl.col("event_type").sort().str.join("+"))
    assert {"cash+stock_dividend", "bonus+cash", "bonus+cash+rights"} <= set(together["event_type"])
    worthless = actions.join(truth.ex_dates(), on=["symbol", "ex_date"]).filter(
        pl.col("rights_price") >= pl.col("base")
    )
    assert worthless.height > 0, "rights above the price are offered, too, and move nothing"
    alone = worthless.filter(
        pl.struct("symbol", "ex_date").is_in(
            together.filter(event_type="rights").select(pl.struct("symbol", "ex_date"))["symbol"].implode()
        )
    )
    assert alone.filter(pl.col("base") != REFERENCE).is_empty()


def test_there_are_listings_delistings_suspensions_and_quiet_companies(truth: Exchange, bars: pl.DataFrame) -> None:
    companies = truth.instruments()
    assert companies.filter(pl.col("listed") > START).height > 5
    assert companies["delisted"].drop_nulls().len() > 2
    assert companies["name"].str.contains("(synthetic)", literal=True).all()
    gap = pl.col("number").diff().over("symbol")
    assert bars.select((gap > 3).sum()).item() > 10, "suspended companies have no bars at all"
    quiet = dict(bars.group_by("exchange").agg((~TRADED).mean().alias("share")).iter_rows())
    assert 0.01 < quiet["HOSE"] < quiet["HNX"] < quiet["UPCOM"] < 0.8


# --- append-only, and the same for everybody -------------------------------------------------------------------------


def test_a_seed_is_the_same_bytes_everywhere() -> None:
    market = Exchange(7, 60, date(2022, 1, 4), date(2023, 6, 30))
    text = market.bars().write_csv() + market.actions().write_csv() + market.instruments().write_csv()
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "a6527d85179e3db7552744961b6f6947f13aff5b6c64731aa7d9151fe7f2e3ad"
    )
    assert not Exchange(8, 60, date(2022, 1, 4), date(2023, 6, 30)).bars().equals(market.bars())


RECENT = Exchange(SEED, 60, date(2024, 1, 2), END)


@settings(max_examples=25, deadline=None)
@given(
    numbers=st.lists(st.integers(0, 59), min_size=1, max_size=12, unique=True), end=st.dates(RECENT.start, RECENT.end)
)
def test_a_subset_and_an_earlier_end_give_the_same_bars(numbers: list[int], end: date) -> None:
    symbols = [symbol_of(number) for number in numbers]
    part, asked = Exchange(SEED, symbols, RECENT.start, end), pl.col("symbol").is_in(symbols)
    assert part.bars().equals(RECENT.bars(last=end).filter(asked))
    assert part.actions().equals(RECENT.actions(last=end).filter(asked))


@settings(max_examples=15, deadline=None)
@given(first=st.dates(START, END), days=st.integers(0, 500))
def test_a_window_is_the_same_whether_asked_for_alone_or_within_the_whole(
    truth: Exchange, bars: pl.DataFrame, first: date, days: int
) -> None:
    last = first + timedelta(days)
    assert truth.bars(first, last).equals(bars.filter(SESSION.is_between(first, last)).select(*BARS))
    known = truth.actions()
    assert truth.actions(first, last).equals(known.filter(pl.col("ex_date").is_between(first, last)))


def test_large_markets_come_in_blocks_of_at_most_a_month() -> None:
    market = Exchange(5, 9_000, date(2026, 9, 1), date(2026, 11, 20))
    blocks = list(market.blocks())
    assert len(blocks) == 3
    assert max(block.height for block in blocks) <= 9_000 * 23
    assert all(block["session"].dt.month().n_unique() == 1 for block in blocks)
    for block in blocks:
        assert block.equals(block.sort("symbol", "session"))
    few = Exchange(5, [symbol_of(8_765), symbol_of(3)], date(2026, 9, 1), date(2026, 11, 20)).bars()
    assert (
        pl.concat(blocks)
        .filter(pl.col("symbol").is_in(few["symbol"].unique().implode()))
        .sort("symbol", "session")
        .equals(few)
    )


def test_the_market_before_hanoi_opened_is_hose_alone() -> None:
    early = Exchange(1, 40, date(2000, 7, 28), date(2005, 12, 30)).bars()
    first = dict(early.group_by("exchange").agg(SESSION.min()).iter_rows())
    assert date(2000, 7, 28) <= first["HOSE"] < date(2001, 1, 1)
    assert first["HNX"] >= date(2005, 7, 14)
    assert "UPCOM" not in first


# --- symbols ---------------------------------------------------------------------------------------------------------


def test_every_code_is_a_valid_vietnamese_share_and_counts_back() -> None:
    symbols = [symbol_of(number) for number in range(CAPACITY)]
    assert [number_of(symbol) for symbol in symbols] == list(range(CAPACITY))
    resolved = resolve_frame(pl.DataFrame({"raw_symbol": [symbol[-3:] for symbol in symbols]}), market="VN")
    assert resolved["symbol"].to_list() == symbols
    assert all(code[0] == "Z" and code[1].isdigit() for code in (symbol[-3:] for symbol in symbols[:360]))
    assert [number_of(symbol) for symbol in ("VN:STOCK:FPT", "VN:STOCK:24H", "US:STOCK:Z0A", INDEX)] == [None] * 4


@pytest.mark.shared
def test_no_code_is_that_of_a_real_company(shared_data) -> None:
    listing, history = shared_data / "vn_listing_cafef.parquet", shared_data / "vn_cafef_daily.parquet"
    if not (listing.is_file() and history.is_file()):
        pytest.skip("needs the Vietnamese listings")
    real = {*pl.read_parquet(listing)["Symbol"], *pl.read_parquet(history, columns=["symbol"])["symbol"].unique()}
    assert len(real) > 1_500
    assert not real & {symbol_of(number)[-3:] for number in range(CAPACITY)}


def test_what_cannot_be_simulated_is_refused_with_a_reason() -> None:
    start, end = date(2024, 1, 2), date(2024, 2, 1)
    with pytest.raises(InvalidInput, match="-1 companies"):
        Exchange(1, -1, start, end)
    with pytest.raises(InvalidInput, match="cannot be simulated"):
        Exchange(1, CAPACITY + 1, start, end)
    with pytest.raises(InvalidInput, match="twice"):
        Exchange(1, [symbol_of(1), symbol_of(1)], start, end)
    with pytest.raises(UnknownSymbol, match="FPT"):
        Exchange(1, [symbol_of(1), "VN:STOCK:FPT"], start, end)
    with pytest.raises(InvalidRange):
        Exchange(1, 3, end, start)
    with pytest.raises(InvalidRange, match="1999"):
        Exchange(1, 3, date(1999, 1, 1), end)
    with pytest.raises(BeyondHorizon):
        Exchange(1, 3, start, date(2050, 1, 1))


def test_a_range_without_sessions_is_empty() -> None:
    weekend = Exchange(1, 3, date(2024, 1, 6), date(2024, 1, 7))
    assert weekend.bars().is_empty()
    assert weekend.bars().schema == BARS
    assert weekend.actions().is_empty()


def test_an_exchange_without_companies_is_empty() -> None:
    nobody = Exchange(1, [], date(2024, 1, 2), date(2024, 3, 1))
    assert nobody.bars().schema == BARS
    assert nobody.bars().is_empty()
    assert nobody.ex_dates().is_empty()
    assert nobody.instruments().is_empty()


# --- the index -------------------------------------------------------------------------------------------------------


def test_the_index_is_named_like_nothing_real_and_never_rewritten() -> None:
    start, end = date(2021, 1, 4), date(2023, 12, 29)
    index = index_bars(SEED, start, end)
    assert set(index["symbol"]) == {INDEX} == {"VN:INDEX:ZSIM"}
    assert index.schema == BARS
    assert index.height == calendar("HOSE").sessions(start, end).height
    assert index_bars(SEED, start, date(2022, 6, 30)).equals(index.filter(date(2022, 6, 30) >= SESSION))
    assert index.filter(
        (pl.col("low") > pl.min_horizontal("open", "close")) | (pl.col("high") < pl.max_horizontal("open", "close"))
    ).is_empty()


def test_no_ex_date_moves_the_index() -> None:
    index = index_bars(SEED, date(2021, 1, 4), date(2023, 12, 29))
    change = (pl.col("close") / pl.col("close").shift(1) - 1).abs()
    assert index.select(change.max()).item() < 0.07, "no more than its members may move"
    assert index.select(change.median()).item() < 0.02
    carried = (REFERENCE - pl.col("close").shift(1)).abs()
    assert index.select(carried.max()).item() == 0
