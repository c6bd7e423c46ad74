"""Explaining a published number: from the cell down to the bytes of the answer it was read from.

    golden cell        who said what, how they were weighed, why this one won
    adjusted cell      raw price x factor, and the factor as a product of corporate actions
    analytics cell     the indicator, the cells it is made of, and the last of them as above

Then the ledger's versions, the cleaning, the parser, the archived answer with its hash proven, and the number's offset
in it, proven by parsing the answer again with other digits in that place (`warehouse.provenance`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from math import isclose
from typing import TYPE_CHECKING, Any, cast, get_args

from vprism_pipelines.errors import InvalidInput, ProviderError, UnknownSymbol
from vprism_pipelines.providers import registry
from vprism_pipelines.providers.base import Dataset
from vprism_pipelines.quality.consensus import AGREEMENT_BP
from vprism_pipelines.quality.flags import names as flag_names
from vprism_pipelines.serving import adjusting, missing
from vprism_pipelines.serving.asking import instant, nearest, period
from vprism_pipelines.serving.evidence import Evidence, gather
from vprism_pipelines.serving.explanation import Archived, Candidate, Cleaning, Explanation, Version
from vprism_pipelines.serving.library import Basis, Library
from vprism_pipelines.tables import GOLDEN_BARS
from vprism_pipelines.warehouse.lake import Lake
from vprism_pipelines.warehouse.provenance import Reading
from vprism_pipelines.warehouse.search import MOST_PARSES

if TYPE_CHECKING:
    from vprism_pipelines.providers.base import Payload

NUMBERS = ("open", "high", "low", "close", "volume", "value")
_FIELDS = {column.name: column for column in GOLDEN_BARS.columns if column.name in NUMBERS}
_INDICATORS = {indicator.name: indicator for indicator in adjusting.catalogue()}
_READINGS = 8  # archived answers kept parsed at once
_PULLS = 64  # answers read from one file of the lake at once


@dataclass(frozen=True, slots=True)
class Cell:
    """A published number: a golden field on a price basis, or an indicator.

    Attributes:
        symbol: Canonical, or in a spelling that only one known symbol has.
        session: Trading day.
        field: open, high, low, close, volume, value, or an indicator of `analytics.daily`.
        basis: Of a price or volume; an indicator has its own.
        as_of: What was believed at this instant; None: what is published.
        events: Also look for the bytes of every corporate action in the factor.
    """

    symbol: str
    session: date | str
    field: str
    basis: Basis = "raw"
    as_of: datetime | str | None = None
    events: bool = False


class Explainer:
    """Explains cells of one installation; answers of the lake are read once for all cells of a call.

    Args:
        library: The published warehouse.
        lake: The archive it was made from.
        clock: Where `now` comes from, to tell future dates.
    """

    def __init__(self, library: Library, lake: Lake, clock: Callable[[], datetime] = registry.utc_now) -> None:
        self.library = library
        self._lake = lake
        self._clock = clock
        self._readings: OrderedDict[str, Reading] = OrderedDict()
        self._payloads: dict[str, Payload] = {}
        self._wanted: dict[str, list[str]] = {}
        self._symbols: dict[str, str] = {}
        self._rules: dict[tuple[str, str], str | None] = {}

    def explain(self, cells: Sequence[Cell]) -> list[Explanation]:
        """Explain cells, in their order.

        Raises:
            UnknownSymbol: A symbol is nowhere in the warehouse.
            InvalidInput: There is no such field or basis.
            InvalidRange: A date or instant cannot be read.
            CorruptLake: An archived answer is missing, damaged, or no longer read as it was.
        """
        asked = [self._asked(cell) for cell in cells]
        instants = {blank.as_of for blank in asked}
        evidence = {
            instant: gather(self.library, [(b.symbol, b.session) for b in asked if b.as_of == instant], instant)
            for instant in instants
        }
        told = [self._walk(blank, evidence[blank.as_of]) for blank in asked]
        order = sorted(range(len(told)), key=lambda at: _place_of(told[at]))
        self._wanted = {}
        for at in order:
            if (source := told[at].source) is not None:
                self._wanted.setdefault(source.lake_path, []).append(source.fetch_id)
        for at in order:
            told[at] = self._to_the_bytes(told[at], events=cells[at].events)
        self._payloads = {}
        return told

    # --- what is asked ------------------------------------------------------------------------------------------------

    def _asked(self, cell: Cell) -> Explanation:
        """The cell, understood: an explanation without anything in it."""
        if cell.symbol not in self._symbols:
            self._symbols[cell.symbol] = self._symbol(cell.symbol)
        symbol = self._symbols[cell.symbol]
        day, _ = period(cell.session, None)
        assert day is not None
        if cell.field not in _FIELDS and cell.field not in _INDICATORS:
            near = nearest(cell.field, [*_FIELDS, *_INDICATORS])
            raise InvalidInput(
                f"there is no field {cell.field!r}",
                hint=f"{near} use {', '.join(NUMBERS)} or a column of analytics.daily".strip(),
            )
        if cell.basis not in get_args(Basis):
            raise InvalidInput(
                f"there is no price basis {cell.basis!r}", hint=f"use one of: {', '.join(get_args(Basis))}"
            )
        if cell.as_of is not None and cell.field in _INDICATORS:
            raise InvalidInput("indicators are kept as they are now", hint="explain a price as of then")
        as_of = None if cell.as_of is None else instant(cell.as_of)
        return Explanation(symbol, day, cell.field, cell.basis, as_of, None, "")

    def _walk(self, blank: Explanation, evidence: Evidence) -> Explanation:
        if blank.field in _INDICATORS:
            told = self._golden(replace(blank, field="close", basis="raw"), evidence)
            return adjusting.indicated(self.library, told, _INDICATORS[blank.field])
        told = self._golden(blank, evidence)
        if told.value is None or blank.basis == "raw" or blank.field == "value":
            return told
        return adjusting.adjusted(self.library, told, evidence.steps.get(blank.symbol))

    def _symbol(self, raw: str) -> str:
        try:
            return self.library.canonical(raw)[0]
        except UnknownSymbol:
            # Not in golden: nobody may have been believed, which is what an explanation is for.
            known = set(self.library.sql("SELECT DISTINCT symbol FROM clean.bars_ledger")["symbol"])
            known |= set(self.library.sql("SELECT DISTINCT symbol FROM clean.symbol_map")["symbol"])
            found = [symbol for symbol in known if raw.strip().upper() in (symbol, symbol.rpartition(":")[2])]
            if len(found) != 1:
                raise
            return str(found[0])

    # --- golden -------------------------------------------------------------------------------------------------------

    def _golden(self, blank: Explanation, evidence: Evidence) -> Explanation:
        """The cell as traded: its candidates, versions and the pull it came from; or why there is none."""
        candidates = evidence.candidates.get((blank.symbol, blank.session), ())
        bar = evidence.bars.get((blank.symbol, blank.session))
        if bar is None or not any(row["provider"] == bar["chosen_provider"] for row in candidates):
            why = missing.bar(self.library, blank, candidates, self._clock())
            shown = tuple(_candidate(row, None, blank.field) for row in candidates)
            return replace(blank, missing=why, candidates=shown)
        field = _FIELDS[blank.field]
        chosen = next(row for row in candidates if row["provider"] == bar["chosen_provider"])
        versions = evidence.versions.get((blank.symbol, blank.session, chosen["provider"]), ())
        fetch = evidence.fetches.get(chosen["fetch_id"])
        told = replace(
            blank,
            value=bar[blank.field],
            raw_value=bar[blank.field],
            unit=str(bar["currency"]) if field.unit.startswith("currency") else field.unit,
            chosen=bar["chosen_provider"],
            why=_why(candidates, chosen),
            confidence=bar["confidence"],
            flags=tuple(flag_names(bar["flags"])),
            candidates=tuple(_candidate(row, chosen, blank.field) for row in candidates),
            versions=tuple(_version(row, chosen, blank.field) for row in versions),
            source=archived(fetch, "bars", chosen["payload_row"]) if fetch else None,
        )
        return told if told.value is not None else replace(told, missing=missing.field(told))

    # --- the bytes ----------------------------------------------------------------------------------------------------

    def _to_the_bytes(self, told: Explanation, *, events: bool) -> Explanation:
        if told.factor and events:
            told = replace(told, factor=adjusting.with_places(self, told.factor))
        if told.source is None or told.raw_value is None:
            return told
        reading = self.reading(told.source)
        field = "close" if told.indicator else told.field
        try:
            raw = reading.row(cast(Dataset, told.source.dataset), told.source.row)
        except ProviderError as error:
            return replace(told, notes=(*told.notes, f"today's parser refuses the answer: {error.message}"))
        found = reading.trace("bars", told.source.row, field)
        factors = reading.trace("bars", told.source.row, "basis_factor") if field != "value" else None
        notes = told.notes
        if not found.places:
            given_up = found.parses >= MOST_PARSES
            why = (
                f"searched in {found.parses} parses and given up" if given_up else f"{reading.parser.name} computes it"
            )
            notes += (f"no number of the answer was found to decide {field}: {why}",)
        return replace(
            told,
            cleaning=self._cleaning(told, raw, field),
            source=replace(told.source, verified=True, read_by=reading.parser.parser_version),
            places=found.places,
            factor_places=factors.places if factors else (),
            notes=notes,
        )

    def reading(self, source: Archived) -> Reading:
        """An archived answer, its hash proven, ready to be searched.

        Raises:
            CorruptLake: It is missing or damaged.
        """
        held = self._readings.pop(source.fetch_id, None)
        if held is None:
            if source.fetch_id not in self._payloads:
                wanted = list(dict.fromkeys(self._wanted.get(source.lake_path, [])))
                at = wanted.index(source.fetch_id) if source.fetch_id in wanted else 0
                pulls = {source.fetch_id, *wanted[at : at + _PULLS]}
                self._payloads = {p.fetch_id: p for p in self._lake.payloads(source.lake_path, sorted(pulls))}
            payload = self._payloads[source.fetch_id]
            held = Reading(payload, registry.parser_of(payload.request))
        self._readings[source.fetch_id] = held
        while len(self._readings) > _READINGS:
            self._readings.popitem(last=False)
        return held

    def _cleaning(self, told: Explanation, raw: Mapping[str, Any], field: str) -> Cleaning:
        factor = raw["basis_factor"] or 1.0
        terms = {"volume": ("volume_unit", 1 / factor), "value": ("value_unit", 1.0)}
        unit_name, by = terms.get(field, ("price_unit", factor))
        unit, value = raw[unit_name], raw[field]
        formula = f"{value} x {unit:g}" if unit != 1 else f"{value}"
        if factor != 1 and field != "value":
            formula += f" {'/' if field == 'volume' else 'x'} basis factor {factor:.12g}"
        said = told.raw_value
        agrees = value is not None and said is not None and isclose(value * unit * by, float(said), rel_tol=1e-9)
        if field == "volume" and value is not None and said is not None:
            agrees = abs(value * unit * by - float(said)) <= 0.5
        spelling = raw["raw_symbol"], told.chosen or ""
        if spelling not in self._rules:
            rules = self.library.sql(
                "SELECT rule_id FROM clean.symbol_map WHERE raw_symbol = ? AND provider = ?", list(spelling)
            )
            self._rules[spelling] = rules["rule_id"][0] if rules.height else None
        return Cleaning(
            raw=value,
            formula=f"{formula} = {said}",
            price_unit=raw["price_unit"],
            volume_unit=raw["volume_unit"],
            value_unit=raw["value_unit"],
            basis_factor=raw["basis_factor"],
            price_basis=raw["price_basis"],
            raw_symbol=raw["raw_symbol"],
            rule_id=self._rules[spelling],
            agrees=agrees,
        )


def archived(fetch: Mapping[str, Any], dataset: str, row: int) -> Archived:
    """A row of `raw.fetches`, not yet held against the lake."""
    import json

    return Archived(
        fetch_id=fetch["fetch_id"],
        provider=fetch["provider"],
        request=json.loads(fetch["request"]),
        status=fetch["status"],
        fetched_at=fetch["fetched_at"],
        latency_ms=fetch["latency_ms"],
        bytes=fetch["bytes"],
        sha256=fetch["sha256"],
        verified=False,
        lake_path=fetch["lake_path"],
        parser=fetch["provider"],
        parser_version=fetch["parser_version"],
        read_by="",
        dataset=dataset,
        row=row,
    )


def _candidate(row: Mapping[str, Any], chosen: Mapping[str, Any] | None, field: str) -> Candidate:
    same = chosen is not None and row["provider"] == chosen["provider"]
    apart = None if chosen is None or same else round((row["close"] / chosen["close"] - 1) * 1e4, 6)
    return Candidate(
        provider=row["provider"],
        value=row[field],
        close=row["close"],
        price_basis=row["price_basis"],
        weight=row["weight"],
        support=row["support"],
        difference_bp=apart,
        findings=tuple(row["checks"] or ()),
        excluded=row["excluded"],
        chosen=same,
    )


def _version(row: Mapping[str, Any], chosen: Mapping[str, Any], field: str) -> Version:
    return Version(
        value=row[field],
        known_from=row["known_from"],
        known_to=row["known_to"],
        change_class=row["change_class"],
        fetch_id=row["fetch_id"],
        used=row["known_from"] == chosen["known_from"],
    )


def _why(candidates: Iterable[Mapping[str, Any]], chosen: Mapping[str, Any]) -> str:
    rivals = [row for row in candidates if row["provider"] != chosen["provider"]]
    taking = [row for row in rivals if not row["excluded"]]
    out = f"; {len(rivals) - len(taking)} took no part" if len(taking) < len(rivals) else ""
    if not taking:
        return f"the only candidate{out}"
    support = chosen["support"]
    best = max(row["support"] for row in taking)
    if support > best:
        return f"most reliability agrees with its close within {AGREEMENT_BP:g} bp ({support:g} against {best:g}){out}"
    return f"as much support as the next ({support:g}); range, volume, weight, then the market's trust decide{out}"


def _place_of(told: Explanation) -> tuple[str, str, int]:
    source = told.source
    return ("", "", 0) if source is None else (source.lake_path, source.fetch_id, source.row)
