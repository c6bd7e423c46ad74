"""What a user can rely on when asking for sessions."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import holidays
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vprism_pipelines.errors import BeyondHorizon, InvalidInput, InvalidRange
from vprism_pipelines.market import calendar_types
from vprism_pipelines.market.calendars import SESSIONS, calendar, market_sessions
from vprism_pipelines.market.spec import CN, HK, MARKETS, US, VN, MarketSpec

NAMES = ["XNYS", "XSHG", "XHKG", "XSTC", "HSTC"]
names = st.sampled_from(NAMES)
days = st.dates(date(2006, 1, 2), date(2034, 12, 31))
SETTLE = timedelta(minutes=30)


def sessions(name: str, start: date, end: date) -> set[date]:
    return set(calendar(name).sessions(start, end)["session"])


def hours(name: str, day: date) -> tuple[time, time]:
    found = calendar(name)
    row = found.sessions(day, day).row(0, named=True)
    opened, closed = (row[at].astimezone(found.zone).time() for at in ("open", "close"))
    return opened, closed


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "answered"),
    [("HOSE", "XSTC"), ("hnx", "HSTC"), ("UPCOM", "HSTC"), ("XHNX", "HSTC"), ("NASDAQ", "XNYS"), ("XSHE", "XSHG")],
)
def test_a_calendar_is_found_by_exchange_code_and_by_mic(asked: str, answered: str) -> None:
    assert calendar(asked).name == answered


def test_every_market_and_exchange_of_the_spec_has_a_calendar() -> None:
    for spec in MARKETS.values():
        assert calendar(spec.calendar).zone == spec.zone
        assert calendar(spec.calendar).first_session == spec.first_session
        for code in spec.exchanges:
            assert calendar(code).zone == spec.zone


def test_an_unknown_name_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(InvalidInput) as caught:
        calendar("XFOO")
    assert "XSTC" in caught.value.hint


def test_asking_twice_gives_the_same_calendar() -> None:
    assert calendar("HNX") is calendar("UPCOM")


# --- what is known --------------------------------------------------------------------------------------------------


def test_new_york_is_known_from_1990_on_and_not_before() -> None:
    assert calendar("XNYS").first_session == date(1990, 1, 2)
    with pytest.raises(BeyondHorizon) as caught:
        calendar("XNYS").sessions(date(1989, 12, 29), date(1990, 1, 31))
    assert "1990-01-01" in caught.value.message


@pytest.mark.parametrize("name", NAMES)
def test_a_day_outside_the_known_range_is_an_error_and_never_a_guess(name: str) -> None:
    known = calendar(name)
    before, after = known.known_from - timedelta(days=1), known.known_to + timedelta(days=1)
    for day in (before, after):
        for ask in (known.is_session, known.ordinal, known.previous, known.next):
            with pytest.raises(BeyondHorizon):
                ask(day)
    with pytest.raises(BeyondHorizon):
        known.sessions(known.known_from, after)
    with pytest.raises(BeyondHorizon):
        known.previous(known.first_session)
    with pytest.raises(BeyondHorizon):
        known.next(known.last_session)
    with pytest.raises(BeyondHorizon):
        known.latest_final(datetime.combine(after, time(23), UTC), SETTLE)
    with pytest.raises(BeyondHorizon):
        known.latest_final(datetime.combine(known.first_session, time(0), known.zone), SETTLE)


def test_careless_questions_are_refused() -> None:
    hose = calendar("HOSE")
    with pytest.raises(InvalidRange):
        hose.sessions(date(2024, 2, 2), date(2024, 2, 1))
    with pytest.raises(InvalidInput, match="not a session"):
        hose.ordinal(date(2024, 2, 10))
    with pytest.raises(InvalidInput, match="no zone"):
        hose.latest_final(datetime(2024, 2, 1, 18), SETTLE)
    with pytest.raises(InvalidInput, match="instant"):
        hose.is_session(datetime(2024, 2, 1, 9, tzinfo=UTC))
    with pytest.raises(InvalidInput, match="at least 1"):
        hose.next(date(2024, 2, 1), 0)


def test_sessions_come_in_the_promised_schema_even_when_there_are_none() -> None:
    empty = calendar("HOSE").sessions(date(2024, 2, 10), date(2024, 2, 11))
    assert empty.is_empty()
    assert empty.schema == SESSIONS
    assert calendar("XNYS").sessions(date(2024, 1, 1), date(2024, 1, 31)).schema == SESSIONS


# --- Vietnam --------------------------------------------------------------------------------------------------------


def test_hose_has_the_number_of_sessions_of_every_year() -> None:
    counted = (
        calendar("HOSE").sessions(date(2010, 1, 1), date(2026, 12, 31)).group_by(pl.col("session").dt.year()).len()
    )
    expected = [250, 248, 250, 250, 247, 248, 251, 250, 248, 250, 252, 250, 249, 249, 250, 249, 247]
    assert dict(counted.iter_rows()) == dict(zip(range(2010, 2027), expected, strict=True))


def test_hanoi_traded_on_the_days_when_only_hose_was_down() -> None:
    outages = [
        date(2006, 1, 16),
        date(2008, 5, 27),
        date(2008, 5, 28),
        date(2008, 5, 29),
        date(2018, 1, 23),
        date(2018, 1, 24),
    ]
    assert not any(calendar("HOSE").is_session(day) for day in outages)
    assert all(calendar("HNX").is_session(day) for day in outages)


def test_both_exchanges_began_with_three_sessions_a_week() -> None:
    hose, hnx = calendar("HOSE"), calendar("HNX")
    assert {day.weekday() for day in sessions("HOSE", date(2000, 7, 28), date(2002, 3, 4))} == {0, 2, 4}
    assert hose.next(date(2002, 3, 4)) == date(2002, 3, 5)
    assert hnx.first_session == date(2005, 7, 14)
    assert {day.weekday() for day in sessions("HNX", date(2005, 7, 15), date(2006, 5, 31))} == {0, 2, 4}
    assert hnx.next(date(2006, 5, 31)) == date(2006, 6, 1)


def test_hours_are_those_of_the_time() -> None:
    assert hours("HOSE", date(2011, 6, 1)) == (time(8, 30), time(11))
    assert hours("HOSE", date(2012, 3, 5)) == (time(9), time(14, 15))
    assert hours("HOSE", date(2013, 7, 22)) == (time(9), time(15))
    assert hours("HNX", date(2013, 7, 22)) == (time(9), time(14, 15))
    assert hours("HNX", date(2013, 7, 29)) == (time(9), time(15))


def test_a_release_of_holidays_that_disagrees_with_the_committed_past_is_noticed() -> None:
    """If this fails: the past stays as committed; note the disagreement and check the projection it would give."""
    confirmed = calendar("HNX").last_confirmed
    closures = calendar_types.vietnamese_closures().filter(
        pl.col("date") <= confirmed, pl.col("date").dt.year() >= 2002, pl.col("in_holidays_0_109") == 1
    )
    package = holidays.country_holidays("VN", years=range(2002, confirmed.year + 1))
    expected = {day for day in package if day <= confirmed}
    traded = {day for day in expected if calendar("HOSE").is_session(day)}
    assert traded == set(), "the package closes days on which the exchange traded"
    assert set(closures["date"]) - expected == set(), "the package forgot closures that it used to know"


def test_the_committed_closures_are_weekdays_in_order_each_named_once() -> None:
    closures = calendar_types.vietnamese_closures()
    assert closures["date"].is_sorted()
    assert closures["date"].is_unique().all()
    assert closures["date"].dt.weekday().max() <= 5
    assert set(closures["scope"]) == {"ALL", "HOSE", "HNX"}
    assert not closures.select(pl.any_horizontal(pl.all().is_null()).any()).item()


def test_what_nobody_has_announced_yet_is_marked_as_projected() -> None:
    hose = calendar("HOSE")
    assert not hose.is_session(date(2026, 11, 24))  # created in January 2026, no notice of the exchange yet
    assert hose.last_confirmed == date(2026, 11, 23)
    rows = hose.sessions(date(2026, 11, 1), date(2027, 12, 31))
    assert rows["projected"].to_list() == [day > hose.last_confirmed for day in rows["session"]]
    assert not hose.is_session(date(2027, 2, 8))  # Tet
    assert len(sessions("HOSE", date(2027, 1, 1), date(2027, 12, 31))) in range(243, 255)


# --- the other markets ----------------------------------------------------------------------------------------------


def test_hong_kong_was_closed_in_the_two_storms_that_the_library_missed() -> None:
    from exchange_calendars.exchange_calendar_xhkg import XHKGExchangeCalendar

    stock = {day.date() for day in XHKGExchangeCalendar(start="2010-01-01", end="2026-12-31").sessions}
    ours = sessions("XHKG", date(2010, 1, 1), date(2026, 12, 31))
    storms = {date(2023, 9, 1), date(2023, 9, 8)}
    assert not ours & storms
    assert ours == stock - storms


def test_early_closes_show_in_the_close() -> None:
    assert hours("XNYS", date(2024, 7, 3))[1] == time(13)
    assert hours("XNYS", date(2024, 7, 5))[1] == time(16)
    assert hours("XHKG", date(2025, 12, 24))[1] == time(12)
    assert hours("HOSE", date(2021, 6, 1)) == (time(9), time(11, 30))
    assert hours("HNX", date(2021, 6, 1))[1] == time(15)


def test_shanghai_goes_on_past_its_recorded_years_but_says_so() -> None:
    shanghai = calendar("XSHG")
    year = shanghai.last_confirmed.year
    assert year >= 2026
    recorded = shanghai.sessions(date(2026, 1, 1), shanghai.last_confirmed)
    assert not recorded["projected"].any()
    projected = shanghai.sessions(date(year + 1, 1, 1), date(year + 1, 12, 31))
    assert projected["projected"].all()
    assert projected.height in range(240, 256)
    assert not shanghai.is_session(date(2030, 10, 1))  # National Day, a Tuesday


# --- horizon --------------------------------------------------------------------------------------------------------


def test_a_calendar_warns_when_less_than_45_days_are_confirmed() -> None:
    shanghai = calendar("XSHG")
    end = shanghai.last_confirmed
    assert shanghai.horizon(end - timedelta(days=45)).ok
    assert not shanghai.horizon(end - timedelta(days=44)).ok
    late = shanghai.horizon(end + timedelta(days=3))
    assert (late.ok, late.days_left, late.confirmed_until) == (False, -3, end)


# --- finality -------------------------------------------------------------------------------------------------------


def test_a_hose_bar_is_final_half_an_hour_after_the_close() -> None:
    hose, zone = calendar("HOSE"), ZoneInfo("Asia/Ho_Chi_Minh")
    friday = date(2024, 5, 10)
    assert not hose.is_final(friday, datetime(2024, 5, 10, 15, 29, 59, tzinfo=zone), SETTLE)
    assert hose.is_final(friday, datetime(2024, 5, 10, 15, 30, tzinfo=zone), SETTLE)
    assert hose.latest_final(datetime(2024, 5, 10, 15, 29, 59, tzinfo=zone), SETTLE) == date(2024, 5, 9)
    assert hose.latest_final(datetime(2024, 5, 12, 12, tzinfo=zone), SETTLE) == friday


def test_finality_follows_daylight_saving_and_half_days() -> None:
    new_york = calendar("XNYS")
    assert new_york.latest_final(datetime(2024, 7, 3, 17, 30, tzinfo=UTC), SETTLE) == date(2024, 7, 3)
    assert new_york.latest_final(datetime(2024, 12, 2, 20, 30, tzinfo=UTC), SETTLE) == date(2024, 11, 29)
    assert new_york.latest_final(datetime(2024, 12, 2, 21, 30, tzinfo=UTC), SETTLE) == date(2024, 12, 2)


# --- laws -----------------------------------------------------------------------------------------------------------


@given(names, days, st.integers(1, 30))
def test_going_n_sessions_forward_and_back_arrives_where_it_began(name: str, day: date, n: int) -> None:
    known = calendar(name)
    ahead = known.next(day, n)
    start = day if known.is_session(day) else known.previous(day)
    assert known.previous(ahead, n) == start
    assert known.ordinal(ahead) - known.ordinal(start) == n
    assert known.sessions(start, ahead).height == n + 1


@given(names, days, st.integers(0, 400))
def test_a_range_holds_exactly_the_days_that_are_sessions(name: str, day: date, length: int) -> None:
    known = calendar(name)
    end = min(day + timedelta(days=length), known.known_to)
    every = [day + timedelta(days=n) for n in range((end - day).days + 1)]
    rows = known.sessions(day, end)
    assert rows["session"].to_list() == [one for one in every if known.is_session(one)]
    assert rows["session_no"].to_list() == [known.ordinal(one) for one in rows["session"]]
    assert (rows["open"] < rows["close"]).all()


@given(names, st.datetimes(datetime(2007, 1, 1), datetime(2034, 1, 1)), st.integers(0, 600))
def test_the_latest_final_session_is_final_and_the_next_is_not(name: str, now: datetime, minutes: int) -> None:
    known, settle, at = calendar(name), timedelta(minutes=minutes), now.replace(tzinfo=UTC)
    latest = known.latest_final(at, settle)
    assert known.is_final(latest, at, settle)
    assert not known.is_final(known.next(latest), at, settle)


@pytest.mark.parametrize("name", NAMES)
def test_no_session_falls_on_a_weekend_and_all_close_on_their_own_date(name: str) -> None:
    known = calendar(name)
    rows = known.sessions(known.known_from, known.known_to)
    local = pl.col("open", "close").dt.convert_time_zone(known.zone.key).dt.date()
    assert rows["session"].dt.weekday().max() <= 5
    assert rows["session_no"].to_list() == list(range(rows.height))
    assert rows.select((local == pl.col("session")).all()).row(0) == (True, True)


# --- golden.sessions ------------------------------------------------------------------------------------------------


def test_a_market_lists_the_sessions_of_each_of_its_exchanges() -> None:
    rows = market_sessions(VN, date(2018, 1, 22), date(2018, 1, 25))
    assert rows.columns == ["market", "exchange", *SESSIONS]
    assert dict(rows.group_by("exchange").len().iter_rows()) == {"HOSE": 2, "HNX": 4, "UPCOM": 4}
    assert rows["market"].unique().to_list() == ["vn"]
    assert rows.equals(rows.sort("exchange", "session"))


def test_an_exchange_has_no_sessions_before_it_opened() -> None:
    opened = market_sessions(VN, VN.first_session, date(2010, 1, 1)).group_by("exchange").agg(pl.col("session").min())
    assert dict(opened.iter_rows()) == {
        "HOSE": date(2000, 7, 28),
        "HNX": date(2005, 7, 14),
        "UPCOM": date(2009, 6, 24),
    }
    assert set(market_sessions(CN, date(2021, 11, 1), date(2021, 11, 12))["exchange"]) == {"SSE", "SZSE"}


@pytest.mark.parametrize("spec", [US, CN, HK, VN], ids=lambda spec: spec.code)
def test_a_market_is_not_asked_about_days_before_its_first_session_is_known(spec: MarketSpec) -> None:
    with pytest.raises(BeyondHorizon):
        market_sessions(spec, date(1985, 1, 1), date(2020, 1, 1))


# --- exchange_calendars ---------------------------------------------------------------------------------------------


def test_exchange_calendars_answers_the_same_sessions_and_closes() -> None:
    import exchange_calendars

    for name in ("XSTC", "HSTC"):
        theirs = exchange_calendars.get_calendar(name)
        ours = calendar(name).sessions(calendar(name).known_from, calendar(name).known_to)
        assert [day.date() for day in theirs.sessions] == ours["session"].to_list()
        assert [close.to_pydatetime() for close in theirs.closes] == ours["close"].to_list()


@pytest.mark.parametrize(
    "order",
    [
        "import vprism_pipelines.market.calendars, exchange_calendars as xc",
        "import exchange_calendars as xc, vprism_pipelines.market.calendars",
        "import vprism_pipelines.market.calendars; from exchange_calendars import calendar_utils as xc",
    ],
)
def test_exchange_calendars_knows_hose_whichever_is_imported_first(order: str) -> None:
    code = f"{order}\nprint(xc.get_calendar('XSTC', start='2024-02-01', end='2024-02-29').sessions.size)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.split() == ["16"]


def test_importing_the_calendars_loads_neither_pandas_nor_exchange_calendars() -> None:
    code = (
        "import sys, vprism_pipelines.market.calendars\n"
        "print({'pandas', 'exchange_calendars', 'holidays'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "set()"
