"""What a request is when it leaves, and what one exchange leaves behind: cookies, proxies, no second try of its own."""

from __future__ import annotations

import asyncio
import string
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fault_server import GOOD, FaultServer, Reply, Seen, fault_server_fixture  # noqa: F401
from tests.transport_kit import request, sent
from vprism_pipelines.errors import InvalidConfiguration, Malformed, Unavailable
from vprism_pipelines.providers.http_errors import REASON_HEADER
from vprism_pipelines.providers.outgoing import Outgoing
from vprism_pipelines.providers.wire import Answer, Way, open_wire

UPSTREAM = "https://upstream.example"


def leaving(url: str, method: str = "GET", **options: object) -> Outgoing:
    given_ = {"base": None, "params": {}, "headers": {}, "body": None, **options}
    return Outgoing.of(method, url, **given_)  # type: ignore[arg-type]


# --- the request ------------------------------------------------------------------------------------------------------

_PLAIN = string.ascii_letters + string.digits + "-._~!$&'()*+,;=:@/|^"
_TEXT = st.lists(st.one_of(st.sampled_from(_PLAIN), st.sampled_from(["%5E", "%2f", "%C3%BC"]))).map("".join)


@given(path=_TEXT, query=_TEXT)
def test_what_may_stand_in_a_url_leaves_as_it_was_written(path: str, query: str) -> None:
    target = f"/{path}" + (f"?{query}" if query else "")
    assert leaving(UPSTREAM + target).url.raw_path_qs == target


def test_what_may_not_stand_in_a_url_is_escaped() -> None:
    assert leaving(f'{UPSTREAM}/a b/ü"<{{?q=ü {{"#part').url.raw_path_qs == "/a%20b/%C3%BC%22%3C%7B?q=%C3%BC%20{%22"


def test_parameters_join_the_query_and_replace_what_has_their_name() -> None:
    url = leaving(f"{UPSTREAM}/x?a=1&b=&a=2", params={"c": "^ü d", "b": "3"}).url
    assert url.raw_path_qs == "/x?a=1&a=2&b=3&c=%5E%C3%BC+d"


def test_a_mirror_stands_in_for_the_server_and_puts_its_path_before() -> None:
    url = leaving(f"{UPSTREAM}:8443/x%5E?y=1", base="http://mirror.test:81/of/").url
    assert str(url) == "http://mirror.test:81/of/x%5E?y=1"


@given(prefix=st.sampled_from(["", "good.example@", "good.example:443@"]), host=st.sampled_from(["evil.example", "e"]))
def test_the_host_that_is_checked_is_the_host_that_is_asked(prefix: str, host: str) -> None:
    url = leaving(f"https://{prefix}{host}/@good.example/x").url
    assert url.host == host == urlsplit(str(url)).hostname


@pytest.mark.parametrize("url", ["https://a b/", "https://x:port/", "https://x/\n", "https://x/\ud800", "https://x<y/"])
def test_an_address_that_is_none_is_malformed(url: str) -> None:
    with pytest.raises(Malformed, match="cannot be sent"):
        leaving(url)


def test_only_gzip_is_asked_for() -> None:
    assert leaving(UPSTREAM, headers={"Accept-Encoding": "br", "X": "y"}).headers == {
        "X": "y",
        "accept-encoding": "gzip",
    }


@pytest.mark.parametrize(
    ("method", "status", "follows"),
    [("GET", 301, "GET"), ("HEAD", 302, "HEAD"), ("POST", 303, "GET"), ("POST", 302, "GET"), ("POST", 307, "POST")],
)
def test_a_redirect_asks_again_the_way_its_status_says(method: str, status: int, follows: str) -> None:
    onward = leaving(f"{UPSTREAM}/a/b", method, body="x").onward(status, {"location": "../c?d=%5E"})
    assert onward is not None
    assert (onward.method, str(onward.url)) == (follows, f"{UPSTREAM}/c?d=%5E")
    assert onward.body == (b"x" if follows == method else None)


