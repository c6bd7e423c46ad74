"""Importing files: archived like any pull, checked for wrong units and shifted dates, cleaned and remembered."""

from __future__ import annotations

import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby
from pathlib import Path

from vprism_pipelines.errors import DataQualityError, InvalidInput, ProviderError, VprismError
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.providers import files
from vprism_pipelines.providers.base import Payload, new_id
from vprism_pipelines.providers.files import FilesProvider
from vprism_pipelines.warehouse import pulls
from vprism_pipelines.warehouse.bookkeeping import RunStep, record_steps
from vprism_pipelines.warehouse.file_checks import clean_parts, refusals
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.ingest import Ingested, enter, entered
from vprism_pipelines.warehouse.late import said_since
from vprism_pipelines.warehouse.recognition import Recogniser, Recognition

# A mapping stands beside its file in the inbox: prices.csv and prices.csv.toml.
MAPPING_SUFFIX = ".toml"
DONE, REFUSED = "done", "refused"
PORTION = 32_000_000  # bytes of files in memory at once and remembered in one transaction
# What is wrong with one file; anything else is wrong with the installation, and ends the import.
_UNUSABLE = (InvalidInput, ProviderError, DataQualityError)


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file: rows = new + changed + unchanged + quarantined, in every dataset.

    Attributes:
        file: What it is called: its name, or its path where another file of the command has that name (`called`).
        duplicate: These bytes were imported with this mapping before and still stand; nothing was done.
        datasets: Counts by dataset. Unchanged are rows that added nothing to the ledger: they say what was believed
            then, or another file of the same instant, that counts instead, says something else.
        notes: What the parser has to say, rows outside the mapping's scope included.
    """

    file: str
    provider: str
    market: str
    fetch_id: str
    duplicate: bool = False
    datasets: dict[str, Ingested] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


Outcomes = dict[Path, Imported | VprismError]
"""What became of each file, or why it was refused."""


def import_file(
    house: House,
    path: Path,
    mapping: files.Mapping,
    run_id: str,
    *,
    known_at: datetime | None = None,
    trigger: str = "cli",
) -> Imported:
    """Archive a file, clean its rows and remember them. Golden tables are built by the next run.

    Args:
        house: The installation.
        path: CSV or parquet.
        mapping: What its columns mean.
        run_id: Recorded with everything written.
        known_at: Since when its content is known; None: now.
        trigger: Recorded with the run.

    Raises:
        InvalidInput, InvalidConfiguration, Malformed: The file or its mapping is unusable; nothing was written.
        DataQualityError: Its units or dates are not what the mapping says; nothing was written.
    """
    outcome = import_files(house, {path: mapping}, run_id, known_at=known_at, trigger=trigger)[path]
    if isinstance(outcome, VprismError):
        raise outcome
    return outcome


def import_files(
    house: House,
    mappings: Mapping[Path, files.Mapping],
    run_id: str,
    *,
    known_at: datetime | None = None,
    trigger: str = "cli",
    progress: Callable[[str, int, int], None] | None = None,
) -> Outcomes:
    """Import files as if one by one, in fewer transactions: each is read, checked, dated and counted by itself.

    Files of one market and provider are remembered together, up to `PORTION` bytes in a transaction: a crash leaves
    whole files known or unknown. A file that cannot be used is refused alone.

    Args:
        house: The installation.
        mappings: CSV or parquet files, in the order in which to read them, and what their columns mean.
        run_id: Recorded with everything written.
        known_at: Since when their content is known; None: since each was read.
        trigger: Recorded with the run.
        progress: Told the name of every file, how many are behind it and how many there are.

    Returns:
        What became of each file, in the order given.

    Raises:
        InvalidInput: `known_at` is in the future.
        WarehouseError: The installation cannot be written; files remembered before it could not are recognised later.
    """
    prove_known(house, known_at)
    outcomes: Outcomes = {}
    names, recogniser, taken = called(mappings), Recogniser(house, mappings, known_at), set[str]()
    portions = list(_portions(mappings))
    for number, portion in enumerate(portions):
        started, payloads = house.clock(), {}
        ids = sorted(new_id() for _ in portion)  # of two files that differ at one instant the later one counts
        for place, (path, fetch_id) in enumerate(zip(portion, ids, strict=True), start=len(outcomes)):
            if progress:
                progress(names[path], place, len(mappings))
            try:
                payload = files.read(path, mappings[path], known_at or house.clock())
                payloads[path] = replace(payload, fetch_id=fetch_id)
            except _UNUSABLE as error:
                outcomes[path] = error
        if payloads:
            mapping = mappings[portion[0]]
            ahead = [path for later in portions[number + 1 :] for path in later]
            ahead = [path for path in ahead if _source(mappings[path]) == _source(mapping)]
            recognition = recogniser.hold(payloads, ahead, taken)
            done = _take_in(house, mapping, payloads, names, recognition, run_id, trigger, started)
            taken |= {one.fetch_id for one in done.values() if isinstance(one, Imported) and not one.duplicate}
            outcomes |= done
    for path, outcome in outcomes.items():
        if isinstance(outcome, VprismError):
            outcome.context.setdefault("file", names[path])
    return {path: outcomes[path] for path in mappings}


def prove_known(house: House, known_at: datetime | None) -> None:
    """Nothing can be known before it is.

    Raises:
        InvalidInput: The instant is in the future.
    """
    if known_at is not None and known_at > house.clock():
        raise InvalidInput(f"--known-at {known_at} is in the future", hint="say when the content became known")


def called(paths: Iterable[Path]) -> dict[Path, str]:
    """What to call files: by name, or where several have one name, by their paths below the folder they share."""
    paths = list(paths)
    bearers = Counter(path.name for path in paths)
    whole = {path: path.parent.resolve() / path.name for path in paths if bearers[path.name] > 1}
    shared = os.path.commonpath([path.parent for path in whole.values()]) if whole else ""
    return {path: whole[path].relative_to(shared).as_posix() if path in whole else path.name for path in paths}


def _source(mapping: files.Mapping) -> tuple[str, str]:
    return mapping.market, mapping.provider


def _portions(mappings: Mapping[Path, files.Mapping]) -> Iterator[list[Path]]:
    """Files of one market and provider, as many as are taken in together; a larger one stands alone."""

    def source(path: Path) -> tuple[str, str]:
        return _source(mappings[path])

    for _, paths in groupby(sorted(mappings, key=source), source):
        portion: list[Path] = []
        held = 0
        for path in paths:
            size = path.stat().st_size if path.is_file() else 0
            if portion and held + size > PORTION:
                yield portion
                portion, held = [], 0
            portion.append(path)
            held += size
        yield portion


def _take_in(
    house: House,
    mapping: files.Mapping,
    payloads: Mapping[Path, Payload],
    labels: Mapping[Path, str],
    recognition: Recognition,
    run_id: str,
    trigger: str,
    started: datetime,
) -> Outcomes:
    """Check the files of a portion that are new, archive the good ones and remember them."""
    spec, parser = mapping.spec, FilesProvider(name=mapping.provider, clock=house.clock)
    names = {payload.fetch_id: labels[path] for path, payload in payloads.items()}
    known = recognition.known()
    pulled = pulls.parse_all(parser, [payload for payload in payloads.values() if _own(known, payload)])
    refused: dict[str, VprismError] = {pull.payload.fetch_id: pull.error for pull in pulled if pull.error}
    while True:  # until no file is refused: those that are leave no trace
        known = recognition.known(refused)
        pulled = [pull for pull in pulled if _own(known, pull.payload) and pull.payload.fetch_id not in refused]
        parts = clean_parts(spec, parser, pulled)
        bad = [refusals(house, spec, part, names) for part in parts]
        if not any(bad):
            break
        for errors in bad:
            refused = errors | refused
        parts.clear()  # before the others are cleaned once more
    notes = {pull.payload.fetch_id: tuple(pull.parsed.notes) for pull in pulled if pull.parsed}
    done: dict[str, dict[str, Ingested]] = defaultdict(dict)
    if pulled:
        lake_path = house.lake.seal([pull.payload for pull in pulled], run_id)
        fetches = pulls.keep(house.lake, parser, pulled, lake_path)
        pulled.clear()  # a quarter of a large import's memory
        with house.warehouse.transaction() as connection:
            pulls.register(connection, fetches, run_id)
            while parts:
                part = parts.pop(0)
                since = said_since(connection, house.lake, spec, part.dataset, part.pulls, part.cleaned.accepted)
                batch = enter(connection, spec, part.dataset, part.pulls, part.cleaned, since).batch
                for fetch_id, counts in entered(connection, part.dataset, part.tallies, batch).items():
                    done[fetch_id][part.dataset] = counts
            steps = [
                RunStep(
                    run_id,
                    f"import/{names[fetch_id]}/{dataset}",
                    trigger,
                    started,
                    spec.code,
                    rows=counts.rows,
                    accepted=counts.new + counts.changed,
                    unchanged=counts.unchanged,
                    quarantined=counts.quarantined,
                    batch=counts.batch,
                )
                for fetch_id, datasets in done.items()
                for dataset, counts in datasets.items()
            ]
            record_steps(connection, steps, house.clock())
    return {
        path: refused.get(known[payload.fetch_id])
        or Imported(
            names[payload.fetch_id],
            parser.name,
            spec.code,
            known[payload.fetch_id],
            duplicate=not _own(known, payload),
            datasets=done.get(payload.fetch_id, {}),
            notes=notes.get(payload.fetch_id, ()),
        )
        for path, payload in payloads.items()
    }


def _own(known: Mapping[str, str], payload: Payload) -> bool:
    """Whether a file has to be read: no earlier pull says the same."""
    return known[payload.fetch_id] == payload.fetch_id


# --- the inbox ------------------------------------------------------------------------------------------------------


def inbox(house: House) -> Path:
    """The folder that is watched: <data>/inbox."""
    return house.settings.data_dir / "inbox"


def in_folder(folder: Path) -> list[Path]:
    """Files of a folder that hold data: all but mappings and hidden ones."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in found if path.is_file() and path.suffix != MAPPING_SUFFIX and path.name[0] != "."]


