"""What the conductor promises: what a run asks for, what it does with bad answers, and what it tells about itself."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from tests.house import DAYS, Clock, Scripted, answer, bar, equal, house, published_content, registered, scripted
from tests.sensing import look
from vprism_pipelines.assets.catalog import WRITER_POOL, nodes
from vprism_pipelines.assets.factory import check_result, markdown_table
from vprism_pipelines.assets.sensors import failure_message
from vprism_pipelines.definitions import build_defs
from vprism_pipelines.errors import CorruptLake, DataQualityError, UnknownSymbol
from vprism_pipelines.market.spec import MARKETS
from vprism_pipelines.providers import registry
from vprism_pipelines.quality.datasets import CHECKS, Status
from vprism_pipelines.serving.launch import RunReport, run_market
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.measures import Measurement
from vprism_pipelines.warehouse.publish import publish

CLOCK_START = datetime(2026, 10, 30, 22, tzinfo=UTC)  # the evening of the last session of October
OCTOBER = [day for day in DAYS if day >= date(2026, 10, 1) and day <= date(2026, 10, 30)]


@pytest.fixture
def one() -> Iterator[type[Scripted]]:
    provider = scripted("one")
    provider.says = {f"US:STOCK:{code}": told(code, OCTOBER) for code in "AB"}
    with registered(provider, alone=True):
        yield provider


def told(code: str, days: list[date], **fields: Any) -> bytes:
    return answer(bar(code, day, 10.0 + day.day / 8, **fields) for day in days)


@pytest.fixture
def clock() -> Clock:
    return Clock(CLOCK_START)


@pytest.fixture
def place(tmp_path: Path, clock: Clock) -> House:
    return house(tmp_path, clock=clock, universe={"us": ["A", "B"]}, offline=True)


def run(place: House, **changes: Any) -> RunReport:
    return run_market(place, "us", **{"providers": ["one"], "start": OCTOBER[0], **changes})


def the_failure(report: RunReport) -> tuple[str, str, int]:
    assert not report.success
    (failure,) = report.failures
    assert failure.hint
    return failure.step, failure.code, failure.exit_status


def closes(place: House) -> dict[tuple[str, date], float]:
    rows = place.reader.query("SELECT symbol, session, close FROM golden.bars").rows()
    return {(symbol, session): close for symbol, session, close in rows}


# --- what a run asks for, and does with it --------------------------------------------------------------------------


def test_a_run_asks_for_its_own_dates_only(place: House, one: type[Scripted]) -> None:
    report = run(place, start=date(2026, 10, 5), end=date(2026, 10, 9))
    assert report.success, report.failures
    assert {(request.start, request.end) for request in one.asked} == {(date(2026, 10, 5), date(2026, 10, 9))}
    assert sorted({day for _, day in closes(place)}) == [day for day in OCTOBER if 5 <= day.day <= 9]
    reported = {step.asset: step for step in report.steps}
    assert reported["golden/us/bars"].rows == 10
    assert reported["clean/us/bars"].metadata["new"] == 10
    assert "raw/us/sample_bars" not in reported
    assert report.snapshot == 1
    steps = place.reader.query("SELECT step, trigger, range_start, input, accepted FROM ops.runs")
    clean = steps.filter(pl.col("step") == "clean/us/bars").row(0)
    assert clean == ("clean/us/bars", "cli", date(2026, 10, 1), 10, 10)


def test_the_first_run_of_a_month_asks_again_for_the_end_of_the_last_one(
    place: House, one: type[Scripted], clock: Clock
) -> None:
    """A partition is a month, but a bar that was pulled while its session ran must settle all the same."""
    clock.now = datetime(2026, 10, 30, 17, tzinfo=UTC)  # New York trades
    assert run(place).success
    assert ("US:STOCK:A", date(2026, 10, 30)) not in closes(place)
    clock.now = datetime(2026, 11, 2, 22, tzinfo=UTC)
    one.asked.clear()
    one.says = {f"US:STOCK:{code}": told(code, [*OCTOBER, date(2026, 11, 2)]) for code in "AB"}
    report = run_market(place, "us", providers=["one"], this_month=True)
    assert report.success, report.failures
    assert {(request.start, request.end) for request in one.asked} == {(date(2026, 10, 27), date(2026, 11, 2))}
    assert {day for _, day in closes(place)} == {*OCTOBER, date(2026, 11, 2)}


def test_one_failing_symbol_keeps_nobody_else_from_being_published(place: House, one: type[Scripted]) -> None:
    one.says["US:STOCK:B"] = b"<html>Will be right back</html>"
    report = run(place)
    assert report.success
    assert {symbol for symbol, _ in closes(place)} == {"US:STOCK:A"}
    (raw,) = (step for step in report.steps if step.asset == "raw/us/one_bars")
    assert raw.metadata["failed requests"] == 1
    assert "MALFORMED" in raw.metadata["failures"]


def test_a_provider_that_fails_wholly_stops_the_run_and_what_is_published_stays(
    place: House, one: type[Scripted], clock: Clock
) -> None:
    assert run(place).success
    before, snapshots = published_content(place), sorted(place.warehouse.snapshots.iterdir())
    clock.now = datetime(2026, 11, 3, 22, tzinfo=UTC)
    one.says = dict.fromkeys(one.says, b"<html>Will be right back</html>")
    report = run(place)
    assert the_failure(report) == ("raw/us/one_bars", "MALFORMED", 20)
    assert {step.status for step in report.steps if step.asset in ("clean/us/bars", "published")} <= {"skipped"}
    assert sorted(place.warehouse.snapshots.iterdir()) == snapshots
    assert equal(published_content(place), before)


def test_too_many_bad_rows_stop_the_market_and_what_is_published_stays(
    place: House, one: type[Scripted], clock: Clock
) -> None:
    assert run(place).success
    before = published_content(place)
    clock.now = datetime(2026, 11, 3, 22, tzinfo=UTC)
    one.says = {symbol: told(symbol[-1], OCTOBER, currency="EUR") for symbol in one.says}
    report = run(place)
    step, code, status = the_failure(report)
    assert (step, code, status) == ("clean/us/bars", DataQualityError.code, 30)
    assert "wrong_currency" in report.failures[0].hint
    assert equal(published_content(place), before)
    with place.warehouse.connect() as connection:
        assert connection.execute("SELECT count(*) FROM clean.quarantine").fetchone() == (0,)
    clock.now = datetime(2026, 11, 4, 22, tzinfo=UTC)
    one.says = {symbol: told(symbol[-1], [*OCTOBER, date(2026, 11, 4)]) for symbol in one.says}
    report = run(place)
    assert report.success, "what is good again goes through, whatever was refused before"
    assert ("US:STOCK:A", date(2026, 11, 4)) in closes(place)
    assert set(place.reader.query("SELECT unnest(reasons) AS r FROM clean.quarantine")["r"]) == {"wrong_currency"}


def test_a_few_bad_rows_are_set_aside_with_their_reasons_and_shown(place: House, one: type[Scripted]) -> None:
    """Three of forty-four are beyond the threshold of the check, but a share says little of so few."""
    bars = [bar("A", day, 10.0) for day in OCTOBER]
    one.says["US:STOCK:A"] = answer([*bars[:-3], *({**last, "high": 1.0} for last in bars[-3:])])
    report = run(place)
    assert report.success
    (clean,) = (step for step in report.steps if step.asset == "clean/us/bars")
    assert clean.metadata["rejected by reason"] == {"price_order": 3}
    assert "price_order" in clean.metadata["rejected rows"]
    assert clean.metadata["rows"] == clean.metadata["new"] + clean.metadata["quarantined"] == 2 * len(OCTOBER)
    kept = place.reader.query(
        "SELECT raw_symbol, session, reasons, row_json->>'$.high' AS high FROM clean.quarantine ORDER BY session"
    )
    assert kept.rows() == [("A", day, ["price_order"], "1.0") for day in OCTOBER[-3:]]


def test_a_symbol_nobody_can_resolve_is_refused_with_what_to_do(tmp_path: Path, one: type[Scripted]) -> None:
    place = house(tmp_path, clock=Clock(CLOCK_START), universe={"us": ["no such thing!"]})
    assert the_failure(run(place))[1:] == (UnknownSymbol.code, 10)


def test_a_damaged_file_of_the_lake_stops_the_run_that_needs_it_and_no_other(
    place: House, one: type[Scripted], clock: Clock
) -> None:
    assert run(place).success
    before = published_content(place)
    for path in place.lake.root.glob("raw/*/*/*.parquet"):
        path.write_bytes(path.read_bytes()[:100])
    clock.now += timedelta(minutes=5)
    assert run(place).success  # nothing of it is needed: all of it is remembered
    with place.warehouse.transaction() as connection:
        connection.execute("DELETE FROM ops.ingests")
    report = run(place)
    assert {failure.code for failure in report.failures} == {CorruptLake.code}
    assert {failure.exit_status for failure in report.failures} == {50}
    assert equal(published_content(place), before)


# --- what it tells about itself -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return build_defs()


def test_whoever_writes_waits_for_the_one_writer_and_whoever_asks_for_its_provider(
    definitions: dg.Definitions,
) -> None:
    for node in nodes():
        pool = f"provider_{node.provider}" if node.layer == "raw" else WRITER_POOL
        assert node.pool == pool
        assert definitions.get_assets_def(node.asset_key).op.pool == pool


def test_every_check_is_attached_described_and_blocks_as_the_catalogue_says(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    attached = {(key.asset_key, key.name) for key in graph.asset_check_keys}
    assert attached == {(node.asset_key, name) for node in nodes() for name in node.checks}
    for node in nodes():
        for spec in definitions.get_assets_def(node.asset_key).check_specs:
            check = CHECKS[spec.name]
            assert spec.description
            assert check.description in spec.description
            assert spec.blocking == check.blocks


def test_every_served_market_has_a_job_a_schedule_and_sensors(definitions: dg.Definitions) -> None:
    served = [code for code in MARKETS if registry.for_market(code)]
    assert {"us", "vn"} <= set(served)
    repository = definitions.get_repository_def()
    jobs, schedules = {job.name for job in repository.get_all_jobs()}, {s.name for s in repository.schedule_defs}
    sensors = {sensor.name for sensor in repository.sensor_defs}
    for code in served:
        assert f"{code}_refresh" in jobs
        assert f"{code}_after_close" in schedules
        assert {f"{code}_freshness", f"{code}_inbox"} <= sensors
        job = definitions.resolve_job_def(f"{code}_refresh")
        assert job.tags["market"] == code
        assert job.partitions_def is not None
        assert str(job.partitions_def.timezone) == MARKETS[code].timezone  # type: ignore[attr-defined]
    assert {"us_perishing", "vn_perishing", "failed_runs"} <= sensors


def test_partitions_are_months_up_to_the_running_one(definitions: dg.Definitions) -> None:
    partitions = definitions.resolve_job_def("us_refresh").partitions_def
    assert partitions is not None
    assert partitions.get_first_partition_key() == "1990-01-01"
    evening = datetime(2026, 11, 2, 21, 30)
    keys = partitions.get_partition_keys(current_time=evening)
    assert keys[-1] == "2026-11-01"


def newest(place: House, session: date | None) -> None:
    """Publish golden bars up to a session."""
    with place.warehouse.transaction() as connection:
        if session:
            connection.execute(
                "INSERT INTO golden.bars BY NAME SELECT 'US:STOCK:A' AS symbol, ?::DATE AS session, 1 AS open,"
                " 1 AS high, 1 AS low, 1 AS close, 'USD' AS currency, 'one' AS chosen_provider, 1 AS n_sources,"
                " 1 AS confidence, 'raw' AS price_basis, 0 AS flags, now() AS known_from",
                [session],
            )
    publish(place.warehouse, "run", place.clock())


def freshness(place: House, one: type[Scripted]) -> dg.RunRequest | str:
    configured = House(place.settings.model_copy(update={"providers": {"us": [one.name]}}), clock=place.clock)
    return look(configured, "us_freshness")[0]


def test_a_late_session_is_asked_for_again_by_the_clock_of_the_exchange(
    place: House, one: type[Scripted], clock: Clock
) -> None:
    assert freshness(place, one) == "nothing published yet"
    newest(place, date(2026, 10, 29))
    assert freshness(place, one) == "up to date: 2026-10-29"  # the grace of four hours runs
    clock.now = datetime(2026, 10, 31, 0, 1, tzinfo=UTC)
    request = freshness(place, one)
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == "2026-10-01"
    assert request.tags["vprism/trigger"] == "sensor"
    assert dg.AssetKey(["raw", "us", "one_bars"]) in (request.asset_selection or [])
    clock.now = datetime(2026, 10, 31, 5, 59, tzinfo=UTC)
    again = freshness(place, one)
    assert isinstance(again, dg.RunRequest)
    assert again.run_key == request.run_key  # four times a day, not every tick
    newest(place, date(2026, 10, 30))
    clock.now = datetime(2026, 11, 2, 12, tzinfo=UTC)  # Monday morning: the weekend makes nothing late
    assert freshness(place, one) == "up to date: 2026-10-30"
    one.immutable = True
    assert freshness(place, one) == "the providers in use never change"


def test_a_failed_run_is_told_with_its_step_and_market(place: House) -> None:
    @dg.op
    def breaks() -> None:
        raise RuntimeError("no")

    @dg.job(tags={"market": "us"})
    def doomed() -> None:
        breaks()

    with dg.DagsterInstance.ephemeral() as instance:
        result = doomed.execute_in_process(instance=instance, raise_on_error=False)
        context = dg.build_run_status_sensor_context(
            sensor_name="failed_runs",
            dagster_event=result.get_run_failure_event(),
            dagster_instance=instance,
            dagster_run=result.dagster_run,
        ).for_run_failure()
        message = failure_message(context)
    assert message["text"].startswith(f"run {result.run_id} of doomed failed in breaks:")
    assert (message["market"], message["job"]) == ("us", "doomed")


@pytest.mark.parametrize(
    ("value", "status", "passed"),
    [(None, Status.OK, True), (0.001, Status.OK, True), (0.01, Status.WARN, False), (0.05, Status.FAIL, False)],
)
def test_a_check_tells_its_value_thresholds_and_evidence(value: float | None, status: Status, passed: bool) -> None:
    (node,) = (node for node in nodes() if node.key == ("clean", "us", "bars"))
    result = check_result(node, Measurement("rejection_rate", value, pl.DataFrame({"reason": ["a|b"], "rows": [3]})))
    assert (result.passed, result.metadata["status"].value) == (passed, status)
    assert result.metadata["warn"].value == 0.01
    assert "a\\|b" in str(result.metadata["evidence"].value)
    severe = dg.AssetCheckSeverity.ERROR if status is Status.FAIL else dg.AssetCheckSeverity.WARN
    assert result.severity == severe


def test_a_threshold_is_not_missed_by_float_noise() -> None:
    check = CHECKS["completeness"]
    assert check.judge(0.1 + 0.2 - 0.298) is Status.WARN  # 0.0020000000000000018 or so: exactly 0.002 is meant
    assert check.judge(0.002 - 1e-15) is Status.WARN
    assert check.judge(0.0019) is Status.OK


def test_a_table_for_people_shows_the_first_rows_and_how_many_more() -> None:
    text = markdown_table(pl.DataFrame({"a": range(12), "b": [None] * 12}), limit=10)
    assert text.splitlines()[0] == "| a | b |"
    assert text.endswith("… and 2 more rows")
    assert markdown_table(pl.DataFrame()) == "_nothing_"
