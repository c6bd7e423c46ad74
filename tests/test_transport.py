"""What a provider can rely on when it sends: every outcome is a payload, every failure has a type, no key gets out."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import logging
import os
import random
import re
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.fault_server import FAULTS, GOOD, FaultServer, Reply, Seen, fault_server_fixture  # noqa: F401
from tests.transport_kit import read, request, sent, transport
from vprism_pipelines.errors import (
    AuthRequired,
    Blocked,
    InvalidConfiguration,
    Malformed,
    NotFound,
    PremiumRequired,
    ProviderError,
    RateLimited,
    Retired,
    Unavailable,
)
from vprism_pipelines.providers.base import Payload
from vprism_pipelines.providers.http_errors import REASON_HEADER, raise_for_payload
from vprism_pipelines.providers.transport import Transport
from vprism_pipelines.settings import Settings

# What each fault of the server must end as; None: a good answer.
EXPECTED: Mapping[str, type[ProviderError] | None] = {
    "400": ProviderError,
    "401": AuthRequired,
    "402": PremiumRequired,
    "403": Blocked,
    "404": NotFound,
    "410": Retired,
    "429": RateLimited,
    "429_retry_after": RateLimited,
    "429_retry_tomorrow": RateLimited,
    "500": Unavailable,
    "502": Unavailable,
    "503": Unavailable,
    "504": Unavailable,
    "999": Blocked,
    "slow_headers": Unavailable,
    "stall": Unavailable,
    "truncated": Unavailable,
    "reset_mid_body": Unavailable,
    "reset": Unavailable,
    "no_reply": Unavailable,
    "not_http": Unavailable,
    "truncated_gzip": Unavailable,
    "damaged_gzip": Malformed,
    "not_gzip": Malformed,
    "gzip_bomb": Malformed,
    "brotli": Malformed,
    "endless": Malformed,
    "huge": Malformed,
    "wrong_content_type": None,
    "html_200": Blocked,
    "html_as_json": Blocked,
    "cloudflare_1015": RateLimited,
    "empty": Malformed,
    "blank": Malformed,
    "no_content": Malformed,
    "redirect_elsewhere": Blocked,
    "redirect_loop": Blocked,
    "redirect_nowhere": Unavailable,
    "nan": Malformed,
    "infinity": Malformed,
    "duplicate_keys": Malformed,
    "cut_json": Malformed,
    "latin1": Malformed,
    "lone_surrogate": Malformed,
    "nested": Malformed,
}
KEY = "QX7/secret+Key=93zz"


# --- answers and faults -------------------------------------------------------------------------------------------


def test_a_good_answer_is_returned_byte_for_byte(fault_server: FaultServer) -> None:
    fault_server.serve("/data", headers={"Content-Type": "application/json", "Set-Cookie": "a=b", "X-Powered-By": "x"})
    ask = request("/data")
    (payload,) = sent(fault_server, ask)
    assert (payload.status, payload.body, payload.error, payload.request) == (200, GOOD, None, ask)
    assert payload.headers["content-type"] == "application/json"
    assert not {"set-cookie", "x-powered-by"} & set(payload.headers)
    assert abs(payload.fetched_at - datetime.now(UTC)) < timedelta(seconds=10)
    assert payload.latency_ms > 0
    assert read(payload) == json.loads(GOOD)


def test_a_gzipped_answer_is_decoded_member_by_member(fault_server: FaultServer) -> None:
    members = gzip.compress(GOOD[:7]) + gzip.compress(GOOD[7:]) + b"\0" * 12
    fault_server.serve("/data", members, headers={"Content-Encoding": "gzip"})
    assert sent(fault_server, request("/data"))[0].body == GOOD


def test_every_fault_of_the_server_has_an_expected_end() -> None:
    assert set(EXPECTED) == set(FAULTS)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_every_fault_ends_in_the_right_typed_error_and_soon(fault_server: FaultServer, fault: str) -> None:
    fault_server.fault("/data", fault)
    most, started = peak_bytes(), time.monotonic()
    (payload,) = sent(fault_server, request("/data"))
    assert time.monotonic() - started < 5
    assert peak_bytes() - most < 256 << 20
    assert (payload.status == 0) == (payload.error is not None)
    if EXPECTED[fault] is None:
        assert read(payload) == json.loads(GOOD)
        return
    with pytest.raises(ProviderError) as caught:
        read(payload)
    assert type(caught.value) is EXPECTED[fault]
    assert caught.value.hint
    assert caught.value.context["provider"] == "demo"
    if payload.error:
        assert payload.body == b""
        assert payload.headers[REASON_HEADER]


def test_a_port_nobody_listens_on_is_unavailable(fault_server: FaultServer) -> None:
    with FaultServer() as gone:
        url = gone.url
    (payload,) = sent(fault_server, request("/data"), provider_base_urls={"demo": url})
    assert payload.error == "UNAVAILABLE"


def test_plain_http_on_a_tls_port_is_unavailable(fault_server: FaultServer) -> None:
    (payload,) = sent(fault_server, request("/data"), provider_base_urls={"demo": fault_server.tls_url})
    assert payload.error == "UNAVAILABLE"
    assert "SSL" in payload.headers[REASON_HEADER]


@pytest.mark.parametrize(
    "broken",
    [
        {"url": "https://exa mple.com:port/"},
        {"headers": {"x": "line\nbreak"}},
        {"headers": {"x": "\u4e2d"}},
        {"method": "GET /\r\n"},
        {"body": "\ud800"},
        {"url": ""},
        {"url": "ftp://upstream.example/x"},
    ],
    ids=lambda broken: next(iter(broken)),
)
def test_a_request_that_cannot_be_sent_is_a_payload_too(fault_server: FaultServer, broken: dict[str, Any]) -> None:
    bases = {} if "url" in broken else {"demo": fault_server.url}
    (payload,) = sent(fault_server, request("/data", **broken), provider_base_urls=bases)
    assert payload.status == 0
    assert payload.error in ("MALFORMED", "BLOCKED")
    with pytest.raises(ProviderError):
        raise_for_payload(payload)


def test_a_body_up_to_the_limit_passes_and_one_byte_more_does_not(fault_server: FaultServer) -> None:
    fault_server.serve("/fits", b"x" * 1000)
    fault_server.serve("/too-large", b"x" * 1001)
    fits, too_large = sent(fault_server, request("/fits"), request("/too-large"), max_body=1000)
    assert len(fits.body) == 1000
    assert too_large.error == "MALFORMED"
    assert "too large" in too_large.headers[REASON_HEADER]


def test_a_drip_of_bytes_ends_with_the_deadline(fault_server: FaultServer) -> None:
    fault_server.serve("/drip", lambda seen: Reply(b"x", delay=0.2, length=100, then="stall"))
    started = time.monotonic()
    (payload,) = sent(fault_server, request("/drip"), provider_timeout=0.5)
    assert payload.error == "UNAVAILABLE"
    assert time.monotonic() - started < 2


def test_three_hundred_requests_under_fire_end_typed_bounded_and_silent(
    fault_server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    """16 in flight, a fault on most, the upstream echoing the key wherever it can."""
    slow = ["stall", "slow_headers", "endless", "huge"]
    quick = sorted(set(FAULTS) - {*slow, "nested", "gzip_bomb"})

    def misbehave(seen: Seen) -> Reply:
        dice = random.Random(seen.path)
        if dice.random() < 0.25:
            said = {"url": seen.target, "key": KEY, "header": dict(seen.headers), "padding": "x" * 300_000}
            return Reply(json.dumps(said).encode())
        answer = FAULTS[dice.choice(slow if dice.random() < 0.04 else quick)]
        assert isinstance(answer, Reply)
        return replace(answer, headers={**answer.headers, "Server": f"echo {KEY}"})

    fault_server.serve("/fire/*", misbehave)
    secrets = {"apikey": KEY, "x-api-token": KEY}
    ends: list[str] = []
    leaks: list[str] = []
    caplog.set_level(logging.DEBUG)
    for name in ("aiohttp.client", "aiohttp.internal", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)

    async def one(way_out: Transport, number: int) -> None:
        payload = await way_out.send(request(f"/fire/{number}"), secrets=secrets)
        texts = [payload.request.to_json(), repr(payload), payload.body.decode("utf-8", "replace")]
        try:
            read(payload)
            ends.append("ok")
        except ProviderError as error:
            texts += [str(error), repr(error), json.dumps(error.to_dict())]
            ends.append(error.code)
        leaks.extend(text[:200] for text in texts if _spells_key(text))

    async def run() -> list[int]:
        sizes = []
        async with transport(
            fault_server,
            provider_timeout=0.6,
            provider_retry_attempts=1,
            sleep=lambda seconds: asyncio.sleep(min(seconds, 0.01)),
            max_body=1 << 20,
        ) as way_out:
            for batch in range(3):
                await asyncio.gather(*(one(way_out, 100 * batch + number) for number in range(100)))
                gc.collect()
                sizes.append(resident_bytes())
            assert not _spells_key(repr(way_out.stats()))
        return sizes

    started = time.monotonic()
    sizes = asyncio.run(run())
    assert time.monotonic() - started < 40
    assert len(ends) == 300
    assert "ok" in ends
    assert len(set(ends)) >= 6
    assert sizes[2] - sizes[0] < 12 << 20, sizes  # keeping the 50 padded bodies of two batches would take 15 MB
    assert not leaks
    assert not _spells_key(caplog.text)
    assert any(record.name.endswith("transport") for record in caplog.records)


def peak_bytes() -> int:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def resident_bytes() -> int:
    """Memory of this process; always 0 where there is no /proc."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


