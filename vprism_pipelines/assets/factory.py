"""One factory: a catalogue entry and a body become an asset, with contract, checks, metadata and error handling."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

import dagster as dg
import duckdb
import polars as pl

from vprism_pipelines import __version__, telemetry
from vprism_pipelines.assets import catalog
from vprism_pipelines.assets.catalog import Node
from vprism_pipelines.assets.resources import house_of
from vprism_pipelines.errors import ProviderError, VprismError
from vprism_pipelines.market.spec import MarketSpec, market
from vprism_pipelines.providers.base import OVERLAP
from vprism_pipelines.quality.datasets import CHECKS, Status
from vprism_pipelines.tables import Table
from vprism_pipelines.warehouse import column_lineage as declared_lineage
from vprism_pipelines.warehouse.bookkeeping import RunStep, record_step
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.measures import Measurement

# A fetch that nobody waits for is retried; a write never is: a retried write could only repeat the same mistake.
FETCH_RETRIES = 2
RETRY_SECONDS = 60.0
UNATTENDED = ("schedule", "sensor")

TRIGGER_TAG, START_TAG, END_TAG = "vprism/trigger", "vprism/start", "vprism/end"


@dataclass(slots=True)
class Tally:
    """Rows of a step: read, new or changed, already known, set aside; and the writer transaction."""

    rows: int = 0
    accepted: int = 0
    unchanged: int = 0
    quarantined: int = 0
    batch: int = 0


class Step:
    """What a body is given: where it runs, and the one way to write.

    Attributes:
        window: First and last calendar day of this run's partitions, in the market's zone; None if unpartitioned.
    """

    def __init__(self, context: dg.AssetExecutionContext, house: House, node: Node) -> None:
        self.context = context
        self.house = house
        self.node = node
        self.window = _window(context) if node.monthly else None
        self.started = house.clock()

    @property
    def run_id(self) -> str:
        return str(self.context.run.run_id)

    @property
    def market(self) -> MarketSpec:
        assert self.node.market is not None, "a body of a market asset"
        return market(self.node.market)

    def asked(self) -> tuple[date, date]:
        """Sessions to pull: the run's own dates where it names some, else its partitions, else everything.

        The running month begins a little before its first day, or the last sessions of the month before would never
        be asked for again: neither for late corrections nor because they were still running when they were pulled.
        """
        today = self.market.today(self.house.clock())
        first, last = self.window or (self.market.first_session, today)
        tags = self.context.run.tags
        if first <= today <= last:
            first -= OVERLAP
        if START_TAG in tags:
            first = max(first, date.fromisoformat(tags[START_TAG]))
        if END_TAG in tags:
            last = min(last, date.fromisoformat(tags[END_TAG]))
        return first, last

    @contextmanager
    def writing(self) -> Iterator[tuple[duckdb.DuckDBPyConnection, Tally]]:
        """One transaction, bookkeeping row included. The body fills in the tally."""
        tally = Tally()
        with self.house.warehouse.transaction() as connection:
            yield connection, tally
            record_step(
                connection,
                RunStep(
                    self.run_id,
                    "/".join(self.node.key),
                    self.context.run.tags.get(TRIGGER_TAG, "ui"),
                    self.started,
                    self.node.market,
                    self.window,
                    **asdict(tally),
                ),
                self.house.clock(),
            )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a body gives back: rows in the table, what it measured, and what people would rather look at."""

    rows: int
    metadata: Mapping[str, Any] = field(default_factory=dict)
    measurements: Sequence[Measurement] = ()


Body = Callable[[Step], Outcome]


