"""A proposal as a row: its name, its terms and evidence as JSON, and how often proposals like it are right."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType

import polars as pl

from vprism_pipelines.market.actions import TERMS

__all__ = ["CONFIDENCE", "FOUND", "PROPOSAL", "told"]

FOUND = (
    "symbol", "ex_date", "proposal", "label", "source", "event_type", "provider", "currency", *TERMS, "m",
    "prev_close", "to", "twin_date", "pro", "con", "seen", "weight", *(f"alt_{name}" for name in TERMS), "alt_m",
)  # fmt: skip
PROPOSAL = ("proposal_id", "symbol", "kind", "ex_date", "event_type", "declared", "proposed", "confidence", "evidence",
            "currency")  # fmt: skip
YES, NO = 1.5, -1.5  # nats from which prices count as speaking for or against a proposal

CONFIDENCE: Mapping[tuple[str, str, str], float] = MappingProxyType(
    {
        ("duplicate", "none", "yes"): 0.97,
        ("duplicate", "one", "no"): 0.61,
        ("duplicate", "one", "silent"): 0.88,
        ("duplicate", "one", "yes"): 0.96,
        ("duplicate", "two", "no"): 0.9,
        ("duplicate", "two", "silent"): 0.97,
        ("duplicate", "two", "yes"): 0.97,
        ("invented", "none", "yes"): 0.29,
        ("invented", "one", "no"): 0.19,
        ("invented", "one", "silent"): 0.78,
        ("invented", "one", "yes"): 0.95,
        ("invented", "two", "no"): 0.85,
        ("invented", "two", "silent"): 0.97,
        ("invented", "two", "yes"): 0.97,
        ("mis_sized", "none", "yes"): 0.55,
        ("mis_sized", "one", "no"): 0.63,
        ("mis_sized", "one", "silent"): 0.88,
        ("mis_sized", "one", "yes"): 0.9,
        ("mis_sized", "two", "no"): 0.96,
        ("mis_sized", "two", "silent"): 0.97,
        ("mis_sized", "two", "yes"): 0.92,
        ("misdated", "one", "no"): 0.81,
        ("misdated", "one", "silent"): 0.97,
        ("misdated", "one", "yes"): 0.97,
        ("misdated", "two", "no"): 0.91,
        ("misdated", "two", "silent"): 0.97,
        ("misdated", "two", "yes"): 0.97,
        ("missing", "one", "no"): 0.76,
        ("missing", "one", "silent"): 0.82,
        ("missing", "one", "yes"): 0.91,
        ("missing", "two", "no"): 0.97,
        ("missing", "two", "silent"): 0.97,
        ("missing", "two", "yes"): 0.97,
        ("missing", "none", "yes"): 0.78,
        ("missing", "none", "silent"): 0.3,
        ("missing", "none", "no"): 0.0,
    }
)
"""(kind, adjusted series, prices) -> lower end of the 95 % interval of the share that was right when errors were put
into a real set of events (docs/corporate-actions.md); at most 0.97, as the judges are no oracles either."""

UNMEASURED = 0.5  # series that contradict each other: one of them is right
LEAST = 0.2  # a proposal that is wrong four times out of five is no help


def told(found: pl.DataFrame, series: pl.DataFrame, currency: str) -> pl.DataFrame:
    """Proposals as rows of `tables.PROPOSALS`, the most certain first; those too doubtful to ask about left out.

    Args:
        found: `FOUND`.
        series: Of `action_evidence.series_steps`.
        currency: Of the proposals.
    """
    rows = found.rename({"proposal": "kind"}).with_columns(witnesses(), prices())
    measured = pl.concat_str("kind", "series", "prices", separator=" ").replace_strict(
        {" ".join(pattern): value for pattern, value in CONFIDENCE.items()}, default=UNMEASURED
    )
    rows = rows.with_columns(confidence=measured).filter(pl.col("confidence") >= LEAST)
    rows = rows.join(_readings(rows, series), on=["symbol", "ex_date"], how="left").with_columns(
        declared=pl.when(pl.col("kind") != "missing").then(_declared()), proposed=_proposed(), evidence=_evidence()
    )
    # Sizes to two digits: a close corrected by a tick must not make another proposal of it.
    identity = pl.concat_str(
        "symbol", "kind", "ex_date", "declared", "to", *(pl.col(f"alt_{n}").round_sig_figs(2) for n in TERMS),
        separator="|", ignore_nulls=True,
    )  # fmt: skip
    names = [hashlib.sha256(text.encode()).hexdigest()[:12] for text in rows.select(identity).to_series()]
    return (
        rows.with_columns(
            proposal_id=pl.Series(names, dtype=pl.String),
            currency=pl.col("currency").fill_null(currency),
        )
        .select(PROPOSAL)
        .sort("confidence", "symbol", "ex_date", "kind", descending=[True, False, False, False])
    )


def _declared() -> pl.Expr:
    return pl.struct("provider", "ex_date", "event_type", *TERMS).struct.json_encode()


def _proposed() -> pl.Expr:
    """The events of this kind as they should be: none where nothing happened, or nobody can tell what."""
    day = pl.when(pl.col("kind") == "misdated").then("to").otherwise("ex_date").alias("ex_date")
    own = pl.col("kind") == "misdated"
    terms = [pl.when(own).then(name).otherwise(f"alt_{name}").alias(name) for name in TERMS]
    event = pl.struct(day, "event_type", *terms)
    # A step that only cash and shares together explain is two events.
    both = (pl.col("kind") == "missing") & (pl.col("alt_cash") > 0) & (pl.col("event_type") != "cash")
    cash = pl.struct(day, pl.lit("cash").alias("event_type"), terms[0], *(_neutral(name) for name in TERMS[1:]))
    shares = pl.struct(day, "event_type", _neutral("cash"), *terms[1:])
    two = pl.concat_str(cash.struct.json_encode(), shares.struct.json_encode(), separator=",")
    account = pl.when(both).then(two).otherwise(event.struct.json_encode())
    # Broken limits alone tell that something happened, and not what: people must find out.
    unknown = (pl.col("kind") == "missing") & (pl.col("series") == "none")
    happened = ((pl.col("label") != "nothing").fill_null(value=True) | own) & ~unknown
    return pl.when(happened).then(pl.concat_str(pl.lit("["), account, pl.lit("]"))).otherwise(pl.lit("[]"))


def _neutral(term: str) -> pl.Expr:
    return pl.lit(1.0 if term == "split_ratio" else 0.0).alias(term)


def _evidence() -> pl.Expr:
    return pl.struct(
        pl.col("prev_close"),
        declared_multiplier=pl.when(pl.col("kind") != "missing").then(pl.col("m").round(6)),
        proposed_multiplier=pl.coalesce("alt_m", "m").round(6),
        series_for="pro",
        series_against="con",
        adjusted_series="series",
        prices="prices",
        price_weight=pl.col("weight").round(3),
        same_as="twin_date",
        as_declared_by="source",
        steps="steps",
    ).struct.json_encode()


def _readings(rows: pl.DataFrame, series: pl.DataFrame) -> pl.DataFrame:
    """The step each adjusted series shows on the ex-date: symbol, ex_date, steps."""
    days = rows.select("symbol", "ex_date").unique()
    there = days.join(series, left_on=["symbol", "ex_date"], right_on=["symbol", "session"])
    return (
        there.sort("provider")
        .group_by("symbol", "ex_date")
        .agg(steps=pl.struct("provider", pl.col("step").round(6), pl.col("noise").round(6)))
    )


def witnesses() -> pl.Expr:
    """What the adjusted series say together: two, one, split (some contradict) or none."""
    return (
        pl.when(pl.col("seen") == 0)
        .then(pl.lit("none"))
        .when(pl.col("con") > 0)
        .then(pl.lit("split"))
        .when(pl.col("pro") > 1)
        .then(pl.lit("two"))
        .otherwise(pl.lit("one"))
        .alias("series")
    )


def prices() -> pl.Expr:
    """What opening price and limits say: yes, no or silent."""
    return (
        pl.when(pl.col("weight") >= YES)
        .then(pl.lit("yes"))
        .when(pl.col("weight") <= NO)
        .then(pl.lit("no"))
        .otherwise(pl.lit("silent"))
        .alias("prices")
    )