def _spells_key(text: str) -> bool:
    spellings = (KEY, KEY.replace("/", "\\/"), "QX7%2Fsecret%2BKey%3D93zz", "QX7/secret%2BKey=93zz")
    return any(spelling.lower() in text.lower() for spelling in spellings)


# --- secrets ------------------------------------------------------------------------------------------------------


def test_secrets_arrive_as_query_parameters_or_headers(fault_server: FaultServer) -> None:
    fault_server.serve("/data")

    async def run() -> Payload:
        async with transport(fault_server) as way_out:
            return await way_out.send(request("/data?a=1", params={"b": "2"}), secrets={"apikey": KEY, "x-token": KEY})

    payload = asyncio.run(run())
    (seen,) = fault_server.seen("/data")
    assert seen.query == {"a": "1", "b": "2", "apikey": KEY}
    assert seen.headers["x-token"] == KEY
    assert not _spells_key(payload.request.to_json())


@pytest.mark.parametrize(
    "echo",
    [KEY, KEY.upper(), "QX7%2fsecret%2bKey%3D93zz", "QX7\\/secret+Key=93zz", "QX7\\u002fsecret\\u002BKey\\u003d93zz"],
)
def test_an_echoed_key_is_redacted_before_the_payload_exists(fault_server: FaultServer, echo: str) -> None:
    body = f'{{"Information": "We have detected your API key as {echo} and our standard limit is 25."}}'
    fault_server.serve("/data", body, headers={"Location": f"/x?apikey={echo}", "ETag": echo})

    async def run() -> Payload:
        async with transport(fault_server, alpha_vantage_api_key=KEY) as way_out:
            return await way_out.send(request("/data"))

    payload = asyncio.run(run())
    expected = body.replace(echo, "REDACTED").encode()
    assert payload.body == expected
    assert payload.headers["location"] == "/x?apikey=REDACTED"
    assert payload.headers["etag"] == "REDACTED"


