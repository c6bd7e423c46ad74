"""Vendor A's format: three CSV tables in one text, whole VND, as traded.

# bars
code,date,open,high,low,close,volume,value,board
Z0A,2024-01-02,18250,18400,18200,18300,1204500,21995374500,HOSE

# actions
…
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import polars as pl

from vprism_pipelines.errors import Malformed
from vprism_pipelines.providers.base import Dataset

_TABLES: Final[Mapping[Dataset, Mapping[str, tuple[str, pl.DataType]]]] = MappingProxyType(
    {
        "bars": {
            "code": ("raw_symbol", pl.String()),
            "date": ("session", pl.Date()),
            **{name: (name, pl.Float64()) for name in ("open", "high", "low", "close", "volume", "value")},
            "board": ("exchange", pl.String()),
        },
        "actions": {
            "code": ("raw_symbol", pl.String()),
            "ex_date": ("ex_date", pl.Date()),
            "event": ("event_type", pl.String()),
            "cash": ("cash", pl.Float64()),
            "bonus": ("bonus_ratio", pl.Float64()),
            "rights": ("rights_ratio", pl.Float64()),
            "rights_price": ("rights_price", pl.Float64()),
        },
        "instruments": {
            "code": ("raw_symbol", pl.String()),
            "name": ("name", pl.String()),
            "board": ("exchange", pl.String()),
            "sector": ("sector", pl.String()),
            "first_trade": ("listed", pl.Date()),
            "last_trade": ("delisted", pl.Date()),
        },
    }
)
"""Column -> our name and its type, for each table in the order of the text."""

_NAMING: Final = ("code", "date", "ex_date", "event")  # no row is without these
_HINT: Final = "replay the archived payload to see what came; only the simulated exchange writes this format"


def write(frames: Mapping[Dataset, pl.DataFrame]) -> bytes:
    """The text of some frames with our column names, `symbol` for the code; amounts that are whole without decimals."""
    tables = []
    for name, columns in _TABLES.items():
        frame = frames[name].with_columns(raw_symbol=pl.col("symbol").str.split(":").list.last())
        whole = [column for column in ("open", "high", "low", "close", "value") if column in columns]
        if name == "bars" and not frame.select((pl.col(whole) % 1 == 0).all()).row(0).count(False):
            frame = frame.with_columns(pl.col(whole).cast(pl.Int64))
        tables.append(
            f"# {name}\n"
            + frame.select(pl.col(ours).alias(column) for column, (ours, _) in columns.items()).write_csv()
        )
    return "\n".join(tables).encode()


def read(body: bytes) -> dict[Dataset, pl.DataFrame]:
    """The frames of a text, columns of the raw frames.

    Raises:
        Malformed: It is not in this format.
    """
    try:
        tables = body.decode().split("\n\n")
    except UnicodeDecodeError as error:
        raise Malformed("the payload is not UTF-8 text", hint=_HINT) from error
    if len(tables) != len(_TABLES):
        raise Malformed(f"the payload has {len(tables)} tables instead of {len(_TABLES)}", hint=_HINT)
    return {name: _table(name, text) for name, text in zip(_TABLES, tables, strict=True)}


def _table(name: Dataset, text: str) -> pl.DataFrame:
    columns = _TABLES[name]
    title, _, csv = text.partition("\n")
    header = csv.partition("\n")[0]
    if title != f"# {name}" or header != ",".join(columns):
        raise Malformed(f"the table of {name} begins with {title[:40]!r}, {header[:80]!r}", hint=_HINT)
    try:
        frame = pl.read_csv(io.BytesIO(csv.encode()), schema={column: dtype for column, (_, dtype) in columns.items()})
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        # polars panics on some damaged numbers; a panic is no Exception, and would end the process.
        raise Malformed(f"the table of {name} is damaged: {str(error)[:120]}", hint=_HINT) from error
    if any(frame[column].null_count() for column in _NAMING if column in columns):
        raise Malformed(f"the table of {name} has a row that does not say what it is about", hint=_HINT)
    if not all(cells.is_finite().all() for cells in frame.select(pl.col(pl.Float64))):
        raise Malformed(f"the table of {name} holds a number that is not finite", hint=_HINT)
    return frame.rename({column: ours for column, (ours, _) in columns.items()})
