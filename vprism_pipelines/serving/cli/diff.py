"""`vprism diff`: what changed between two instants, and what that does to returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vprism_pipelines.serving.cli.arguments import market_of
from vprism_pipelines.serving.cli.render import Answer
from vprism_pipelines.serving.cli.session import Session, command

if TYPE_CHECKING:
    from vprism_pipelines.serving.history import Diff

Show = Literal["golden", "ledger", "returns", "summary"]


def add_to(root: typer.Typer) -> None:
    """Add the command to the root."""
    command(root, "diff")(diff)


def diff(
    session: Session,
    before: Annotated[str, typer.Argument(help="An instant with offset, a date (its end, UTC), or a snapshot number.")],
    after: Annotated[str, typer.Argument(help="A later one.")],
    market: Annotated[str | None, typer.Option(help="Only this market.")] = None,
    symbol: Annotated[list[str] | None, typer.Option(help="Only this symbol; may be repeated.")] = None,
    show: Annotated[Show, typer.Option(help="What to list: cells we believe, what providers say, returns.")] = "golden",
) -> Answer:
    """Cells that changed between two instants.

    With the old and the new value, who changed it and why. Bars that only became known in between are counted, not
    listed.
    """
    import polars as pl

    spec = market_of(market) if market else None
    found = session.library.diff(before, after, market=spec.code if spec else None, symbols=symbol or ())
    frames = {"returns": found.returns, "summary": found.summary}
    listed = frames[show] if show in frames else found.cells.filter(pl.col("level") == show).drop("level")
    return Answer(listed, () if show == "summary" else _notes(found))


def _notes(found: Diff) -> tuple[str, ...]:
    row = found.summary.row(0, named=True)
    lines = [
        f"{found.span.before:%Y-%m-%d %H:%M:%SZ} to {found.span.after:%Y-%m-%d %H:%M:%SZ}:"
        f" {row['changed']:,} bars of {row['symbols']:,} symbols changed in the ledger, {row['added']:,} added",
        f"{row['golden_bars']:,} golden bars of {row['golden_symbols']:,} symbols and {row['returns']:,} daily returns"
        " are others now",
    ]
    if row["classes"]:
        lines.insert(1, f"why: {row['classes']}")
    if row["largest_bp"] is not None:
        lines.append(
            f"largest: close of {row['largest_symbol']} on {row['largest_session']} by {row['largest_bp']:+,.2f} bp"
        )
    if row["largest_return_bp"] is not None:
        lines.append(f"largest change of a return: {row['largest_return_bp']:,.2f} bp")
    return tuple(lines)
