"""The lake: immutable files from which everything else can be rebuilt.

    payloads/<provider>/<yyyy-mm>/<batch>.parquet    every answer, byte for byte, errors included
    raw/<provider>_<dataset>/<parser>/<batch>.parquet  the rows parsed from them, in the provider's own terms
    incoming/<provider>/<fetch_id>.payload           answers of a fetch that is still running
    decisions/<drawer>/<name>.json                   what people decided

An answer is staged the moment it arrives and sealed into one parquet file when its fetch ends; after a kill the staged
files are found again, so nothing is asked for twice. Files are written beside their name and renamed: a file that has
its name is whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import polars as pl

from vprism_pipelines.errors import CorruptLake, StorageUnwritable
from vprism_pipelines.providers.base import Payload, Request, new_id

_PAYLOADS: dict[str, type[pl.DataType] | pl.DataType] = {
    "fetch_id": pl.String,
    "request": pl.String,
    "status": pl.Int32,
    "headers": pl.String,
    "fetched_at": pl.Datetime("us", "UTC"),
    "latency_ms": pl.Float64,
    "error": pl.String,
    "sha256": pl.String,
    "body": pl.Binary,
    "run_id": pl.String,
}


class Lake:
    """The archive under one folder. Paths that leave this class are relative to it.

    Args:
        root: The folder; created when first written to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    # --- payloads -----------------------------------------------------------------------------------------------

    def stage(self, payload: Payload) -> None:
        """Keep one answer at once, before anybody looks inside."""
        head = json.dumps(_head(payload) | {"fetched_at": payload.fetched_at.isoformat()})
        target = self.root / "incoming" / payload.request.provider / f"{payload.fetch_id}.payload"
        with _naming(target) as draft:
            draft.write_bytes(head.encode() + b"\n" + payload.body)

    def staged(self, provider: str) -> list[Payload]:
        """Answers of a fetch that ended before it was sealed."""
        found = []
        for path in sorted((self.root / "incoming" / provider).glob("*.payload")):
            try:
                head, _, body = path.read_bytes().partition(b"\n")
            except FileNotFoundError:  # its own run has sealed it meanwhile
                continue
            try:
                fields = json.loads(head)
                fields["fetched_at"] = datetime.fromisoformat(fields["fetched_at"])
                found.append(_payload({**fields, "body": body}, path))
            except (ValueError, KeyError, TypeError) as error:
                raise CorruptLake(
                    f"a staged payload cannot be read: {error}", hint="move the file away", path=path
                ) from error
        return found

    def seal(self, payloads: Sequence[Payload], run_id: str) -> str:
        """Archive answers of one provider in one file and drop their staged copies. Returns its path."""
        first = payloads[0]
        path = f"payloads/{first.request.provider}/{first.fetched_at:%Y-%m}/{new_id()}.parquet"
        frame = pl.DataFrame([{**_fields(payload), "run_id": run_id} for payload in payloads], schema=_PAYLOADS)
        with _naming(self.root / path) as draft:
            frame.write_parquet(draft, compression="zstd", statistics=True)
            _flush(draft)
        self.unstage(payloads)
        return path

    def unstage(self, payloads: Iterable[Payload]) -> None:
        """Drop the staged copies of answers that are archived."""
        for payload in payloads:
            (self.root / "incoming" / payload.request.provider / f"{payload.fetch_id}.payload").unlink(missing_ok=True)

    # --- decisions ----------------------------------------------------------------------------------------------

    def record(self, drawer: str, name: str, records: Sequence[Mapping[str, object]]) -> None:
        """Keep what people decided, as plain data; names sort by time."""
        with _naming(self.root / "decisions" / drawer / f"{name}.json") as draft:
            draft.write_text(json.dumps(list(records), indent=1), encoding="utf-8")
            _flush(draft)

    def recorded(self, drawer: str) -> list[dict[str, object]]:
        """Every decision in a drawer, oldest first."""
        found: list[dict[str, object]] = []
        for path in sorted((self.root / "decisions" / drawer).glob("*.json")):
            try:
                found += json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, TypeError) as error:
                raise CorruptLake(
                    f"a recorded decision cannot be read: {error}", hint="restore the file from a backup", path=path
                ) from error
        return found

    def payload_files(self) -> list[str]:
        """Every sealed payload file, oldest first."""
        files = (self.root / "payloads").glob("*/*/*.parquet")
        return [str(path.relative_to(self.root)) for path in sorted(files, key=lambda path: path.name)]

    def payloads(self, path: str, fetch_ids: Iterable[str] | None = None) -> Iterator[Payload]:
        """Payloads of one sealed file, or only the named ones, each proven to be what was archived.

        Raises:
            CorruptLake: The file is missing or damaged, or a body is not what its hash says.
        """
        frame = self._scan(self.root / path).select(list(_PAYLOADS))
        if fetch_ids is not None:
            frame = frame.filter(pl.col("fetch_id").is_in(list(fetch_ids)))
        for fields in self._collect(frame, path).iter_rows(named=True):
            payload = _payload(fields, self.root / path)
            if not isinstance(payload.body, bytes) or payload.sha256 != fields["sha256"]:
                raise CorruptLake(
                    "an archived body does not match its hash",
                    hint="restore the file from a backup; other files are not affected",
                    path=self.root / path,
                    fetch_id=payload.fetch_id,
                )
            yield payload

    def fetch_ids(self, path: str) -> list[str]:
        """Which payloads a sealed file holds."""
        return self._collect(self._scan(self.root / path).select("fetch_id"), path)["fetch_id"].to_list()

    def run_of(self, path: str) -> str:
        """The run that sealed a payload file."""
        return str(self._collect(self._scan(self.root / path).select(pl.col("run_id").first()), path).item())

    # --- parsed rows --------------------------------------------------------------------------------------------

    def write_rows(self, name: str, frames: Mapping[str, pl.DataFrame]) -> None:
        """Keep the rows parsed from some payloads.

        Args:
            name: `<parser_version>/<batch>.parquet`.
            frames: Rows by folder, `<provider>_<dataset>`.
        """
        for folder, frame in frames.items():
            with _naming(self.root / "raw" / folder / name) as draft:
                frame.write_parquet(draft, compression="zstd", statistics=True)
                _flush(draft)

    def rows(self, folder: str, names: Sequence[str], fetch_ids: Sequence[str]) -> pl.DataFrame:
        """Parsed rows of the named pulls, from the files that hold them."""
        wanted = pl.Series(fetch_ids, dtype=pl.String).implode()
        frames = []
        for name in dict.fromkeys(names):
            path = f"raw/{folder}/{name}"
            scan = self._scan(self.root / path).filter(pl.col("fetch_id").is_in(wanted))
            frames.append(self._collect(scan, path))
        return pl.concat(frames)

    def drop_superseded(self, payloads: str, current: Collection[str]) -> None:
        """Forget what older parsers had read from a payload file.

        Args:
            payloads: Path of the payload file.
            current: Row files that count, `<provider>_<dataset>/<parser>/<batch>.parquet`.
        """
        rows = self.root / "raw"
        for path in rows.glob(f"*/*/{payloads.rsplit('/', 1)[-1]}"):
            if str(path.relative_to(rows)) not in current:
                path.unlink(missing_ok=True)

    def _scan(self, path: Path) -> pl.LazyFrame:
        if not path.is_file():
            raise CorruptLake("a file of the lake is missing", hint="restore it from a backup", path=path)
        return pl.scan_parquet(path)

    def _collect(self, frame: pl.LazyFrame, path: str) -> pl.DataFrame:
        try:
            return frame.collect()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            # polars panics on some damaged files; a panic is no Exception, and would end the process.
            raise CorruptLake(
                f"a file of the lake is damaged: {str(error).partition(chr(10))[0]}",
                hint="restore it from a backup; the published warehouse is not affected",
                path=self.root / path,
            ) from error


