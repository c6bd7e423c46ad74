"""What remembering costs: fetch, parse and archive per request, against a bare httpx loop on the same server.

    python -m benchmarks.overhead [--requests 400] [--rounds 5] [--latency 0.02]

Both ask for the same bodies, as many at a time; rounds are interleaved and the median round of each way counts. Our
way is a whole acquisition: quota and circuit kept in SQLite, each answer staged as it arrives, parsed, sealed into
parquet and entered into the warehouse. The bare way keeps nothing and reads nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar, NamedTuple

import httpx
import polars as pl

from tests.fault_server import FaultServer, Reply
from tests.house import DAYS, bar, house, registered
from tests.transport_kit import Served
from vprism_pipelines.market.spec import US
from vprism_pipelines.providers.base import Parsed, Payload, Quota, Request, raw_frame
from vprism_pipelines.providers.http_errors import load_json, raise_for_payload
from vprism_pipelines.warehouse.acquire import acquire
from vprism_pipelines.warehouse.house import House

SESSIONS = DAYS[-20:]
IN_FLIGHT = 8


class Cost(NamedTuple):
    """Seconds by the clock on the wall, and of this process's processor time."""

    wall: float
    cpu: float


class Plain(Served):
    """Behind a real socket, without limits on its pace."""

    asked: ClassVar[list[Request]] = []
    quota = Quota(concurrency=IN_FLIGHT)

    def parse(self, payload: Payload) -> Parsed:
        raise_for_payload(payload)
        columns = pl.DataFrame(load_json(payload)).with_columns(pl.col("session").str.to_date())
        return Parsed({"bars": raw_frame("bars", columns, payload)})


def codes(count: int) -> list[str]:
    """Tickers of three letters."""
    return ["".join(chr(65 + n // 26**place % 26) for place in (2, 1, 0)) for n in range(count)]


def bare(url: str, wanted: list[str]) -> None:
    """Ask and throw away."""

    async def run() -> None:
        waiting = list(wanted)

        async def ask() -> None:
            while waiting:
                response = await client.get(f"{url}/bars/{waiting.pop()}")
                response.raise_for_status()

        async with httpx.AsyncClient(limits=httpx.Limits(max_keepalive_connections=IN_FLIGHT)) as client:
            await asyncio.gather(*(ask() for _ in range(IN_FLIGHT)))

    asyncio.run(run())


def ours(place: House, wanted: list[str]) -> None:
    """Ask, parse, archive, enter."""
    symbols = [f"US:STOCK:{code}" for code in wanted]
    done = acquire(place, US, "served", (SESSIONS[0], SESSIONS[-1]), "bench", symbols=symbols)
    if done.rows != len(wanted) * len(SESSIONS) or done.failed.height:
        sys.exit("not everything came")


def compare(folder: Path, requests: int, rounds: int, latency: float) -> list[Cost]:
    """Median cost of a request: the bare way, and ours."""
    taken: tuple[list[Cost], list[Cost]] = ([], [])
    with server(latency) as url, registered(Plain):
        place = house(folder, provider_base_urls={"served": url})
        every = codes(requests * (rounds + 1))
        for number in range(rounds + 1):  # the first round warms up
            wanted = every[number * requests : (number + 1) * requests]
            for costs, way in zip(taken, (partial(bare, url, wanted), partial(ours, place, wanted)), strict=True):
                wall, cpu = time.perf_counter(), time.process_time()
                way()
                costs.append(Cost(time.perf_counter() - wall, time.process_time() - cpu))
    each = 1000 / requests
    return [Cost(*(each * statistics.median(column) for column in zip(*costs[1:], strict=True))) for costs in taken]


@contextmanager
def server(latency: float) -> Iterator[str]:
    """The fault server in a process of its own, so that it shares neither lock nor memory with who is measured."""
    command = [sys.executable, "-m", "benchmarks.overhead", "--serve", "--latency", str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def serve(latency: float) -> None:
    """Answer every question with bars until the parent goes."""
    with FaultServer() as served:
        rows = [bar("AAA", day, 10.0) for day in SESSIONS]
        body = json.dumps({name: [row[name] for row in rows] for name in rows[0]}).encode()
        served.serve("/bars/*", lambda seen: Reply(body.replace(b"AAA", seen.path[-3:].encode()), delay=latency))
        print(served.url, flush=True)
        sys.stdin.read()


def main() -> None:
    """Run and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--requests", type=int, default=400)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--latency", type=float, default=0.0, help="seconds the server thinks")
    arguments.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.serve:
        serve(options.latency)
        return
    with tempfile.TemporaryDirectory() as folder:
        plain, kept = compare(Path(folder), options.requests, options.rounds, options.latency)
    for what, one, other in (("wall clock", plain.wall, kept.wall), ("processor", plain.cpu, kept.cpu)):
        print(f"{what:10}  bare {one:.2f} ms per request, fetch + parse + archive {other:.2f} ms: x {other / one:.2f}")


if __name__ == "__main__":
    main()
