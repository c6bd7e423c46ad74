"""A real HTTP server on this machine that replays bodies and misbehaves on demand.

    with FaultServer() as server:                                  # or the pytest fixture `fault_server`
        server.serve("/v8/finance/chart/AAPL", body)               # 200, application/json
        server.serve("/query", other, query={"function": "OVERVIEW"}, headers={"Content-Type": "text/csv"})
        server.serve("/flaky", b"", status=503, times=2)           # the first two requests, then what comes next
        server.serve("/flaky", body)
        server.serve("/echo", lambda seen: Reply(seen.target.encode()))
        server.fault("/slow", "stall")                             # any name in FAULTS; times= and query= as above
        settings = Settings(VPRISM_PROVIDER_BASE_URLS={"yahoo": server.url_for("yahoo")})
        ...
        server.count("/flaky"), server.count(provider="yahoo"), [seen.at for seen in server.seen("/flaky")]

Which reply: those with `times` left, oldest first; then the newest without `times`; nothing matching is a 404 in JSON.
A path ending in `*` matches every path that begins like it. `query` must be contained in the request's query.
`server.url` is the plain address; `server.url_for("yahoo")` the same server under a prefix by which it tells providers
apart (routes are written without it); `server.tls_url` is an https address where only plain HTTP is spoken.
A test module gets the fixture with `from tests.fault_server import fault_server_fixture  # noqa: F401`.
"""

from __future__ import annotations

import contextlib
import gzip
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

import pytest

