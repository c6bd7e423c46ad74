"""What Alpha Vantage says instead of data, always with HTTP 200 and always as JSON, even where CSV was asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from vprism_pipelines.errors import (
    AuthRequired,
    NotFound,
    PremiumRequired,
    ProviderError,
    QuotaExhausted,
    RateLimited,
)

__all__ = ["raise_for_notice"]

_NOTICES: Final = ("Error Message", "Note", "Information", "message")
# The first that fits decides: nearly every notice also advertises premium plans and names the daily limit.
_WORDS: Final[tuple[tuple[re.Pattern[str], type[ProviderError], str, float | None], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE), error, hint, wait)
    for pattern, error, hint, wait in (
        (
            r"\bdemo\b.{0,40}\bkey\b|\bdemo purposes",
            AuthRequired,
            "set ALPHA_VANTAGE_API_KEY to a key of your own",
            None,
        ),
        (r"\bapi ?key\b.{0,40}\b(invalid|missing|incorrect)", AuthRequired, "check ALPHA_VANTAGE_API_KEY", None),
        (
            r"\b(is|are) (a |only available to )?premium|premium(-only)? (endpoint|feature|function)\b|artificial",
            PremiumRequired,
            "a paid plan has it; a free key gets the last 100 sessions of TIME_SERIES_DAILY",
            None,
        ),
        (r"sparingly|per second", RateLimited, "ask once per second at most", 1.0),
        (r"(calls|requests) per minute", RateLimited, "ask less often", 60.0),
        (
            r"(calls|requests) per day|daily (rate )?limit",
            QuotaExhausted,
            "run again tomorrow, or use a paid key",
            None,
        ),
        (r"rate limit|call frequency", RateLimited, "ask less often", 60.0),
        (
            r"invalid api call|no data",
            NotFound,
            "the symbol is unknown to Alpha Vantage, or a parameter is wrong",
            None,
        ),
    )
)
_KEY: Final = re.compile(r"((?i:api ?key)(?: as| is|:)? )[A-Z0-9]{6,}")
_HIDDEN: Final = r"\1***"
_LONGEST_QUOTE: Final = 160


def raise_for_notice(document: Mapping[str, Any]) -> None:
    """Raise what a notice at the top level says; data beside one is made up.

    Raises:
        QuotaExhausted, RateLimited, PremiumRequired, AuthRequired, NotFound: By the notice's words.
        ProviderError: A notice in words that nobody has heard yet.
    """
    for name in _NOTICES:
        if name not in document:
            continue
        said = str(document[name])
        quote = f"Alpha Vantage says {_KEY.sub(_HIDDEN, said)[:_LONGEST_QUOTE]!r}"
        for pattern, error, hint, wait in _WORDS:
            if pattern.search(said):
                raise (
                    error(quote, hint=hint, retry_after=wait)
                    if issubclass(error, RateLimited)
                    else error(quote, hint=hint)
                )
        raise ProviderError(quote, hint="nothing was taken from this answer")
