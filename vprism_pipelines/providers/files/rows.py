"""From the rows of a file to raw frames: one row in, one row out, or counted as not of the table."""

from __future__ import annotations

from collections.abc import Mapping as Map
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

import polars as pl

from vprism_pipelines.errors import Malformed
from vprism_pipelines.providers.base import RAW_FRAMES, Dataset, Payload, raw_frame
from vprism_pipelines.providers.files.columns import Binding, missing_columns, needed_columns
from vprism_pipelines.providers.files.mapping import (
    DATE_COLUMN,
    UNKNOWN_EVENT,
    Event,
    FileDataset,
    FileTable,
    Mapping,
    UnitRule,
)
from vprism_pipelines.providers.files.reading import ROW, Rows, read_rows
from vprism_pipelines.providers.files.source import Source

_EXAMPLES: Final = 100
_LINE_SHOWN: Final = 200
_KIND, _LATER = "\x00kind", "\x00later_splits"  # working columns; no file has columns of that name
_REJECTED: Final = {"row": pl.Int64(), "dataset": pl.String(), "reason": pl.String(), "text": pl.String()}


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything a file said under a mapping.

    Attributes:
        frames: Raw frames by dataset.
        notes: Counts, in words.
        rejected: row, dataset, reason, text: what could not be read; at most 100 of each kind.
        before: The first rows of the file.
        height: Rows of the file.
    """

    frames: Map[Dataset, pl.DataFrame]
    notes: tuple[str, ...]
    rejected: pl.DataFrame
    before: pl.DataFrame
    height: int


def raw_rows(payload: Payload, mapping: Mapping, file_name: str) -> Reading:
    """Read a payload through a mapping.

    The `row` of a raw row is its place in the file, from 0; a dataset's second table adds the file's height to it, so
    that two events of one line stay two rows.

    Raises:
        Malformed: The bytes cannot be read, or lack a column of the mapping.
    """
    rows = read_rows(payload.body, mapping.file, partial(_needed, mapping, file_name))
    binding = Binding(mapping, dict(rows.frame.schema), file_name)
    parts: dict[FileDataset, list[pl.DataFrame]] = {}
    notes: list[str] = []
    rejected: list[pl.DataFrame] = []
    for table in mapping.table:
        earlier = parts.setdefault(table.dataset, [])
        frame = _Step(binding, table, rows, notes, rejected).run()
        if not earlier:
            frame = _with_ragged(frame, table.dataset, rows, notes, rejected)
        frame = frame.with_columns(pl.col("row").cast(pl.Int64) + len(earlier) * rows.height)
        earlier.append(raw_frame(table.dataset, frame, payload))
    return Reading(
        frames={dataset: frames[0] if len(frames) == 1 else pl.concat(frames) for dataset, frames in parts.items()},
        notes=tuple(notes),
        rejected=pl.concat(rejected).unique(maintain_order=True) if rejected else pl.DataFrame(schema=_REJECTED),
        before=rows.frame.head(_EXAMPLES).rename({ROW: "row"}),
        height=rows.height,
    )


def _needed(mapping: Mapping, file_name: str, names: list[str]) -> list[str]:
    """The columns the mapping reads, of those a file has."""
    problems = missing_columns(mapping, names)
    if problems:
        raise Malformed(
            f"the mapping does not fit {file_name}: {'; '.join(problems[:5])}",
            hint=f"the file has the columns {', '.join(names)}",
        )
    needed = needed_columns(mapping, names)
    if not needed:
        raise Malformed(f"{file_name} has none of the columns the mapping reads", hint=f"it has {', '.join(names)}")
    return needed


@dataclass(frozen=True, slots=True)
class _Step:
    """One table of the mapping over the rows of the file."""

    binding: Binding
    table: FileTable
    rows: Rows
    notes: list[str]
    rejected: list[pl.DataFrame]

    def run(self) -> pl.DataFrame:
        """Columns of the raw frame, and `row`."""
        table, binding = self.table, self.binding
        schema = RAW_FRAMES[table.dataset]
        frame = self._of_this_table()
        symbol = self._symbol()
        columns = {
            name: binding.value(source, schema[name])
            for name, source in table.columns.items()
            if name != "symbol" and name in schema
        }
        if table.close_only:
            columns |= dict.fromkeys(("open", "high", "low"), columns["close"])
        if table.later_splits is not None:
            columns["basis_factor"] = pl.col(_LATER)
        elif table.price_basis != "raw" and "basis_factor" not in columns:
            columns["basis_factor"] = pl.lit(None, dtype=pl.Float64)
        if table.dataset == "bars":
            columns["price_basis"] = pl.lit(table.price_basis)
        if table.dataset != "instruments":
            columns |= self._units(symbol)
        if table.event:
            frame = self._with_kind(frame)
            columns |= self._events()
        selected = frame.select(
            pl.col(ROW).alias("row"), symbol.alias("raw_symbol"), *(expr.alias(name) for name, expr in columns.items())
        )
        self._unreadable(frame, selected)
        self._unknown(selected)
        return selected

    def _of_this_table(self) -> pl.DataFrame:
        table, frame = self.table, self.rows.frame
        if table.later_splits is not None:  # looks ahead, so it needs the rows that are filtered out
            day = DATE_COLUMN[table.dataset] or ""
            session = self.binding.value(table.columns[day], pl.Date())
            factor = self.binding.later_splits(table.later_splits, self._symbol(), session)
            frame = frame.with_columns(factor.alias(_LATER))
        kept = frame.filter(self.binding.keeps(table)) if table.keep or table.drop else frame
        note = f"{table.dataset}: {kept.height:,} of {self.rows.height:,} rows of the file"
        others = frame.height - kept.height
        if others:
            note += f"; {others:,} are not of this table"
        if others and table.keep:
            name = next(iter(table.keep))
            outside = frame.filter(~self.binding.keeps(table)).select(self.binding.text(name).alias("value"))
            counts = outside["value"].value_counts(sort=True).head(20)
            note += f" ({name}: {', '.join(f'{value} {count:,}' for value, count in counts.iter_rows())})"
        self.notes.append(note)
        if table.close_only:
            self.notes.append("bars: the file has closes only; open, high and low are copies of the close")
        return kept

    def _symbol(self) -> pl.Expr:
        binding, asset = self.binding, self.table.columns.get("asset")
        symbol = binding.value(self.table.columns["symbol"], pl.String()).fill_null("")
        if asset is None or self.table.dataset == "instruments":
            return symbol
        kind = binding.value(asset, pl.String())
        qualified = pl.concat_str(pl.lit(binding.mapping.spec.prefix), kind, symbol, separator=":")
        return pl.when(kind.is_null() | (symbol == "")).then(symbol).otherwise(qualified)

    def _units(self, symbol: pl.Expr) -> dict[str, pl.Expr]:
        kinds: tuple[Literal["price", "volume", "value"], ...] = (
            ("price", "volume", "value") if self.table.dataset == "bars" else ("price",)
        )
        units = {}
        spelled = self.binding.value(self.table.columns["symbol"], pl.String())
        for kind in kinds:
            unit = pl.lit(getattr(self.table.units, kind), dtype=pl.Float64)
            rules: list[UnitRule] = [rule for rule in self.table.units.exceptions if getattr(rule, kind) is not None]
            for rule in reversed(rules):
                matched = spelled.str.contains(f"^(?:{rule.symbols})$").fill_null(value=False)
                unit = pl.when(matched).then(pl.lit(float(getattr(rule, kind)))).otherwise(unit)
            units[f"{kind}_unit"] = unit
        return units

    def _with_kind(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Add which event of the mapping each row declares: its place, or null."""
        kind = pl.lit(None, dtype=pl.Int32)
        for place, event in reversed(list(enumerate(self.table.event))):
            binding = self.binding
            tests = [
                *(binding.among(name, wanted) for name, wanted in event.when.items()),
                *(binding.holds(name, pattern) for name, pattern in event.matches.items()),
                *(~binding.holds(name, pattern) for name, pattern in event.unless.items()),
                *(value.is_not_null() for value in self._terms(event).values()),
            ]
            kind = pl.when(pl.all_horizontal(tests)).then(pl.lit(place, dtype=pl.Int32)).otherwise(kind)
        return frame.with_columns(kind.alias(_KIND))

    def _events(self) -> dict[str, pl.Expr]:
        """The event each row declares, and its terms."""
        labels = {place: event.event_type for place, event in enumerate(self.table.event)}
        terms: dict[str, list[pl.Expr]] = {}
        for place, event in enumerate(self.table.event):
            for name, value in self._terms(event).items():
                terms.setdefault(name, []).append(pl.when(pl.col(_KIND) == place).then(value))
        return {
            "event_type": pl.col(_KIND).replace_strict(labels, default=UNKNOWN_EVENT, return_dtype=pl.String),
            **{name: pl.coalesce(values) for name, values in terms.items()},
        }

    def _terms(self, event: Event) -> dict[str, pl.Expr]:
        schema = RAW_FRAMES["actions"]
        return {name: self.binding.value(source, schema[name]) for name, source in event.columns.items()}

    def _unknown(self, selected: pl.DataFrame) -> None:
        if self.table.dataset != "actions":
            return
        unknown = selected.filter(pl.col("event_type").fill_null(UNKNOWN_EVENT) == UNKNOWN_EVENT)
        if unknown.is_empty():
            return
        self.notes.append(f"actions: {unknown.height:,} rows declare nothing certain and are passed on as unknown")
        said = pl.col("detail") if "detail" in selected.columns else pl.col("raw_symbol")
        self.rejected.append(
            unknown.head(_EXAMPLES).select(
                pl.col("row").cast(pl.Int64),
                dataset=pl.lit(self.table.dataset),
                reason=pl.lit("no event of the mapping is certain"),
                text=said,
            )
        )

    def _unreadable(self, frame: pl.DataFrame, selected: pl.DataFrame) -> None:
        """Note cells that say something we cannot read; the value is then missing, and the row checks decide."""
        schema = {"symbol": pl.String(), "asset": pl.String(), **RAW_FRAMES[self.table.dataset]}
        before, after = (rows.null_count().row(0, named=True) for rows in (frame, selected))
        tests = {
            name: test
            for name, source in self.table.columns.items()
            if not self._whole(name, before, after) and (test := self._lost(source, schema[name])) is not None
        }
        if not tests or frame.is_empty():
            return
        counts = frame.select(test.sum().alias(name) for name, test in tests.items()).row(0, named=True)
        for name, count in counts.items():
            if not count:
                continue
            said = self.binding.raw(self.table.columns[name])
            assert said is not None
            found = frame.filter(tests[name]).head(_EXAMPLES)
            examples = found.select(
                pl.col(ROW).cast(pl.Int64).alias("row"),
                dataset=pl.lit(self.table.dataset),
                reason=pl.lit(f"{name} cannot be read"),
                text=said.cast(pl.String),
            )
            self.rejected.append(examples)
            first = examples.row(0, named=True)
            self.notes.append(
                f"{self.table.dataset}: {count:,} values of {name} cannot be read and are missing"
                f" (the first: {first['text']!r} in row {first['row']})"
            )

    def _whole(self, name: str, before: Map[str, int], after: Map[str, int]) -> bool:
        """Whether a column has as many nulls as its source: then nothing was lost, and nobody needs to look for it."""
        source = self.table.columns[name]
        said = self.binding.raw(source)
        if said is None or source.default is not None or name not in after:
            return False
        return before[said.meta.output_name()] == after[name]

    def _lost(self, source: Source, ours: pl.DataType) -> pl.Expr | None:
        """Where a source says something that comes out as nothing; None when that cannot be."""
        said = self.binding.raw(source)
        if said is None or source.pattern is not None or source.terms is not None:
            return None
        if source.map is not None and source.default is not None:  # the default is for what the map does not list
            return None
        theirs = self.binding.schema[said.meta.output_name()]
        if source.map is None and (ours == pl.String or (theirs.is_numeric() and ours.is_numeric())):
            return None
        bare = source.model_copy(update={"default": None})
        return said.is_not_null() & self.binding.value(bare, ours).is_null()