Then = Literal["end", "close", "stall", "reset", "repeat"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server sends.

    Attributes:
        body: Bytes after the head.
        headers: Added to Content-Type (JSON unless given) and Content-Length.
        delay: Seconds before the first byte.
        length: Content-Length to claim; default the truth. Ignored by `repeat`, which claims none.
        then: After the body: keep the connection, close it, send nothing more, reset it, or send the body for ever.
        head: False sends no status line and no headers.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    length: int | None = None
    then: Then = "end"
    head: bool = True


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that arrived. `at` is `time.time()`; `target` is path and query as sent, without the prefix."""

    at: float
    method: str
    path: str
    query: Mapping[str, str]
    target: str
    headers: Mapping[str, str]
    body: bytes
    provider: str | None


GOOD = b'{"ok": true, "rows": [[1, 2.5], [2, 3.5]]}'
_GZIPPED = gzip.compress(bytes(range(256)) * 40)
_PAGE = b"<!DOCTYPE html>\n<html><head><title>Yahoo</title></head><body>%s</body></html>"

FAULTS: Mapping[str, Reply | Callable[[Seen], Reply]] = {
    "400": Reply(b'{"error": "bad request"}', 400),
    "401": Reply(b'{"error": "who are you"}', 401),
    "402": Reply(b'{"error": "premium"}', 402),
    "403": Reply(_PAGE % b"Access denied", 403, {"Content-Type": "text/html"}),
    "404": Reply(b'{"error": "not found"}', 404),
    "410": Reply(b"", 410),
    "429": Reply(b"Too Many Requests\r\n", 429, {"Content-Type": "text/plain"}),
    "429_retry_after": Reply(b"Too Many Requests\r\n", 429, {"Content-Type": "text/plain", "Retry-After": "7"}),
    "429_retry_tomorrow": Reply(b"Too Many Requests\r\n", 429, {"Retry-After": "86400"}),
    "500": Reply(b"oops", 500),
    "502": Reply(_PAGE % b"Bad gateway", 502, {"Content-Type": "text/html"}),
    "503": Reply(_PAGE % b"Service unavailable", 503, {"Content-Type": "text/html"}),
    "504": Reply(b"", 504),
    "999": Reply(_PAGE % b"Sorry", 999, {"Content-Type": "text/html"}),
    "slow_headers": Reply(GOOD, delay=60.0),
    "stall": Reply(GOOD[:10], length=len(GOOD), then="stall"),
    "truncated": Reply(GOOD[:10], length=len(GOOD), then="close"),
    "reset_mid_body": Reply(GOOD[:10], length=len(GOOD), then="reset"),
    "reset": Reply(head=False, then="reset"),
    "no_reply": Reply(head=False, then="close"),
    "not_http": Reply(b"SSH-2.0-OpenSSH_9.2\r\n", head=False, then="close"),
    "truncated_gzip": Reply(_GZIPPED[: len(_GZIPPED) // 2], headers={"Content-Encoding": "gzip"}),
    "damaged_gzip": Reply(_GZIPPED[:-8] + bytes(8), headers={"Content-Encoding": "gzip"}),
    "not_gzip": Reply(GOOD, headers={"Content-Encoding": "gzip"}),
    "gzip_bomb": Reply(gzip.compress(bytes(10 << 20), 1) * 30, headers={"Content-Encoding": "gzip"}),
    "brotli": Reply(b"\x0b\x02\x80", headers={"Content-Encoding": "br"}),
    "endless": Reply(b'{"more": 1},' * 5000, then="repeat"),
    "huge": Reply(b"[", length=10 << 30, then="stall"),
    "wrong_content_type": Reply(GOOD, headers={"Content-Type": "text/html; charset=GBK"}),
    "html_200": Reply(_PAGE % b"Will be right back", headers={"Content-Type": "text/html"}),
    "html_as_json": Reply(b"\xef\xbb\xbf\r\n <html><body>Please enable cookies</body></html>"),
    "cloudflare_1015": Reply(_PAGE % b"<h1>Error <span>1015</span></h1>", 403, {"Content-Type": "text/html"}),
    "empty": Reply(),
    "blank": Reply(b" \r\n\t "),
    "no_content": Reply(status=204),
    "redirect_elsewhere": Reply(status=302, headers={"Location": "https://consent.example.com/collect"}),
    "redirect_loop": Reply(status=302, headers={"Location": "?again"}),
    "redirect_nowhere": Reply(status=302, headers={"Location": "http://[::bad"}),
    "nan": Reply(b'{"close": [1.5, NaN]}'),
    "infinity": Reply(b'{"close": [1.5, 1e999]}'),
    "duplicate_keys": Reply(b'{"close": 1, "close": 2}'),
    "cut_json": Reply(GOOD[:-5]),
    "latin1": Reply('{"name": "Société"}'.encode("latin-1")),
    "lone_surrogate": Reply(b'{"name": "\\ud83d"}'),
    "nested": lambda seen: Reply(b"[" * (50 << 20)),
}
"""Faults by name."""


@dataclass(slots=True)
class _Route:
    path: str
    query: Mapping[str, str]
    method: str | None
    answer: Reply | Callable[[Seen], Reply]
    left: int | None

    def matches(self, seen: Seen) -> bool:
        path = seen.path.startswith(self.path[:-1]) if self.path.endswith("*") else seen.path == self.path
        return (
            path
            and self.left != 0
            and self.method in (None, seen.method)
            and all(seen.query.get(name) == value for name, value in self.query.items())
        )


class FaultServer:
    """See the module. It listens from the moment it is made until `close`, and serves from its own threads."""

    def __init__(self) -> None:
        self._routes: list[_Route] = []
        self._seen: list[Seen] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    @property
    def tls_url(self) -> str:
        return f"https://{self.host}"

    def url_for(self, provider: str) -> str:
        return f"{self.url}/~{provider}"

    def serve(
        self,
        path: str,
        answer: bytes | str | Reply | Callable[[Seen], Reply] = GOOD,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        method: str | None = None,
        times: int | None = None,
    ) -> None:
        """Answer requests for `path`. `status` and `headers` go with a body of bytes or text."""
        if isinstance(answer, str):
            answer = answer.encode()
        if isinstance(answer, bytes):
            answer = Reply(answer, status, headers or {})
        with self._lock:
            self._routes.append(_Route(path, query or {}, method, answer, times))

    def fault(self, path: str, name: str, *, query: Mapping[str, str] | None = None, times: int | None = None) -> None:
        """Answer requests for `path` with a fault from FAULTS."""
        self.serve(path, FAULTS[name], query=query, times=times)

    def seen(self, path: str | None = None, *, provider: str | None = None) -> list[Seen]:
        """Requests so far, in order of arrival."""
        with self._lock:
            return [seen for seen in self._seen if path in (None, seen.path) and provider in (None, seen.provider)]

    def count(self, path: str | None = None, *, provider: str | None = None) -> int:
        """How many requests arrived so far."""
        return len(self.seen(path, provider=provider))

    def reset(self) -> None:
        """Forget routes and requests."""
        with self._lock:
            self._routes.clear()
            self._seen.clear()

    def close(self) -> None:
        """Stop; connections that stall are dropped."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _choose(self, seen: Seen) -> Reply:
        with self._lock:
            self._seen.append(seen)
            fitting = [route for route in self._routes if route.matches(seen)]
            limited = [route for route in fitting if route.left is not None]
            if not fitting:
                return Reply(b'{"error": "no such route"}', 404)
            route = limited[0] if limited else fitting[-1]
            if route.left is not None:
                route.left -= 1
        return route.answer if isinstance(route.answer, Reply) else route.answer(seen)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], owner: FaultServer) -> None:
        self.owner = owner
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that give up are the point of this server."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60.0
    server: _Server

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        provider, target = None, self.path
        if target.startswith("/~"):
            provider, _, rest = target[2:].partition("/")
            target = f"/{rest}"
        parts = urlsplit(target)
        seen = Seen(
            at=time.time(),
            method=self.command,
            path=parts.path,
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            target=target,
            headers={name.lower(): value for name, value in self.headers.items()},
            body=body,
            provider=provider,
        )
        with contextlib.suppress(OSError):
            self._send(self.server.owner._choose(seen))

    do_POST = do_GET  # noqa: N815

    def _send(self, reply: Reply) -> None:
        closing = self.server.owner._closing
        if reply.delay and closing.wait(reply.delay):
            self.close_connection = True
            return
        if reply.head:
            self._send_head(reply)
        self.wfile.write(reply.body)
        self.wfile.flush()
        if reply.then == "end":
            return
        self.close_connection = True
        while reply.then == "repeat" and not closing.is_set():
            self.wfile.write(reply.body)
        if reply.then == "stall":
            closing.wait(60.0)
        if reply.then == "reset":  # a close that lingers for no time is a reset
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def _send_head(self, reply: Reply) -> None:
        self.send_response(reply.status, None if reply.status in self.responses else "Fault")
        headers = {"Content-Type": "application/json", **reply.headers}
        if reply.then != "repeat":
            headers["Content-Length"] = str(len(reply.body) if reply.length is None else reply.length)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Tests print what they need themselves."""


@pytest.fixture(name="fault_server")
def fault_server_fixture() -> Iterator[FaultServer]:
    """A server for one test."""
    with FaultServer() as server:
        yield server
