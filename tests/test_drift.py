"""What a user can rely on when the newest observations are held against those before."""

from __future__ import annotations

import statistics
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.histories import PROVIDERS
from tests.house import DAYS, US, Bench, action, answer, bar
from vprism_pipelines.errors import ContractViolation
from vprism_pipelines.quality.drift import WINDOW, drift
from vprism_pipelines.warehouse.drift import build_drift, observed_drift
from vprism_pipelines.warehouse.lake import Lake
from vprism_pipelines.warehouse.reconciliation import query_of

A = "US:STOCK:A"


def bars(closes: list[float], volumes: list[int | None] | None = None, symbol: str = A) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "symbol": symbol,
            "session": DAYS[: len(closes)],
            "close": closes,
            "volume": volumes if volumes is not None else [1000] * len(closes),
        },
        schema_overrides={"close": pl.Float64, "volume": pl.Int64},
    )


def of(found: pl.DataFrame, metric: str = "close") -> dict[str, object]:
    return found.row(by_predicate=pl.col("metric") == metric, named=True)


BASELINE = [99.0, 101.0] * 15  # mean 100, sample standard deviation sqrt(30 / 29)
STD = statistics.stdev(BASELINE)


@pytest.mark.parametrize(
    ("times", "status"), [(1.999999, "OK"), (2, "WARN"), (-2, "WARN"), (2.999999, "WARN"), (3, "FAIL"), (-3, "FAIL")]
)
def test_two_standard_deviations_warn_and_three_fail_whatever_the_float_noise(times: float, status: str) -> None:
    found = of(drift(bars([*BASELINE, 100 + times * STD])))
    assert (found["status"], found["z"]) == (status, pytest.approx(times, abs=1e-9))


@given(st.lists(st.floats(1, 1000).map(lambda x: round(x, 2)), min_size=31, max_size=80))
def test_z_is_the_latest_against_the_thirty_before_it(closes: list[float]) -> None:
    found = of(drift(bars(closes)))
    baseline = closes[-31:-1]
    assert (found["value"], found["session"], found["observations"]) == (closes[-1], DAYS[len(closes) - 1], 30)
    if len(set(baseline)) == 1:
        assert found["z"] == 0
    else:
        z = (closes[-1] - statistics.fmean(baseline)) / statistics.stdev(baseline)
        assert found["z"] == pytest.approx(z, rel=1e-7, abs=1e-8)


def test_a_price_that_never_moved_has_no_drift_even_when_it_jumps() -> None:
    assert [of(drift(bars([5.0] * 30 + [last])))["z"] for last in (5.0, 50.0)] == [0.0, 0.0]
    noisy = [0.1 + 0.2, 0.3] * 15  # the same price, as floats after an adjustment
    found = of(drift(bars([*noisy, 0.4])))
    assert (found["z"], found["std"], found["status"]) == (0.0, 0.0, "OK")


def test_fewer_than_thirty_observations_say_nothing() -> None:
    found = of(drift(bars([float(n) for n in range(30)])))
    assert (found["observations"], found["z"], found["mean"], found["status"]) == (29, None, None, "OK")


def test_what_is_missing_is_no_observation() -> None:
    volumes: list[int | None] = [*range(100, 132), None, 140]
    found = of(drift(bars([float(n) for n in range(34)], volumes)), "volume")
    assert (found["value"], found["observations"], found["mean"]) == (140, 30, statistics.fmean(range(102, 132)))
    closes = [*BASELINE, float("nan"), 100.0]
    assert of(drift(bars(closes)))["mean"] == 100.0


def test_symbols_do_not_mix_and_order_does_not_matter() -> None:
    both = pl.concat([bars([*BASELINE, 130.0]), bars([5.0] * 31, symbol="US:STOCK:B")]).sample(fraction=1, shuffle=True)
    found = drift(both).filter(pl.col("metric") == "close")
    assert found.select("symbol", "status").rows() == [(A, "FAIL"), ("US:STOCK:B", "OK")]


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ContractViolation, match="volume"):
        drift(bars([1.0]).drop("volume"))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Lake(tmp_path))


def test_a_split_is_no_drift_and_the_whole_baseline_is_found(bench: Bench) -> None:
    """Golden prices halve on the ex-date; the newest is held against what the ones before are worth today."""
    closes = [100.0 + n % 5 for n in range(40)]
    told = [bar("A", DAYS[n], close / (2 if n >= 38 else 1)) for n, close in enumerate(closes)]
    split = action("A", DAYS[38], event_type="split", split_ratio=2.0)
    bench.pull(PROVIDERS["one"], answer(told, [split]), bench_time(40), (DAYS[0], DAYS[39]))
    bench.refresh()
    assert build_drift(bench.connection, US).written == 2
    stored = of(bench.frame("FROM quality.drift"))
    expected = of(drift(bars([close / 2 for close in closes])))
    assert stored["z"] == pytest.approx(expected["z"])
    assert stored["value"] == closes[-1] / 2


def test_a_symbol_that_trades_seldom_is_measured_on_its_own_thirty_observations(bench: Bench) -> None:
    days = [DAYS[n * 5] for n in range(WINDOW + 1)]  # one bar a week: reaches back beyond the last ninety days
    told = [bar("A", day, 100.0 + n % 3) for n, day in enumerate(days)]
    bench.pull(PROVIDERS["one"], answer(told), bench_time(WINDOW * 5 + 1), (days[0], days[-1]))
    bench.refresh()
    found = of(observed_drift(query_of(bench.connection), US))
    assert (found["observations"], found["session"]) == (WINDOW, days[-1])


def test_a_market_without_bars_has_no_drift(bench: Bench) -> None:
    assert observed_drift(query_of(bench.connection), US).is_empty()


def bench_time(day: int):  # type: ignore[no-untyped-def]
    from tests.test_golden import evening

    return evening(day)
