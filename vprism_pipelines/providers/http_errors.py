"""The first two lines of every parser: is this an answer at all, and is it sound JSON? Pure.

raise_for_payload(payload)   what the transport, the HTTP status or a web page say went wrong, as a typed error
load_json(payload)           the body as plain data, or Malformed
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any

from vprism_pipelines.errors import (
    AuthRequired,
    Blocked,
    Malformed,
    NoData,
    NotFound,
    PremiumRequired,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    Retired,
    Unavailable,
)
from vprism_pipelines.providers.base import Payload

REASON_HEADER = "x-vprism-reason"
"""Header in which the transport explains a payload that has no HTTP status."""

MAX_JSON_BYTES = 52 << 20
MAX_DEPTH = 100
MAX_CONTAINERS = 4_000_000
"""Arrays and objects in one body: each costs 64 bytes of memory or more, for two bytes of text."""

_YEAR = 366 * 86_400.0

_BY_CODE: Mapping[str, type[ProviderError]] = MappingProxyType(
    {
        kind.code: kind
        for kind in (
            AuthRequired,
            Blocked,
            Malformed,
            NoData,
            NotFound,
            PremiumRequired,
            QuotaExhausted,
            RateLimited,
            Retired,
            Unavailable,
        )
    }
)
_BY_STATUS: Mapping[int, type[ProviderError]] = MappingProxyType(
    {
        401: AuthRequired,
        402: PremiumRequired,
        403: Blocked,
        404: NotFound,
        408: Unavailable,
        410: Retired,
        425: Unavailable,
        429: RateLimited,
        451: Blocked,
        456: Blocked,  # Sina bans an address with it
        999: Blocked,  # Yahoo does
    }
)
_HINTS: Mapping[type[ProviderError], str] = MappingProxyType(
    {
        AuthRequired: "check the API key in the settings",
        Blocked: "the provider refuses this address or client: wait, slow down, or ask from another network",
        Malformed: "replay the archived payload to see what came; the provider's format may have changed",
        NotFound: "check the symbol, and whether it is listed under another one",
        PremiumRequired: "this needs a paid plan of the provider",
        QuotaExhausted: "run again after the allowance resets",
        RateLimited: "wait, or lower RATE_LIMIT_REQUESTS_PER_MINUTE",
        Retired: "the provider closed this endpoint: use another provider",
        Unavailable: "the provider or the network is down: run again later",
    }
)
_BLANK = b"\xef\xbb\xbf \t\r\n"
_CLOUDFLARE_RATE_LIMIT = re.compile(rb"error(?: code)?:?\s*(?:<[^>]*>\s*)*1015\b", re.IGNORECASE)


def raise_for_payload(payload: Payload, *, handled: Collection[int] = ()) -> None:
    """Raise what a payload says went wrong; return when its body may be parsed.

    A web page is never data, whatever its status and content type (several providers send JSON as text/html).

    Args:
        payload: What the transport returned.
        handled: HTTP statuses whose body the caller reads itself, because the provider explains more there. They
            still raise when the body is empty or a web page.

    Raises:
        AuthRequired, PremiumRequired, Blocked, NotFound, Retired, RateLimited, QuotaExhausted, Unavailable:
            By transport error or status; redirects and web pages count as Blocked.
        Malformed: The body is empty or damaged.
        ProviderError: The request was refused in another way (HTTP 400, 422, …).
    """
    status, body = payload.status, payload.body
    if status == 0:
        reason = payload.headers.get(REASON_HEADER, "no answer")
        raise _error(_BY_CODE.get(payload.error or "", Unavailable), reason, payload)
    kind = None if 200 <= status < 300 else _kind(status)
    start = body[:2048].lstrip(_BLANK)
    markup = start.startswith(b"<")
    if markup and _CLOUDFLARE_RATE_LIMIT.search(body[:100_000]):
        raise _error(RateLimited, f"answered HTTP {status} with Cloudflare's rate limit page", payload)
    if markup and kind in (None, ProviderError):
        raise _error(Blocked, f"answered HTTP {status} with a web page instead of data", payload)
    if kind is None and not start and not body.lstrip(_BLANK):
        raise _error(Malformed, f"answered HTTP {status} with an empty body", payload)
    if kind is not None and (status not in handled or markup or not start):
        raise _error(kind, f"answered HTTP {status}", payload)


def load_json(payload: Payload, *, body: bytes | None = None, encoding: str = "utf-8-sig") -> Any:
    """The body as plain Python data, in bounded time and memory.

    Args:
        payload: Whose body to read; also names the provider in errors.
        body: The JSON part of the body when it is wrapped (`callback(…)`, `var x=…`).
        encoding: Character set of the body.

    Raises:
        Malformed: Not JSON, or JSON that means different things to different readers: NaN or infinite numbers,
            duplicate keys, half a surrogate pair; or larger or deeper than any honest answer.
    """
    data = payload.body if body is None else body
    if len(data) > MAX_JSON_BYTES:
        raise _error(Malformed, f"sent {len(data)} bytes of JSON, more than {MAX_JSON_BYTES}", payload)
    if (containers := data.count(b"[") + data.count(b"{")) > MAX_CONTAINERS:
        raise _error(Malformed, f"sent JSON with {containers} brackets, more than {MAX_CONTAINERS}", payload)
    try:
        value = json.loads(
            data.decode(encoding),
            parse_constant=_no_constant,
            parse_float=_finite,
            object_pairs_hook=_unique,
        )
        if containers > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
            raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
        if b"\\u" in data:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise _error(Malformed, f"sent JSON nested more than {MAX_DEPTH} levels deep", payload) from None
    except ValueError as error:  # JSONDecodeError and UnicodeError are ValueErrors
        raise _error(Malformed, f"sent a body that is not sound JSON: {_brief(str(error))}", payload) from None
    return value


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds the `retry-after` header asks to wait from `now` on, a year at most; None when absent or unreadable."""
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d+(\.\d*)?", text, re.ASCII):
        return min(float(text), _YEAR)
    try:
        at = parsedate_to_datetime(text)
        seconds = (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), _YEAR)


def _kind(status: int) -> type[ProviderError]:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    match status // 100:
        case 3:
            return Blocked  # the transport follows redirects on the same host; elsewhere is a consent or login page
        case 4:
            return ProviderError
        case 5:
            return Unavailable
        case _:
            return Malformed


def _error(kind: type[ProviderError], what: str, payload: Payload) -> ProviderError:
    request = payload.request
    message = f"{request.provider} {what}" if payload.status else f"{request.provider}: {what}"
    context: dict[str, Any] = {
        "provider": request.provider,
        "dataset": request.dataset,
        "symbol": request.symbol,
        "status": payload.status or None,
        "fetch_id": payload.fetch_id,
        "body": _brief(payload.body[:400].decode("utf-8", "replace")) or None,
    }
    hint = _HINTS.get(kind, "the request was refused: see the body in the context")
    if issubclass(kind, RateLimited):
        wait = retry_after(payload.headers, payload.fetched_at)
        return kind(message, retry_after=wait, hint=hint, **context)
    return kind(message, hint=hint, **context)


def _brief(text: str) -> str:
    printable = "".join(character if character.isprintable() else " " for character in text[:400])
    return " ".join(printable.split())[:120]


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:20]}… is too large a number")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice[:40]!r} is there twice in one object")
    return value


def _deeper_than(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True
