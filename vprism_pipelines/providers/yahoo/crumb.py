"""The crumb: what Yahoo wants to see beside its cookie before it answers about quotes and profiles.

fc.yahoo.com            sets the cookie (and answers 404)
/v1/test/getcrumb       gives the crumb that belongs to it, as plain text
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from vprism_pipelines.errors import AuthRequired, RateLimited
from vprism_pipelines.providers.base import Payload, Request
from vprism_pipelines.providers.http_errors import REASON_HEADER

if TYPE_CHECKING:
    from vprism_pipelines.providers.transport import Transport

_COOKIE: Final = "https://fc.yahoo.com/"
_CRUMB: Final = "https://query1.finance.yahoo.com/v1/test/getcrumb"
# A throttled getcrumb says "Too Many Requests" with any status; as a crumb that would spoil every later request.
_SOUND: Final = re.compile(rb"[A-Za-z0-9./_\-]{5,40}")
_THROTTLED: Final = re.compile(rb"too many requests", re.IGNORECASE)


class Crumbs:
    """One crumb for all requests of a provider, renewed when Yahoo refuses it."""

    def __init__(self) -> None:
        self._crumb: str | None = None
        self._renewing = asyncio.Lock()

    async def ask(self, transport: Transport, request: Request) -> Payload:
        """The answer to a request that needs a crumb; what stands in the way of one is an answer, too."""
        answer = await self._with(transport, request, self._crumb)
        if answer.status != 401:
            return answer
        return await self._with(transport, request, None)

    async def _with(self, transport: Transport, request: Request, crumb: str | None) -> Payload:
        if crumb is None:
            async with self._renewing:
                obtained = await self._renew(transport, request)
            if isinstance(obtained, Payload):
                return obtained
            crumb = obtained
        return await transport.send(request, secrets={"crumb": crumb})

    async def _renew(self, transport: Transport, request: Request) -> str | Payload:
        """A new crumb, or why there is none, as the answer to `request`."""
        self._crumb = None
        plain = replace(request, method="GET", params={}, body=None, part="")
        await transport.send(replace(plain, url=_COOKIE))
        answer = await transport.send(replace(plain, url=_CRUMB))
        text = answer.body.strip()
        if answer.status == 200 and _SOUND.fullmatch(text):
            self._crumb = text.decode()
            return self._crumb
        if answer.status not in (0, 200):
            return replace(answer, request=request)
        kind = RateLimited if _THROTTLED.search(text) else AuthRequired
        reason = answer.headers.get(REASON_HEADER) or "Yahoo gave no crumb: quotes and profiles need one"
        return replace(
            answer,
            request=request,
            status=0,
            body=b"",
            headers={REASON_HEADER: reason},
            error=answer.error or kind.code,
        )
