"""One HTTP exchange, bounded in time and size. Together with the vnstock child, the only code that opens a socket."""

from __future__ import annotations

import asyncio
import logging
import ssl
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec

import httpx

from vprism_pipelines.errors import InvalidConfiguration, Malformed, Unavailable
from vprism_pipelines.settings import Settings

# httpx logs every URL, keys included, and httpcore every response header: nothing of that may reach a handler.
for _name in ("httpx", *(f"httpcore.{part}" for part in ("connection", "http11", "http2", "proxy", "socks"))):
    logging.getLogger(_name).addFilter(lambda record: False)

_CONNECT_SECONDS = 10.0
_MAX_COOKIES = 100
_LOOPBACK = ("all://127.0.0.1", "all://localhost", "all://[::1]")


@dataclass(frozen=True, slots=True)
class Way:
    """How requests of a provider travel.

    Attributes:
        proxy: URL of the proxy they go through; None: the environment's, if it names one.
        browser: Whose TLS handshake they wear; empty: their own.
    """

    proxy: str | None = None
    browser: str = ""

    @classmethod
    def of(cls, provider: str, settings: Settings) -> Way:
        """As configured; nobody can wear a browser's handshake where curl_cffi is not installed."""
        browser = settings.impersonate.get(provider, "")
        return cls(settings.proxies.get(provider), browser if browser and find_spec("curl_cffi") else "")


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP response.

    Attributes:
        headers: Lower-case names.
        body: Without content encoding.
        size: Bytes of body that crossed the wire.
        onward: The request that follows its redirect, when that stays on the same server.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    size: int
    onward: httpx.Request | None


class Wire:
    """A pool of connections. Proxies are honoured, except for this machine itself.

    Args:
        way: How requests travel.
        deadline: Seconds for one exchange, from connecting to the last byte.
        max_body: Bytes of decoded body; longer ones are not read.

    Raises:
        InvalidConfiguration: The environment names a proxy of a kind that is not supported.
    """

    def __init__(self, way: Way, *, deadline: float, max_body: int) -> None:
        self._deadline = deadline
        self._max_body = max_body
        try:
            self._client = httpx.AsyncClient(
                headers={"user-agent": "Mozilla/5.0 (compatible; vprism-pipelines)"},
                timeout=httpx.Timeout(deadline, connect=min(deadline, _CONNECT_SECONDS), pool=None),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=30.0),
                mounts=dict.fromkeys(_LOOPBACK),
                proxy=way.proxy,
                verify=_tls(),
                follow_redirects=False,
            )
        except (ImportError, ValueError) as error:
            raise InvalidConfiguration(
                "the proxy named in the environment cannot be used",
                hint="HTTPS_PROXY, HTTP_PROXY and ALL_PROXY must be http or https URLs, or unset",
                reason=type(error).__name__,
            ) from None

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    def request(
        self,
        method: str,
        url: str,
        *,
        base: str | None,
        params: Mapping[str, str],
        headers: Mapping[str, str],
        body: str | None,
    ) -> httpx.Request:
        """A request ready for `exchange`. Only gzip is accepted, because only gzip is decoded.

        Args:
            method: HTTP method.
            url: The upstream's own URL.
            base: Replaces its scheme, host and port; a path in it goes before the upstream's.
            params: Added to the query of `url`.
            headers: Sent as they are, but for `accept-encoding`.
            body: Text to send as UTF-8.

        Raises:
            Malformed: The method, a header or the URL cannot be sent.
        """
        sent = {name: value for name, value in headers.items() if name.lower() != "accept-encoding"}
        sent["accept-encoding"] = "gzip"
        try:
            target = httpx.URL(url)
            if base is not None:
                mirror = httpx.URL(base)
                target = mirror.copy_with(raw_path=mirror.raw_path.rstrip(b"/") + target.raw_path)
            if params:
                target = target.copy_merge_params(dict(params))
            content = None if body is None else body.encode()
            return self._client.build_request(method, target, headers=sent, content=content)
        except (httpx.InvalidURL, ValueError, TypeError) as error:
            raise Malformed(f"the request cannot be sent: {error}") from error

    async def exchange(self, request: httpx.Request) -> Answer:
        """Send one request and read its answer.

        Raises:
            Unavailable: There was no complete answer in time; trying again may help.
            Malformed: The answer is too large, damaged or in an encoding that was not asked for.
        """
        try:
            async with asyncio.timeout(self._deadline):
                response = await self._client.send(request, stream=True)
                try:
                    body = await self._body(response)
                finally:
                    await response.aclose()
        except (TimeoutError, httpx.TimeoutException) as error:
            raise too_late(self._deadline) from error
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.InvalidURL, ValueError) as error:
            raise Malformed(f"the request cannot be sent: {error}") from error
        except zlib.error as error:
            raise Malformed(f"the compressed body is damaged: {error}") from error
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            raise Unavailable(f"{type(error).__name__}: {error}".rstrip(": ")) from error
        if len(self._client.cookies.jar) > _MAX_COOKIES:
            self._client.cookies.clear()
        onward = response.next_request
        return Answer(
            response.status_code,
            dict(response.headers),
            body,
            response.num_bytes_downloaded,
            onward if onward is not None and same_server(request.url, onward.url) else None,
        )

    async def _body(self, response: httpx.Response) -> bytes:
        body = Body(response.headers, self._max_body)
        async for chunk in response.aiter_raw():
            body.feed(chunk)
        return body.whole()


