"""Thresholds in force: the defaults of the catalogue, and what an installation decided otherwise (`VPRISM_CHECKS`).

>>> rules = thresholds({"completeness": {"HOSE": {"warn": 0.002, "fail": 0.005}}, "flat_run": {"HNX": {"value": 9}}})
>>> rules.judge("completeness", 0.003, "HOSE"), rules.judge("completeness", 0.003, "HNX")
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from types import MappingProxyType

import polars as pl

from vprism_pipelines.errors import InvalidConfiguration
from vprism_pipelines.market.rule_tables import in_force, only, rows
from vprism_pipelines.market.spec import MARKETS
from vprism_pipelines.quality.checks import Check, Status, Threshold
from vprism_pipelines.quality.datasets import CHECKS

__all__ = ["DEFAULTS", "EVERY", "Overrides", "Thresholds", "thresholds"]

Overrides = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Check, then venue or `*`, then `warn`, `fail` or `value`."""

EVERY = "*"
LONGEST_FLAT_RUN = 200  # a longer one would reach beyond the window of the checks
_NAMES = ("warn", "fail", "value")


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The thresholds of an installation. Everything it did not decide is as in `CHECKS`."""

    overrides: Overrides = field(default_factory=lambda: MappingProxyType({}))

    def check(self, name: str, venue: str = EVERY) -> Check:
        """A check as it holds on a venue: its own `warn` and `fail`, else those for every venue, else the defaults."""
        found = CHECKS[name]
        for place in (EVERY, venue):
            said = self.overrides.get(name, {}).get(place, {})
            found = replace(found, warn=said.get("warn", found.warn), fail=said.get("fail", found.fail))
        return found

    def judge(self, name: str, value: float | None, venue: str = EVERY) -> Status:
        """The verdict on a measured value; nothing measured is fine."""
        return self.check(name, venue).judge(value)

    def values(self, name: str) -> tuple[Threshold, ...]:
        """From which value a check of single bars fires; a decision holds on its venue for all dates."""
        said = {venue: found["value"] for venue, found in self.overrides.get(name, {}).items() if "value" in found}
        kept = (known for known in CHECKS[name].values if known.venue not in said)
        return (*(Threshold(value, venue) for venue, value in said.items()), *kept)

    def value(self, name: str, frame: pl.DataFrame) -> pl.Expr:
        """The same for every row of a frame with venue and session: Float64."""
        known = self.values(name)
        default = next((row.value for row in known if row.venue == EVERY), None)
        dated = [{"venues": row.venue, "valid_from": row.valid_from, "value": row.value} for row in known]
        special = [row for row in dated if row["venues"] != EVERY]
        if not special:
            return pl.lit(default, dtype=pl.Float64)
        return in_force(frame, special, only("value")).cast(pl.Float64).fill_null(pl.lit(default, dtype=pl.Float64))


def thresholds(overrides: Overrides) -> Thresholds:
    """The thresholds in force with an installation's decisions.

    Raises:
        InvalidConfiguration: A check, venue or threshold does not exist, or a number makes no sense.
    """
    venues = _venues()
    for name, places in overrides.items():
        _known(name, CHECKS, "check")
        for venue, said in places.items():
            _known(venue, venues, "venue", name)
            for key, value in said.items():
                _known(key, _NAMES, "threshold", name)
                _sensible(CHECKS[name], key, value)
            changed = Thresholds({name: {venue: said}}).check(name, venue)
            if changed.warn is not None and changed.fail is not None and changed.warn > changed.fail:
                raise InvalidConfiguration(
                    f"VPRISM_CHECKS: {name} on {venue} would fail at {changed.fail} before it warns at {changed.warn}",
                    hint="give warn and fail, warn first",
                    check=name,
                )
    return Thresholds(overrides)


def _venues() -> list[str]:
    exchanges = [code for spec in MARKETS.values() for code in spec.exchanges]
    return sorted({EVERY, *exchanges, *(row["board"] for row in rows("cn_boards"))})


def _known(name: str, names: Mapping[str, object] | list[str] | tuple[str, ...], what: str, where: str = "") -> None:
    if name in names:
        return
    near = get_close_matches(name, list(names), 1)
    raise InvalidConfiguration(
        f"VPRISM_CHECKS{f', {where}' if where else ''}: there is no {what} {name!r}",
        hint=f"did you mean {near[0]!r}?" if near else f"use one of: {', '.join(names)}",
        **{what: name},
    )


def _sensible(check: Check, key: str, value: float) -> None:
    most = LONGEST_FLAT_RUN if check.name == "flat_run" and key == "value" else math.inf
    wrong = not (math.isfinite(value) and 0 <= value <= most)
    if key == "value" and not check.values:
        raise InvalidConfiguration(
            f"VPRISM_CHECKS: {check.name} has no value to set", hint="it knows warn and fail only", check=check.name
        )
    if wrong or (key == "value" and value == 0):
        raise InvalidConfiguration(
            f"VPRISM_CHECKS: {check.name} cannot have {key} {value}",
            hint="use a number above 0" + (f" and up to {most}" if math.isfinite(most) else ""),
            check=check.name,
        )


DEFAULTS = Thresholds()
