"""One HTTP exchange, bounded in time and size. Together with the vnstock child, the only code that opens a socket."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from typing import Protocol
from urllib.request import getproxies, proxy_bypass

import certifi
from aiohttp import (
    ClientError,
    ClientHandlerType,
    ClientOSError,
    ClientRequest,
    ClientResponse,
    ClientResponseError,
    ClientSession,
    ClientTimeout,
    CookieJar,
    ServerDisconnectedError,
    TCPConnector,
)
from yarl import URL

from vprism_pipelines.errors import InvalidConfiguration, Malformed, Unavailable
from vprism_pipelines.providers.outgoing import Outgoing
from vprism_pipelines.settings import Settings

# The client's lines quote cookies and connections, proxies with their passwords: none may reach a handler.
for _name in ("aiohttp.client", "aiohttp.internal"):
    logging.getLogger(_name).addFilter(lambda record: False)

_CONNECT_SECONDS = 10.0
_MAX_COOKIES = 100
_MAX_HEADER = 64 << 10
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


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
        return cls(settings.proxies.get(provider), browser if browser and _impersonates() else "")


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
    onward: Outgoing | None


class Wire(Protocol):
    """A pool of connections. Proxies are honoured, except for this machine itself."""

    async def exchange(self, request: Outgoing) -> Answer:
        """Send one request and read its answer.

        Raises:
            Unavailable: There was no complete answer in time; trying again may help.
            Malformed: The answer is too large, damaged or in an encoding that was not asked for.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


def open_wire(way: Way, *, deadline: float, max_body: int) -> Wire:
    """The wire for a way, in the running event loop.

    Args:
        way: How requests travel.
        deadline: Seconds for one exchange, from connecting to the last byte.
        max_body: Bytes of decoded body; longer ones are not read.

    Raises:
        InvalidConfiguration: The environment names a proxy of a kind that is not supported.
    """
    proxies = _proxies(way)
    if way.browser:
        from vprism_pipelines.providers.impersonation import BrowserWire

        return BrowserWire(way, deadline=deadline, max_body=max_body)
    return PlainWire(proxies, bypasses=way.proxy is None, deadline=deadline, max_body=max_body)


class PlainWire:
    """A wire that says who it is.

    Args:
        proxies: By the scheme of the URLs that go through them; `all` for the others.
        bypasses: Whether the environment names hosts that are reached without one.
        deadline: As for `open_wire`.
        max_body: As for `open_wire`.
    """

    def __init__(self, proxies: Mapping[str, URL], *, bypasses: bool, deadline: float, max_body: int) -> None:
        self._deadline = deadline
        self._max_body = max_body
        self._proxies = proxies
        self._bypasses = bypasses
        self._session = ClientSession(
            connector=TCPConnector(limit=0, keepalive_timeout=30.0, ssl=_tls()),
            headers={"user-agent": "Mozilla/5.0 (compatible; vprism-pipelines)"},
            skip_auto_headers=("content-type",),
            timeout=ClientTimeout(total=None, sock_connect=min(deadline, _CONNECT_SECONDS)),
            # A mirror on a bare address has cookies, too; they go back as they came.
            cookie_jar=CookieJar(unsafe=True, quote_cookie=False),
            auto_decompress=False,
            max_line_size=_MAX_HEADER,
            max_field_size=_MAX_HEADER,
            middlewares=(_once,),
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def exchange(self, request: Outgoing) -> Answer:
        """As `Wire.exchange`."""
        try:
            async with (
                asyncio.timeout(self._deadline),
                self._session.request(
                    request.method,
                    request.url,
                    headers=request.headers,
                    data=request.body,
                    allow_redirects=False,
                    proxy=self._proxy(request.url),
                ) as response,
            ):
                headers = _headers(response)
                body, size = Body(headers, self._max_body), 0
                async for piece in response.content.iter_any():
                    size += len(piece)
                    body.feed(piece)
                whole = body.whole()
        # Neither text nor chain of the client's own errors is shown: they quote the URL.
        except TimeoutError:
            raise too_late(self._deadline) from None
        except zlib.error as error:
            raise Malformed(f"the compressed body is damaged: {error}") from error
        except ClientResponseError as error:
            raise Unavailable(f"{type(error).__name__}: {error.message}") from None
        except (ClientError, OSError) as error:
            raise Unavailable(f"{type(error).__name__}: {error}".rstrip(": ")) from None
        except ValueError as error:
            raise Malformed(f"the request cannot be sent: {error}") from None
        if len(self._session.cookie_jar) > _MAX_COOKIES:
            self._session.cookie_jar.clear()
        return Answer(response.status, headers, whole, size, request.onward(response.status, headers))

    def _proxy(self, url: URL) -> URL | None:
        host = url.host or ""
        if not self._proxies or host in _LOOPBACK or (self._bypasses and proxy_bypass(host)):
            return None
        return self._proxies.get(url.scheme) or self._proxies.get("all")


async def _once(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """The client would ask again by itself when a connection breaks, and the provider's quota would not know."""
    try:
        return await handler(request)
    except (ClientOSError, ServerDisconnectedError) as error:
        raise Unavailable(f"{type(error).__name__}: {error}") from None


def _headers(response: ClientResponse) -> dict[str, str]:
    found: dict[str, str] = {}
    for raw_name, raw_value in response.raw_headers:
        name = raw_name.decode("latin-1").lower()
        try:
            value = raw_value.decode()
        except UnicodeDecodeError:
            value = raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _proxies(way: Way) -> dict[str, URL]:
    """The way's own proxy, or those that the environment names, by the scheme of URLs that go through them."""
    named = {"all": way.proxy} if way.proxy else getproxies()
    try:
        proxies = {
            scheme: URL(url if "://" in url else f"http://{url}")
            for scheme, url in named.items()
            if scheme in ("http", "https", "all")
        }
        if wrong := [url.scheme for url in proxies.values() if url.scheme not in ("http", "https")]:
            raise ValueError(wrong[0])
    except ValueError:
        raise InvalidConfiguration(
            "the proxy named in the environment cannot be used",
            hint="HTTPS_PROXY, HTTP_PROXY and ALL_PROXY must be http or https URLs, or unset",
        ) from None
    return proxies


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
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    context = ssl.create_default_context(cafile=file or (None if folder else certifi.where()), capath=folder)
    context.set_alpn_protocols(["http/1.1"])
    return context


@cache
def _impersonates() -> bool:
    return find_spec("curl_cffi") is not None