class Body:
    """A body that arrives piece by piece: decoded, and never longer than allowed.

    Args:
        headers: Of the answer.
        most: Bytes, decoded.

    Raises:
        Malformed: It is in an encoding that was not asked for, says that it is too long, or turns out to be.
        zlib.error: It is damaged.
    """

    def __init__(self, headers: Mapping[str, str], most: int) -> None:
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise Malformed(f"the body is encoded as {encoding}, not gzip")
        self._inflate = None if encoding in ("", "identity") else _Inflate()
        self._most = most
        self._held = bytearray()
        if int(headers.get("content-length", 0)) > most:
            raise too_long(most)

    def feed(self, piece: bytes) -> None:
        """The next piece, as it crossed the wire."""
        room = self._most - len(self._held)
        self._held += piece if self._inflate is None else self._inflate.feed(piece, room + 1)
        if len(self._held) > self._most:
            raise too_long(self._most)

    def whole(self) -> bytes:
        """All of it.

        Raises:
            Unavailable: Something is missing at its end.
        """
        if self._inflate is not None and self._inflate.unfinished:
            raise Unavailable("the compressed body ends early")
        return bytes(self._held)


def too_late(deadline: float) -> Unavailable:
    return Unavailable(f"no complete answer within {deadline:g} s")


def too_long(most: int) -> Malformed:
    return Malformed(f"the body is too large: more than {most} bytes")


def open_wire(way: Way, *, deadline: float, max_body: int) -> Wire:
    """The wire for a way; arguments as for `Wire`."""
    if way.browser:
        from vprism_pipelines.providers.impersonation import BrowserWire

        return BrowserWire(way, deadline=deadline, max_body=max_body)
    return Wire(way, deadline=deadline, max_body=max_body)


class _Inflate:
    """Decodes gzip (several members in a row, too) and zlib piece by piece, never more than asked for."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(zlib.MAX_WBITS | 32)
        self._started = False

    def feed(self, data: bytes, most: int) -> bytes:
        out = bytearray()
        while data and len(out) < most:
            self._started = True
            if self._member.eof:
                if data[0] != 0x1F:  # padding after the last member
                    break
                self._member = zlib.decompressobj(zlib.MAX_WBITS | 32)
            out += self._member.decompress(data, most - len(out))
            data = self._member.unconsumed_tail or self._member.unused_data
        return bytes(out)

    @property
    def unfinished(self) -> bool:
        return self._started and not self._member.eof


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """Reading the certificates takes longer than most requests: once per process is enough."""
    return httpx.create_ssl_context()


def same_server(here: httpx.URL, there: httpx.URL) -> bool:
    if here.host != there.host:
        return False
    upgraded = (here.scheme, there.scheme, here.port, there.port) == ("http", "https", None, None)
    return upgraded or (here.scheme, here.port) == (there.scheme, there.port)
