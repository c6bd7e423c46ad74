"""From bytes to rows of text and numbers: encodings, CSV with its damaged lines, parquet. Nothing is dropped here."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass

import polars as pl

from vprism_pipelines.errors import Malformed
from vprism_pipelines.providers import parquet
from vprism_pipelines.providers.files.mapping import FileFormat

ROW = "\x00row"  # no file has a column of that name
_PARQUET = b"PAR1"
# What a file is when it is neither CSV nor parquet, by its first bytes.
_FOREIGN = {
    b"PK\x03\x04": "a zip archive or an Excel workbook; unpack it, or save the sheet as CSV",
    b"\x1f\x8b": "gzip; unpack it first",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save the sheet as CSV",
    b"\x28\xb5\x2f\xfd": "zstd; unpack it first",
}
_CONTROL = bytes(code for code in range(32) if code not in b"\t\n\v\f\r")
_HEADER_BYTES = 1 << 16  # enough for skipped lines and the widest header
# Tried in this order when the declared encoding does not fit.
_ENCODINGS = ("utf-8", "windows-1258", "windows-1252", "gb18030")
_UNPARSED: tuple[type[BaseException], ...] = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a file.

    Attributes:
        frame: Columns of the file that were asked for, and `ROW`: the index of the row in the file, from 0.
        ragged: ROW, line, found: lines that have more or fewer fields than the header.
        width: Fields of a sound line.
        height: Rows of the file, ragged ones included.
    """

    frame: pl.DataFrame
    ragged: pl.DataFrame
    width: int
    height: int


def is_parquet(body: bytes, form: FileFormat) -> bool:
    """Whether to read parquet.

    Raises:
        Malformed: It is neither parquet nor text, or not what the mapping declares.
    """
    for magic, what in _FOREIGN.items():
        if body.startswith(magic):
            raise Malformed(f"the file is neither CSV nor parquet: it is {what}", hint="give it as CSV or parquet")
    found = body.startswith(_PARQUET)
    if form.format == "parquet" and not found:
        raise Malformed("the file is not parquet: it does not begin with PAR1", hint='set format = "csv" or "auto"')
    if form.format == "csv" and found:
        raise Malformed("the file is parquet, the mapping says csv", hint='set format = "parquet" or "auto"')
    return found


def header(body: bytes, form: FileFormat) -> list[str]:
    """Column names of a file.

    Raises:
        Malformed: It cannot be read.
    """
    if not is_parquet(body, form):
        return _names(_lines(to_utf8(_beginning(body, form), form.encoding), form), form)[0]
    return parquet.columns_of(body)


def read_rows(body: bytes, form: FileFormat, choose: Callable[[list[str]], Collection[str]]) -> Rows:
    """Read some columns of a file; CSV columns are text, parquet columns have their own types.

    Args:
        body: The file.
        form: How to read it.
        choose: Which of the columns it has are wanted.

    Raises:
        Malformed: The bytes are damaged, or in another encoding than declared.
    """
    if is_parquet(body, form):
        frame = parquet.read(body, choose(parquet.columns_of(body)))
        return Rows(frame.with_row_index(ROW), _no_lines(), frame.width, frame.height)
    return _read_csv(to_utf8(body, form.encoding), form, choose)


def to_utf8(body: bytes, encoding: str) -> bytes:
    """Text of a file as UTF-8 without byte order mark, in composed characters, with line feeds only.

    Raises:
        Malformed: It is in another encoding; says at which byte that shows, and which encoding fits.
    """
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as error:
        fitting = next((name for name in _ENCODINGS if name != encoding and _fits(body, name)), None)
        line = body.count(b"\n", 0, error.start) + 1
        raise Malformed(
            f"the file is not {encoding}: byte 0x{body[error.start]:02x} at position {error.start} (line {line})",
            hint=f'try encoding = "{fitting}" in [file]' if fitting else "name the right encoding in [file]",
            position=error.start,
        ) from None
    unicode = encoding.lower().startswith("utf")
    if not unicode and not text.isascii() and _fits(body, "utf-8"):
        raise Malformed(
            f"the file is utf-8, the mapping says {encoding}: its letters would come out wrong",
            hint='set encoding = "utf-8" in [file]',
        )
    if text.isascii():
        data = body if len(body) == len(text) else text.encode()
    else:  # Windows-1258 writes tones as combining marks; one spelling per word
        data = unicodedata.normalize("NFC", text.removeprefix("\ufeff")).encode()
    del text
    if len(data.translate(None, _CONTROL)) != len(data):
        place = next(place for place, byte in enumerate(data) if byte in _CONTROL)
        raise Malformed(
            f"the file is no text: it holds the control character 0x{data[place]:02x} at position {place}",
            hint="UTF-16 text needs its encoding in [file]; other binary formats are not read",
        )
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


