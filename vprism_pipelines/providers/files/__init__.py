"""Bring your own files: any CSV or parquet of bars, actions or instruments, read through a mapping.

    mapping = Mapping.load("cafef_daily")              # shipped, or a TOML file of your own
    preview(path, mapping).after["bars"]               # what it would become; nothing is kept
    payload = read(path, mapping, fetched_at=now)      # then archived and parsed like any other answer

The provider's name is the mapping's, so that several files can be reconciled with each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from collections.abc import Mapping as Map
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl

from vprism_pipelines.errors import InvalidConfiguration, InvalidInput, Malformed, NotFound, ProviderError, Unavailable
from vprism_pipelines.market.spec import MARKETS
from vprism_pipelines.providers.base import (
    Capabilities,
    Dataset,
    Parsed,
    Payload,
    Quota,
    Request,
)
from vprism_pipelines.providers.files.columns import missing_columns, resolve
from vprism_pipelines.providers.files.mapping import Mapping, shipped
from vprism_pipelines.providers.files.reading import header
from vprism_pipelines.providers.files.rows import raw_rows
from vprism_pipelines.providers.http_errors import REASON_HEADER, raise_for_payload

if TYPE_CHECKING:
    from vprism_pipelines.providers.transport import Transport

__all__ = ["FilesProvider", "Mapping", "Preview", "guess", "preview", "read", "request", "shipped"]

_SCHEME: Final = "file:"
_NOW: Final = partial(datetime.now, UTC)
_CAPABILITIES: Final = Capabilities(
    name="files",
    title="Your own files",
    markets=tuple(sorted(MARKETS)),
    asset_types=("STOCK", "ETF", "FUND", "INDEX", "FUTURES", "WARRANT", "BOND"),
    datasets=("bars", "actions", "instruments"),
    price_basis="raw",
    history="whatever the file holds",
    quota=Quota(concurrency=1),
    licence="the file's own",
    needs_network=False,
    immutable=True,
)


def request(path: str | Path, mapping: Mapping) -> Request:
    """The question a file answers; equal bytes under an equal mapping and name make an equal request.

    Args:
        path: CSV or parquet file.
        mapping: What it means.

    Raises:
        InvalidInput: The file cannot be read.
        InvalidConfiguration: The mapping asks for a column the file does not have.
    """
    body = _bytes(path)
    _fit(mapping, body, Path(path).name)
    return _request(Path(path).name, mapping, body)


def read(path: str | Path, mapping: Mapping, fetched_at: datetime) -> Payload:
    """A file as a payload, ready to be archived and parsed.

    Args:
        path: CSV or parquet file.
        mapping: What it means.
        fetched_at: Since when its content is known (an aware datetime): now, or the day it was published.

    Raises:
        InvalidInput: The file cannot be read.
        InvalidConfiguration: The mapping asks for a column the file does not have.
        Malformed: The file is damaged, or in another encoding than the mapping says.
    """
    body = _bytes(path)
    _fit(mapping, body, Path(path).name)
    return Payload(_request(Path(path).name, mapping, body), 200, body, fetched_at)


def guess(path: str | Path) -> Mapping | None:
    """The shipped mapping whose columns a file has, when exactly one explains most of them; else None.

    Raises:
        InvalidInput: The file cannot be read.
    """
    body = _bytes(path)
    explained: dict[int, list[Mapping]] = {}
    for place in shipped().values():
        mapping = Mapping.load(place)
        try:
            names = header(body, mapping.file)
        except ProviderError:
            continue
        if mapping.file.header and not missing_columns(mapping, names):
            leaves = [leaf for table in mapping.table for _, source in table.sources() for leaf, _ in source.leaves()]
            used = {resolve(names, leaf.alternatives, mapping.file) for leaf in leaves} - {None}
            explained.setdefault(len(used), []).append(mapping)
    best = explained[max(explained)] if explained else []
    # A mapping that takes any spelling of a column explains less than one that knows the layout.
    best = [mapping for mapping in best if not mapping.file.ignore_case] or best
    return best[0] if len(best) == 1 else None


@dataclass(frozen=True, slots=True)
class Preview:
    """What an import would do, before it is done.

    Attributes:
        before: The first rows as the file has them, with `row`.
        after: Raw rows by dataset, in the provider's units; the first of each.
        rejected: row, dataset, reason, text: lines and cells that could not be read, and events of no known kind. The
            checks that need a calendar or other rows come later, when the rows are cleaned.
        notes: How many rows became what.
        rows: Rows of the file, and raw rows by dataset.
    """

    before: pl.DataFrame
    after: Map[Dataset, pl.DataFrame]
    rejected: pl.DataFrame
    notes: tuple[str, ...]
    rows: Map[str, int]


def preview(path: str | Path, mapping: Mapping, rows: int = 5) -> Preview:
    """Read a whole file and show the first rows before and after, and everything that could not be read.

    Args:
        path: CSV or parquet file.
        mapping: What it means.
        rows: How many rows to show.

    Raises:
        InvalidInput, InvalidConfiguration, Malformed: As `read`.
    """
    payload = read(path, mapping, datetime(1970, 1, 1, tzinfo=UTC))
    reading = raw_rows(payload, mapping, Path(path).name)
    return Preview(
        before=reading.before.head(rows),
        after={dataset: frame.head(rows) for dataset, frame in reading.frames.items()},
        rejected=reading.rejected,
        notes=reading.notes,
        rows={"file": reading.height} | {dataset: frame.height for dataset, frame in reading.frames.items()},
    )


class FilesProvider:
    """Files as a provider: parses what `read` made of them.

    Args:
        transport: Not used; every provider takes one.
        clock: Current time, for payloads that `fetch` makes.
        folder: Where `fetch` finds files by name; None: it finds none.
        name: The mapping's provider, for rows that are kept under that name.
    """

    parser_version = "1"

    def __init__(
        self,
        transport: Transport | None = None,
        *,
        clock: Callable[[], datetime] = _NOW,
        folder: Path | None = None,
        name: str = "files",
    ) -> None:
        self.name = name
        self._clock = clock
        self._folder = folder

    def capabilities(self) -> Capabilities:
        return _CAPABILITIES

    def plan(
        self, market: str, dataset: Dataset, symbols: Sequence[str], start: date, end: date, now: datetime
    ) -> list[Request]:
        """Nothing: files come when somebody brings them, and cannot be asked for."""
        return []

    async def fetch(self, request: Request) -> Payload:
        """Read the file a request names, from the folder; refused when its bytes are no longer those it speaks of."""
        name = request.url.removeprefix(_SCHEME)
        code, reason = NotFound.code, "files are read with providers.files.read; no folder to look in"
        if self._folder is not None and name == Path(name).name:
            try:
                body = (self._folder / name).read_bytes()
            except OSError as error:
                code, reason = Unavailable.code, f"{name} cannot be read: {error.strerror or error}"
            else:
                if hashlib.sha256(body).hexdigest() == request.params.get("sha256"):
                    return Payload(request, 200, body, self._clock())
                code, reason = Malformed.code, f"{name} has changed since it was asked for"
        return Payload(request, 0, b"", self._clock(), headers={REASON_HEADER: reason}, error=code)

    def parse(self, payload: Payload) -> Parsed:
        """Raw rows of every dataset the mapping in the request finds in the file.

        Raises:
            ProviderError: The file could not be read, is damaged, or lacks a column of its mapping.
        """
        if payload.status == 0:
            raise_for_payload(payload)
        try:
            mapping = Mapping.model_validate_json(payload.request.params["mapping"])
        except (KeyError, ValueError) as error:
            raise Malformed(
                "the payload carries no mapping that can be read", hint="import the file again with its mapping"
            ) from error
        try:
            reading = raw_rows(payload, mapping, payload.request.url.removeprefix(_SCHEME))
        except pl.exceptions.PanicException as error:  # of polars over the columns of a damaged parquet file
            raise Malformed(f"the file is damaged: {error}", hint="copy or download it again") from error
        return Parsed(reading.frames, reading.notes)

    async def aclose(self) -> None:
        """Nothing to release."""


def _bytes(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"{str(path)!r} cannot be read: {error.strerror or error}", hint="name a CSV or parquet file", path=path
        ) from None


def _fit(mapping: Mapping, body: bytes, name: str) -> None:
    names = header(body, mapping.file)
    problems = missing_columns(mapping, names)
    if problems:
        raise InvalidConfiguration(
            f"the mapping does not fit {name}: {'; '.join(problems[:5])}",
            hint=f"the file has the columns {', '.join(names)}",
            file=name,
            provider=mapping.provider,
        )


def _request(name: str, mapping: Mapping, body: bytes) -> Request:
    return Request(
        provider=mapping.provider,
        dataset=mapping.datasets[0],
        market=mapping.market,
        symbol=None,
        provider_symbol=None,
        start=None,
        end=None,
        url=f"{_SCHEME}{name}",
        params={"mapping": mapping.to_json(), "sha256": hashlib.sha256(body).hexdigest()},
    )
