"""The house keeps its floors, the code location stays light, and every asset says what it is."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from tests.conftest import ROOT
from vprism_pipelines import settings as configuration
from vprism_pipelines.assets.resources import WarehouseResource
from vprism_pipelines.assets.sensors import is_late
from vprism_pipelines.definitions import build_defs
from vprism_pipelines.market.spec import US, VN
from vprism_pipelines.settings import Settings
from vprism_pipelines.warehouse.house import House

PACKAGE = "vprism_pipelines"
GROUND = {"errors", "settings", "tables", "redaction", "state", "telemetry"}
# What each floor may import besides itself.
FLOORS = {
    "errors": set(),
    "redaction": set(),
    "settings": {"errors"},
    "state": {"errors"},
    "tables": {"errors"},
    "telemetry": {"errors", "settings", "redaction", "state"},
    "market": GROUND,
    "providers": GROUND | {"market"},
    "quality": GROUND | {"market"},
    "warehouse": GROUND | {"market", "providers", "quality"},
    "assets": GROUND | {"market", "providers", "quality", "warehouse"},
    "definitions": {"assets", "warehouse"},
    "plugins": GROUND | {"market", "providers"},  # what plugins are written against; the house never imports it
    "serving": GROUND | {"market", "providers", "quality", "warehouse", "definitions"},
}


def imports() -> Iterator[tuple[str, str, Path]]:
    """(importing floor, imported floor, file) of every import inside the package, wherever it stands in the file."""
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                inside = name.split(".")
                if inside[0] == PACKAGE and len(inside) > 1 and inside[1] in FLOORS:
                    yield parts[0], inside[1], path


def test_no_floor_imports_a_higher_one() -> None:
    wrong = {
        f"{path.relative_to(ROOT)}: {floor} imports {imported}"
        for floor, imported, path in imports()
        if floor != imported and imported not in FLOORS.get(floor, set(FLOORS))
    }
    assert wrong == set()


def test_market_and_quality_never_look_at_the_clock_or_the_disk() -> None:
    forbidden = {"datetime.now", "date.today", "time.time", "open", "read_text", "write_text", "connect"}
    calls = set()
    for folder in ("market", "quality"):
        for path in (ROOT / PACKAGE / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    name = ast.unparse(node.func)
                    if name in forbidden:
                        calls.add(f"{path.name}: {name}")
    assert calls == set()


def test_the_code_location_imports_nothing_heavy() -> None:
    script = f"import sys, {PACKAGE}.definitions; print(','.join(sys.modules))"
    loaded = set(
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout.split(",")
    )
    assert loaded.isdisjoint({"pandas", "exchange_calendars", "aiohttp", "vnstock", "pandera", "matplotlib"})


def test_every_variable_of_the_settings_is_in_the_example_with_its_default() -> None:
    lines = dict(
        line.split("=", 1) for line in (ROOT / ".env.example").read_text().splitlines() if line and line[0] != "#"
    )
    named = {str(field.validation_alias): field.default for field in Settings.model_fields.values()}
    assert set(lines) == set(named)
    stated = {name: value for name, value in lines.items() if value and named[name] is not None}
    assert Settings.model_validate(stated) == Settings.model_validate({})
    assert configuration.settings() is configuration.settings()


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return build_defs()


def test_every_asset_says_what_it_is(definitions: dg.Definitions) -> None:
    specs = list(definitions.resolve_all_asset_specs())
    assert 0 < len(specs) < 200
    for spec in specs:
        assert spec.owners, spec.key
        assert spec.kinds, spec.key
        assert len(spec.description or "") > 40, spec.key
        assert spec.code_version, spec.key
        assert spec.tags["layer"] == spec.key.path[0], spec.key
        assert spec.group_name == (spec.key.path[1] if len(spec.key.path) > 1 else "warehouse"), spec.key
        columns = spec.metadata["dagster/column_schema"].columns
        assert columns, spec.key
        assert all(column.description for column in columns), spec.key
    pools = {definition.op.pool for definition in definitions.resolve_asset_graph().assets_defs}
    assert None not in pools


def test_lineage_reads_from_raw_to_published(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    floors = {"raw": 0, "clean": 1, "golden": 2, "quality": 2, "analytics": 3, "published": 4}
    for key in graph.get_all_asset_keys():
        for parent in graph.get(key).parent_keys:
            assert floors[parent.path[0]] <= floors[key.path[0]], (parent, key)
    published = dg.AssetKey(["published"])
    ancestors = graph.get_ancestor_asset_keys(published) if hasattr(graph, "get_ancestor_asset_keys") else set()
    reached = ancestors or _ancestors(graph, published)
    assert dg.AssetKey(["raw", "us", "sample_bars"]) in reached
    assert dg.AssetKey(["raw", "vn", "kbs_bars"]) in reached


def _ancestors(graph: object, key: dg.AssetKey) -> set[dg.AssetKey]:
    parents = graph.get(key).parent_keys  # type: ignore[attr-defined]
    return set(parents).union(*(_ancestors(graph, parent) for parent in parents))


@pytest.mark.parametrize(
    ("at", "partition"),
    [
        (datetime(2026, 11, 20, 21, 30, tzinfo=UTC), "2026-11-01"),  # Friday, 16:30 in New York
        (datetime(2026, 11, 26, 21, 30, tzinfo=UTC), None),  # Thanksgiving
        (datetime(2026, 7, 1, 20, 30, tzinfo=UTC), "2026-07-01"),
    ],
)
def test_the_schedule_refreshes_the_running_month_and_skips_closed_days(
    definitions: dg.Definitions, tmp_path: Path, at: datetime, partition: str | None
) -> None:
    schedule = definitions.resolve_schedule_def("us_after_close")
    house = House(Settings(data_dir=tmp_path))
    context = dg.build_schedule_context(
        scheduled_execution_time=at,
        resources={"warehouse": WarehouseResource.of(house)},
        repository_def=definitions.get_repository_def(),
    )
    result = schedule.evaluate_tick(context)
    if partition is None:
        assert "not a session" in (result.skip_message or "")
    else:
        (request,) = result.run_requests or []
        assert request.partition_key == partition
        assert dg.AssetKey(["raw", "us", "sample_bars"]) in (request.asset_selection or [])
        assert dg.AssetKey(["raw", "us", "yahoo_bars"]) not in (request.asset_selection or [])


def test_each_market_is_refreshed_at_its_close_in_its_own_zone(definitions: dg.Definitions) -> None:
    found = {
        name: (schedule.cron_schedule, schedule.execution_timezone)
        for name in ("us_after_close", "vn_after_close")
        for schedule in [definitions.resolve_schedule_def(name)]
    }
    assert found == {
        "us_after_close": ("30 16 * * 1-5", "America/New_York"),
        "vn_after_close": ("30 15 * * 1-5", "Asia/Ho_Chi_Minh"),
    }


def test_lateness_is_judged_by_data_and_calendar() -> None:
    friday_night = datetime(2026, 11, 21, 2, tzinfo=UTC)
    sunday = datetime(2026, 11, 22, 12, tzinfo=UTC)
    friday, thursday = datetime(2026, 11, 20).date(), datetime(2026, 11, 19).date()
    assert is_late(US, thursday, friday_night) == friday
    assert is_late(US, friday, sunday) is None
    assert is_late(VN, None, sunday) is None
    # Within the grace after the close nothing is late yet.
    assert is_late(US, thursday, datetime(2026, 11, 20, 23, tzinfo=UTC)) is None