def _with_ragged(
    frame: pl.DataFrame, dataset: FileDataset, rows: Rows, notes: list[str], rejected: list[pl.DataFrame]
) -> pl.DataFrame:
    """Add a raw row without values for every line that has not the fields of the header.

    Its text stands in place of the symbol, so that it is quarantined whole.
    """
    if rows.ragged.is_empty():
        return frame
    count = rows.ragged.height
    notes.append(f"{dataset}: {count:,} lines have not the header's {rows.width} fields and are passed on unread")
    lines = rows.ragged.select(pl.col(ROW).alias("row"), raw_symbol=pl.col("line").str.slice(0, _LINE_SHOWN))
    rejected.append(
        rows.ragged.head(_EXAMPLES).select(
            pl.col(ROW).cast(pl.Int64).alias("row"),
            dataset=pl.lit(dataset),
            reason=pl.format("{} fields instead of {}", pl.col("found"), pl.lit(rows.width)),
            text=pl.col("line").str.slice(0, _LINE_SHOWN),
        )
    )
    # What a table requires on every row although nothing is known of this one.
    fixed = {
        "event_type": UNKNOWN_EVENT,
        "price_basis": "raw",
        "price_unit": 1.0,
        "volume_unit": 1.0,
        "value_unit": 1.0,
    }
    lines = lines.with_columns(pl.lit(value).alias(name) for name, value in fixed.items() if name in frame.columns)
    return pl.concat([frame, lines], how="diagonal_relaxed").sort("row")
