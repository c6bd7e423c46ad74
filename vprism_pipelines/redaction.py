"""Secrets never reach a log, an exception text or the lake: whatever spells one is replaced by `REDACTED`."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import AnyStr
from urllib.parse import quote

REDACTED = "REDACTED"

# A key this short may be part of an innocent word ("demo" in "democracy"), so it is only replaced as a whole one.
_SHORT = 5


def redact(text: AnyStr, secrets: Iterable[str]) -> AnyStr:
    """`text` with every occurrence of a secret replaced by `REDACTED`.

    Found in any letter case and as upstreams echo it: plain, percent-encoded, JSON-escaped or as HTML entities.

    Args:
        text: Text, or the bytes of a body in an encoding that extends ASCII.
        secrets: Secret values; empty ones are ignored.
    """
    known = frozenset(secret for secret in secrets if secret)
    if not known:
        return text
    as_text, as_bytes = _patterns(known)
    if isinstance(text, bytes):
        return as_bytes.sub(REDACTED.encode(), text)
    return as_text.sub(REDACTED, text)


@lru_cache(maxsize=64)
def _patterns(secrets: frozenset[str]) -> tuple[re.Pattern[str], re.Pattern[bytes]]:
    spelled = "|".join(_spellings(secret) for secret in sorted(secrets, key=lambda s: (-len(s), s)))
    return re.compile(spelled, re.IGNORECASE), re.compile(spelled.encode(), re.IGNORECASE)


def _spellings(secret: str) -> str:
    pattern = "".join(map(_spellings_of_character, secret))
    return rf"(?<![0-9A-Za-z]){pattern}(?![0-9A-Za-z])" if len(secret) < _SHORT else pattern


def _spellings_of_character(character: str) -> str:
    if character.isascii() and character.isalnum():
        return character
    code = ord(character)
    forms = {
        character,
        "+" if character == " " else quote(character, safe=""),
        json.dumps(character)[1:-1],
        f"\\{character}",
        f"\\u{code:04x}",
        html.escape(character),
        f"&#{code};",
        f"&#x{code:x};",
        f"%{code:02x}" if code < 128 else character,  # `quote` leaves "-._~" alone; others do not
    }
    return "(?:" + "|".join(re.escape(form) for form in sorted(forms, key=lambda s: (-len(s), s))) + ")"
