"""`vprism sql`: ask the published warehouse."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from vprism_pipelines.serving.cli.render import Answer
from vprism_pipelines.serving.cli.session import Session, command


def add_to(root: typer.Typer) -> None:
    """Add the command to the root."""
    command(root, "sql")(sql)


def sql(
    session: Session,
    query: Annotated[str, typer.Argument(help="One statement in DuckDB's SQL; - reads it from standard input.")],
) -> Answer:
    """Query the published warehouse, read-only.

    Example: vprism sql "FROM golden.bars WHERE session >= '2013-01-01' LIMIT 5"
    """
    statement = sys.stdin.read() if query == "-" else query
    with _interruptible():
        return Answer(session.library.sql(statement))


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end the process at once: DuckDB does not look up from every query, and reading leaves no traces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
