"""What a user can rely on who imports more than once: late files, files taken back, files that a crash left."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.cli_kit import Vprism, vprism_fixture  # noqa: F401 - a fixture
from tests.test_import import bars
from tests.test_import_many import FIELDS, NOW, content, folder, house, mapping, text, whole, written
from vprism_pipelines.errors import DataQualityError, InvalidInput, VprismError
from vprism_pipelines.market.spec import market
from vprism_pipelines.warehouse import importing
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.importing import Imported, import_file, import_files
from vprism_pipelines.warehouse.rebuild import build, rebuild

US = market("us")
DAY = timedelta(days=1)


def remembered(place: House) -> dict[str, list[tuple[Any, ...]]]:
    """All that is remembered, with the instants of the spellings."""
    with place.warehouse.connect() as connection:
        spelled = connection.execute(
            "SELECT raw_symbol, symbol, valid_from FROM clean.symbol_map ORDER BY ALL"
        ).fetchall()
    return {**content(place), "spellings": spelled, "steps": []}


def believed(place: House) -> list[tuple[str, float]]:
    """Symbol and close that count now, by session."""
    with place.warehouse.connect() as connection:
        return connection.execute(
            "SELECT symbol, close FROM clean.bars_ledger WHERE known_to IS NULL ORDER BY symbol, session"
        ).fetchall()


def read_again(outcomes: dict[Path, Imported | VprismError]) -> list[str]:
    """Names of the files that were not recognised."""
    return [path.name for path, done in outcomes.items() if isinstance(done, Imported) and not done.duplicate]


# --- late files -----------------------------------------------------------------------------------------------------


def test_a_late_file_does_not_outlive_what_was_said_after_it_even_where_that_left_no_row(tmp_path: Path) -> None:
    place = house(tmp_path)
    contents = {
        "first.csv": text([("AAA", 0, 20.0), ("AAA", 1, 20.0)]),
        "confirmed.csv": text([("AAA", 0, 20.0), ("AAA", 1, 21.0), ("BBB", 0, 5.0)]),
        "late.csv": text([("AAA", 0, 19.0), ("AAA", 1, 20.0)]),
    }
    for path, age in zip(written(tmp_path, contents), (9, 3, 6), strict=True):
        import_file(place, path, mapping(), path.stem, known_at=NOW - age * DAY)
    build(place, US)
    with place.warehouse.connect() as connection:
        golden = connection.execute("SELECT close FROM golden.bars ORDER BY symbol, session").fetchall()
    assert golden == [(20.0,), (21.0,), (5.0,)]
    before = remembered(place)
    assert rebuild(place).identical
    assert remembered(place) == before


CLOSE = st.sampled_from([10.0, 11.0, 12.0])
# Few facts and few values, so that most files confirm some and change others; a close of nought is quarantined.
SAID = st.tuples(CLOSE, CLOSE, st.sampled_from([0.0, 10.0])).map(
    lambda said: text([("AAA", 0, said[0]), ("AAA", 1, said[1]), ("BBB", 0, said[2])])
)
BATCHES = st.tuples(
    st.lists(st.integers(1, 9), min_size=3, max_size=3, unique=True),
    st.lists(SAID, min_size=4, max_size=4, unique=True),
).map(lambda drawn: list(zip(drawn[0], (drawn[1][:1], drawn[1][1:2], drawn[1][2:]), strict=True)))


@given(batches=BATCHES, portion=st.sampled_from([1, importing.PORTION]))
@settings(max_examples=4, deadline=None, phases=[Phase.generate])
def test_files_leave_the_same_in_whatever_order_they_come(batches: list[tuple[int, list[str]]], portion: int) -> None:
    with folder() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr(importing, "PORTION", portion)
        by_age = {
            age: written(place, {f"{age}-{number}.csv": rows for number, rows in enumerate(found)})
            for age, found in batches
        }
        lived, ordered = house(place / "lived"), house(place / "ordered")
        for found, ages in ((lived, list(by_age)), (ordered, sorted(by_age, reverse=True))):
            for age in ages:
                import_files(found, dict.fromkeys(by_age[age], mapping()), f"run{age}", known_at=NOW - age * DAY)
        assert remembered(lived) == remembered(ordered)


def test_a_spelling_is_dated_by_the_oldest_pull_that_used_it(tmp_path: Path) -> None:
    place = house(tmp_path)
    paths = written(tmp_path, {"a.csv": whole("SA"), "b.csv": whole("SB"), "late.csv": whole("SB", 30.0)})
    import_files(place, dict.fromkeys(paths[:2], mapping()), "both")
    both = remembered(place)["spellings"]
    assert both[0][2] < both[1][2]
    import_file(place, paths[2], mapping(), "late", known_at=NOW - DAY)
    assert [spelling[2] for spelling in remembered(place)["spellings"]] == [both[0][2], NOW - DAY]


# --- files that come again ------------------------------------------------------------------------------------------

ABA = {
    "1.csv": text([("AAA", 0, 20.0)]),
    "2.csv": text([("AAA", 0, 21.0)]),
    "3.csv": text([("AAA", 0, 20.0)]),
}


@pytest.mark.parametrize("portion", [1, importing.PORTION])
def test_a_correction_taken_back_is_no_copy_of_what_it_corrected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portion: int
) -> None:
    monkeypatch.setattr(importing, "PORTION", portion)
    paths = written(tmp_path, ABA)
    at_once, in_turn = house(tmp_path / "at_once"), house(tmp_path / "in_turn")
    import_files(at_once, dict.fromkeys(paths, mapping()), "run")
    for path in paths:
        import_file(in_turn, path, mapping(), path.stem)
    assert believed(at_once) == believed(in_turn) == [("US:STOCK:AAA", 20.0)]
    assert import_file(in_turn, paths[0], mapping(), "again").duplicate
    assert not import_file(in_turn, paths[1], mapping(), "corrected once more").duplicate
    assert believed(in_turn) == [("US:STOCK:AAA", 21.0)]


@pytest.mark.parametrize("portion", [1, importing.PORTION])
def test_a_command_that_is_repeated_recognises_files_that_contradict_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portion: int
) -> None:
    monkeypatch.setattr(importing, "PORTION", portion)
    place, paths = house(tmp_path), written(tmp_path, ABA | {"4.csv": whole("BBB")})
    import_files(place, dict.fromkeys(paths[:2], mapping()), "before the crash")
    assert read_again(import_files(place, dict.fromkeys(paths[:2], mapping()), "again")) == []
    assert read_again(import_files(place, dict.fromkeys(paths, mapping()), "after it")) == ["3.csv", "4.csv"]
    swapped = import_files(place, dict.fromkeys([paths[1], paths[0]], mapping()), "the other way round")
    assert read_again(swapped) == ["2.csv", "1.csv"]
    assert [close for symbol, close in believed(place) if symbol == "US:STOCK:AAA"] == [20.0]


def test_a_refused_file_is_no_reason_to_read_those_after_it_once_more(tmp_path: Path) -> None:
    place = house(tmp_path, min_data_quality=0.9)
    wanted = dict.fromkeys(written(tmp_path, {"a.csv": text([("AAA", 0, 0.0)]), "b.csv": whole("BBB")}), mapping())
    assert read_again(import_files(place, wanted, "one")) == ["b.csv"]
    assert read_again(import_files(place, wanted, "two")) == []


def test_a_known_file_is_taken_when_it_was_known_earlier_than_thought(tmp_path: Path) -> None:
    place, (path,) = house(tmp_path), written(tmp_path, {"a.csv": whole("AAA")})
    import_file(place, path, mapping(), "now")
    known_at = NOW - 30 * DAY
    assert not import_file(place, path, mapping(), "earlier", known_at=known_at).duplicate
    assert import_file(place, path, mapping(), "earlier", known_at=known_at).duplicate
    with place.warehouse.connect() as connection:
        versions = connection.execute("SELECT DISTINCT known_from, known_to FROM clean.bars_ledger").fetchall()
    assert versions == [(known_at, None)]


# --- what is told ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("portion", [1, importing.PORTION])
def test_files_of_one_name_in_two_folders_are_counted_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portion: int
) -> None:
    monkeypatch.setattr(importing, "PORTION", portion)
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
    contents = {"x/p.csv": whole("SA"), "y/p.csv": text([("SB", 0, 20.0)]), "q.csv": text([("SC", 0, 20.0)])}
    place = house(tmp_path)
    done = import_files(place, dict.fromkeys(written(tmp_path, contents), mapping()), "run")
    assert [one.file for one in done.values() if isinstance(one, Imported)] == ["x/p.csv", "y/p.csv", "q.csv"]
    with place.warehouse.connect() as connection:
        steps = connection.execute("SELECT step, input FROM ops.runs ORDER BY step").fetchall()
    assert steps == [("import/q.csv/bars", 1), ("import/x/p.csv/bars", 20), ("import/y/p.csv/bars", 1)]


def test_rows_that_another_file_of_their_instant_overrules_are_counted_as_unchanged(tmp_path: Path) -> None:
    paths = written(tmp_path, {"a.csv": text([("AAA", 0, 20.0), ("AAA", 1, 20.0)]), "b.csv": text([("AAA", 1, 21.0)])})
    done = import_files(house(tmp_path), dict.fromkeys(paths, mapping()), "run", known_at=NOW - DAY)
    counted = [one.datasets["bars"] for one in done.values() if isinstance(one, Imported)]
    assert [(c.rows, c.new, c.changed, c.unchanged) for c in counted] == [(2, 1, 0, 1), (1, 1, 0, 0)]


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def sample_house(tmp_path: Path) -> House:
    """What the command works on."""
    return house(tmp_path, min_data_quality=0.9)


def meaning(place: Path, code: str) -> str:
    """A mapping file."""
    columns = "\n".join(f'{name} = "{name}"' for name in ("symbol", *FIELDS))
    path = place / "mine.toml"
    path.write_text(
        f'provider = "mine"\nmarket = "{code}"\n[[table]]\ndataset = "bars"\n'
        f'[table.columns]\nsession = "date"\n{columns}\n'
    )
    return str(path)


def test_the_command_builds_what_an_earlier_one_left_unbuilt(
    vprism: Vprism, sample_house: House, tmp_path: Path
) -> None:
    (path,) = written(tmp_path, {"a.csv": whole("AAA")})
    words = ["import", str(path), "--mapping", meaning(tmp_path, "us"), "--format", "jsonl"]
    assert vprism(*words, "--no-build").rows[0]["new"] == 20
    again = vprism(*words)
    assert again.status == 0, again.err
    assert again.rows[0]["dataset"] == "known before"
    assert "published" in again.err
    assert sample_house.reader.query("SELECT count(*) FROM golden.bars").item() == 20


def test_a_dry_run_refuses_what_the_import_refuses_and_counts_what_it_counts(
    vprism: Vprism, sample_house: House, tmp_path: Path
) -> None:
    here = tmp_path / "folder"
    here.mkdir()
    bars(unit=1).write_csv(here / "good.csv")
    bars(unit=1000).write_csv(here / "thousands.csv")
    bars(unit=1, shift=1).write_csv(here / "shifted.csv")
    bars(unit=1).with_columns(close=0.0).write_csv(here / "worthless.csv")
    words = ["import", str(here), "--mapping", meaning(tmp_path, "vn"), "--format", "jsonl"]
    tried = {row["file"]: row for row in vprism(*words, "--dry-run").rows}
    assert not sample_house.warehouse.path.exists()
    done = {row["file"]: row for row in vprism(*words, "--no-build").rows}
    assert (tried["good.csv"]["outcome"], tried["good.csv"]["rows"]) == ("accepted", done["good.csv"]["new"])
    for name in ("thousands.csv", "shifted.csv", "worthless.csv"):
        assert done[name]["dataset"] == "refused"
        assert tried[name]["outcome"] == f"refused, {done[name]['reasons']}"
    alone = ["import", str(here / "thousands.csv"), *words[2:]]
    assert vprism(*alone, "--dry-run").status == vprism(*alone).status == DataQualityError.exit_status
    future = ("--dry-run", "--known-at", (NOW + DAY).isoformat())
    assert vprism(*words, *future).status == InvalidInput.exit_status
