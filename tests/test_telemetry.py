"""Logs and spans say what was done, for whom and in which run, under one trace id, and never a key."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import house as kit
from tests.cli_kit import Vprism, program, vprism_fixture  # noqa: F401
from tests.fault_server import FaultServer
from tests.receiver import receiver
from tests.transport_kit import request, sent
from tests.warehouse_fixture import copy_of, house_at, sample_house_fixture  # noqa: F401
from vprism_pipelines import telemetry
from vprism_pipelines.errors import RateLimited, StorageUnwritable
from vprism_pipelines.warehouse.house import House

RUN = "0d5f7c1e-6a44-4c7b-9f53-2a8f0f6f7a11"
KEY = "hunter2secret"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """Where the log of a test goes; afterwards nothing is logged to it any more."""
    from loguru import logger

    yield tmp_path / "logs" / "vprism.jsonl"
    logger.remove()
    logging.getLogger("vprism_pipelines").handlers.clear()


# --- logs -------------------------------------------------------------------------------------------------------------


def test_a_line_of_the_log_file_has_what_is_being_done_around_it(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = [logging.NullHandler()]  # not those that another test's command may have left
    monkeypatch.setattr(logging.getLogger(), "handlers", list(root))
    telemetry.start(kit.settings_of(tmp_path, log_file=log))
    with telemetry.span("asset", run=RUN), telemetry.span("fetch", provider="yahoo", symbol="US:STOCK:AAPL"):
        logging.getLogger("vprism_pipelines.providers").warning("slow", extra={"code": "RATE_LIMITED"})
    logging.getLogger("vprism_pipelines").info("outside")
    # Whatever a thread of another test says meanwhile is not ours.
    inside, outside = (line for line in lines(log) if line["msg"] in ("slow", "outside"))
    assert (
        inside.items()
        >= {
            "level": "WARNING",
            "logger": "vprism_pipelines.providers",
            "msg": "slow",
            "run": RUN,
            "trace_id": RUN.replace("-", ""),
            "provider": "yahoo",
            "symbol": "US:STOCK:AAPL",
            "code": "RATE_LIMITED",
        }.items()
    )
    assert inside["timestamp"].endswith("+00:00")
    assert outside.keys() == {"timestamp", "level", "logger", "msg"}
    assert logging.getLogger().handlers == root  # the logging of the program around us is left alone


def test_all_lines_of_a_command_share_a_trace_id_that_no_other_command_has(
    vprism: Vprism, sample_house: House, log: Path
) -> None:
    house = house_at(sample_house.settings.data_dir, log_file=log, log_level="DEBUG")
    for _ in range(2):
        assert vprism("sql", "FROM golden.nonsense", house=house).status == 10
    told = lines(log)
    ids = [line["trace_id"] for line in told]
    assert len(set(ids)) == 2
    assert ids == sorted(ids, key=ids.index)
    failed = [line for line in told if line["level"] == "ERROR"]
    assert [line["code"] for line in failed] == ["INVALID_QUERY"] * 2
    assert {line["trace_id"] for line in failed} == set(ids)


def test_a_person_sees_an_error_once_and_a_machine_gets_it_as_json(vprism: Vprism, sample_house: House) -> None:
    assert vprism("sql", "FROM golden.nonsense").err.count("golden.nonsense") <= 1
    house = house_at(sample_house.settings.data_dir, log_format="json")
    first, *_ = vprism("sql", "FROM golden.nonsense", house=house).err.splitlines()
    assert json.loads(first)["code"] == "INVALID_QUERY"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_key_never_reaches_a_log(vprism: Vprism, sample_house: House, log: Path, log_format: str) -> None:
    house = house_at(
        sample_house.settings.data_dir,
        alpha_vantage_api_key=KEY,
        otel_headers="authorization=Bearer t0ken-of-mine",
        log_file=log,
        log_format=log_format,
        log_level="DEBUG",
    )
    ended = vprism("sql", f"SELECT {KEY}, 't0ken-of-mine'", house=house)
    try:
        raise ValueError(f"https://example.com/?apikey={KEY}")
    except ValueError:
        logging.getLogger("vprism_pipelines").exception("asked with %s", KEY)
    for text in (ended.err, log.read_text()):
        assert KEY not in text
        assert "t0ken-of-mine" not in text
    assert "REDACTED" in log.read_text()
    assert "Traceback" in log.read_text()


def test_a_log_file_that_cannot_be_written_is_an_error_that_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageUnwritable) as raised:
        telemetry.start(kit.settings_of(tmp_path, log_file=tmp_path / "file" / "vprism.jsonl"))
    assert "LOG_FILE" in raised.value.hint


def test_a_refused_question_is_logged_with_its_code_but_not_told_twice(
    vprism: Vprism, sample_house: House, tmp_path: Path, log: Path
) -> None:
    place = copy_of(sample_house, tmp_path / "data")
    house = house_at(place.settings.data_dir, log_file=log)
    ended = vprism("data", "fetch", "AAPL", "--provider", "yahoo", house=house)
    assert ended.status == 20
    assert " INFO " not in ended.err
    (refused,) = [line for line in lines(log) if line["level"] == "INFO"]
    assert (refused["provider"], refused["symbol"], refused["code"]) == ("yahoo", "US:STOCK:AAPL", "UNAVAILABLE")


# --- spans ------------------------------------------------------------------------------------------------------------


@contextmanager
def traced(tmp_path: Path) -> Iterator[Any]:
    """Spans of this process, in memory."""
    trace = pytest.importorskip("opentelemetry.trace", reason="needs the extra otel")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from vprism_pipelines.telemetry import tracing

    exporter = InMemorySpanExporter()
    provider = tracing.provider(kit.settings_of(tmp_path), SimpleSpanProcessor(exporter))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "get_tracer", provider.get_tracer)
        yield exporter


def test_nothing_of_opentelemetry_is_loaded_where_nobody_traces() -> None:
    script = """
