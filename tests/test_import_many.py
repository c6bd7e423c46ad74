"""What a user can rely on who imports a folder: the rows of every file as if alone, and no file that spoils another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.cli_kit import Vprism, vprism_fixture  # noqa: F401 - a fixture
from vprism_pipelines.errors import ContractViolation, DataQualityError, Malformed, VprismError
from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.providers import files
from vprism_pipelines.settings import Settings
from vprism_pipelines.warehouse import file_checks, importing
from vprism_pipelines.warehouse.bookkeeping import record_steps
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.importing import Imported, import_file, import_files
from vprism_pipelines.warehouse.ingest import prove
from vprism_pipelines.warehouse.rebuild import rebuild
from vprism_pipelines.warehouse.writer import Warehouse

NOW = datetime(2025, 7, 1, 12, tzinfo=UTC)
DAYS: list[date] = calendar("XNYS").sessions(date(2025, 3, 3), date(2025, 6, 6))["session"].to_list()
FIELDS = ("open", "high", "low", "close", "volume")
CODES = [f"S{letter}" for letter in "ABCDEFGHIJKL"]
Files = dict[str, str]


def house(folder: Path, **chosen: Any) -> House:
    """An installation whose clock goes on by a second whenever somebody looks."""
    seconds = count()
    return House(Settings(data_dir=folder / "data", **chosen), clock=lambda: NOW + timedelta(seconds=next(seconds)))


def mapping(symbol: object = "symbol") -> files.Mapping:
    columns = {"symbol": symbol, "session": "date", **{name: name for name in FIELDS}}
    return files.Mapping.parse({"provider": "mine", "market": "us", "table": [{"dataset": "bars", "columns": columns}]})


NAMED = mapping({"file_name": "^([^.]+)"})


def text(rows: Iterable[tuple[str, int, float]]) -> str:
    """A file of bars: symbol, place of the session, close. A close below one makes a row that is quarantined."""
    lines = (f"{symbol},{DAYS[day]},{close},{close},{close},{close},{100 + day}" for symbol, day, close in rows)
    return "\n".join(["symbol,date,open,high,low,close,volume", *lines])


def whole(symbol: str, close: float = 20.0) -> str:
    """Twenty bars of one symbol."""
    return text((symbol, day, close + day / 4) for day in range(20))


@contextmanager
def folder() -> Iterator[Path]:
    """Hypothesis asks for a new one for every example."""
    with TemporaryDirectory() as place:
        yield Path(place)


def written(place: Path, contents: Files) -> list[Path]:
    for name, content in contents.items():
        (place / name).write_text(content)
    return [place / name for name in contents]


def told(outcomes: Mapping[Path, Imported | VprismError]) -> dict[str, object]:
    """What a user is told of each file, but for the numbers of pulls and transactions."""
    return {
        path.name: outcome.code
        if isinstance(outcome, VprismError)
        else (
            outcome.duplicate,
            outcome.notes,
            {
                name: (c.rows, c.accepted, c.new, c.changed, c.unchanged, c.quarantined, c.reasons)
                for name, c in outcome.datasets.items()
            },
        )
        for path, outcome in outcomes.items()
    }


def content(place: House) -> dict[str, list[tuple[Any, ...]]]:
    """What is remembered, with the name of the file in place of its pull and of its instant."""
    file = "(SELECT fetch_id, fetched_at, substr(request->>'$.url', 6) AS file FROM raw.fetches)"
    ledger = "symbol, session, open, close, volume, flags, provisional, payload_row, change_class"
    queries = {
        "ledger": f"""SELECT {ledger}, file, until, known_from = fetched_at
                      FROM clean.bars_ledger JOIN {file} USING (fetch_id)
                      LEFT JOIN (SELECT fetched_at AS known_to, min(file) AS until FROM {file} GROUP BY ALL)
                          USING (known_to)""",
        "quarantine": f"""SELECT payload_row, raw_symbol, session, reasons::VARCHAR,
                                 replace(row_json, fetch_id, ''), file
                          FROM clean.quarantine JOIN {file} AS f USING (fetch_id)""",
        "pulls": f"SELECT file, rows, accepted, quarantined FROM ops.ingests RIGHT JOIN {file} AS f USING (fetch_id)",
        "spellings": "SELECT raw_symbol, symbol, provider FROM clean.symbol_map",
        "steps": "SELECT step, input, accepted, unchanged, quarantined FROM ops.runs",
        "rows": "SELECT frames::VARCHAR, rows, sha256 FROM raw.fetches",
    }
    with place.warehouse.connect() as connection:
        return {name: connection.execute(f"{query} ORDER BY ALL").fetchall() for name, query in queries.items()}


ROWS = st.lists(
    st.tuples(st.sampled_from(["AAA", "BBB", "CCC"]), st.integers(0, 4), st.sampled_from([0.0, 10.0, 10.5, 11.0])),
    min_size=1,
    max_size=8,
).map(text)
UNUSABLE = st.sampled_from(["", "a,b\n1,2\n", "PK\x03\x04"])
FOLDERS = st.lists(st.one_of(ROWS, ROWS, ROWS, UNUSABLE), min_size=1, max_size=6)


@given(contents=FOLDERS, at_once=st.booleans(), portion=st.sampled_from([1, 300, importing.PORTION]))
@settings(max_examples=7, deadline=None, phases=[Phase.generate])
def test_files_imported_together_leave_what_they_would_leave_one_by_one(
    contents: list[str], at_once: bool, portion: int
) -> None:
    known_at = NOW - timedelta(days=3) if at_once else None
    with folder() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr(importing, "PORTION", portion)
        paths = written(place, {f"{number}.csv": content for number, content in enumerate(contents)})
        alone, together = house(place / "alone"), house(place / "together")
        expected: dict[Path, Imported | VprismError] = {}
        for path in paths:
            try:
                expected[path] = import_file(alone, path, mapping(), "run", known_at=known_at)
            except VprismError as error:
                expected[path] = error
        done = import_files(together, dict.fromkeys(paths, mapping()), "run", known_at=known_at)
        assert list(done) == paths
        if at_once:  # at one instant only the later file's word counts, which alone the earlier one could not know
            assert {**content(together), "steps": []} == {**content(alone), "steps": []}
        else:
            assert told(done) == told(expected)
            assert content(together) == content(alone)


def test_a_folder_takes_two_openings_of_the_private_file_however_many_files_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, opened, opens = house(tmp_path), 0, Warehouse._open
    with place.warehouse.connect():
        pass

    def counted(self: Warehouse) -> duckdb.DuckDBPyConnection:
        nonlocal opened
        opened += 1
        return opens(self)

    monkeypatch.setattr(Warehouse, "_open", counted)
    paths = written(tmp_path, {f"{code}.csv": whole(code) for code in CODES})
    done = import_files(place, dict.fromkeys(paths, mapping()), "run")
    assert opened == 2
    assert all(isinstance(outcome, Imported) and outcome.datasets["bars"].new == 20 for outcome in done.values())


def test_a_file_in_the_wrong_unit_or_a_day_off_is_refused_alone_and_leaves_no_trace(tmp_path: Path) -> None:
    vn: list[date] = calendar("XSTC").sessions(date(2025, 3, 3), date(2025, 6, 6))["session"].to_list()

    def shares(code: str, unit: float, shift: int) -> str:
        closes = [(day + timedelta(days=shift), (20_000 + 50 * (n % 40)) / unit) for n, day in enumerate(vn)]
        lines = (f"{code},{day},{close},{close},{close},{close},1500" for day, close in closes)
        return "\n".join(["symbol,date,open,high,low,close,volume", *lines])

    meaning = files.Mapping.parse(mapping().model_dump(by_alias=True) | {"market": "vn"})
    good = written(tmp_path, {"V01.csv": shares("V01", 1, 0), "V04.csv": shares("V04", 1, 0)})
    bad = written(tmp_path, {"V02.csv": shares("V02", 1000, 0), "V03.csv": shares("V03", 1, 1)})
    place = house(tmp_path)
    done = import_files(place, dict.fromkeys([good[0], *bad, good[1]], meaning), "run")
    units, dates = done[bad[0]], done[bad[1]]
    assert isinstance(units, DataQualityError)
    assert "V02.csv: the close of 1 of 1 symbols looks off by a factor of 1000" in units.message
    assert isinstance(dates, DataQualityError)
    assert "moved by -1 day" in dates.message
    assert dates.context["file"] == "V03.csv"
    clean = house(tmp_path / "clean")
    import_files(clean, dict.fromkeys(good, meaning), "run")
    assert content(place) == content(clean)
    assert sum(len(place.lake.fetch_ids(path)) for path in place.lake.payload_files()) == 2


def test_a_file_too_many_rows_of_which_are_bad_can_be_imported_once_more_is_allowed(tmp_path: Path) -> None:
    bad = text([("AAA", 0, 10.0), ("AAA", 1, 0.0), ("AAA", 2, 0.0)])
    paths = written(tmp_path, {"bad.csv": bad, "good.csv": whole("BBB")})
    wanted = dict.fromkeys(paths, mapping())
    strict = house(tmp_path, min_data_quality=0.9)
    lenient = House(strict.settings.model_copy(update={"min_data_quality": 0.0}), strict.clock)
    first = import_files(strict, wanted, "run")
    assert isinstance(first[paths[0]], DataQualityError)
    assert isinstance(first[paths[1]], Imported)
    again = import_files(lenient, wanted, "run")
    assert told(again)["bad.csv"] == (
        False,
        ("bars: 3 of 3 rows of the file",),
        {"bars": (3, 1, 1, 0, 0, 2, {"price_not_positive": 2})},
    )
    # The bad file is the provider's last word now, so the good one is read once more, and nothing of it is news.
    assert told(again)["good.csv"] == (
        False,
        ("bars: 20 of 20 rows of the file",),
        {"bars": (20, 20, 0, 0, 20, 0, {})},
    )


def test_many_files_with_a_few_bad_rows_each_are_judged_each_by_itself(tmp_path: Path) -> None:
    rows = [(day, 0.0 if day < 5 else 10.0) for day in range(10)]
    paths = written(tmp_path, {f"{code}.csv": text((code, day, close) for day, close in rows) for code in CODES})
    done = import_files(house(tmp_path, min_data_quality=0.9), dict.fromkeys(paths, mapping()), "run")
    assert all(isinstance(outcome, Imported) for outcome in done.values())


def test_a_copy_in_the_same_folder_is_known_and_the_copy_of_a_refused_file_refused(tmp_path: Path) -> None:
    paths = written(tmp_path, {"a.csv": whole("AAA"), "b.csv": whole("AAA"), "c.csv": text([("AAA", 0, 0.0)])})
    paths += written(tmp_path, {"d.csv": text([("AAA", 0, 0.0)])})
    done = import_files(house(tmp_path, min_data_quality=0.9), dict.fromkeys(paths, mapping()), "run")
    first, copy, *refused = done.values()
    assert isinstance(first, Imported)
    assert isinstance(copy, Imported)
    assert (first.duplicate, copy.duplicate, copy.fetch_id) == (False, True, first.fetch_id)
    assert all(isinstance(outcome, DataQualityError) for outcome in refused)


def test_equal_bytes_are_another_symbols_where_the_name_of_the_file_says_the_symbol(tmp_path: Path) -> None:
    place = house(tmp_path)
    paths = written(tmp_path, {"AAA.csv": whole("?"), "BBB.csv": whole("?")})
    done = import_files(place, dict.fromkeys(paths, NAMED), "run")
    assert [outcome.datasets["bars"].new for outcome in done.values() if isinstance(outcome, Imported)] == [20, 20]
    again = import_files(place, dict.fromkeys(paths, NAMED), "again")
    assert all(isinstance(outcome, Imported) and outcome.duplicate for outcome in again.values())
    (later,) = written(tmp_path, {"CCC.csv": whole("?")})
    assert import_file(place, later, NAMED, "later").datasets["bars"].new == 20


def test_a_crash_leaves_whole_files_known_and_the_next_import_takes_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = written(tmp_path, {f"{code}.csv": whole(code) for code in CODES[:4]})
    wanted = dict.fromkeys(paths, mapping())
    monkeypatch.setattr(importing, "PORTION", 2 * paths[0].stat().st_size)
    place, recorded = house(tmp_path), []

    def second_time_unlucky(*arguments: Any) -> None:
        record_steps(*arguments)
        recorded.append(arguments)
        if len(recorded) == 2:  # everything is written, nothing committed
            raise KeyboardInterrupt

    monkeypatch.setattr(importing, "record_steps", second_time_unlucky)
    with pytest.raises(KeyboardInterrupt):
        import_files(place, wanted, "run")
    half = content(place)
    assert [row[0] for row in half["pulls"]] == ["SA.csv", "SB.csv"]
    assert {row[0] for row in half["ledger"]} == {"US:STOCK:SA", "US:STOCK:SB"}
    done = import_files(place, wanted, "run")
    assert [outcome.duplicate for outcome in done.values() if isinstance(outcome, Imported)] == [
        True,
        True,
        False,
        False,
    ]
    unharmed = house(tmp_path / "unharmed")
    import_files(unharmed, wanted, "run")
    assert content(place) == content(unharmed)


def test_a_rebuild_reads_every_file_of_a_folder_from_the_archive_again(tmp_path: Path) -> None:
    place = house(tmp_path)
    contents = {"a.csv": whole("AAA"), "b.csv": whole("AAA", 21.0), "c.csv": text([("BBB", 0, 0.0), ("BBB", 1, 5.0)])}
    import_files(place, dict.fromkeys(written(tmp_path, contents), mapping()), "run")
    before = content(place)
    rebuild(place)
    assert {**content(place), "steps": []} == {**before, "steps": []}


def test_a_defect_of_the_cleaning_rules_costs_its_own_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = written(tmp_path, {"a.csv": whole("AAA"), "b.csv": whole("BBB")})

    def distrust(dataset: str, accepted: pl.DataFrame) -> None:
        found = accepted.filter(pl.col("symbol") == "US:STOCK:BBB")
        if found.height:
            raise ContractViolation("a broken contract", fetch_id=found["fetch_id"][0])
        prove(dataset, accepted)

    monkeypatch.setattr(file_checks, "prove", distrust)
    done = import_files(house(tmp_path), dict.fromkeys(paths, mapping()), "run")
    assert [type(outcome) for outcome in done.values()] == [Imported, ContractViolation]


@pytest.fixture
def sample_house(tmp_path: Path) -> House:
    """What the command works on."""
    return house(tmp_path)


def test_the_command_takes_a_folder_and_refuses_what_is_no_data_alone(
    vprism: Vprism, sample_house: House, tmp_path: Path
) -> None:
    here = tmp_path / "folder"
    here.mkdir()
    written(here, {"AAA.csv": whole("AAA"), "BBB.csv": whole("BBB"), "broken.csv": "PK\x03\x04", ".hidden": "?"})
    columns = "\n".join(f'{name} = "{name}"' for name in ("symbol", *FIELDS))
    (here / "mine.toml").write_text(
        f'provider = "mine"\nmarket = "us"\n[[table]]\ndataset = "bars"\n[table.columns]\nsession = "date"\n{columns}\n'
    )
    words = ["import", str(here), "--mapping", str(here / "mine.toml"), "--no-build", "--format", "jsonl"]
    tried = vprism(*words, "--dry-run")
    assert [(row["file"], row["rows"]) for row in tried.rows] == [("AAA.csv", 20), ("BBB.csv", 20), ("broken.csv", 0)]
    assert not sample_house.warehouse.path.exists()
    ended = vprism(*words)
    assert ended.status == Malformed.exit_status
    assert "broken.csv" in ended.err
    assert [(row["file"], row["dataset"], row["new"]) for row in ended.rows] == [
        ("AAA.csv", "bars", 20),
        ("BBB.csv", "bars", 20),
        ("broken.csv", "refused", 0),
    ]
    again = vprism(*words)
    assert [row["dataset"] for row in again.rows] == ["known before", "known before", "refused"]
    (tmp_path / "empty").mkdir()
    nothing = vprism("import", str(tmp_path / "empty"), "--mapping", "ohlcv")
    assert nothing.status == 10
    assert "holds no files" in nothing.err
