"""The search for the numbers behind a value: change some, ask again, halve. Whatever the format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from math import isclose
from typing import Any, Final, Literal

import polars as pl

from vprism_pipelines.providers.base import Dataset
from vprism_pipelines.warehouse.numerals import Text, Token
from vprism_pipelines.warehouse.places import Place, View

Outcome = Literal["same", "changed", "broken"]
"""What a changed body says: the same value, another one, or no such row any more."""

MOST_PARSES: Final = 600
_AROUND = 160  # characters


class Answers:
    """What changed bodies say of one value.

    Args:
        parse: Rows of a dataset in a body; None where the parser refuses it.
        dataset: Which rows.
        row: `row` of the one that counts.
        column: Its value that counts.
    """

    def __init__(
        self, parse: Callable[[bytes, Dataset], pl.DataFrame | None], dataset: Dataset, row: int, column: str
    ) -> None:
        self._parse = parse
        self._dataset = dataset
        self._row, self._column = row, column
        self.parses = 0

    def value(self, body: bytes) -> Any:
        """The value in a body; None where it has no such row, or none that can be read."""
        self.parses += 1
        frame = self._parse(body, self._dataset)
        found = frame.filter(pl.col("row") == self._row)[self._column] if frame is not None else None
        return found[0] if found is not None and len(found) == 1 else None


class Search:
    """The search for the numbers behind one value of one row.

    Args:
        view: The text to search.
        said: What other texts in its place say of the value.
        known: The row.
        column: Which of its values.
    """

    def __init__(self, view: View, said: Answers, known: Mapping[str, Any], column: str) -> None:
        self._view = view
        self._known = known
        self._column = column
        self._before = known[column]
        self._after: dict[Token, object] = {}
        self.said = said

    def run(self) -> tuple[Place, ...]:
        """The numbers that decide the value: first those that spell it, last any."""
        text, value = self._view.text, self._before
        sources: list[Callable[[Any], list[Token]]] = [text.dated]
        if not isinstance(value, date):
            sources = [text.spelled, text.grouped, text.near, text.scaled, lambda _: text.numbers()]
        tried: set[Token] = set()
        for source in sources:
            candidates = [token for token in source(value) if token not in tried]
            tried.update(candidates)
            if found := self._deciding(candidates):
                if self._view.cut:  # a line is short enough to ask every other number of it, too
                    found += self._halved([token for token in text.numbers() if token not in {*found, *tried}])
                return tuple(self._view.place(token, self._proof(token)) for token in found)
        return ()

    def terms(self, rows: pl.DataFrame) -> tuple[Place, ...]:
        """The numbers that a factor is made of: ratios that are no bar's own, and the ones beside them."""
        values = rows.select(pl.col(pl.Float64)).drop("basis_factor", strict=False)
        own = {value for series in values.iter_columns() for value in series.drop_nulls()}
        text = self._view.text
        found = self._halved(text.ratios(own)) or self._halved(text.ratios(()))
        beside = {other for token in found for other in text.beside(token)} - set(found)
        found = sorted({*found, *(token for token in beside if self._outcome([token]) == "changed")})
        return tuple(self._view.place(token, self._proof(token)) for token in found)

    def _deciding(self, candidates: Sequence[Token]) -> list[Token]:
        """The likeliest alone where that is proven, else by halving."""
        if not candidates:
            return []
        first = max(candidates, key=self._company)
        if self._outcome([first]) == "changed":
            others = [token for token in candidates if token != first]
            if not others or self._outcome(others) == "same":
                return [first]
        return self._halved(candidates) or self._together(candidates)

    def _company(self, token: Token) -> int:
        """How many other values of the row stand close by."""
        around = self._view.text.chars[max(token.start - _AROUND, 0) : token.end + _AROUND]
        values = [value for name, value in self._known.items() if name != self._column and isinstance(value, float)]
        return sum(len(Text(around).spelled(value)) > 0 for value in values if value not in (0.0, 1.0))

    def _halved(self, candidates: Sequence[Token]) -> list[Token]:
        """Every candidate that changes the value by itself."""
        if not candidates or self.said.parses >= MOST_PARSES:
            return []
        outcome = self._outcome(candidates)
        if outcome == "same":
            return []
        if len(candidates) == 1:
            return list(candidates) if outcome == "changed" else []
        middle = len(candidates) // 2
        return self._halved(candidates[:middle]) + self._halved(candidates[middle:])

    def _together(self, candidates: Sequence[Token]) -> list[Token]:
        """The fewest that change the value only together: a row that the answer holds twice."""
        if len(candidates) > MOST_PARSES or self._outcome(candidates) != "changed":
            return []
        kept = list(candidates)
        for token in candidates:
            fewer = [other for other in kept if other != token]
            if fewer and self._outcome(fewer) == "changed":
                kept = fewer
        return kept

    def _outcome(self, tokens: Sequence[Token]) -> Outcome:
        after = self.said.value(self._view.text.misspelt(tokens, dates=isinstance(self._before, date)))
        if len(tokens) == 1:
            self._after[tokens[0]] = after
        return "broken" if after is None else "same" if after == self._before else "changed"

    def _proof(self, token: Token) -> str:
        if self._after.get(token) in (None, self._before):
            return f"with other digits here and in its copies, {self._column} changes"
        body = self._view.text.misspelt([token], dates=isinstance(self._before, date))
        start, length = self._view.text.offset(token)
        other = body[start : start + length].replace(b"\x00", b"").decode("utf-8", "replace")
        return f"with {other} in its place, {self._column} becomes {self._after[token]}"


def can_be(cell: object, value: object) -> bool:
    """Whether a cell can be the value: equal but for float noise, or a power of ten."""
    if not isinstance(cell, int | float) or not isinstance(value, int | float):
        return cell == value
    return any(isclose(cell * 10.0**power, value, rel_tol=5e-7) for power in range(-6, 7))
