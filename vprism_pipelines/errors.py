"""The error taxonomy: one class per thing that can go wrong, with its code, exit status, HTTP status and retryability.

Every error a person can meet derives from `VprismError` and carries what happened, where (`context`) and what to do
about it (`hint`). Front ends only render; they never invent a code of their own.
"""

from __future__ import annotations

from typing import Any, ClassVar


class VprismError(Exception):
    """Base of all errors that this project raises on purpose.

    Args:
        message: What happened, in one sentence.
        hint: What the reader can do about it.
        context: Where it happened: provider, symbol, path, range. Never a secret.
    """

    code: ClassVar[str] = "SYSTEM_ERROR"
    exit_status: ClassVar[int] = 50
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "", **context: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.context = {key: value for key, value in context.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """The error as plain data, for jsonl output and HTTP bodies."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "retryable": self.retryable,
            "context": {key: str(value) for key, value in self.context.items()},
        }


# --- what the caller asked for makes no sense (exit 10) -----------------------------------------------------------


class InvalidInput(VprismError):
    code = "INVALID_INPUT"
    exit_status = 10
    http_status = 400


class UnknownMarket(InvalidInput):
    code = "UNKNOWN_MARKET"
    http_status = 404


class UnknownProvider(InvalidInput):
    code = "UNKNOWN_PROVIDER"
    http_status = 404


class UnknownSymbol(InvalidInput):
    code = "UNKNOWN_SYMBOL"
    http_status = 404


class InvalidRange(InvalidInput):
    code = "INVALID_RANGE"
    http_status = 422


class BeyondHorizon(InvalidInput):
    """A calendar was asked about a date it does not know."""

    code = "BEYOND_HORIZON"
    http_status = 422


class InvalidQuery(InvalidInput):
    code = "INVALID_QUERY"


class InvalidConfiguration(InvalidInput):
    code = "INVALID_CONFIGURATION"


# --- a provider did not deliver (exit 20) -------------------------------------------------------------------------


class ProviderError(VprismError):
    code = "PROVIDER_ERROR"
    exit_status = 20
    http_status = 502


class RateLimited(ProviderError):
    """Asked too often. `retry_after` is in seconds when the provider named it."""

    code = "RATE_LIMITED"
    http_status = 429
    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None, hint: str = "", **context: Any) -> None:
        super().__init__(message, hint=hint, retry_after=retry_after, **context)
        self.retry_after = retry_after


class QuotaExhausted(RateLimited):
    """The day's allowance is used up; asking again before it resets is pointless."""

    code = "QUOTA_EXHAUSTED"
    retryable = False


class Blocked(ProviderError):
    code = "BLOCKED"
    http_status = 503


class Unavailable(ProviderError):
    code = "UNAVAILABLE"
    http_status = 503
    retryable = True


class NotFound(ProviderError):
    code = "NOT_FOUND"
    http_status = 404


class NoData(ProviderError):
    """The request was understood and there is nothing in the window asked for."""

    code = "NO_DATA"
    http_status = 404


class AuthRequired(ProviderError):
    code = "AUTH_REQUIRED"
    http_status = 401


class PremiumRequired(ProviderError):
    code = "PREMIUM_REQUIRED"
    http_status = 402


class Retired(ProviderError):
    """The endpoint no longer exists."""

    code = "RETIRED"
    http_status = 410


class Malformed(ProviderError):
    """The body is not what the provider's format promises, whatever the HTTP status said."""

    code = "MALFORMED"


# --- the data cannot be trusted (exit 30) -------------------------------------------------------------------------


class DataQualityError(VprismError):
    code = "DATA_QUALITY"
    exit_status = 30
    http_status = 422


class ContractViolation(DataQualityError):
    code = "CONTRACT_VIOLATION"


# --- the machine or the warehouse (exit 50) -----------------------------------------------------------------------


class WarehouseError(VprismError):
    code = "WAREHOUSE_ERROR"


class WarehouseLocked(WarehouseError):
    code = "WAREHOUSE_LOCKED"
    http_status = 503
    retryable = True


class NotPublished(WarehouseError):
    """Nothing has been published yet."""

    code = "NOT_PUBLISHED"
    http_status = 503


class StorageUnwritable(WarehouseError):
    code = "STORAGE_UNWRITABLE"


class CorruptLake(WarehouseError):
    code = "CORRUPT_LAKE"


class RunFailed(VprismError):
    """A Dagster run did not succeed; `hint` says where to look."""

    code = "RUN_FAILED"


def error_class(code: str) -> type[VprismError]:
    """The class with this `code`, for errors that travelled as text; `VprismError` if there is none."""
    pending: list[type[VprismError]] = [VprismError]
    while pending:
        kind = pending.pop()
        if kind.code == code:
            return kind
        pending.extend(kind.__subclasses__())
    return VprismError
