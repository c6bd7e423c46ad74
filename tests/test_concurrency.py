"""What users can rely on who start two runs at once: both succeed, and the result is that of one.

`python -m tests.test_concurrency <data>` is one of these runs.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from tests.conftest import ROOT
from tests.house import equal, published_content, refresh, registered
from tests.test_crash import SPAN, installation, provider

RUNS = 3


@pytest.mark.processes
def test_runs_that_pull_the_same_at_the_same_time_do_not_get_in_each_other_s_way(tmp_path: Path) -> None:
    """They may find each other's answers half-way, and take them for those of a killed run."""
    command = [sys.executable, "-m", "tests.test_concurrency", str(tmp_path / "together")]
    runs = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(RUNS)
    ]
    for run in runs:
        _, trouble = run.communicate(timeout=120)
        assert run.returncode == 0, trouble
    together, alone = installation(tmp_path / "together"), installation(tmp_path / "alone")
    with registered(provider(), alone=True):
        refresh(alone, "one", SPAN)
        assert equal(published_content(together), published_content(alone))
        for _ in range(2):
            refresh(together, "one", SPAN)
    assert equal(published_content(together), published_content(alone))
    assert together.lake.staged("one") == []
    pulled = together.reader.query("SELECT fetch_id, symbol, error_code FROM raw.fetches")
    assert pulled["fetch_id"].is_unique().all()
    assert pulled["error_code"].is_null().all()
    versions = together.reader.query("SELECT symbol, session, count(*) AS n FROM clean.bars_ledger GROUP BY ALL")
    assert versions.filter(pl.col("n") > 1).is_empty()


if __name__ == "__main__":
    with registered(provider(), alone=True):
        refresh(installation(Path(sys.argv[1])), "one", SPAN)
