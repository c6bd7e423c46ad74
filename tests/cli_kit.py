"""Running the command line in tests: in this process for speed, as a program of its own where that is the point."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vprism_pipelines.serving.cli import main
from vprism_pipelines.serving.cli.session import Session
from vprism_pipelines.warehouse.house import House

PROGRAM = [sys.executable, "-c", "import sys; from vprism_pipelines.serving.cli import main; sys.exit(main())"]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


Vprism = Callable[..., Ended]


@pytest.fixture(name="vprism")
def vprism_fixture(capfd: pytest.CaptureFixture[str], sample_house: House) -> Iterator[Vprism]:
    """Runs a command in this process, on the sample unless told otherwise."""
    root = logging.getLogger()
    handlers, level, show = list(root.handlers), root.level, warnings.showwarning

    def run(*words: str, house: House = sample_house) -> Ended:
        capfd.readouterr()
        status = main(words, Session(given_house=house))
        return Ended(status, *capfd.readouterr())

    yield run
    logging.captureWarnings(capture=False)
    root.handlers[:], warnings.showwarning = handlers, show
    root.setLevel(level)


def program(*words: str, data: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the real program in a process and an environment of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("VPRISM_", "DUCKDB_"))}
    return subprocess.run(
        [*PROGRAM, *words],
        env=clean | {"VPRISM_DATA_DIR": str(data), "VPRISM_OFFLINE": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
