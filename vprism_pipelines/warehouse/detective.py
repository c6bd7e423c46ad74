"""Proposals about corporate actions, and what people decided about them.

`quality.action_proposals` is made anew by every run from what the warehouse holds: what is still found and undecided
is open, what is found no more is gone. Decisions are not kept there but in the lake, as payloads of the provider
`detective`, and their events in the ledger beside those of every other provider.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Any

import duckdb
import polars as pl

from vprism_pipelines.errors import InvalidInput
from vprism_pipelines.market.actions import DECISIONS
from vprism_pipelines.market.spec import MarketSpec, market_of
from vprism_pipelines.providers.detective import DetectiveProvider, Verdict, decision
from vprism_pipelines.quality.detective import detect
from vprism_pipelines.tables import PROPOSALS
from vprism_pipelines.tables.golden import TRADED
from vprism_pipelines.warehouse import pulls
from vprism_pipelines.warehouse.bookkeeping import RunStep, record_step
from vprism_pipelines.warehouse.building import frame, insert, prefix
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.ingest import clean_raw, ingest
from vprism_pipelines.warehouse.lake import Lake

CERTAIN = 0.9
"""Confidence from which an open proposal is worth a warning."""

# What can be decided about a proposal in each state; a decision is changed by withdrawing it first.
_FROM: Mapping[Verdict, tuple[str, ...]] = MappingProxyType(
    {"accepted": ("open", "withdrawn"), "rejected": ("open", "withdrawn"), "withdrawn": ("accepted", "rejected")}
)


@dataclass(frozen=True, slots=True)
class Decided:
    """What a decision did: events declared or taken back, by the ledger's count."""

    proposal_id: str
    market: str
    symbol: str
    status: Verdict
    fetch_id: str
    events: int


def refresh(connection: duckdb.DuckDBPyConnection, lake: Lake, spec: MarketSpec) -> pl.DataFrame:
    """Detect anew and replace the market's proposals, inside the caller's transaction.

    Returns:
        `tables.PROPOSALS` as it stands now for the market, the most certain first.
    """
    found = detect(
        frame(connection, f"SELECT * FROM golden.adjustment_events WHERE {prefix(spec)} ORDER BY ALL"),
        frame(connection, f"SELECT * FROM golden.factor_steps WHERE {prefix(spec)} ORDER BY symbol, ex_date"),
        frame(
            connection,
            f"""SELECT symbol, session, exchange, open, high, low, close, true AS traded
                FROM golden.bars WHERE {prefix(spec)} AND price_basis = 'raw' AND {TRADED}""",
        ),
        frame(
            connection,
            f"""SELECT provider, symbol, session, close, adj_close
                FROM clean.bars WHERE {prefix(spec)} AND adj_close IS NOT NULL AND price_basis = 'raw' AND {TRADED}""",
        ),
        spec,
        declared=frame(connection, f"SELECT * FROM clean.corporate_actions WHERE {prefix(spec)} ORDER BY ALL"),
        findings=frame(
            connection,
            f"SELECT symbol, session, ticket, jump FROM quality.findings WHERE {prefix(spec)} AND ticket IS NOT NULL"
            " ORDER BY ALL",
        ),
        rebases=frame(connection, f"SELECT * FROM quality.rebases WHERE {prefix(spec)} ORDER BY ALL"),
    )
    proposals = _with_decisions(found, decisions(connection, lake, spec))
    connection.execute(f"DELETE FROM {PROPOSALS.full_name} WHERE {prefix(spec)}")
    insert(connection, PROPOSALS, proposals)
    return proposals


def decisions(connection: duckdb.DuckDBPyConnection, lake: Lake, spec: MarketSpec) -> pl.DataFrame:
    """The last decision about each proposal of a market, with the proposal as it was then: `tables.PROPOSALS`."""
    fetches = connection.execute(
        "SELECT lake_path, list(fetch_id) FROM raw.fetches WHERE provider = ? AND market = ? GROUP BY 1 ORDER BY 1",
        [DECISIONS, spec.code],
    ).fetchall()
    rows = [
        {**_proposal(json.loads(payload.body)), "decided_at": payload.fetched_at}
        for path, fetch_ids in fetches
        for payload in lake.payloads(path, fetch_ids)
    ]
    said = pl.DataFrame(rows, schema=PROPOSALS.polars_schema)
    return said.sort("decided_at").unique("proposal_id", keep="last", maintain_order=True)


