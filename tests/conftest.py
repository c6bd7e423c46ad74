"""Shared fixtures: where the recordings, cases and market data are, when they are there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The same commit gets the same verdict everywhere, however slow the machine; `explore` looks where nobody looked yet.
settings.register_profile("settled", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "settled"))

ROOT = Path(__file__).resolve().parent.parent


def shared_folder(variable: str, name: str) -> Path:
    """A folder of inputs that may not be redistributed: `variable` if set, else `../shared/<name>`."""
    return Path(os.environ.get(variable) or ROOT.parent / "shared" / name)


def _folder_or_skip(variable: str, name: str) -> Path:
    folder = shared_folder(variable, name)
    if not folder.is_dir():
        pytest.skip(f"needs {name} that may not be redistributed; set {variable} to its folder")
    return folder


@pytest.fixture(scope="session")
def shared_fixtures() -> Path:
    """Recorded upstream responses, a folder per provider."""
    return _folder_or_skip("VPRISM_FIXTURES", "fixtures")


@pytest.fixture(scope="session")
def shared_cases() -> Path:
    """Symbol, adjustment and holiday cases."""
    return _folder_or_skip("VPRISM_CASES", "cases")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real market history as parquet."""
    return _folder_or_skip("VPRISM_DATA_SHARED", "data")
