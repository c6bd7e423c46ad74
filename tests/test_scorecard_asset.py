"""What a user of the UI can rely on: the scorecard asset scores, compares, measures and shows pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from tests.house import DAYS, US, Clock, Scripted, answer, bar, house, refresh, registered, scripted
from vprism_pipelines.assets import catalog
from vprism_pipelines.assets.factory import build
from vprism_pipelines.assets.resources import WarehouseResource
from vprism_pipelines.assets.scorecard import scorecard
from vprism_pipelines.warehouse.house import House

LAST = DAYS[-30:]
CHECKS = ("reconciliation", "gap_ratio", "duplicate_rows", "ingest_lag", "error_rate", "drift")


@pytest.fixture
def providers() -> Iterator[tuple[type[Scripted], type[Scripted]]]:
    one, other = scripted("one"), scripted("two")
    with registered(one, other):
        yield one, other


def told(skip: int | None = None, factor: float = 1.0) -> bytes:
    return answer(
        [
            bar("A", day, round((20 + n * 7 % 11 / 4) * factor, 4), volume=5000.0 + 37 * n)
            for n, day in enumerate(LAST)
            if n != skip
        ]
    )


def materialised(place: House) -> dg.ExecuteInProcessResult:
    node = next(node for node in catalog.market_nodes(US) if node.key == ("quality", "us", "scorecard"))
    # Alone: the assets before it have been refreshed by hand.
    asset = build(replace(node, checks=CHECKS, deps=()), scorecard)
    # A copy made by Dagster would lose the installation behind it.
    resource = dg.ResourceDefinition.hardcoded_resource(WarehouseResource.of(place))
    return dg.materialize([asset], resources={"warehouse": resource})


def test_one_materialisation_scores_compares_measures_and_shows(
    tmp_path: Path, providers: tuple[type[Scripted], type[Scripted]]
) -> None:
    one, two = providers
    one.says, two.says = {"US:STOCK:A": told()}, {"US:STOCK:A": told(skip=20, factor=1.002)}
    place = house(tmp_path, universe={"us": ["A"]}, clock=Clock())
    for provider in ("one", "two"):
        refresh(place, provider, (LAST[0], LAST[-1]))
    result = materialised(place)
    assert result.success
    (event,) = result.get_asset_materialization_events()
    metadata = event.materialization.metadata
    assert metadata["compared one with two"].value == 29
    assert {name for name, value in metadata.items() if "data:image/svg+xml" in str(value.value)} == {
        "newest sessions", "whole history", "gap ratio by month", "score by month",
    }  # fmt: skip
    verdicts = {found.check_name: found for found in result.get_asset_check_evaluations()}
    assert set(verdicts) == set(CHECKS)
    assert (verdicts["reconciliation"].passed, verdicts["gap_ratio"].passed) == (False, False)
    assert (verdicts["drift"].passed, verdicts["error_rate"].passed) == (True, True)
    with place.warehouse.connect() as connection:
        stored = connection.execute(
            "SELECT provider, status FROM quality.metrics WHERE metric = 'gap_ratio' ORDER BY provider"
        ).fetchall()
        assert stored == [("*", "FAIL"), ("one", "OK"), ("two", "FAIL")]
        assert connection.execute("SELECT count(*) FROM quality.drift").fetchone() == (2,)
        assert connection.execute("SELECT sum(requests) FROM quality.provider_health").fetchone() == (2,)


def test_a_second_materialisation_without_news_changes_nothing_but_measures_again(
    tmp_path: Path, providers: tuple[type[Scripted], type[Scripted]]
) -> None:
    providers[0].says = {"US:STOCK:A": told()}
    clock = Clock()
    place = house(tmp_path, universe={"us": ["A"]}, clock=clock)
    refresh(place, "one", (LAST[0], LAST[-1]))
    assert materialised(place).success
    with place.warehouse.connect() as connection:
        before = connection.execute("FROM quality.scorecard ORDER BY ALL").fetchall()
    clock.now += timedelta(hours=1)
    assert materialised(place).success
    with place.warehouse.connect() as connection:
        assert connection.execute("FROM quality.scorecard ORDER BY ALL").fetchall() == before
        runs = connection.execute("SELECT count(DISTINCT run_id) FROM quality.metrics WHERE metric = 'gap_ratio'")
        assert runs.fetchone() == (2,)
