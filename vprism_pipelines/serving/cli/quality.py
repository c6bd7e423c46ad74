"""`vprism quality`: what a data steward wants on one page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vprism_pipelines.errors import InvalidInput
from vprism_pipelines.serving.cli.arguments import market_of
from vprism_pipelines.serving.cli.render import Answer
from vprism_pipelines.serving.cli.scoreboard import scoreboard
from vprism_pipelines.serving.cli.session import Session, command, group

if TYPE_CHECKING:
    from vprism_pipelines.serving.library import Library

FEW, MANY = 6, 1_000  # lines of a section, for people and for machines
RUNS = 12  # measurements, or months, in a trend
_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report. `value` is a number, `shown` the same for people, `trend` the ones before it."""

    section: str
    market: str
    item: str
    status: str
    value: float | None
    shown: str
    detail: str = ""
    trend: tuple[float | None, ...] = ()
    provider: str | None = None
    symbol: str | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """What the report is about; None: everything. `month` is its first day."""

    market: str | None
    symbol: str | None
    provider: str | None
    month: date | None
    lines: int

    def where(self, **columns: str) -> tuple[str, dict[str, Any]]:
        """SQL conditions on columns by the name of the field, and their parameters."""
        given = {name: getattr(self, name) for name in columns}
        kept = {name: value for name, value in given.items() if value is not None}
        return " AND ".join(["true", *(f"{columns[name]} = ${name}" for name in kept)]), kept


def add_to(root: typer.Typer) -> None:
    """Add the group to the root."""
    commands = group(root, "quality", "How good the data are, and since when.")
    command(commands, "report")(report)
    command(commands, "scoreboard")(scoreboard)


def report(
    session: Session,
    market: Annotated[str | None, typer.Option(help="Only this market.")] = None,
    symbol: Annotated[str | None, typer.Option(help="Only this symbol, month by month.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only this provider.")] = None,
    month: Annotated[str | None, typer.Option(help="Scores of this month, YYYY-MM. [default: the newest]")] = None,
) -> Answer:
    """Verdicts, trends, and who is worst.

    The newest verdict of every check and its trend over runs; symbols and providers with the lowest score; pairs of
    providers; open proposals; revisions of the last runs. On a terminal the first lines of each; --format has all.
    """
    import polars as pl

    library = session.library
    people = session.output.format in (None, "table") and session.output.path is None
    scope = Scope(
        market_of(market).code if market else None,
        library.canonical([symbol])[0] if symbol else None,
        provider,
        _month(month),
        FEW if people else MANY,
    )
    parts = (_checks, _symbols, _providers, _pairs, _proposals, _revisions)
    lines = [line for part in parts for line in part(library, scope)]
    failing = dict.fromkeys(line.item for line in lines if (line.section, line.status) == ("check", "FAIL"))
    note = f"checks that FAIL: {', '.join(failing) or 'none'}"
    if people:
        columns: dict[str, list[Any]] = {
            "section": [line.section for line in lines],
            "market": [line.market for line in lines],
            "item": [line.item for line in lines],
            "status": [line.status for line in lines],
            "value": [line.shown for line in lines],
            "trend": [_spark(line.trend) for line in lines],
            "detail": [line.detail for line in lines],
        }
        return Answer(pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String)), (note,))
    schema = {
        "section": pl.String(),
        "market": pl.String(),
        "item": pl.String(),
        "provider": pl.String(),
        "symbol": pl.String(),
        "status": pl.String(),
        "value": pl.Float64(),
        "trend": pl.List(pl.Float64()),
        "detail": pl.String(),
    }
    rows = [{name: getattr(line, name) for name in schema} | {"trend": list(line.trend)} for line in lines]
    return Answer(pl.DataFrame(rows, schema=schema), (note,))


def _month(text: str | None) -> date | None:
    try:
        return date.fromisoformat(f"{text}-01") if text else None
    except ValueError:
        raise InvalidInput(f"{text!r} is no month", hint="write it as 2024-01", option="month") from None


def _spark(values: tuple[float | None, ...]) -> str:
    """The values as little bars, lowest to highest; nothing where they are all the same or too few."""
    told = [value for value in values if value is not None]
    if len(set(told)) < 2:
        return ""
    low, span = min(told), max(told) - min(told)
    return "".join(" " if value is None else _BARS[round((value - low) / span * 7)] for value in values)


# --- sections -------------------------------------------------------------------------------------------------------


