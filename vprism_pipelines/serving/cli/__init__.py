"""The command line: `vprism`. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from itertools import pairwise

import typer

from vprism_pipelines.errors import InvalidInput, VprismError
from vprism_pipelines.serving.cli import (
    actions,
    calendar,
    data,
    diff,
    drift,
    explain,
    health,
    imports,
    lineage,
    metrics,
    plan,
    plugins,
    providers,
    quality,
    reconcile,
    run,
    shadow,
    sql,
    symbol,
)
from vprism_pipelines.serving.cli.render import Answer
from vprism_pipelines.serving.cli.session import Session, application

__all__ = ["app", "main"]

INTERRUPTED = 130
READER_LEFT = 141  # what the shell reports for a program whose reader closed the pipe

app = application()
for part in (
    run, imports, sql, data, plan, explain, lineage, diff, actions, reconcile, quality, drift, shadow, symbol, calendar,
    providers, health, metrics, plugins,
):  # fmt: skip
    part.add_to(app)
plugins.add_commands(app)


def main(arguments: Sequence[str] | None = None, session: Session | None = None) -> int:
    """Run one command.

    Args:
        arguments: Words after `vprism`; None: those of the process.
        session: An installation and output of its own, for tests and embedding.

    Returns:
        The exit status: 0 ok, 10 the request makes no sense, 20 a provider failed, 30 the data cannot be trusted,
        50 the machine or the warehouse failed, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that cannot show a sign must not end the command
            stream.reconfigure(errors="replace")
    words = list(sys.argv[1:] if arguments is None else arguments)
    session = session or Session()
    if _wants_jsonl(words):  # also for errors in the other words
        session.output.format = "jsonl"
    try:
        return _run(words, session)
    except BrokenPipeError:
        # Whatever is still buffered has no reader either; the interpreter would complain when it flushes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_LEFT


def _run(words: list[str], session: Session) -> int:
    try:
        done = typer.main.get_command(app)(words, prog_name="vprism", obj=session, standalone_mode=False)
        status = session.output.answer(done) if isinstance(done, Answer) else int(done or 0)
        sys.stdout.flush()
        return status
    except VprismError as error:
        failed = error
    except typer.TyperException as error:
        failed = _usage_error(error)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        if session.debugging:
            session.output.traceback(error)
        failed = VprismError(
            f"{type(error).__name__}: {str(error).strip() or 'no message'}",
            hint="this should not happen: run it again with --log-level DEBUG and report what it prints",
        )
    session.output.error(failed)
    return failed.exit_status


def _usage_error(error: typer.TyperException) -> InvalidInput:
    context = getattr(error, "ctx", None)
    return InvalidInput(
        error.format_message().replace("Value error, ", ""),
        hint=f"see {context.command_path if context else 'vprism'} --help",
    )


def _wants_jsonl(words: list[str]) -> bool:
    return "--format=jsonl" in words or ("--format", "jsonl") in pairwise(words)
