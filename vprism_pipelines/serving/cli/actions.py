"""`vprism actions`: corporate actions the detective proposes, and people's decisions about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vprism_pipelines.serving.cli.render import Answer
from vprism_pipelines.serving.cli.session import Session, command, group

if TYPE_CHECKING:
    import polars as pl

    from vprism_pipelines.providers.detective import Verdict

Status = Literal["open", "accepted", "rejected", "withdrawn", "all"]
Id = Annotated[str, typer.Argument(metavar="id", help="Of a proposal, as `review` lists it.")]
By = Annotated[str, typer.Option(help="Who decides; kept with the decision.")]
Note = Annotated[str | None, typer.Option(help="Why; kept with the decision.")]
NoBuild = Annotated[bool, typer.Option("--no-build", help="Only remember; golden follows with the next run.")]


def add_to(root: typer.Typer) -> None:
    """Add the group to the root."""
    commands = group(root, "actions", "Corporate actions in doubt: review, decide, take back.")
    for name, body in (("review", review), ("show", show), ("accept", accept), ("reject", reject)):
        command(commands, name)(body)
    command(commands, "withdraw")(withdraw)


def review(
    session: Session,
    market: Annotated[str | None, typer.Option(help="Only this market.")] = None,
    status: Annotated[Status, typer.Option(help="Which proposals.")] = "open",
    kind: Annotated[str | None, typer.Option(help="missing, duplicate, misdated, mis_sized or invented.")] = None,
    least: Annotated[float, typer.Option(help="Least confidence, 0 to 1.", min=0, max=1)] = 0.0,
) -> Answer:
    """Proposals as they stand, the most certain first.

    Nothing changes the account of corporate actions until somebody accepts.
    """
    import polars as pl

    from vprism_pipelines.serving.cli.arguments import market_of
    from vprism_pipelines.warehouse.detective import standing

    prefix = f"{market_of(market).prefix}:" if market else ""
    with session.house.warehouse.connect() as connection:
        found = standing(connection, None if status == "all" else status)
    wanted = pl.col("symbol").str.starts_with(prefix) & (pl.col("confidence") >= least)
    chosen = found.filter(wanted & (pl.col("kind") == kind if kind else pl.lit(value=True)))
    columns = ["proposal_id", "symbol", "kind", "ex_date", "event_type", "confidence", "declared", "proposed", "status"]
    return Answer(
        chosen.select(columns).with_columns(_terms("declared"), _terms("proposed")),
        () if chosen.height else ("nothing to decide; proposals are made by `vprism run`",),
    )


def show(session: Session, proposal_id: Id) -> Answer:
    """One proposal with all its evidence.

    And who decided about it, if anybody did.
    """
    import polars as pl

    from vprism_pipelines.warehouse.detective import proposal

    with session.house.warehouse.connect() as connection:
        row = proposal(connection, proposal_id)
    pairs = [(name, "" if value is None else str(value)) for name, value in row.items()]
    return Answer(pl.DataFrame(pairs, schema=["field", "value"], orient="row"))


def accept(session: Session, proposal_id: Id, by: By, note: Note = None, no_build: NoBuild = False) -> Answer:
    """What is proposed counts from now on.

    The decision becomes the declaration of a provider of its own, `detective`, which wins for its symbol, ex-date and
    kind; what others declared stays in the ledger. Then events, factors and analytics are built and published.
    """
    return _decided(session, proposal_id, "accepted", by, note, build=not no_build)


def reject(session: Session, proposal_id: Id, by: By, note: Note = None) -> Answer:
    """The proposal is wrong and not made again.

    The events as declared go on counting: nothing is built.
    """
    return _decided(session, proposal_id, "rejected", by, note, build=False)


def withdraw(session: Session, proposal_id: Id, by: By, note: Note = None, no_build: NoBuild = False) -> Answer:
    """Take a decision back: the events as declared count again.

    Both decisions stay in the ledger and in the lake. The proposal can be decided anew while its cause is still found.
    """
    return _decided(session, proposal_id, "withdrawn", by, note, build=not no_build)


def _decided(session: Session, proposal_id: str, verdict: Verdict, by: str, note: str | None, *, build: bool) -> Answer:
    from vprism_pipelines.providers.base import new_id
    from vprism_pipelines.warehouse.detective import decide

    done = decide(session.house, proposal_id, verdict, by=by, note=note, run_id=f"actions-{new_id()}")
    table = _row(done.proposal_id, done.symbol, done.status, done.events, done.fetch_id)
    if done.events == 0:
        return Answer(table)
    if not build:
        return Answer(table, (f"golden follows with the next run: vprism run {done.market}",))
    from vprism_pipelines.serving.cli.run import report_errors
    from vprism_pipelines.serving.launch import run_market

    with session.output.progress("building") as progress:
        report = run_market(session.house, done.market, providers=["files"], this_month=True, progress=progress)
    note = f"golden follows with the next run: vprism run {done.market}"  # the decision itself is kept whatever happens
    if report.snapshot is not None:
        note = f"snapshot {report.snapshot} published after {report.seconds:.1f} s"
    return Answer(table, (note,), errors=tuple(report_errors(report)))


def _row(proposal_id: str, symbol: str, status: str, events: int, fetch_id: str) -> pl.DataFrame:
    import polars as pl

    columns = ["proposal_id", "symbol", "status", "events", "fetch_id"]
    return pl.DataFrame([(proposal_id, symbol, status, events, fetch_id)], schema=columns, orient="row")


def _terms(column: str) -> pl.Expr:
    """Events as short text: `2024-06-13 cash 500`, `nothing` where there is none, blank where nobody declared any."""
    import polars as pl

    return pl.col(column).map_elements(_brief, return_dtype=pl.String)


def _brief(text: str) -> str:
    import json

    from vprism_pipelines.market.actions import TERMS

    said = json.loads(text)
    events = said if isinstance(said, list) else [said]
    neutral = {"split_ratio": 1.0}
    parts = [
        " ".join(
            [
                event["ex_date"],
                event["event_type"],
                *(f"{event[name]:g}" for name in TERMS if event[name] != neutral.get(name, 0.0)),
            ]
        )
        for event in events
    ]
    return "; ".join(parts) or "nothing"
