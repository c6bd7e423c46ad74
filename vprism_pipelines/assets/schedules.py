"""Schedules: each market at its close plus settle time, in its own zone, and not on closed days."""

from collections.abc import Callable
from datetime import date

import dagster as dg

from vprism_pipelines.assets.factory import TRIGGER_TAG
from vprism_pipelines.assets.jobs import beside_keys, beside_name, job_name, refresh_keys
from vprism_pipelines.assets.resources import WarehouseResource
from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.market.spec import MARKETS, MarketSpec
from vprism_pipelines.providers import registry

Request = Callable[[list[str], date], dg.RunRequest | dg.SkipReason]
"""(providers of scheduled runs, session) -> what to run."""


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

    def refresh(providers: list[str], day: date) -> dg.RunRequest:
        return refresh_request(spec, providers, day.replace(day=1).isoformat(), day.isoformat(), "schedule")

    about = f"After every {spec.name} session, {spec.settle.seconds // 60} minutes past the close."
    return _on_sessions(spec, f"{spec.code}_after_close", job_name(spec), spec.refresh_cron, about, refresh)


def beside_the_bars(spec: MarketSpec) -> dg.ScheduleDefinition:
    """Pull descriptions, fundamentals, quotes and ticks an hour after the refresh: it comes first."""

    def pull(providers: list[str], day: date) -> dg.RunRequest | dg.SkipReason:
        able = [name for name in providers if registry.entry(name).beside]
        if not able:
            return dg.SkipReason("no provider of scheduled runs has anything besides bars")
        return dg.RunRequest(
            run_key=day.isoformat(),
            asset_selection=beside_keys(spec, able),
            tags={TRIGGER_TAG: "schedule", "market": spec.code},
        )

    minute, hour, *days = spec.refresh_cron.split()
    cron = " ".join([minute, str(int(hour) + 1), *days])
    about = f"Descriptions, fundamentals, quotes and ticks, an hour after the refresh of {spec.name}."
    return _on_sessions(spec, f"{spec.code}_beside_after_close", beside_name(spec), cron, about, pull)


def _on_sessions(
    spec: MarketSpec, name: str, job: str, cron: str, about: str, request: Request
) -> dg.ScheduleDefinition:
    """A schedule in the market's zone that skips closed days."""

    @dg.schedule(
        name=name,
        job_name=job,
        cron_schedule=cron,
        execution_timezone=spec.timezone,
        description=about,
        default_status=dg.DefaultScheduleStatus.STOPPED,
    )
    def schedule(
        context: dg.ScheduleEvaluationContext, warehouse: dg.ResourceParam[WarehouseResource]
    ) -> dg.RunRequest | dg.SkipReason:
        day = context.scheduled_execution_time.astimezone(spec.zone).date()
        if not calendar(spec.calendar).is_session(day):
            return dg.SkipReason(f"{day} is not a session of {spec.calendar}")
        return request(warehouse.house.providers_of(spec), day)

    return schedule


def schedules() -> list[dg.ScheduleDefinition]:
    """One schedule per market that has a provider, and one more where a provider has something besides bars."""
    found = []
    for spec in MARKETS.values():
        providers = registry.for_market(spec.code)
        if providers:
            found.append(after_close(spec))
        if any(registry.entry(name).beside for name in providers):
            found.append(beside_the_bars(spec))
    return found