def _checks(library: Library, scope: Scope) -> Iterator[Line]:
    """The newest verdict of every check, the worst first, and what it measured in the runs before."""
    where, parameters = scope.where(market="market", provider="provider")
    told = library.sql(
        f"""SELECT market, metric, provider, symbol, status, value, warn, fail, date,
                   list(value) OVER (series ROWS BETWEEN {RUNS - 1} PRECEDING AND CURRENT ROW) AS trend
            FROM quality.metrics
            LEFT JOIN (SELECT run_id, max(finished_at) AS finished_at FROM ops.runs GROUP BY run_id) USING (run_id)
            WHERE {where}
            WINDOW series AS (PARTITION BY market, metric, provider, symbol ORDER BY date, finished_at NULLS FIRST)
            QUALIFY lead(date) OVER series IS NULL
            ORDER BY CASE status WHEN 'FAIL' THEN 0 WHEN 'WARN' THEN 1 ELSE 2 END, market, metric, provider,
                     symbol""",
        parameters,
    )
    fine = told.filter(told["status"] == "OK").height
    for number, row in enumerate(told.iter_rows(named=True)):
        if scope.lines == FEW and (row["status"] == "OK" or number >= 2 * FEW):
            rest = told.height - number - (fine if row["status"] != "OK" else 0)
            more = f", {rest} more WARN or FAIL" if row["status"] != "OK" else ""
            yield Line("check", "", "the others", "OK", None, str(fine), f"checks are OK{more}")
            return
        who = " ".join(row[name] for name in ("provider", "symbol") if row[name] != "*")
        limits = ", ".join(f"{name.upper()} from {row[name]:g}" for name in ("warn", "fail") if row[name] is not None)
        shown = "–" if row["value"] is None else f"{row['value']:.4g}"
        yield Line(
            "check", row["market"], f"{row['metric']} {who}".strip(), row["status"], row["value"], shown,
            f"{limits}; {row['date']}".removeprefix("; "), tuple(row["trend"]), _named(row["provider"]),
            _named(row["symbol"]),
        )  # fmt: skip


_COUNTS = "sum(expected)::BIGINT AS expected, " + ", ".join(
    f"sum({name})::BIGINT AS {name}"
    for name in ("bars", "rejected", "missing", "revised", "quarantined", "flagged", "outvoted")
)
_MARKET = "lower(split_part(symbol, ':', 1))"


def _scores(library: Library, scope: Scope, by: str) -> Iterator[dict[str, Any]]:
    """Scorecard counts and score by some columns, of the month asked for or of each provider's newest; worst first."""
    where, parameters = scope.where(market=_MARKET, symbol="symbol", provider="provider")
    month = "$month" if scope.month else "newest"
    rows = library.sql(
        f"""WITH cards AS (SELECT *, {_MARKET} AS market, max(month) OVER (PARTITION BY {_MARKET}, provider) AS newest
                           FROM quality.scorecard WHERE {where}),
            counted AS (SELECT market, {by}, month, newest, {_COUNTS},
                               sum(bars - quarantined - outvoted) / sum(expected) AS score
                        FROM cards WHERE month <= {month} GROUP BY market, {by}, month, newest),
            trended AS (SELECT *, list(score) OVER (PARTITION BY market, {by} ORDER BY month
                                                    ROWS BETWEEN {RUNS - 1} PRECEDING AND CURRENT ROW) AS trend
                        FROM counted)
            SELECT * FROM trended WHERE month = {month}
            ORDER BY score, expected - bars + quarantined + outvoted DESC, flagged DESC, market, {by}
            LIMIT {scope.lines}""",
        parameters | ({"month": scope.month} if scope.month else {}),
    )
    yield from rows.iter_rows(named=True)


def _card(row: dict[str, Any]) -> tuple[str, str]:
    """The verdict on a score, and what it is made of."""
    from vprism_pipelines.quality.datasets import CHECKS

    status = CHECKS["gap_ratio"].judge(1 - row["score"]).value
    names = ("missing", "rejected", "quarantined", "outvoted", "flagged", "revised")
    faults = ", ".join(f"{row[name]:,} {name}" for name in names if row[name])
    return status, f"{row['expected']:,} expected in {row['month']:%Y-%m}" + (f", {faults}" if faults else "")


def _symbols(library: Library, scope: Scope) -> Iterator[Line]:
    """Series with the lowest score; of one symbol its last months."""
    if scope.symbol and not scope.month:
        where, parameters = scope.where(symbol="symbol", provider="provider")
        months = library.sql(
            f"""SELECT *, {_MARKET} AS market, [] AS trend FROM quality.scorecard WHERE {where}
                ORDER BY month DESC, provider LIMIT {RUNS if scope.lines == FEW else MANY}""",
            parameters,
        )
        found: Iterator[dict[str, Any]] = months.iter_rows(named=True)
    else:
        scored = _scores(library, scope, "symbol, provider")
        found = (row for row in scored if scope.lines > FEW or row["score"] < 1 or row["flagged"])
    for row in found:
        status, detail = _card(row)
        code = row["symbol"].rpartition(":")[2]
        yield Line(
            "symbol", row["market"], f"{code} {row['provider']}", status, row["score"], f"{row['score']:.2%}", detail,
            tuple(row["trend"]), row["provider"], row["symbol"],
        )  # fmt: skip


