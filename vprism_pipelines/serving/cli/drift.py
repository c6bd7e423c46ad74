"""`vprism drift`: which newest closes and volumes are far from the ones before."""

from __future__ import annotations

from typing import Annotated

import typer

from vprism_pipelines.errors import InvalidInput
from vprism_pipelines.serving.cli.arguments import market_of
from vprism_pipelines.serving.cli.render import Answer
from vprism_pipelines.serving.cli.session import Session, command, group


def add_to(root: typer.Typer) -> None:
    """Add the group to the root."""
    commands = group(root, "drift", "The newest observations against those before. Advisory.")
    command(commands, "report")(report)


def report(
    session: Session,
    symbol: Annotated[list[str] | None, typer.Option(help="Only this symbol; may be repeated.")] = None,
    market: Annotated[str | None, typer.Option(help="Only this market.")] = None,
    window: Annotated[int, typer.Option(help="Observations before the newest one that it is held against.")] = 30,
) -> Answer:
    """z-scores of the newest close and volume of every symbol.

    Largest first. Earlier observations are brought to today's shares. WARN from 2, FAIL from 3; a symbol with fewer
    observations, or with all of them the same, is OK. One close in six is a WARN on any day: prices wander.
    """
    import polars as pl

    from vprism_pipelines.market.spec import MARKETS
    from vprism_pipelines.tables import DRIFT
    from vprism_pipelines.warehouse.drift import observed_drift

    if window < 2:
        raise InvalidInput(f"a window of {window} has no spread", hint="use at least 2; 30 is usual", option="window")
    library = session.library
    chosen = library.canonical(symbol) if symbol else None
    specs = [market_of(market)] if market else list(MARKETS.values())
    found = [
        observed_drift(library.sql, spec, mine, window)
        for spec in specs
        if (mine := [s for s in chosen if s.startswith(f"{spec.prefix}:")] if chosen is not None else None) != []
    ]
    drifting = pl.concat([pl.DataFrame(schema=DRIFT.polars_schema), *found]).sort(
        pl.col("z").abs(), "symbol", "metric", descending=[True, False, False], nulls_last=True
    )
    counts = dict(drifting["status"].value_counts().iter_rows())
    told = ", ".join(f"{counts[status]:,} {status}" for status in ("FAIL", "WARN", "OK") if status in counts)
    return Answer(drifting, (f"{told}; advisory, nothing is stopped",) if told else ())
