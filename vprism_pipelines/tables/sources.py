"""Column lineage: which columns every column is made of, and which ones decide what a table holds.

A column's sources are those whose *values* go into its value. What chooses between rows (a vote, a filter, a calendar)
decides about every column of a table alike and is named once for the table, as `DECIDES`. `()` means that nobody's
data is in it: it is a name, a rule, a clock or a person's word.

`Table` fills in `Column.sources` and `Table.decided_by` from here; a test holds both against what the functions do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from vprism_pipelines.tables.origins import DECIDES, TERMS, Sources, made_of, nobodys
from vprism_pipelines.tables.quality_sources import QUALITY


def _version(value: str) -> dict[str, tuple[str, ...]]:
    """What every ledger adds: when each version was believed, why it changed, and where it stands."""
    return made_of(
        "raw.fetches",
        known_from="fetched_at",
        known_to="fetched_at",
        provider="provider",
        change_class=value,
        fetch_id="fetch_id",
    ) | nobodys("batch")


_RAW_PRICE = "price_unit basis_factor"
_QUOTED = ("last", "bid", "ask", "reference")
_AVAILABLE = "published period_end period_kind raw.fetches.fetched_at"
_CHANGED_BARS = (
    "open high low close volume value adj_close price_basis session price_unit volume_unit value_unit basis_factor"
)

SOURCES: Final[Mapping[str, Sources]] = {
    # --- clean ------------------------------------------------------------------------------------------------------
    "clean.bars_ledger": {
        **_version(" ".join(f"raw.bars.{name}" for name in _CHANGED_BARS.split()) + " raw.fetches.fetched_at"),
        **made_of(
            "raw.bars",
            "session",
            "currency",
            "exchange",
            symbol="raw_symbol",
            open=f"open {_RAW_PRICE}",
            # A low above open and close by float noise alone is put on them; a high likewise.
            high=f"high open close {_RAW_PRICE}",
            low=f"low open close {_RAW_PRICE}",
            close=f"close {_RAW_PRICE}",
            volume="volume volume_unit basis_factor",
            value="value value_unit",
            adj_close="adj_close price_unit",
            price_basis="price_basis basis_factor",
            flags="open high low close volume volume_unit price_basis basis_factor raw_symbol session exchange",
            provisional="session exchange raw_symbol raw.fetches.fetched_at",
            payload_row="row",
        ),
        # A row that breaks a rule is in quarantine instead.
        DECIDES: made_of(
            "raw.bars",
            all="raw_symbol session open high low close volume value currency exchange raw.fetches.fetched_at",
        )["all"],
    },
    "clean.corporate_actions_ledger": {
        **_version(" ".join(f"raw.actions.{name}" for name in (*TERMS, "currency", "inferred"))),
        **made_of(
            "raw.actions",
            "ex_date",
            "split_ratio",
            "bonus_ratio",
            "rights_ratio",
            "currency",
            "inferred",
            "detail",
            symbol="raw_symbol",
            event_type="event_type split_ratio",
            seq=" ".join((*TERMS, "event_type", "price_unit", "basis_factor")),
            cash="cash price_unit basis_factor",
            rights_price="rights_price price_unit",
            withdrawn="detail raw.fetches.provider",
            payload_row="row",
        ),
    },
    "clean.instruments_ledger": {
        **_version(" ".join(f"raw.instruments.{n}" for n in ("name", "exchange", "currency", "listed", "delisted"))),
        **made_of(
            "raw.instruments",
            "name",
            "exchange",
            "currency",
            "listed",
            "delisted",
            "sector",
            "isin",
            symbol="raw_symbol asset",
            payload_row="row",
        ),
    },
    "clean.fundamentals_ledger": {
        **_version(" ".join(f"raw.fundamentals.{n}" for n in ("value", "value_unit", "unit", "currency", "published"))),
        **made_of(
            "raw.fundamentals",
            "period_end",
            "period_kind",
            "statement",
            "item",
            "unit",
            symbol="raw_symbol",
            value="value value_unit",
            currency="currency unit",
            published="published period_end raw.fetches.fetched_at",
            available_from=_AVAILABLE,
            estimated=_AVAILABLE,
            payload_row="row",
        ),
    },
    "clean.quotes_ledger": {
        **_version(" ".join(f"raw.quotes.{n}" for n in (*_QUOTED, "volume", "value", "currency", "delayed"))),
        **made_of(
            "raw.quotes",
            "instant",
            "volume",
            "currency",
            "delayed",
            symbol="raw_symbol",
            **{name: f"{name} price_unit" for name in _QUOTED},
            change="last reference price_unit",
            value="value value_unit",
            payload_row="row",
        ),
    },
    "clean.ticks_ledger": {
        **_version("raw.ticks.price raw.ticks.volume raw.ticks.side"),
        **made_of(
            "raw.ticks",
            "instant",
            "seq",
            "volume",
            "side",
            symbol="raw_symbol",
            price="price price_unit",
            payload_row="row",
        ),
    },
    "clean.symbol_map": {
        **made_of("raw.bars", "raw_symbol", symbol="raw_symbol", rule_id="raw_symbol"),
        **made_of("raw.fetches", "provider", "market", valid_from="fetched_at"),
    },
    "clean.quarantine": {
        **made_of("raw.fetches", "fetch_id", "provider", "market", "fetched_at"),
        **made_of(
            "raw.bars",
            "raw_symbol",
            "session",
            payload_row="row",
            reasons=f"{_CHANGED_BARS} currency exchange raw_symbol raw.fetches.fetched_at",
            row_json=f"{_CHANGED_BARS} currency exchange raw_symbol row",
        ),
        **nobodys("dataset"),
    },
    # --- golden -----------------------------------------------------------------------------------------------------
    "golden.bars": {
        **made_of(
            "clean.bars_ledger",
            "symbol",
            "session",
            "open",
            "high",
            "low",
            "close",
            "volume",
            "value",
            "currency",
            "exchange",
            "price_basis",
            "known_from",
            chosen_provider="provider",
            n_sources="provider",
            confidence="quality.reliability.value close",
            flags="flags close quality.findings.bits",
        ),
        DECIDES: (
            *made_of(
                "clean.bars_ledger",
                all="open high low close volume provider price_basis provisional known_from known_to change_class",
            )["all"],
            "clean.corporate_actions_ledger.ex_date",
            "quality.findings.quarantined",
            "quality.findings.bits",
            "quality.reliability.value",
        ),
    },
    "golden.sessions": nobodys("market", "exchange", "session", "session_no", "open", "close", "projected"),
    "golden.adjustment_events": {
        **made_of(
            "clean.corporate_actions_ledger",
            "symbol",
            "ex_date",
            "event_type",
            "seq",
            *TERMS,
            "currency",
            "provider",
            "inferred",
            "known_from",
            n_sources="provider",
            conflict=" ".join(TERMS),
        ),
        DECIDES: made_of("clean.corporate_actions_ledger", all="provider event_type withdrawn inferred known_to")[
            "all"
        ],
    },
    "golden.factor_steps": {
        **made_of(
            "golden.adjustment_events",
            "symbol",
            "ex_date",
            "cash",
            "split_ratio",
            "bonus_ratio",
            "inferred",
            version=" ".join(("event_type", "ex_date", "currency", *TERMS)),
            effective_session="ex_date golden.bars.session",
            prev_close="ex_date golden.bars.close golden.bars.volume",
            ref_price=" ".join((*TERMS, "golden.bars.close", "golden.bars.volume")),
            m=" ".join((*TERMS, "golden.bars.close", "golden.bars.volume")),
            m_ex_close=" ".join((*TERMS, "golden.bars.close", "golden.bars.volume")),
            v="split_ratio bonus_ratio event_type",
            hfq="golden.factor_steps.m",
            hfq_ex_close="golden.factor_steps.m_ex_close",
            shares="golden.factor_steps.v",
            rights_ratio="rights_ratio rights_price golden.bars.close",
            rights_value="rights_ratio rights_price golden.bars.close",
            status=" ".join(("ex_date", "currency", *TERMS, "golden.bars.session", "golden.bars.close")),
            gap=" ".join(("ex_date", "currency", *TERMS, "golden.bars.session", "golden.bars.close")),
        ),
    },
    "golden.factor_sets": {
        **made_of(
            "golden.adjustment_events",
            "symbol",
            version=" ".join(("event_type", "ex_date", "currency", *TERMS)),
            events_hash=" ".join(("event_type", "ex_date", "currency", *TERMS)),
            n_events="event_type",
            built_at="known_from golden.bars.known_from",
        ),
        **made_of("golden.factor_steps", price_basis_hash="prev_close m_ex_close", action_gap_flag="gap"),
        **nobodys("algorithm"),
    },
    **QUALITY,
}