def waiting(house: House, spec: MarketSpec) -> list[tuple[Path, files.Mapping | VprismError]]:
    """Files of a market in the inbox with the mapping beside them, or a shipped one that fits their columns."""
    found: list[tuple[Path, files.Mapping | VprismError]] = []
    for path in in_folder(inbox(house)):
        beside = path.with_name(path.name + MAPPING_SUFFIX)
        try:
            mapping = files.Mapping.load(beside) if beside.is_file() else files.guess(path)
        except VprismError as error:
            found.append((path, error))
            continue
        if mapping is not None and mapping.market == spec.code:
            found.append((path, mapping))
    return found


def import_inbox(house: House, spec: MarketSpec, run_id: str) -> tuple[list[Imported], dict[str, VprismError]]:
    """Import what waits for a market; files move to `done` or, with the reason beside them, to `refused`."""
    found = waiting(house, spec)
    usable = {path: mapping for path, mapping in found if not isinstance(mapping, VprismError)}
    outcomes = import_files(house, usable, run_id, trigger="inbox")
    outcomes |= {path: mapping for path, mapping in found if isinstance(mapping, VprismError)}
    done: list[Imported] = []
    refused: dict[str, VprismError] = {}
    for path, _ in found:
        outcome = outcomes[path]
        if isinstance(outcome, Imported):
            done.append(outcome)
            _move(path, DONE)
        else:
            refused[path.name] = outcome
            _move(path, REFUSED).with_suffix(path.suffix + ".reason").write_text(
                f"{outcome.code}: {outcome.message}\n{outcome.hint}\n"
            )
    return done, refused


def _move(path: Path, folder: str) -> Path:
    target = path.parent / folder / path.name
    target.parent.mkdir(exist_ok=True)
    for file in (path, path.with_name(path.name + MAPPING_SUFFIX)):
        if file.is_file():
            shutil.move(file, target.parent / file.name)
    return target


def total(imported: Sequence[Imported]) -> int:
    """Rows of several imports."""
    return sum(counts.rows for item in imported for counts in item.datasets.values())