def build(node: Node, body: Body) -> dg.AssetsDefinition:
    """The asset of a catalogue entry."""
    spec = market(node.market) if node.market else None

    @dg.asset(
        key=node.asset_key,
        deps=[dg.AssetKey(list(key)) for key in node.deps],
        description=node.description,
        group_name=node.group,
        kinds=set(node.kinds),
        owners=catalog.OWNERS,
        tags={"layer": node.layer, **({"provider": node.provider} if node.provider else {}), **node.tags},
        metadata={
            "dagster/column_schema": column_schema(node.table),
            "dagster/table_name": node.table.full_name,
        },
        code_version=__version__,
        pool=node.pool,
        partitions_def=catalog.partitions(spec) if node.monthly and spec else None,
        backfill_policy=dg.BackfillPolicy.single_run() if node.monthly else None,
        required_resource_keys={"warehouse"},
        check_specs=[check_spec(node, name) for name in node.checks],
    )
    def materialise(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        started = time.perf_counter()
        try:
            step = Step(context, house_of(context), node)
            telemetry.start(step.house.settings)
            with telemetry.span("asset", run=step.run_id, asset="/".join(node.key), provider=node.provider):
                outcome = body(step)
        except VprismError as error:
            if error.context.get("check") in node.checks:
                yield _refused(node, error)
            unattended = context.run.tags.get(TRIGGER_TAG) in UNATTENDED
            again = isinstance(error, ProviderError) and error.retryable and context.retry_number < FETCH_RETRIES
            if again and unattended:
                raise dg.RetryRequested(FETCH_RETRIES, RETRY_SECONDS * 2**context.retry_number) from error
            raise failure(error) from error
        lineage = column_lineage(node)
        # Every month of a run is an event of its own: the newest, which people see, tells the lineage for all of them.
        if node.monthly:
            context.add_asset_metadata(lineage, partition_key=context.partition_key_range.end)
        yield dg.MaterializeResult(
            asset_key=node.asset_key,
            metadata={
                "dagster/row_count": outcome.rows,
                "seconds": round(time.perf_counter() - started, 3),
                **({} if node.monthly else lineage),
                **outcome.metadata,
            },
            check_results=[check_result(node, measurement) for measurement in outcome.measurements],
        )

    return materialise


def failure(error: VprismError) -> dg.Failure:
    """A typed error as Dagster shows it, with what to do; the command line reads its exit status back."""
    hint = f" ({error.hint})" if error.hint else ""
    return dg.Failure(
        description=f"{error.code}: {error.message}{hint}",
        metadata={
            "code": error.code,
            "message": error.message,
            "hint": error.hint,
            "exit_status": error.exit_status,
            **{f"context/{key}": str(value) for key, value in error.context.items()},
        },
        allow_retries=False,
    )


def column_schema(table: Table) -> dg.TableSchema:
    """The table's columns for Dagster's UI."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                column.type,
                description=column.description + (f" [{column.unit}]" if column.unit else ""),
                constraints=dg.TableColumnConstraints(nullable=column.nullable),
            )
            for column in table.columns
        ]
    )


def column_lineage(node: Node) -> dict[str, dg.TableColumnLineage]:
    """What the asset's columns are made of, in the columns of the assets of its market, as the dictionary declares."""
    assets = _assets_by_table(node.market) if node.market else {}
    made_of = {}
    for column, sources in declared_lineage.sources(node.table).items():
        places = [source.rpartition(".") for source in sources]
        deps = [
            dg.TableColumnDep(asset_key=key, column_name=name)
            for table, _, name in places
            for key in assets.get(table, ())
            if key != node.asset_key
        ]
        if deps:
            made_of[column] = deps
    return {"dagster/column_lineage": dg.TableColumnLineage(made_of)} if made_of else {}


@lru_cache
def _assets_by_table(code: str) -> dict[str, list[dg.AssetKey]]:
    found: dict[str, list[dg.AssetKey]] = {}
    for node in catalog.market_nodes(market(code)):
        found.setdefault(node.table.full_name, []).append(node.asset_key)
    return found


def check_spec(node: Node, name: str) -> dg.AssetCheckSpec:
    """A check of the catalogue, attached to an asset."""
    check = CHECKS[name]
    levels = [f"{does} at {at}" for does, at in (("warns", check.warn), ("fails", check.fail)) if at is not None]
    told = [f"{check.id}: {check.description}.", *([f"It {', '.join(levels)}."] if levels else [])]
    return dg.AssetCheckSpec(name, asset=node.asset_key, description=" ".join(told), blocking=check.blocks)


def check_result(node: Node, measurement: Measurement) -> dg.AssetCheckResult:
    """A measurement as a check result: warnings do not stop anything, failures of blocking checks do."""
    check, status = measurement.rule, measurement.status
    severity = dg.AssetCheckSeverity.ERROR if status is Status.FAIL else dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(
        passed=status is Status.OK,
        check_name=measurement.check,
        asset_key=node.asset_key,
        severity=severity,
        metadata={
            "status": status.value,
            **({} if measurement.value is None else {"value": measurement.value}),
            **({} if check.warn is None else {"warn": float(check.warn)}),
            **({} if check.fail is None else {"fail": float(check.fail)}),
            "evidence": dg.MetadataValue.md(markdown_table(measurement.evidence)),
        },
    )


def markdown_table(frame: pl.DataFrame, limit: int = 10) -> str:
    """The first rows of a frame, for people."""
    if frame.is_empty():
        return "_nothing_"
    head = f"| {' | '.join(frame.columns)} |\n|{' --- |' * frame.width}\n"
    body = "\n".join(
        "| " + " | ".join("" if cell is None else str(cell).replace("|", "\\|") for cell in row) + " |"
        for row in frame.head(limit).iter_rows()
    )
    more = f"\n\n… and {frame.height - limit:,} more rows" if frame.height > limit else ""
    return head + body + more


def _refused(node: Node, error: VprismError) -> dg.AssetCheckResult:
    """The failed check behind an error that kept a table from being written."""
    return dg.AssetCheckResult(
        passed=False,
        check_name=str(error.context["check"]),
        asset_key=node.asset_key,
        severity=dg.AssetCheckSeverity.ERROR,
        description=error.message,
        metadata={"status": Status.FAIL.value, "hint": error.hint},
    )


def _window(context: dg.AssetExecutionContext) -> tuple[date, date]:
    """First and last calendar day of the partitions of this run, in the market's zone."""
    span = context.partition_time_window
    return span.start.date(), (span.end - timedelta(days=1)).date()
