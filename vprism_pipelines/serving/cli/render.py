"""The one place that prints: any frame as a table, jsonl, csv or parquet, to stdout or a file; errors and notes too."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TextIO

from vprism_pipelines.errors import InvalidInput, InvalidQuery, StorageUnwritable, VprismError

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console
    from rich.table import Table

Format = Literal["table", "jsonl", "csv", "parquet"]
Progress = Callable[[str, int, int], None]
"""(what, done, in all)"""

TABLE_ROWS = 40
NARROWEST = 20  # characters a text column keeps before whole columns are left out instead
NOTHING = "–"
_GROUPED = 10_000  # 12,345 but 2024
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_BY_SUFFIX: dict[str, Format] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command has to say.

    Attributes:
        frame: The result.
        notes: Lines for people, after the table; on stderr when the result is for machines.
        aside: A second, smaller result that must not mix with the first: goes to stderr.
        errors: What went wrong although there is a result; the first one decides the exit status.
        preferred: Format when nobody asked for one.
    """

    frame: pl.DataFrame
    notes: tuple[str, ...] = ()
    aside: pl.DataFrame | None = None
    errors: tuple[VprismError, ...] = ()
    preferred: Format = "table"


@dataclass(slots=True)
class Output:
    """How and where to print: the global options.

    Attributes:
        format: None: by the suffix of `path`, else what the command prefers.
        path: File for the result; None: stdout.
        color: Whether terminals may be coloured; what is no terminal never is.
        redact: Takes secrets out of a text.
    """

    format: Format | None = None
    path: Path | None = None
    color: bool = True
    redact: Callable[[str], str] = str

    def check(self) -> None:
        """Refuse what could only fail after the work is done.

        Raises:
            InvalidInput: The file cannot be there, or binary output would go to a terminal.
        """
        if self.path and (self.path.is_dir() or not self.path.parent.is_dir()):
            raise InvalidInput(
                f"cannot write to {self.path}", hint="name a file in an existing folder", option="output"
            )
        if self.format == "parquet" and not self.path and sys.stdout.isatty():
            raise InvalidInput("parquet is binary, not for a terminal", hint="add --output FILE", option="format")

    def answer(self, answer: Answer) -> int:
        """Print an answer; its exit status."""
        form = self.format or (_BY_SUFFIX.get(self.path.suffix.lower()) if self.path else None) or answer.preferred
        remarks = self._write(answer.frame, form)
        self.notes([*remarks, *answer.notes], sys.stdout if form == "table" and not self.path else sys.stderr)
        if answer.aside is not None and not answer.aside.is_empty():
            sys.stdout.flush()
            self._aside(answer.aside)
        for error in answer.errors:
            self.error(error)
        return answer.errors[0].exit_status if answer.errors else 0

    def notes(self, lines: Iterable[str], stream: TextIO) -> None:
        """Print lines for people."""
        for line in lines:
            stream.write(self.redact(line) + "\n")
        stream.flush()

    def error(self, error: VprismError) -> None:
        """Print an error on stderr: what happened, where, and what to do."""
        sys.stdout.flush()
        if self.format == "jsonl":
            text = json.dumps(error.to_dict(), ensure_ascii=False)
        else:
            where = " ".join(f"{key}={value}" for key, value in error.context.items())
            lines = [f"error {error.code}: {error.message}"]
            lines += [f"  where: {where}"] if where else []
            lines += [f"  do: {error.hint}"] if error.hint else []
            text = "\n".join(lines)
        self.notes([text], sys.stderr)

    def traceback(self, error: BaseException) -> None:
        """Print where an unexpected error came from, for those who debug."""
        self.notes("".join(traceback.format_exception(error)).splitlines(), sys.stderr)

    @contextmanager
    def progress(self, title: str) -> Iterator[Progress | None]:
        """A progress bar on stderr while the block runs; None where nobody is looking."""
        if not sys.stderr.isatty():
            yield None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Bar(*columns, TimeElapsedColumn(), console=self._console(sys.stderr), transient=True) as bar:
            task = bar.add_task(title, total=None)

            def show(what: str, done: int, total: int) -> None:
                bar.update(task, description=what, completed=done, total=total)

            yield show

    def _write(self, frame: pl.DataFrame, form: Format) -> list[str]:
        """Print a result; remarks about what was not printed."""
        remarks: list[str] = []
        if self.path is None:
            if form == "table":
                remarks = self._table(frame, sys.stdout)
            else:
                data = BytesIO()  # polars would not tell a closed pipe from a full disk
                _write_data(frame, form, data)
                sys.stdout.flush()
                sys.stdout.buffer.write(data.getbuffer())
                sys.stdout.buffer.flush()
            return remarks
        try:
            if form == "table":
                with self.path.open("w", encoding="utf-8") as text:
                    remarks = self._table(frame, text, limit=frame.height)
            else:
                with self.path.open("wb") as file:
                    _write_data(frame, form, file)
        except OSError as error:
            raise StorageUnwritable(
                f"cannot write the output: {error.strerror}", hint="check free space and permissions", path=self.path
            ) from error
        return [*remarks, f"{frame.height:,} rows in {self.path}"]

    def _aside(self, frame: pl.DataFrame) -> None:
        if self.format == "jsonl":
            self.notes(_jsonl(frame).rstrip("\n").split("\n"), sys.stderr)
        else:
            self._table(frame, sys.stderr)

    def _table(self, frame: pl.DataFrame, stream: TextIO, limit: int = TABLE_ROWS) -> list[str]:
        console = self._console(stream)
        shown = _Cells(frame.head(limit))
        kept = shown.fitting(console.width) if console.is_terminal else list(range(frame.width))
        table = shown.table(kept)
        if console.is_terminal:
            console.print(table)
        else:
            with console.capture() as capture:
                console.print(table)
            stream.write("\n".join(line.rstrip() for line in capture.get().split("\n")))
        remarks = [f"… {frame.height - limit:,} more rows, use --format csv"] if frame.height > limit else []
        if len(kept) < frame.width:
            remarks.append(f"… {frame.width - len(kept)} of {frame.width} columns left out, use --format csv")
        return remarks if frame.height else ["no rows"]

    def _console(self, stream: TextIO) -> Console:
        from rich.console import Console

        width = None if stream.isatty() else 1_000_000  # what is no terminal gets every character
        colors: Literal["auto"] | None = "auto" if self.color and not os.environ.get("NO_COLOR") else None
        return Console(file=stream, width=width, color_system=colors, markup=False, emoji=False, highlight=False)