def test_a_redirect_leaves_the_server_for_nobody_but_its_own_tls_port() -> None:
    plain = leaving("http://upstream.example/a")
    assert plain.onward(301, {"location": "https://upstream.example/a"}) is not None
    for there in ("http://other.example/a", "https://upstream.example:444/a", "http://upstream.example:81/a"):
        assert plain.onward(301, {"location": there}) is None
    assert leaving(f"{UPSTREAM}/a").onward(301, {"location": "http://upstream.example/a"}) is None
    with pytest.raises(Unavailable, match="no address"):
        plain.onward(302, {"location": "http://[::bad"})


# --- the exchange -----------------------------------------------------------------------------------------------------


def exchanged(*requests: Outgoing) -> list[Answer]:
    """Answers over one wire, one after the other."""

    async def run() -> list[Answer]:
        wire = open_wire(Way(), deadline=2.0, max_body=1 << 20)
        try:
            return [await wire.exchange(each) for each in requests]
        finally:
            await wire.aclose()

    return asyncio.run(run())


def test_cookies_go_back_to_the_server_that_set_them_and_a_flood_of_them_is_forgotten(
    fault_server: FaultServer,
) -> None:
    def flood(seen: Seen) -> Reply:
        return Reply(GOOD, headers={"Set-Cookie": f"c{seen.query['n']}=a b/=; Path=/"})

    fault_server.serve("/flood", flood)
    exchanged(*(leaving(f"{fault_server.url}/flood?n={number}") for number in range(102)))
    cookies = [seen.headers.get("cookie", "").count("=a b/=") for seen in fault_server.seen()]
    assert cookies[:4] == [0, 1, 2, 3]
    assert max(cookies) == 100
    assert cookies[-1] == 0


def test_a_connection_that_breaks_is_not_asked_twice_behind_the_quotas_back(fault_server: FaultServer) -> None:
    fault_server.serve("/good")
    fault_server.fault("/bad", "no_reply")
    good, bad = sent(fault_server, request("/good"), request("/bad"))
    assert (good.status, bad.error) == (200, "UNAVAILABLE")
    assert fault_server.count("/bad") == 1


def test_a_header_in_any_encoding_is_text(fault_server: FaultServer) -> None:
    fault_server.serve("/data", headers={"ETag": "caf\xe9", "X-Two": "1"})
    (answer,) = exchanged(leaving(f"{fault_server.url}/data"))
    assert (answer.headers["etag"], answer.headers["x-two"], answer.size) == ("café", "1", len(GOOD))


def test_the_reason_of_a_failure_does_not_quote_the_url(fault_server: FaultServer) -> None:
    fault_server.fault("/data", "not_http")
    (payload,) = sent(fault_server, request("/data?plain=words"))
    assert payload.error == "UNAVAILABLE"
    assert "words" not in payload.headers[REASON_HEADER]


def test_the_environments_proxy_is_used_but_not_for_hosts_it_excepts(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", fault_server.url.removeprefix("http://"))
    monkeypatch.setenv("NO_PROXY", "beside.test")
    fault_server.serve("/data")
    (through,) = exchanged(leaving("http://upstream.test/data"))
    assert (through.body, fault_server.seen()[0].target) == (GOOD, "http://upstream.test/data")
    with pytest.raises(Unavailable):
        exchanged(leaving("http://beside.test/data"))
    assert fault_server.count() == 1


@pytest.mark.parametrize("proxy", ["socks5://u:word@127.0.0.1:9", "http://u:word@127.0.0.1:port"])
def test_a_proxy_that_is_no_http_address_is_refused_and_not_quoted(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(InvalidConfiguration) as caught:
        exchanged()
    assert "HTTPS_PROXY" in caught.value.hint
    assert "word" not in repr(caught.value.to_dict())
