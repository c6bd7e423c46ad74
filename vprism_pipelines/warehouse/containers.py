"""Bodies that are not plain text: packed ones (gzip, zip) with their members, and tables in columns (parquet). Pure."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from vprism_pipelines.warehouse.numerals import Text

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_GZIP, _ZIP, _PARQUET = b"\x1f\x8b", b"PK\x03\x04", b"PAR1"
_CHANGE: Final = 1.0625  # a sixteenth more: survives rounding, and is no power of ten


@dataclass(frozen=True, slots=True)
class Member:
    """One text in a body.

    Attributes:
        name: Within the archive; `gzip` in a gzip file; None: the body itself.
        content: Its bytes, unpacked.
        packed: The whole body with other content in this place.
    """

    name: str | None
    content: bytes
    packed: Callable[[bytes], bytes]


def members(body: bytes) -> list[Member]:
    """The texts in a body: its members where it is packed, else itself."""
    if body.startswith(_GZIP):
        return [Member("gzip", gzip.decompress(body), lambda content: gzip.compress(content, 1))]
    if not body.startswith(_ZIP):
        return [Member(None, body, lambda content: content)]
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
        return [Member(name, archive.read(name), _Repack(body, name)) for name in names]


@dataclass(frozen=True, slots=True)
class _Repack:
    body: bytes
    name: str

    def __call__(self, content: bytes) -> bytes:
        packed = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(self.body)) as archive, zipfile.ZipFile(packed, "w") as copy:
            for entry in archive.infolist():
                copy.writestr(entry, content if entry.filename == self.name else archive.read(entry.filename))
        return packed.getvalue()


def is_columnar(body: bytes) -> bool:
    """Whether it is a parquet file."""
    return body.startswith(_PARQUET)


class Columns:
    """A parquet file, read one row at a time.

    Args:
        body: The file.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body

    @property
    def rows(self) -> int:
        return int(self._file.metadata.num_rows)

    def cells(self, row: int) -> dict[str, Any]:
        """A row of the file, by column."""
        return dict(self._row(row).to_pylist()[0])

    def group(self, row: int) -> tuple[int, int]:
        """The row group a row is in, and its place there."""
        for number in range(self._file.metadata.num_row_groups):
            size = self._file.metadata.row_group(number).num_rows
            if row < size:
                return number, row
            row -= size
        raise IndexError(row)

    def alone(self, row: int, changed: Collection[str] = ()) -> bytes:
        """A file of this row only, with other values in some columns."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = self._row(row)
        for name in changed:
            at = table.column_names.index(name)
            kind = table.schema.field(at)
            table = table.set_column(at, kind, pa.array([self.other(row, name)]).cast(kind.type, safe=False))
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        return buffer.getvalue()

    def other(self, row: int, column: str) -> Any:
        """The value that `alone` puts into a column."""
        return _another(self._row(row)[column][0].as_py())

    @cached_property
    def _file(self) -> pq.ParquetFile:
        import pyarrow.parquet as pq

        return pq.ParquetFile(io.BytesIO(self._body))

    def _row(self, row: int) -> pa.Table:
        number, place = self.group(row)
        if self._held is None or self._held[0] != number:
            self._held = number, self._file.read_row_group(number)
        return self._held[1].slice(place, 1)

    _held: tuple[int, pa.Table] | None = None


def _another(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * _CHANGE if value else 1.0
    if isinstance(value, Decimal):
        return value + 1
    if isinstance(value, date):
        return value + timedelta(days=1)
    if isinstance(value, str) and value.isascii():
        text = Text(value.encode())
        return text.misspelt(text.numbers()).decode()
    return value
