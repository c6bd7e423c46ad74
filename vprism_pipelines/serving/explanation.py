"""What an explanation says, as plain data, and how it reads as a tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any, TypeAlias

from vprism_pipelines.warehouse.provenance import Place

Branch: TypeAlias = "tuple[str, Sequence[Branch]]"
"""A line and what hangs below it."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Why there is no value.

    Attributes:
        reason: not_a_session, future, not_listed, unknown, provisional, rejected, quarantined, sidelined, refused,
            not_told, not_given, untraded, warming_up or no_number.
        text: The reason in a sentence.
        evidence: What it rests on: rejected rows, findings, failed pulls.
    """

    reason: str
    text: str
    evidence: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """A corporate action in a factor step, with the pull that declared it and, when asked for, its bytes."""

    event_type: str
    seq: int
    terms: Mapping[str, float]
    provider: str
    n_sources: int
    inferred: bool
    fetch_id: str | None
    payload_row: int | None
    places: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One ex-date's part of a factor. `multiplier` is what the price is multiplied with on the basis asked for."""

    ex_date: date
    effective_session: date
    multiplier: float
    formula: str
    prev_close: float | None
    ref_price: float | None
    version: str
    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Factor:
    """What a raw price is multiplied with: the product of the steps."""

    value: float
    formula: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Indicated:
    """An indicator: what it is, and the cells it is made of."""

    formula: str
    basis: str
    sessions: int
    """Traded sessions in its window; 0: all since the first."""
    first_session: date | None
    inputs: tuple[Mapping[str, Any], ...]
    """column, first (value on the first session of the window) and last."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What one provider said, and how it fared in the vote. `weight`: its reliability; `support`: of all who agree."""

    provider: str
    value: float | str | None
    close: float
    price_basis: str
    weight: float
    support: float
    difference_bp: float | None
    findings: tuple[str, ...]
    excluded: str | None
    chosen: bool


@dataclass(frozen=True, slots=True)
class Version:
    """One thing a provider said about a cell, and between which instants it was believed."""

    value: float | str | None
    known_from: datetime
    known_to: datetime | None
    change_class: str
    fetch_id: str
    used: bool


@dataclass(frozen=True, slots=True)
class Cleaning:
    """From the raw value to ours. `agrees`: the formula gives the ledger's value."""

    raw: float | str | None
    formula: str
    price_unit: float
    volume_unit: float
    value_unit: float
    basis_factor: float | None
    price_basis: str
    raw_symbol: str
    rule_id: str | None
    agrees: bool


