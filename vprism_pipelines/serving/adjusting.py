"""Explaining what is computed from golden bars: adjusted prices as products of events, indicators as formulas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any, cast

import polars as pl

from vprism_pipelines.market.actions import TERMS, merge_events
from vprism_pipelines.market.indicators import Indicator, catalogue
from vprism_pipelines.market.spec import market_of
from vprism_pipelines.serving.explanation import Action, Explanation, Factor, Indicated, Missing, Step
from vprism_pipelines.serving.library import Basis, Library
from vprism_pipelines.tables.golden import TRADED

if TYPE_CHECKING:
    from vprism_pipelines.serving.explain import Explainer

__all__ = ["adjusted", "catalogue", "indicated", "with_places"]

_NEUTRAL = {"cash": 0.0, "split_ratio": 1.0, "bonus_ratio": 0.0, "rights_ratio": 0.0, "rights_price": 0.0}
# On which multiplier a basis rests, and whether the steps after the session count, or those until it.
_BASES: Mapping[str, tuple[str, bool]] = {
    "split": ("v", True),
    "qfq": ("m", True),
    "hfq": ("m", False),
    "total_return": ("m_ex_close", True),
}
_READS: Mapping[str, tuple[str, str]] = {
    "volume": ("volume", "golden.bars.volume / shares"),
    "value": ("value", "golden.bars.value"),
    "benchmark": ("close", "the benchmark's golden.bars.close x hfq"),
    **{name: (name, f"golden.bars.{name} x hfq") for name in ("open", "high", "low", "close")},
    **{f"raw_{name}": (name, f"golden.bars.{name}") for name in ("high", "low", "close")},
    **{f"split_{name}": (name, f"golden.bars.{name} x shares") for name in ("high", "low", "close")},
}


def adjusted(library: Library, told: Explanation, steps_then: pl.DataFrame | None = None) -> Explanation:
    """A golden cell on another basis: raw price times factor, volume over the share factor.

    Args:
        library: The published warehouse.
        told: The golden cell.
        steps_then: Factor steps as of an instant; None: the published ones.
    """
    volume = told.field == "volume"
    multiplier, later = ("v", told.basis != "hfq") if volume else _BASES[told.basis]
    rows = [
        row
        for row in _steps(library, told, steps_then)
        if row["status"] == "applied" and row[multiplier] != 1 and (row["effective_session"] > told.session) is later
    ]
    steps = tuple(_step(row, multiplier, later=later) for row in rows)
    basis = cast(Basis, told.basis)
    found = library.bars(told.symbol, told.session, told.session, basis, told.as_of).row(0, named=True)
    value = found["share_factor"] if volume else found["factor"]
    span = f"{'after' if later else 'until'} {told.session}"
    many = "1 step" if len(steps) == 1 else f"{len(steps)} steps"
    product = f"product of {many} {span}" if steps else f"1: no corporate action {span}"
    rebuilt = prod(step.multiplier for step in steps)
    if abs(rebuilt / value - 1) > 1e-9:
        product += f", whose product is {rebuilt:.12g}: factors are being rebuilt"
    sign = "/" if volume else "x"
    note = f"{told.field} on the {told.basis} basis = {told.raw_value} {sign} {value:.12g}"
    return replace(told, value=found[told.field], factor=Factor(value, product, steps), notes=(note, *told.notes))


def _steps(library: Library, told: Explanation, steps: pl.DataFrame | None) -> list[dict[str, Any]]:
    """Factor steps with their events, as published or as they would have been built at an instant."""
    if steps is None:
        steps = library.sql("SELECT * FROM golden.factor_steps WHERE symbol = ? ORDER BY ex_date", [told.symbol])
        events = library.sql("SELECT * FROM golden.adjustment_events WHERE symbol = ?", [told.symbol])
    else:
        declared = library.sql(
            """SELECT * EXCLUDE (change_class, batch, fetch_id, payload_row)
               FROM clean.corporate_actions_as_of($as_of) WHERE symbol = $symbol
               ORDER BY symbol, ex_date, provider, event_type, seq""",
            {"symbol": told.symbol, "as_of": told.as_of},
        )
        events = merge_events(declared, market_of(told.symbol).providers)
    sources = library.sql(
        """SELECT ex_date, provider, event_type, seq, fetch_id, payload_row FROM clean.corporate_actions_ledger
           WHERE symbol = $symbol AND known_from <= coalesce($as_of, now())
             AND (known_to IS NULL OR known_to > coalesce($as_of, now()))""",
        {"symbol": told.symbol, "as_of": told.as_of},
    )
    # One day may have several events of one type; merging numbers them anew, so that a source is found by its day.
    declared_by = {(row["ex_date"], row["provider"], row["event_type"], row["seq"]): row for row in sources.to_dicts()}
    by_day: dict[Any, list[Action]] = {}
    for event in events.to_dicts():
        key = event["ex_date"], event["provider"], event["event_type"], event["seq"]
        by_day.setdefault(event["ex_date"], []).append(_action(event, declared_by.get(key)))
    return [row | {"actions": tuple(by_day.get(row["ex_date"], ()))} for row in steps.to_dicts()]


def _action(event: Mapping[str, Any], source: Mapping[str, Any] | None) -> Action:
    return Action(
        event_type=event["event_type"],
        seq=event["seq"],
        terms={name: event[name] for name in TERMS if event[name] != _NEUTRAL[name]},
        provider=event["provider"],
        n_sources=event["n_sources"],
        inferred=event["inferred"],
        fetch_id=source["fetch_id"] if source else None,
        payload_row=source["payload_row"] if source else None,
    )


def _step(row: Mapping[str, Any], multiplier: str, *, later: bool) -> Step:
    size = row[multiplier]
    if multiplier == "v":
        formula = f"v = split {row['split_ratio']:g} x (1 + bonus {row['bonus_ratio']:g}) = {size:.12g}"
    else:
        reference = (
            f"({row['prev_close']:g} - cash {row['cash']:g} + rights {row['rights_value']:g})"
            f" / (split {row['split_ratio']:g} x (1 + bonus {row['bonus_ratio']:g}) + rights {row['rights_ratio']:g})"
        )
        formula = f"m = previous close {row['prev_close']:g} / reference {row['ref_price']:.12g}, which is {reference}"
        if multiplier == "m_ex_close":
            formula = f"m_ex_close = {size:.12g}: reinvested at the close of the ex-session; {formula}"
    return Step(
        ex_date=row["ex_date"],
        effective_session=row["effective_session"],
        multiplier=1 / size if later else size,
        formula=f"1 / {formula}" if later else formula,
        prev_close=row["prev_close"],
        ref_price=row["ref_price"],
        version=row["version"],
        actions=row["actions"],
    )


def with_places(explainer: Explainer, factor: Factor) -> Factor:
    """The same factor, every declared event with the bytes of its terms."""
    from vprism_pipelines.serving.explain import archived

    def told(action: Action) -> Action:
        if action.fetch_id is None or action.payload_row is None or action.inferred:
            return action
        fetch = explainer.library.sql("SELECT * FROM raw.fetches WHERE fetch_id = ?", [action.fetch_id]).to_dicts()[0]
        reading = explainer.reading(archived(fetch, "actions", action.payload_row))
        places = [place for name in action.terms for place in reading.trace("actions", action.payload_row, name).places]
        return replace(action, places=tuple(places))

    steps = tuple(replace(step, actions=tuple(told(action) for action in step.actions)) for step in factor.steps)
    return replace(factor, steps=steps)


def indicated(library: Library, told: Explanation, indicator: Indicator) -> Explanation:
    """An indicator: its definition and inputs, above the explanation of the close of its last session."""
    told = replace(told, field=indicator.name, basis=indicator.basis, unit=indicator.unit)
    if told.raw_value is None:
        return told
    stored = library.sql(
        f'SELECT "{indicator.name}" AS value FROM analytics.daily WHERE symbol = ? AND session = ?',
        [told.symbol, told.session],
    )["value"].to_list()
    bars = library.sql(
        f"""SELECT session, open, high, low, close, volume, value FROM golden.bars
           WHERE symbol = ? AND session <= ? AND {TRADED}
           ORDER BY session""",
        [told.symbol, told.session],
    )
    value = stored[0] if stored else None
    reach = bars.tail((indicator.window or bars.height) + 1) if indicator.window else bars
    inputs = tuple(_input(name, reach) for name in indicator.inputs)
    shown = Indicated(
        f"{indicator.name}: {indicator.description}",
        indicator.basis,
        reach.height if indicator.window else 0,
        reach["session"][0] if reach.height else None,
        inputs,
    )
    return replace(
        told,
        value=value,
        indicator=shown,
        missing=None if value is not None else _no_number(told, indicator, bars, stored=bool(stored)),
    )


def _input(name: str, bars: pl.DataFrame) -> Mapping[str, Any]:
    column, formula = _READS[name]
    own = bars.height > 0 and name != "benchmark"
    return {
        "column": name,
        "read from": formula,
        "first": bars[column][0] if own else None,
        "last": bars[column][-1] if own else None,
    }


def _no_number(told: Explanation, indicator: Indicator, bars: pl.DataFrame, *, stored: bool) -> Missing:
    if not stored:
        return Missing("untraded", f"nothing was traded on {told.session}: indicators are made of traded bars")
    if bars.height <= indicator.first:
        return Missing(
            "warming_up",
            f"{indicator.name} needs {indicator.first + 1} traded sessions, this is number {bars.height}",
        )
    return Missing(
        "no_number",
        "its window spans a suspension, has no movement, or lacks one of its inputs (volume, value or benchmark)",
    )
