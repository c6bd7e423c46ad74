"""What files hold, cleaned together and judged each by itself: can this file be believed?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from vprism_pipelines.errors import ContractViolation, VprismError
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.providers import files
from vprism_pipelines.providers.base import Dataset, Parsed, Payload
from vprism_pipelines.providers.files import FilesProvider
from vprism_pipelines.providers.files.rows import raw_rows
from vprism_pipelines.quality.rows import Cleaned
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.ingest import Ingested, clean_raw, prove, tallies, too_bad
from vprism_pipelines.warehouse.pulls import Pulled
from vprism_pipelines.warehouse.sanity import mistaken_units, shifted_pulls


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one dataset of some files: cleaned together, counted by pull."""

    dataset: str
    pulls: pl.DataFrame
    cleaned: Cleaned
    tallies: Mapping[str, Ingested]


def clean_parts(spec: MarketSpec, parser: FilesProvider, pulled: Sequence[Pulled]) -> list[Part]:
    """What the files hold of each dataset, cleaned."""
    frames: dict[Dataset, list[tuple[Payload, pl.DataFrame]]] = defaultdict(list)
    for pull in pulled:
        for dataset, frame in (pull.parsed.frames if pull.parsed else {}).items():
            if frame.height:
                frames[dataset].append((pull.payload, frame))
    parts = []
    for dataset, found in frames.items():
        about = pl.DataFrame(
            [(payload.fetch_id, payload.fetched_at) for payload, _ in found],
            {"fetch_id": pl.String, "fetched_at": pl.Datetime("us", "UTC")},
            orient="row",
        ).with_columns(provider=pl.lit(parser.name), parser_version=pl.lit(parser.parser_version))
        cleaned = clean_raw(pl.concat([frame for _, frame in found]), about, spec, dataset)
        parts.append(Part(dataset, about, cleaned, tallies(cleaned)))
    return parts


def refusals(house: House, spec: MarketSpec, part: Part, names: Mapping[str, str]) -> dict[str, VprismError]:
    """Files that cannot be believed, by pull, with the first reason: units, dates, or too many bad rows."""
    least = house.settings.min_data_quality
    judged = ((fetch_id, too_bad(spec, part.dataset, tally, least)) for fetch_id, tally in part.tallies.items())
    refused: dict[str, VprismError] = {fetch_id: error for fetch_id, error in judged if error}
    if part.dataset == "bars":
        refused |= shifted_pulls(part.cleaned, spec, house.thresholds)
        refused |= mistaken_units(part.cleaned, spec, names)
    if not refused:
        try:
            prove(part.dataset, part.cleaned.accepted)
        except ContractViolation as error:  # a defect of ours costs its own file alone
            if "fetch_id" not in error.context:
                raise
            refused[error.context["fetch_id"]] = error
    return refused


@dataclass(frozen=True, slots=True)
class Trial:
    """What an import of a file would find.

    Attributes:
        before: The first rows as the file has them, with `row`.
        parts: What they became, by dataset.
        notes: What the parser has to say.
    """

    before: pl.DataFrame
    parts: Sequence[Part]
    notes: Sequence[str]


def try_file(house: House, path: Path, mapping: files.Mapping, instant: datetime) -> Trial:
    """Read, clean and judge a file as an import does; nothing is written.

    Args:
        house: The installation.
        path: CSV or parquet.
        mapping: What its columns mean.
        instant: Since when its content is known.

    Raises:
        InvalidInput, InvalidConfiguration, Malformed, DataQualityError: An import would refuse it for that.
    """
    payload = files.read(path, mapping, instant)
    reading = raw_rows(payload, mapping, path.name)
    pulled = Pulled(payload, Parsed(reading.frames, reading.notes), None)
    parser = FilesProvider(name=mapping.provider, clock=house.clock)
    parts = clean_parts(mapping.spec, parser, [pulled])
    for part in parts:
        for error in refusals(house, mapping.spec, part, {payload.fetch_id: path.name}).values():
            raise error
    return Trial(reading.before, parts, reading.notes)
