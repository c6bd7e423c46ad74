"""What a user can rely on after kill -9 in the middle of a run: the next one gives what no kill would have given.

`python -m tests.test_crash <data> <module:function> <before|after>` is the process that gets killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from tests.conftest import ROOT
from tests.house import (
    DAYS,
    Clock,
    Scripted,
    action,
    answer,
    bar,
    equal,
    house,
    published_content,
    refresh,
    registered,
    scripted,
)
from vprism_pipelines.warehouse.house import House

SPAN = DAYS[0], DAYS[19]
EVENING = datetime.combine(DAYS[19], datetime.min.time(), UTC) + timedelta(hours=22)


def provider() -> type[Scripted]:
    """Three symbols whose answers never change."""
    one = scripted("one")
    one.immutable = True
    for code in "ABC":
        bars = [bar(code, day, 10.0 + n / 4) for n, day in enumerate(DAYS[:20])]
        one.says[f"US:STOCK:{code}"] = answer(bars, [action(code, DAYS[10], cash=0.5)])
    return one


def installation(data: Path) -> House:
    return house(data, clock=Clock(EVENING), universe={"us": ["A", "B", "C"]})


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pl.DataFrame]:
    """What a run that nobody kills publishes."""
    place = installation(tmp_path_factory.mktemp("unharmed"))
    with registered(provider(), alone=True):
        refresh(place, "one", SPAN)
    return published_content(place)


@pytest.fixture
def one() -> Iterator[type[Scripted]]:
    kind = provider()
    with registered(kind, alone=True):
        yield kind


@pytest.mark.processes
@pytest.mark.parametrize(
    ("place", "moment", "asked"),
    [
        ("lake:Lake.stage", "after", 2),  # the first answer has just arrived
        ("lake:Lake.seal", "before", 0),  # every answer has arrived
        ("lake:Lake.unstage", "before", 0),  # sealed, and the staged copies still there
        ("pulls:register", "before", 0),  # sealed and parsed, not entered
        ("ledger:remember", "after", 0),  # remembered, not committed
        ("publish:_copy", "before", 0),  # everything is built, nothing published
        ("publish:_swap", "before", 0),  # the snapshot is there, its name not swapped
    ],
)
def test_the_run_after_a_kill_gives_what_no_kill_would_have_given(
    tmp_path: Path, one: type[Scripted], unharmed: dict[str, pl.DataFrame], place: str, moment: str, asked: int
) -> None:
    command = [sys.executable, "-m", "tests.test_crash", str(tmp_path), place, moment]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    survivor = installation(tmp_path)
    assert not survivor.settings.database.exists()
    refresh(survivor, "one", SPAN)
    assert len(one.asked) == asked
    assert equal(published_content(survivor), unharmed)
    assert survivor.lake.staged("one") == []
    one.asked.clear()
    refresh(survivor, "one", SPAN)
    assert one.asked == []
    assert equal(published_content(survivor), unharmed)


def test_a_disk_that_fills_at_the_commit_leaves_what_was_there_and_the_next_transaction_works(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="file size limits stand in for a full disk")
    warehouse = installation(tmp_path).warehouse
    many = "INSERT INTO ops.watermarks SELECT hash(range)::VARCHAR, hash(range + 1)::VARCHAR, range FROM range(20000)"

    def rows() -> int:
        with warehouse.connect() as connection:
            return len(connection.execute("FROM ops.watermarks").fetchall())

    with warehouse.transaction() as connection:
        connection.execute("INSERT INTO ops.watermarks VALUES ('a', 'b', 1)")

    def fill() -> None:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (warehouse.path.stat().st_size + 100_000, limits[1]))
        try:
            with warehouse.transaction() as connection:
                connection.execute(many)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    with pytest.raises(duckdb.Error, match="File too large"):
        fill()
    assert rows() == 1
    with warehouse.transaction() as connection:
        connection.execute(many)
    assert rows() == 20_001


def deadly(function: Callable[..., Any], moment: str) -> Callable[..., Any]:
    """The function, and then the end; or the end at once."""

    def wrapped(*arguments: Any, **named: Any) -> Any:
        if moment == "after":
            function(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    return wrapped


def main(data: str, place: str, moment: str) -> None:
    """A whole refresh that is killed right before or after a function of the warehouse."""
    module, _, path = place.partition(":")
    owner: Any = import_module(f"vprism_pipelines.warehouse.{module}")
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    setattr(owner, name, deadly(getattr(owner, name), moment))
    with registered(provider(), alone=True):
        refresh(installation(Path(data)), "one", SPAN)


if __name__ == "__main__":
    main(*sys.argv[1:])
