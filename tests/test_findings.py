"""What a user of the findings can rely on: they are about bars as traded, and never depend on when they were made."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.histories import PROVIDERS, assert_equals_rebuilt, rebuilt
from tests.house import DAYS, Bench, action, answer, bar
from vprism_pipelines.warehouse import findings
from vprism_pipelines.warehouse.lake import Lake

SESSIONS = 500  # more than the checks look back
STORY = "FROM quality.findings ORDER BY symbol, session, provider"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Lake(tmp_path))


def evening(day: int) -> datetime:
    return datetime.combine(DAYS[day], datetime.min.time(), UTC) + timedelta(hours=22)


def walk(seed: int) -> list[float]:
    """Closes of a random walk with a bad tick here and there."""
    dice, close, closes = Random(seed), 20.0, []
    for _ in range(SESSIONS):
        close = round(close * (1 + dice.gauss(0, 0.01)), 2)
        closes.append(close * dice.choice([1] * 60 + [10, 1.5, 0.5]))
    return closes


def tell(
    bench: Bench, closes: dict[int, float], provider: str = "one", actions: Sequence[dict[str, object]] = ()
) -> None:
    days = sorted(closes)
    body = answer([bar("A", DAYS[n], closes[n], volume=1000.0 + n) for n in days], actions)
    bench.pull(PROVIDERS[provider], body, evening(days[-1]), (DAYS[days[0]], DAYS[days[-1]]))
    bench.refresh()


@settings(deadline=None, max_examples=4)
@given(
    st.integers(0, 10_000),
    st.lists(st.integers(2, SESSIONS - 1), min_size=1, max_size=4, unique=True),
    st.dictionaries(st.integers(0, SESSIONS - 1), st.sampled_from([10.0, 0.1, 2.0]), max_size=2),
    st.sets(st.integers(1, SESSIONS - 1), max_size=2),
)
def test_session_by_session_gives_the_findings_of_all_at_once(
    seed: int, cuts: list[int], corrections: dict[int, float], ex_dates: set[int]
) -> None:
    closes = walk(seed)
    with TemporaryDirectory() as folder, Bench(Lake(Path(folder))) as bench:
        first = 0
        for last in [*sorted(cuts), SESSIONS]:
            if last > first:
                tell(bench, {n: closes[n] for n in range(first, last)})
            first = last
        changed = {n: closes[n] * factor for n, factor in corrections.items()} | {SESSIONS: 20.0}
        tell(bench, changed, actions=[action("A", DAYS[n], cash=0.5) for n in sorted(ex_dates)])
        assert_equals_rebuilt(bench)
        with rebuilt(bench.lake) as fresh:
            assert bench.frame(STORY).equals(fresh.frame(STORY))


def test_a_bar_that_a_check_sets_aside_is_not_golden_and_stays_in_the_ledger(bench: Bench) -> None:
    tell(bench, {n: 10.0 + n / 10 + 100 * (n == 5) for n in range(10)})
    (found,) = bench.frame(f"SELECT * FROM ({STORY}) WHERE quarantined").to_dicts()
    assert (found["session"], "scale_spike" in found["checks"]) == (DAYS[5], True)
    assert DAYS[5] not in bench.frame("SELECT session FROM golden.bars")["session"].to_list()
    assert DAYS[5] in bench.frame("SELECT session FROM clean.bars")["session"].to_list()


def test_what_another_provider_says_of_the_session_takes_its_place(bench: Bench) -> None:
    tell(bench, {n: 10.0 + n / 10 + 100 * (n == 5) for n in range(10)})
    tell(bench, {n: 10.0 + n / 10 for n in range(10)}, "two")
    (row,) = bench.frame(f"SELECT * FROM golden.bars WHERE session = DATE '{DAYS[5]}'").to_dicts()
    assert (row["close"], row["chosen_provider"], row["n_sources"]) == (10.5, "two", 1)
    assert_equals_rebuilt(bench)


def test_a_corrected_bar_is_golden_again(bench: Bench) -> None:
    tell(bench, {n: 10.0 + n / 10 + 100 * (n == 5) for n in range(10)})
    tell(bench, {5: 10.5, 10: 11.0})
    assert bench.frame("SELECT count(*) AS bars FROM golden.bars")["bars"].item() == 11
    assert bench.frame("SELECT * FROM quality.findings WHERE quarantined").is_empty()


def test_an_event_that_explains_a_jump_takes_the_finding_away(bench: Bench) -> None:
    closes = {n: 100.0 + n / 10 if n < 40 else 10.0 + n / 100 for n in range(80)}
    tell(bench, closes)
    assert bench.frame("SELECT ticket FROM quality.findings WHERE ticket IS NOT NULL")["ticket"].len() == 1
    split = action("A", DAYS[40], event_type="split", split_ratio=10.0)
    tell(bench, closes | {80: 10.8}, actions=[split])
    assert bench.frame("SELECT ticket FROM quality.findings WHERE ticket IS NOT NULL").is_empty()


def test_an_examination_without_news_looks_at_nothing(bench: Bench) -> None:
    tell(bench, dict.fromkeys(range(10), 10.0))
    again = findings.build_findings(bench.connection, bench.spec)
    assert (again.built.touched, again.built.written, again.counts.height) == (0, 0, 0)


def test_a_new_session_costs_the_bars_that_the_checks_look_at(bench: Bench) -> None:
    closes = dict(enumerate(walk(3)))
    tell(bench, closes)
    body = answer([bar("A", DAYS[SESSIONS], 20.0)])
    bench.pull(PROVIDERS["one"], body, evening(SESSIONS), (DAYS[SESSIONS], DAYS[SESSIONS]))
    bench.ingest()
    assert findings.build_findings(bench.connection, bench.spec).built.touched < SESSIONS