def test_a_key_in_a_broken_status_line_is_redacted_from_the_reason(fault_server: FaultServer) -> None:
    fault_server.serve("/data", lambda seen: Reply(f"NOPE {seen.target}\r\n\r\n".encode(), head=False, then="close"))

    async def run() -> Payload:
        async with transport(fault_server) as way_out:
            return await way_out.send(request("/data"), secrets={"apikey": "PLAINKEY123456"})

    payload = asyncio.run(run())
    assert payload.error == "UNAVAILABLE"
    assert "REDACTED" in payload.headers[REASON_HEADER]
    assert "PLAINKEY123456" not in repr(payload)


# --- where requests may go ----------------------------------------------------------------------------------------


def test_offline_sends_nothing(fault_server: FaultServer) -> None:
    fault_server.serve("/data")
    (payload,) = sent(fault_server, request("/data"), offline=True)
    assert fault_server.count() == 0
    with pytest.raises(Unavailable, match="offline"):
        raise_for_payload(payload)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/x",
        "https://good.example@evil.example/x",
        "https://good.example.evil.example/x",
        "https://notgood.example/x",
        "http://good.example/x",
        "file:///etc/passwd",
    ],
)
def test_only_allowed_hosts_are_contacted_and_only_over_https(fault_server: FaultServer, url: str) -> None:
    (payload,) = sent(fault_server, request("", url=url), provider_base_urls={}, hosts={"demo": ("good.example",)})
    assert payload.error == "BLOCKED"
    assert "egress" in payload.headers[REASON_HEADER]


