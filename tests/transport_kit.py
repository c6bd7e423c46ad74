"""What the tests of the transport share: requests, settings and transports pointed at a fault server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from tests.fault_server import FaultServer
from tests.house import Scripted
from vprism_pipelines.providers.base import Capabilities, Parsed, Payload, Quota, Request
from vprism_pipelines.providers.breaker import BreakerPolicy
from vprism_pipelines.providers.http_errors import load_json, raise_for_payload
from vprism_pipelines.providers.transport import Transport
from vprism_pipelines.settings import Settings

NEVER = BreakerPolicy(threshold=10**9)


class Naps:
    """A clock that only moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0
        self.taken: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.taken.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


def request(path: str, *, provider: str = "demo", params: Mapping[str, str] | None = None, **other: Any) -> Request:
    return Request(
        provider=provider,
        dataset="bars",
        market="us",
        symbol="US:STOCK:AAPL",
        provider_symbol="AAPL",
        start=None,
        end=None,
        params=params or {},
        **{"url": f"https://upstream.example{path}", **other},
    )


def settings(server: FaultServer, **values: Any) -> Settings:
    defaults: dict[str, Any] = {
        "provider_timeout": 1.0,
        "provider_retry_attempts": 0,
        "provider_backoff_factor": 0.001,
        "provider_base_urls": {name: server.url_for(name) for name in ("demo", "other")},
        "rate_limit_requests_per_minute": None,
        "rate_limit_burst": None,
        "offline": False,
    }
    return Settings(_env_file=None, **{**defaults, **values})  # type: ignore[call-arg]


def transport(server: FaultServer, quota: Quota | None = None, **options: Any) -> Transport:
    names = {"state_path", "hosts", "breaker", "max_body", "clock", "sleep"}
    own = {name: options.pop(name) for name in names & set(options)}
    quotas = {"demo": quota or Quota(concurrency=16)}
    return Transport(settings(server, **options), quotas=quotas, **{"breaker": NEVER, **own})


def sent(server: FaultServer, *requests: Request, quota: Quota | None = None, **options: Any) -> list[Payload]:
    """Payloads of requests sent one after the other through one transport."""

    async def run() -> list[Payload]:
        async with transport(server, quota, **options) as way_out:
            return [await way_out.send(each) for each in requests]

    return asyncio.run(run())


def read(payload: Payload) -> Any:
    raise_for_payload(payload)
    return load_json(payload)


class Served(Scripted):
    """A provider behind a real socket: asks `/bars/CODE` of whatever its base URL is; its answers never change."""

    name = "served"
    immutable = True
    asked: ClassVar[list[Request]] = []
    quota: ClassVar[Quota] = Quota()
    secrets: ClassVar[Mapping[str, str]] = {}

    def capabilities(self) -> Capabilities:
        return replace(super().capabilities(), quota=self.quota)

    async def fetch(self, request: Request) -> Payload:
        sent = replace(request, url=f"https://upstream.example/bars/{str(request.symbol).rpartition(':')[2]}")
        payload: Payload = await self.transport.send(sent, secrets=self.secrets)  # type: ignore[attr-defined]
        return payload

    def parse(self, payload: Payload) -> Parsed:
        raise_for_payload(payload)
        return super().parse(payload)
