"""Corporate actions that prices imply and nobody declared, or that were declared and prices deny."""

from __future__ import annotations

from vprism_pipelines.tables.base import CURRENCY, SYMBOL, Column, Table

PROPOSALS = Table(
    "quality",
    "action_proposals",
    ("proposal_id",),
    "What the detective proposes, with evidence; people decide. An accepted one is an event of provider `detective`.",
    (
        Column("proposal_id", "VARCHAR", "hash of symbol, kind, dates and terms: the same finding keeps its name"),
        SYMBOL,
        Column("kind", "VARCHAR", "missing, duplicate, misdated, mis_sized or invented"),
        Column("ex_date", "DATE", "ex-date of the declared event, or of the one proposed where none is declared"),
        Column("event_type", "VARCHAR", "of the declared event, or of the one proposed"),
        Column("declared", "JSON", "terms as declared, and by whom; null: nobody declared it", nullable=True),
        Column("proposed", "JSON", "list of events as they should be; empty: none"),
        Column("confidence", "DOUBLE", "how well the evidence agrees", "0..1", rule="share"),
        Column("evidence", "JSON", "what was measured: price gap, band, adjusted series, rebases"),
        CURRENCY,
        Column("status", "VARCHAR", "open, accepted, rejected or withdrawn"),
        Column("decided_at", "TIMESTAMPTZ", "when", nullable=True),
        Column("decided_by", "VARCHAR", "by whom", nullable=True),
        Column("note", "VARCHAR", "why", nullable=True),
    ),
)
