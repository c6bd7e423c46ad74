"""What one provider was asked, and how many retries it may still cost."""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass, field

# Retries that every provider has to start with: a hiccup at the beginning is no verdict.
_FIRST_RETRIES = 30.0


@dataclass(frozen=True, slots=True)
class ProviderStats:
    """What one provider was asked since the transport was made.

    Attributes:
        requests: HTTP requests put on the wire, retries and redirects included.
        retries: Attempts after the first.
        failures: Questions that ended blocked, limited, unavailable or damaged, after all retries.
        refused: Questions never put: offline, not an allowed host, circuit open, quota used up.
        bytes: Bytes of bodies received.
        latency_p50_ms: Median of the last 500 answers; NaN before the first.
        latency_p95_ms: Their 95th percentile.
    """

    requests: int
    retries: int
    failures: int
    refused: int
    bytes: int
    latency_p50_ms: float
    latency_p95_ms: float


@dataclass(slots=True)
class Traffic:
    """Counters of one provider, and the retries it may still cost us.

    Attributes:
        share: Retries that every answer earns; those that led to one cost nothing.
    """

    share: float
    requests: int = 0
    retries: int = 0
    failures: int = 0
    refused: int = 0
    bytes: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=500))
    budget: float = _FIRST_RETRIES

    def retry(self) -> None:
        self.retries += 1
        self.budget -= 1

    def answered(self, retries: int) -> None:
        """Retries that led to an answer cost nothing; an answer at once earns a share of one."""
        self.budget = min(_FIRST_RETRIES, self.budget + max(retries, self.share))

    def stats(self) -> ProviderStats:
        p50 = p95 = math.nan
        if self.latencies:
            cuts = statistics.quantiles([*self.latencies, self.latencies[-1]], n=20, method="inclusive")
            p50, p95 = cuts[9], cuts[18]
        return ProviderStats(self.requests, self.retries, self.failures, self.refused, self.bytes, p50, p95)
