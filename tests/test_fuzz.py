"""Whatever a body turns into on its way, a parser gives rows of the raw contract or a typed error, soon and cheaply."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import polars as pl
import pytest

from benchmarks.fuzz import PARSERS, broken, fuzz
from benchmarks.fuzz_bodies import bodies
from benchmarks.fuzz_mutations import damaged
from vprism_pipelines.errors import Malformed, ProviderError
from vprism_pipelines.providers import registry
from vprism_pipelines.providers.base import Parsed

# What no network brings is parsed more slowly and surprises less: parquet and files of our own making.
_OURS = tuple(name for name in PARSERS if name in registry.PROVIDERS and not registry.PROVIDERS[name].network)


@pytest.mark.parametrize("parser", PARSERS)
def test_no_damage_surprises_a_parser(parser: str) -> None:
    report = fuzz(parser, 250 if parser in _OURS else 2_000)
    assert not report.failures, report.failures[:5]
    assert report.outcomes["rows"] > report.bodies // 200, "hardly a body got past the first check"
    assert report.outcomes["MALFORMED"] > report.bodies // 10, "hardly a body was damaged"


@pytest.mark.parametrize("parser", PARSERS)
def test_what_is_damaged_was_sound(parser: str) -> None:
    read = 0
    for payload in bodies(parser):
        reader = registry.parser_of(payload.request)
        try:
            parsed = reader.parse(payload)
        except Malformed:
            raise
        except ProviderError:
            continue
        assert not list(broken(parsed))
        read += parsed.rows > 0
    assert read >= len(bodies(parser)) / 3


def test_the_same_number_is_the_same_damage() -> None:
    body = bodies("tencent")[0].body
    assert [damaged(body, Random(seed)) for seed in range(50)] == [damaged(body, Random(seed)) for seed in range(50)]
    assert len({damaged(body, Random(seed)) for seed in range(50)}) > 40


def test_a_broken_contract_does_not_go_unnoticed() -> None:
    payload = bodies("eastmoney")[0]
    frame = registry.parser_of(payload.request).parse(payload).frames["bars"]
    for column, value in (("open", float("nan")), ("volume_unit", 0.0), ("raw_symbol", None), ("row", 0)):
        spoiled = frame.with_columns(pl.lit(value, dtype=frame.schema[column]).alias(column))
        assert list(broken(Parsed({"bars": spoiled}))), column
    assert list(broken(Parsed({"bars": frame.drop("value")})))
    assert not list(broken(Parsed({"bars": frame})))


def test_a_parser_that_fails_is_reported_with_the_number_of_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    from vprism_pipelines.providers.sina import SinaProvider

    monkeypatch.setattr(SinaProvider, "_read", lambda _self, payload: 1 / len(payload.body.strip(b"x")[:0]))
    report = fuzz("sina", 3, first=7)
    assert [number for number, _ in report.failures] == [7, 8, 9]
    assert "ZeroDivisionError" in report.failures[0][1]
    monkeypatch.undo()
    again = fuzz("sina", 3, first=7)
    assert replace(again, slowest=0.0, grown=0.0) == replace(fuzz("sina", 3, first=7), slowest=0.0, grown=0.0)
