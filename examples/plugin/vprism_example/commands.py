"""A command: the range each symbol has traded in."""

from __future__ import annotations

from typing import Annotated

import typer

from vprism_pipelines.serving.cli.render import Answer
from vprism_pipelines.serving.cli.session import Session, command


def add_to(root: typer.Typer) -> None:
    """Add the command to the root."""
    command(root, "extremes")(extremes)


def extremes(session: Session, market: Annotated[str, typer.Option(help="Prefix of the symbols.")] = "US") -> Answer:
    """Highest and lowest price of every symbol, as traded."""
    return Answer(
        session.library.sql(
            "SELECT symbol, min(low) AS lowest, max(high) AS highest FROM golden.bars"
            " WHERE symbol LIKE ? || ':%' GROUP BY symbol ORDER BY symbol",
            [market],
        )
    )
