"""Running a market through Dagster from any program: the same job, checks and history as the UI shows."""

from __future__ import annotations

import contextvars
import os
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vprism_pipelines.errors import (
    DataQualityError,
    InvalidInput,
    InvalidRange,
    RunFailed,
    StorageUnwritable,
    UnknownProvider,
)
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.market.spec import market as spec_of
from vprism_pipelines.providers import registry
from vprism_pipelines.serving.run_storage import unhurried
from vprism_pipelines.settings import Settings
from vprism_pipelines.warehouse.house import House

if TYPE_CHECKING:
    import dagster as dg

POLL_SECONDS = 0.2
Progress = Callable[[str, int, int], None]
"""(asset, steps done, steps in the run)"""


@dataclass(frozen=True, slots=True)
class StepReport:
    """One asset of a run. `rows` is the size of its table afterwards, `metadata` what the asset reported."""

    asset: str
    status: str
    seconds: float
    rows: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepFailure:
    """Why a step failed, as a typed error says it."""

    step: str
    code: str
    message: str
    hint: str
    exit_status: int


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run did."""

    run_id: str
    market: str
    success: bool
    seconds: float
    steps: list[StepReport]
    failures: list[StepFailure]
    snapshot: int | None


def instance(settings: Settings) -> dg.DagsterInstance:
    """The Dagster instance of an installation: `dagster.yaml` of DAGSTER_HOME or the working directory, else defaults.

    Everything it stores goes under the data directory, wherever the command is started from.
    """
    import dagster as dg
    from dagster._core.instance.ref import InstanceRef

    home = Path(os.environ.get("DAGSTER_HOME") or ".").resolve()
    store = settings.dagster_dir.resolve()
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageUnwritable(
            f"cannot create Dagster's run storage: {error.strerror}",
            hint="check the owner of the data directory, or set VPRISM_DATA_DIR",
            path=store,
        ) from error
    if not (home / "dagster.yaml").is_file():
        home = store
    places = {
        "storage": {"sqlite": {"base_dir": str(store / "storage")}},
        "local_artifact_storage": _store("storage.root", "LocalArtifactStorage", store / "artifacts"),
        "compute_logs": _store("storage.local_compute_log_manager", "LocalComputeLogManager", store / "logs"),
        "telemetry": {"enabled": False},
    }
    return dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home), overrides=places))


def _store(module: str, name: str, folder: Path) -> dict[str, Any]:
    return {"module": f"dagster._core.{module}", "class": name, "config": {"base_dir": str(folder)}}


def run_market(
    house: House,
    market: str,
    *,
    providers: Sequence[str] | None = None,
    start: date | None = None,
    end: date | None = None,
    this_month: bool = False,
    beside: bool = False,
    progress: Progress | None = None,
    trigger: str = "cli",
) -> RunReport:
    """Refresh a market: pull, clean, believe, adjust, analyse, publish.

    Args:
        house: The installation.
        market: Market code.
        providers: Whom to ask; None: those of scheduled runs.
        start: First session; None: the provider's history, or the market's first session.
        end: Last session; None: today.
        this_month: Only the running month: enough when the rows are archived already.
        beside: Pull descriptions, fundamentals, quotes and ticks, instead of bars and all that is made of them.
        progress: Called as steps finish.
        trigger: Recorded with the run.

    Raises:
        InvalidRange: The range is reversed, or wholly in the future, or before the market's first session.
        InvalidInput: None of the providers has anything besides bars.
    """
    from vprism_pipelines.definitions import END_TAG, START_TAG, TRIGGER_TAG, build_defs

    spec = spec_of(market)
    chosen = [name for name in (providers or house.providers_of(spec)) if _serves(name, spec)]
    first, last = _range(house, spec, chosen, start, end)
    if this_month:
        first = last = spec.today(house.clock())
    name, keys = _job(spec, chosen, beside=beside)
    job = build_defs(house).resolve_job_def(name)
    tags = {
        "dagster/asset_partition_range_start": first.replace(day=1).isoformat(),
        "dagster/asset_partition_range_end": last.replace(day=1).isoformat(),
        TRIGGER_TAG: trigger,
        "market": spec.code,
        **({START_TAG: first.isoformat()} if start else {}),
        **({END_TAG: last.isoformat()} if end else {}),
    }
    run_id = str(uuid.uuid4())
    started = time.perf_counter()
    with unhurried(), instance(house.settings) as ran_in, ThreadPoolExecutor(1, "dagster-run") as executor:
        future = executor.submit(
            contextvars.copy_context().run,  # its log lines and spans belong to the command's
            job.execute_in_process,
            instance=ran_in,
            asset_selection=keys,
            tags=tags,
            raise_on_error=False,
            run_id=run_id,
            run_config={"loggers": {"console": {"config": {"log_level": _verbosity(house.settings)}}}},
        )
        if progress:
            _watch(ran_in, run_id, future, len(keys), progress)
        result = future.result()
    return _report(result, spec, time.perf_counter() - started)


def _job(spec: MarketSpec, providers: Sequence[str], *, beside: bool) -> tuple[str, list[dg.AssetKey]]:
    """The job to run and the assets it brings up to date."""
    from vprism_pipelines.definitions import beside_keys, beside_name, job_name, refresh_keys

    if not beside:
        return job_name(spec), refresh_keys(spec, providers)
    if not any(registry.entry(name).beside for name in providers):
        able = [name for name in registry.for_market(spec.code) if registry.entry(name).beside]
        raise InvalidInput(
            f"{', '.join(providers)}: nothing besides bars, actions and listings",
            hint=f"name one that has more with --provider: {', '.join(able)}" if able else "no provider has more",
        )
    return beside_name(spec), beside_keys(spec, providers)


def _verbosity(settings: Settings) -> str:
    """Dagster's own console chatter is for debugging; what matters is in the report."""
    return "DEBUG" if settings.log_level in ("TRACE", "DEBUG") else "CRITICAL"


