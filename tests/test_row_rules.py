"""What a user can rely on when rows arrive on closed days, a day early, in odd order or in another currency."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.market.spec import MarketSpec, market
from vprism_pipelines.quality.alignment import date_shift
from vprism_pipelines.quality.row_checks import ROW_CHECKS
from vprism_pipelines.quality.rows import Cleaned, clean_bars
from vprism_pipelines.tables import RAW_BARS

VN = market("vn")
SESSIONS = calendar("HOSE").sessions(date(2023, 1, 3), date(2023, 12, 29))
DAYS = SESSIONS["session"].to_list()
NOW = datetime(2024, 6, 3, 12, tzinfo=UTC)


def rows(days: Sequence[date], spec: MarketSpec = VN, code: str = "FPT", **columns: Any) -> Cleaned:
    """The bars of one pull on these days in this order, priced by the day, cleaned."""
    prices = {
        name: pl.col("session").dt.ordinal_day().cast(pl.Float64) + 100 for name in ("open", "high", "low", "close")
    }
    plain: dict[str, object] = {
        "fetch_id": "f1",
        "raw_symbol": code,
        "volume": 1000.0,
        "price_unit": 1.0,
        "volume_unit": 1.0,
        "value_unit": 1.0,
        "basis_factor": 1.0,
        "price_basis": "raw",
    }
    given = {name: value if isinstance(value, pl.Expr) else pl.lit(value) for name, value in (plain | columns).items()}
    raw = pl.DataFrame({"session": list(days)}).with_columns(**prices).with_columns(**given).with_row_index("row")
    missing = [pl.lit(None).alias(name) for name in RAW_BARS.names if name not in raw.columns]
    pulls = pl.DataFrame({"fetch_id": ["f1"], "provider": ["kbs"], "fetched_at": [NOW]})
    code_of = {"vn": "XSTC", "cn": "XSHG", "hk": "XHKG"}[spec.code]
    return clean_bars(
        RAW_BARS.conform(raw.with_columns(missing)),
        pulls.cast({"fetched_at": pl.Datetime("us", "UTC")}),
        spec,
        SESSIONS.with_columns(calendar=pl.lit(code_of)),
    )


def refused(cleaned: Cleaned) -> dict[date, list[str]]:
    return {row["session"]: row["reasons"] for row in cleaned.quarantined.iter_rows(named=True)}


def test_a_page_of_bars_dated_a_day_early_is_refused_whole_and_its_neighbours_are_not() -> None:
    monday = next(n for n, day in enumerate(DAYS) if day.weekday() == 0 and day.month == 6)
    page = set(DAYS[monday : monday + 20])
    days = [day - timedelta(days=1) if day in page else day for day in DAYS[: monday + 40]]
    assert set(refused(rows(days))) == {day - timedelta(days=1) for day in page}
    assert rows(days).reasons() == {"shifted_date": 16, "not_a_session": 4}


def test_one_bar_on_a_sunday_is_no_reproach_to_a_complete_week() -> None:
    sunday = next(day for day in DAYS if day.weekday() == 0 and day.month == 6) - timedelta(days=1)
    days = sorted([*DAYS[:140], sunday])
    assert refused(rows(days)) == {sunday: ["not_a_session"]}


def test_a_filler_on_a_closed_day_is_told_from_a_bar_that_must_not_be_there() -> None:
    closed = date(2023, 5, 1)
    days = sorted([*DAYS[:100], closed])
    idle = pl.col("session") == closed
    same = {name: pl.col(name).shift(1) for name in ("open", "high", "low", "close")}
    flat: dict[str, Any] = {name: pl.when(idle).then(value).otherwise(name) for name, value in same.items()}
    without = pl.when(idle).then(0.0).otherwise(1000.0)
    assert refused(rows(days, **flat, volume=without)) == {closed: ["filler"]}
    assert refused(rows(days, **flat)) == {closed: ["filler"]}, "a copy of the bar before says nothing either"
    assert refused(rows(days)) == {closed: ["not_a_session"]}


@given(down=st.booleans(), place=st.integers(3, 90), to=st.integers(0, 93))
@settings(max_examples=30, deadline=None)
def test_only_a_date_that_stands_alone_against_its_neighbours_is_out_of_order(down: bool, place: int, to: int) -> None:
    days = DAYS[:94][::-1] if down else DAYS[:94]
    moved = days.pop(place)
    days.insert(to, moved)
    expected = {} if abs(place - to) <= 1 or to in (0, 1, 92, 93) else {moved: ["not_monotone"]}
    assert refused(rows(days)) == expected


def test_pages_in_any_order_are_in_order() -> None:
    assert not refused(rows([*DAYS[50:80], *DAYS[:50], *DAYS[80:90][::-1]]))


@pytest.mark.parametrize(
    ("spec", "code", "currency"),
    [
        ("cn", "600519", "CNY"),
        ("cn", "900901", "USD"),
        ("cn", "200012", "HKD"),
        ("hk", "00700", "HKD"),
        ("hk", "80700", "CNY"),
    ],
)
def test_every_listing_has_its_own_currency_and_no_other(spec: str, code: str, currency: str) -> None:
    silent = rows(DAYS[:5], market(spec), code)
    assert silent.accepted["currency"].unique().to_list() == [currency]
    assert not refused(rows(DAYS[:5], market(spec), code, currency=currency))
    assert rows(DAYS[:5], market(spec), code, currency="EUR").reasons() == {"wrong_currency": 5}


def test_a_delivery_in_another_zone_is_named_by_its_pull() -> None:
    dates = pl.DataFrame(
        {
            "provider": "kbs",
            "fetch_id": ["good"] * 50 + ["bad"] * 50,
            "session": [*DAYS[:50], *(day - timedelta(days=1) for day in DAYS[:50])],
        }
    )
    verdicts = date_shift(dates, SESSIONS).select("fetch_id", "verdict", "best_lag").rows()
    assert verdicts == [("bad", "SHIFTED", 1), ("good", "OK", 0)]


def test_every_reason_in_the_quarantine_is_a_check_of_the_catalogue() -> None:
    days = [*DAYS[:30], *DAYS[:5], DAYS[20] - timedelta(days=365 * 40)]
    assert set(rows(days, volume=-1.0).reasons()) <= set(ROW_CHECKS)
