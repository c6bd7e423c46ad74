"""Probation: compare candidates with the provider in use, promote those that passed, and take it back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import duckdb
import polars as pl

from vprism_pipelines.errors import DataQualityError, InvalidInput, UnknownProvider
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.providers import registry
from vprism_pipelines.providers.base import new_id
from vprism_pipelines.quality.shadow import PASSES, Gates, compare, sample
from vprism_pipelines.tables import SHADOW_RUNS
from vprism_pipelines.tables.golden import TRADED
from vprism_pipelines.warehouse.building import frame, insert, prefix
from vprism_pipelines.warehouse.candidates import implementation
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.roles import Standing, decide, history, roles, undone

__all__ = ["Scope", "passes", "probationers", "promote", "rollback", "run", "start"]


@dataclass(frozen=True, slots=True)
class Scope:
    """How much is compared.

    Attributes:
        share: Of the symbols, 0..1, always the same ones.
        sessions: The newest sessions of the candidate; None: all.
    """

    share: float = 0.25
    sessions: int | None = 30


def start(
    house: House,
    spec: MarketSpec,
    provider: str,
    *,
    against: str | None = None,
    where: str | None = None,
    reason: str = "",
) -> Standing:
    """Put a provider, or another parser of one, on probation.

    Args:
        house: The installation.
        spec: Market.
        provider: Name of a provider that serves the market; with `where`, whose answers to read again.
        against: Whom it would replace; None: the best-ranked provider in use, or the one whose answers it reads.
        where: `module:class` of another parser of `provider`.
        reason: Kept with the decision.

    Raises:
        UnknownProvider: Nobody of that name has said anything about the market.
        InvalidInput: It stands against itself, or the parser cannot be used.
    """
    now = house.clock()
    with house.warehouse.connect() as connection:
        known, standing = _known(connection, spec), roles(connection, spec)
    if where is None and provider not in known and provider not in registry.for_market(spec.code):
        raise UnknownProvider(f"{provider} does not serve the {spec.code} market", hint=f"known: {', '.join(known)}")
    name = provider
    if where is not None:
        version = implementation(where, house).parser_version
        name, against = f"{provider}@{version}", against or provider
    in_use = [other for other in known if other != name and _role(standing, other) == "primary"]
    against = against or next(iter(in_use), None)
    if against is None or against not in in_use:
        raise InvalidInput(
            f"{name} has nobody in use to stand against in the {spec.code} market",
            hint=f"--against one of: {', '.join(in_use) or 'none has bars yet'}",
        )
    change = Standing(spec.code, name, "shadow", now, new_id(), reason or "on probation", against, where)
    decide(house, [change])
    return change


def probationers(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> list[Standing]:
    """Who is on probation in a market."""
    return [standing for standing in roles(connection, spec).values() if standing.role == "shadow"]


def run(
    connection: duckdb.DuckDBPyConnection,
    spec: MarketSpec,
    run_id: str,
    now: datetime,
    scope: Scope | None = None,
    gates: Gates | None = None,
) -> pl.DataFrame:
    """Compare everybody on probation with whom they stand against, inside the caller's transaction.

    Returns:
        The new rows of `quality.shadow_runs`.
    """
    rows = [
        _compared(connection, spec, standing, run_id, now, scope or Scope(), gates)
        for standing in probationers(connection, spec)
    ]
    compared = SHADOW_RUNS.conform(pl.DataFrame(rows, schema=SHADOW_RUNS.polars_schema))
    if rows:
        connection.execute("DELETE FROM quality.shadow_runs WHERE run_id = ? AND market = ?", [run_id, spec.code])
        insert(connection, SHADOW_RUNS, compared)
    return compared


def passes(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, provider: str) -> int:
    """Comparisons in a row, the latest ones, that passed; of equal data only the last one counts."""
    since = roles(connection, spec)[provider].since
    outcomes = connection.execute(
        """SELECT passed FROM quality.shadow_runs WHERE market = ? AND provider = ? AND compared_at >= ?
           QUALIFY row_number() OVER (PARTITION BY range_end, batch ORDER BY compared_at DESC) = 1
           ORDER BY compared_at DESC""",
        [spec.code, provider, since],
    ).fetchall()
    return next((number for number, (passed,) in enumerate(outcomes) if not passed), len(outcomes))


def promote(house: House, spec: MarketSpec, provider: str, *, beside: bool = False, reason: str = "") -> list[Standing]:
    """Let a candidate take part in golden, in place of whom it stood against.

    Args:
        house: The installation.
        spec: Market.
        provider: On probation.
        beside: Both take part from now on; otherwise the one in use retires.
        reason: Kept with the decision.

    Raises:
        InvalidInput: It is not on probation.
        DataQualityError: It has not passed often enough.
    """
    with house.warehouse.connect() as connection:
        standing = roles(connection, spec).get(provider)
        if standing is None or standing.role != "shadow":
            others = ", ".join(other.provider for other in probationers(connection, spec)) or "nobody"
            raise InvalidInput(f"{provider} is not on probation in the {spec.code} market", hint=f"{others} is")
        passed = passes(connection, spec, provider)
    if passed < PASSES:
        raise DataQualityError(
            f"{provider} has passed {passed} of {PASSES} comparisons in a row",
            hint="comparisons of new data count; `vprism shadow show` lists them",
            market=spec.code,
        )
    decision, now = new_id(), house.clock()
    note = reason or f"passed {passed} comparisons in a row"
    promoted = Standing(spec.code, provider, "primary", now, decision, note, standing.against, standing.implementation)
    changes = [promoted]
    if not beside and standing.against is not None:
        changes.append(Standing(spec.code, standing.against, "retired", now, decision, f"replaced by {provider}"))
    decide(house, changes)
    return changes


def rollback(house: House, spec: MarketSpec, reason: str = "") -> list[Standing]:
    """Restore the roles before the last decision.

    Raises:
        InvalidInput: Nothing was ever decided in this market.
    """
    with house.warehouse.connect() as connection:
        changes = undone(history(connection, spec), house.clock(), new_id(), reason or "rolled back")
    if not changes:
        raise InvalidInput(
            f"no role was ever changed in the {spec.code} market", hint="`vprism shadow show` lists them"
        )
    decide(house, changes)
    return changes


def _known(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> list[str]:
    """Who has bars of the market, best-ranked first."""
    rows = connection.execute(f"SELECT DISTINCT provider FROM clean.bars_ledger WHERE {prefix(spec)}").fetchall()
    return sorted((str(name) for (name,) in rows), key=lambda name: (spec.rank(name), name))


def _role(standing: dict[str, Standing], provider: str) -> str:
    known = standing.get(provider)
    return known.role if known else "shadow" if "@" in provider else "primary"


def _compared(
    connection: duckdb.DuckDBPyConnection,
    spec: MarketSpec,
    standing: Standing,
    run_id: str,
    now: datetime,
    scope: Scope,
    gates: Gates | None,
) -> dict[str, object]:
    ours = f"{prefix(spec)} AND NOT provisional"
    names: dict[str, object] = {"candidate": standing.provider, "against": standing.against}
    symbols = frame(
        connection,
        f"SELECT DISTINCT symbol FROM clean.bars WHERE {ours} AND provider IN ($candidate, $against)",
        names,
    )["symbol"]
    chosen = sample(symbols.to_list(), scope.share) if symbols.len() else []
    latest = f"LIMIT {scope.sessions}" if scope.sessions else ""
    bars = frame(
        connection,
        f"""WITH days AS (SELECT DISTINCT session FROM clean.bars WHERE {ours} AND provider = $candidate
                          ORDER BY session DESC {latest})
            SELECT symbol, session, provider, close, batch FROM clean.traded_bars
            WHERE {ours} AND provider IN ($candidate, $against) AND list_contains($chosen, symbol)
              AND price_basis = 'raw' AND {TRADED}
              AND session BETWEEN (SELECT min(session) FROM days) AND (SELECT max(session) FROM days)""",
        names | {"chosen": chosen},
    )
    used, candidate = (bars.filter(pl.col("provider") == name) for name in (standing.against, standing.provider))
    verdict = compare(used, candidate, gates)
    newest = frame(
        connection,
        f"SELECT coalesce(max(batch), 0) AS batch FROM clean.bars WHERE {ours} AND provider = $candidate",
        {"candidate": standing.provider},
    )
    return {
        "market": spec.code,
        "provider": standing.provider,
        "run_id": run_id,
        "against": standing.against or "",
        "compared_at": now,
        "range_start": bars["session"].min(),
        "range_end": bars["session"].max(),
        "batch": newest["batch"][0],
        "symbols": verdict.symbols,
        "rows": verdict.rows,
        "row_diff_pct": verdict.row_diff_pct,
        "price_diff_bp_p95": verdict.price_diff_bp_p95,
        "gap_ratio": verdict.gap_ratio,
        "passed": verdict.passed,
    }