@dataclass(frozen=True, slots=True)
class Archived:
    """The answer in the lake. `verified`: its bytes have the hash that was taken when it came."""

    fetch_id: str
    provider: str
    request: Mapping[str, Any]
    status: int
    fetched_at: datetime
    latency_ms: float
    bytes: int
    sha256: str
    verified: bool
    lake_path: str
    parser: str
    parser_version: str
    """Of the parser that fed the warehouse; `read_by` is the version that read it now."""
    read_by: str
    dataset: str
    row: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a published value comes from, down to the bytes; or why there is none.

    Attributes:
        value: As published; None: see `missing`.
        indicator: For an analytics cell; what follows then explains the close of its last session.
        factor: For an adjusted price.
        raw_value: The golden cell, as traded.
        chosen: Provider whose bar golden holds, and `why`.
        places: The exact bytes. Several where the provider computes the value from several numbers; `factor_places`
            are those of its basis factor.
    """

    symbol: str
    session: date
    field: str
    basis: str
    as_of: datetime | None
    value: float | str | None
    unit: str
    missing: Missing | None = None
    indicator: Indicated | None = None
    factor: Factor | None = None
    raw_value: float | str | None = None
    chosen: str | None = None
    why: str = ""
    confidence: float | None = None
    flags: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    versions: tuple[Version, ...] = ()
    cleaning: Cleaning | None = None
    source: Archived | None = None
    places: tuple[Place, ...] = ()
    factor_places: tuple[Place, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON says it: dates and instants as text."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain

    def tree(self) -> list[str]:
        """As lines for people."""
        return list(drawn(_root(self)))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else value


# --- the tree -----------------------------------------------------------------------------------------------------


def _root(told: Explanation) -> Branch:
    name = f"{told.symbol} {told.session} {told.field}" + (f", {told.basis}" if told.basis != "raw" else "")
    asof = f" as of {told.as_of:%Y-%m-%dT%H:%M:%SZ}" if told.as_of else ""
    below: list[Branch] = []
    if told.missing:
        below.append((f"there is no value: {told.missing.text}", [(_record(e), []) for e in told.missing.evidence]))
    if told.indicator:
        below.append(_indicated(told.indicator))
    if told.factor:
        below.append(_factor(told.factor))
    if told.chosen:
        below.append(_choice(told))
    below += [(note, []) for note in told.notes]
    shown = "no value" if told.value is None else f"{told.value} {told.unit}".strip()
    return f"{name}{asof} = {shown}", below


def _indicated(indicator: Indicated) -> Branch:
    window = f"{indicator.sessions} sessions from {indicator.first_session}" if indicator.sessions else "all sessions"
    inputs: list[Branch] = [(_record(item), []) for item in indicator.inputs]
    return f"{indicator.formula}; over {window}, on the {indicator.basis} basis", inputs


def _factor(factor: Factor) -> Branch:
    steps: list[Branch] = []
    for step in factor.steps:
        actions = [_action(action) for action in step.actions]
        steps.append((f"{step.ex_date}: x {step.multiplier:.12g}, {step.formula}", actions))
    return f"factor {factor.value:.12g} = {factor.formula}", steps


def _action(action: Action) -> Branch:
    terms = ", ".join(f"{name} {value:g}" for name, value in action.terms.items())
    how = "inferred from prices" if action.inferred else "declared"
    others = f" and {action.n_sources - 1} more" if action.n_sources > 1 else ""
    pull = f" (row {action.payload_row} of pull {action.fetch_id})" if action.fetch_id else ""
    text = f"{action.event_type}, {terms or 'no terms'}: {how} by {action.provider}{others}{pull}"
    return text, [_place(place) for place in action.places]


def _choice(told: Explanation) -> Branch:
    below: list[Branch] = []
    for candidate in told.candidates:
        said = f"{'✓' if candidate.chosen else '✗'} {candidate.provider}: {candidate.value}"
        vote = candidate.excluded or f"weight {candidate.weight:g}, support {candidate.support:g}"
        apart = "" if candidate.difference_bp is None else f", close {candidate.difference_bp:+.1f} bp from the chosen"
        found = f"; findings: {', '.join(candidate.findings)}" if candidate.findings else ""
        below.append((f"{said} ({candidate.price_basis}; {vote}{apart}{found})", []))
    below += [_version(version) for version in told.versions]
    if told.cleaning:
        below.append(_cleaning(told.cleaning))
    if told.source:
        below.append(_archived(told))
    sure = f", confidence {told.confidence:g}" if told.confidence is not None else ""
    sure += f", flags {', '.join(told.flags)}" if told.flags else ""
    return f"golden {told.raw_value} from {told.chosen}: {told.why}{sure}", below


def _version(version: Version) -> Branch:
    until = f"{version.known_to:%Y-%m-%d %H:%M:%SZ}" if version.known_to else "now"
    since = f"{version.known_from:%Y-%m-%d %H:%M:%SZ}"
    return (
        f"{'→' if version.used else ' '} {version.value} believed from {since} to {until} ({version.change_class})",
        [],
    )


def _cleaning(cleaning: Cleaning) -> Branch:
    spelled = f"{cleaning.raw_symbol!r} read by rule {cleaning.rule_id}" if cleaning.rule_id else cleaning.raw_symbol
    odd = "" if cleaning.agrees else " - NOT what the ledger holds"
    return f"cleaned: {cleaning.formula}{odd} ({cleaning.price_basis}; {spelled})", []


def _archived(told: Explanation) -> Branch:
    source = told.source
    assert source is not None
    asked = source.request
    params = {key: str(value) for key, value in (asked.get("params") or {}).items() if key != "mapping"}
    query = "&".join(f"{key}={value[:60]}{'…' if len(value) > 60 else ''}" for key, value in params.items())
    below: list[Branch] = [
        (f"request: {asked.get('method', 'GET')} {asked.get('url', '')}{'?' if query else ''}{query}", []),
        (f"status {source.status}, {source.fetched_at:%Y-%m-%d %H:%M:%SZ}, {source.latency_ms:.0f} ms", []),
        (f"sha256 {source.sha256} {'verified' if source.verified else 'NOT VERIFIED'}, {source.bytes:,} bytes", []),
        (f"lake: {source.lake_path}", []),
    ]
    below += [_place(place) for place in told.places]
    if told.factor_places:
        below.append(("its basis factor:", [_place(place) for place in told.factor_places]))
    version = source.parser_version
    version += f", read again by {source.read_by}" if source.read_by != source.parser_version else ""
    return f"row {source.row} of {source.dataset}, parser {source.parser}/{version}, pull {source.fetch_id}", below


def _place(place: Place) -> Branch:
    if place.column is not None:
        where = f"column {place.column}, row group {place.row_group}, row {place.row}"
    else:
        member = f"{place.member}: " if place.member else ""
        where = f"{member}byte {place.offset:,}, {place.length} bytes, line {place.line}"
    return f"{where}: {place.text!r}", [(place.context, []), (f"proof: {place.proof}", [])]


def _record(record: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in record.items() if value is not None)


def drawn(branch: Branch, lead: str = "", below: str = "") -> Iterator[str]:
    """A tree as lines, parents first."""
    text, children = branch
    yield lead + text
    for place, child in enumerate(children):
        last = place == len(children) - 1
        yield from drawn(child, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "))
