"""Decisions about corporate actions, as a provider: its payloads are what people said of a proposal.

A decision is archived, parsed and remembered like any pull, so the lake keeps who decided what and when, and a rebuild
comes to the same events. An accepted proposal declares the events as they should be; one about an event that never
happened declares an event without terms, which cancels the declared one (`market.actions.merge_events`). Withdrawing
declares the same rows as taken back; a rejection declares nothing. Nobody asks this provider: `decision` makes its
payloads.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final, Literal

import polars as pl

from vprism_pipelines.errors import Malformed, NotFound
from vprism_pipelines.market.actions import DECISIONS, TERMS
from vprism_pipelines.market.spec import MARKETS
from vprism_pipelines.providers.base import Capabilities, Dataset, Parsed, Payload, Quota, Request, raw_frame
from vprism_pipelines.providers.http_errors import load_json, raise_for_payload

__all__ = ["SCHEME", "DetectiveProvider", "Verdict", "decision"]

Verdict = Literal["accepted", "rejected", "withdrawn"]
SCHEME: Final = "decision:"
_VERDICTS: Final = ("accepted", "rejected", "withdrawn")
_HINT: Final = "replay the archived payload to see what came; decisions are written by this program alone"
_NOTHING: Final[Mapping[str, float]] = {name: 1.0 if name == "split_ratio" else 0.0 for name in TERMS}


def decision(
    market: str,
    proposal: Mapping[str, Any],
    verdict: Verdict,
    *,
    by: str,
    note: str | None,
    decided_at: datetime,
) -> Payload:
    """The payload of one decision.

    Args:
        market: Market code.
        proposal: The proposal decided about: columns of `tables.PROPOSALS`, JSON columns as text.
        verdict: accepted, rejected or withdrawn.
        by: Who decided.
        note: Why.
        decided_at: When (UTC).
    """
    kept = {name: proposal[name] for name in ("proposal_id", "symbol", "kind", "event_type", "confidence", "currency")}
    body = {
        "decision": verdict,
        "by": by,
        "note": note,
        **kept,
        "ex_date": proposal["ex_date"].isoformat(),
        "declared": json.loads(proposal["declared"]) if proposal["declared"] else None,
        "proposed": json.loads(proposal["proposed"]),
        "evidence": json.loads(proposal["evidence"]),
    }
    request = Request(
        DECISIONS,
        "actions",
        market,
        proposal["symbol"],
        None,
        None,
        None,
        url=f"{SCHEME}{proposal['proposal_id']}",
        params={"decision": verdict, "proposal_id": str(proposal["proposal_id"])},
    )
    text = json.dumps(body, ensure_ascii=False, sort_keys=True)
    return Payload(request, 200, text.encode(), decided_at)


class DetectiveProvider:
    """Reads decisions; it plans and fetches nothing."""

    name = DECISIONS
    parser_version = "1"

    def __init__(self, transport: object = None, *, clock: Callable[[], datetime] | None = None) -> None:
        self._clock = clock

    def capabilities(self) -> Capabilities:
        """Every market's actions, as decided."""
        return Capabilities(
            name=self.name,
            title="Decisions about proposed corporate actions",
            markets=tuple(sorted(MARKETS)),
            asset_types=("STOCK", "ETF", "FUND"),
            datasets=("actions",),
            price_basis="raw",
            history="what was decided here",
            quota=Quota(concurrency=1),
            licence="your own",
            needs_network=False,
            immutable=True,
        )

    def plan(
        self, market: str, dataset: Dataset, symbols: Sequence[str], start: date, end: date, now: datetime
    ) -> list[Request]:
        """Nothing: decisions are made, not asked for."""
        return []

    async def fetch(self, request: Request) -> Payload:
        """Refuse.

        Raises:
            NotFound: Always.
        """
        raise NotFound("decisions cannot be fetched", hint="vprism actions accept makes one", provider=self.name)

    def parse(self, payload: Payload) -> Parsed:
        """The events a decision declares, or takes back; none for a rejection.

        Raises:
            Malformed: The payload is no decision.
        """
        raise_for_payload(payload)
        body = load_json(payload)
        try:
            frame = _declared(body)
        except (ValueError, KeyError, TypeError, OverflowError, pl.exceptions.PolarsError) as error:
            raise Malformed("the payload is no decision about a proposal", hint=_HINT, provider=self.name) from error
        return Parsed({} if frame is None else {"actions": raw_frame("actions", frame, payload)})

    async def aclose(self) -> None:
        """Nothing to release."""


def _declared(body: Mapping[str, Any]) -> pl.DataFrame | None:
    """Columns of the raw actions frame; None when the decision declares nothing."""
    verdict, rows = body["decision"], _rows(body)
    if verdict not in _VERDICTS:
        raise ValueError(f"there is no decision {verdict!r}")
    if verdict == "rejected" or not rows:
        return None
    said = {name: body[name] for name in ("decision", "proposal_id", "by", "note")}
    if not all(math.isfinite(row[name]) for row in rows for name in TERMS):
        raise ValueError("a term is not finite")
    return pl.DataFrame(rows).with_columns(
        pl.col("ex_date").str.to_date("%Y-%m-%d"),
        pl.col("event_type").cast(pl.String),
        raw_symbol=pl.lit(str(body["symbol"])),
        currency=pl.lit(body["currency"], dtype=pl.String),
        detail=pl.lit(json.dumps(said, ensure_ascii=False)),
    )


def _rows(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The proposed events; and, where they leave the declared day empty, that nothing happened on it."""
    proposed = [
        {
            "ex_date": event["ex_date"],
            "event_type": event["event_type"],
            **{name: float(event[name]) for name in TERMS},
        }
        for event in body["proposed"]
    ]
    if body["declared"] is None or any(event["ex_date"] == body["ex_date"] for event in proposed):
        return proposed
    return [{"ex_date": body["ex_date"], "event_type": body["event_type"], **_NOTHING}, *proposed]