def decide(house: House, proposal_id: str, verdict: Verdict, *, by: str, note: str | None, run_id: str) -> Decided:
    """Archive a decision and remember the events it declares. Golden tables follow with the next run.

    Args:
        house: The installation.
        proposal_id: Of `quality.action_proposals`.
        verdict: accepted: what is proposed counts; rejected: it is proposed no more; withdrawn: the decision before
            counts no more, and the events as declared do again.
        by: Who decides.
        note: Why.
        run_id: Recorded with everything written.

    Raises:
        InvalidInput: There is no such proposal, nobody decides, or it is not in a state to be decided so.
    """
    started = house.clock()
    if not by.strip():
        raise InvalidInput("a decision needs somebody who takes it", hint="say who with --by NAME")
    with house.warehouse.connect() as connection:
        row = proposal(connection, proposal_id)
    if row["status"] not in _FROM[verdict]:
        raise InvalidInput(_settled(row, verdict), hint=_way_out(row), proposal=proposal_id)
    if verdict == "accepted" and row["kind"] == "missing" and not json.loads(row["proposed"]):
        raise InvalidInput(
            f"prices show that {row['symbol']} had an event on {row['ex_date']}, but not which",
            hint="find its terms and import them from a file, or reject the proposal",
            proposal=proposal_id,
        )
    spec = market_of(str(row["symbol"]))
    payload = decision(spec.code, row, verdict, by=by.strip(), note=note, decided_at=started)
    parser = DetectiveProvider()
    parsed = parser.parse(payload)
    pulled = pl.DataFrame(
        {"fetch_id": [payload.fetch_id], "provider": [DECISIONS], "parser_version": [parser.parser_version]}
    ).with_columns(fetched_at=pl.lit(payload.fetched_at, dtype=pl.Datetime("us", "UTC")))
    # Taking back a rejection takes back no event.
    declares = "actions" in parsed.frames and not (verdict == "withdrawn" and row["status"] == "rejected")
    cleaned = clean_raw(parsed.frames["actions"], pulled, spec, "actions") if declares else None
    if cleaned and cleaned.quarantined.height:
        raise InvalidInput(
            f"the proposed events of {proposal_id} cannot be events: {cleaned.reasons()}",
            hint="reject the proposal, and import the right event from a file",
            proposal=proposal_id,
        )
    path = house.lake.seal([payload], run_id)
    fetches = pulls.keep(house.lake, parser, [pulls.Pulled(payload, parsed, None)], path)
    with house.warehouse.transaction() as connection:
        pulls.register(connection, fetches, run_id)
        counts = ingest(connection, spec, "actions", pulled, cleaned) if cleaned else None
        connection.execute(
            f"UPDATE {PROPOSALS.full_name} SET status = ?, decided_at = ?, decided_by = ?, note = ?"
            " WHERE proposal_id = ?",
            [verdict, started, by.strip(), note, proposal_id],
        )
        written = counts.new + counts.changed if counts else 0
        step = RunStep(run_id, f"actions/{verdict}", "cli", started, spec.code, rows=1, accepted=written)
        record_step(connection, step, house.clock())
    return Decided(proposal_id, spec.code, str(row["symbol"]), verdict, payload.fetch_id, written)


def proposal(connection: duckdb.DuckDBPyConnection, proposal_id: str) -> dict[str, Any]:
    """One proposal, as a row of `tables.PROPOSALS`.

    Raises:
        InvalidInput: There is none of this name.
    """
    found = connection.execute(f"FROM {PROPOSALS.full_name} WHERE proposal_id = ?", [proposal_id.strip()])
    names = [column[0] for column in found.description or []]
    row = found.fetchone()
    if row is None:
        raise InvalidInput(
            f"there is no proposal {proposal_id!r}",
            hint="vprism actions review lists them; one whose cause is gone is no longer listed",
            proposal=proposal_id,
        )
    return dict(zip(names, row, strict=True))


def standing(connection: duckdb.DuckDBPyConnection, status: str | None = None) -> pl.DataFrame:
    """Proposals as they stand, the most certain first; only those of a status if one is named."""
    chosen = "WHERE status = $1" if status else ""
    order = "ORDER BY confidence DESC, symbol, ex_date, kind, proposal_id"
    table = connection.execute(
        f"FROM {PROPOSALS.full_name} {chosen} {order}", [status] if status else []
    ).to_arrow_table()
    return pl.DataFrame(table)


def _with_decisions(found: pl.DataFrame, decided: pl.DataFrame) -> pl.DataFrame:
    """What was detected with what was decided about it, and what was decided about things found no more."""
    about = decided.select("proposal_id", "status", "decided_at", "decided_by", "note")
    detected = found.join(about, on="proposal_id", how="left").with_columns(pl.col("status").fill_null("open"))
    settled = decided.join(found, on="proposal_id", how="anti").filter(pl.col("status") != "withdrawn")
    return pl.concat([PROPOSALS.conform(detected), PROPOSALS.conform(settled)]).sort(
        "confidence", "symbol", "ex_date", "kind", "proposal_id", descending=[True, False, False, False, False]
    )


def _proposal(body: Mapping[str, Any]) -> dict[str, Any]:
    texts = {name: json.dumps(body[name], ensure_ascii=False) for name in ("proposed", "evidence")}
    return {
        **{
            name: body[name]
            for name in ("proposal_id", "symbol", "kind", "event_type", "confidence", "currency", "note")
        },
        **texts,
        "declared": json.dumps(body["declared"], ensure_ascii=False) if body["declared"] else None,
        "ex_date": date.fromisoformat(body["ex_date"]),
        "status": body["decision"],
        "decided_by": body["by"],
    }


def _settled(row: Mapping[str, Any], verdict: Verdict) -> str:
    if row["status"] == "open" or verdict == "withdrawn":
        return f"nothing was decided about {row['proposal_id']} that could be withdrawn: it is {row['status']}"
    return f"{row['proposal_id']} was {row['status']} by {row['decided_by']} at {row['decided_at']:%Y-%m-%d %H:%M} UTC"


def _way_out(row: Mapping[str, Any]) -> str:
    if row["status"] in ("accepted", "rejected"):
        return f"to decide otherwise: vprism actions withdraw {row['proposal_id']} --by NAME"
    return f"vprism actions show {row['proposal_id']}"
