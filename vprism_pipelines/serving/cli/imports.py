"""`vprism import`: files of your own become part of the warehouse."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vprism_pipelines.errors import InvalidInput, VprismError
from vprism_pipelines.serving.cli.render import Answer
from vprism_pipelines.serving.cli.session import Session, command

if TYPE_CHECKING:
    import polars as pl

    from vprism_pipelines.providers.files import Mapping
    from vprism_pipelines.warehouse.file_checks import Trial
    from vprism_pipelines.warehouse.importing import Imported, Outcomes

_SHOWN = 20  # notes of a folder of files
_PREVIEW = 5  # rows of a dry run


def add_to(root: typer.Typer) -> None:
    """Add the command to the root."""
    command(root, "import")(import_files)


def import_files(
    session: Session,
    paths: Annotated[list[Path], typer.Argument(help="CSV or parquet files, or folders of them.")],
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

    The same bytes under the same mapping are recognised until something else is said. Of several files, one that cannot
    be used is refused alone.
    """
    from vprism_pipelines.providers.base import new_id
    from vprism_pipelines.providers.files import Mapping
    from vprism_pipelines.serving.launch import run_market
    from vprism_pipelines.warehouse import importing

    understood = Mapping.load(
        mapping, **{name: text for name, text in (("market", market), ("provider", provider)) if text}
    )
    found = _files(paths)
    instant = _instant(known_at)
    if dry_run:
        importing.prove_known(session.house, instant)
        return _dry_run(session, found, understood, instant)
    run_id = f"import-{new_id()}"
    with session.output.progress("importing") as show:
        outcomes = importing.import_files(
            session.house, dict.fromkeys(found, understood), run_id, known_at=instant, progress=show
        )
    done = [outcome for outcome in outcomes.values() if isinstance(outcome, importing.Imported)]
    errors = tuple(outcome for outcome in outcomes.values() if isinstance(outcome, VprismError))
    if errors and len(outcomes) == 1:
        raise errors[0]
    notes = _notes(done)
    if done and not no_build:  # known files, too: what a crash or --no-build left is built now
        with session.output.progress("building") as show:
            report = run_market(session.house, understood.market, providers=["files"], this_month=True, progress=show)
        from vprism_pipelines.serving.cli.run import report_errors

        errors += tuple(report_errors(report))
        notes.append(f"snapshot {report.snapshot} published after {report.seconds:.1f} s")
    return Answer(_counted(outcomes), tuple(notes), errors=errors)


def _files(paths: list[Path]) -> list[Path]:
    """The files named, and those in the folders named: all but hidden ones and mappings, as in the inbox."""
    from vprism_pipelines.warehouse.importing import in_folder

    found: list[Path] = []
    for path in paths:
        inside = in_folder(path) if path.is_dir() else [path]
        if not inside:
            raise InvalidInput(f"the folder {str(path)!r} holds no files", hint="name CSV or parquet files", path=path)
        found += inside
    return found


def _counted(outcomes: Outcomes) -> pl.DataFrame:
    import polars as pl

    from vprism_pipelines.warehouse.importing import called
    from vprism_pipelines.warehouse.ingest import Ingested

    names = called(outcomes)

    def row(path: Path, provider: str, dataset: str, c: Ingested, reasons: object) -> tuple[str | int, ...]:
        return names[path], provider, dataset, c.rows, c.new, c.changed, c.unchanged, c.quarantined, str(reasons or "")

    rows = []
    for path, outcome in outcomes.items():
        if isinstance(outcome, VprismError):
            rows.append(row(path, "", "refused", Ingested(), f"{outcome.code}: {outcome.message}"))
        elif outcome.duplicate:
            rows.append(row(path, outcome.provider, "known before", Ingested(), ""))
        else:
            counted = outcome.datasets.items()
            rows += [row(path, outcome.provider, dataset, counts, counts.reasons) for dataset, counts in counted]
    columns = ["file", "provider", "dataset", "rows", "new", "changed", "unchanged", "quarantined", "reasons"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def _notes(done: list[Imported]) -> list[str]:
    """What the parser has to say of each file."""
    notes = [note if len(done) == 1 else f"{item.file}: {note}" for item in done for note in item.notes]
    more = len(notes) - _SHOWN
    return notes if more <= 0 else [*notes[:_SHOWN], f"{more:,} more notes on the other files"]


def _dry_run(session: Session, paths: list[Path], mapping: Mapping, known_at: datetime | None) -> Answer:
    """Rows by outcome, and of the first usable file the first ones before and after; nothing is written."""
    import polars as pl

    from vprism_pipelines.warehouse.file_checks import try_file
    from vprism_pipelines.warehouse.importing import called

    counted: list[tuple[str, str, str, int]] = []
    notes: list[str] = []
    for path, name in called(dict.fromkeys(paths)).items():
        try:
            trial = try_file(session.house, path, mapping, known_at or session.house.clock())
        except VprismError as error:
            if len(paths) == 1:
                raise
            counted.append((name, "", f"refused, {error.code}: {error.message}", 0))
            continue
        for part in trial.parts:
            counted.append((name, part.dataset, "accepted", part.cleaned.accepted.height))
            counted += [(name, part.dataset, reason, rows) for reason, rows in part.cleaned.reasons().items()]
        notes = notes or _shown(trial)
    frame = pl.DataFrame(counted, schema=["file", "dataset", "outcome", "rows"], orient="row")
    return Answer(frame, (*notes, "nothing was written"))


def _shown(trial: Trial) -> list[str]:
    """The first rows of a file before and after, and what the parser has to say of it."""
    before = trial.before.head(_PREVIEW)
    after = [part.cleaned.accepted.head(_PREVIEW).drop("fetch_id", "known_from", "provider") for part in trial.parts]
    return [
        *(f"before: {row}" for row in before.iter_rows(named=True)),
        *(f"after: {row}" for rows in after for row in rows.iter_rows(named=True)),
        *trial.notes,
    ]


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
