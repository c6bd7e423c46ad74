"""Sensors: late sessions are fetched again, what is about to perish is fetched first, failed runs are told about."""

import json
import urllib.request
from collections.abc import Callable
from datetime import date, datetime, timedelta

import dagster as dg

from vprism_pipelines.assets.factory import TRIGGER_TAG
from vprism_pipelines.assets.jobs import beside_keys, beside_name, job_name
from vprism_pipelines.assets.resources import WarehouseResource
from vprism_pipelines.assets.schedules import refresh_request
from vprism_pipelines.errors import NotPublished, VprismError, WarehouseLocked
from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.market.spec import MARKETS, MarketSpec
from vprism_pipelines.providers import registry
from vprism_pipelines.warehouse.building import prefix
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.importing import inbox, waiting
from vprism_pipelines.warehouse.planner import Goal, Plan, plan, record_perishing
from vprism_pipelines.warehouse.pulls import PERISHABLE

GRACE = timedelta(hours=4)  # after the close; a session still missing then is late
ATTEMPTS_PER_DAY = 4
KEPT = timedelta(days=7)  # no provider keeps perishable data for longer

Look = Callable[[dg.SensorEvaluationContext, House], dg.RunRequest | dg.SkipReason]
"""One look of a sensor at an installation."""


def newest_session(house: House, spec: MarketSpec) -> date | None:
    """Last session in the published golden bars of a market."""
    try:
        found = house.reader.query(f"SELECT max(session) AS newest FROM golden.bars WHERE {prefix(spec)}")
    except NotPublished:
        return None
    newest: date | None = found["newest"][0]
    return newest


def is_late(spec: MarketSpec, newest: date | None, now: datetime) -> date | None:
    """The session that should be there by now and is not; judged by data and calendar, never by run times."""
    due = calendar(spec.calendar).latest_final(now, GRACE)
    return due if newest is not None and newest < due else None


def freshness(spec: MarketSpec) -> dg.SensorDefinition:
    """Ask again for a market whose last session is late, a few times a day."""

    def look(context: dg.SensorEvaluationContext, house: House) -> dg.RunRequest | dg.SkipReason:
        now = house.clock()
        names = [name for name in house.providers_of(spec) if not house.parser(name).capabilities().immutable]
        if not names:
            return dg.SkipReason("the providers in use never change")
        newest = newest_session(house, spec)
        late = is_late(spec, newest, now)
        if late is None:
            return dg.SkipReason(f"up to date: {newest}" if newest else "nothing published yet")
        attempt = now.hour * ATTEMPTS_PER_DAY // 24
        key = f"late-{late}-{now.date()}-{attempt}"
        return refresh_request(spec, names, late.replace(day=1).isoformat(), key, "sensor")

    about = f"Refreshes {spec.name} when a session is missing four hours after its close."
    return _sensor(f"{spec.code}_freshness", job_name(spec), 600, about, look)


def dropped_files(spec: MarketSpec) -> dg.SensorDefinition:
    """Import what is dropped into the inbox."""

    def look(context: dg.SensorEvaluationContext, house: House) -> dg.RunRequest | dg.SkipReason:
        found = [path for path, _ in waiting(house, spec)]
        if not found:
            return dg.SkipReason(f"nothing for {spec.name} in {inbox(house)}")
        # A file that is still being written has a new time by the next look, and so a key of its own.
        key = "inbox-" + "-".join(f"{path.name}@{path.stat().st_mtime_ns}" for path in found)
        month = spec.today(house.clock()).replace(day=1).isoformat()
        return refresh_request(spec, ["files"], month, key, "inbox")

    about = f"Imports files for {spec.name} that are dropped into <data>/inbox with a mapping beside them."
    return _sensor(f"{spec.code}_inbox", job_name(spec), 30, about, look)


