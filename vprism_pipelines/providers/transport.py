"""How requests leave: offline switch, egress allow-list, quotas, circuit breaker, retries and redaction in one place.

`Transport.send` always returns a `Payload`: what HTTP said, or status 0 with the code of a `ProviderError` and why.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote, urlsplit

from vprism_pipelines.errors import (
    Blocked,
    InvalidConfiguration,
    Malformed,
    ProviderError,
    RateLimited,
    Unavailable,
)
from vprism_pipelines.providers.base import Payload, Quota, Request
from vprism_pipelines.providers.breaker import BreakerPolicy, Circuit, CircuitBreaker, CircuitState
from vprism_pipelines.providers.http_errors import REASON_HEADER, retry_after
from vprism_pipelines.providers.quota import Limiter
from vprism_pipelines.providers.state import State
from vprism_pipelines.providers.traffic import ProviderStats, Traffic
from vprism_pipelines.redaction import REDACTED, redact
from vprism_pipelines.settings import Settings
from vprism_pipelines.telemetry import span

if TYPE_CHECKING:  # the client takes a third of a second to import; only those who send pay for it
    from yarl import URL

    from vprism_pipelines.providers.outgoing import Outgoing
    from vprism_pipelines.providers.wire import Answer, Way, Wire

__all__ = ["EGRESS", "REDACTED", "ProviderStats", "Transport", "redact"]

logger = logging.getLogger(__name__)

EGRESS: Mapping[str, Collection[str]] = MappingProxyType(
    {
        "yahoo": ("query1.finance.yahoo.com", "query2.finance.yahoo.com", "fc.yahoo.com"),
        "alpha_vantage": ("www.alphavantage.co",),
        "nasdaq_data_link": ("data.nasdaq.com",),
        "tencent": ("web.ifzq.gtimg.cn", "proxy.finance.qq.com", "qt.gtimg.cn"),
        "eastmoney": ("push2his.eastmoney.com",),
        "sina": ("quotes.sina.cn", "finance.sina.com.cn", "hq.sinajs.cn"),
        "tcbs": ("apipubaws.tcbs.com.vn",),
        "vndirect_finfo": ("finfo-api.vndirect.com.vn",),
    }
)
"""Hosts, and all below them, that each provider may be asked at over https. Nothing else is ever contacted."""

MAX_BODY = 64 << 20
_RETRY_STATUSES = frozenset({429, 500, 502, 503, 504})
_BLOCK_STATUSES = frozenset({403, 429, 451, 456, 999})
_LONGEST_BACKOFF = 60.0
_MAX_REDIRECTS = 5
_MAX_HEADER = 500
_KEPT_HEADERS = frozenset(
    {"content-type", "date", "etag", "last-modified", "location", "retry-after", "server", "cf-ray", "cf-mitigated"}
)
_NO_SECRETS: Mapping[str, str] = MappingProxyType({})


class Transport:
    """The way out: every request of every provider goes through one of these. Safe to share within an event loop.

    Entering it is optional; leaving it (or `aclose`) closes connections and files, and it may be entered again.

    Args:
        settings: Timeouts, retries, caps, base URLs, the offline switch and the keys to redact.
        quotas: Limits by provider.
        state_path: SQLite file that shares quotas and circuits between processes and runs; None keeps them in memory.
        hosts: Hosts by provider that may be contacted over https; `settings.provider_base_urls` adds its own.
        breaker: When a failing provider is left alone.
        max_body: Longest body in bytes, decoded.
        clock: Now, in seconds since 1970.
        sleep: Waits for a number of seconds (quotas and retries, not timeouts).

    Raises:
        InvalidConfiguration: A base URL is not an http(s) URL.

    Example:
        async with Transport(settings(), quotas={"yahoo": Quota(per_minute=60)}) as transport:
            payload = await transport.send(request, secrets={"apikey": key})
    """

    def __init__(
        self,
        settings: Settings,
        *,
        quotas: Mapping[str, Quota],
        state_path: Path | None = None,
        hosts: Mapping[str, Collection[str]] = EGRESS,
        breaker: BreakerPolicy | None = None,
        max_body: int = MAX_BODY,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._hosts = hosts
        self._max_body = max_body
        self._clock = clock
        self._sleep = sleep
        self._hidden = frozenset({*settings.secrets(), *_passwords(settings)})
        self._state = State(state_path)
        self._breaker = CircuitBreaker(self._state, breaker, clock=clock)
        self._limiter = Limiter(
            self._state,
            quotas,
            per_minute=settings.rate_limit_requests_per_minute,
            burst=settings.rate_limit_burst,
            clock=clock,
            sleep=sleep,
            lease=settings.provider_timeout + 30.0,
        )
        self._traffic: defaultdict[str, Traffic] = defaultdict(partial(Traffic, settings.provider_retry_share))
        self._wires: tuple[asyncio.AbstractEventLoop, dict[Way, Wire]] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close connections and the state file. The next `send` opens them again."""
        opened, self._wires = self._wires, None
        for wire in opened[1].values() if opened else ():
            await wire.aclose()
        self._limiter.release()
        self._state.close()

    def stats(self) -> dict[str, ProviderStats]:
        """Counters by provider, since the transport was made."""
        return {provider: traffic.stats() for provider, traffic in sorted(self._traffic.items())}

    async def send(self, request: Request, *, secrets: Mapping[str, str] = _NO_SECRETS) -> Payload:
        """Ask, within the provider's quota, as often as retrying makes sense.

        Args:
            request: What to ask, with the upstream's own URL.
            secrets: API keys by name, added on the way out and redacted from whatever comes back. A name with a
                hyphen (`x-api-token`), `authorization` and `cookie` are headers, any other is a query parameter.

        Returns:
            The last answer. Status 0 and `error` when there was none, with the reason in `x-vprism-reason`.

        Raises:
            StorageUnwritable: The state file cannot be used.
            InvalidConfiguration: The environment names a proxy that cannot be used. Nothing else raises.
        """
        errand = _Errand(request, self._hidden.union(secrets.values()), self._clock)
        try:
            return await self._ask(errand, secrets)
        except ProviderError as refusal:
            self._traffic[request.provider].refused += 1
            return errand.failed(refusal)

    async def _ask(self, errand: _Errand, secrets: Mapping[str, str]) -> Payload:
        """The outcome of a question that may be put; a ProviderError when it may not."""
        provider = errand.request.provider
        if self._settings.offline:
            raise Unavailable("offline: VPRISM_OFFLINE is set, nothing is sent")
        wire = self._wire(provider)
        outgoing = self._outgoing(errand.request, secrets)
        async with self._limiter.gate(provider):
            circuit = self._breaker.admit(provider)  # not before: it may open while others hold the gate
            _require_closed(circuit)
            probe = circuit.state is CircuitState.HALF_OPEN
            attempts = 1 if probe else 1 + self._settings.provider_retry_attempts
            try:
                payload = await self._persist(wire, errand, outgoing, attempts)
            except BaseException:
                self._breaker.abandon(provider, circuit)
                raise
            self._breaker.settle(provider, circuit, _failure(payload))
            return payload

    def _wire(self, provider: str) -> Wire:
        from vprism_pipelines.providers.wire import Way, open_wire

        loop = asyncio.get_running_loop()
        if self._wires is None or self._wires[0] is not loop:
            # Connections and waiting places of an event loop that is gone are of no use to this one.
            self._limiter.release()
            self._wires = loop, {}
        way, wires = Way.of(provider, self._settings), self._wires[1]
        if way not in wires:
            wires[way] = open_wire(way, deadline=self._settings.provider_timeout, max_body=self._max_body)
        return wires[way]

    def _outgoing(self, request: Request, secrets: Mapping[str, str]) -> Outgoing:
        from vprism_pipelines.providers.outgoing import Outgoing

        base = self._settings.provider_base_urls.get(request.provider)
        in_headers = {name for name in secrets if "-" in name or name.lower() in ("authorization", "cookie")}
        outgoing = Outgoing.of(
            request.method,
            request.url,
            base=base,
            params={**request.params, **{name: secrets[name] for name in secrets if name not in in_headers}},
            headers={**request.headers, **{name: secrets[name] for name in in_headers}},
            body=request.body,
        )
        if base is None and not self._may_leave(request.provider, outgoing.url):
            raise Blocked(
                f"egress: {request.provider} may not contact {outgoing.url.scheme}://{outgoing.url.host}, "
                "only the hosts on its allow-list over https"
            )
        return outgoing

    def _may_leave(self, provider: str, url: URL) -> bool:
        host = f".{url.host or ''}"
        return url.scheme == "https" and any(host.endswith(f".{known}") for known in self._hosts.get(provider, ()))

    async def _persist(self, wire: Wire, errand: _Errand, outgoing: Outgoing, attempts: int) -> Payload:
        """Attempt until there is an answer, the attempts are used up or the provider's retry budget is."""
        provider, traffic = errand.request.provider, self._traffic[errand.request.provider]
        for number in range(1, attempts + 1):
            attempt = await self._attempt(wire, errand, outgoing)
            if not attempt.again or number == attempts or traffic.budget < 1:
                break
            longest = min(self._settings.provider_backoff_factor * 2.0 ** (number - 1), _LONGEST_BACKOFF)
            seconds = max(attempt.wait, random.uniform(0.0, longest))  # noqa: S311
            traffic.retry()
            summary = errand.summary(attempt.payload)
            logger.info("%s: %s, attempt %d in %.1f s", provider, summary, number + 1, seconds)
            await self._sleep(seconds)
        if _failure(attempt.payload) or attempt.payload.error:
            traffic.failures += 1
        else:
            traffic.answered(number - 1)
        return attempt.payload

    async def _attempt(self, wire: Wire, errand: _Errand, outgoing: Outgoing) -> _Attempt:
        """One attempt, redirects on the same server followed; every request draws on the quota, or raises."""
        provider, traffic = errand.request.provider, self._traffic[errand.request.provider]
        try:
            for _ in range(1 + _MAX_REDIRECTS):
                async with self._limiter.permit(provider, errand.request.cost):
                    traffic.requests += 1
                    started = time.perf_counter()
                    with span("request", provider=provider) as attempt:
                        answer = await wire.exchange(outgoing)
                        attempt.note(status=answer.status, bytes=answer.size)
                    latency_ms = (time.perf_counter() - started) * 1000
                traffic.bytes += answer.size
                traffic.latencies.append(latency_ms)
                if answer.onward is None:
                    break
                outgoing = answer.onward
        except (Malformed, Unavailable) as error:
            return _Attempt(errand.failed(error), again=error.retryable)
        payload = errand.answered(answer, latency_ms)
        wait = retry_after(payload.headers, payload.fetched_at) or 0.0
        again = payload.status in _RETRY_STATUSES and wait <= self._settings.provider_patience
        return _Attempt(payload, again, wait)


