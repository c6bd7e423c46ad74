"""`vprism metrics`: what the processes of this installation counted, for people and for Prometheus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vprism_pipelines.serving.cli.render import Answer
from vprism_pipelines.serving.cli.session import Session, command


def add_to(root: typer.Typer) -> None:
    """Add the command to the root."""
    command(root, "metrics")(metrics)


def metrics(
    session: Session,
    textfile: Annotated[
        Path | None,
        typer.Option(help="Write them for node_exporter's textfile collector. [default: VPRISM_METRICS_TEXTFILE]"),
    ] = None,
    push: Annotated[
        str | None, typer.Option(help="Push them to this gateway. [default: VPRISM_METRICS_PUSHGATEWAY]")
    ] = None,
) -> Answer:
    """Show what was counted so far: requests, failures, latencies, symbols.

    Counters add up over all processes and restarts. With a text file or a push gateway, named here or configured, they
    are handed over to Prometheus too.
    """
    import json

    import polars as pl

    from vprism_pipelines.telemetry import exposition

    settings = session.house.settings
    notes = []
    if target := textfile or settings.metrics_textfile:
        exposition.write_textfile(settings, target)
        notes.append(f"written to {target}")
    if gateway := push or settings.metrics_pushgateway:
        exposition.push(settings, gateway)
        notes.append(f"pushed to {gateway}")
    rows = [
        (sample.name, json.dumps(sample.labels, ensure_ascii=False), sample.value)
        for family in exposition.registry(settings).collect()
        for sample in family.samples
        if not sample.name.endswith("_bucket")  # fifteen lines a histogram: for Prometheus, not for people
    ]
    schema = {"metric": pl.String, "labels": pl.String, "value": pl.Float64}
    return Answer(pl.DataFrame(rows, schema=schema, orient="row"), notes=tuple(notes))
