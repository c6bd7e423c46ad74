"""`vprism data plan`: what coverage still costs of each provider, how long it takes, and what is about to perish."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vprism_pipelines.errors import InvalidInput
from vprism_pipelines.serving.cli.arguments import End, Start, market_of, provider_of
from vprism_pipelines.serving.cli.render import Answer
from vprism_pipelines.serving.cli.session import Session, command

if TYPE_CHECKING:
    from vprism_pipelines.warehouse.planner import Leg, Plan


_SPAN = timedelta(days=30)


def add_to(root: typer.Typer) -> None:
    """Add the command to the group `data`, which must be there."""
    commands = next(known.typer_instance for known in root.registered_groups if known.name == "data")
    assert commands is not None
    command(commands, "plan")(plan)


def plan(
    session: Session,
    market: Annotated[str, typer.Option(help="Market.")] = "us",
    provider: Annotated[
        list[str] | None, typer.Option(help="Whom to ask, several if repeated. [default: the market's own]")
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="bars, actions, instruments, quotes, ticks. [default: all it has]")
    ] = None,
    start: Start = None,
    end: End = None,
) -> Answer:
    """What is missing, what it costs, how long it takes.

    Nobody is asked: it comes from the archive, the quotas and what is drawn on them already. By default the last 30
    days. Minutes are until everything is there; `today` is what the provider's day still allows of it.
    """
    import polars as pl

    from vprism_pipelines.providers.base import DATASETS
    from vprism_pipelines.serving.asking import period
    from vprism_pipelines.warehouse import planner

    spec = market_of(market)
    house = session.house
    today = spec.today(house.clock())
    first, last = period(start, end, today=today)
    last = min(last or today, today)
    chosen = [known for known in DATASETS if known in (dataset or ())]
    if unknown := set(dataset or ()) - set(chosen):
        raise InvalidInput(f"there is no dataset {min(unknown)!r}", hint=f"use one of: {', '.join(DATASETS)}")
    goal = planner.Goal(
        spec,
        (first or max(last - _SPAN, spec.first_session), last),
        tuple(dict.fromkeys(provider_of(name, spec) for name in provider or ())),
        tuple(chosen),
    )
    made = planner.plan(house, goal)
    rows = [_row(made, leg) for leg in made.legs]
    rows.append(
        {
            "provider": "total",
            "requests": made.requests,
            "cost": made.cost,
            "waiting": sum(leg.waiting for leg in made.legs),
            "minutes": _minutes(made, made.finishes),
            "finishes": made.finishes,
        }
    )
    schema: dict[str, Any] = {
        "provider": pl.String,
        "dataset": pl.String,
        "symbols": pl.Int64,
        "to_ask": pl.Int64,
        "requests": pl.Int64,
        "cost": pl.Int64,
        "waiting": pl.Int64,
        "limits": pl.String,
        "held_by": pl.String,
        "latency_ms": pl.Float64,
        "minutes": pl.Float64,
        "finishes": pl.Datetime("us", "UTC"),
        "today": pl.Int64,
        "days": pl.Int64,
        "closes": pl.Datetime("us", "UTC"),
        "urgency": pl.String,
    }
    notes = [_sentence(made, leg) for leg in made.legs if leg.requests]
    return Answer(
        pl.DataFrame(rows, schema=schema),
        (*notes, _summary(made), *(f"warning: {text}" for text in made.warnings)),
    )


def _row(made: Plan, leg: Leg) -> dict[str, Any]:
    return {
        "provider": leg.provider,
        "dataset": leg.dataset,
        "symbols": leg.symbols,
        "to_ask": leg.to_ask,
        "requests": len(leg.requests),
        "cost": leg.cost,
        "waiting": leg.waiting,
        "limits": leg.limits,
        "held_by": leg.held_by or None,
        "latency_ms": None if leg.latency is None else round(leg.latency * 1000, 1),
        "minutes": _minutes(made, leg.finishes),
        "finishes": leg.finishes,
        "today": leg.today,
        "days": leg.days,
        "closes": leg.closes,
        "urgency": leg.urgency.value if leg.closes else None,
    }


def _sentence(made: Plan, leg: Leg) -> str:
    """`kbs bars: 1,590 symbols at 15/min: 107 min`."""
    pace = leg.limits.partition(",")[0] if leg.held_by.startswith("bursts") else leg.held_by
    said = f"{leg.provider} {leg.dataset}: {leg.to_ask:,} symbols"
    said += f" at {pace}: {_lasting(made, leg.finishes)}" if pace else f": {_lasting(made, leg.finishes)}"
    return f"{said}, {leg.days} days of its daily limit, {leg.today:,} requests today" if leg.days > 1 else said


def _summary(made: Plan) -> str:
    if not made.requests:
        return "in total: nothing is missing"
    run = _lasting(made, made.run_ends)
    said = f"in total: {made.requests:,} requests; a run, one provider after the other, takes {run}"
    if made.side_by_side < made.run_ends:
        said += f", all side by side {_lasting(made, made.side_by_side)}"
    return f"{said}; everything is there at {made.finishes:%Y-%m-%dT%H:%MZ}"


def _lasting(made: Plan, until: datetime) -> str:
    minutes = _minutes(made, until)
    return f"{minutes * 60:.0f} s" if minutes < 2 else f"{minutes:,.0f} min"


def _minutes(made: Plan, until: datetime) -> float:
    return round((until - made.made_at).total_seconds() / 60, 2)
