"""The one resource of asset bodies: the warehouse, and behind it the installation: lake, providers, clock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import duckdb
from dagster_duckdb import DuckDBResource
from pydantic import PrivateAttr

from vprism_pipelines.warehouse.house import House


class WarehouseResource(DuckDBResource):
    """The stock DuckDB resource's place and face, with our manners.

    The stock one waits blindly for up to 100 s and leaks its connection when a step raises. Here a connection is one
    transaction under the writer's lock, closed whatever happens.
    """

    database: str = "the private warehouse file under VPRISM_DATA_DIR"
    _house: House = PrivateAttr(default_factory=House)

    @classmethod
    def of(cls, house: House) -> WarehouseResource:
        """The resource over an installation."""
        resource = cls()
        resource._house = house
        return resource

    @property
    def house(self) -> House:
        return self._house

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """One transaction on the private file: committed at the end, rolled back on any exception."""
        with self._house.warehouse.transaction() as connection:
            yield connection


def house_of(context: dg.AssetExecutionContext) -> House:
    """The installation behind a step."""
    resource = context.resources.warehouse
    assert isinstance(resource, WarehouseResource)
    return resource.house
