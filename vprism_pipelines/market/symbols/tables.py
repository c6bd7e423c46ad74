"""Reference data of symbol resolution: names that no numbering rule can derive, and dated renamings."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType

from vprism_pipelines.market.symbols.rules import Implied, Rule

_NAME_PRIORITY = 10


@dataclass(frozen=True, slots=True)
class Name:
    """One spelling of an instrument that is known by name: an index, or an ETF that looks like a stock.

    Attributes:
        spelling: As somebody writes it; matched in any case.
        implied: "doubt" when the spelling counts only if the asset is asked for (`VNI` is also a stock code).
        providers: The providers that write it so.
    """

    market: str
    asset: str
    code: str
    spelling: str
    implied: Implied
    providers: tuple[str, ...]

    @property
    def symbol(self) -> str:
        return f"{self.market}:{self.asset}:{self.code}"

    @property
    def rule(self) -> Rule:
        """The name as a rule of its own, which wins over every range of codes."""
        return Rule(
            f"{self.market}.name.{self.asset}".lower(),
            self.market,
            (self.asset,),
            re.compile(re.escape(self.spelling.upper())),
            code=lambda _: self.code,
            priority=_NAME_PRIORITY,
            implied=self.implied,
            excludes=self.implied == "yes",
        )


@dataclass(frozen=True, slots=True)
class Alias:
    """A code that named an instrument which is now identified otherwise.

    Attributes:
        former: What the code reads as on its own.
        symbol: The instrument's identifier today.
        valid_from: First date on which the code meant this instrument; `date.min` when it never meant another.
        valid_to: Last such date; `date.max` when the code has been retired for good.
        renamed_on: First session under the new code.
    """

    rule_id: str
    former: str
    symbol: str
    valid_from: date
    valid_to: date
    renamed_on: date

    def covers(self, day: date) -> bool:
        return self.valid_from <= day <= self.valid_to


def _rows(name: str) -> Iterator[dict[str, str]]:
    text = files("vprism_pipelines.market").joinpath("data", name).read_text(encoding="utf-8")
    yield from csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))


@lru_cache(maxsize=1)
def names() -> tuple[Name, ...]:
    """Every known spelling, in file order."""
    return tuple(
        Name(
            row["market"],
            row["asset"],
            row["code"],
            row["spelling"],
            "yes" if row["implied"] == "yes" else "doubt",
            tuple(row["providers"].split()),
        )
        for row in _rows("symbol_names.csv")
    )


@lru_cache(maxsize=1)
def names_by_spelling() -> Mapping[str, Mapping[str, Name]]:
    """Upper-case spelling -> the name it is in each market."""
    found: dict[str, dict[str, Name]] = defaultdict(dict)
    for name in names():
        found[name.spelling.upper()][name.market] = name
    return MappingProxyType(dict(found))


@lru_cache(maxsize=1)
def provider_names() -> Mapping[tuple[str, str], str]:
    """(canonical symbol, provider) -> the provider's spelling, for instruments known by name."""
    return MappingProxyType({(name.symbol, provider): name.spelling for name in names() for provider in name.providers})


@lru_cache(maxsize=1)
def aliases() -> Mapping[str, Sequence[Alias]]:
    """Renamings by the former symbol."""
    found: dict[str, list[Alias]] = defaultdict(list)
    for row in _rows("symbol_aliases.csv"):
        found[row["former"]].append(
            Alias(
                row["rule_id"],
                row["former"],
                row["symbol"],
                date.fromisoformat(row["valid_from"]) if row["valid_from"] else date.min,
                date.fromisoformat(row["valid_to"]) if row["valid_to"] else date.max,
                date.fromisoformat(row["renamed_on"]),
            )
        )
    return MappingProxyType(dict(found))
