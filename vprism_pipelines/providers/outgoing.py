"""A request as it leaves: the upstream's own address or its mirror's, and only what may stand in a header. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from yarl import URL

from vprism_pipelines.errors import Malformed, Unavailable

__all__ = ["Outgoing"]

# Escapes that are there already stay as they are: some upstreams tell `%5E` from `^`.
_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F)))
_IN_QUERY: Final = _PRINTABLE.translate(dict.fromkeys(map(ord, '"#<>')))
_IN_PATH: Final = _IN_QUERY.translate(dict.fromkeys(map(ord, "?`{}")))
_HOST: Final = re.compile(r"[0-9a-z._:-]*")
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t -~]*")
_REDIRECTS: Final = (301, 302, 303, 307, 308)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request ready to be sent. Only gzip is accepted, because only gzip is decoded."""

    method: str
    url: URL
    headers: Mapping[str, str]
    body: bytes | None

    @classmethod
    def of(
        cls,
        method: str,
        url: str,
        *,
        base: str | None,
        params: Mapping[str, str],
        headers: Mapping[str, str],
        body: str | None,
    ) -> Outgoing:
        """The request for a URL.

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
            if not _NAME.fullmatch(method):
                raise ValueError("the method is no word")
            if wrong := [name for name in sent if not (_NAME.fullmatch(name) and _VALUE.fullmatch(sent[name]))]:
                raise ValueError(f"not a header: {wrong[0]!r}")
            target = _address(url, base, params)
            return cls(method, target, sent, None if body is None else body.encode())
        except (ValueError, TypeError) as error:
            raise Malformed(f"the request cannot be sent: {error}") from error

    def onward(self, status: int, headers: Mapping[str, str]) -> Outgoing | None:
        """The request that follows an answer's redirect, when it stays on the same server.

        Raises:
            Unavailable: The answer redirects to no address.
        """
        if status not in _REDIRECTS or "location" not in headers:
            return None
        try:
            there = self.url.join(URL(quote(headers["location"], safe=_PRINTABLE), encoded=True))
            if not _same_server(self.url, there):
                return None
        except ValueError as error:
            raise Unavailable(f"redirected to no address: {error}") from error
        if status >= 307 or self.method in ("GET", "HEAD"):
            return replace(self, url=there)
        return replace(self, url=there, method="GET", body=None)


def _address(url: str, base: str | None, params: Mapping[str, str]) -> URL:
    """The URL to ask. What it is checked by is what it is sent to: it is taken apart once."""
    if not url.isprintable():
        raise ValueError("the URL is not printable")
    asked = urlsplit(url)
    query = asked.query
    if params:
        query = urlencode({**parse_qs(query, keep_blank_values=True), **params}, doseq=True)
    server = asked if base is None else urlsplit(base)
    path = asked.path if base is None else server.path.rstrip("/") + asked.path
    origin = URL(f"{server.scheme}://{server.netloc}")
    if not _HOST.fullmatch(origin.raw_host or ""):
        raise ValueError("the URL names no host")
    return URL.build(
        scheme=origin.scheme,
        authority=origin.raw_authority,
        path=quote(path, safe=_IN_PATH) or "/",
        query_string=quote(query, safe=_IN_QUERY),
        encoded=True,
    )


def _same_server(here: URL, there: URL) -> bool:
    upgraded = (here.scheme, here.port, there.scheme, there.port) == ("http", 80, "https", 443)
    return here.host == there.host and (upgraded or (here.scheme, here.port) == (there.scheme, there.port))
