"""Readers while a market refreshes, and writers that are killed: real processes, real signals."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from vprism_pipelines.settings import Settings
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.publish import publish

pytestmark = pytest.mark.processes

REFRESHES, READERS, KILLS = 20, 3, 20

# Each transaction adds one run and one measurement; a reader must never see a different number of them.
WRITER = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
from vprism_pipelines.settings import Settings
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.publish import publish

house = House(Settings(data_dir=Path(sys.argv[1])))
for _ in range(int(sys.argv[2])):
    with house.warehouse.transaction() as connection:
        connection.execute('''INSERT INTO ops.watermarks SELECT 'torn', 'us', count(*) + 1 FROM ops.watermarks''')
        connection.execute('''INSERT INTO quality.metrics SELECT current_date, 'us', '*', '*', 'torn', count(*) + 1,
                              'OK', NULL, NULL, 'run' || count(*) FROM quality.metrics''')
    with house.warehouse.connect() as connection:
        (done,) = connection.execute("SELECT count(*) FROM ops.watermarks").fetchone()
    print(done, flush=True)
    publish(house.warehouse, "run", datetime.now(UTC))
"""
READER = """
import sys, duckdb
reads = torn = failed = 0
newest = 0
while True:
    try:
        with duckdb.connect(sys.argv[1], read_only=True) as connection:
            a = connection.execute("SELECT count(*), max(batch) FROM ops.watermarks").fetchone()
            b = connection.execute("SELECT count(*), max(value)::BIGINT FROM quality.metrics").fetchone()
    except duckdb.Error:
        failed += 1
        continue
    reads += 1
    torn += a != b or a[0] < newest
    newest = a[0]
    if newest >= int(sys.argv[2]):
        break
print(reads, torn, failed, newest)
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = House(Settings(data_dir=tmp_path / "data"))
    with house.warehouse.transaction():
        pass
    publish(house.warehouse, "first", datetime.now(UTC))
    return house


def counted(path: Path) -> tuple[int, int]:
    """Rows of the two tables that are always written together."""
    with duckdb.connect(str(path), read_only=True) as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM ops.watermarks), (SELECT count(*) FROM quality.metrics)"
        ).fetchone()
    assert row is not None
    return row


def test_readers_never_fail_or_see_half_a_run_while_it_refreshes(house: House) -> None:
    published, data = house.settings.database, house.settings.data_dir
    readers = [start(READER, published, REFRESHES) for _ in range(READERS)]
    writer = start(WRITER, data, REFRESHES)
    _, trouble = writer.communicate(timeout=180)
    assert writer.returncode == 0, trouble
    for reader in readers:
        out, trouble = reader.communicate(timeout=60)
        assert reader.returncode == 0, trouble
        reads, torn, failed, newest = map(int, out.split())
        assert (torn, failed, newest) == (0, 0, REFRESHES)
        assert reads >= REFRESHES / 2
    assert published.stat().st_mode & 0o777 == 0o444
    assert len(list(house.warehouse.snapshots.glob("*.duckdb"))) == 3


def test_a_writer_killed_anywhere_loses_nothing_that_was_committed(house: House) -> None:
    chance = random.Random(7)
    data = house.settings.data_dir
    promised = 0
    for _ in range(KILLS):
        writer = start(WRITER, data, 1000)
        assert writer.stdout is not None
        first = writer.stdout.readline()  # running: from here on the moment is random
        time.sleep(chance.uniform(0, 0.4))
        writer.send_signal(signal.SIGKILL)
        rest, _ = writer.communicate(timeout=30)
        promised = max(promised, *(int(line) for line in [first, *rest.splitlines()] if line.strip().isdigit()))
        # What is published opens and is whole, whatever was going on.
        together, apart = counted(house.settings.database)
        assert together == apart <= promised + 1
    # The next run heals without help: no draft is left behind, every acknowledged row is there.
    done = publish(house.warehouse, "after", datetime.now(UTC))
    together, apart = counted(done.path)
    assert together == apart >= promised > 0
    assert not list(house.warehouse.snapshots.glob("*.tmp*"))
    assert not list(house.settings.database.parent.glob(".*.tmp"))
