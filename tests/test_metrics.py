"""What is counted is exact: over processes, forks, failures and whatever labels come."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tests import house as kit
from tests.cli_kit import Vprism, vprism_fixture  # noqa: F401
from tests.receiver import receiver
from tests.warehouse_fixture import copy_of, house_at, sample_house_fixture  # noqa: F401
from vprism_pipelines import telemetry
from vprism_pipelines.errors import InvalidQuery
from vprism_pipelines.telemetry import exposition, metrics
from vprism_pipelines.telemetry.metrics import (
    MOST_LABEL_SETS,
    OTHER,
    PROVIDER_REQUESTS,
    QUERY_FAIL,
    QUERY_LATENCY,
    SYMBOL_NORMALIZATION,
    Book,
)
from vprism_pipelines.warehouse.house import House

COUNTING = """
import sys
from pathlib import Path
from vprism_pipelines.telemetry.metrics import BOOK, PROVIDER_REQUESTS
BOOK.keep(Path(sys.argv[1]))
for _ in range(500):
    BOOK.count(PROVIDER_REQUESTS, provider="yahoo", code="OK")
"""
FORKING = COUNTING + "import os\nif child := os.fork():\n    os.waitpid(child, 0)\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "metrics.sqlite"


def total(path: Path, metric: metrics.Metric = PROVIDER_REQUESTS) -> float:
    return sum(parts[""] for parts in metrics.read(path)[metric.name].values())


def counted(house: House) -> dict[str, dict[tuple[str, ...], float]]:
    """Counters of an installation by metric and labels."""
    metrics.BOOK.flush()
    found = metrics.read(house.settings.metrics_path)
    return {name: {labels: parts[""] for labels, parts in sets.items() if "" in parts} for name, sets in found.items()}


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The text format as an independent parser reads it."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.processes
@pytest.mark.parametrize(("script", "processes"), [(COUNTING, 3), (FORKING, 1)], ids=["at once", "forked"])
def test_counts_of_processes_add_up_to_the_last_one(path: Path, script: str, processes: int) -> None:
    running = [subprocess.Popen([sys.executable, "-c", script, str(path)]) for _ in range(processes)]
    assert [process.wait(60) for process in running] == [0] * processes
    assert total(path) == 500 * processes


def test_what_is_counted_is_written_within_a_second_without_anybody_asking(path: Path) -> None:
    book = Book()
    book.keep(path)
    book.count(SYMBOL_NORMALIZATION, status="resolved")
    written = threading.Event()
    for _ in range(100):
        if path.exists() and metrics.read(path):
            break
        written.wait(0.1)
    assert total(path, SYMBOL_NORMALIZATION) == 1


@given(names=st.lists(st.integers(0, 120), max_size=300))
def test_a_metric_never_has_more_than_fifty_label_sets_and_one_for_the_rest(
    names: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("labels") / "state" / "metrics.sqlite"
    expected: Counter[str] = Counter()
    for half in (names[: len(names) // 2], names[len(names) // 2 :]):  # two processes, one after the other
        book = Book()
        book.keep(path)
        for name in half:
            fits = str(name) in expected or len(expected.keys() - {OTHER}) < MOST_LABEL_SETS
            expected[str(name) if fits else OTHER] += 1
            book.count(PROVIDER_REQUESTS, provider=str(name), code="OK")
        book.close()
    found = metrics.read(path).get(PROVIDER_REQUESTS.name, {})
    assert {labels[0]: parts[""] for labels, parts in found.items()} == expected
    assert all(labels[1] == ("OK" if labels[0] != OTHER else OTHER) for labels in found)
    assert len(found) <= MOST_LABEL_SETS + 1


@given(values=st.lists(st.floats(0, 100_000, allow_nan=False), min_size=1, max_size=60))
def test_the_text_format_says_how_many_values_lie_under_each_bound(
    values: list[float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = kit.settings_of(tmp_path_factory.mktemp("text"))
    book = Book()
    book.keep(settings.metrics_path)
    for value in values:
        book.observe(QUERY_LATENCY, value, provider="yahoo")
    book.close()
    told = samples(exposition.text(settings))
    by = frozenset({("provider", "yahoo")})
    for bound in QUERY_LATENCY.bounds:
        bucket = told["vprism_query_latency_ms_bucket", by | {("le", f"{bound:g}")}]
        assert bucket == sum(value <= bound for value in values)
    assert told["vprism_query_latency_ms_bucket", by | {("le", "+Inf")}] == len(values)
    assert told["vprism_query_latency_ms_count", by] == len(values)
    assert told["vprism_query_latency_ms_sum", by] == pytest.approx(sum(values))


def test_the_names_are_those_of_the_specification_from_the_first_scrape_on(tmp_path: Path) -> None:
    text = exposition.text(kit.settings_of(tmp_path))
    for name, kind in (
        ("vprism_query_latency_ms", "histogram"),
        ("vprism_query_fail_total", "counter"),
        ("vprism_provider_requests_total", "counter"),
        ("vprism_symbol_normalization_total", "counter"),
    ):
        assert f"# TYPE {name} {kind}\n" in text
    assert not any((tmp_path / "state").glob("*"))  # looking leaves no trace


def test_a_label_that_a_metric_does_not_have_is_refused(path: Path) -> None:
    book = Book()
    book.keep(path)
    with pytest.raises(ValueError, match="symbol"):
        book.count(PROVIDER_REQUESTS, provider="yahoo", symbol="US:STOCK:AAPL")


def test_counting_never_makes_a_data_directory_and_survives_one_that_cannot_be_written(tmp_path: Path) -> None:
    nowhere = tmp_path / "gone" / "state" / "metrics.sqlite"
    book = Book()
    book.keep(nowhere)
    book.count(PROVIDER_REQUESTS, provider="yahoo", code="OK")
    book.flush()
    assert not nowhere.parent.parent.exists()

    path = tmp_path / "state" / "metrics.sqlite"
    path.parent.write_text("a file where the folder should be")
    book.keep(path)
    book.count(PROVIDER_REQUESTS, 2, provider="yahoo", code="OK")
    book.flush()
    path.parent.unlink()
    book.count(PROVIDER_REQUESTS, provider="yahoo", code="OK")
    book.flush()
    assert total(path) == 3


def test_questions_to_providers_are_counted_by_how_their_answers_turned_out(tmp_path: Path) -> None:
    place = kit.house(tmp_path / "data", universe={"us": ["AAPL", "MSFT", "IBM"]})
    talker = kit.scripted("talker")
    talker.says["US:STOCK:AAPL"] = kit.answer([kit.bar("AAPL", kit.DAYS[-2], 100.0)])
    talker.says["US:STOCK:MSFT"] = talker.says["US:STOCK:IBM"] = b"<html>"
    with kit.registered(talker):
        telemetry.start(place.settings)
        kit.refresh(place, "talker", (kit.DAYS[-3], kit.DAYS[-1]))
    place.reader.query("FROM golden.bars")
    with pytest.raises(InvalidQuery):
        place.reader.query("FROM golden.nonsense")
    found = counted(place)
    assert found[PROVIDER_REQUESTS.name] == {("talker", "OK"): 1, ("talker", "MALFORMED"): 2}
    assert found[QUERY_FAIL.name] == {("talker", "MALFORMED"): 2, ("warehouse", "INVALID_QUERY"): 1}
    assert found[SYMBOL_NORMALIZATION.name] == {("resolved",): 1, ("unresolved",): 0}
    told = samples(exposition.text(place.settings))
    assert told["vprism_query_latency_ms_count", frozenset({("provider", "warehouse")})] == 2
    assert told["vprism_publish_latency_ms_count", frozenset()] == 1
    assert told["vprism_write_latency_ms_count", frozenset()] > 2


def test_nothing_is_counted_where_metrics_are_switched_off(tmp_path: Path) -> None:
    place = kit.house(tmp_path, metrics=False)
    telemetry.start(place.settings)
    telemetry.count(PROVIDER_REQUESTS, provider="yahoo", code="OK")
    metrics.BOOK.flush()
    assert not place.settings.metrics_path.exists()


# --- handing over to Prometheus ---------------------------------------------------------------------------------------


@pytest.fixture
def counting(sample_house: House, tmp_path: Path) -> House:
    """The sample, published, counting and online."""
    return house_at(copy_of(sample_house, tmp_path / "data").settings.data_dir, metrics=True, offline=False)


def test_the_command_shows_writes_and_pushes_what_was_counted(vprism: Vprism, counting: House, tmp_path: Path) -> None:
    vprism("sql", "SELECT 1", house=counting)
    with receiver() as (url, taken):
        target = tmp_path / "vprism.prom"
        ended = vprism("metrics", "--textfile", str(target), "--push", url, "--format", "jsonl", house=counting)
    assert ended.status == 0
    shown = {(row["metric"], row["labels"]): row["value"] for row in ended.rows}
    assert shown["vprism_query_latency_ms_count", '{"provider": "warehouse"}'] == 1
    assert samples(target.read_text())["vprism_query_latency_ms_count", frozenset({("provider", "warehouse")})] == 1
    ((method, where, _, body),) = taken
    assert (method, where) == ("PUT", "/metrics/job/vprism")
    assert body.decode() == target.read_text()


def test_an_offline_installation_pushes_nothing_and_a_bad_place_is_said(
    vprism: Vprism, counting: House, tmp_path: Path
) -> None:
    offline = house_at(counting.settings.data_dir, offline=True)
    with receiver() as (url, taken):
        ended = vprism("metrics", "--push", url, house=offline)
    assert (ended.status, taken) == (20, [])
    assert "VPRISM_OFFLINE" in ended.err
    assert vprism("metrics", "--push", "gateway:9091", house=counting).status == 10
    assert vprism("metrics", "--push", "http://127.0.0.1:9", house=counting).status == 20
    assert vprism("metrics", "--textfile", str(tmp_path / "no" / "x.prom"), house=counting).status == 50
