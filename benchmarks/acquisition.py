"""A day of acquisition against a server that counts: published limits, a ban, time told beforehand and time taken.

    python -m benchmarks.acquisition [--vn 1600] [--us 500] [--speed 120]

Five providers with the quotas of the real ones, behind real sockets; the clock runs `speed` times as fast. KBS lacks
one symbol in sixteen, which Vietcap has; Yahoo bans after 200 calls; Alpha Vantage allows 25 a day; Nasdaq Data Link
has the rest. Whatever one provider did not deliver is asked of the next.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar
from unittest.mock import patch

from tests.fault_server import FAULTS, FaultServer, Reply, Seen
from tests.house import Scripted, settings_of
from vprism_pipelines.errors import ProviderError
from vprism_pipelines.market.spec import MarketSpec, market
from vprism_pipelines.providers import registry
from vprism_pipelines.providers.base import Capabilities, Parsed, Payload, Provider, Quota, Request
from vprism_pipelines.providers.http_errors import raise_for_payload
from vprism_pipelines.providers.transport import Transport
from vprism_pipelines.warehouse.acquire import acquire
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.planner import Goal, plan

RANKED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"vn": ("kbs", "vci"), "us": ("yahoo", "alpha_vantage", "nasdaq_data_link")}
)
BAN_AFTER = 200
SESSION = date(2026, 3, 2)
MORNING = datetime(2026, 3, 3, 6, tzinfo=UTC).timestamp()


class FastClock:
    """Runs `speed` times as fast as real time, and knows by how much its sleepers overslept."""

    def __init__(self, speed: float) -> None:
        self.speed, self.began, self.overslept = speed, time.time(), 0.0

    def __call__(self) -> float:
        return self.at(time.time())

    def at(self, real: float) -> float:
        return MORNING + (real - self.began) * self.speed

    async def sleep(self, seconds: float) -> None:
        began = time.perf_counter()
        await asyncio.sleep(seconds / self.speed)
        self.overslept += (time.perf_counter() - began) * self.speed - seconds


class Simulated(Scripted):
    """A provider with the quota of a real one, on the counting server."""

    immutable = True
    quota: ClassVar[Quota]
    clock_of_all: ClassVar[FastClock]

    def capabilities(self) -> Capabilities:
        return replace(super().capabilities(), markets=("us", "vn"), quota=self.quota)

    async def fetch(self, request: Request) -> Payload:
        code = str(request.symbol).rpartition(":")[2]
        payload: Payload = await self.transport.send(  # type: ignore[attr-defined]
            replace(request, url=f"https://upstream.example/{code}")
        )
        return replace(payload, latency_ms=payload.latency_ms * self.clock_of_all.speed)

    def parse(self, payload: Payload) -> Parsed:
        raise_for_payload(payload)
        return Parsed({})


class FastHouse(House):
    """An installation whose transport lives on the fast clock."""

    fast: FastClock

    @asynccontextmanager
    async def provider(self, name: str) -> AsyncIterator[Provider]:
        quota = self.parser(name).capabilities().quota
        async with Transport(
            self.settings, quotas={name: quota}, state_path=self.state_path, clock=self.fast, sleep=self.fast.sleep
        ) as way_out:
            yield registry.create(name, way_out, clock=self.clock)


@dataclass(frozen=True)
class Asked:
    """One provider's share of the day; `told` and `taken` are simulated minutes from its first request to its last."""

    provider: str
    wanted: int
    delivered: int
    sent: int
    left: int
    told: float
    taken: float


@dataclass(frozen=True)
class Day:
    """How the day went.

    Attributes:
        asked: In order.
        coverage: Share of the obtainable symbols that was obtained.
        broken: Quotas that were exceeded, as the server counted.
        overslept: Simulated minutes that the machine woke sleepers too late.
    """

    asked: list[Asked]
    coverage: float
    broken: list[str]
    overslept: float

    @property
    def told(self) -> float:
        return sum(each.told for each in self.asked)

    @property
    def taken(self) -> float:
        return sum(each.taken for each in self.asked)


