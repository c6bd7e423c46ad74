"""`vprism calendar`: trading days."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from vprism_pipelines.errors import InvalidInput
from vprism_pipelines.serving.cli.arguments import End, Start
from vprism_pipelines.serving.cli.render import Answer
from vprism_pipelines.serving.cli.session import Session, command, group

_AHEAD = timedelta(days=30)


def add_to(root: typer.Typer) -> None:
    """Add the group to the root."""
    commands = group(root, "calendar", "Trading days of the exchanges.")
    command(commands, "sessions")(sessions)
    command(commands, "horizon")(horizon)


def sessions(
    session: Session,
    name: Annotated[str, typer.Argument(help="A market (us), an exchange (HOSE), a MIC or calendar (XNYS).")],
    start: Start = None,
    end: End = None,
) -> Answer:
    """Sessions with their opening and closing instants.

    Instants are UTC; by default the sessions of the next 30 days.
    """
    from vprism_pipelines.market.calendars import calendar
    from vprism_pipelines.market.spec import MARKETS
    from vprism_pipelines.serving.asking import nearest, period

    market = MARKETS.get(name.strip().lower())
    try:
        days = calendar(market.calendar if market else name)
    except InvalidInput as error:
        venues = [venue for spec in MARKETS.values() for venue in spec.exchanges.values()]
        known = {text for venue in venues for text in (venue.code, venue.mic, venue.calendar)}
        error.hint = " ".join(filter(None, (nearest(name, [*sorted(known), *MARKETS]), error.hint)))
        raise
    first, last = period(start, end)
    today = session.house.clock().astimezone(days.zone).date()
    first = first or (min(today, last) if last else today)
    return Answer(days.sessions(first, last or max(first, today) + _AHEAD))


def horizon(session: Session) -> Answer:
    """How far every calendar is confirmed.

    Beyond that sessions are projected.
    """
    import polars as pl

    from vprism_pipelines.market.calendars import calendar
    from vprism_pipelines.market.spec import MARKETS

    names = sorted({venue.calendar for spec in MARKETS.values() for venue in spec.exchanges.values()})
    rows = []
    for name in names:
        days = calendar(name)
        seen = days.horizon(session.house.clock().astimezone(days.zone).date())
        rows.append((name, days.first_session, seen.confirmed_until, days.last_session, seen.days_left, seen.ok))
    columns = ["calendar", "first_session", "confirmed_until", "last_session", "days_left", "ok"]
    return Answer(pl.DataFrame(rows, schema=columns, orient="row"))
