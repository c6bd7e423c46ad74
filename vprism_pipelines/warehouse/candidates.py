"""Another parser of a provider, on probation: it reads the archived answers again, under a name of its own.

The rows of `kbs` read by its parser `2` are those of provider `kbs@2`: pulls, rows in the lake, ledger versions. So a
rebuild finds them again, and every number still leads to its payload.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import duckdb
import polars as pl

from vprism_pipelines.errors import InvalidInput
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.providers.base import Dataset, Parsed, Payload, Provider
from vprism_pipelines.tables import FETCHES
from vprism_pipelines.warehouse import pulls
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.roles import Standing, roles

__all__ = ["implementation", "read_again"]


def implementation(where: str, house: House) -> Provider:
    """The parser at `module:class`.

    Raises:
        InvalidInput: It cannot be imported, or is no provider.
    """
    module, _, name = where.partition(":")
    try:
        made = getattr(import_module(module), name)(None, clock=house.clock)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"there is no parser at {where!r}: {error}", hint="write module:class, as in my_package.kbs:KbsProvider"
        ) from error
    if not isinstance(made, Provider):
        raise InvalidInput(f"{where} is not a provider", hint="it needs capabilities, plan, fetch, parse and aclose")
    return made


def read_again(house: House, spec: MarketSpec, run_id: str) -> int:
    """Let every parser on probation, or promoted, read the answers it has not read yet; how many answers."""
    with house.warehouse.connect() as connection:
        standing = roles(connection, spec)
    return sum(
        _read(house, spec, role, run_id) for role in standing.values() if role.implementation and role.role != "retired"
    )


def _read(house: House, spec: MarketSpec, role: Standing, run_id: str) -> int:
    assert role.implementation is not None
    parser = implementation(role.implementation, house)
    parser.name = role.provider
    with house.warehouse.connect() as connection:
        unread = _unread(connection, spec, role.provider)
    for (path,), answers in unread.group_by("lake_path", maintain_order=True):
        payloads = [_as(role.provider, p) for p in house.lake.payloads(str(path), answers["fetch_id"].to_list())]
        pulled = [_bars_only(pull) for pull in pulls.parse_all(parser, payloads)]
        fetches = pulls.keep(house.lake, parser, pulled, str(path))
        with house.warehouse.transaction() as connection:
            pulls.register(connection, fetches, run_id)
    return unread.height


def _unread(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, name: str) -> pl.DataFrame:
    """fetch_id, lake_path of the provider's answers that carry bars and that this parser has not read."""
    provider, _, version = name.partition("@")
    return pl.DataFrame(
        connection.execute(
            f"""SELECT fetch_id, lake_path FROM {FETCHES.full_name} AS f
                WHERE provider = $provider AND market = $market AND list_contains(frames, 'bars')
                  AND NOT EXISTS (FROM {FETCHES.full_name} AS r WHERE r.fetch_id = f.fetch_id || $suffix)
                ORDER BY fetched_at, fetch_id""",
            {"provider": provider, "market": spec.code, "suffix": f"@{version}"},
        ).to_arrow_table()
    )


def _as(name: str, payload: Payload) -> Payload:
    """The answer under the candidate's name: pulls are told apart by their identifier."""
    version = name.partition("@")[2]
    return replace(payload, fetch_id=f"{payload.fetch_id}@{version}", request=replace(payload.request, provider=name))


def _bars_only(pull: pulls.Pulled) -> pulls.Pulled:
    """Events and descriptions stay those of the parser in use: they are not what is compared."""
    if pull.parsed is None:
        return pull
    bars: dict[Dataset, pl.DataFrame] = {"bars": pull.parsed.frames["bars"]} if "bars" in pull.parsed.frames else {}
    return replace(pull, parsed=Parsed(bars, pull.parsed.notes))