def codes(count: int) -> list[str]:
    """Tickers of three letters."""
    return ["".join(chr(65 + n // 26**place % 26) for place in (2, 1, 0)) for n in range(count)]


def simulate(folder: Path, *, vn: int = 1600, us: int = 500, speed: float = 120.0, ban_after: int = BAN_AFTER) -> Day:
    """Live through a day.

    Args:
        folder: Where the installation is made.
        vn: Vietnamese symbols wanted.
        us: US symbols wanted.
        speed: Simulated seconds per second.
        ban_after: Calls after which Yahoo bans.
    """
    clock = FastClock(speed)
    with FaultServer() as server, _registered(clock):
        names = [name for ranked in RANKED.values() for name in ranked]
        house = FastHouse(
            settings_of(
                folder,
                provider_base_urls={name: server.url_for(name) for name in names},
                provider_retry_attempts=0,
                provider_backoff_factor=0.001,
            ),
            clock=lambda: datetime.fromtimestamp(clock(), UTC),
        )
        house.fast = clock
        server.serve("/*", lambda seen: _reply(server, seen, ban_after))
        asked: list[Asked] = []
        obtained = 0
        for code, count in (("vn", vn), ("us", us)):
            spec = market(code)
            wanted = [f"{spec.prefix}:STOCK:{ticker}" for ticker in codes(count)]
            for name in RANKED[code]:
                if wanted:
                    asked.append(_ask(house, server, spec, name, wanted))
                    wanted = _missing(house, name, wanted)
            obtained += count - len(wanted)
        return Day(asked, obtained / (vn + us), _broken(server, clock, names), clock.overslept / 60)


def _reply(server: FaultServer, seen: Seen, ban_after: int) -> Reply:
    if seen.provider == "yahoo" and server.count(provider="yahoo") > ban_after:
        fault = FAULTS["403"]
        assert isinstance(fault, Reply)
        return fault
    lacking = seen.provider == "kbs" and seen.path.endswith(("A", "Q"))
    return Reply(b"{}", 404) if lacking else Reply(json.dumps({"bars": [], "actions": []}).encode())


def _ask(house: FastHouse, server: FaultServer, spec: MarketSpec, name: str, wanted: Sequence[str]) -> Asked:
    window = SESSION, SESSION
    (leg,) = plan(house, Goal(spec, window, (name,), ("bars",), tuple(wanted))).legs
    seen_before = server.count(provider=name)
    sent, left = 0, len(wanted)
    try:
        done = acquire(house, spec, name, window, "day", symbols=wanted)
        sent, left = done.requests, done.left
    except ProviderError:
        sent = server.count(provider=name) - seen_before
    instants = [house.fast.at(seen.at) for seen in server.seen(provider=name)[seen_before:]]
    taken = (instants[-1] - instants[0]) / 60
    # Nobody can foretell a ban: that provider took what it took.
    banned = left and sent < leg.today
    told = taken if banned else (leg.run_ends - leg.begins).total_seconds() / 60
    return Asked(name, len(wanted), len(wanted) - len(_missing(house, name, wanted)), sent, left, told, taken)


def _missing(house: House, name: str, wanted: Sequence[str]) -> list[str]:
    with house.warehouse.connect() as connection:
        rows = connection.execute(
            "SELECT symbol FROM raw.fetches WHERE provider = ? AND error_code IS NULL", [name]
        ).fetchall()
    had = {symbol for (symbol,) in rows}
    return [symbol for symbol in wanted if symbol not in had]


def _broken(server: FaultServer, clock: FastClock, names: Sequence[str]) -> list[str]:
    """Limits that the server saw exceeded; windows a twentieth shorter: requests travel at different speeds."""
    found = []
    by_account: dict[str, list[float]] = {}
    quotas: dict[str, Quota] = {}
    for name in names:
        quota = registry.create(name).capabilities().quota
        account = quota.account or name
        quotas[account] = quota
        by_account.setdefault(account, []).extend(clock.at(seen.at) for seen in server.seen(provider=name))
    for account, instants in by_account.items():
        at, quota = sorted(instants), quotas[account]
        limits = [(limit.seconds, limit.most) for limit in quota.windows]
        limits += [(60.0, quota.per_minute)] if quota.per_minute else []
        limits += [(86_400.0, quota.per_day)] if quota.per_day else []
        for seconds, most in limits:
            counted = max((n + 1 - bisect_right(at, end - 0.95 * seconds) for n, end in enumerate(at)), default=0)
            if counted > most:
                found.append(f"{account}: {counted} requests in {seconds:g} s, {most} allowed")
    return found


@contextmanager
def _registered(clock: FastClock) -> Iterator[None]:
    """The registry with simulated providers under the names, and with the quotas, of the real ones."""
    entries, module = {}, type("module", (), {})
    for code, ranked in RANKED.items():
        for name in ranked:
            quota = registry.create(name).capabilities().quota
            fields: dict[str, Any] = {"name": name, "quota": quota, "asked": [], "says": {}, "clock_of_all": clock}
            setattr(module, name, type(name, (Simulated,), fields))
            entries[name] = registry.Entry(f"Simulated {name}", f"day:{name}", (code,))
    with (
        patch.object(registry, "PROVIDERS", MappingProxyType({**registry.PROVIDERS, **entries})),
        patch.dict("sys.modules", {"vprism_pipelines.providers.day": module}),
    ):
        yield


def main() -> None:
    """Run and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--vn", type=int, default=1600)
    arguments.add_argument("--us", type=int, default=500)
    arguments.add_argument("--speed", type=float, default=120.0)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        day = simulate(Path(folder), vn=options.vn, us=options.us, speed=options.speed)
    print(f"{'provider':18}{'wanted':>8}{'sent':>8}{'delivered':>11}{'left':>7}{'told min':>10}{'took min':>10}")
    for row in day.asked:
        print(
            f"{row.provider:18}{row.wanted:8,}{row.sent:8,}{row.delivered:11,}{row.left:7,}{row.told:10.1f}{row.taken:10.1f}"
        )
    print(f"{'total':52}{day.told:10.1f}{day.taken:10.1f}  ({day.taken / day.told - 1:+.1%})")
    print(f"coverage {day.coverage:.1%}; quotas exceeded: {', '.join(day.broken) or 'none'}")
    print(f"the machine woke sleepers {day.overslept:.1f} simulated minutes late in all")


if __name__ == "__main__":
    main()
