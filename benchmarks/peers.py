"""Pinned environments of the peers, made on first use in a cache outside the repository.

`benchmarks/environments/<name>.txt` says what is in one; changing it makes another one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

PINS = Path(__file__).parent / "environments"
OURS = "vprism"


class Unavailable(Exception):
    """A peer cannot take part here, and why."""


def cache() -> Path:
    """`VPRISM_BENCH_CACHE`, or a folder in the user's cache."""
    return Path(os.environ.get("VPRISM_BENCH_CACHE") or Path.home() / ".cache" / "vprism-benchmarks")


def interpreter(name: str, pins: Path = PINS) -> Path:
    """The Python of a peer's environment; of this one for ourselves.

    Raises:
        Unavailable: Its packages cannot be installed here.
    """
    if name == OURS:
        return Path(sys.executable)
    wanted = pins / f"{name}.txt"
    digest = hashlib.sha256(sys.version.encode() + wanted.read_bytes()).hexdigest()[:10]
    folder = cache() / f"{name}-{digest}"
    python, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(wanted)]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode:
            reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise Unavailable(f"not installable here: {(reasons or ['pip failed'])[-1]}")
        ready.touch()
    return python
