"""`vprism quality scoreboard`: what the checks find of faults whose truth is known, and what they say of good bars."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vprism_pipelines.serving.cli.arguments import End, Start, market_of
from vprism_pipelines.serving.cli.render import Answer
from vprism_pipelines.serving.cli.session import Session

if TYPE_CHECKING:
    from vprism_pipelines.market.spec import MarketSpec
    from vprism_pipelines.warehouse.grounds import Ground

SIMULATED = "simulated"


def scoreboard(
    session: Session,
    market: Annotated[str, typer.Option(help="Market.")] = "vn",
    exchange: Annotated[str | None, typer.Option(help="Only bars of this exchange. [default: all]")] = None,
    start: Start = None,
    end: End = None,
    rate: Annotated[float, typer.Option(help="Share of the bars that is damaged each time, up to 0.2.")] = 0.01,
    seed: Annotated[int, typer.Option(help="Of the damage: the same seed, the same faults.")] = 1,
    classes: Annotated[str | None, typer.Option(help="Classes of faults, with commas. [default: all]")] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            help="A file of bars, listings or actions that a shipped mapping explains, or `simulated`; may be"
            " given several times. [default: the published warehouse]"
        ),
    ] = None,
    by: Annotated[
        Literal["fault", "check", "both"],
        typer.Option(help="A row per class of faults, per check, or per pair of them."),
    ] = "fault",
) -> Answer:
    """Damage good bars in known ways and score the checks.

    Each class of faults is injected alone, then all at once; nothing is written. By fault: the share found by checks
    that stop a bar, that flag it, and by any, at the place of the damage. By check: what it says of undamaged bars,
    and how often it points at damage. Real history has errors of its own: what fires on it is an upper bound.
    """  # fmt: skip
    from vprism_pipelines.providers.faults import FAULTS
    from vprism_pipelines.warehouse.scoreboard import measure

    spec = market_of(market)
    names = tuple(name.strip() for name in classes.split(",")) if classes else tuple(FAULTS)
    with session.output.progress("reading bars") as show:
        ground = _ground(session, spec, source or [], start, end, exchange)
        measured = measure(
            ground,
            seed=seed,
            rate=rate,
            classes=names,
            progress=(lambda name, done, total: show(f"examining {name}", done, total)) if show else None,
        )
    frames = {"fault": measured.faults, "check": measured.checks, "both": measured.recall}
    scale = f"{measured.bars:,} bars of {measured.symbols:,} symbols, seed {seed}, rate {rate:g}"
    return Answer(frames[by], (*ground.notes, scale), aside=measured.checks if by == "fault" else None)


def _ground(
    session: Session, spec: MarketSpec, source: list[str], start: str | None, end: str | None, exchange: str | None
) -> Ground:
    from vprism_pipelines.errors import InvalidInput
    from vprism_pipelines.serving.asking import period
    from vprism_pipelines.warehouse import grounds

    first, last = period(start, end, today=spec.today(session.house.clock()))
    span: tuple[date, date] = (first or spec.first_session, last or spec.today(session.house.clock()))
    venue = exchange.strip().upper() if exchange else None
    if SIMULATED in source:
        if len(source) > 1:
            raise InvalidInput(f"--source {SIMULATED} stands alone", hint="name files or the simulated exchange")
        return grounds.simulated(spec, span, venue)
    if source:
        return grounds.of_files([Path(name) for name in source], spec, span, venue)
    return grounds.of_snapshot(session.house.reader, spec, span, venue)
