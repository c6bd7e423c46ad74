"""`vprism import`: files of your own become part of the warehouse."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vprism_pipelines.errors import InvalidInput
from vprism_pipelines.serving.cli.render import Answer
from vprism_pipelines.serving.cli.session import Session, command

if TYPE_CHECKING:
    import polars as pl

    from vprism_pipelines.providers.files import Mapping
    from vprism_pipelines.warehouse.importing import Imported


def add_to(root: typer.Typer) -> None:
    """Add the command to the root."""
    command(root, "import")(import_files)


def import_files(
    session: Session,
    paths: Annotated[list[Path], typer.Argument(help="CSV or parquet files.")],
    mapping: Annotated[str, typer.Option(help="What the columns mean: a TOML file, or the name of a shipped mapping.")],
    known_at: Annotated[
        str | None, typer.Option(help="Since when the content is known, ISO date or time. [default: now]")
    ] = None,
    market: Annotated[str | None, typer.Option(help="Instead of the mapping's market.")] = None,
    provider: Annotated[str | None, typer.Option(help="Instead of the mapping's provider name.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would happen.")] = False,
    no_build: Annotated[
        bool, typer.Option("--no-build", help="Remember the rows; golden follows with the next run or import.")
    ] = False,
) -> Answer:
    """Import files: archive, check, clean, remember, then build golden and analytics and publish.

    The same bytes under the same mapping are recognised and change nothing.
    """
    from vprism_pipelines.providers.base import new_id
    from vprism_pipelines.providers.files import Mapping
    from vprism_pipelines.serving.launch import run_market
    from vprism_pipelines.warehouse.importing import import_file

    understood = Mapping.load(
        mapping, **{name: text for name, text in (("market", market), ("provider", provider)) if text}
    )
    if dry_run:
        return _dry_run(session, paths, understood)
    instant = _instant(known_at)
    run_id = f"import-{new_id()}"
    done: list[Imported] = []
    for path in paths:
        with session.output.progress(f"importing {path.name}"):
            done.append(import_file(session.house, path, understood, run_id, known_at=instant))
    notes = [note for item in done for note in item.notes]
    if not no_build and any(not item.duplicate for item in done):
        with session.output.progress("building") as show:
            report = run_market(session.house, understood.market, providers=["files"], this_month=True, progress=show)
        from vprism_pipelines.serving.cli.run import report_errors

        errors = tuple(report_errors(report))
        notes.append(f"snapshot {report.snapshot} published after {report.seconds:.1f} s")
        return Answer(_counted(done), tuple(notes), errors=errors)
    return Answer(_counted(done), tuple(notes))


def _counted(done: list[Imported]) -> pl.DataFrame:
    import polars as pl

    rows = [
        (item.file, item.provider, dataset, c.rows, c.new, c.changed, c.unchanged, c.quarantined, str(c.reasons or ""))
        for item in done
        for dataset, c in item.datasets.items()
    ] + [(item.file, item.provider, "known before", 0, 0, 0, 0, 0, "") for item in done if item.duplicate]
    columns = ["file", "provider", "dataset", "rows", "new", "changed", "unchanged", "quarantined", "reasons"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def _dry_run(session: Session, paths: list[Path], mapping: Mapping) -> Answer:
    """First rows before and after, and the rejects by reason; nothing is written."""
    import polars as pl

    from vprism_pipelines.market.spec import market as spec_of
    from vprism_pipelines.providers.files import FilesProvider, preview, read
    from vprism_pipelines.warehouse.ingest import clean_raw

    path = paths[0]
    spec = spec_of(mapping.market)
    shown = preview(path, mapping)
    payload = read(path, mapping, session.house.clock())
    pulls = pl.DataFrame({"fetch_id": [payload.fetch_id], "provider": [mapping.provider]}).with_columns(
        fetched_at=pl.lit(payload.fetched_at, dtype=pl.Datetime("us", "UTC"))
    )
    notes = [f"before: {row}" for row in shown.before.iter_rows(named=True)]
    counted = []
    for dataset, frame in FilesProvider(name=mapping.provider).parse(payload).frames.items():
        cleaned = clean_raw(frame, pulls, spec, dataset)
        after = cleaned.accepted.head(5).drop("fetch_id", "known_from", "provider")
        notes += [f"after: {row}" for row in after.iter_rows(named=True)]
        counted.append((dataset, "accepted", cleaned.accepted.height))
        counted += [(dataset, reason, rows) for reason, rows in cleaned.reasons().items()]
    frame = pl.DataFrame(counted, schema=["dataset", "outcome", "rows"], orient="row")
    return Answer(frame, (*notes, *shown.notes, "nothing was written"))


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(
            f"--known-at {text!r} is no ISO date or time", hint="for example 2021-02-26T18:00+07:00"
        ) from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
