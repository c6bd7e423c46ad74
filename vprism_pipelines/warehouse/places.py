"""Where numbers stand in an archived body: the texts it holds, whole or one line at a time, and places in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from vprism_pipelines.providers.base import Payload
from vprism_pipelines.warehouse.containers import members
from vprism_pipelines.warehouse.numerals import Text, Token


@dataclass(frozen=True, slots=True)
class Place:
    """Where a number stands in an archived body, and how that is known.

    Attributes:
        text: The number as it stands there.
        offset: First byte in the decoded body, or in `member` of a packed one; None in a file of columns.
        length: In bytes.
        line: Line of the text, from 1.
        member: Name within a zip archive, `gzip` for a gzip file.
        column: Column of a parquet file, with its row group and the row within it.
        context: The bytes around it, as text.
        proof: What was changed, and what it changed.
    """

    text: str
    offset: int | None = None
    length: int | None = None
    line: int | None = None
    member: str | None = None
    column: str | None = None
    row_group: int | None = None
    row: int | None = None
    context: str = ""
    proof: str = ""


@dataclass(frozen=True, slots=True)
class Cut:
    """A heading of `head` bytes and one line, which begins at byte `start` of the whole text and is its `line`th."""

    whole: Text
    head: int
    start: int
    line: int


@dataclass(frozen=True, slots=True)
class View:
    """A text of a body, or a part of one.

    Attributes:
        packed: The body to parse, with this text in it.
        row: `row` in that body of a row of the whole one.
        cut: Where it was cut out of the whole text, if it was.
    """

    text: Text
    packed: Callable[[bytes], bytes]
    member: str | None
    row: Callable[[int], int]
    cut: Cut | None = None

    def place(self, token: Token, proof: str) -> Place:
        text, line = self.text, 0
        if self.cut and token.start >= self.cut.head:
            moved = self.cut.start - self.cut.head
            text, token, line = self.cut.whole, Token(token.start + moved, token.end + moved), self.cut.line
        offset, length = text.offset(token)
        written, context = text.written(token), text.context(token)
        return Place(written, offset, length, line or text.line(token), self.member, context=context, proof=proof)


def views(body: bytes) -> list[View]:
    """The body as text, or every text packed into it."""
    return [View(Text(member.content), member.packed, member.name, lambda row: row) for member in members(body)]


class Lines:
    """The lines of a table of text that was brought as a file."""

    def __init__(self, payload: Payload) -> None:
        self._whole = Text(payload.body)
        form = json.loads(payload.request.params.get("mapping", "{}")).get("file", {})
        self._body = payload.body
        self._above = int(form.get("skip_lines") or 0) + (form.get("header", True) is not False)

    @cached_property
    def _ends(self) -> pl.Series:
        import numpy as np

        found = np.flatnonzero(np.frombuffer(self._body, dtype=np.uint8) == ord("\n"))
        ends = found if self._body.endswith(b"\n") else np.append(found, len(self._body))
        return pl.Series(ends, dtype=pl.Int64)

    @cached_property
    def _head(self) -> int:
        """Bytes of the heading."""
        return int(self._ends[self._above - 1]) + 1 if self._above else 0

    @cached_property
    def _records(self) -> pl.DataFrame:
        """Start, end and number of every line that holds a row; empty ones hold none."""
        lines = pl.DataFrame({"end": self._ends}).with_row_index("line", 1)
        lines = lines.with_columns(start=pl.col("end").shift(1, fill_value=-1) + 1)
        return lines.filter(pl.col("line") > self._above, pl.col("end") - pl.col("start") > 1)

    def alone(self, row: int) -> View | None:
        """The heading and the line of a row; None in layouts where a row is no line.

        The second table of a mapping counts on from the file's height.
        """
        if b"\x00" in self._body[:64] or len(self._ends) <= self._above or self._records.is_empty():
            return None
        table, place = divmod(row, self._records.height)
        line, end, start = self._records.row(place)
        text = Text(self._body[: self._head] + self._body[start:end] + b"\n")
        return View(text, lambda content: content, None, lambda _: table, Cut(self._whole, self._head, start, line))
