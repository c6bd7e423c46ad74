"""What a data steward can rely on: the quality report, stored comparisons and drift on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import polars as pl
import pytest

from tests.cli_kit import Vprism, vprism_fixture  # noqa: F401
from tests.house import DAYS, NOW, US, Clock, Scripted, acquire_all, answer, bar, house, registered, scripted
from tests.warehouse_fixture import sample_house_fixture  # noqa: F401
from vprism_pipelines.serving.cli import app, drift, quality, reconcile
from vprism_pipelines.warehouse import drift as drifting
from vprism_pipelines.warehouse import health, measures, reconciliation
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.publish import publish
from vprism_pipelines.warehouse.rebuild import replay
from vprism_pipelines.warehouse.scorecard import build_scorecard

for part, name in ((quality, "quality"), (reconcile, "reconcile"), (drift, "drift")):
    if name not in {group.name for group in app.registered_groups}:
        part.add_to(app)

LAST = DAYS[-60:]


def history(code: str, skip: tuple[int, ...] = (), odd: int | None = None) -> bytes:
    closes = {n: 20 + n * 7 % 11 / 4 for n in range(len(LAST)) if n not in skip}
    if odd is not None:
        closes[odd] *= 1.05
    return answer([bar(code, LAST[n], round(close, 4), volume=5000.0 + 37 * n) for n, close in closes.items()])


@pytest.fixture(scope="module")
def two() -> Iterator[tuple[type[Scripted], type[Scripted]]]:
    one, other = scripted("one"), scripted("two")
    one.says = {f"US:STOCK:{code}": history(code) for code in "AB"}
    other.says = {"US:STOCK:A": history("A", skip=(40, 41)), "US:STOCK:B": history("B", odd=55)}
    with registered(one, other):
        yield one, other


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, two: object) -> House:
    """Two providers that differ in one close and two sessions, after a run, published."""
    found = house(tmp_path_factory.mktemp("quality"), universe={"us": ["A", "B"]}, clock=Clock())
    for provider in ("one", "two"):
        acquire_all(found, provider, (LAST[0], LAST[-1]), "run")
    replay(found, "us")
    with found.warehouse.transaction() as connection:
        reconciliation.update(connection, US, "run", NOW)
        build_scorecard(connection, US)
        drifting.build_drift(connection, US)
        health.build_health(connection, US)
        measured = [reconciliation.standing(connection, US), *health.measure_health(connection, US)]
        measures.record(connection, US, measured, "run", NOW)
    publish(found.warehouse, "run", NOW)
    return found


def test_the_report_has_verdicts_worst_series_providers_and_pairs(vprism: Vprism, place: House) -> None:
    done = vprism("quality", "report", "--format", "jsonl", house=place)
    assert done.status == 0, done.err
    rows = pl.DataFrame(done.rows, infer_schema_length=None)
    assert {"check", "symbol", "provider", "pair"} <= set(rows["section"])
    checks = {row["item"]: row for row in done.rows if row["section"] == "check"}
    assert checks["gap_ratio two"]["status"] == "FAIL"
    assert checks["gap_ratio one"]["status"] == "OK"
    (pair,) = rows.filter(pl.col("section") == "pair").to_dicts()
    assert (pair["item"], pair["status"], pair["value"]) == ("one / two", "FAIL", pytest.approx(3 / 120))
    assert "118 rows" in pair["detail"]
    assert next(row["status"] for row in done.rows if row["section"] == "check") == "FAIL", "the worst comes first"


def test_the_report_is_one_page_for_people(vprism: Vprism, place: House) -> None:
    done = vprism("quality", "report", house=place)
    assert done.status == 0
    assert len(done.out.splitlines()) < 45
    assert "checks that FAIL: gap_ratio, gap_ratio two, reconciliation" in done.out
    assert "left out" not in done.out


def test_the_report_of_a_symbol_shows_its_months_and_of_a_provider_its_own(vprism: Vprism, place: House) -> None:
    months = vprism("quality", "report", "--symbol", "A", "--provider", "two", "--format", "jsonl", house=place).rows
    told = [row for row in months if row["section"] == "symbol"]
    assert {row["item"] for row in told} == {"A two"}
    assert len(told) == len({day.replace(day=1) for day in LAST})
    assert {row["provider"] for row in months if row["section"] == "provider"} == {"two"}


def test_the_report_of_a_month_is_about_that_month(vprism: Vprism, place: House) -> None:
    wanted = LAST[40].strftime("%Y-%m")
    rows = vprism("quality", "report", "--month", wanted, "--market", "us", "--format", "jsonl", house=place).rows
    worst = next(row for row in rows if row["section"] == "symbol")
    assert (worst["item"], worst["status"]) == ("A two", "FAIL")
    assert f"in {wanted}, 2 missing" in worst["detail"]
    refused = vprism("quality", "report", "--month", "May", house=place)
    assert (refused.status, "2024-01" in refused.err) == (10, True)


def test_a_comparison_is_printed_and_kept_for_the_next_snapshot(vprism: Vprism, place: House) -> None:
    done = vprism("reconcile", "run", "--market", "us", "--a", "one", "--b", "two", "--format", "jsonl", house=place)
    (row,) = done.rows
    assert (row["compared"], row["fail_count"], row["missing_source_b"], row["status"]) == (118, 3, 2, "FAIL")
    assert (row["scope"], row["source_a"], row["start"]) == ("asked", "one", LAST[0].isoformat())
    assert "published with the next run" in done.err
    with place.warehouse.connect() as connection:
        stored = connection.execute("SELECT run_id FROM quality.reconciliation_runs WHERE scope = 'asked'").fetchall()
    assert [(row["run_id"],)] == stored


def test_a_dry_comparison_keeps_nothing(vprism: Vprism, place: House) -> None:
    words = ("reconcile", "run", "--market", "us", "--a", "two", "--b", "one", "--start", LAST[50].isoformat())
    done = vprism(*words, "--dry-run", "--rows", "diffs", "--format", "jsonl", house=place)
    (row,) = done.rows
    assert (row["symbol"], row["difference"], row["close_bp_diff"]) == ("US:STOCK:B", "bar_error", pytest.approx(500))
    with place.warehouse.connect() as connection:
        (kept,) = connection.execute(
            "SELECT count(*) FROM quality.reconciliation_runs WHERE source_a = 'two'"
        ).fetchone() or (None,)
    assert kept == 0


def test_stored_comparisons_and_differences_are_shown(vprism: Vprism, place: House) -> None:
    (run,) = vprism("reconcile", "show", "--format", "jsonl", house=place).rows
    assert (run["source_a"], run["scope"], run["fail_count"]) == ("one", "changes", 3)
    rows = vprism("reconcile", "show", "--symbol", "A", "--status", "FAIL", "--format", "jsonl", house=place).rows
    assert [(row["session"], row["reason"]) for row in rows] == [
        (LAST[n].isoformat(), "missing_source_b") for n in (41, 40)
    ]
    assert vprism("reconcile", "show", "--a", "nobody", house=place).out.count("nothing was compared") == 1


def test_a_provider_without_bars_is_refused_with_those_there_are(vprism: Vprism, place: House) -> None:
    done = vprism("reconcile", "run", "--market", "us", "--a", "one", "--b", "yahoo", house=place)
    assert done.status == 10
    assert "one, two" in done.err


def test_drift_is_reported_largest_first_and_stops_nothing(vprism: Vprism, place: House) -> None:
    done = vprism("drift", "report", "--market", "us", "--format", "jsonl", house=place)
    assert done.status == 0
    sizes = [abs(row["z"]) for row in done.rows]
    assert sizes == sorted(sizes, reverse=True)
    assert len(done.rows) == 4
    assert {row["observations"] for row in done.rows} == {30}
    wider = vprism("drift", "report", "--symbol", "A", "--window", "50", "--format", "jsonl", house=place)
    assert {(row["symbol"], row["observations"]) for row in wider.rows} == {("US:STOCK:A", 50)}
    assert vprism("drift", "report", "--window", "1", house=place).status == 10


def test_the_sample_market_has_a_report_too(vprism: Vprism) -> None:
    """A warehouse in which nothing was scored yet says so instead of failing."""
    assert vprism("quality", "report").status == 0
    assert vprism("drift", "report", "--symbol", "AAPL").status == 0
    assert date(2013, 3, 1).isoformat() in vprism("drift", "report", "--symbol", "AAPL", "--format", "csv").out
