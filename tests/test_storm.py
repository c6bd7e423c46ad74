"""What a user can rely on in a storm: 2,000 questions, 16 at a time, every fault there is."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import duckdb
import polars as pl
import pytest

from tests.fault_server import FAULTS, FaultServer, Reply, Seen, fault_server_fixture  # noqa: F401
from tests.house import DAYS, US, Clock, answer, bar, registered, settings_of
from tests.test_transport import EXPECTED, resident_bytes
from tests.transport_kit import NEVER, Served
from vprism_pipelines.errors import NoData
from vprism_pipelines.providers import registry
from vprism_pipelines.providers.base import Parsed, Payload, Provider, Quota, Request
from vprism_pipelines.providers.http_errors import load_json, raise_for_payload
from vprism_pipelines.providers.transport import Transport
from vprism_pipelines.warehouse import pulls
from vprism_pipelines.warehouse.acquire import attempt
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.ingest import clean_pulls, ingest, pending

QUESTIONS, IN_FLIGHT = 2000, 16
SPAN = DAYS[-2], DAYS[-1]
KEY = "QX7/secret+Key=93zz"
SPELLINGS = (KEY, KEY.replace("/", "\\/"), "QX7%2Fsecret%2BKey%3D93zz", "QX7/secret%2BKey=93zz")
SLOW = ("stall", "slow_headers", "endless", "huge", "nested", "gzip_bomb")
CODES = ["".join(chr(65 + n // 26**place % 26) for place in (2, 1, 0)) for n in range(QUESTIONS)]


class Stormy(Served):
    """A provider with a key, behind the fault server."""

    name = "stormy"
    asked: ClassVar[list[Request]] = []
    quota = Quota(concurrency=IN_FLIGHT)
    secrets: ClassVar[dict[str, str]] = {"apikey": KEY, "x-api-token": KEY}

    def parse(self, payload: Payload) -> Parsed:
        raise_for_payload(payload)
        if "bars" not in load_json(payload):
            raise NoData("sound, and not about bars")
        return super().parse(payload)


class StormHouse(House):
    """An installation that neither gives up on a provider nor waits long for it."""

    @asynccontextmanager
    async def provider(self, name: str) -> AsyncIterator[Provider]:
        async with Transport(
            self.settings,
            quotas={name: Quota(concurrency=IN_FLIGHT)},
            state_path=self.state_path,
            breaker=NEVER,
            max_body=4 << 20,
            sleep=lambda seconds: asyncio.sleep(min(seconds, 0.01)),
        ) as way_out:
            yield registry.create(name, way_out, clock=self.clock)


def weather(seen: Seen) -> Reply:
    """Each fault once, then a fault for every other question; the upstream echoes the key wherever it can."""
    code = seen.path[-3:]
    number, dice = CODES.index(code), random.Random(seen.path)
    if number >= len(FAULTS) and dice.random() < 0.5:
        echo = {"url": seen.target, "header": dict(seen.headers), "padding": "x" * dice.choice((0, 100_000))}
        body = json.loads(answer([bar(code, day, 10.0) for day in SPAN])) | echo
        return Reply(json.dumps(body).encode(), headers={"ETag": KEY})
    fault = FAULTS[sorted(FAULTS)[number] if number < len(FAULTS) else dice.choice(sorted(set(FAULTS) - set(SLOW)))]
    reply = fault if isinstance(fault, Reply) else fault(seen)
    return replace(reply, headers={**reply.headers, "Server": f"echo {KEY}"})


@pytest.mark.timeout(180)
def test_two_thousand_questions_in_a_storm_end_typed_bounded_and_once(
    tmp_path: Path, fault_server: FaultServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(pulls, "CLOSED_AFTER", 10**9)
    fault_server.serve("/bars/*", weather)
    place = StormHouse(
        settings_of(
            tmp_path,
            universe={"us": CODES},
            provider_base_urls={"stormy": fault_server.url},
            provider_timeout=0.75,
            provider_retry_attempts=1,
            provider_backoff_factor=0.001,
        ),
        clock=Clock(),
    )
    sizes: list[int] = []

    def watch(answered: int, _: int) -> None:
        if answered % (QUESTIONS // 4) == 0:
            sizes.append(resident_bytes())

    started = time.monotonic()
    with registered(Stormy):
        done = attempt(place, US, "stormy", SPAN, "storm", progress=watch)
        assert time.monotonic() - started < 150
        assert (done.requests, done.left) == (QUESTIONS, 0)
        assert sizes[-1] - sizes[0] < 64 << 20, sizes
        assert _typed(done.fetches) >= {kind.code for kind in EXPECTED.values() if kind}
        with place.warehouse.connect() as connection:
            found = pending(connection, US, "bars")
        cleaned = clean_pulls(place.lake, US, "bars", found)
        with place.warehouse.transaction() as connection:
            ingest(connection, US, "bars", found, cleaned)
            delivered = connection.execute("SELECT symbol, session FROM clean.bars").fetchall()
    good = done.fetches.filter(pl.col("rows") > 0).height
    assert good > QUESTIONS / 3
    assert max(Counter(delivered).values()) == 1
    assert len(delivered) == good * len(SPAN)
    assert place.lake.staged("stormy") == []
    assert any("REDACTED" in text for text in _everything_kept(place))
    assert not [text[:200] for text in (caplog.text, *_everything_kept(place)) if _spells_key(text)]
    assert not [
        path for path in tmp_path.rglob("*") if path.is_file() and _spells_key(path.read_bytes().decode("latin-1"))
    ]


def _typed(fetches: pl.DataFrame) -> set[str]:
    """Codes of the failures; whoever brought neither rows nor a code is none of the faults that answer well."""
    silent = fetches.filter(pl.col("error_code").is_null() & (pl.col("rows") == 0))
    assert silent.is_empty(), silent
    return set(fetches["error_code"].drop_nulls())


def _everything_kept(place: House) -> list[str]:
    """Every archived answer, every parsed row and every row of the warehouse, as text."""
    kept = [
        f"{payload.request.to_json()} {dict(payload.headers)} {payload.error} {payload.body.decode('utf-8', 'replace')}"
        for path in place.lake.payload_files()
        for payload in place.lake.payloads(path)
    ]
    kept += [str(pl.read_parquet(path).rows()) for path in place.lake.root.glob("raw/*/*/*.parquet")]
    with duckdb.connect(str(place.warehouse.path), read_only=True) as connection:
        for schema, table in connection.execute("SELECT schema_name, table_name FROM duckdb_tables()").fetchall():
            kept.append(str(connection.execute(f'FROM "{schema}"."{table}"').fetchall()))
    return kept


def _spells_key(text: str) -> bool:
    return any(spelling.lower() in text.lower() for spelling in SPELLINGS)
