"""What a user can rely on when two providers, their units, their dates and their factors are compared."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vprism_pipelines.errors import ContractViolation
from vprism_pipelines.market.adjustment import factor_sets
from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.market.spec import market
from vprism_pipelines.quality.alignment import date_shift, unit_suspects
from vprism_pipelines.quality.factors import factor_agreement
from vprism_pipelines.quality.reconcile import Reconciliation, reconcile

VN, US = market("vn"), market("us")
HOSE = calendar("HOSE").sessions(date(2024, 1, 2), date(2024, 12, 31))
DAYS = HOSE["session"].to_list()
FPT = "VN:STOCK:FPT"


def bars(closes: list[float], *, symbol: str = FPT, volume: int = 1_000, start: int = 0) -> pl.DataFrame:
    return pl.DataFrame(
        {"symbol": symbol, "session": DAYS[start : start + len(closes)], "exchange": "HOSE", "close": closes},
        schema_overrides={"close": pl.Float64},
    ).with_columns(volume=pl.lit(volume))


def compare(a: pl.DataFrame, b: pl.DataFrame) -> Reconciliation:
    return reconcile(a, b, VN)


def classes(result: Reconciliation) -> list[str]:
    return result.diffs["difference"].to_list()


def test_identical_providers_pass_without_a_difference() -> None:
    result = compare(bars([26_400] * 9), bars([26_400] * 9))
    run = result.run.row(0, named=True)
    assert (run["pass_count"], run["warn_count"], run["fail_count"]) == (9, 0, 0)
    assert (run["exact_share"], run["p95_close_bp_diff"], run["status"]) == (1.0, 0.0, "PASS")
    assert result.diffs.is_empty()


@pytest.mark.parametrize(
    ("close", "status"),
    [(100_049.0, "PASS"), (100_050.0, "WARN"), (99_950.0, "WARN"), (100_099.0, "WARN"), (100_100.0, "FAIL")],
)
def test_a_difference_of_five_basis_points_warns_and_of_ten_fails(close: float, status: str) -> None:
    assert compare(bars([close] * 2), bars([100_000.0] * 2)).diffs["status"].to_list() == [status] * 2


@pytest.mark.parametrize(("volume", "status"), [(1_199, "PASS"), (1_200, "WARN"), (1_500, "FAIL")])
def test_volumes_are_judged_the_same_whichever_side_is_greater(volume: int, status: str) -> None:
    one, other = bars([26_400] * 3, volume=volume), bars([26_400] * 3, volume=1_000)
    for result in (compare(one, other), compare(other, one)):
        assert result.diffs["status"].to_list() == [status] * 3


@given(price=st.integers(1, 10**9), bp=st.sampled_from([5, 10]))
@settings(max_examples=60, deadline=None)
def test_a_value_on_a_threshold_has_reached_it_at_any_price(price: int, bp: int) -> None:
    base = price / 100
    diffs = compare(bars([base * (1 + bp / 1e4)] * 2), bars([base] * 2)).diffs
    assert diffs["status"].to_list() == [{5: "WARN", 10: "FAIL"}[bp]] * 2


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=40))
@settings(max_examples=40, deadline=None)
def test_the_95th_percentile_is_linear_over_absolute_differences(moves: list[float]) -> None:
    result = compare(bars([100.0 * (1 + m / 1e4) for m in moves]), bars([100.0] * len(moves)))
    ordered = sorted(abs(m) for m in moves)
    place = 0.95 * (len(ordered) - 1)
    low = int(place)
    expected = ordered[low] + (place - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])
    assert result.run["p95_close_bp_diff"].item() == pytest.approx(expected, abs=1e-5)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_every_common_or_one_sided_row_is_counted_once(data: st.DataObject) -> None:
    sides = [
        data.draw(st.lists(st.tuples(st.integers(0, 30), st.integers(90, 110)), unique_by=lambda row: row[0]))
        for _ in "ab"
    ]
    frames = [
        pl.DataFrame(
            {"symbol": [FPT] * len(rows), "session": [DAYS[day] for day, _ in rows], "close": [c for _, c in rows]},
            schema={"symbol": pl.String, "session": pl.Date, "close": pl.Float64},
        ).with_columns(volume=pl.lit(100))
        for rows in sides
    ]
    run = compare(*frames).run.row(0, named=True)
    days = [{day for day, _ in rows} for rows in sides]
    assert run["compared"] == len(days[0] & days[1])
    assert run["compared"] + run["missing_source_a"] + run["missing_source_b"] + run["outside"] == len(
        days[0] | days[1]
    )
    one_sided = run["missing_source_a"] + run["missing_source_b"]
    assert run["pass_count"] + run["warn_count"] + run["fail_count"] == run["compared"] + one_sided


def test_a_session_one_side_lacks_fails_and_names_the_side() -> None:
    full = bars([26_400 + 50 * n for n in range(12)])
    result = compare(full, full.filter(pl.col("session") != DAYS[4]))
    assert result.diffs.select("session", "status", "reason", "difference").rows() == [
        (DAYS[4], "FAIL", "missing_source_b", "one_sided")
    ]


def test_history_before_the_other_side_begins_is_no_failure() -> None:
    run = compare(bars([26_400] * 30), bars([26_400] * 10, start=20)).run.row(0, named=True)
    assert (run["outside"], run["fail_count"], run["status"]) == (20, 0, "PASS")


def test_a_symbol_that_one_side_lacks_fails_as_a_symbol() -> None:
    result = compare(bars([10_000] * 3), bars([10_000] * 3, symbol="VN:STOCK:VNM"))
    found = dict(result.symbols.select("symbol", "reason").iter_rows())
    assert found == {FPT: "missing_source_b", "VN:STOCK:VNM": "missing_source_a"}
    assert result.run["status"].item() == "FAIL"


def test_bars_nobody_traded_are_not_compared() -> None:
    filler = bars([99_000] * 3, start=3).with_columns(volume=pl.lit(0))
    result = compare(pl.concat([bars([26_400] * 3), filler]), bars([26_400] * 3))
    assert (result.run["untraded"].item(), result.run["status"].item()) == (3, "PASS")


def test_two_percent_of_failing_rows_pass_the_run_and_more_do_not() -> None:
    truth = [26_400.0] * 100
    for wrong, status in ((2, "WARN"), (3, "FAIL")):
        other = [30_000.0 if n % 33 == 1 and n < 33 * wrong else close for n, close in enumerate(truth)]
        assert compare(bars(other), bars(truth)).run["status"].item() == status


def test_a_long_run_of_one_ratio_is_an_event_error() -> None:
    truth = [26_400.0 + 150 * n for n in range(30)]
    wrong = [close * 0.9 if n < 12 else close for n, close in enumerate(truth)]
    assert classes(compare(bars(wrong), bars(truth))) == ["event_error"] * 12


def test_a_single_row_is_a_bar_error_and_a_tick_is_a_tick() -> None:
    truth = [26_400.0] * 20
    wrong = [27_900.0 if n == 4 else 26_450.0 if n == 9 else close for n, close in enumerate(truth)]
    assert classes(compare(bars(wrong), bars(truth))) == ["bar_error", "one_tick"]


def test_a_run_of_varying_differences_is_another_price() -> None:
    truth = [26_400.0] * 12
    wrong = [close + 300 + 100 * (n % 3) if 2 <= n < 9 else close for n, close in enumerate(truth)]
    assert classes(compare(bars(wrong), bars(truth))) == ["other_price"] * 7


def test_thousands_are_a_unit_not_an_event() -> None:
    truth = [26_400.0 + 50 * n for n in range(10)]
    assert classes(compare(bars([c / 1000 for c in truth]), bars(truth))) == ["unit"] * 10


def test_a_session_on_which_many_symbols_differ_is_blamed_itself() -> None:
    names = [f"VN:STOCK:AA{letter}" for letter in "ABCDEFGHIJ"]
    truth = pl.concat(bars([26_400.0] * 9, symbol=name) for name in names)
    bad = (pl.col("session") == DAYS[5]) & pl.col("symbol").is_in(names[:6])
    wrong = truth.with_columns(close=pl.when(bad).then(28_000.0).otherwise("close"))
    assert classes(compare(wrong, truth)) == ["session_error"] * 6


def test_a_bar_stated_twice_is_refused() -> None:
    with pytest.raises(ContractViolation, match="twice"):
        compare(pl.concat([bars([1.0]), bars([2.0])]), bars([1.0]))
    with pytest.raises(ContractViolation, match="volume"):
        compare(bars([1.0]).drop("volume"), bars([1.0]))


def test_empty_deliveries_fail_the_run_instead_of_crashing() -> None:
    full = bars([26_400] * 3)
    assert compare(full, full.clear()).run["status"].item() == "FAIL"
    assert compare(full.clear(), full.clear()).run["status"].item() == "FAIL"


# --- units and dates ------------------------------------------------------------------------------------------------


def delivery(close: float = 26_400.0, *, value: float | None = 1.0, symbol: str = FPT) -> pl.DataFrame:
    """Sixty bars in VND and shares; `value` scales the value, None leaves it out."""
    closes = [close + 50 * (n % 7) for n in range(60)]
    frame = bars(closes, symbol=symbol, volume=120_000).with_columns(provider=pl.lit("acme"))
    return frame.with_columns(value=pl.col("close") * pl.col("volume") * value if value else pl.lit(None, pl.Float64))


def scaled(frame: pl.DataFrame, **factors: float) -> pl.DataFrame:
    return frame.with_columns((pl.col(name) * factor).alias(name) for name, factor in factors.items())


@pytest.mark.parametrize(
    ("factors", "field", "factor"),
    [
        ({"close": 1e-3}, "close", 1e3),
        ({"close": 1e3}, "close", 1e-3),
        ({"volume": 1e-2}, "volume", 1e2),
        ({"value": 1e-6}, "value", 1e6),
        ({"value": 1e-3}, "value", 1e3),
    ],
)
def test_turnover_names_the_column_in_the_wrong_unit(factors: dict[str, float], field: str, factor: float) -> None:
    found = unit_suspects(scaled(delivery(), **factors), VN)
    assert found.select("field").to_series().to_list() == [field]
    assert found["factor"].item() == pytest.approx(factor)


@pytest.mark.parametrize(("scale", "factor"), [(1e-3, 1e3), (1e3, 1e-3)])
@pytest.mark.parametrize("exchange", ["HOSE", None])
def test_prices_alone_tell_thousand_vnd_even_without_an_exchange(
    scale: float, factor: float, exchange: str | None
) -> None:
    frame = scaled(delivery(value=None), close=scale).with_columns(exchange=pl.lit(exchange, pl.String))
    found = unit_suspects(frame, VN)
    assert found.select("field", "factor").rows() == [("close", factor)]
    if scale < 1:
        assert "prices look like thousand VND" in found["evidence"].item()


def test_a_penny_share_follows_the_rest_of_its_provider() -> None:
    names = ["VN:STOCK:AAA", "VN:STOCK:BBB", "VN:STOCK:CCC"]
    shares = pl.concat(scaled(delivery(value=None, symbol=name), close=1e3) for name in names)
    penny = scaled(delivery(500.0, value=None, symbol="VN:STOCK:DDD"), close=1e3)
    found = unit_suspects(pl.concat([shares, penny]), VN)
    assert dict(found.select("symbol", "method").iter_rows()) == dict.fromkeys(names, "range") | {
        "VN:STOCK:DDD": "company"
    }


@given(close=st.integers(6, 3_000), noise=st.floats(0.93, 1.07))
@settings(max_examples=30, deadline=None)
def test_right_units_are_never_suspected(close: int, noise: float) -> None:
    assert unit_suspects(delivery(close * 100.0, value=noise), VN).is_empty()


def test_us_prices_are_judged_by_turnover_alone() -> None:
    apple = delivery(124.0, symbol="US:STOCK:AAPL")
    assert unit_suspects(apple, US).is_empty()
    assert unit_suspects(scaled(apple, volume=0.01), US)["field"].to_list() == ["volume"]


@given(lag=st.sampled_from([-1, 0, 1]), start=st.integers(0, 150), length=st.integers(25, 90))
@settings(max_examples=40, deadline=None)
def test_a_shift_of_one_day_is_found_and_says_how_to_undo_it(lag: int, start: int, length: int) -> None:
    dates = [day + timedelta(days=lag) for day in DAYS[start : start + length]]
    found = date_shift(pl.DataFrame({"session": dates}), HOSE).row(0, named=True)
    assert (found["best_lag"], found["verdict"]) == (-lag, "SHIFTED" if lag else "OK")


def test_a_handful_of_dates_is_no_evidence() -> None:
    assert date_shift(pl.DataFrame({"session": DAYS[:4]}), HOSE)["verdict"].item() == "UNKNOWN"


# --- factors --------------------------------------------------------------------------------------------------------


def adjusted_by(step: float, at: int, **terms: float) -> pl.DataFrame:
    """factor_agreement for one event on day 10 against a provider whose step of `step` lies on day `at`."""
    closes = [100_000.0] * 10 + [90_000.0] * 10
    raw = bars(closes)
    event = {"symbol": [FPT], "ex_date": [DAYS[10]], "event_type": ["cash"], **{k: [v] for k, v in terms.items()}}
    steps = factor_sets(pl.DataFrame(event), raw, "VND").steps
    adjusted = raw.with_columns(
        adj_close=pl.when(pl.col("session") < DAYS[at]).then(pl.col("close") / step).otherwise("close")
    )
    return factor_agreement(steps, adjusted)


@pytest.mark.parametrize(
    ("step", "at", "verdict", "cause"),
    [
        (100 / 90, 10, "AGREE", None),
        (100 / 90 * 1.0009, 10, "AGREE", None),
        (1.0, 10, "DISAGREE", "not_applied"),
        (100 / 90, 12, "DISAGREE", "other_date"),
        (103 / 93, 10, "DISAGREE", "other_close"),
        (1.25, 10, "DISAGREE", "other_terms"),
    ],
)
def test_a_disagreement_about_a_dividend_names_its_cause(step: float, at: int, verdict: str, cause: str | None) -> None:
    found = adjusted_by(step, at, cash=10_000.0).row(0, named=True)
    assert (found["kind"], found["verdict"], found["cause"]) == ("cash", verdict, cause)


def test_a_provider_that_applies_only_the_dividend_is_told_apart() -> None:
    found = adjusted_by(100 / 90, 10, cash=10_000.0, bonus_ratio=0.2).row(0, named=True)
    assert (found["kind"], found["cause"]) == ("cash_and_stock", "partly_applied")


# --- real history ---------------------------------------------------------------------------------------------------

VND = 1_000.0


@pytest.mark.shared
def test_two_real_providers_agree_on_998_of_1000_closes(shared_data: Path) -> None:
    key = [pl.format("VN:STOCK:{}", "symbol").alias("symbol"), pl.col("date").alias("session")]
    cafef = pl.read_parquet(shared_data / "vn_cafef_daily.parquet").select(
        *key, close=(pl.col("GiaDongCua") * VND).round(), volume="KhoiLuongKhopLenh"
    )
    vndirect = pl.read_parquet(shared_data / "vn_vndirect_close_asof_2021_02.parquet").select(
        *key, close=(pl.col("unadjusted") * VND).round(), volume="volume"
    )
    result = reconcile(cafef, vndirect, VN, sources=("cafef", "vndirect"))
    run = result.run.row(0, named=True)
    assert run["compared"] > 1_100_000
    assert run["exact_share"] >= 0.998
    assert run["fail_share"] <= 0.005
    apart = result.diffs.filter(pl.col("close_bp_diff") != 0)
    assert apart.height == round((1 - run["exact_share"]) * run["compared"])
    events = apart.filter(pl.col("difference") == "event_error")
    assert events["symbol"].unique().to_list() == ["VN:STOCK:BTP"]


@pytest.mark.shared
def test_factors_from_declared_events_agree_with_the_providers_own(shared_data: Path) -> None:
    raw = pl.read_parquet(shared_data / "vn_vndirect_close_asof_2021_02.parquet").select(
        "symbol", session="date", close=(pl.col("unadjusted") * VND).round(6), adj_close=pl.col("close") * VND
    )
    agreement = factor_agreement(factor_sets(_vndirect_events(shared_data), raw, "VND").steps, raw)
    assert agreement.filter(pl.col("verdict") == "DISAGREE")["cause"].null_count() == 0
    share = dict(agreement.group_by("kind").agg((pl.col("verdict") == "AGREE").mean()).iter_rows())
    assert share["cash"] >= 0.93
    assert share["cash_and_stock"] >= 0.92
    assert share["stock"] >= 0.87
    assert share["rights"] >= 0.82


def _vndirect_events(folder: Path) -> pl.DataFrame:
    kinds = {"DIVIDEND": "cash", "STOCKDIV": "stock_dividend", "KINDDIV": "bonus", "ISSUE": "rights"}
    price = pl.col("content").str.extract(r"giá\s*([\d.,]+)").str.replace_all(r"[.,]", "").cast(pl.Float64)
    private = pl.col("content").str.contains("CBCNV|chiến lược|riêng lẻ")
    rights = pl.col("event_type") == "rights"
    return (
        pl.read_parquet(folder / "vn_vndirect_events.parquet")
        .filter(pl.col("type").is_in(list(kinds)))
        .with_columns(event_type=pl.col("type").replace_strict(kinds), ratio=pl.col("ratio") / 100, price=price)
        .filter(~rights | (pl.col("ratio").is_not_null() & pl.col("price").is_not_null() & ~private))
        .select(
            "symbol",
            "event_type",
            ex_date="effectiveDate",
            cash=pl.when(pl.col("event_type") == "cash").then("dividend"),
            bonus_ratio=pl.when(pl.col("event_type").is_in(["stock_dividend", "bonus"])).then("ratio"),
            rights_ratio=pl.when(rights).then("ratio"),
            rights_price=pl.when(rights).then("price"),
        )
        .unique(maintain_order=True)
    )
