"""The code location: gathers assets, jobs, schedules, sensors and the resource; nothing else."""

from __future__ import annotations

import dagster as dg

from vprism_pipelines.assets.factory import END_TAG, START_TAG, TRIGGER_TAG
from vprism_pipelines.assets.graph import assets
from vprism_pipelines.assets.jobs import beside_keys, beside_name, job_name, jobs, refresh_keys
from vprism_pipelines.assets.resources import WarehouseResource
from vprism_pipelines.assets.schedules import schedules
from vprism_pipelines.assets.sensors import sensors
from vprism_pipelines.warehouse.house import House

__all__ = [
    "END_TAG",
    "START_TAG",
    "TRIGGER_TAG",
    "beside_keys",
    "beside_name",
    "build_defs",
    "defs",
    "job_name",
    "refresh_keys",
]


def build_defs(house: House | None = None) -> dg.Definitions:
    """The definitions over an installation; tests and commands bring their own."""
    return dg.Definitions(
        assets=assets(),
        jobs=jobs(),
        schedules=schedules(),
        sensors=sensors(),
        # Handed over as it is: a copy made by Dagster would lose the installation behind it.
        resources={"warehouse": dg.ResourceDefinition.hardcoded_resource(WarehouseResource.of(house or House()))},
        # Ten trivial assets take 1 s in one process and 15 s in one process each; scale out by runs.
        executor=dg.in_process_executor,
    )


defs = build_defs()
