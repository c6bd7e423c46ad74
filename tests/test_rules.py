"""What a user can rely on when asking what an exchange allowed on a date."""

from __future__ import annotations

from datetime import date
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vprism_pipelines.market import rules

TODAY = date(2024, 5, 6)
VIETNAM = ["HOSE", "HNX", "UPCOM"]

# --- price bands ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "hose", "hnx", "upcom"),
    [
        (date(2008, 3, 26), None, None, None),
        (date(2008, 3, 27), 0.01, 0.02, None),
        (date(2008, 4, 7), 0.02, 0.03, None),
        (date(2008, 6, 19), 0.03, 0.04, None),
        (date(2008, 8, 18), 0.05, 0.07, None),
        (date(2009, 6, 24), 0.05, 0.07, 0.10),
        (date(2013, 1, 14), 0.05, 0.07, 0.10),
        (date(2013, 1, 15), 0.07, 0.10, 0.10),
        (date(2015, 6, 30), 0.07, 0.10, 0.10),
        (date(2015, 7, 1), 0.07, 0.10, 0.15),
        (TODAY, 0.07, 0.10, 0.15),
    ],
)
def test_vietnamese_bands_are_those_of_the_day(
    day: date, hose: float | None, hnx: float | None, upcom: float | None
) -> None:
    assert [rules.band(venue, day) for venue in VIETNAM] == [hose, hnx, upcom]


@pytest.mark.parametrize(("venue", "opening"), [("HOSE", 0.20), ("HNX", 0.30), ("UPCOM", 0.40)])
def test_the_first_session_and_the_first_after_a_long_pause_have_the_opening_band(venue: str, opening: float) -> None:
    regular = rules.band(venue, TODAY)
    assert rules.band(venue, TODAY, listing_session=1) == opening
    assert rules.band(venue, TODAY, listing_session=2) == regular
    assert rules.band(venue, TODAY, idle_sessions=26) == opening
    assert rules.band(venue, TODAY, idle_sessions=25) == regular


def test_an_opening_band_that_nobody_recorded_is_null_and_not_the_regular_one() -> None:
    assert rules.band("HNX", date(2010, 6, 1)) == 0.07
    assert rules.band("HNX", date(2010, 6, 1), listing_session=1) is None


def test_there_is_no_band_where_no_rule_is_known() -> None:
    assert rules.band("HOSE", TODAY, asset="WARRANT") is None
    assert rules.band("HKEX", TODAY) is None
    assert rules.band("NASDAQ", TODAY) is None
    assert rules.band("NOWHERE", TODAY) is None
    assert rules.ceiling("HOSE", date(2007, 1, 2), 50_000) is None
    assert rules.ceiling("HOSE", TODAY, 0) is None
    assert rules.ceiling("HOSE", date(2014, 1, 2), 10_000, asset="ETF") is None  # a band, but no known tick


@pytest.mark.parametrize(
    ("venue", "day", "band"),
    [
        ("CN_MAIN", date(1996, 12, 13), None),
        ("CN_MAIN", TODAY, 0.10),
        ("CHINEXT", date(2020, 8, 21), 0.10),
        ("CHINEXT", date(2020, 8, 24), 0.20),
        ("STAR", TODAY, 0.20),
        ("BSE", date(2021, 11, 12), None),
        ("BSE", TODAY, 0.30),
    ],
)
def test_chinese_bands_are_those_of_the_board_and_day(venue: str, day: date, band: float | None) -> None:
    assert rules.band(venue, day) == band


def test_special_treatment_halves_the_main_board_band_until_july_2026_and_no_other() -> None:
    assert rules.band("CN_MAIN", date(2026, 7, 3), st=True) == 0.05
    assert rules.band("CN_MAIN", date(2026, 7, 6), st=True) == 0.10
    assert rules.band("CN_MAIN", date(2026, 7, 3), st=False) == 0.10
    assert rules.band("CN_MAIN", date(2026, 7, 3)) == 0.10, "unknown: the wider band"
    assert rules.band("CHINEXT", TODAY, st=True) == 0.20


