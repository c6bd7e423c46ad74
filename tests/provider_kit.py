"""What the tests of web providers share: recordings as payloads, damaged bodies, and a real server in between."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import polars as pl
import pytest
from hypothesis import strategies as st

from tests.fault_server import FaultServer
from tests.transport_kit import NEVER
from vprism_pipelines import tables
from vprism_pipelines.errors import ProviderError
from vprism_pipelines.providers.base import Dataset, Parsed, Payload, Provider, Request
from vprism_pipelines.providers.transport import Transport
from vprism_pipelines.providers.web import WebProvider
from vprism_pipelines.quality.contracts import violations
from vprism_pipelines.settings import Settings, settings

NOW = datetime(2026, 11, 20, 22, tzinfo=UTC)
RAW_TABLES: Mapping[Dataset, tables.Table] = {
    "bars": tables.RAW_BARS,
    "actions": tables.RAW_ACTIONS,
    "instruments": tables.RAW_INSTRUMENTS,
    "fundamentals": tables.RAW_FUNDAMENTALS,
    "quotes": tables.RAW_QUOTES,
    "ticks": tables.RAW_TICKS,
}
_ROW = re.compile(r"\| `(?P<file>[^`]+)` \| `\w+ (?P<url>[^`]+)` \| `(?P<query>[^`]*)` \| (?P<status>\d+) \|")


def payload(provider: str, body: bytes | str, status: int = 200, **request: Any) -> Payload:
    """A payload made by hand; `headers` are the answer's, everything else is the request's."""
    headers = request.pop("headers", {})
    named = {"market": "us", "dataset": "bars", "symbol": None, "provider_symbol": None, "start": None, "end": None}
    raw = body.encode() if isinstance(body, str) else body
    return Payload(Request(provider, **{**named, **request}), status, raw, NOW, headers)


def recordings(folder: Path, provider: str) -> dict[str, Payload]:
    """Every file of a folder as a payload; its request and status as the index next to the folder gives them."""
    index = {row["file"]: row for row in _ROW.finditer((folder.parent / "INDEX.md").read_text())}
    found = {}
    for path in sorted(folder.iterdir()):
        row = index.get(f"{folder.name}/{path.name}")
        query = dict(parse_qsl(row["query"])) if row else {}
        stated = {name: value for name, value in query.items() if "?" not in value and "..." not in value}
        url = f"https://{row['url']}" if row and "..." not in row["url"] else ""
        status = int(row["status"]) if row else 200
        found[path.name] = payload(
            provider,
            path.read_bytes(),
            status,
            url=url,
            params=stated,
            provider_symbol=stated.get("symbol") or stated.get("secid"),
        )
    return found


def outcome(provider: Provider, answer: Payload) -> str:
    """Rows by dataset, or the code of the typed error; frames that break their contract fail."""
    try:
        parsed = provider.parse(answer)
    except ProviderError as error:
        return error.code if error.hint else f"{error.code} without a hint"
    assert parsed.frames
    check(parsed)
    return ", ".join(f"{dataset} {frame.height}" for dataset, frame in parsed.frames.items())


def check(parsed: Parsed) -> Parsed:
    """The same, after every frame was held against its contract."""
    for dataset, frame in parsed.frames.items():
        broken = violations(RAW_TABLES[dataset], frame)
        assert broken.is_empty(), broken
        assert frame.height
    return parsed


def report(provider: Provider, folder: Path) -> dict[str, str]:
    """Outcome by file, printed for people."""
    table = {name: outcome(provider, answer) for name, answer in recordings(folder, provider.name).items()}
    for name, what in table.items():
        print(f"{folder.name}/{name}: {what}")
    return table


@st.composite
def damaged(draw: st.DrawFn, bodies: list[bytes]) -> bytes:
    """A sound body with some bytes cut, doubled, replaced or swapped for text that means something elsewhere."""
    body = draw(st.sampled_from(bodies))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(body) - 1)))
        until = draw(st.integers(at, min(len(body), at + 40)))
        patch = draw(
            st.sampled_from([b"", b"null", b"NaN", b"-1", b"1e999", b"[]", b"{}", b'"', b",", b"0", b"\xff", body[:30]])
            | st.binary(max_size=8)
        )
        body = body[:at] + patch + body[until:]
    return body


def survives(provider: Provider, answer: Payload) -> None:
    """Whatever the body, rows that keep the contract or a typed error."""
    try:
        parsed = provider.parse(answer)
    except ProviderError:
        return
    for dataset, frame in parsed.frames.items():
        assert frame.schema == RAW_TABLES[dataset].polars_schema
        assert frame["row"].is_unique().all()
        assert all(frame[name].drop_nulls().is_finite().all() for name in frame.select(pl.col(pl.Float64)).columns)


def pull(kind: type[WebProvider], server: FaultServer, requests: list[Request], **options: Any) -> list[Payload]:
    """Answers over real sockets, one after the other."""
    made: dict[str, Any] = {
        "provider_timeout": 2.0,
        "provider_retry_attempts": 0,
        "provider_base_urls": {kind.name: server.url_for(kind.name)},
        "offline": False,
        **options,
    }

    async def run() -> list[Payload]:
        configured = Settings(_env_file=None, **made)  # type: ignore[call-arg]
        async with Transport(configured, quotas={}, breaker=NEVER) as way_out:
            provider = kind(way_out)
            return [await provider.fetch(request) for request in requests]

    return asyncio.run(run())


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Settings made from these variables, and the usual ones afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ALPHA_VANTAGE_API_KEY", "QUANDL_API_KEY"):
            patch.delenv(name, raising=False)
        for name, value in values.items():
            patch.setenv(name, value)
        settings.cache_clear()
        try:
            yield
        finally:
            settings.cache_clear()


FAULTS_BY_CODE: Mapping[str, str] = {
    "429_retry_after": "RATE_LIMITED",
    "html_200": "BLOCKED",
    "403": "BLOCKED",
    "404": "NOT_FOUND",
    "410": "RETIRED",
    "500": "UNAVAILABLE",
    "empty": "MALFORMED",
    "nan": "MALFORMED",
    "duplicate_keys": "MALFORMED",
    "cut_json": "MALFORMED",
    "truncated": "UNAVAILABLE",
    "redirect_elsewhere": "BLOCKED",
}


def failures(kind: type[WebProvider], server: FaultServer, request: Request) -> dict[str, str]:
    """What each fault of the server ends as, by its name."""
    path = urlsplit(request.url).path
    for name in FAULTS_BY_CODE:
        server.fault(path, name, times=1)
    answers = pull(kind, server, [request] * len(FAULTS_BY_CODE))
    return dict(zip(FAULTS_BY_CODE, (outcome(kind(), answer) for answer in answers), strict=True))
