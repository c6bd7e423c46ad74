"""A wire that shakes hands like a browser, for upstreams that turn other TLS clients away. Needs curl_cffi."""

from __future__ import annotations

import asyncio
import zlib

from curl_cffi import CurlECode, CurlOpt
from curl_cffi.requests import AsyncSession
from curl_cffi.requests.exceptions import InvalidHeader, InvalidURL, RequestException, Timeout

from vprism_pipelines.errors import Malformed, Unavailable
from vprism_pipelines.providers.outgoing import Outgoing
from vprism_pipelines.providers.wire import Answer, Body, Way, too_late, too_long

__all__ = ["BrowserWire"]

# What the browser says itself, or the connection decides; a client of another kind would give itself away by them.
_OWN = frozenset({"host", "connection", "user-agent", "accept", "content-length"})
_STOP = 0xFFFFFFFF  # CURL_WRITEFUNC_ERROR


class BrowserWire:
    """A wire with a browser's TLS and HTTP/2 handshake and its headers; arguments as for `open_wire`."""

    def __init__(self, way: Way, *, deadline: float, max_body: int) -> None:
        self._deadline = deadline
        self._max_body = max_body
        self._session = AsyncSession(
            impersonate=way.browser,
            proxies={"all": way.proxy} if way.proxy else None,
            timeout=deadline,
            allow_redirects=False,
            max_clients=32,
            # curl takes half a gzip stream for a whole one, so the decoding is ours.
            curl_options={CurlOpt.HTTP_CONTENT_DECODING: 0, CurlOpt.MAXFILESIZE_LARGE: max_body},
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def exchange(self, request: Outgoing) -> Answer:
        """As `Wire.exchange`."""
        raw = bytearray()

        def take(piece: bytes) -> int:
            raw.extend(piece)
            return len(piece) if len(raw) <= self._max_body else _STOP

        try:
            async with asyncio.timeout(self._deadline):
                response = await self._session.request(
                    request.method,
                    str(request.url),
                    headers={name: value for name, value in request.headers.items() if name.lower() not in _OWN},
                    data=request.body or None,
                    content_callback=take,
                )
            headers = {name.lower(): value for name, value in response.headers.items() if value is not None}
            body = Body(headers, self._max_body)
            body.feed(bytes(raw))
        except (TimeoutError, Timeout) as error:
            raise too_late(self._deadline) from error
        except zlib.error as error:
            raise Malformed(f"the compressed body is damaged: {error}") from error
        except (InvalidURL, InvalidHeader) as error:
            raise Malformed(f"the request cannot be sent: {error}") from error
        except (RequestException, OSError) as error:
            if len(raw) > self._max_body or getattr(error, "code", 0) == CurlECode.FILESIZE_EXCEEDED:
                raise too_long(self._max_body) from error
            raise Unavailable(f"{type(error).__name__}: {error}") from error
        onward = request.onward(response.status_code, headers)
        return Answer(response.status_code, headers, body.whole(), len(raw), onward)
