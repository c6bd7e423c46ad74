"""What readers wait and what checks cost: questions differ, the installation is left alone, all sides agree first."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from benchmarks import latency, pandas_contract, scale, validation
from benchmarks.bulk import simulated
from benchmarks.latency import QUESTIONS, Draw, Latency, Measured
from tests.warehouse_fixture import sample_house_fixture  # noqa: F401
from vprism_pipelines.tables import CLEAN_BARS
from vprism_pipelines.warehouse.house import House


@pytest.fixture(scope="module", name="clean")
def clean_bars(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    ((path, mapping),) = simulated(tmp_path_factory.mktemp("simulated"), 5_000)
    return validation.rows_of(path, mapping, 2_000)[1]


def test_every_side_takes_sound_rows_and_refuses_each_planted_fault(clean: pl.DataFrame) -> None:
    validation.agree(clean)


def test_a_planted_fault_is_one_value_of_one_row(clean: pl.DataFrame) -> None:
    *planted, twice = validation.spoilt(clean).values()
    for frame in planted:
        assert frame.schema == clean.schema
        different = [name for name in frame.columns if not frame[name].equals(clean[name])]
        assert len(different) == 1
        assert frame[different[0]].ne_missing(clean[different[0]]).sum() == 1
    assert twice.equals(pl.concat([clean, clean.head(1)]))


def test_a_side_that_lets_a_fault_pass_stops_the_race(clean: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "holds", lambda _table, _frame: True)
    with pytest.raises(SystemExit, match="a price of zero: ours says True"):
        validation.agree(clean)


def test_pandas_is_given_the_same_rows(clean: pl.DataFrame) -> None:
    back = CLEAN_BARS.conform(pl.from_pandas(pandas_contract.as_pandas(CLEAN_BARS, clean)))
    assert back.equals(clean)


def test_a_bar_of_the_validation_race_is_missed_where_the_first_takes_longer() -> None:
    turns = {side: [(1.0, 2.0)] * 3 for side in (validation.ON_POLARS, validation.ON_PANDAS, validation.ROW_RULES)}
    told = validation.report({**turns, validation.WINDOWS: [(2.0, 1.0), (1.5, 9.0), (1.0, 2.5)]})
    assert f"| {validation.ROW_RULES} | {validation.ON_POLARS} | 1.00 | 1.00 |" in told
    assert f"| {validation.WINDOWS} | {validation.ON_POLARS} | 1.50 **missed** | 1.25 **missed** |" in told


def test_questions_are_about_symbols_and_sessions_of_their_own(sample_house: House) -> None:
    draw, again = Draw(sample_house.reader), Draw(sample_house.reader)
    drawn = [draw(QUESTIONS[latency.HISTORY])["symbol"] for _ in range(20)]
    assert len(set(drawn)) > 1
    assert drawn == [again(QUESTIONS[latency.HISTORY])["symbol"] for _ in range(20)]
    for sql in QUESTIONS.values():
        sample_house.reader.arrow(sql, draw(sql))


def test_readers_are_measured_on_a_copy(sample_house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "SECONDS", 0.05)
    monkeypatch.setattr(latency, "BUSY_SECONDS", 0.05)
    before = sample_house.reader.newest
    found = latency.measured(latency.copied(sample_house.settings.data_dir, tmp_path / "copy"))
    assert sample_house.reader.newest == before
    assert set(found.latencies) == set(QUESTIONS)
    assert all(0 < each.p50 <= each.p99 for each in (*found.latencies.values(), found.beside))
    assert len(found.publish) == len(found.seen) == latency.PUBLISHES
    assert min(found.publish) > 0


def test_the_exponent_tells_how_fast_waiting_grows() -> None:
    told = scale.report([run(bars) for bars in (1_000, 10_000)])
    assert "| one symbol, a year | 1.0 / 2.0 of 7 · 1.0 | 1.0 / 2.0 of 7 · 10.0 | 1.00 |" in told
    assert "| golden/vn/bars, s | 0.01 | 0.10 | 1.00 |" in told
    assert "| one symbol, a year | 1 → 2 → 3 | 1 → 2 → 3 | 0.00 |" in told


def run(bars: int) -> scale.Run:
    waits = Latency(1.0, 2.0, 1.5, bars / 1_000, 7)
    readers = Measured(bars, dict.fromkeys(QUESTIONS, waits), {"one symbol, a year": (1, 2, 3)}, [1.0], [2.0], waits)
    return scale.Run(readers, 1.0, {"golden/vn/bars": bars / 100_000}, 0.0)


def test_a_percentile_lies_between_its_neighbours() -> None:
    found = Latency.of([0.001 * n for n in range(1, 102)], cpu=1.01)
    assert (round(found.p50, 6), round(found.p99, 6)) == (51.0, 100.0)
    assert str(found) == "51.0 / 100.0 of 101 · 10.0"