import sys
from vprism_pipelines import telemetry
with telemetry.span("fetch", provider="yahoo") as work:
    work.note(code="OK")
print([name for name in ("opentelemetry", "prometheus_client", "loguru", "sqlite3") if name in sys.modules])
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_spans_of_a_run_have_its_id_as_trace_id_and_tell_what_came(tmp_path: Path) -> None:
    about = {"provider": "yahoo", "symbol": "US:STOCK:AAPL"}
    with traced(tmp_path) as exporter, telemetry.span("asset", run=RUN), telemetry.span("fetch", **about) as work:
        work.note(code="OK", rows=250)
    fetch, asset = exporter.get_finished_spans()
    assert fetch.context.trace_id == asset.context.trace_id == int(RUN.replace("-", ""), 16)
    assert fetch.parent.span_id == asset.context.span_id
    assert dict(fetch.attributes) == {
        "vprism.provider": "yahoo",
        "vprism.symbol": "US:STOCK:AAPL",
        "vprism.code": "OK",
        "vprism.rows": 250,
    }
    assert dict(asset.attributes) == {"vprism.run": RUN}


def test_a_span_that_fails_has_the_code_of_its_error_and_no_key(tmp_path: Path) -> None:
    telemetry.keep_secret([KEY])
    with traced(tmp_path) as exporter, pytest.raises(RateLimited), telemetry.span("fetch", provider=f"alpha {KEY}"):
        raise RateLimited(f"too often with {KEY}")
    (span,) = exporter.get_finished_spans()
    assert span.attributes["error.type"] == "RATE_LIMITED"
    assert not span.status.is_ok
    assert KEY not in span.to_json()
    assert "REDACTED" in span.to_json()


def test_pulling_writing_publishing_and_reading_are_spans(tmp_path: Path) -> None:
    place = kit.house(tmp_path / "data", universe={"us": ["AAPL"]})
    talker = kit.scripted("talker")
    talker.says["US:STOCK:AAPL"] = kit.answer([kit.bar("AAPL", kit.DAYS[-2], 100.0)])
    with traced(tmp_path) as exporter, kit.registered(talker):
        kit.refresh(place, "talker", (kit.DAYS[-3], kit.DAYS[-1]))
        place.reader.query("FROM golden.bars")
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert spans.keys() == {"fetch", "parse", "write", "publish", "query"}
    assert spans["parse"].parent.span_id == spans["fetch"].context.span_id
    assert spans["parse"].attributes["vprism.rows"] == 1
    assert spans["fetch"].attributes["vprism.code"] == "OK"


def test_every_attempt_of_a_question_is_a_span_with_its_status_and_without_the_key(tmp_path: Path) -> None:
    with FaultServer() as server, traced(tmp_path) as exporter:
        server.serve("/bars", b"busy", status=503)
        with telemetry.span("fetch", symbol="US:STOCK:AAPL"):
            sent(server, request("/bars", params={"apikey": KEY}), provider_retry_attempts=2)
    *attempts, fetch = exporter.get_finished_spans()
    assert [span.name for span in attempts] == ["request"] * 3
    assert {span.attributes["vprism.status"] for span in attempts} == {503}
    assert {span.parent.span_id for span in attempts} == {fetch.context.span_id}
    assert all(KEY not in span.to_json() for span in (*attempts, fetch))


@pytest.mark.processes
def test_a_collector_gets_the_spans_of_a_command_unless_the_installation_is_offline(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the extra otel")
    words = ("symbol", "resolve", "AAPL.US")
    with receiver() as (url, taken):
        told = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20t0ken"}
        program(*words, data=tmp_path, **told)
        assert taken == []
        ended = program(*words, data=tmp_path, VPRISM_OFFLINE="0", **told)
    assert ended.returncode == 0, ended.stderr
    ((method, path, authorization, body),) = taken
    assert (method, path, authorization) == ("POST", "/v1/traces", "Bearer t0ken")
    assert b"vprism symbol resolve" in body
