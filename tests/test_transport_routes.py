"""Which way requests take: proxies by provider, and a browser's handshake where curl_cffi is installed."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from tests.fault_server import FAULTS, GOOD, FaultServer, Reply, fault_server_fixture  # noqa: F401
from tests.test_transport import EXPECTED, KEY, peak_bytes
from tests.transport_kit import read, request, sent, transport
from vprism_pipelines.errors import InvalidConfiguration, ProviderError
from vprism_pipelines.providers.base import Payload
from vprism_pipelines.providers.http_errors import REASON_HEADER
from vprism_pipelines.providers.transport import Transport
from vprism_pipelines.settings import Settings

ELSEWHERE = {"demo": "http://upstream.test", "other": "http://upstream.test"}


# --- proxies ----------------------------------------------------------------------------------------------------------


def test_a_provider_goes_through_its_own_proxy_and_the_others_do_not(fault_server: FaultServer) -> None:
    fault_server.serve("/data")
    through, beside = sent(
        fault_server,
        request("/data"),
        request("/data", provider="other"),
        provider_base_urls=ELSEWHERE | {"other": fault_server.url},
        proxies={"demo": fault_server.url.replace("//", "//user:pass%2Fword@")},
    )
    first, second = fault_server.seen()
    assert (through.body, beside.body) == (GOOD, GOOD)
    assert (first.target, second.target) == ("http://upstream.test/data", "/data")
    assert first.headers["proxy-authorization"].startswith("Basic ")
    assert "proxy-authorization" not in second.headers


def test_the_password_of_a_proxy_is_a_secret(fault_server: FaultServer) -> None:
    fault_server.serve("/data", b'{"you": "pass/word, pass%2Fword"}')
    proxies = {"demo": fault_server.url.replace("//", "//user:pass%2Fword@")}
    (payload,) = sent(fault_server, request("/data"), provider_base_urls=ELSEWHERE, proxies=proxies)
    assert payload.body == b'{"you": "REDACTED, REDACTED"}'


def test_a_proxy_that_is_down_is_unavailable(fault_server: FaultServer) -> None:
    with FaultServer() as gone:
        proxies = {"demo": gone.url}
    (payload,) = sent(fault_server, request("/data"), provider_base_urls=ELSEWHERE, proxies=proxies)
    assert payload.error == "UNAVAILABLE"


def test_a_proxy_must_be_an_address() -> None:
    with pytest.raises(InvalidConfiguration, match="proxy of demo") as caught:
        Transport(Settings(proxies={"demo": "socks9://x"}), quotas={})
    assert "VPRISM_PROXIES" in caught.value.hint


# --- patience and budget ----------------------------------------------------------------------------------------------


def test_how_long_a_retry_after_may_be_is_a_setting(fault_server: FaultServer) -> None:
    fault_server.fault("/data", "429_retry_after")
    (payload,) = sent(fault_server, request("/data"), provider_retry_attempts=3, provider_patience=6)
    assert (payload.status, fault_server.count()) == (429, 1)


def test_how_many_retries_a_dying_provider_may_cost_is_a_setting(fault_server: FaultServer) -> None:
    for number in range(200):
        fault_server.serve(f"/{number}") if number % 2 else fault_server.fault(f"/{number}", "500")
    asks = [request(f"/{number}") for number in range(200)]
    sent(fault_server, *asks, provider_retry_attempts=3, provider_retry_share=0.1)
    assert fault_server.count() - 200 <= 30 + 0.1 * 100


# --- a browser's handshake --------------------------------------------------------------------------------------------


def worn(server: FaultServer, *paths: str, **options: Any) -> list[Payload]:
    pytest.importorskip("curl_cffi", reason="the extra `impersonate` is not installed")
    return sent(server, *map(request, paths), impersonate={"demo": "chrome"}, **options)


def test_who_wears_a_browsers_handshake_wears_its_headers_too(fault_server: FaultServer) -> None:
    fault_server.serve("/data")
    (payload,) = worn(fault_server, "/data?a=1")
    (seen,) = fault_server.seen()
    assert (payload.body, seen.query) == (GOOD, {"a": "1"})
    assert "Chrome/" in seen.headers["user-agent"]
    assert seen.headers["sec-ch-ua"]


@pytest.mark.timeout(30)
@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_every_fault_ends_in_the_same_typed_error_for_a_browser(fault_server: FaultServer, fault: str) -> None:
    fault_server.fault("/data", fault)
    most, started = peak_bytes(), time.monotonic()
    (payload,) = worn(fault_server, "/data")
    assert time.monotonic() - started < 5
    assert peak_bytes() - most < 256 << 20
    if EXPECTED[fault] is None:
        assert read(payload) == json.loads(GOOD)
        return
    with pytest.raises(ProviderError) as caught:
        read(payload)
    assert type(caught.value) is EXPECTED[fault]
    if payload.error:
        assert payload.headers[REASON_HEADER]


def test_a_browser_follows_redirects_on_the_same_server_only(fault_server: FaultServer) -> None:
    with FaultServer() as elsewhere:
        elsewhere.serve("/data")
        fault_server.serve("/here", b"", status=302, headers={"Location": "/~demo/data"})
        fault_server.serve("/there", b"", status=302, headers={"Location": f"{elsewhere.url}/data"})
        fault_server.serve("/data")
        here, there = worn(fault_server, "/here", "/there")
        assert (here.body, there.status, elsewhere.count()) == (GOOD, 302, 0)


def test_a_browser_hides_keys_too(fault_server: FaultServer) -> None:
    pytest.importorskip("curl_cffi", reason="the extra `impersonate` is not installed")
    fault_server.serve("/data", lambda seen: Reply(json.dumps(dict(seen.query)).encode()))

    async def run() -> Payload:
        async with transport(fault_server, impersonate={"demo": "chrome"}) as way_out:
            return await way_out.send(request("/data"), secrets={"apikey": KEY})

    assert asyncio.run(run()).body == b'{"apikey": "REDACTED"}'


def test_plain_http_on_a_tls_port_is_unavailable_for_a_browser_too(fault_server: FaultServer) -> None:
    (payload,) = worn(fault_server, "/data", provider_base_urls={"demo": fault_server.tls_url})
    assert payload.error == "UNAVAILABLE"
