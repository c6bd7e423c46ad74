"""`vprism shadow`: providers and parsers on probation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vprism_pipelines.serving.cli.render import Answer
from vprism_pipelines.serving.cli.session import Session, command, group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vprism_pipelines.market.spec import MarketSpec
    from vprism_pipelines.warehouse.roles import Standing

Market = Annotated[str, typer.Option(help="Market code.")]
Reason = Annotated[str, typer.Option(help="Kept with the decision.")]


def add_to(root: typer.Typer) -> None:
    """Add the group to the root."""
    commands = group(root, "shadow", "Providers and parsers on probation: compare, promote, roll back.")
    for name, body in (("start", start), ("run", run), ("show", show), ("promote", promote), ("rollback", rollback)):
        command(commands, name)(body)


def start(
    session: Session,
    provider: Annotated[str, typer.Argument(help="The candidate; with --where, whose answers to read again.")],
    market: Market = "us",
    against: Annotated[str | None, typer.Option(help="Whom it would replace. [default: the best in use]")] = None,
    where: Annotated[str | None, typer.Option(help="module:class of another parser of the provider.")] = None,
    reason: Reason = "",
) -> Answer:
    """Put a provider, or another parser of one, on probation.

    Its bars are pulled, cleaned and remembered, but are no candidates for golden.
    """
    from vprism_pipelines.market.spec import market as spec_of
    from vprism_pipelines.warehouse import shadow

    spec = spec_of(market)
    change = shadow.start(session.house, spec, provider, against=against, where=where, reason=reason)
    return _decided(session, spec, [change])


def run(
    session: Session,
    market: Market = "us",
    sample: Annotated[float, typer.Option(help="Percent of the symbols, always the same ones.", min=0, max=100)] = 25,
    sessions: Annotated[int, typer.Option(help="The newest sessions of the candidate; 0: all.", min=0)] = 30,
) -> Answer:
    """Compare everybody on probation with whom they stand against.

    Every refresh does it too. Limits: bars that only one has 1 %, 95th percentile of the difference 5 bp, gaps 0.5 %.
    """
    from vprism_pipelines.errors import NoData
    from vprism_pipelines.market.spec import market as spec_of
    from vprism_pipelines.providers.base import new_id
    from vprism_pipelines.warehouse import shadow

    spec, house = spec_of(market), session.house
    scope = shadow.Scope(sample / 100, sessions or None)
    with house.warehouse.transaction() as connection:
        compared = shadow.run(connection, spec, f"shadow-{new_id()}", house.clock(), scope)
    nobody = NoData(f"nobody is on probation in the {spec.code} market", hint="begin with `vprism shadow start`")
    return Answer(compared, errors=() if compared.height else (nobody,))


def show(session: Session, market: Market = "us") -> Answer:
    """Comparisons so far.

    And, as notes, everybody's role and what is missing for a promotion.
    """
    import polars as pl

    from vprism_pipelines.market.spec import market as spec_of
    from vprism_pipelines.quality.shadow import PASSES
    from vprism_pipelines.warehouse import roles, shadow

    spec = spec_of(market)
    with session.house.warehouse.connect() as connection:
        runs = connection.execute(
            "SELECT * FROM quality.shadow_runs WHERE market = ? ORDER BY compared_at DESC", [spec.code]
        ).to_arrow_table()
        notes = [
            f"{name}: {standing.role} since {standing.since:%Y-%m-%d %H:%MZ} ({standing.reason})"
            + (
                f", {shadow.passes(connection, spec, name)} of {PASSES} comparisons passed"
                if standing.role == "shadow"
                else ""
            )
            for name, standing in roles.roles(connection, spec).items()
        ]
    return Answer(pl.DataFrame(runs), tuple(notes) or ("nobody has been on probation in this market",))


def promote(
    session: Session,
    provider: Annotated[str, typer.Argument(help="The candidate.")],
    market: Market = "us",
    beside: Annotated[bool, typer.Option("--beside", help="Keep the provider in use as well.")] = False,
    reason: Reason = "",
) -> Answer:
    """Let a candidate that passed three comparisons in a row take part in golden.

    It replaces whom it stood against; `vprism shadow rollback` takes it back.
    """
    from vprism_pipelines.market.spec import market as spec_of
    from vprism_pipelines.warehouse import shadow

    spec = spec_of(market)
    return _decided(session, spec, shadow.promote(session.house, spec, provider, beside=beside, reason=reason))


def rollback(session: Session, market: Market = "us", reason: Reason = "") -> Answer:
    """Restore the roles before the last decision, and golden with them."""
    from vprism_pipelines.market.spec import market as spec_of
    from vprism_pipelines.warehouse import shadow

    spec = spec_of(market)
    return _decided(session, spec, shadow.rollback(session.house, spec, reason))


def _decided(session: Session, spec: MarketSpec, changes: Sequence[Standing]) -> Answer:
    """The new roles, and golden built and published with them."""
    from dataclasses import asdict

    import polars as pl

    from vprism_pipelines.serving.cli.run import report_errors
    from vprism_pipelines.serving.launch import run_market
    from vprism_pipelines.tables import ROLES

    rows = ROLES.conform(pl.DataFrame([asdict(change) for change in changes], schema=ROLES.polars_schema))
    with session.output.progress("building") as progress:
        report = run_market(session.house, spec.code, providers=["files"], this_month=True, progress=progress)
    notes = (f"snapshot {report.snapshot} published after {report.seconds:.1f} s",) if report.snapshot else ()
    return Answer(rows, notes, errors=tuple(report_errors(report)))
