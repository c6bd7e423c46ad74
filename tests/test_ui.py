"""What an analyst sees in the Dagster UI after a run: the graph, a partition, check results, the plot."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import browser
from tests.conftest import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.processes]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a web server over an installation in which the sample has just been run."""
    home = tmp_path_factory.mktemp("home")
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(ROOT / name, home)
    environment = {**os.environ, "DAGSTER_HOME": str(home), "VPRISM_DATA_DIR": "data"}
    command = [sys.executable, "-m", "vprism_pipelines.serving.cli", "run"]
    subprocess.run(
        [*command, "--start", "2012-11-01", "--end", "2013-03-01"], cwd=home, env=environment, check=True, timeout=180
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "dagster_webserver", "--host", "127.0.0.1", "--port", str(port)],
        cwd=home,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_until_up(address)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    """A headless browser."""
    program = browser.find()
    if program is None:
        pytest.skip("no Chromium or Chrome is installed")
    tab = browser.Browser(program, tmp_path_factory.mktemp("profile"))
    yield tab
    tab.close()


def _wait_until_up(address: str) -> None:
    for _ in range(240):
        try:
            with urllib.request.urlopen(f"{address}/server_info", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise TimeoutError("the web server did not start")


def _look(page: browser.Browser, name: str) -> None:
    """Keep a picture where VPRISM_SCREENSHOTS says, for people and for the README."""
    if folder := os.environ.get("VPRISM_SCREENSHOTS"):
        time.sleep(2)
        page.screenshot(Path(folder) / f"{name}.png")


def test_the_graph_reads_from_raw_to_published(page: browser.Browser, site: str) -> None:
    page.open(f"{site}/locations/vprism/asset-groups/us/lineage")
    shown = page.wait_for_words("sample_bars", "sessions", "findings", "factors", "published", "Passed")
    assert "yahoo_bars" in shown
    _look(page, "asset-graph")


def test_a_materialised_partition_shows_its_rows_and_the_plot(page: browser.Browser, site: str) -> None:
    page.open(f"{site}/assets/clean/us/bars?view=events&partition=2013-01-01")
    page.wait_for_words("2013-01-01", "rejected by reason")
    # Long Markdown is behind a link, short Markdown is not. Drawn, not merely linked: the picture has a size.
    width = page.wait_for(
        "document.querySelector('img[alt^=accepted]')?.naturalWidth"
        " || void [...document.querySelectorAll('*')].filter(e => e.innerText === '[Show Markdown]').pop()?.click()"
    )
    assert width > 50
    _look(page, "partition")


def test_check_results_show_what_was_measured(page: browser.Browser, site: str) -> None:
    page.open(f"{site}/assets/golden/us/bars?view=checks")
    shown = page.wait_for_words("completeness", "duplicates", "freshness", "whole_day_gap", "Succeeded")
    assert "D1:" in shown
    _look(page, "checks")
