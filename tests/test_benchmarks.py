"""The race harness: turns are taken, answers agree before time counts, whoever cannot take part is named with why."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from benchmarks import peers, report
from benchmarks.harness import Bar, Outcome, Race, Result, Runner, Task, Worker, agree, run
from benchmarks.peers import Unavailable
from benchmarks.races import RACES

SIDE = """
import time
import polars as pl

class Side:
    def __init__(self, data, own):
        print("libraries print")
        self.log = data / "log.txt"

    def work(self, number):
        with self.log.open("a") as log:
            log.write(f"{name} {number}\\n")
        return pl.DataFrame({"symbol": ["A"], "session": ["2024-01-02"], "close": [close]}).with_columns(
            pl.col("session").str.to_date()
        )

    def waits(self, number):
        time.sleep(0.02)
        return self.work(number)

    def before_kept(self, number):
        time.sleep(0.05)

    def kept(self, number):
        return None

    def answer_kept(self):
        return self.work(0)

    def fails(self, number):
        raise ValueError("no such day")

    def dies(self, number):
        import os
        os._exit(3)
"""


@pytest.fixture
def sides(tmp_path: Path) -> Path:
    folder = tmp_path / "sides"
    folder.mkdir()
    for name, close in (("ours", 10.0), ("same", 10.0 + 1e-9), ("other", 11.0)):
        (folder / f"{name}.py").write_text(f"name, close = {name!r}, {close}\n{SIDE}")
    (folder / "broken.py").write_text("import a_package_nobody_has\n")
    return folder


def raced(sides: Path, *runners: Runner, bars: tuple[Bar, ...] = (), rounds: int = 2) -> Outcome:
    folder = sides.parent / "race"
    folder.mkdir()
    race = Race("one", lambda _folder, _share: "one bar", {"absent": "absent"}, (Task("task", runners, bars),))
    (outcome,) = run(race, rounds, 1.0, folder, sides)
    return outcome


OURS, SAME = Runner("ours", "ours", "work"), Runner("same", "same", "work", 1e-6)


def test_sides_take_turns_after_a_round_that_warms_up(sides: Path) -> None:
    outcome = raced(sides, OURS, SAME)
    log = (sides.parent / "race" / "data" / "log.txt").read_text().split("\n")
    assert log[:-1] == ["ours 0", "same 0", "ours 1", "same 1", "ours 2", "same 2"]
    assert [len(result.seconds) for result in outcome.results] == [2, 2]


def test_who_gives_another_answer_is_not_timed(sides: Path) -> None:
    outcome = raced(sides, OURS, Runner("other", "other", "work"))
    assert outcome.results[1].disagrees
    assert outcome.results[1].seconds == ()
    assert "close differs" in outcome.results[1].trouble


@pytest.mark.parametrize(
    ("runner", "said"),
    [
        (Runner("x", "same", "fails"), "no such day"),
        (Runner("x", "same", "dies"), "ended with status 3"),
        (Runner("x", "broken", "work"), "No module named 'a_package_nobody_has'"),
        (Runner("x", "nowhere", "work"), "No such file"),
    ],
)
def test_who_cannot_take_part_is_named_with_the_reason_and_stops_nobody(sides: Path, runner: Runner, said: str) -> None:
    outcome = raced(sides, OURS, runner)
    assert said in outcome.results[1].trouble
    assert outcome.ours.seconds
    assert outcome.verdicts == []
    assert said[:20] in report.markdown([outcome], 2)


def test_time_is_that_of_the_call_and_not_of_its_preparation(sides: Path) -> None:
    outcome = raced(sides, Runner("ours", "ours", "kept"), Runner("waits", "ours", "waits"))
    assert outcome.ours.median < 0.02 <= outcome.results[1].median


def test_a_bar_is_judged_by_the_ratio_of_medians(sides: Path) -> None:
    def outcome(ours: float) -> Outcome:
        task = Task("task", (OURS, SAME), (Bar("ours", "same", 2.0), Bar("ours", "nobody", 2.0)))
        return Outcome(task, "", (Result("ours", (9.0, ours, ours)), Result("same", (1.0, 1.0, 1.0))))

    assert [verdict.missed for verdict in outcome(2.0).verdicts] == [False, False]
    assert [verdict.missed for verdict in outcome(2.1).verdicts] == [True, False]
    assert "**missed**" in report.markdown([outcome(2.1)], 3)
    assert "not measured" in report.markdown([outcome(2.1)], 3)


def test_what_is_compared_by_column_counts_the_columns_of_each_answer() -> None:
    assert Result("ours", (6.0,), columns=60).median == pytest.approx(0.1)


def bars(*closes: float | None) -> pl.DataFrame:
    days = [date(2024, 1, 2 + n) for n in range(len(closes))]
    return pl.DataFrame({"symbol": ["A"] * len(closes), "session": days, "close": closes}, schema_overrides=SCHEMA)


SCHEMA = {"close": pl.Float64}


def test_answers_agree_whatever_the_order_and_whatever_others_say_where_there_is_no_value() -> None:
    assert agree(bars(1.0, 2.0).reverse(), bars(1.0, 2.0), 0.0) == "2 equal"
    assert agree(bars(5.0, 2.0), bars(None, 2.0), 0.0) == "2 equal"
    assert agree(bars(1.0, 2.0 + 1e-9), bars(1.0, 2.0), 1e-6) == "2 values within 1e-06"


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        (bars(1.0, 2.1), "close differs by 5.0e-02"),
        (bars(1.0, None), "close lacks 1 values"),
        (bars(1.0, float("nan")), "close lacks 1 values"),
        (bars(1.0), "close lacks 1 values"),
        (bars(1.0, 2.0).rename({"close": "price"}), "0 columns in common"),
    ],
)
def test_answers_that_differ_or_lack_values_do_not_agree(theirs: pl.DataFrame, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        agree(theirs, bars(1.0, 2.0), 1e-9)


def test_a_peer_that_cannot_be_installed_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VPRISM_BENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "ghost.txt").write_text("not a requirement at all\n")
    with pytest.raises(Unavailable, match="not installable here: ERROR"):
        peers.interpreter("ghost", tmp_path)


def test_a_worker_ends_the_processes_that_its_side_started(sides: Path, tmp_path: Path) -> None:
    (sides / "parent.py").write_text(
        "import subprocess\n"
        "class Side:\n"
        "    def __init__(self, data, own):\n"
        "        child = subprocess.Popen(['sleep', '60'])\n"
        "        (own / 'pid').write_text(str(child.pid))\n"
    )
    worker = Worker(peers.interpreter(peers.OURS), sides / "parent.py", tmp_path, tmp_path / "own")
    child = int((tmp_path / "own" / "pid").read_text())
    worker.close()
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_every_race_names_sides_methods_and_environments_that_exist() -> None:
    here = Path(report.__file__).parent
    for race in RACES:
        for name in race.environments.values():
            assert (peers.PINS / f"{name}.txt").exists()
        for task in race.tasks:
            names = {runner.name for runner in task.runners}
            assert {name for bar in task.bars for name in (bar.runner, bar.other)} <= names
            for runner in task.runners:
                assert f"def {runner.method}(" in (here / "sides" / f"{runner.side}.py").read_text()


def test_the_plot_has_a_bar_for_everybody_who_was_timed(sides: Path) -> None:
    outcome = raced(sides, OURS, SAME, Runner("other", "other", "work"))
    drawn = report.plot([outcome])
    assert drawn.count("<rect") == 1 + 2
    assert "<svg" in report.plot([])
