"""`vprism run`, `vprism replay`, `vprism rebuild`: fill the warehouse from the network or from the lake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vprism_pipelines.errors import DataQualityError, VprismError, error_class
from vprism_pipelines.serving.cli.arguments import End, Start, market_of, offered, provider_of
from vprism_pipelines.serving.cli.render import Answer
from vprism_pipelines.serving.cli.session import Session, command

if TYPE_CHECKING:
    from vprism_pipelines.market.spec import MarketSpec
    from vprism_pipelines.serving.launch import RunReport
    from vprism_pipelines.warehouse.house import House

_ALL = "all"
Market = Annotated[str | None, typer.Option(help="Only this market.")]
OneProvider = Annotated[str | None, typer.Option(help="Only what this provider answered.")]


def add_to(root: typer.Typer) -> None:
    """Add the commands to the root."""
    command(root, "run")(run)
    command(root, "replay")(replay)
    command(root, "rebuild")(rebuild)


def run(
    session: Session,
    market: Annotated[list[str] | None, typer.Option(help="Market to refresh; repeatable; all. [default: us]")] = None,
    provider: Annotated[
        list[str] | None, typer.Option(help="Whom to ask; repeatable. [default: VPRISM_PROVIDERS, else embedded]")
    ] = None,
    start: Start = None,
    end: End = None,
    symbols: Annotated[
        str | None, typer.Option(help="Symbols to ask network providers for, by commas. [default: VPRISM_UNIVERSE]")
    ] = None,
    beside: Annotated[
        bool, typer.Option("--beside", help="Pull descriptions, fundamentals, quotes and ticks instead of bars.")
    ] = False,
) -> Answer:
    """Refresh markets: pull, clean, believe, adjust, publish.

    Goes through Dagster, so the run, its checks and its lineage are in the UI afterwards. A market that fails leaves
    its last good data published and does not stop the others.
    """
    import polars as pl

    from vprism_pipelines.serving.asking import period
    from vprism_pipelines.serving.launch import run_market

    house = session.house
    specs = _markets(market or ["us"])
    asked = [provider_of(name, spec) for spec in specs for name in provider or []]
    reports: list[RunReport] = []
    errors: list[VprismError] = []
    for spec in specs:
        try:
            first, last = period(start, end, today=spec.today(house.clock()))
            names = list(dict.fromkeys(asked)) or house.providers_of(spec)
            asking = _asking_for(house, spec, names, symbols) if symbols else house
            with session.output.progress(spec.name) as show:
                report = run_market(
                    asking, spec.code, providers=names, start=first, end=last, beside=beside, progress=show
                )
        except VprismError as error:  # it could not even start
            errors.append(error)
        else:
            reports.append(report)
            errors.extend(report_errors(report))
    if not reports:
        raise errors[0]
    rows = [
        (report.market, step.asset, step.rows, step.seconds, step.status) for report in reports for step in report.steps
    ]
    frame = pl.DataFrame(
        rows,
        schema={"market": pl.String, "asset": pl.String, "rows": pl.Int64, "seconds": pl.Float64, "status": pl.String},
        orient="row",
    ).with_columns(pl.col("seconds").round(3))
    notes = [note for report in reports for note in (*told_failovers(house, report), *_summary(report, beside=beside))]
    return Answer(frame, tuple(notes), errors=tuple(errors))


def replay(session: Session, market: Market = None, provider: OneProvider = None) -> Answer:
    """Read the archive again with today's parsers.

    Never uses the network; what changes is published.
    """
    import polars as pl

    from vprism_pipelines.warehouse import rebuild as lake

    spec = market_of(market) if market else None
    name = provider_of(provider, spec) if provider else None
    with session.output.progress("replaying") as show:
        done = lake.replay(_offline(session.house), spec.code if spec else None, name, show)
    counts = ("fetches", "rows", "new", "changed", "unchanged", "quarantined")
    row = {count: getattr(done, count) for count in counts} | {
        "snapshot": done.published.snapshot,
        "content_hash": done.published.content_hash,
    }
    return Answer(pl.DataFrame([row]))


def rebuild(session: Session) -> Answer:
    """Make the warehouse again from the lake.

    Never uses the network. Says whether golden and analytics are bit for bit what stood before, and publishes them.
    """
    import polars as pl

    from vprism_pipelines.warehouse import rebuild as lake

    with session.output.progress("rebuilding") as show:
        done = lake.rebuild(_offline(session.house), show)
    row = {
        "snapshot": done.published.snapshot,
        "identical": done.identical,
        "tables": len(done.tables),
        "rows": sum(rows for _, rows in done.tables),
        "seconds": round(done.seconds, 3),
        "content_hash": done.content_hash,
        "previous_hash": done.previous_hash,
    }
    return Answer(pl.DataFrame([row]), tuple(f"{table}: {rows:,} rows" for table, rows in done.tables))


def _markets(codes: list[str]) -> list[MarketSpec]:
    from vprism_pipelines.market.spec import MARKETS
    from vprism_pipelines.providers import registry

    if _ALL in codes:
        return [spec for spec in MARKETS.values() if registry.for_market(spec.code)]
    return [market_of(code) for code in dict.fromkeys(code.strip().lower() for code in codes)]


def _asking_for(house: House, spec: MarketSpec, providers: list[str], symbols: str) -> House:
    """The same installation with another universe of one market."""
    from vprism_pipelines.market.symbols import resolve_strict
    from vprism_pipelines.warehouse.house import House

    chosen = [resolve_strict(raw, market=spec.prefix) for raw in symbols.split(",") if raw.strip()]
    for name in providers:
        offered(chosen, house.parser(name).capabilities())
    universe = {**house.settings.universe, spec.code: chosen}
    return House(house.settings.model_copy(update={"universe": universe}), house.clock)


def _summary(report: RunReport, *, beside: bool) -> list[str]:
    spec = market_of(report.market)
    if not report.success:
        return [f"{spec.name}: failed after {report.seconds:.1f} s; what was published before still is"]
    table, newest = ("clean.fundamentals", "known_from") if beside else ("golden.bars", "session")
    query = f"SELECT * FROM {table} WHERE symbol LIKE '{spec.prefix}:%' ORDER BY {newest} DESC, symbol LIMIT 5"
    return [
        f"{spec.name}: snapshot {report.snapshot} published after {report.seconds:.1f} s. Query it:",
        f'  vprism sql "{query}"',
    ]


def told_failovers(house: House, report: RunReport) -> list[str]:
    """Who was asked instead of whom in a published run, and what became of it."""
    if not report.success or not any("failover" in step.metadata for step in report.steps):
        return []
    found = house.reader.query(
        """SELECT provider, reason, fallback, outcome, count(DISTINCT symbol) AS symbols FROM quality.failovers
           WHERE run_id = $run GROUP BY ALL ORDER BY ALL""",
        {"run": report.run_id},
    )
    return [
        f"{provider} owed {symbols:,} {'symbol' if symbols == 1 else 'symbols'} ({reason}); {fallback}: {outcome}"
        for provider, reason, fallback, outcome, symbols in found.iter_rows()
    ]


def report_errors(report: RunReport) -> list[VprismError]:
    errors = [
        error_class(failure.code)(failure.message, hint=failure.hint, market=report.market, step=failure.step)
        for failure in report.failures
    ]
    if not errors and not report.success:
        errors = [
            DataQualityError(
                "a check stopped the run", hint="`vprism health --detailed` names it", market=report.market
            )
        ]
    return errors


def _offline(house: House) -> House:
    """The same installation with the network refused."""
    from vprism_pipelines.warehouse.house import House

    return House(house.settings.model_copy(update={"offline": True}), house.clock)
