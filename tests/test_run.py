"""What a run promises: the sample through the whole graph, again without a trace, and again from the lake alone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from tests.fault_server import FaultServer
from vprism_pipelines.errors import CorruptLake, InvalidRange, StorageUnwritable, UnknownProvider
from vprism_pipelines.serving.launch import RunReport, run_market
from vprism_pipelines.settings import Settings
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.rebuild import rebuild, replay

START, END = date(2004, 11, 1), date(2005, 3, 31)


def at(folder: Path, **changes: object) -> House:
    """An installation of its own that can reach no network."""
    return House(Settings(data_dir=folder / "data", **{"offline": True, **changes}))


def refresh(house: House, **changes: object) -> RunReport:
    return run_market(house, "us", **{"providers": ["sample"], "start": START, "end": END, **changes})


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    house = at(tmp_path_factory.mktemp("installation"))
    report = refresh(house)
    assert report.success, report.failures
    return house


def hashes(house: House) -> list[str]:
    return house.reader.query("SELECT content_hash FROM ops.snapshots ORDER BY snapshot")["content_hash"].to_list()


def test_a_run_ends_with_golden_factors_and_analytics_published(house: House) -> None:
    bars = house.reader.query("SELECT symbol, session, close FROM golden.bars ORDER BY ALL")
    assert set(bars["symbol"]) == {f"US:STOCK:{ticker}" for ticker in ("AAPL", "GOOG", "IBM", "MSFT")}
    assert bars["session"].min() == START
    assert bars["session"].max() == END
    assert house.reader.query("SELECT count(*) AS n FROM analytics.daily")["n"][0] == bars.height
    splits = house.reader.query(
        "SELECT symbol, ex_date, split_ratio, inferred, status FROM golden.factor_steps WHERE split_ratio <> 1"
    )
    assert splits.rows() == [("US:STOCK:AAPL", date(2005, 2, 28), 2.0, True, "applied")]


def test_our_factors_reproduce_the_adjusted_closes_of_the_sample(house: House) -> None:
    measured = house.reader.query("SELECT value, status FROM quality.metrics WHERE metric = 'adjusted_close'")
    assert set(measured.rows()) == {(0.0, "OK")}


def test_every_row_is_accounted_for(house: House) -> None:
    steps = house.reader.query("SELECT step, input, accepted, unchanged, quarantined FROM ops.runs")
    clean = steps.filter(pl.col("step").str.starts_with("clean/"))
    assert clean.height >= 2
    assert (clean["input"] == clean["accepted"] + clean["unchanged"] + clean["quarantined"]).all()


def test_the_same_command_again_changes_nothing(house: House) -> None:
    ledger = house.reader.query("SELECT * FROM clean.bars_ledger ORDER BY ALL")
    sets = house.reader.query("SELECT * FROM golden.factor_sets ORDER BY ALL")
    pulls = house.reader.query("SELECT count(*) AS n FROM raw.fetches")["n"][0]
    assert refresh(house).success
    assert house.reader.query("SELECT * FROM clean.bars_ledger ORDER BY ALL").equals(ledger)
    assert house.reader.query("SELECT * FROM golden.factor_sets ORDER BY ALL").equals(sets)
    assert house.reader.query("SELECT count(*) AS n FROM raw.fetches")["n"][0] == pulls
    assert len(set(hashes(house))) == 1


def test_replay_and_rebuild_give_the_same_content_without_any_network(house: House) -> None:
    before = hashes(house)[-1]
    replayed = replay(house)
    assert (replayed.new, replayed.changed, replayed.quarantined) == (0, 0, 0)
    assert replayed.unchanged == replayed.rows > 0
    assert replayed.published.content_hash == before
    rebuilt = rebuild(house)
    assert rebuilt.identical
    assert rebuilt.published.content_hash == before
    assert len(set(hashes(house))) == 1


def test_more_history_later_equals_all_of_it_at_once(tmp_path: Path) -> None:
    grown, whole = at(tmp_path / "grown"), at(tmp_path / "whole")
    for end in (date(2005, 1, 31), date(2005, 2, 28), END):
        assert refresh(grown, end=end).success
    assert refresh(whole).success
    for table in ("golden.bars", "golden.factor_steps", "analytics.daily"):
        left_out = "known_from" if table == "golden.bars" else "version" if table == "golden.factor_steps" else None
        query = f"SELECT * {f'EXCLUDE ({left_out})' if left_out else ''} FROM {table} ORDER BY ALL"
        assert grown.reader.query(query).equals(whole.reader.query(query)), table


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"start": date(2012, 2, 1), "end": date(2012, 1, 1)}, InvalidRange, "after its end"),
        ({"start": date(2999, 1, 1), "end": None}, InvalidRange, "future"),
        ({"start": None, "end": date(1980, 1, 1)}, InvalidRange, "1980|before"),
        ({"providers": ["kbs"]}, UnknownProvider, "does not serve"),
        ({"providers": ["nobody"]}, UnknownProvider, "nobody"),
    ],
)
def test_a_question_without_sense_is_refused_before_anything_runs(
    house: House, changes: dict[str, object], error: type[Exception], words: str
) -> None:
    before = hashes(house)
    with pytest.raises(error, match=words) as refused:
        refresh(house, **changes)
    assert refused.value.exit_status == 10  # type: ignore[attr-defined]
    assert hashes(house) == before


def test_an_unwritable_data_directory_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    house = House(Settings(data_dir=tmp_path / "file" / "data"))
    with pytest.raises(StorageUnwritable) as refused:
        refresh(house)
    assert refused.value.exit_status == 50


def test_a_provider_that_answers_html_with_200_fails_the_run_and_leaves_what_was_published(tmp_path: Path) -> None:
    house = at(tmp_path)
    assert refresh(house, start=date(2005, 2, 1)).success
    before = hashes(house)
    with FaultServer() as server:
        server.serve("/v8/finance/chart/AAPL", b"<html><body>Will be right back</body></html>")
        broken = House(
            Settings(
                data_dir=tmp_path / "data",
                provider_base_urls={"yahoo": server.url},
                provider_retry_attempts=0,
                universe={"us": ["AAPL"]},
            )
        )
        report = refresh(broken, providers=["yahoo"], start=date(2005, 2, 1))
    assert not report.success
    assert {failure.exit_status for failure in report.failures} == {20}
    assert all(failure.hint for failure in report.failures)
    assert hashes(house) == before
    assert house.reader.query("SELECT count(*) AS n FROM golden.bars")["n"][0] > 0


def test_a_corrupt_file_of_the_lake_is_named_and_what_was_published_stays(tmp_path: Path) -> None:
    house = at(tmp_path)
    assert refresh(house, start=date(2005, 3, 1)).success
    before = hashes(house)
    (payloads,) = (house.lake.root / path for path in house.lake.payload_files())
    payloads.write_bytes(payloads.read_bytes()[:1000])
    with pytest.raises(CorruptLake) as refused:
        replay(house)
    assert refused.value.exit_status == 50
    assert str(refused.value.context["path"]).endswith(payloads.name)
    assert hashes(house) == before


def test_a_new_session_of_a_market_costs_that_session(tmp_path: Path) -> None:
    clock = [datetime(2026, 11, 19, 12, tzinfo=UTC)]
    house = House(Settings(data_dir=tmp_path / "data"), clock=lambda: clock[0])
    first = run_market(house, "vn", providers=["simulated"], start=date(2026, 9, 1))
    assert first.success, first.failures  # several pulls at one instant do not contradict each other
    clock[0] += timedelta(days=1)
    second = run_market(house, "vn", providers=["simulated"], start=date(2026, 11, 1))
    assert second.success, second.failures
    newest = house.reader.query("SELECT max(session) AS day FROM golden.bars")["day"][0]
    assert newest == date(2026, 11, 20)
    (clean,) = (step for step in second.steps if step.asset == "clean/vn/bars")
    listed = house.reader.query("SELECT count(*) AS n FROM golden.bars WHERE session = ?", [newest])["n"][0]
    assert clean.metadata["new"] == listed > 0
    assert clean.metadata["unchanged"] > 0
    # Invented data says so wherever it goes.
    flags = house.reader.query("SELECT bool_and(flags & 128 > 0) AS synthetic FROM golden.bars")
    assert flags["synthetic"][0]
