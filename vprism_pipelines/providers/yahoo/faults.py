"""What Yahoo says instead of data, as typed errors: its JSON envelopes, its plain text, and its silence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from vprism_pipelines.errors import (
    AuthRequired,
    NoData,
    NotFound,
    ProviderError,
    RateLimited,
    Unavailable,
)
from vprism_pipelines.providers.base import Payload
from vprism_pipelines.providers.http_errors import load_json, raise_for_payload

# Statuses at which the body says more than the status: a window without bars is a 400 as well as a wrong parameter.
_EXPLAINED: Final = (400, 401, 404, 422)
_WORDS: Final[tuple[tuple[re.Pattern[str], type[ProviderError], str], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE), error, hint)
    for pattern, error, hint in (
        (r"data doesn'?t exist for|data not available for", NoData, "ask for another window"),
        (r"no fundamentals data found", NoData, "Yahoo has no such module for this kind of product"),
        (r"too many requests", RateLimited, "wait some minutes, then ask less often"),
        (r"invalid crumb|invalid cookie|unauthorized", AuthRequired, "renew the cookie and the crumb"),
        (r"not found|no data found|delisted", NotFound, "check the symbol; delisted ones lose their history"),
        (r"internal.?(server.?)?error", Unavailable, "try again later"),
    )
)
_LONGEST_MESSAGE: Final = 500


def read_json(payload: Payload) -> Mapping[str, Any]:
    """The envelope of a successful answer, e.g. `{"chart": {"result": […], "error": null}}`.

    Raises:
        ProviderError: The payload is a failure of the transport, of HTTP or of Yahoo, or not such an envelope.
    """
    raise_for_payload(payload, handled=_EXPLAINED)
    is_json = payload.body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"["))
    document = load_json(payload) if is_json else None
    envelopes = document if isinstance(document, dict) else {}
    said = _error_of(envelopes) if is_json else payload.body[: _LONGEST_MESSAGE + 1].decode("utf-8", "replace")
    if said and len(said) <= _LONGEST_MESSAGE:
        for pattern, error, hint in _WORDS:
            if pattern.search(said):
                raise error(f"Yahoo says {said.strip()[:200]!r}", hint=hint, status=payload.status)
    raise_for_payload(payload)
    if not is_json:
        load_json(payload)
    if said:
        raise ProviderError(f"Yahoo says {said.strip()[:200]!r}", hint="the request may be wrong")
    for envelope in envelopes.values():
        if isinstance(envelope, dict) and "result" in envelope and not envelope["result"]:
            raise NotFound("Yahoo has nothing about this symbol", hint="check the symbol")
    return envelopes


def _error_of(envelopes: Mapping[str, Any]) -> str:
    """Code and description of the first error in the envelopes: `chart`, `quoteSummary` or the general `finance`."""
    for envelope in envelopes.values():
        error = envelope.get("error") if isinstance(envelope, dict) else None
        if isinstance(error, dict):
            return ": ".join(str(error[key]) for key in ("code", "description") if error.get(key)) or "an error"
        if error:
            return str(error)
    return ""
