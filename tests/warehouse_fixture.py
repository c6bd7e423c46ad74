"""A small published warehouse of the bundled sample, built once per test session; tests only read it.

A test module gets it with `from tests.warehouse_fixture import sample_house_fixture  # noqa: F401`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from vprism_pipelines.market.spec import US
from vprism_pipelines.settings import Settings
from vprism_pipelines.warehouse.acquire import acquire
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.rebuild import replay


def house_at(folder: Path, **values: Any) -> House:
    """An installation under a folder of its own, whatever the environment says."""
    defaults: dict[str, Any] = {
        "data_dir": folder,
        "duckdb_database": folder / "vprism.duckdb",
        "duckdb_memory_limit": "1GB",
        "provider_retry_attempts": 0,
        "offline": True,
        "universe": {},
        "providers": {},
        "log_level": "INFO",
        "metrics": False,
    }
    return House(Settings(_env_file=None, **{**defaults, **values}))  # type: ignore[call-arg]


def copy_of(house: House, folder: Path) -> House:
    """A copy that a test may change."""
    shutil.copytree(house.settings.data_dir, folder, dirs_exist_ok=True)
    return house_at(folder)


@pytest.fixture(scope="session", name="sample_house")
def sample_house_fixture(tmp_path_factory: pytest.TempPathFactory) -> House:
    """AAPL, FB, GOOG, IBM, MSFT 2000 to 2013: archived, cleaned, adjusted, analysed, published. Read-only."""
    house = house_at(tmp_path_factory.mktemp("sample") / "data")
    span = house.parser("sample").capabilities().span
    assert span is not None
    acquire(house, US, "sample", span, "fixture")
    replay(house, "us")
    return house
