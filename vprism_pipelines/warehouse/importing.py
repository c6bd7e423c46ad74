"""Importing files: archived like any pull, checked for wrong units and shifted dates, cleaned and remembered."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import polars as pl

from vprism_pipelines.errors import DataQualityError, InvalidInput, VprismError
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.market.spec import market as spec_of
from vprism_pipelines.providers import files
from vprism_pipelines.providers.base import Payload
from vprism_pipelines.providers.files import FilesProvider, Mapping
from vprism_pipelines.quality.alignment import unit_suspects
from vprism_pipelines.quality.rows import Cleaned
from vprism_pipelines.warehouse import pulls
from vprism_pipelines.warehouse.bookkeeping import RunStep, record_step
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.ingest import Ingested, clean_raw, ingest
from vprism_pipelines.warehouse.sanity import prove_dates

# A mapping stands beside its file in the inbox: prices.csv and prices.csv.toml.
MAPPING_SUFFIX = ".toml"
DONE, REFUSED = "done", "refused"
SUSPECT_SHARE = 0.5  # of the symbols judged; fewer can be oddities, more is the wrong unit


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file: input = accepted + quarantined + unchanged, over all its datasets.

    Attributes:
        duplicate: These bytes had been imported with this mapping before; nothing was done.
        datasets: Counts by dataset.
        notes: What the parser has to say, rows outside the mapping's scope included.
    """

    file: str
    provider: str
    market: str
    fetch_id: str
    duplicate: bool = False
    datasets: dict[str, Ingested] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def import_file(
    house: House, path: Path, mapping: Mapping, run_id: str, *, known_at: datetime | None = None, trigger: str = "cli"
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
    started = house.clock()
    if known_at is not None and known_at > started:
        raise InvalidInput(f"--known-at {known_at} is in the future", hint="say when the content became known")
    spec = spec_of(mapping.market)
    payload = files.read(path, mapping, known_at or started)
    if known := _known(house, payload):
        return Imported(path.name, mapping.provider, spec.code, known, duplicate=True)
    parser = FilesProvider(name=mapping.provider, clock=house.clock)
    parsed = parser.parse(payload)
    pulled = pl.DataFrame(
        {"fetch_id": [payload.fetch_id], "provider": [mapping.provider], "parser_version": [parser.parser_version]}
    ).with_columns(fetched_at=pl.lit(payload.fetched_at, dtype=pl.Datetime("us", "UTC")))
    cleaned = {
        dataset: clean_raw(frame, pulled, spec, dataset) for dataset, frame in parsed.frames.items() if frame.height
    }
    if "bars" in cleaned:
        prove_units(cleaned["bars"], spec, path.name)
        prove_dates(cleaned["bars"], spec, house.thresholds)
    lake_path = house.lake.seal([payload], run_id)
    fetches = pulls.keep(house.lake, parser, [pulls.Pulled(payload, parsed, None)], lake_path)
    with house.warehouse.transaction() as connection:
        pulls.register(connection, fetches, run_id)
    notes = tuple(parsed.notes)
    del parsed  # a quarter of a large import's memory
    done: dict[str, Ingested] = {}
    for dataset in list(cleaned):
        clean = cleaned.pop(dataset)
        with house.warehouse.transaction() as connection:
            done[dataset] = counts = ingest(connection, spec, dataset, pulled, clean, house.settings.min_data_quality)
            record_step(
                connection,
                RunStep(
                    run_id,
                    f"import/{path.name}/{dataset}",
                    trigger,
                    started,
                    spec.code,
                    rows=counts.rows,
                    accepted=counts.new + counts.changed,
                    unchanged=counts.unchanged,
                    quarantined=counts.quarantined,
                    batch=counts.batch,
                ),
                house.clock(),
            )
    return Imported(path.name, mapping.provider, spec.code, payload.fetch_id, datasets=done, notes=notes)


def prove_units(cleaned: Cleaned, spec: MarketSpec, name: str) -> None:
    """Refuse bars whose prices or volumes are in another unit than declared.

    Raises:
        DataQualityError: Most symbols that can be judged are off by the same power of ten.
    """
    bars = cleaned.accepted.select("provider", "symbol", "session", "exchange", "close", "volume", "value")
    suspects = unit_suspects(bars, spec)
    judged = bars["symbol"].n_unique()
    by_field = suspects.group_by("field", "factor").len().sort("len", descending=True)
    if by_field.is_empty() or by_field["len"][0] < SUSPECT_SHARE * judged:
        return
    example = suspects.row(0, named=True)
    raise DataQualityError(
        f"{name}: the {example['field']} of {by_field['len'][0]:,} of {judged:,} symbols looks off by a factor of"
        f" {by_field['factor'][0]:g}: {example['evidence']}",
        hint=f"correct the unit of {example['field']} in the mapping; nothing was imported",
        check="units",
        symbol=example["symbol"],
    )


def _known(house: House, payload: Payload) -> str | None:
    """The pull that brought these bytes under this mapping before."""
    if not house.warehouse.path.exists():
        return None
    with house.warehouse.connect() as connection:
        row = connection.execute(
            "SELECT fetch_id FROM raw.fetches WHERE sha256 = ? AND provider = ? AND error_code IS NULL"
            " AND (request->>'$.params.mapping') = ?",
            [payload.sha256, payload.request.provider, payload.request.params["mapping"]],
        ).fetchone()
    return str(row[0]) if row else None


# --- the inbox ------------------------------------------------------------------------------------------------------


def inbox(house: House) -> Path:
    """The folder that is watched: <data>/inbox."""
    return house.settings.data_dir / "inbox"


def waiting(house: House, spec: MarketSpec) -> list[tuple[Path, Mapping | VprismError]]:
    """Files of a market in the inbox with the mapping beside them, or a shipped one that fits their columns."""
    found: list[tuple[Path, Mapping | VprismError]] = []
    folder = inbox(house)
    for path in sorted(folder.glob("*")) if folder.is_dir() else []:
        if not path.is_file() or path.suffix == MAPPING_SUFFIX or path.name.startswith("."):
            continue
        beside = path.with_name(path.name + MAPPING_SUFFIX)
        try:
            mapping = Mapping.load(beside) if beside.is_file() else files.guess(path)
        except VprismError as error:
            found.append((path, error))
            continue
        if mapping is not None and mapping.market == spec.code:
            found.append((path, mapping))
    return found


def import_inbox(house: House, spec: MarketSpec, run_id: str) -> tuple[list[Imported], dict[str, VprismError]]:
    """Import what waits for a market; files move to `done` or, with the reason beside them, to `refused`."""
    done: list[Imported] = []
    refused: dict[str, VprismError] = {}
    for path, mapping in waiting(house, spec):
        try:
            if isinstance(mapping, VprismError):
                raise mapping
            done.append(import_file(house, path, mapping, run_id, trigger="inbox"))
            _move(path, DONE)
        except VprismError as error:
            refused[path.name] = error
            _move(path, REFUSED).with_suffix(path.suffix + ".reason").write_text(
                f"{error.code}: {error.message}\n{error.hint}\n"
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
