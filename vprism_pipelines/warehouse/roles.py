"""Who takes part in golden. Roles are people's decisions: kept in the lake, so that a rebuild finds them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Literal, get_args

import duckdb
import polars as pl

from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.tables import ROLES
from vprism_pipelines.warehouse.building import insert
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.lake import Lake

__all__ = ["Role", "Standing", "decide", "history", "restore", "roles", "undone"]

Role = Literal["primary", "shadow", "retired"]
DRAWER = "roles"


@dataclass(frozen=True, slots=True)
class Standing:
    """The role of one provider in one market, since a decision. Fields as in `tables.ROLES`."""

    market: str
    provider: str
    role: Role
    since: datetime
    decision: str
    reason: str
    against: str | None = None
    implementation: str | None = None


def roles(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> dict[str, Standing]:
    """The present role of every provider that was ever given one in a market."""
    return {standing.provider: standing for standing in history(connection, spec)}


def history(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> list[Standing]:
    """Every change of role in a market, oldest first."""
    rows = pl.DataFrame(
        connection.execute(
            "SELECT * FROM ops.roles WHERE market = ? ORDER BY since, provider", [spec.code]
        ).to_arrow_table()
    )
    return [_standing(row) for row in rows.iter_rows(named=True)]


def decide(house: House, changes: Sequence[Standing]) -> None:
    """Change roles, all of them or none: written to the lake first, then entered into the warehouse."""
    instant = changes[0].since
    house.lake.record(
        DRAWER, f"{instant:%Y%m%dT%H%M%S%f}-{changes[0].decision}", [_plain(change) for change in changes]
    )
    with house.warehouse.transaction() as connection:
        restore(connection, house.lake)


def restore(connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    """Make `ops.roles` what the lake says, inside the caller's transaction."""
    recorded = [_standing(change) for change in lake.recorded(DRAWER)]
    rows = pl.DataFrame([asdict(change) for change in recorded], schema=ROLES.polars_schema)
    connection.execute("DELETE FROM ops.roles")
    insert(connection, ROLES, rows)


def undone(past: Sequence[Standing], now: datetime, decision: str, reason: str) -> list[Standing]:
    """The changes that restore what was before the last decision; none if there is nothing to undo."""
    if not past:
        return []
    last = past[-1].decision
    before = {change.provider: change for change in past if change.decision != last}
    return [
        replace(
            before.get(change.provider, replace(change, role="shadow" if "@" in change.provider else "primary")),
            since=now,
            decision=decision,
            reason=reason,
        )
        for change in past
        if change.decision == last
    ]


def _plain(change: Standing) -> dict[str, object]:
    return {**asdict(change), "since": change.since.isoformat()}


def _standing(row: Mapping[str, object]) -> Standing:
    since = row["since"]
    role = row["role"]
    assert role in get_args(Role)
    return Standing(**{**row, "since": datetime.fromisoformat(since) if isinstance(since, str) else since})  # type: ignore[arg-type]