def perishing(spec: MarketSpec) -> dg.SensorDefinition:
    """Warn, and fetch, before quotes and ticks can no longer be asked for."""

    def look(context: dg.SensorEvaluationContext, house: House) -> dg.RunRequest | dg.SkipReason:
        names = [name for name in house.providers_of(spec) if _keeps_briefly(name)]
        if not names:
            return dg.SkipReason("no provider of scheduled runs has quotes or ticks")
        today = spec.today(house.clock())
        try:
            made = plan(house, Goal(spec, (today - KEPT, today), tuple(names), PERISHABLE))
            if not made.warnings:
                return dg.SkipReason("nothing is about to perish")
            key = _alert(made)
            if key != context.cursor:
                text = f"{spec.name}: {'; '.join(made.warnings)}"
                with house.warehouse.transaction() as connection:
                    record_perishing(connection, made, key)
                context.log.warning("%s", text)
                _tell(house, {"text": text, "market": spec.code})
                context.update_cursor(key)
        except WarehouseLocked:
            return dg.SkipReason("a run is writing; the next look comes soon")
        return dg.RunRequest(
            run_key=key, asset_selection=beside_keys(spec, names), tags={TRIGGER_TAG: "sensor", "market": spec.code}
        )

    about = f"Fetches quotes and ticks of {spec.name} when half of the time they can be asked for is over."
    return _sensor(f"{spec.code}_perishing", beside_name(spec), 900, about, look)


def _sensor(name: str, job: str, seconds: int, about: str, look: Look) -> dg.SensorDefinition:
    """A sensor that people switch on; it looks at the installation at most every so many seconds."""

    @dg.sensor(
        name=name,
        job_name=job,
        minimum_interval_seconds=seconds,
        description=about,
        default_status=dg.DefaultSensorStatus.STOPPED,
    )
    def sensor(
        context: dg.SensorEvaluationContext, warehouse: dg.ResourceParam[WarehouseResource]
    ) -> dg.RunRequest | dg.SkipReason:
        return look(context, warehouse.house)

    return sensor


def _keeps_briefly(provider: str) -> bool:
    """Whether it has quotes or ticks."""
    return not set(PERISHABLE).isdisjoint(registry.entry(provider).beside)


def _alert(made: Plan) -> str:
    """One name for as long as the same data is about to perish, and another once it cannot be had in time."""
    due = next(leg for leg in made.legs if leg.warning)  # what perishes first stands first
    return f"perishing-{due.provider}-{due.dataset}-{due.closes:%Y-%m-%dT%H:%M}-{due.urgency.value}"


@dg.run_failure_sensor(
    name="failed_runs",
    description="Logs every failed run and tells VPRISM_WEBHOOK_URL, when one is set.",
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def failed_runs(context: dg.RunFailureSensorContext, warehouse: dg.ResourceParam[WarehouseResource]) -> None:
    """Tell about a failed run."""
    message = failure_message(context)
    context.log.error("%s", message["text"])
    _tell(warehouse.house, message)


def failure_message(context: dg.RunFailureSensorContext) -> dict[str, str]:
    """What happened, in which run, for logs and webhooks."""
    run = context.dagster_run
    steps = ", ".join(event.step_key or "?" for event in context.get_step_failure_events())
    return {
        "text": f"run {run.run_id} of {run.job_name} failed in {steps or 'its start'}: {context.failure_event.message}",
        "run_id": run.run_id,
        "job": run.job_name,
        "market": run.tags.get("market", ""),
    }


def _tell(house: House, message: dict[str, str]) -> None:
    """Post a message to the webhook, where one is set."""
    url = house.settings.webhook_url
    if not url or house.settings.offline:
        return
    if not url.startswith(("https://", "http://")):
        raise VprismError("VPRISM_WEBHOOK_URL must be an http(s) address", hint="see .env.example")
    body = json.dumps(message).encode()
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=10):  # noqa: S310
        pass


def sensors() -> list[dg.SensorDefinition]:
    """Freshness, inbox and what perishes of every market with a provider for it, and failed runs."""
    served = [(spec, registry.for_market(spec.code)) for spec in MARKETS.values()]
    told = [spec for spec, names in served if names]
    offered = [spec for spec, names in served if any(map(_keeps_briefly, names))]
    return [*map(freshness, told), *map(dropped_files, told), *map(perishing, offered), failed_runs]
