"""What people can rely on when they start the real program: a run, its repetition from the lake, interruptions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli_kit import PROGRAM, Vprism, program, vprism_fixture  # noqa: F401
from tests.warehouse_fixture import copy_of, house_at, sample_house_fixture  # noqa: F401
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.publish import publish

Ran = tuple[Path, subprocess.CompletedProcess[str]]


# --- the whole walk -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A run of three months of the sample through Dagster, as a person starts it."""
    data = tmp_path_factory.mktemp("ran") / "data"
    return data, program("run", "--start", "2005-01-03", "--end", "2005-03-31", data=data)


def test_a_run_ends_with_a_summary_and_a_query_that_works(ran: Ran) -> None:
    data, ended = ran
    assert ended.returncode == 0, ended.stderr
    assert "golden/us/bars" in ended.stdout
    query = ended.stdout.splitlines()[-1].strip().removeprefix('vprism sql "').removesuffix('"')
    answer = program("sql", query, "--format", "jsonl", data=data)
    rows = [json.loads(line) for line in answer.stdout.splitlines()]
    assert len(rows) == 5
    assert [row["session"] for row in rows] == ["2005-03-31"] * 4 + ["2005-03-30"]  # FB is not listed yet


def test_a_run_without_a_terminal_draws_no_progress_bar(ran: Ran) -> None:
    assert "\x1b" not in ran[1].stdout + ran[1].stderr
    assert "━" not in ran[1].stderr


def test_replay_and_rebuild_give_the_same_tables_without_the_network(vprism: Vprism, ran: Ran) -> None:
    house = house_at(ran[0], offline=False)
    (before,) = vprism("sql", "SELECT content_hash FROM ops.snapshots", "--format", "jsonl", house=house).rows
    (replayed,) = vprism("replay", "--market", "us", "--provider", "sample", "--format", "jsonl", house=house).rows
    assert (replayed["new"], replayed["changed"]) == (0, 0)
    assert replayed["unchanged"] == replayed["rows"] > 0
    assert replayed["content_hash"] == before["content_hash"]
    (rebuilt,) = vprism("rebuild", "--format", "jsonl", house=house).rows
    assert rebuilt["identical"] is True
    assert rebuilt["content_hash"] == before["content_hash"]


def test_health_tells_what_is_published_how_late_and_what_the_checks_found(vprism: Vprism, ran: Ran) -> None:
    house = house_at(ran[0])
    ended = vprism("health", "--format", "jsonl", house=house)
    rows = {(row["area"], row["item"]): row for row in ended.rows}
    assert ended.status == 0
    assert int(rows["published", "snapshot"]["value"]) >= 1
    assert rows["market", "us"]["value"] == "2005-03-31"
    assert rows["market", "us"]["status"] == "OK"  # the sample is over, not late
    assert rows["provider", "sample"]["status"] == "OK"
    assert "OK" in rows["check", "newest"]["value"]
    detailed = vprism("health", "--detailed", "--format", "jsonl", house=house)
    assert {"us completeness", "us duplicates"} <= {row["item"] for row in detailed.rows if row["area"] == "check"}
    assert {"lake", "snapshots"} <= {row["item"] for row in detailed.rows if row["area"] == "disk"}


def test_strict_health_exits_with_30_exactly_when_something_fails(vprism: Vprism, ran: Ran, tmp_path: Path) -> None:
    house = copy_of(house_at(ran[0]), tmp_path / "data")
    failing = [row for row in vprism("health", "--format", "jsonl", house=house).rows if row["status"] == "FAIL"]
    assert vprism("health", "--strict", house=house).status == (30 if failing else 0)
    for status, expected in (("FAIL", 30), ("OK", 0)):
        with house.warehouse.transaction() as connection:
            connection.execute("UPDATE quality.metrics SET status = ?", [status])
        publish(house.warehouse, "test", house.clock())
        assert vprism("health", "--strict", house=house).status == expected


# --- when things are in the way ------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["run"], ["data", "fetch", "AAPL"], ["replay"]])
def test_a_data_directory_that_cannot_be_written_is_named(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    ended = program(*words, data=tmp_path / "file" / "data")
    assert ended.returncode == 50
    assert "error STORAGE_UNWRITABLE: " in ended.stderr
    assert str(tmp_path / "file") in ended.stderr


def test_a_damaged_lake_file_is_named_and_what_is_published_stays(
    vprism: Vprism,
    tmp_path: Path,
    sample_house: House,
) -> None:
    house = copy_of(sample_house, tmp_path / "data")
    published = house.settings.database.read_bytes()
    (file,) = house.settings.lake_dir.glob("payloads/sample/*/*.parquet")
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:1000])
    for command in ("replay", "rebuild"):
        ended = vprism(command, house=house)
        assert ended.status == 50
        assert ended.err.startswith("error CORRUPT_LAKE: ")
        assert file.name in ended.err
    assert house.settings.database.read_bytes() == published


@pytest.mark.processes
def test_ctrl_c_ends_a_query_at_once_and_a_closed_pipe_ends_it_quietly(sample_house: House) -> None:
    environment = os.environ | {
        "VPRISM_DATA_DIR": str(sample_house.settings.data_dir),
        "DUCKDB_DATABASE": str(sample_house.settings.database),
    }
    endless = "SELECT count(*) FROM golden.bars a, golden.bars b, golden.bars c WHERE a.close + b.close > c.close"
    # The shell would start a background job with SIGINT ignored; so might whoever runs these tests.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        running = subprocess.Popen([*PROGRAM, "sql", endless], env=environment, stderr=subprocess.PIPE, text=True)
        time.sleep(3)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=20)
    finally:
        signal.signal(signal.SIGINT, before)
    assert running.returncode in (-signal.SIGINT, 130)  # a shell reports both as 130
    assert "Traceback" not in said
    talking = subprocess.Popen(
        [*PROGRAM, "sql", "FROM golden.bars", "--format", "csv"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert talking.stdout is not None
    assert talking.stderr is not None
    talking.stdout.close()
    assert talking.wait(timeout=60) == 141
    assert talking.stderr.read() == b""
    talking.stderr.close()