def test_a_provider_without_allowed_hosts_goes_nowhere(fault_server: FaultServer) -> None:
    (payload,) = sent(fault_server, request("/data"), provider_base_urls={})
    assert payload.error == "BLOCKED"


def test_an_allowed_host_is_contacted(fault_server: FaultServer) -> None:
    """The TLS handshake with a plain server fails, but it was tried."""
    ask = request("", url=f"{fault_server.tls_url}/data")
    (payload,) = sent(fault_server, ask, provider_base_urls={}, hosts={"demo": ("127.0.0.1",)})
    assert payload.error == "UNAVAILABLE"


def test_a_base_url_keeps_path_query_method_and_body(fault_server: FaultServer) -> None:
    fault_server.serve("/a%20b/c")
    ask = request("/a%20b/c?x=%5EGSPC&y=", params={"z": "a b&c"}, method="POST", body='{"k": "ü"}')
    (payload,) = sent(fault_server, ask)
    (seen,) = fault_server.seen(provider="demo")
    assert payload.status == 200
    assert payload.request.url.startswith("https://upstream.example/")
    assert (seen.method, seen.query, seen.body) == (
        "POST",
        {"x": "^GSPC", "y": "", "z": "a b&c"},
        '{"k": "ü"}'.encode(),
    )


def test_a_base_url_must_be_one() -> None:
    with pytest.raises(InvalidConfiguration, match="yahoo"):
        Transport(Settings(provider_base_urls={"yahoo": "localhost:8080"}), quotas={})


def test_redirects_are_followed_on_the_same_server_only(fault_server: FaultServer) -> None:
    with FaultServer() as elsewhere:
        elsewhere.serve("/data")
        fault_server.serve("/here", b"", status=302, headers={"Location": "/~demo/data"})
        fault_server.serve("/there", b"", status=302, headers={"Location": f"{elsewhere.url}/data"})
        fault_server.serve("/data")
        here, there = sent(fault_server, request("/here"), request("/there"))
        assert here.body == GOOD
        assert there.status == 302
        assert elsewhere.count() == 0
    with pytest.raises(Blocked):
        raise_for_payload(there)


def test_a_proxy_in_the_environment_does_not_stand_before_this_machine(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    fault_server.serve("/data")
    assert sent(fault_server, request("/data"))[0].status == 200


def test_a_proxy_that_cannot_be_used_is_a_configuration_error(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://user:password@127.0.0.1:9")
    with pytest.raises(InvalidConfiguration, match="proxy") as caught:
        sent(fault_server, request("/data"))
    assert "password" not in repr(caught.value.to_dict())


# --- the module ---------------------------------------------------------------------------------------------------


def test_importing_the_transport_does_not_import_the_client() -> None:
    code = "import sys, vprism_pipelines.providers.transport; print('aiohttp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"


def test_nothing_else_opens_a_socket() -> None:
    """Only the two wires import an HTTP client; the vnstock child has its own process."""
    package = Path(__file__).parent.parent / "vprism_pipelines"
    client = re.compile(
        r"^\s*(import|from)\s+(httpx|requests|urllib\.request|http\.client|aiohttp|curl_cffi)\b", re.MULTILINE
    )
    users = {
        path.name
        for path in (package / "providers").rglob("*.py")
        if client.search(path.read_text(encoding="utf-8")) and not path.name.startswith("vnstock")
    }
    assert users <= {"wire.py", "impersonation.py", "transport.py"}
