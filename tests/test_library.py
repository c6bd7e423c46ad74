"""What people can rely on in the Python library."""

from __future__ import annotations

import doctest
from datetime import UTC, date, datetime, timedelta
from typing import get_args

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.warehouse_fixture import house_at, sample_house_fixture  # noqa: F401
from vprism_pipelines import settings as configuration
from vprism_pipelines.errors import InvalidInput, InvalidQuery, InvalidRange, NotPublished, UnknownMarket, UnknownSymbol
from vprism_pipelines.serving import library as vp
from vprism_pipelines.serving.library import Basis, Library
from vprism_pipelines.warehouse.house import House


@pytest.fixture
def data(sample_house: House) -> Library:
    return vp.connect(sample_house.settings.data_dir)


def test_the_examples_in_the_documentation_run(sample_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configuration, "settings", lambda: sample_house.settings)
    monkeypatch.setattr(vp, "settings", lambda: sample_house.settings)
    failed, tried = doctest.testmod(vp)
    assert tried >= 10
    assert failed == 0


def test_nothing_published_is_said_by_the_first_query(tmp_path: object) -> None:
    empty = vp.connect(str(tmp_path))
    with pytest.raises(NotPublished, match="nothing has been published"):
        empty.symbols()


def test_an_explicit_directory_is_not_overruled_by_the_environment(
    sample_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = house_at(sample_house.settings.data_dir, duckdb_database="/nowhere/else.duckdb").settings
    monkeypatch.setattr(vp, "settings", lambda: other)
    with pytest.raises(NotPublished):
        vp.connect().symbols()
    assert vp.connect(sample_house.settings.data_dir).symbols().height == 5
    assert vp.connect(database=sample_house.settings.database).symbols().height == 5


def test_a_closed_library_opens_the_newest_snapshot_again(data: Library) -> None:
    with data:
        assert data.symbols().height == 5
    assert data.symbols().height == 5


def test_symbols_are_found_in_every_spelling_that_means_one_of_them(data: Library) -> None:
    spellings = ["AAPL", " aapl ", "AAPL.US", "us:stock:aapl", "US:STOCK:AAPL"]
    assert data.canonical(spellings) == ["US:STOCK:AAPL"] * len(spellings)


@pytest.mark.parametrize(
    ("raw", "hint"), [("APPL", "AAPL"), ("goggle", "GOOG"), ("", "SELECT"), ("VN:STOCK:FPT", "SELECT")]
)
def test_an_unknown_symbol_comes_with_the_nearest_or_the_way_to_all(data: Library, raw: str, hint: str) -> None:
    with pytest.raises(UnknownSymbol, match="is not in the warehouse") as raised:
        data.bars(raw)
    assert hint in raised.value.hint


def test_bars_come_by_symbol_and_session_within_the_range(data: Library) -> None:
    bars = data.bars(["MSFT", "AAPL"], "2005-02-25", date(2005, 3, 1), basis="raw")
    assert bars.select("symbol", "session").rows() == [
        (symbol, date(2005, *day))
        for symbol in ("US:STOCK:AAPL", "US:STOCK:MSFT")
        for day in ((2, 25), (2, 28), (3, 1))
    ]
    assert bars["factor"].unique().to_list() == [1.0]


def test_every_basis_is_the_raw_price_times_its_factor(data: Library) -> None:
    raw = data.bars("AAPL", basis="raw")
    for basis in get_args(Basis):
        bars = data.bars("AAPL", basis=basis)
        assert_frame_equal(bars.select(pl.col("close") / pl.col("factor")), raw.select("close"), rel_tol=1e-12)
        volume = bars.select(pl.col("volume") * pl.col("share_factor"))
        assert_frame_equal(volume, raw.select("volume"), rel_tol=1e-12)


@pytest.mark.parametrize("basis", get_args(Basis))
def test_what_was_believed_just_now_is_what_is_believed(data: Library, basis: Basis) -> None:
    now = datetime.now(UTC)
    assert_frame_equal(
        data.bars(["AAPL", "IBM"], "2004-06-01", "2013-02-01", basis=basis, as_of=now),
        data.bars(["AAPL", "IBM"], "2004-06-01", "2013-02-01", basis=basis),
        rel_tol=1e-12,
        check_dtypes=False,
    )


def test_before_the_first_pull_nothing_was_believed(data: Library) -> None:
    believed = data.bars("AAPL", as_of="2000-01-01T00:00:00Z")
    assert believed.is_empty()
    assert believed.columns == data.bars("AAPL").columns


@pytest.mark.parametrize("as_of", ["2024-01-31", "2024-01-31T16:00:00", "yesterday", datetime(2024, 1, 31)])
def test_an_instant_without_its_offset_is_refused(data: Library, as_of: str | datetime) -> None:
    with pytest.raises(InvalidRange, match="not an instant"):
        data.bars("AAPL", as_of=as_of)


@pytest.mark.parametrize(
    ("start", "end", "told"),
    [
        ("2005-02-30", None, "start '2005-02-30' is not a date"),
        (None, "March", "end 'March' is not a date"),
        ("2005-03-02", "2005-03-01", "after its end"),
        (datetime.now(UTC).date() + timedelta(days=3), None, "in the future"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused(
    data: Library, start: str | date | None, end: str | None, told: str
) -> None:
    with pytest.raises(InvalidRange, match=told):
        data.bars("AAPL", start, end)


def test_other_arguments_that_make_no_sense_are_refused(data: Library) -> None:
    with pytest.raises(InvalidInput, match="no price basis"):
        data.bars("AAPL", basis="sideways")  # type: ignore[arg-type]
    with pytest.raises(UnknownMarket):
        data.sessions("mars")
    with pytest.raises(InvalidRange, match="not a session"):
        data.history("AAPL", "2005-02-27")
    for query in ("", " \n", "-- nothing", ";"):
        with pytest.raises(InvalidQuery, match="no statement"):
            data.sql(query)
    with pytest.raises(InvalidQuery, match="frame"):
        data.sql("SELECT 1 AS a, 2 AS a")


def test_no_symbols_are_no_bars(data: Library) -> None:
    assert data.bars([]).is_empty()
