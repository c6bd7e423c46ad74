"""The secrets this process knows, taken out of whatever is logged or traced."""

from __future__ import annotations

from collections.abc import Iterable

from vprism_pipelines.redaction import redact

_secrets: frozenset[str] = frozenset()


def keep_secret(secrets: Iterable[str]) -> None:
    """Hide these from now on, besides those already hidden."""
    global _secrets
    _secrets |= frozenset(secrets)


def hide(text: str) -> str:
    """`text` without secrets."""
    return redact(text, _secrets)