@pytest.mark.parametrize(
    ("venue", "day", "free"),
    [
        ("CN_MAIN", date(2023, 4, 7), 1),
        ("CN_MAIN", date(2023, 4, 10), 5),
        ("CHINEXT", date(2020, 8, 21), 1),
        ("CHINEXT", date(2020, 8, 24), 5),
        ("STAR", TODAY, 5),
        ("BSE", TODAY, 1),
    ],
)
def test_new_chinese_listings_have_no_limit_at_first(venue: str, day: date, free: int) -> None:
    assert rules.band(venue, day, listing_session=free) is None
    assert rules.ceiling(venue, day, 10.0, listing_session=free) is None
    assert rules.band(venue, day, listing_session=free + 1) == rules.band(venue, day)
    assert rules.band(venue, day, idle_sessions=300) == rules.band(venue, day), "a pause changes nothing in China"


# --- limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("venue", "day", "reference", "low", "high"),
    [
        ("HOSE", TODAY, 26_400, 24_600, 28_200),  # 26.4 * 1.07 = 28.248, 26.4 * 0.93 = 24.552
        ("HOSE", TODAY, 20_000, 18_600, 21_400),  # both exactly on a tick, but not in binary
        ("HOSE", TODAY, 9_990, 9_300, 10_650),  # the ceiling lies in the next tier
        ("HOSE", TODAY, 50_000, 46_500, 53_500),
        ("HOSE", date(2016, 9, 9), 26_400, 24_600, 28_200),
        ("HOSE", date(2016, 9, 9), 52_000, 48_400, 55_500),  # tick 500 above 50,000, 100 below
        ("HNX", TODAY, 300, 200, 400),  # one tick is 33 %
        ("HNX", TODAY, 100, 100, 200),  # a floor of zero is no price
        ("UPCOM", TODAY, 13_100, 11_200, 15_000),
        ("CN_MAIN", TODAY, 10.05, 9.05, 11.06),  # 9.045 and 11.055 round half up
        ("CN_MAIN", TODAY, 1.15, 1.04, 1.27),  # 1.265 is below a half in binary
        ("STAR", TODAY, 0.57, 0.46, 0.68),
    ],
)
def test_limits_are_rounded_as_the_exchange_does(
    venue: str, day: date, reference: float, low: float, high: float
) -> None:
    assert (rules.floor(venue, day, reference), rules.ceiling(venue, day, reference)) == (low, high)


def test_an_opening_session_moves_the_limits() -> None:
    assert rules.ceiling("UPCOM", TODAY, 10_000, listing_session=1) == 14_000
    assert rules.floor("HOSE", TODAY, 10_000, idle_sessions=40) == 8_000


references = st.lists(st.integers(1, 300_000).map(lambda n: n * 10.0), min_size=2, max_size=40)
sessions = st.dates(date(2010, 7, 19), date(2026, 12, 31))
unhurried = settings(deadline=None, max_examples=60)


def limits(venue: str, day: date, prices: list[float]) -> pl.DataFrame:
    """price (rounded up to the lattice), tick, band, floor, ceiling; ordered by price."""
    session, price = pl.lit(day), pl.col("price")
    return (
        pl.DataFrame({"price": prices})
        .with_columns(rules.round_to_tick(venue, session, price, up=True).alias("price"))
        .sort("price")
        .with_columns(
            rules.tick(venue, session, price),
            rules.floor(venue, session, price),
            rules.ceiling(venue, session, price),
            band=pl.lit(rules.band(venue, day)),
        )
    )


@unhurried
@given(st.sampled_from(VIETNAM), sessions, references)
def test_limits_lie_on_the_lattice_around_the_reference_and_grow_with_it(
    venue: str, day: date, prices: list[float]
) -> None:
    frame = limits(venue, day, prices)
    at = (venue, pl.lit(day))
    laws = frame.select(
        floor_on_lattice=rules.on_lattice(*at, pl.col("floor")),
        ceiling_on_lattice=rules.on_lattice(*at, pl.col("ceiling")),
        ceiling_a_tick_above=pl.col("ceiling") >= pl.col("price") + pl.col("tick"),
        floor_below=(pl.col("floor") < pl.col("price")) | (pl.col("price") == pl.col("tick")),
        floor_positive=pl.col("floor") > 0,
        floor_grows=pl.col("floor").diff().fill_null(0) >= 0,
        ceiling_grows=pl.col("ceiling").diff().fill_null(0) >= 0,
    )
    assert [law.name for law in laws if not law.all()] == []