def _beginning(body: bytes, form: FileFormat) -> bytes:
    """Whole lines from the start of a file, unless its encoding has no byte for a line end."""
    wide = form.encoding.lower().replace("-", "").replace("_", "").startswith(("utf16", "utf32"))
    end = -1 if wide else body.rfind(b"\n", 0, _HEADER_BYTES)
    return body if len(body) <= _HEADER_BYTES or end < 0 else body[:end]


def _fits(body: bytes, encoding: str) -> bool:
    try:
        body.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _lines(text: bytes, form: FileFormat) -> pl.Series:
    """The lines of a file, as they are."""
    if not text or text.isspace():
        raise Malformed("the file has no lines", hint="it is empty or was cut off while it was written")
    frame = pl.read_csv(
        io.BytesIO(text),
        has_header=False,
        separator="\x01",  # stands in no text: every line is one field
        quote_char=None,
        infer_schema=False,
        new_columns=["line"],
        truncate_ragged_lines=False,
        skip_lines=form.skip_lines,
    )
    return frame.get_column("line").fill_null("")


def _names(lines: pl.Series, form: FileFormat) -> tuple[list[str], pl.Series]:
    """Column names, and the lines that hold rows."""
    if not form.header:
        return list(form.names), lines
    first = next(csv.reader([str(lines[0])], delimiter=form.separator, quotechar=form.quote or '"'), [])
    names = list(form.names) or [name.strip() for name in first]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise Malformed(f"the header names {', '.join(map(repr, repeated))} twice", hint="rename one of them")
    return names, lines[1:]


def _read_csv(text: bytes, form: FileFormat, choose: Callable[[list[str]], Collection[str]]) -> Rows:
    names, lines = _names(_lines(text, form), form)
    columns = choose(names)
    if form.quote and form.quote.encode() in text:
        lines = _whole_records(lines, form)
        bare = lines.str.replace_all(f"{_escape(form.quote)}[^{_escape(form.quote)}]*{_escape(form.quote)}", "")
    else:
        bare = lines
    table = pl.DataFrame({"line": lines, "found": bare.str.count_matches(form.separator, literal=True) + 1}).filter(
        pl.col("line").str.strip_chars() != ""
    )
    table = table.with_row_index(ROW)
    sound = pl.col("found") == len(names)
    ragged = table.filter(~sound)
    good = table.filter(sound) if ragged.height else table
    if good.is_empty():
        frame = pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    else:
        try:
            frame = pl.read_csv(
                io.BytesIO(str(good.select(pl.col("line").str.join("\n")).item()).encode()),
                has_header=False,
                new_columns=names,
                separator=form.separator,
                quote_char=form.quote or None,
                infer_schema=False,
                null_values=list(form.null_values),
            )
        except _UNPARSED as error:
            raise Malformed(
                f"the CSV cannot be read: {str(error).splitlines()[0]}",
                hint="check separator and quote in [file]",
            ) from error
        if frame.height != good.height:
            raise Malformed(
                f"the CSV has {good.height} lines but {frame.height} rows: its quotes are not balanced",
                hint='set quote = "" in [file] if quotes mean nothing',
            )
    nothing = list(form.null_values)
    padded = _padded(text, form)
    values = [pl.col(name).str.strip_chars().replace(nothing, None) if padded else pl.col(name) for name in columns]
    return Rows(frame.select(values).insert_column(0, good[ROW]), ragged, len(names), table.height)


def _padded(text: bytes, form: FileFormat) -> bool:
    """Whether any field may begin or end with a blank; stripping every field costs more than reading the file."""
    edges = [form.separator.encode(), b"\n", *([form.quote.encode()] if form.quote else [])]
    blanks = [blank for blank in (b" ", b"\t", b"\xc2\xa0") if blank not in edges and blank in text]
    return any(edge + blank in text or blank + edge in text for blank in blanks for edge in edges)


def _whole_records(lines: pl.Series, form: FileFormat) -> pl.Series:
    """Join the lines of records whose quoted fields contain line breaks."""
    odd = lines.str.count_matches(form.quote, literal=True) % 2 == 1
    if not odd.any():
        return lines
    # A record begins where no quote is open: after an even number of quotes.
    record = (odd.cum_sum().shift(1, fill_value=0) % 2 == 0).cum_sum()
    return (
        pl.DataFrame({"line": lines, "record": record})
        .group_by("record", maintain_order=True)
        .agg(pl.col("line").str.join("\n"))
        .get_column("line")
    )


def _escape(sign: str) -> str:
    return "\\" + sign if not sign.isalnum() else sign


def _no_lines() -> pl.DataFrame:
    return pl.DataFrame(schema={ROW: pl.UInt32, "line": pl.String, "found": pl.UInt32})
