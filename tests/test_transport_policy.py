"""How often the transport asks: retries, circuits, quotas, and what it counts."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from tests.fault_server import GOOD, FaultServer, Reply, Seen, fault_server_fixture  # noqa: F401
from tests.transport_kit import Naps, request, sent, transport
from vprism_pipelines.errors import Blocked, QuotaExhausted, RateLimited, StorageUnwritable
from vprism_pipelines.providers.base import Payload, Quota
from vprism_pipelines.providers.breaker import BreakerPolicy
from vprism_pipelines.providers.http_errors import REASON_HEADER, raise_for_payload
from vprism_pipelines.providers.transport import Transport

# --- retries ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", ["429", "500", "502", "503", "504", "reset", "no_reply", "truncated", "truncated_gzip", "stall"]
)
def test_a_passing_fault_is_retried_with_growing_jittered_pauses(fault_server: FaultServer, fault: str) -> None:
    naps = Naps()
    fault_server.fault("/data", fault, times=3)
    fault_server.serve("/data")
    (payload,) = sent(
        fault_server,
        request("/data"),
        provider_retry_attempts=3,
        provider_backoff_factor=1.5,
        provider_timeout=0.4,
        sleep=naps.sleep,
    )
    assert payload.body == GOOD
    assert fault_server.count("/data") == 4
    assert len(naps.taken) == 3
    assert all(0 <= nap <= 1.5 * 2**number for number, nap in enumerate(naps.taken))


def test_pauses_are_drawn_anew_so_that_clients_do_not_march_in_step(fault_server: FaultServer) -> None:
    naps = Naps()
    fault_server.fault("/data", "500")
    sent(fault_server, *[request("/data")] * 5, provider_retry_attempts=3, sleep=naps.sleep)
    assert len(set(naps.taken)) == len(naps.taken) == 15


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 410, 422, 451, 501])
def test_other_statuses_are_final(fault_server: FaultServer, status: int) -> None:
    fault_server.serve("/data", b"no", status=status)
    (payload,) = sent(fault_server, request("/data"), provider_retry_attempts=3)
    assert (payload.status, fault_server.count()) == (status, 1)


@pytest.mark.parametrize("fault", ["damaged_gzip", "huge", "brotli"])
def test_a_body_that_cannot_be_read_is_not_asked_for_again(fault_server: FaultServer, fault: str) -> None:
    fault_server.fault("/data", fault)
    sent(fault_server, request("/data"), provider_retry_attempts=3)
    assert fault_server.count() == 1


def test_retry_after_is_honoured_in_seconds_and_as_a_date(fault_server: FaultServer) -> None:
    naps = Naps()
    date = format_datetime(datetime.fromtimestamp(naps.now + 27, UTC), usegmt=True)
    fault_server.serve("/data", b"", status=429, headers={"Retry-After": "7"}, times=1)
    fault_server.serve("/data", b"", status=503, headers={"Retry-After": date}, times=1)
    fault_server.serve("/data")
    (payload,) = sent(fault_server, request("/data"), provider_retry_attempts=3, sleep=naps.sleep, clock=naps.clock)
    assert payload.status == 200
    assert naps.taken == pytest.approx([7, 20], abs=0.1)


@pytest.mark.parametrize("value", ["86400", "9" * 5000, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_retry_after_that_is_too_far_away_ends_the_matter(fault_server: FaultServer, value: str) -> None:
    fault_server.serve("/data", b"", status=429, headers={"Retry-After": value})
    (payload,) = sent(fault_server, request("/data"), provider_retry_attempts=3, sleep=Naps().sleep)
    assert (payload.status, fault_server.count()) == (429, 1)
    with pytest.raises(RateLimited) as caught:
        raise_for_payload(payload)
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > 3600


@pytest.mark.parametrize("value", ["soon", "-5", "Thu, 01 Jan 1970 00:00:00 GMT", "", "nan"])
def test_a_retry_after_that_makes_no_sense_does_not_matter(fault_server: FaultServer, value: str) -> None:
    naps = Naps()
    fault_server.serve("/data", b"", status=429, headers={"Retry-After": value}, times=1)
    fault_server.serve("/data")
    (payload,) = sent(fault_server, request("/data"), provider_retry_attempts=1, sleep=naps.sleep)
    assert payload.status == 200
    assert sum(naps.taken) < 1


def test_the_last_answer_is_returned_when_retries_are_used_up(fault_server: FaultServer) -> None:
    fault_server.serve("/data", b"first", status=500, times=1)
    fault_server.serve("/data", b"last", status=503)
    (payload,) = sent(fault_server, request("/data"), provider_retry_attempts=2, sleep=Naps().sleep)
    assert (payload.status, payload.body, fault_server.count()) == (503, b"last", 3)


def test_a_dying_upstream_is_not_hammered(fault_server: FaultServer) -> None:
    """Without a retry budget these would be 400 requests."""
    fault_server.fault("/data", "500")
    sent(fault_server, *[request("/data")] * 100, provider_retry_attempts=3, sleep=Naps().sleep)
    assert 100 <= fault_server.count() <= 135


def test_retries_that_help_are_not_held_against_the_upstream(fault_server: FaultServer) -> None:
    for number in range(60):
        fault_server.fault(f"/{number}", "500", times=2)
        fault_server.serve(f"/{number}")
    asks = [request(f"/{number}") for number in range(60)]
    payloads = sent(fault_server, *asks, provider_retry_attempts=3, sleep=Naps().sleep)
    assert {payload.status for payload in payloads} == {200}


# --- the circuit --------------------------------------------------------------------------------------------------


def test_the_circuit_opens_and_closes_again_after_a_good_probe(fault_server: FaultServer) -> None:
    naps = Naps()
    policy = BreakerPolicy(threshold=3, cooldown=30)

    async def run() -> None:
        async with transport(fault_server, breaker=policy, clock=naps.clock, sleep=naps.sleep) as way_out:
            fault_server.fault("/data", "503")
            assert [(await way_out.send(request("/data"))).status for _ in range(5)] == [503, 503, 503, 0, 0]
            refused = await way_out.send(request("/data"))
            assert refused.error == "UNAVAILABLE"
            assert "circuit open until" in refused.headers[REASON_HEADER]
            assert fault_server.count() == 3
            fault_server.serve("/data")
            assert (await way_out.send(request("/data", provider="other"))).status == 200  # others are not affected
            naps.now += 31
            assert [(await way_out.send(request("/data"))).status for _ in range(3)] == [200, 200, 200]

    asyncio.run(run())


@pytest.mark.parametrize("fault", ["403", "429", "redirect_elsewhere", "999"])
def test_a_circuit_opened_by_blocks_says_blocked(fault_server: FaultServer, fault: str) -> None:
    fault_server.fault("/data", fault)
    *_, refused = sent(fault_server, *[request("/data")] * 4, breaker=BreakerPolicy(threshold=3))
    assert refused.error == "BLOCKED"
    with pytest.raises(Blocked, match="circuit open"):
        raise_for_payload(refused)


@pytest.mark.parametrize("status", [200, 400, 401, 402, 404, 410, 422])
def test_an_upstream_that_answers_keeps_its_circuit_closed(fault_server: FaultServer, status: int) -> None:
    fault_server.serve("/data", b"{}", status=status)
    sent(fault_server, *[request("/data")] * 10, breaker=BreakerPolicy(threshold=2))
    assert fault_server.count() == 10


def test_a_plan_that_forbids_data_in_json_does_not_open_the_circuit(fault_server: FaultServer) -> None:
    fault_server.serve("/data", b'{"quandl_error": {"code": "QEPx04"}}', status=403)
    sent(fault_server, *[request("/data")] * 10, breaker=BreakerPolicy(threshold=2))
    assert fault_server.count() == 10


def test_requests_that_wait_their_turn_see_the_circuit_open(fault_server: FaultServer) -> None:
    fault_server.fault("/data", "503")

    async def run() -> list[Payload]:
        async with transport(fault_server, Quota(concurrency=4), breaker=BreakerPolicy(threshold=3)) as way_out:
            return await asyncio.gather(*(way_out.send(request("/data")) for _ in range(200)))

    payloads = asyncio.run(run())
    assert fault_server.count() <= 3 + 4
    assert {payload.status for payload in payloads} == {503, 0}


def test_an_open_circuit_and_the_day_quota_survive_a_restart(fault_server: FaultServer, tmp_path: Path) -> None:
    fault_server.fault("/data", "503")
    options: dict[str, Any] = {"state_path": tmp_path / "deep" / "state.sqlite", "breaker": BreakerPolicy(threshold=2)}
    sent(fault_server, *[request("/data")] * 2, quota=Quota(per_day=3), **options)
    (refused,) = sent(fault_server, request("/data"), quota=Quota(per_day=3), **options)
    assert "circuit open" in refused.headers[REASON_HEADER]
    options["breaker"] = BreakerPolicy(threshold=2, cooldown_cap=0, probe_lease=0)  # no pause is longer than that
    first, second = sent(fault_server, *[request("/data")] * 2, quota=Quota(per_day=3), **options)
    assert first.status == 503
    assert second.error == "QUOTA_EXHAUSTED"


# --- quotas -------------------------------------------------------------------------------------------------------


def test_a_used_up_day_is_a_payload_that_says_when_to_come_back(fault_server: FaultServer) -> None:
    fault_server.serve("/data")
    *_, last = sent(fault_server, *[request("/data")] * 4, quota=Quota(per_day=3))
    assert fault_server.count() == 3
    with pytest.raises(QuotaExhausted, match="3 of today's 3") as caught:
        raise_for_payload(last)
    assert caught.value.retry_after is not None
    assert 0 <= caught.value.retry_after <= 86_400


def test_every_attempt_draws_on_the_quota_and_so_does_every_redirect(fault_server: FaultServer) -> None:
    fault_server.fault("/flaky", "500", times=2)
    fault_server.serve("/flaky")
    fault_server.serve("/moved", b"", status=302, headers={"Location": "/~demo/data"})
    fault_server.serve("/data")
    flaky, moved, last = sent(
        fault_server,
        request("/flaky"),
        request("/moved"),
        request("/data"),
        quota=Quota(per_day=5),
        provider_retry_attempts=2,
        sleep=Naps().sleep,
    )
    assert (flaky.status, moved.status, last.error) == (200, 200, "QUOTA_EXHAUSTED")


def test_a_request_that_never_leaves_costs_no_quota(fault_server: FaultServer) -> None:
    fault_server.serve("/data")
    asks = [request("/data", headers={"x": "\u4e2d"}), request("/data")]
    refused, answered = sent(fault_server, *asks, quota=Quota(per_day=1))
    assert (refused.status, answered.status) == (0, 200)


def test_the_installation_caps_every_provider(fault_server: FaultServer) -> None:
    naps = Naps()
    fault_server.serve("/data")
    sent(
        fault_server,
        *[request("/data")] * 7,
        quota=Quota(per_minute=1000),
        rate_limit_requests_per_minute=3,
        clock=naps.clock,
        sleep=naps.sleep,
    )
    assert 120 <= sum(naps.taken) <= 125


def test_no_more_requests_are_in_flight_than_the_provider_allows(fault_server: FaultServer) -> None:
    lock, flying, most = threading.Lock(), 0, 0

    def count(seen: Seen) -> Reply:
        nonlocal flying, most
        with lock:
            flying += 1
            most = max(most, flying)
        time.sleep(0.02)
        with lock:
            flying -= 1
        return Reply(GOOD)

    fault_server.serve("/data", count)

    async def run() -> None:
        async with transport(fault_server, Quota(concurrency=3)) as way_out:
            await asyncio.gather(*(way_out.send(request("/data")) for _ in range(30)))

    asyncio.run(run())
    assert most == 3


# --- the rest -----------------------------------------------------------------------------------------------------


def test_one_transport_serves_several_event_loops_one_after_the_other(fault_server: FaultServer) -> None:
    fault_server.serve("/data")
    way_out = transport(fault_server, Quota(per_day=6, concurrency=1))

    async def several(count: int) -> list[int]:
        return [
            payload.status for payload in await asyncio.gather(*(way_out.send(request("/data")) for _ in range(count)))
        ]

    assert asyncio.run(several(3)) == [200] * 3

    async def entered() -> list[int]:
        async with way_out:
            return await several(2)

    assert asyncio.run(entered()) == [200] * 2
    assert asyncio.run(several(2)) == [200, 0]  # in memory, too, the day's count goes on


def test_stats_count_what_happened(fault_server: FaultServer) -> None:
    fault_server.fault("/flaky", "500", times=1)
    fault_server.serve("/flaky")
    fault_server.fault("/dead", "reset")

    async def run() -> Transport:
        async with transport(fault_server, provider_retry_attempts=1, sleep=Naps().sleep) as way_out:
            for path in ("/flaky", "/flaky", "/dead"):
                await way_out.send(request(path))
            await way_out.send(request("/data", headers={"x": "\u4e2d"}))
        return way_out

    stats = asyncio.run(run()).stats()["demo"]
    assert (stats.requests, stats.retries, stats.failures, stats.refused) == (5, 2, 1, 1)
    assert stats.bytes == len(b"oops") + 2 * len(GOOD)
    assert 0 < stats.latency_p50_ms <= stats.latency_p95_ms


def test_a_state_file_that_cannot_be_written_is_reported_as_such(fault_server: FaultServer, tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    path.write_bytes(b"this is not a database, whatever its name says" * 100)
    with pytest.raises(StorageUnwritable, match="quotas"):
        sent(fault_server, request("/data"), state_path=path)


def test_giving_up_on_a_request_frees_its_place(fault_server: FaultServer) -> None:
    fault_server.fault("/slow", "slow_headers")
    fault_server.serve("/data")

    async def run() -> Payload:
        async with transport(fault_server, Quota(concurrency=1)) as way_out:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(way_out.send(request("/slow")), 0.2)
            return await asyncio.wait_for(way_out.send(request("/data")), 1.0)

    assert asyncio.run(run()).status == 200