@unhurried
@given(st.sampled_from(VIETNAM), sessions, references)
def test_vietnamese_limits_equal_exact_decimal_arithmetic(venue: str, day: date, prices: list[float]) -> None:
    for row in limits(venue, day, prices).iter_rows(named=True):
        reference = Decimal(row["price"])
        for side, limit, rounding in ((1, "ceiling", ROUND_FLOOR), (-1, "floor", ROUND_CEILING)):
            exact = reference * (1 + side * Decimal(str(row["band"])))
            tick = Decimal(next(size for above, size in reversed(tiers(venue, day)) if exact >= above))
            rounded = (exact / tick).to_integral_value(rounding) * tick
            beside = reference + side * Decimal(row["tick"])
            expected = max(rounded, beside) if side > 0 else min(rounded, beside)
            assert row[limit] == float(expected if expected > 0 else reference)


def tiers(venue: str, day: date) -> list[tuple[int, int]]:
    """The tick table written out a second time: (from price, tick)."""
    if venue != "HOSE":
        return [(0, 100)]
    return (
        [(0, 10), (10_000, 50), (50_000, 100)]
        if day >= date(2016, 9, 12)
        else [(0, 100), (50_000, 500), (100_000, 1_000)]
    )


@unhurried
@given(st.lists(st.integers(1, 500_000), min_size=1, max_size=40))
def test_chinese_limits_equal_exact_decimal_arithmetic(cents: list[int]) -> None:
    at = ("CN_MAIN", pl.lit(TODAY), pl.col("price"))
    frame = pl.DataFrame({"cents": cents}).with_columns(price=pl.col("cents") / 100)
    for row in frame.with_columns(rules.floor(*at), rules.ceiling(*at)).iter_rows(named=True):
        reference = Decimal(row["cents"]) / 100
        for side, limit in ((1, "ceiling"), (-1, "floor")):
            exact = (reference * (1 + side * Decimal("0.1"))).quantize(Decimal("0.01"), ROUND_HALF_UP)
            beside = reference + side * Decimal("0.01")
            expected = max(exact, beside) if side > 0 else min(exact, beside)
            assert row[limit] == float(expected if expected > 0 else reference)


# --- ticks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("venue", "day", "price", "tick"),
    [
        ("HOSE", date(2016, 9, 9), 9_000, 100),
        ("HOSE", date(2016, 9, 9), 49_900, 100),
        ("HOSE", date(2016, 9, 9), 50_000, 500),
        ("HOSE", date(2016, 9, 9), 100_000, 1_000),
        ("HOSE", date(2016, 9, 12), 9_990, 10),
        ("HOSE", date(2016, 9, 12), 10_000, 50),
        ("HOSE", date(2016, 9, 12), 49_950, 50),
        ("HOSE", date(2016, 9, 12), 50_000, 100),
        ("HNX", TODAY, 1_000, 100),
        ("UPCOM", TODAY, 120_000, 100),
        ("CN_MAIN", TODAY, 1_700.0, 0.01),
        ("CN_B_SH", TODAY, 0.5, 0.001),
        ("CN_B_SZ", TODAY, 5.0, 0.01),
        ("HKEX", date(2025, 8, 1), 15.0, 0.02),
        ("HKEX", date(2025, 8, 1), 30.0, 0.05),
        ("HKEX", date(2025, 8, 4), 15.0, 0.01),
        ("HKEX", date(2025, 8, 4), 30.0, 0.02),
        ("HKEX", date(2025, 8, 4), 0.25, 0.001),
        ("HKEX", date(2025, 8, 4), 0.255, 0.005),
        ("HKEX", date(2025, 8, 4), 0.50, 0.005),
        ("HKEX", date(2025, 8, 4), 10.0, 0.01),
        ("HKEX", date(2025, 8, 4), 50.0, 0.02),
        ("HKEX", date(2025, 8, 4), 50.05, 0.05),
        ("HKEX", date(2025, 8, 4), 5_005.0, 5.0),
        ("US", TODAY, 1.0, 0.01),
        ("NASDAQ", TODAY, 0.9999, 0.0001),
    ],
)
def test_ticks_are_those_of_the_day_and_price(venue: str, day: date, price: float, tick: float) -> None:
    assert rules.tick(venue, day, price) == tick


def test_funds_may_have_a_tick_of_their_own() -> None:
    assert rules.tick("HOSE", TODAY, 26_000, asset="ETF") == 10
    assert rules.tick("HOSE", TODAY, 26_000, asset="FUND") == 50
    assert rules.tick("SSE", TODAY, 4.1, asset="ETF") == 0.001
    assert rules.tick("HOSE", TODAY, 26_000, asset="INDEX") is None


