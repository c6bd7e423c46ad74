"""Schedules: each market at its close plus settle time, in its own zone, and not on closed days."""

import dagster as dg

from vprism_pipelines.assets.factory import TRIGGER_TAG
from vprism_pipelines.assets.jobs import job_name, refresh_keys
from vprism_pipelines.assets.resources import WarehouseResource
from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.market.spec import MARKETS, MarketSpec
from vprism_pipelines.providers import registry


def refresh_request(spec: MarketSpec, providers: list[str], month: str, run_key: str, trigger: str) -> dg.RunRequest:
    """A refresh of the month that `month` (its first day) names, pulling from the given providers."""
    return dg.RunRequest(
        run_key=run_key,
        partition_key=month,
        asset_selection=refresh_keys(spec, providers),
        tags={TRIGGER_TAG: trigger, "market": spec.code},
    )


def after_close(spec: MarketSpec) -> dg.ScheduleDefinition:
    """Refresh a market after each of its sessions."""

    @dg.schedule(
        name=f"{spec.code}_after_close",
        job_name=job_name(spec),
        cron_schedule=spec.refresh_cron,
        execution_timezone=spec.timezone,
        description=f"After every {spec.name} session, {spec.settle.seconds // 60} minutes past the close.",
        default_status=dg.DefaultScheduleStatus.STOPPED,
    )
    def schedule(
        context: dg.ScheduleEvaluationContext, warehouse: dg.ResourceParam[WarehouseResource]
    ) -> dg.RunRequest | dg.SkipReason:
        now = context.scheduled_execution_time.astimezone(spec.zone)
        day = now.date()
        if not calendar(spec.calendar).is_session(day):
            return dg.SkipReason(f"{day} is not a session of {spec.calendar}")
        return refresh_request(
            spec, warehouse.house.providers_of(spec), day.replace(day=1).isoformat(), day.isoformat(), "schedule"
        )

    return schedule


def schedules() -> list[dg.ScheduleDefinition]:
    """One schedule per market that has a provider."""
    return [after_close(spec) for spec in MARKETS.values() if registry.for_market(spec.code)]
