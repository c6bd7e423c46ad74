"""How the lineage is written down: columns made of others, by name. See `tables.sources`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

DECIDES: Final = "*"
"""The key of the columns that decide which rows stand in a table, and whose."""

TERMS: Final = ("cash", "split_ratio", "bonus_ratio", "rights_ratio", "rights_price")
"""The terms of a corporate action."""

Sources = Mapping[str, tuple[str, ...]]


def made_of(table: str, *names: str, **renamed: str) -> dict[str, tuple[str, ...]]:
    """Columns made of a table's: each of the one with its name, or `ours="theirs and others"`.

    A name with points in it is that of another table's column.
    """
    own = dict(zip(names, names, strict=True)) | renamed
    return {
        ours: tuple(name if "." in name else f"{table}.{name}" for name in theirs.split())
        for ours, theirs in own.items()
    }


def nobodys(*names: str) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(names, ())
