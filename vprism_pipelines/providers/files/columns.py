"""From a mapping's sources to polars expressions over the rows of one file. No code of the mapping is ever run."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from collections.abc import Mapping as Map
from dataclasses import dataclass
from datetime import date
from functools import reduce
from typing import Final

import polars as pl

from vprism_pipelines.providers.files.mapping import FileFormat, FileTable, Mapping, Values
from vprism_pipelines.providers.files.source import Source, nearest

_AGREEMENT: Final = 0.01  # relative; ratios are announced with three digits
_DATES: Final = ("%Y-%m-%d", "%Y%m%d", "%Y/%m/%d")
# Beyond these polars cannot write a date down; nothing was traded then.
_FIRST_DATE, _LAST_DATE = date(1700, 1, 1), date(2200, 1, 1)
_EPOCH: Final = {"epoch_s": 1_000_000, "epoch_ms": 1_000}
_DAY_US: Final = 86_400_000_000


def resolve(names: Sequence[str], alternatives: Sequence[str], form: FileFormat) -> str | None:
    """The column of a file that a mapping means, or None."""
    for wanted in alternatives:
        if wanted in names:
            return wanted
        if form.ignore_case:
            for name in names:
                if name.strip().lower() == wanted.strip().lower():
                    return name
    return None


def missing_columns(mapping: Mapping, names: Sequence[str]) -> list[str]:
    """What a mapping asks for and a file with these columns does not have: a sentence for each."""
    problems = []
    for table in mapping.table:
        wanted = [
            (key, leaf.alternatives)
            for key, source in table.sources()
            for leaf, optional in source.leaves()
            if not optional
        ]
        wanted += [("filters", (name,)) for name in sorted(table.plain_columns())]
        for key, alternatives in wanted:
            if resolve(names, alternatives, mapping.file) is None:
                meant = " or ".join(map(repr, alternatives))
                problems.append(f"{table.dataset}.{key} asks for column {meant}{nearest(alternatives[0], names)}")
    return list(dict.fromkeys(problems))


def needed_columns(mapping: Mapping, names: Sequence[str]) -> list[str]:
    """The columns of a file that a mapping reads, in the order of the file."""
    asked: list[tuple[str, ...]] = [(name,) for table in mapping.table for name in table.plain_columns()]
    asked += [
        leaf.alternatives for table in mapping.table for _, source in table.sources() for leaf, _ in source.leaves()
    ]
    used = {resolve(names, alternatives, mapping.file) for alternatives in asked}
    return [name for name in names if name in used]


@dataclass(frozen=True, slots=True)
class Binding:
    """A mapping bound to the columns of one file.

    Attributes:
        schema: Columns of the file and their types.
        file_name: Its name, without folders.
    """

    mapping: Mapping
    schema: Map[str, pl.DataType]
    file_name: str

    def value(self, source: Source, dtype: pl.DataType) -> pl.Expr:
        """A source as a column of type `dtype`; what cannot be read is null."""
        if source.parts:
            parts = [self.value(part, dtype) for part in source.parts]
            found = self._combined(source, parts)
        elif source.file_name is not None:
            match = re.search(source.file_name, self.file_name)
            found = pl.lit(match.group(1) if match else None, dtype=pl.String)
        elif source.constant is not None:
            found = self._read(pl.lit(source.constant), _literal_type(source.constant), source, dtype)
        else:
            found = self._column(source, dtype)
        if dtype.is_numeric() and source.scale != 1.0:
            found = found * source.scale
        if source.default is not None:
            found = found.fill_null(self._read(pl.lit(source.default), _literal_type(source.default), source, dtype))
        return found

    def raw(self, source: Source) -> pl.Expr | None:
        """The column of a source as it stands in the file; None when it reads none."""
        name = resolve(list(self.schema), source.alternatives, self.mapping.file)
        return None if name is None else pl.col(name)

    def keeps(self, table: FileTable) -> pl.Expr:
        """Which rows are of this table."""
        kept = [self.among(name, values).fill_null(value=False) for name, values in table.keep.items()]
        dropped = [~self.among(name, values).fill_null(value=False) for name, values in table.drop.items()]
        return pl.all_horizontal(*kept, *dropped) if kept or dropped else pl.lit(value=True)

    def among(self, name: str, values: Values) -> pl.Expr:
        """Whether a column has one of these values; numbers are compared as numbers, "" means null."""
        column, dtype = self._plain(name)
        numbers = [float(value) for value in values if isinstance(value, int | float)]
        texts = [value for value in values if isinstance(value, str) and value]
        tests = []
        if numbers:
            tests.append(self._number(column, dtype, grouped=False).is_in(numbers))
        if texts:
            tests.append(_text(column, dtype).is_in(texts))
        if "" in values:
            tests.append(column.is_null())
        return pl.any_horizontal(test.fill_null(value=False) for test in tests) if tests else pl.lit(value=False)

    def holds(self, name: str, pattern: str) -> pl.Expr:
        """Whether a column contains an expression; null does not."""
        return self.text(name).str.contains(pattern).fill_null(value=False)

    def text(self, name: str) -> pl.Expr:
        """A column as text."""
        return _text(*self._plain(name))

    def later_splits(self, name: str, symbol: pl.Expr, session: pl.Expr) -> pl.Expr:
        """Product of the splits after each row, within its symbol."""
        ratio = self._number(*self._plain(name), grouped=False).fill_null(1.0).replace(0.0, 1.0)
        since = ratio.cum_prod(reverse=True).over(symbol, order_by=session)
        return (since / ratio).round_sig_figs(12)

    def _plain(self, name: str) -> tuple[pl.Expr, pl.DataType]:
        actual = resolve(list(self.schema), (name,), self.mapping.file) or name
        return pl.col(actual), self.schema[actual]

    def _column(self, source: Source, dtype: pl.DataType) -> pl.Expr:
        name = resolve(list(self.schema), source.alternatives, self.mapping.file)
        if name is None:
            return pl.lit(None, dtype=dtype)
        column, theirs = pl.col(name), self.schema[name]
        if source.terms is not None:
            groups = _text(column, theirs).str.extract_groups(source.terms)
            old, new = (groups.struct[place].str.replace(",", ".", literal=True) for place in (0, 1))
            return _positive(new) / _positive(old)
        if source.pattern is not None:
            column, theirs = _text(column, theirs).str.extract(source.pattern, 1), pl.String()
        if source.map is not None:
            given = {key: str(value) for key, value in source.map.items()}
            column, theirs = _text(column, theirs).replace_strict(given, default=None), pl.String()
        return self._read(column, theirs, source, dtype)

    @staticmethod
    def _combined(source: Source, parts: list[pl.Expr]) -> pl.Expr:
        if source.first:
            return pl.coalesce(parts)
        if source.agree:
            left, right = parts
            differ = (left - right).abs() > _AGREEMENT * pl.max_horizontal(left.abs(), right.abs())
            return pl.when(~differ.fill_null(value=False)).then(pl.coalesce(parts))
        combine: Callable[[pl.Expr, pl.Expr], pl.Expr] = (
            (lambda one, other: one + other) if source.sum else (lambda one, other: one * other)
        )
        return reduce(combine, parts)

    def _read(self, column: pl.Expr, theirs: pl.DataType, source: Source, dtype: pl.DataType) -> pl.Expr:
        if dtype == pl.Date:
            return self._date(column, theirs, source.dates)
        if dtype.is_numeric():
            return self._number(column, theirs, grouped=source.grouped)
        if dtype == pl.Boolean and theirs == pl.String:
            return column.str.to_lowercase().replace_strict(
                {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False},
                default=None,
                return_dtype=pl.Boolean,
            )
        return _text(column, theirs) if dtype == pl.String else column.cast(dtype, strict=False)

    def _number(self, column: pl.Expr, theirs: pl.DataType, *, grouped: bool) -> pl.Expr:
        form = self.mapping.file
        if theirs == pl.Float32:  # the shortest decimal that gives this float: 38.98, not 38.979999542
            return column.cast(pl.String).cast(pl.Float64)
        if theirs != pl.String:
            return column.cast(pl.Float64, strict=False)
        text = column.str.strip_chars()
        if grouped:
            text = text.str.replace_all(r"[.,](\d{3})", "$1")
        if form.thousands:
            text = text.str.replace_all(form.thousands, "", literal=True)
        if form.decimal != ".":
            text = text.str.replace(form.decimal, ".", literal=True)
        return text.cast(pl.Float64, strict=False)

    def _date(self, column: pl.Expr, theirs: pl.DataType, formats: tuple[str, ...]) -> pl.Expr:
        if theirs == pl.Date:
            found = column
        elif isinstance(theirs, pl.Datetime):
            found = self._day(column, aware=theirs.time_zone is not None)
        else:
            tried = [self._formatted(_text(column, theirs), form) for form in formats or _DATES]
            found = pl.coalesce(tried)
        return pl.when(found.is_between(_FIRST_DATE, _LAST_DATE)).then(found)

    def _formatted(self, text: pl.Expr, form: str) -> pl.Expr:
        if form in _EPOCH:
            stamp = text.cast(pl.Float64, strict=False) * _EPOCH[form]
            within = stamp.abs() < 84_000 * _DAY_US  # 1740 to 2199
            instant = pl.when(within).then(stamp).cast(pl.Int64).cast(pl.Datetime("us", "UTC"))
            return self._day(instant, aware=True)
        if "%z" in form:
            return self._day(text.str.to_datetime(form, time_unit="us", strict=False), aware=True)
        if "%H" in form or "%T" in form:
            return self._day(text.str.to_datetime(form, time_unit="us", strict=False), aware=False)
        return text.str.to_date(form, strict=False)

    def _day(self, instant: pl.Expr, *, aware: bool) -> pl.Expr:
        """The date of an instant in the market's zone; a time without zone is taken as the mapping says."""
        zone = self.mapping.spec.timezone
        if not aware:
            if self.mapping.time_zone is None:
                return instant.dt.date()
            instant = instant.dt.replace_time_zone(self.mapping.time_zone, ambiguous="earliest", non_existent="null")
        return instant.dt.convert_time_zone(zone).dt.date()


def _text(column: pl.Expr, theirs: pl.DataType) -> pl.Expr:
    return column if theirs == pl.String else column.cast(pl.String, strict=False)


def _positive(text: pl.Expr) -> pl.Expr:
    number = text.cast(pl.Float64, strict=False)
    return pl.when(number > 0).then(number)


def _literal_type(value: object) -> pl.DataType:
    kinds: tuple[tuple[type, pl.DataType], ...] = (
        (bool, pl.Boolean()),
        (int, pl.Int64()),
        (float, pl.Float64()),
        (date, pl.Date()),
    )
    return next((dtype for kind, dtype in kinds if isinstance(value, kind)), pl.String())