def _fields(payload: Payload) -> dict[str, object]:
    return _head(payload) | {"sha256": payload.sha256, "body": payload.body}


def _head(payload: Payload) -> dict[str, object]:
    return {
        "fetch_id": payload.fetch_id,
        "request": payload.request.to_json(),
        "status": payload.status,
        "headers": json.dumps(dict(payload.headers), sort_keys=True),
        "fetched_at": payload.fetched_at,
        "latency_ms": payload.latency_ms,
        "error": payload.error,
    }


def _payload(fields: dict[str, object], path: Path) -> Payload:
    try:
        return Payload(
            request=Request.from_json(str(fields["request"])),
            status=int(str(fields["status"])),
            body=fields["body"],  # type: ignore[arg-type]
            fetched_at=fields["fetched_at"],  # type: ignore[arg-type]
            headers=json.loads(str(fields["headers"])),
            latency_ms=float(str(fields["latency_ms"])),
            error=fields["error"],  # type: ignore[arg-type]
            fetch_id=str(fields["fetch_id"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptLake(f"an archived payload cannot be read: {error}", hint="restore it", path=path) from error


@contextmanager
def _naming(target: Path) -> Iterator[Path]:
    """Write beside the name, then rename."""
    draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        draft.rename(target)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise StorageUnwritable(
            f"cannot write to the lake: {error.strerror or error}",
            hint="check free space and permissions, or set VPRISM_DATA_DIR",
            path=target.parent,
        ) from error


def _flush(path: Path) -> None:
    with path.open("rb+") as handle:
        os.fsync(handle.fileno())