@dataclass(frozen=True, slots=True)
class _Attempt:
    payload: Payload
    again: bool
    wait: float = 0.0


@dataclass(frozen=True, slots=True)
class _Errand:
    """One question and everything that must not be seen in its answer."""

    request: Request
    hidden: frozenset[str]
    clock: Callable[[], float]

    def answered(self, answer: Answer, latency_ms: float) -> Payload:
        headers = {
            name: redact(value, self.hidden)[:_MAX_HEADER]
            for name, value in answer.headers.items()
            if name in _KEPT_HEADERS or name.startswith(("ratelimit", "x-ratelimit"))
        }
        return Payload(self.request, answer.status, redact(answer.body, self.hidden), self._now(), headers, latency_ms)

    def failed(self, error: ProviderError) -> Payload:
        headers = {REASON_HEADER: redact(error.message, self.hidden)[:_MAX_HEADER]}
        if isinstance(error, RateLimited) and error.retry_after is not None:
            headers["retry-after"] = f"{error.retry_after:.0f}"
        return Payload(self.request, 0, b"", self._now(), headers, error=error.code)

    @staticmethod
    def summary(payload: Payload) -> str:
        return f"HTTP {payload.status}" if payload.status else payload.headers[REASON_HEADER]

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)


def _failure(payload: Payload) -> str | None:
    """What an outcome says about the provider's health: the code of its failure, or None when it answered."""
    status = payload.status
    refused_data = status == 403 and "json" in payload.headers.get("content-type", "")  # a plan's limit, not a wall
    if 300 <= status < 400 or (status in _BLOCK_STATUSES and not refused_data):
        return Blocked.code
    return Unavailable.code if payload.error == Unavailable.code or 500 <= status < 600 else None


def _require_closed(circuit: Circuit) -> None:
    if circuit.state is CircuitState.OPEN:
        kind = Blocked if circuit.cause == Blocked.code else Unavailable
        raise kind(f"circuit open until {circuit.until:%Y-%m-%dT%H:%M:%SZ}: the last requests all failed")


def _passwords(settings: Settings) -> Iterable[str]:
    """Passwords inside the configured base URLs and proxies; checks the URLs on the way."""
    places = [("VPRISM_PROVIDER_BASE_URLS", "base URL", settings.provider_base_urls)]
    places += [("VPRISM_PROXIES", "proxy", settings.proxies)]
    for variable, what, urls in places:
        for provider, url in urls.items():
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise InvalidConfiguration(
                    f"the {what} of {provider} is not an http or https URL",
                    hint=f'{variable} looks like {{"yahoo": "http://127.0.0.1:8080"}}',
                    provider=provider,
                )
            yield from filter(None, (parts.password, unquote(parts.password or "")))