# --- for machines: full precision, ISO instants, UTF-8 ---------------------------------------------------------------


def _write_data(frame: pl.DataFrame, form: Format, stream: IO[bytes]) -> None:
    if form == "parquet":
        frame.write_parquet(stream)
    elif form == "csv":
        _plain(frame, nested_as_text=True).write_csv(stream)
    else:
        stream.write(_jsonl(frame).encode())


def _jsonl(frame: pl.DataFrame) -> str:
    return _plain(frame, nested_as_text=False).write_ndjson()


def _plain(frame: pl.DataFrame, *, nested_as_text: bool) -> pl.DataFrame:
    """The frame in types that text formats can say."""
    import polars as pl

    columns = []
    for name, dtype in frame.schema.items():
        column = pl.col(name)
        if "Binary" in str(dtype) or isinstance(dtype, pl.Object):
            raise InvalidQuery(
                f"column {name} is binary ({dtype}), which no text format can say",
                hint=f"cast it, as in hex({name}) or CAST({name} AS VARCHAR), or use --format parquet",
            )
        if isinstance(dtype, pl.Datetime):
            utc = column.dt.convert_time_zone("UTC") if dtype.time_zone else column
            column = utc.dt.strftime("%Y-%m-%dT%H:%M:%S%.f" + ("Z" if dtype.time_zone else ""))
        elif isinstance(dtype, pl.Time):
            column = column.dt.strftime("%H:%M:%S%.f")
        elif isinstance(dtype, pl.Decimal) and not nested_as_text:
            # JSON would get a string; a sum of integers must stay a number.
            column = column.cast(pl.Int128 if dtype.scale == 0 else pl.Float64)
        elif dtype.is_nested() and nested_as_text:
            inside = pl.struct(column.alias("_")).struct.json_encode().str.slice(len('{"_":')).str.head(-1)
            column = pl.when(column.is_not_null()).then(inside)
        columns.append(column.alias(name))
    return frame.select(columns)


# --- for people: aligned, rounded, as wide as the terminal -----------------------------------------------------------


class _Cells:
    """A frame as text, column by column."""

    def __init__(self, frame: pl.DataFrame) -> None:
        from rich.cells import cell_len

        self.names = frame.columns
        self.numeric = [dtype.is_numeric() for dtype in frame.dtypes]
        self.columns = [_texts(column.to_list()) for column in frame.iter_columns()]
        self.widths = [
            max(cell_len(text) for text in (name, *texts)) + 2
            for name, texts in zip(self.names, self.columns, strict=True)
        ]

    def fitting(self, width: int) -> list[int]:
        """Positions of the columns that fit, from both ends inwards; long texts may fold."""
        needed = [
            size if number else min(size, NARROWEST + 2) for size, number in zip(self.widths, self.numeric, strict=True)
        ]
        kept: list[int] = []
        waiting = deque(range(len(needed)))
        while waiting:
            # Two from the left, where keys are, for one from the right.
            position = waiting.pop() if len(kept) % 3 == 2 else waiting.popleft()
            width -= needed[position]
            if kept and width < 0:
                break
            kept.append(position)
        return sorted(kept)

    def table(self, kept: Sequence[int]) -> Table:
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
        for position in kept:
            table.add_column(
                self.names[position], justify="right" if self.numeric[position] else "left", overflow="fold"
            )
        for row in zip(*(self.columns[position] for position in kept), strict=True):
            table.add_row(*row)
        return table


def _texts(values: Sequence[Any]) -> list[str]:
    numbers = [value for value in values if isinstance(value, int | float | Decimal) and not isinstance(value, bool)]
    grouped = "," if any(abs(float(number)) >= _GROUPED for number in numbers) else ""
    decimals = _decimals([number for number in numbers if isinstance(number, float)])
    return [_text(value, grouped, decimals) for value in values]


def _decimals(numbers: Sequence[float]) -> int:
    """As many decimals as the column needs, at most four; six when nothing in it reaches one."""
    finite = [number for number in numbers if math.isfinite(number)]
    largest = max(map(abs, finite), default=0.0)
    most = 4 if largest >= 1 else 6
    needed = max((len(f"{number:.{most}f}".rstrip("0").partition(".")[2]) for number in finite), default=0)
    return max(needed, 1) if largest < _GROUPED else needed


def _text(value: Any, grouped: str = "", decimals: int = 4) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and (value == 0 or 10.0**-decimals <= abs(value) < 1e15):
        return f"{value:{grouped}.{decimals}f}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int | Decimal):
        return f"{value:{grouped}}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}" + ("Z" if value.tzinfo else "")
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    # A line break would tear the row apart, an escape sequence would reach the terminal.
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], str(value))
