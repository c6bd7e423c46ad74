"""`vprism reconcile`: two providers side by side, bar by bar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vprism_pipelines.serving.cli.arguments import End, Start, market_of
from vprism_pipelines.serving.cli.render import Answer
from vprism_pipelines.serving.cli.session import Session, command, group

if TYPE_CHECKING:
    import polars as pl

Rows = Literal["run", "symbols", "diffs"]
_WORST = 3


def add_to(root: typer.Typer) -> None:
    """Add the group to the root."""
    commands = group(root, "reconcile", "Two providers compared over all their common bars, as traded.")
    command(commands, "run")(run)
    command(commands, "show")(show)


def run(
    session: Session,
    market: Annotated[str, typer.Option(help="Market.")],
    a: Annotated[str, typer.Option(help="Provider.")],
    b: Annotated[str, typer.Option(help="Provider it is compared with.")],
    start: Start = None,
    end: End = None,
    sample: Annotated[int | None, typer.Option(min=1, help="Draw this many common symbols. [default: all]")] = None,
    rows: Annotated[Rows, typer.Option(help="What to show: totals, symbols, or every difference.")] = "run",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Keep nothing.")] = False,
) -> Answer:
    """Compare two providers now.

    Reads the published warehouse. The result is kept in quality.reconciliation_runs and _diffs of the private one,
    unless --dry-run, and is there for everybody once the next run publishes. Close: WARN from 5 bp, FAIL from 10;
    volume: 1.2 and 1.5 times; a session of one side only fails. The run fails when more than 2 % of its rows do.
    """
    from vprism_pipelines.providers.base import new_id
    from vprism_pipelines.serving.asking import period
    from vprism_pipelines.warehouse.reconciliation import compare, store

    spec, house = market_of(market), session.house
    first, last = period(start, end, today=spec.today(house.clock()))
    compared = compare(session.library.sql, spec, (a, b), start=first, end=last, sample=sample)
    run_id, now = f"cli-{new_id()}", house.clock()
    if not dry_run:
        with house.warehouse.transaction() as connection:
            store(connection, spec, compared, run_id, now)
    notes = [
        _classes(compared.result.diffs),
        *_worst(compared.result.symbols),
        "nothing was kept" if dry_run else f"kept as {run_id}; published with the next run",
    ]
    if rows == "run":
        return Answer(_upright(session, compared.run(spec, run_id, now)), tuple(filter(None, notes)))
    shown = compared.result.diffs if rows == "diffs" else _by_failing(compared.result.symbols)
    return Answer(shown, tuple(filter(None, notes)))


def show(
    session: Session,
    market: Annotated[str | None, typer.Option(help="Only this market.")] = None,
    a: Annotated[str | None, typer.Option(help="Only pairs with this provider.")] = None,
    b: Annotated[str | None, typer.Option(help="Only pairs with this provider, too.")] = None,
    symbol: Annotated[str | None, typer.Option(help="Only this symbol; shows differences.")] = None,
    rows: Annotated[Literal["runs", "diffs"], typer.Option(help="Comparisons, or what differs today.")] = "runs",
    status: Annotated[Literal["PASS", "WARN", "FAIL"] | None, typer.Option(help="Only this status.")] = None,
) -> Answer:
    """Comparisons that were kept, the newest first.

    Every run compares the pairs in which something changed. --rows diffs lists every row of two providers that is not
    the same on both sides, as last compared.
    """
    import polars as pl

    if symbol is not None and rows == "runs":
        rows = "diffs"
    conditions: dict[str, Any] = {
        "market = $market": market_of(market).code if market else None,
        "$a IN (source_a, source_b)": a,
        "$b IN (source_a, source_b)": b,
        "status = $status": status,
        "symbol = $symbol": session.library.canonical([symbol])[0] if symbol else None,
    }
    kept = {sql: value for sql, value in conditions.items() if value is not None}
    table, order = {
        "runs": ("quality.reconciliation_runs", "compared_at DESC, fail_share DESC, market, source_a, source_b"),
        "diffs": (
            "quality.reconciliation_diffs",
            "session DESC, abs(close_bp_diff) DESC NULLS FIRST, symbol, source_a, source_b",
        ),
    }[rows]
    found = session.library.sql(
        f"FROM {table} WHERE {' AND '.join(['true', *kept])} ORDER BY {order}",
        {sql.partition("$")[2].split()[0]: value for sql, value in kept.items()},
    )
    notes = () if found.height else ("nothing was compared yet: a market needs two providers with bars as traded",)
    return Answer(found.select(*_LEADING[rows], pl.exclude(_LEADING[rows])), notes)


_LEADING = {
    "runs": ["compared_at", "market", "source_a", "source_b", "status", "compared", "fail_share", "exact_share",
             "missing_source_a", "missing_source_b", "p95_close_bp_diff", "start", "end"],
    "diffs": ["symbol", "session", "status", "reason", "difference", "close_a", "close_b", "close_bp_diff",
              "volume_ratio"],
}  # fmt: skip


def _upright(session: Session, run: pl.DataFrame) -> pl.DataFrame:
    """One wide row as it is for machines; on a terminal one line per figure."""
    import polars as pl

    if session.output.format not in (None, "table") or session.output.path:
        return run
    texts = {name: _text(name, value) for name, value in run.row(0, named=True).items()}
    return pl.DataFrame({"figure": list(texts), "value": list(texts.values())})


def _text(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if name.endswith("_share"):
        return f"{value:.4%}"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _classes(diffs: pl.DataFrame) -> str:
    counted = diffs["difference"].value_counts(sort=True).rows()
    return "classes of difference: " + ", ".join(f"{count:,} {name}" for name, count in counted) if counted else ""


def _by_failing(symbols: pl.DataFrame) -> pl.DataFrame:
    return symbols.sort("fail_count", "fail_share", "symbol", descending=[True, True, False], nulls_last=True)


def _worst(symbols: pl.DataFrame) -> list[str]:
    worst = _by_failing(symbols).filter(symbols["fail_count"].sum() > 0).head(_WORST)
    told = [f"{symbol} {failing:,}" for symbol, failing in worst.select("symbol", "fail_count").iter_rows() if failing]
    return [f"most failing rows: {', '.join(told)}"] if told else []
