"""What a user of the weights can rely on: they are measured, move slowly, and golden follows them and the roles."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.histories import PROVIDERS, assert_equals_rebuilt
from tests.house import DAYS, US, Bench, answer, bar
from vprism_pipelines.quality.consensus import PRIOR_RELIABILITY
from vprism_pipelines.quality.reliability import SMOOTHING, weights
from vprism_pipelines.warehouse import golden
from vprism_pipelines.warehouse.as_of import believed
from vprism_pipelines.warehouse.lake import Lake

INSTANT = datetime(2026, 1, 1, tzinfo=UTC)
MONTHS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(1, 5_000), st.floats(0, 1)), min_size=1, unique_by=lambda m: m[0]
)


def record(*months: tuple[int, int, float]) -> pl.DataFrame:
    """Months since January 2020, bars, faulty bars of one provider."""
    rows = [
        {"provider": "one", "month": date(2020 + n // 12, n % 12 + 1, 1), "bars": bars, "faulty": faulty}
        for n, bars, faulty in months
    ]
    return pl.DataFrame(rows, schema_overrides={"faulty": pl.Float64}).with_columns(known_from=pl.lit(INSTANT))


def smoothed(bars: int, faulty: float) -> float:
    return round((bars - faulty + SMOOTHING * PRIOR_RELIABILITY) / (bars + SMOOTHING), 3)


@settings(deadline=None)
@given(MONTHS)
def test_a_weight_is_the_share_of_good_bars_of_the_twelve_months_before(months: list[tuple[int, int, float]]) -> None:
    told = [(n, bars, bars * share) for n, bars, share in months]
    measured = weights(record(*told).sample(fraction=1.0, shuffle=True, seed=1))
    start = min(n for n, _, _ in told)
    for n, (_, month, bars, faulty, value, _) in zip(sorted(n for n, _, _ in told), measured.rows(), strict=True):
        end = max(n, start + 12)
        window = [row for row in told if end - 12 <= row[0] < end]
        assert month == date(2020 + n // 12, n % 12 + 1, 1)
        assert bars == sum(row[1] for row in window)
        assert faulty == pytest.approx(sum(row[2] for row in window))
        assert value == pytest.approx(smoothed(bars, faulty), abs=0.0011)
        assert 0 <= value <= 1


def test_a_provider_silent_for_a_year_is_as_good_as_unknown() -> None:
    assert weights(record((0, 1000, 0.0), (30, 1000, 0.0)))["value"].to_list() == [smoothed(1000, 0), PRIOR_RELIABILITY]


def evening(day: int, minutes: int = 0) -> datetime:
    return datetime.combine(DAYS[day], datetime.min.time(), UTC) + timedelta(hours=22, minutes=minutes)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Lake(tmp_path))


def say(bench: Bench, provider: str, at: datetime, closes: dict[int, float]) -> None:
    body = answer([bar("A", DAYS[n], close) for n, close in closes.items()])
    bench.pull(PROVIDERS[provider], body, at, (DAYS[min(closes)], DAYS[max(closes)]))
    bench.refresh()


def at_instant(bench: Bench, instant: datetime) -> pl.DataFrame:
    def query(sql: str, parameters: dict[str, object]) -> pl.DataFrame:
        return pl.DataFrame(bench.connection.execute(sql, parameters).to_arrow_table())

    return believed(query, US, ["US:STOCK:A"], instant).bars


def test_the_first_vintage_is_believed_again_bit_for_bit(bench: Bench) -> None:
    first = {n: 20.0 + (n * 7 % 11) / 4 + 100 * (n == 9) for n in range(60)}
    say(bench, "one", evening(60), first)
    say(bench, "two", evening(60, 1), {n: close + 0.5 * (n % 9 == 0) for n, close in first.items() if n > 4})
    before = bench.frame("FROM golden.bars ORDER BY symbol, session")
    second = {n: close + (n % 4 == 0) for n, close in first.items()}
    say(bench, "two", evening(61), second)
    say(bench, "three", evening(62), second)
    after = bench.frame("FROM golden.bars ORDER BY symbol, session")
    assert not after.equals(before)
    assert at_instant(bench, evening(60, 2)).equals(before)
    assert at_instant(bench, evening(63)).equals(after)
    assert at_instant(bench, evening(0)).is_empty()
    assert_equals_rebuilt(bench)


def test_a_weight_that_changed_is_kept_with_the_time_it_was_in_force(bench: Bench) -> None:
    closes = {n: 20.0 + (n * 7 % 11) / 4 for n in range(60)}
    say(bench, "one", evening(60), closes)
    say(bench, "two", evening(61), {n: close + 1 for n, close in closes.items()})
    versions = bench.frame(
        "SELECT value, known_from, known_to FROM quality.reliability WHERE provider = 'one' AND month = '2024-01-01'"
        " ORDER BY known_from"
    ).rows()
    assert versions == [
        (smoothed(60, 0), evening(60), evening(61)),
        (smoothed(60, 30), evening(61), None),
    ]


def test_a_provider_on_probation_takes_no_part_until_it_is_primary(bench: Bench) -> None:
    say(bench, "one", evening(3), {0: 10.0, 1: 11.0})
    say(bench, "two", evening(3, 1), {0: 10.0, 1: 11.5, 2: 12.0})

    def providers(role: str, since: datetime) -> list[tuple[object, ...]]:
        bench.connection.execute(
            "INSERT INTO ops.roles BY NAME SELECT 'us' AS market, 'two' AS provider, ? AS role, ? AS since,"
            " 'test' AS decision, 'a test' AS reason",
            [role, since],
        )
        golden.build_bars(bench.connection, bench.spec)
        return bench.frame("SELECT session, n_sources FROM golden.bars ORDER BY session").rows()

    both = bench.frame("SELECT session, n_sources FROM golden.bars ORDER BY session").rows()
    assert providers("shadow", evening(4)) == [(DAYS[0], 1), (DAYS[1], 1)]
    assert providers("primary", evening(5)) == both
    assert both == [(DAYS[0], 2), (DAYS[1], 2), (DAYS[2], 1)]


def test_a_bar_whose_date_was_read_in_the_wrong_zone_is_no_bar_of_that_day(bench: Bench) -> None:
    said = {n: 10.0 + n for n in range(9) if n != 4}
    say(bench, "one", evening(9), said)
    say(bench, "two", evening(9, 1), {n: close for n, close in said.items() if n != 5} | {4: said[5]})
    assert DAYS[4] not in bench.frame("SELECT session FROM golden.bars")["session"].to_list()
    assert_equals_rebuilt(bench)


def test_another_parser_of_a_provider_takes_part_once_it_is_primary(bench: Bench) -> None:
    say(bench, "one", evening(3), {0: 10.0})
    bench.connection.execute(
        "INSERT INTO clean.bars_ledger BY NAME"
        " SELECT * REPLACE ('one@2' AS provider, 12.0 AS close, 13.0 AS high, batch + 1 AS batch)"
        " FROM clean.bars_ledger"
    )
    bench.build()
    assert bench.frame("SELECT n_sources FROM golden.bars")["n_sources"].item() == 1
    for provider, role in (("one@2", "primary"), ("one", "retired")):
        bench.connection.execute(
            "INSERT INTO ops.roles BY NAME SELECT 'us' AS market, ? AS provider, ? AS role, ? AS since,"
            " 'test' AS decision, 'a test' AS reason",
            [provider, role, evening(4)],
        )
    golden.build_bars(bench.connection, bench.spec)
    assert bench.frame("SELECT close, chosen_provider FROM golden.bars").rows() == [(12.0, "one@2")]
    assert at_instant(bench, evening(5)).select("close", "chosen_provider").rows() == [(12.0, "one@2")]
    assert at_instant(bench, evening(3, 1)).select("close", "chosen_provider").rows() == [(10.0, "one")]
