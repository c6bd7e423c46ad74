"""Reading parquet files that somebody else wrote, damaged ones included.

Through Arrow's own reader: on some damaged files polars asks for more memory than there is, which ends the process.
"""

from __future__ import annotations

from collections.abc import Collection

import polars as pl

from vprism_pipelines.errors import Malformed

__all__ = ["columns_of", "read"]

_MAGIC = b"PAR1"


def columns_of(body: bytes) -> list[str]:
    """Column names of a parquet file.

    Raises:
        Malformed: It is damaged.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return [str(name) for name in parquet.read_schema(pa.BufferReader(body)).names]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(body, error) from error


def read(body: bytes, columns: Collection[str] | None = None) -> pl.DataFrame:
    """The rows of a parquet file, or only some of its columns.

    Raises:
        Malformed: It is damaged, or holds a type that no frame has.
    """
    import pyarrow as pa
    from pyarrow import parquet

    wanted = None if columns is None else list(columns)
    try:
        # No threads: those that a failure leaves behind end the process when it exits.
        table = parquet.ParquetFile(pa.BufferReader(body), page_checksum_verification=True).read(
            columns=wanted, use_threads=False
        )
        table.validate(full=True)
        frame = pl.DataFrame(table)
    except (pa.ArrowException, OSError, ValueError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        # A panic of polars is no Exception, and would end the process.
        raise _damaged(body, error) from error
    return frame if wanted is None else frame.select(wanted)


def _damaged(body: bytes, error: BaseException) -> Malformed:
    if not body.endswith(_MAGIC):
        return Malformed(
            f"the parquet file is cut off: its {len(body):,} bytes do not end with PAR1",
            hint="copy or download it again; nothing was imported",
        )
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    return Malformed(f"the parquet file is damaged: {said[:200]}", hint="copy or download it again")
