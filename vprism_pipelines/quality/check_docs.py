"""The catalogue of checks as the tables of docs/checks.md.

    python -m vprism_pipelines.quality.check_docs docs/checks.md

writes them again between their markers; a test fails where the page and the catalogue differ.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from vprism_pipelines.quality.checks import SINCE_EVER, Check, Threshold
from vprism_pipelines.quality.datasets import DATASET_CHECKS
from vprism_pipelines.quality.flags import BarFlag, names
from vprism_pipelines.quality.row_checks import ROW_CHECKS
from vprism_pipelines.quality.window_checks import WINDOW_CHECKS

__all__ = ["refreshed", "tables"]


def tables() -> Mapping[str, str]:
    """Markdown by the name of its marker: rows, windows, datasets, flags."""
    return {
        "rows": _table(
            ("id", "check", "severity", "a row is refused when"),
            ((c.id, f"`{c.name}`", c.severity, c.description) for c in ROW_CHECKS.values()),
        ),
        "windows": _table(
            ("id", "check", "severity", "markets", "fires when", "this", "warns, fails at share of bars"),
            (
                (c.id, f"`{c.name}`", c.severity, ", ".join(c.markets), c.description, _values(c), _limits(c))
                for c in WINDOW_CHECKS.values()
            ),
        ),
        "datasets": _table(
            ("id", "check", "severity", "measures", "warns, fails at"),
            ((c.id, f"`{c.name}`", c.severity, c.description, _limits(c)) for c in DATASET_CHECKS.values()),
        ),
        "flags": _table(("bit", "flag"), ((str(int(flag)), f"`{names(flag)[0]}`") for flag in BarFlag)),
    }


def refreshed(page: str) -> str:
    """The page with every table between `<!-- name -->` and `<!-- end -->` made again."""
    for name, table in tables().items():
        head, marker, rest = page.partition(f"<!-- {name} -->\n")
        page = f"{head}{marker}{table}\n<!-- end -->{rest.partition('<!-- end -->')[2]}" if marker else page
    return page


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [tuple(head), *(tuple(row) for row in rows)]
    text = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join([text[0], "|" + "---|" * len(lines[0]), *text[1:]])


def _values(check: Check) -> str:
    if not check.values:
        return ""
    return ", ".join(_value(known) for known in check.values) + f" {check.unit}"


def _value(known: Threshold) -> str:
    since = "" if known.valid_from == SINCE_EVER else f" since {known.valid_from}"
    return f"{known.value:g}" + ("" if known.venue == "*" else f" on {known.venue}{since}")


def _limits(check: Check) -> str:
    return ", ".join("never" if limit is None else f"{limit:g}" for limit in (check.warn, check.fail))


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(refreshed(path.read_text()))
