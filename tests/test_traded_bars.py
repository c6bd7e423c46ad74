"""What a user of clean.traded_bars can rely on: the bar as traded, also of a source that rewrites its history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.histories import PROVIDERS, assert_equals_rebuilt
from tests.house import DAYS, Bench, action, answer, bar
from vprism_pipelines.quality.flags import BarFlag
from vprism_pipelines.warehouse.lake import Lake

EX = 14  # index of the ex-date
RAW = {n: 10.0 + n / 10 for n in range(EX)} | {n: 5.0 + n / 20 for n in range(EX, 30)}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Lake(tmp_path))


def pull(
    bench: Bench, last: int, first: int = 0, *, provider: str = "one", actions: tuple[dict[str, object], ...] = ()
) -> None:
    """On the evening of a session, what a source that adjusts says of a stretch of its history."""
    rewritten = {n: RAW[n] * (0.5 if n < EX <= last else 1.0) for n in range(first, last + 1)}
    body = answer(
        [bar("A", DAYS[n], close, price_basis="adjusted_by_source") for n, close in rewritten.items()], actions
    )
    at = datetime.combine(DAYS[last], datetime.min.time(), UTC) + timedelta(hours=22)
    bench.pull(PROVIDERS[provider], body, at, (DAYS[first], DAYS[last]))
    bench.refresh()


def traded(bench: Bench, source: str = "clean.traded_bars") -> dict[int, tuple[float, str, bool]]:
    rows = bench.frame(f"SELECT session, close, price_basis, flags FROM {source} ORDER BY session").rows()
    seen = int(BarFlag.OBSERVED_ON_THE_DAY)
    return {DAYS.index(day): (round(close, 9), basis, bool(flags & seen)) for day, close, basis, flags in rows}


def test_bars_seen_on_the_day_stay_raw_through_a_declared_ex_date(bench: Bench) -> None:
    split = action("A", DAYS[EX], event_type="split", split_ratio=2.0)
    for last in (EX - 4, EX - 1, EX, EX + 3):
        pull(bench, last, EX - 8, actions=(split,))
    bars = traded(bench)
    assert bars == {n: (RAW[n], "raw", True) for n in range(EX - 8, EX + 4)}
    golden = bench.frame("SELECT close, price_basis, flags FROM golden.bars ORDER BY session")
    assert golden["price_basis"].unique().to_list() == ["raw"]
    assert golden["flags"].unique().to_list() == [int(BarFlag.OBSERVED_ON_THE_DAY)]
    assert_equals_rebuilt(bench)


def test_a_rebase_that_nobody_declared_is_recognised_and_the_raw_bars_kept(bench: Bench) -> None:
    for last in range(EX - 6, EX + 3):
        pull(bench, last, EX - 12)
    classes = bench.frame("SELECT DISTINCT change_class FROM clean.bars_ledger WHERE known_to IS NULL")
    assert "rebase" in classes["change_class"].to_list()
    assert {n: bars for n, bars in traded(bench).items() if n >= EX - 12} == {
        n: (RAW[n], "raw", True) for n in range(EX - 12, EX + 3)
    }
    assert_equals_rebuilt(bench)


def test_what_was_first_seen_after_its_next_ex_date_is_not_taken_for_raw(bench: Bench) -> None:
    split = action("A", DAYS[EX], event_type="split", split_ratio=2.0)
    pull(bench, EX + 5, actions=(split,))
    bars = traded(bench)
    assert {bars[n][1] for n in range(EX)} == {"adjusted_by_source"}
    assert all(bars[n] == (RAW[n], "raw", True) for n in range(EX, EX + 6))


def test_a_long_history_without_a_known_ex_date_proves_nothing(bench: Bench) -> None:
    pull(bench, 29, 0)
    bars = traded(bench)
    assert bars[0][1] == "adjusted_by_source"
    assert bars[29] == (RAW[29], "raw", True)


def test_as_of_an_instant_the_versions_known_by_then_count(bench: Bench) -> None:
    for last in (EX - 1, EX):
        pull(bench, last, EX - 5)
    before = datetime.combine(DAYS[EX - 1], datetime.min.time(), UTC) + timedelta(hours=23)
    assert set(traded(bench, f"clean.traded_bars_as_of(TIMESTAMPTZ '{before}')")) == set(range(EX - 5, EX))
    assert traded(bench, "clean.traded_bars_as_of(TIMESTAMPTZ '2100-01-01')") == traded(bench)