def _providers(library: Library, scope: Scope) -> Iterator[Line]:
    """Every provider: score of its month, weight of its vote, how it answered last."""
    weights = {
        (market, name): value
        for market, name, value in library.sql(
            """SELECT market, provider, value FROM quality.reliability WHERE known_to IS NULL
               QUALIFY row_number() OVER (PARTITION BY market, provider ORDER BY month DESC) = 1"""
        ).iter_rows()
    }
    answers = {
        (row["market"], row["provider"]): row
        for row in library.sql(
            """FROM quality.provider_health
               QUALIFY row_number() OVER (PARTITION BY market, provider ORDER BY date DESC) = 1"""
        ).iter_rows(named=True)
    }
    for row in _scores(library, scope, "provider"):
        status, detail = _card(row)
        key = row["market"], row["provider"]
        if key in weights:
            detail += f"; reliability {weights[key]:.3f}"
        if key in answers:
            last = answers[key]
            detail += f"; {last['failed']} of {last['requests']} pulls failed on {last['date']}"
            detail += "" if last["lag_hours"] is None else f", {last['lag_hours']:.1f} h after the close"
        yield Line(
            "provider", row["market"], row["provider"], status, row["score"], f"{row['score']:.2%}", detail,
            tuple(row["trend"]), row["provider"],
        )  # fmt: skip


def _pairs(library: Library, scope: Scope) -> Iterator[Line]:
    """Every pair of providers, as last compared."""
    where, parameters = scope.where(market="market")
    pairs = library.sql(
        f"""SELECT *, list(fail_share) OVER (PARTITION BY market, source_a, source_b ORDER BY compared_at
                                             ROWS BETWEEN {RUNS - 1} PRECEDING AND CURRENT ROW) AS trend
            FROM quality.reconciliation_runs WHERE {where}
            QUALIFY row_number() OVER (PARTITION BY market, source_a, source_b ORDER BY compared_at DESC) = 1
            ORDER BY fail_share DESC NULLS LAST, market, source_a, source_b LIMIT {scope.lines}""",
        parameters,
    )
    for row in pairs.iter_rows(named=True):
        if scope.provider in (None, row["source_a"], row["source_b"]):
            exact = f"{row['exact_share']:.2%} equal, " if row["exact_share"] is not None else ""
            yield Line(
                "pair", row["market"], f"{row['source_a']} / {row['source_b']}", row["status"], row["fail_share"],
                f"{row['fail_share'] or 0:.2%}",
                f"failing of {row['compared']:,} rows {row['start']} to {row['end']}, {exact}"
                f"p95 {row['p95_close_bp_diff'] or 0:g} bp",
                tuple(row["trend"]),
            )  # fmt: skip


def _proposals(library: Library, scope: Scope) -> Iterator[Line]:
    """Corporate actions that wait for a decision, the most certain first."""
    where, parameters = scope.where(market=_MARKET, symbol="symbol")
    waiting = library.sql(
        f"""SELECT {_MARKET} AS market, symbol, kind, ex_date, event_type, confidence, count(*) OVER () AS waiting
            FROM quality.action_proposals WHERE status = 'open' AND {where}
            ORDER BY confidence DESC, symbol, ex_date LIMIT {min(scope.lines, MANY)}""",
        parameters,
    )
    for market, symbol, kind, ex_date, event, confidence, _ in waiting.iter_rows():
        yield Line(
            "proposal", market, f"{symbol.rpartition(':')[2]} {kind}", "WARN", confidence, f"{confidence:.2f}",
            f"{event} on {ex_date}, open", symbol=symbol,
        )  # fmt: skip


def _revisions(library: Library, scope: Scope) -> Iterator[Line]:
    """What the last runs changed in bars that were known already, by class."""
    where, parameters = scope.where(market=_MARKET, symbol="symbol", provider="provider")
    changed = library.sql(
        f"""WITH runs AS (SELECT market, run_id, batch, finished_at FROM ops.runs
                          WHERE step LIKE 'clean/%/bars' AND batch > 0 ORDER BY finished_at DESC LIMIT {scope.lines}),
            told AS (SELECT batch, provider, change_class, count(*) AS rows FROM clean.bars_ledger
                     WHERE batch IN (SELECT batch FROM runs) AND change_class <> 'new' AND {where} GROUP BY ALL)
            SELECT market, finished_at, provider, sum(rows)::BIGINT AS rows,
                   string_agg(format('{{:,}} {{}}', rows, change_class), ', ' ORDER BY rows DESC, change_class)
                       AS classes
            FROM told JOIN runs USING (batch) GROUP BY ALL ORDER BY finished_at DESC, provider LIMIT {scope.lines}""",
        parameters,
    )
    for market, at, provider, rows, classes in changed.iter_rows():
        yield Line(
            "revision", market, f"{provider} {at:%Y-%m-%d %H:%M}Z", "OK", rows, f"{rows:,}", classes, provider=provider
        )


def _named(name: str) -> str | None:
    return None if name == "*" else name
