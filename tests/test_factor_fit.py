"""What a user can rely on when our factors are held against the adjusted closes that a provider publishes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.histories import PROVIDERS
from tests.house import DAYS, US, Bench, action, answer, bar
from vprism_pipelines.quality.factors import Reproduction, reproduction
from vprism_pipelines.tables import ADJUSTMENT_STEPS, FACTOR_FIT
from vprism_pipelines.warehouse import factor_fit, golden
from vprism_pipelines.warehouse.building import frame
from vprism_pipelines.warehouse.lake import Lake

RAW = [20_000.0 + 130 * n for n in range(6)] + [10_010.0 + 70 * n for n in range(6)]
SPLIT = DAYS[6]
HALVED = [1.0] * 6 + [2.0] * 6


def compared(published: list[float], *, hfq: float = 2.0, ex_close: float | None = None) -> Reproduction:
    """The raw closes above, with our factors at one ex-date, against these adjusted closes."""
    bars = pl.DataFrame({"session": DAYS[:12], "close": RAW, "adj_close": published}).with_columns(
        symbol=pl.lit("VN:STOCK:AAA")
    )
    factors = pl.DataFrame(
        {
            "symbol": ["VN:STOCK:AAA"],
            "effective_session": [SPLIT],
            "hfq": [hfq],
            "hfq_ex_close": [hfq if ex_close is None else ex_close],
        }
    )
    return reproduction(bars, factors)


@pytest.mark.parametrize("anchor", [1.0, 0.5, 0.0137])
def test_wherever_a_series_is_anchored_our_factors_reproduce_it(anchor: float) -> None:
    found = compared([close * factor * anchor for close, factor in zip(RAW, HALVED, strict=True)])
    assert found.fit["missed"].to_list() == [0]
    assert found.fit["session"].to_list() == [None]
    assert found.steps.is_empty()


@pytest.mark.parametrize("unit", [10.0, 1.0, 0.01])
def test_what_a_provider_rounds_away_is_not_missed(unit: float) -> None:
    exact = [close * factor * 0.3717 for close, factor in zip(RAW, HALVED, strict=True)]
    found = compared([round(price / unit) * unit for price in exact])
    assert found.fit.select("unit", "missed").rows() == [(unit, 0)]
    assert found.steps.is_empty()


def test_a_unit_larger_than_the_prices_is_none() -> None:
    exact = [close * factor * 1e-8 for close, factor in zip(RAW, HALVED, strict=True)]
    found = compared([price if n < 6 else price * 2 for n, price in enumerate(exact)])
    assert found.fit.select("unit", "missed").rows() == [(0.0, 6)]


def test_a_few_round_prices_make_no_unit() -> None:
    bars = pl.DataFrame({"session": DAYS[:2], "close": [20_000.0, 30_000.0], "adj_close": [20_000.0, 31_000.0]})
    none = pl.DataFrame(
        schema={
            "symbol": pl.String,
            "effective_session": pl.Date,
            "hfq": pl.Float64,
            "hfq_ex_close": pl.Float64,
        }
    )
    found = reproduction(bars.with_columns(symbol=pl.lit("VN:STOCK:AAA")), none)
    assert found.fit["missed"].to_list() == [1]
    assert found.steps["finding"].to_list() == ["no event is known"]


def test_the_convention_does_not_hang_on_which_series_are_compared_together() -> None:
    rng = np.random.default_rng(3)
    many = pl.concat(
        pl.DataFrame({"session": DAYS[:50], "close": rng.uniform(10, 20, 50)}).with_columns(
            symbol=pl.lit(f"US:STOCK:S{n:03d}"), adj_close=pl.col("close") / 3
        )
        for n in range(200)
    )
    steps = pl.DataFrame({"symbol": many["symbol"].unique().sort()}).with_columns(
        effective_session=pl.lit(DAYS[20]), hfq=pl.lit(2.0), hfq_ex_close=pl.lit(np.nextafter(2.0, 3.0))
    )
    whole = reproduction(many, steps).fit
    alone = [reproduction(one, steps).fit for one in many.partition_by("symbol", maintain_order=True)]
    assert whole.equals(pl.concat(alone))


def test_one_wrong_adjusted_close_is_named() -> None:
    published = [close * factor / 2 for close, factor in zip(RAW, HALVED, strict=True)]
    published[3] -= 25.0
    found = compared(published)
    worst = found.fit.select("bars", "missed", "session", "close", "published", "missed_by").row(0)
    assert worst == (12, 1, DAYS[3], RAW[3], published[3], pytest.approx(25.0))
    assert found.steps["session"].to_list() == [DAYS[3], DAYS[4]], "there and back"


def test_the_convention_that_fits_better_is_the_providers() -> None:
    by_ex_close = [close * (1.0 if n < 6 else 1.9) for n, close in enumerate(RAW)]
    found = compared(by_ex_close, hfq=2.0, ex_close=1.9)
    assert found.fit.select("convention", "missed").rows() == [("ex_close", 0)]
    assert found.steps.is_empty(), "a step on either convention is explained"


def test_a_step_of_another_size_or_without_an_event_is_told() -> None:
    published = [close * (1.0 if n < 6 else 1.9) for n, close in enumerate(RAW)]
    other, unknown = compared(published), compared(published, hfq=1.0)
    assert other.steps.select("session", "finding").rows() == [(SPLIT, "another step")]
    assert unknown.steps.select("session", "finding").rows() == [(SPLIT, "no event is known")]
    assert other.steps.select("theirs", "ours").row(0) == pytest.approx((1.9, 2.0))
    assert other.fit["missed"][0] == 6


# --- kept in the warehouse ------------------------------------------------------------------------------------------

TOLD = st.lists(
    st.tuples(
        st.sampled_from(["one", "two"]),
        st.sampled_from(["A", "B"]),
        st.integers(0, 6),
        st.integers(2, 10),
        st.sampled_from([0.5, 0.25, None]),
        st.sampled_from([None, 3, 9]),
    ),
    min_size=1,
    max_size=6,
)


def tell(
    bench: Bench,
    number: int,
    provider: str,
    code: str,
    first: int,
    length: int,
    factor: float | None,
    event: int | None,
) -> None:
    """Bars of some days, adjusted or not, and perhaps a split; then everything up to the fit."""
    told = [
        bar(code, DAYS[n], 50.0 + n, adj_close=None if factor is None else factor * (50.0 + n))
        for n in range(first, first + length)
    ]
    splits = [action(code, DAYS[event], event_type="split", split_ratio=2.0)] if event is not None else []
    at = datetime.combine(DAYS[30], datetime.min.time(), UTC) + timedelta(hours=number)
    days: tuple[date, date] = (DAYS[first], DAYS[first + length - 1])
    bench.pull(PROVIDERS[provider], answer(told, splits), at, days)
    bench.ingest("bars")
    bench.ingest("actions")
    golden.build_events(bench.connection, US)
    golden.build_bars(bench.connection, US)
    golden.build_factors(bench.connection, US)


def kept(bench: Bench) -> list[pl.DataFrame]:
    return [frame(bench.connection, f"FROM {table.full_name} ORDER BY ALL") for table in (FACTOR_FIT, ADJUSTMENT_STEPS)]


@settings(max_examples=25, deadline=None)
@given(told=TOLD)
def test_in_whatever_pieces_it_was_told_the_fit_is_that_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory,
    told: list[tuple[str, str, int, int, float | None, int | None]],
) -> None:
    with Bench(Lake(tmp_path_factory.mktemp("lake"))) as bench:
        for number, piece in enumerate(told):
            tell(bench, number, *piece)
            factor_fit.refresh(bench.connection, US)
        step_by_step = kept(bench)
        for table in (FACTOR_FIT, ADJUSTMENT_STEPS):
            bench.connection.execute(f"DELETE FROM {table.full_name}")
        bench.connection.execute("DELETE FROM ops.watermarks WHERE stage = 'factor_fit'")
        factor_fit.refresh(bench.connection, US)
        for ours, whole in zip(step_by_step, kept(bench), strict=True):
            assert ours.equals(whole)


def test_other_rules_compare_everything_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Bench(Lake(tmp_path)) as bench:
        tell(bench, 0, "one", "A", 0, 8, 0.5, None)
        assert [factor_fit.refresh(bench.connection, US) for _ in range(2)] == [1, 0]
        monkeypatch.setattr(factor_fit, "RULES", factor_fit.RULES + 1)
        assert [factor_fit.refresh(bench.connection, US) for _ in range(2)] == [1, 0]


def test_only_series_whose_closes_or_factors_changed_are_compared_again(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with Bench(Lake(tmp_path_factory.mktemp("lake"))) as bench:
        for number, code in enumerate("ABC"):
            tell(bench, number, "one", code, 0, 8, 0.5, None)
        assert factor_fit.refresh(bench.connection, US) == 3
        assert factor_fit.refresh(bench.connection, US) == 0
        tell(bench, 5, "one", "B", 8, 2, 0.5, None)
        assert factor_fit.refresh(bench.connection, US) == 1
        tell(bench, 6, "two", "C", 12, 1, None, 4)
        assert factor_fit.refresh(bench.connection, US) == 2, "the new series, and the one that the split bears on"
        assert factor_fit.adjusted_close(bench.connection, US).value == 4
        assert factor_fit.adjustment_steps(bench.connection, US).evidence["finding"].to_list() == ["another step"]
