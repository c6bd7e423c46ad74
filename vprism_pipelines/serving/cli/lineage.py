"""`vprism lineage`: what a column is made of, up to the bytes' own columns, and what is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vprism_pipelines.serving.cli.render import Answer
from vprism_pipelines.serving.cli.session import Session, command

if TYPE_CHECKING:
    from vprism_pipelines.serving.explanation import Branch
    from vprism_pipelines.warehouse.column_lineage import Node


def add_to(root: typer.Typer) -> None:
    """Add the command to the root."""
    command(root, "lineage")(lineage)


def lineage(
    session: Session,
    column: Annotated[str, typer.Argument(help="schema.table.column, as in golden.bars.close.")],
    down: Annotated[bool, typer.Option("--down", help="What is made of it, instead of what it is made of.")] = False,
) -> Answer:
    """Which columns a column is made of, up to the raw ones.

    As declared in the data dictionary; the published table ops.column_lineage holds the same.
    """
    import polars as pl

    from vprism_pipelines.serving.explanation import drawn
    from vprism_pipelines.warehouse import column_lineage

    nodes = column_lineage.walk(column.strip().lower(), down=down)
    people = session.output.format in (None, "table") and session.output.path is None
    rows: list[dict[str, Any]] = []
    if people:
        named = zip(drawn(_branch(nodes)), nodes, strict=True)
        rows = [{"column": line, "description": node.description} for line, node in named]
    else:
        rows = [asdict(node) for node in nodes]
    table = nodes[0].column.rpartition(".")[0]
    deciding = column_lineage.decided_by(table)
    notes = () if down or not deciding else (f"which rows {table} holds is decided by {', '.join(deciding)}",)
    return Answer(pl.DataFrame(rows, infer_schema_length=None), notes)


def _branch(nodes: Sequence[Node]) -> Branch:
    """The tree of a walk."""
    first, *others = nodes
    starts = [at for at, node in enumerate(others) if node.depth == first.depth + 1]
    below = [_branch(others[start:end]) for start, end in pairwise([*starts, len(others)])]
    return first.column + (" …" if first.repeated else ""), below
