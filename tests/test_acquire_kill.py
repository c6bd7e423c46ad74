"""What a user can rely on when an acquisition is killed with -9, anywhere: the next one asks only for what is missing.

`python -m tests.test_acquire_kill <data> <url> <concurrency>` is the process that gets killed.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from tests.conftest import ROOT
from tests.fault_server import (
    FaultServer,
    Reply,
    Seen,
    fault_server_fixture,  # noqa: F401
)
from tests.house import DAYS, Clock, acquire_all, answer, bar, house, registered
from tests.transport_kit import Served
from vprism_pipelines.providers.base import Quota
from vprism_pipelines.warehouse import acquire
from vprism_pipelines.warehouse.house import House

SPAN = DAYS[0], DAYS[19]
EVENING = datetime.combine(DAYS[19], datetime.min.time(), UTC) + timedelta(hours=22)
CODES = [chr(65 + n // 26) + chr(65 + n % 26) for n in range(60)]


def installation(data: Path, url: str) -> House:
    return house(data, clock=Clock(EVENING), universe={"us": CODES}, provider_base_urls={"served": url})


def served(seen: Seen) -> Reply:
    code = seen.path.rpartition("/")[2]
    return Reply(answer([bar(code, day, 10.0) for day in DAYS[:20]]), delay=0.01)


@pytest.mark.processes
@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_kill_at_any_moment_costs_at_most_the_requests_in_flight(
    tmp_path: Path, fault_server: FaultServer, concurrency: int
) -> None:
    fault_server.serve("/bars/*", served)
    command = [sys.executable, "-m", "tests.test_acquire_kill", str(tmp_path), fault_server.url, str(concurrency)]
    moments = random.Random(concurrency)
    kills = 0
    for goal in sorted(moments.sample(range(3, 57), 2)):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        until = time.monotonic() + 60
        while fault_server.count() < goal + kills * concurrency and process.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        time.sleep(moments.random() * 0.05)
        process.kill()
        kills += process.wait() == -9
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    asked = Counter(seen.path for seen in fault_server.seen())
    assert kills >= 1
    assert len(asked) == len(CODES)
    assert asked.total() <= len(CODES) + kills * concurrency
    assert max(asked.values()) <= 1 + kills
    place = installation(tmp_path, fault_server.url)
    with place.warehouse.connect() as connection:
        entered = pl.DataFrame(connection.execute("FROM raw.fetches WHERE error_code IS NULL").to_arrow_table())
    assert set(entered["symbol"]) == {f"US:STOCK:{code}" for code in CODES}
    assert entered["rows"].to_list() == [20] * entered.height
    assert entered["fetch_id"].is_unique().all()
    assert place.lake.staged("served") == []
    before = fault_server.count()
    with registered(Served):
        assert acquire_all(place, "served", SPAN).requests == 0
    assert fault_server.count() == before


def main(data: str, url: str, concurrency: str) -> None:
    """One acquisition, in small chunks."""
    acquire.CHUNK = 7
    Served.quota = Quota(concurrency=int(concurrency))
    with registered(Served, alone=True):
        done = acquire_all(installation(Path(data), url), "served", SPAN)
    print(json.dumps({"requests": done.requests, "adopted": done.adopted}))


if __name__ == "__main__":
    main(*sys.argv[1:])
