"""What a user can rely on when deciding on thresholds, and of the catalogue of checks."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.house import settings_of
from vprism_pipelines.errors import InvalidConfiguration
from vprism_pipelines.quality.check_docs import refreshed, tables
from vprism_pipelines.quality.checks import Severity, Status
from vprism_pipelines.quality.datasets import CHECKS, DATASET_CHECKS
from vprism_pipelines.quality.flags import BarFlag
from vprism_pipelines.quality.row_checks import ROW_CHECKS
from vprism_pipelines.quality.thresholds import DEFAULTS, thresholds
from vprism_pipelines.quality.window_checks import WINDOW_CHECKS


def test_a_decision_holds_on_its_exchange_and_nowhere_else() -> None:
    rules = thresholds({"completeness": {"HOSE": {"warn": 0.1, "fail": 0.2}}})
    assert [rules.judge("completeness", 0.15, place) for place in ("HOSE", "HNX", "*")] == ["WARN", "FAIL", "FAIL"]


def test_a_decision_for_every_exchange_gives_way_to_one_for_a_single_one() -> None:
    rules = thresholds({"completeness": {"*": {"warn": 0.3, "fail": 0.4}, "HNX": {"fail": 0.9}}})
    assert [rules.judge("completeness", 0.5, place) for place in ("HOSE", "HNX")] == ["FAIL", "WARN"]


def test_values_of_single_bars_are_dated_and_by_exchange() -> None:
    frame = pl.DataFrame(
        {"venue": ["HOSE", "HOSE", "HNX", None], "session": [date(2022, 9, 9), *[date(2022, 9, 12)] * 3]}
    )
    asked = frame.select(DEFAULTS.value("volume_step", frame).alias("step"), DEFAULTS.value("flat_run", frame))
    assert asked["step"].to_list() == [1.0, 100.0, 1.0, 1.0]
    decided = thresholds({"volume_step": {"HOSE": {"value": 10}}})
    assert frame.select(decided.value("volume_step", frame)).to_series().to_list() == [10.0, 10.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"completness": {"HOSE": {"warn": 1}}}, "no check 'completness'"),
        ({"completeness": {"HOOSE": {"warn": 1}}}, "no venue 'HOOSE'"),
        ({"completeness": {"HOSE": {"warm": 1}}}, "no threshold 'warm'"),
        ({"completeness": {"HOSE": {"value": 1}}}, "no value to set"),
        ({"completeness": {"HOSE": {"warn": 0.5, "fail": 0.1}}}, "before it warns"),
        ({"flat_run": {"HOSE": {"value": 100_000}}}, "cannot have value"),
        ({"return_z": {"*": {"value": float("nan")}}}, "cannot have value"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_to_do(said: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidConfiguration, match=told) as refused:
        thresholds(said)
    assert refused.value.hint


def test_the_environment_says_it_in_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VPRISM_CHECKS", '{"freshness": {"*": {"warn": 3, "fail": 9}}}')
    rules = thresholds(settings_of(tmp_path).checks)
    assert rules.judge("freshness", 2) is Status.OK


@given(value=st.floats(0, 1), name=st.sampled_from(sorted(CHECKS)))
def test_without_decisions_the_catalogue_judges_and_a_greater_value_is_never_better(value: float, name: str) -> None:
    order = list(Status)
    assert DEFAULTS.judge(name, value) is CHECKS[name].judge(value)
    assert order.index(CHECKS[name].judge(value)) <= order.index(CHECKS[name].judge(value + 0.1))


def test_every_check_says_what_it_is() -> None:
    assert len(CHECKS) == len(ROW_CHECKS) + len(WINDOW_CHECKS) + len(DATASET_CHECKS), "names are unique"
    for name, check in CHECKS.items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
        assert re.fullmatch(r"[A-Z]\d+", check.id)
        assert check.title[0].isupper()
        assert check.description
        assert check.blocks is (check.severity is Severity.BLOCK)
        assert check.warn is None or check.fail is None or check.warn <= check.fail
        assert not check.flag or BarFlag(check.flag) in BarFlag
    assert {check.severity for check in CHECKS.values()} == set(Severity)


def test_the_page_about_checks_shows_the_catalogue_as_it_is() -> None:
    page = (Path(__file__).parent.parent / "docs" / "checks.md").read_text()
    assert all(table in page for table in tables().values())
    assert refreshed(page) == page, "run: python -m vprism_pipelines.quality.check_docs docs/checks.md"
    assert refreshed(page.replace("| `price_band` |", "| `prize_band` |")) == page