def _serves(name: str, spec: MarketSpec) -> bool:
    if spec.code not in registry.entry(name).markets:
        raise UnknownProvider(
            f"{name} does not serve the {spec.code} market",
            hint=f"use one of: {', '.join(registry.for_market(spec.code))}",
        )
    return True


def _range(
    house: House, spec: MarketSpec, providers: Sequence[str], start: date | None, end: date | None
) -> tuple[date, date]:
    today = spec.today(house.clock())
    span = [house.parser(name).capabilities().span for name in providers]
    closed = [known for known in span if known]
    if closed and len(closed) == len(span):  # nothing to ask for outside a closed history
        first, last = min(known[0] for known in closed), max(known[1] for known in closed)
    else:
        first, last = spec.first_session, today
    first, last = start or first, end or max(last, start or last)
    if first > last:
        raise InvalidRange(f"the range starts on {first}, after its end on {last}", hint="swap --start and --end")
    if first > today:
        raise InvalidRange(f"the range starts on {first}, in the future", hint=f"today is {today} in {spec.timezone}")
    if last < spec.first_session:
        raise InvalidRange(
            f"the range ends on {last}, before the first known session of {spec.code}",
            hint=f"sessions are known from {spec.first_session} on",
        )
    return max(first, spec.first_session), min(last, today)


def _watch(ran_in: dg.DagsterInstance, run_id: str, future: Future[Any], total: int, progress: Progress) -> None:
    """Report steps as the event log shows them, until the run ends."""
    import dagster as dg

    ends = {dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.STEP_SKIPPED}
    done: set[str] = set()
    while not wait([future], timeout=POLL_SECONDS).done:
        for record in ran_in.get_records_for_run(run_id, of_type=ends).records:
            key = record.event_log_entry.step_key
            if key and key not in done:
                done.add(key)
                progress(key.replace("__", "/"), len(done), total)


def _report(result: dg.ExecuteInProcessResult, spec: MarketSpec, seconds: float) -> RunReport:
    steps: dict[str, StepReport] = {}
    reported: dict[str, dict[str, Any]] = {}
    failures: list[StepFailure] = []
    for event in result.all_events:
        if not event.step_key:
            continue
        name = event.step_key.replace("__", "/")
        if event.is_step_materialization:
            reported[name] = {label: value.value for label, value in event.materialization.metadata.items()}
        elif event.is_step_success:
            metadata = reported.get(name, {})
            took = event.step_success_data.duration_ms / 1000
            steps[name] = StepReport(name, "ok", took, metadata.get("dagster/row_count"), metadata)
        elif event.is_step_failure:
            steps[name] = StepReport(name, "failed", 0.0)
            failures.append(_failure(name, event.step_failure_data))
        elif event.is_step_skipped:
            steps[name] = StepReport(name, "skipped", 0.0)
    snapshot = steps["published"].rows if "published" in steps else None
    return RunReport(result.run_id, spec.code, result.success, seconds, list(steps.values()), failures, snapshot)


def _failure(step: str, data: Any) -> StepFailure:
    told = data.user_failure_data
    if told and "code" in told.metadata:
        fields = {name: value.value for name, value in told.metadata.items()}
        return StepFailure(step, fields["code"], fields["message"], fields["hint"], int(fields["exit_status"]))
    error = data.error
    if error and error.cls_name == "DagsterAssetCheckFailedError":
        message = error.message.split(":", 1)[-1].strip()
        return StepFailure(step, DataQualityError.code, message, "see the checks in the Dagster UI", 30)
    cause = error.cause if error and error.cause else error
    text = cause.message.strip() if cause else "unknown"
    return StepFailure(step, RunFailed.code, text, "see the run in the Dagster UI", RunFailed.exit_status)
