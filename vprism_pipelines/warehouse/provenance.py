"""From a parsed row back to the exact bytes it was read from, whoever the provider is.

Nothing here knows a format. Numbers in the archived body that could be the value are found, other digits are put in
their place, and the body is parsed again: the number whose change changes the value, and no other, is where it came
from. Groups of candidates are changed together and halved, so that finding one among n takes O(log n) parses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import polars as pl

from vprism_pipelines.errors import CorruptLake
from vprism_pipelines.providers.base import Dataset, Payload, Provider
from vprism_pipelines.warehouse.containers import Columns, is_columnar
from vprism_pipelines.warehouse.places import Lines, Place, View, views
from vprism_pipelines.warehouse.search import Answers, Search, can_be

__all__ = ["Place", "Reading", "Trace"]

_ROW_KEY: Final = ("raw_symbol", "session", "ex_date")


@dataclass(frozen=True, slots=True)
class Trace:
    """The places a value was read from; none where no number of the body decides it. `parses` says what it cost."""

    places: tuple[Place, ...]
    parses: int = 0


class Reading:
    """One archived answer, read again by today's parser; what was read is kept, so that many cells cost one reading.

    Args:
        payload: From the lake, its hash proven.
        parser: The provider's.
    """

    def __init__(self, payload: Payload, parser: Provider) -> None:
        self.payload = payload
        self.parser = parser
        self._factors: dict[tuple[object, ...], tuple[Place, ...]] = {}

    @cached_property
    def frames(self) -> Mapping[Dataset, pl.DataFrame]:
        """Raw rows by dataset.

        Raises:
            ProviderError: Today's parser refuses the answer.
        """
        return self.parser.parse(self.payload).frames

    def row(self, dataset: Dataset, row: int) -> dict[str, Any]:
        """A raw row by its place in the payload.

        Raises:
            CorruptLake: The parser does not find it again: the warehouse holds what an older parser read.
        """
        frame = self.frames.get(dataset)
        found = frame.filter(pl.col("row") == row) if frame is not None else None
        if found is None or found.height != 1:
            raise CorruptLake(
                f"today's parser finds no row {row} of {dataset} in this answer",
                hint="an older parser read it; `vprism replay` reads the archive again",
                fetch_id=self.payload.fetch_id,
                provider=self.parser.name,
            )
        return found.row(0, named=True)

    def trace(self, dataset: Dataset, row: int, column: str) -> Trace:
        """The places a number or date of a raw row was read from.

        Args:
            dataset: Which frame.
            row: `row` of the raw row.
            column: open … value, adj_close, cash, …, session, ex_date, or basis_factor.
        """
        value = self.row(dataset, row)[column]
        if value is None or isinstance(value, str | bool) or (column == "basis_factor" and value == 1.0):
            return Trace(())
        if is_columnar(self.payload.body):
            return self._of_columns(dataset, row, column)
        if column == "basis_factor":
            return self._of_factor(dataset, row)
        parses = 0
        alone = self._alone(dataset, row, column)
        for view in (*([alone] if alone else []), *self._whole):
            search = Search(view, self.answers(view, dataset, row, column), self.row(dataset, row), column)
            if places := search.run():
                return Trace(places, parses + search.said.parses)
            parses += search.said.parses
        return Trace((), parses)

    # --- text -------------------------------------------------------------------------------------------------------

    @cached_property
    def _whole(self) -> list[View]:
        return views(self.payload.body)

    def _alone(self, dataset: Dataset, row: int, column: str) -> View | None:
        """A body of the heading and one line, where that gives the same row: of a table brought as a file.

        A file's rows stand in its order, so that a file of millions of lines needs not be read again for each.
        """
        view = self._lines.alone(row) if self.payload.request.url.startswith("file:") else None
        again = self.parse(view.text.body, dataset) if view else None
        if view is None or again is None:
            return None
        known, found = self.row(dataset, row), again.filter(pl.col("row") == view.row(row))
        same = [name for name in known if name in (*_ROW_KEY, column)]
        return view if found.height == 1 and all(found[name][0] == known[name] for name in same) else None

    @cached_property
    def _lines(self) -> Lines:
        return Lines(self.payload)

    def _of_factor(self, dataset: Dataset, row: int) -> Trace:
        """The terms a basis factor is the product of: what no single number says."""
        known = self.row(dataset, row)
        key = dataset, known["raw_symbol"], known["basis_factor"]
        parses = 0
        if key not in self._factors:
            places: tuple[Place, ...] = ()
            for view in self._whole:
                search = Search(view, self.answers(view, dataset, row, "basis_factor"), known, "basis_factor")
                places += search.terms(self.frames[dataset])
                parses += search.said.parses
            self._factors[key] = places
        return Trace(self._factors[key], parses)

    def answers(self, view: View, dataset: Dataset, row: int, column: str) -> Answers:
        """What other texts in the place of a view say of a value."""
        return Answers(lambda text, wanted: self.parse(view.packed(text), wanted), dataset, view.row(row), column)

    def parse(self, body: bytes, dataset: Dataset) -> pl.DataFrame | None:
        """The rows of another body, as this parser reads it; None where it refuses."""
        try:
            return self.parser.parse(replace(self.payload, body=body)).frames.get(dataset)
        except Exception:  # a parser that trips over a damaged body says as much as one that refuses it
            return None

    # --- columns ----------------------------------------------------------------------------------------------------

    @cached_property
    def _columns(self) -> Columns:
        return Columns(self.payload.body)

    def _of_columns(self, dataset: Dataset, row: int, column: str) -> Trace:
        """Cells of the file's row whose change changes the value; none where it is made from several rows."""
        file, value = self._columns, self.row(dataset, row)[column]
        table, place = divmod(row, file.rows)  # the second table of a mapping counts on from the file's height
        said = Answers(self.parse, dataset, table, column)
        if said.value(file.alone(place)) != value:
            return Trace((), said.parses)
        cells = file.cells(place)
        alike = [name for name, cell in cells.items() if can_be(cell, value)]
        others = [name for name in cells if name not in alike]

        def deciding(names: Sequence[str]) -> dict[str, Any]:
            after = {name: said.value(file.alone(place, [name])) for name in names}
            return {name: now for name, now in after.items() if now not in (None, value)}

        found = deciding(alike)
        if not found or said.value(file.alone(place, others)) != value:
            found |= deciding(others)
        group, within = file.group(place)
        context = ", ".join(f"{name}={cell}" for name, cell in cells.items())
        proofs = {
            name: f"with {file.other(place, name)} in its place, {column} becomes {found[name]}" for name in found
        }
        places = [
            Place(str(cells[name]), column=name, row_group=group, row=within, context=context, proof=proofs[name])
            for name in found
        ]
        return Trace(tuple(places), said.parses)