@unhurried
@given(st.lists(st.integers(1, 3_000_000), min_size=1, max_size=40), st.sampled_from([0.0, 1e-13, -1e-13]))
def test_float_noise_does_not_move_a_price_that_is_on_the_lattice(units: list[int], noise: float) -> None:
    at = ("HOSE", pl.lit(TODAY))
    frame = (
        pl.DataFrame({"price": units}, schema={"price": pl.Float64})
        .with_columns(rules.round_to_tick(*at, pl.col("price"), up=True).alias("price"))
        .with_columns(noisy=pl.col("price") * (1 + noise))
        .with_columns(
            rules.round_to_tick(*at, pl.col("noisy")).alias("down"),
            rules.round_to_tick(*at, pl.col("noisy"), up=True).alias("up"),
            rules.on_lattice(*at, pl.col("noisy")),
        )
    )
    assert frame["down"].to_list() == frame["up"].to_list() == frame["price"].to_list()
    assert frame["on_lattice"].all()


def test_an_adjusted_price_is_off_the_lattice() -> None:
    assert rules.on_lattice("HOSE", TODAY, 26_400) is True
    assert rules.on_lattice("HOSE", TODAY, 23_954.78) is False
    assert rules.on_lattice("HOSE", date(1999, 1, 4), 26_400) is None


# --- lots and references --------------------------------------------------------------------------------------------


def test_lots_and_volume_steps_are_those_of_the_day() -> None:
    assert rules.lot("HOSE", date(2003, 5, 19)) == 100
    assert rules.lot("HOSE", date(2020, 12, 31)) == 10
    assert rules.lot("HOSE", date(2021, 1, 4)) == 100
    assert (rules.step("HOSE", date(2022, 9, 9)), rules.step("HOSE", date(2022, 9, 12))) == (100, 1)
    assert (rules.lot("HNX", TODAY), rules.lot("UPCOM", TODAY)) == (100, 100)
    assert (rules.lot("STAR", TODAY), rules.lot("BSE", TODAY), rules.lot("CN_MAIN", TODAY)) == (200, 100, 100)
    assert rules.lot("NYSE", TODAY) == 1
    assert rules.lot("HKEX", TODAY) is None


def test_the_reference_price_comes_from_the_close_except_where_the_average_counts() -> None:
    assert rules.reference_basis("HOSE", TODAY) == "close"
    assert rules.reference_basis("HNX", TODAY) == "close"
    assert rules.reference_basis("UPCOM", TODAY) == "vwap"
    assert rules.reference_basis("HNX", date(2011, 6, 1)) == "vwap"
    assert rules.reference_basis("HNX", date(2013, 1, 15)) is None


# --- venues ---------------------------------------------------------------------------------------------------------


def test_the_board_of_a_chinese_share_follows_from_its_code() -> None:
    expected = {
        "CN:STOCK:SH600519": "CN_MAIN",
        "CN:STOCK:SZ002594": "CN_MAIN",
        "CN:STOCK:SZ300750": "CHINEXT",
        "CN:STOCK:SZ302132": "CHINEXT",
        "CN:STOCK:SH688981": "STAR",
        "CN:STOCK:SH689009": "STAR",
        "CN:STOCK:BJ920819": "BSE",
        "CN:STOCK:BJ430047": "BSE",
        "CN:STOCK:BJ838163": "BSE",
        "CN:STOCK:SH900901": "CN_B_SH",
        "CN:STOCK:SZ200002": "CN_B_SZ",
        "CN:STOCK:SH512345": None,
        "CN:ETF:SH510300": "SSE",
        "CN:ETF:SZ159915": "SZSE",
        "HK:STOCK:00700": "HKEX",
        "US:STOCK:BRK.B": "US",
    }
    frame = pl.DataFrame({"symbol": list(expected)}).with_columns(exchange=pl.lit(None, pl.String))
    found = frame.select(rules.venue(pl.col("symbol"), pl.col("exchange"))).to_series()
    assert found.to_list() == list(expected.values())


def test_the_venue_of_a_vietnamese_share_is_its_exchange_on_the_day() -> None:
    frame = pl.DataFrame({"symbol": ["VN:STOCK:VND"] * 2, "exchange": ["HOSE", "HNX"]})
    assert frame.select(rules.venue(pl.col("symbol"), pl.col("exchange"))).to_series().to_list() == ["HOSE", "HNX"]
