"""One look of a sensor at an installation."""

from __future__ import annotations

import dagster as dg

from vprism_pipelines.assets.resources import WarehouseResource
from vprism_pipelines.definitions import build_defs
from vprism_pipelines.warehouse.house import House


def look(place: House, sensor: str, cursor: str | None = None) -> tuple[dg.RunRequest | str, str | None]:
    """What a sensor asks for, or why it does not, and the cursor it leaves."""
    definitions = build_defs(place)
    resource = dg.ResourceDefinition.hardcoded_resource(WarehouseResource.of(place))
    with dg.build_sensor_context(
        cursor=cursor, resources={"warehouse": resource}, repository_def=definitions.get_repository_def()
    ) as context:
        tick = definitions.resolve_sensor_def(sensor).evaluate_tick(context)
    if tick.run_requests:
        (request,) = tick.run_requests
        return request, tick.cursor
    return str(tick.skip_message), tick.cursor
