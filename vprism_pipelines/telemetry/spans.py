"""Pieces of work: what they are about stands on every log line written inside, and on a span where somebody traces.

OpenTelemetry is never imported here: whoever traces, `tracing.export` or the program around us, has imported it.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from vprism_pipelines.errors import VprismError
from vprism_pipelines.telemetry.hiding import hide

if TYPE_CHECKING:
    from opentelemetry import trace

logger = logging.getLogger(__name__)

SHOWN = "shown"
"""In the `extra` of a log line: the person at the terminal is told anyway, so only files and machines get the line."""

_FIELDS: ContextVar[Mapping[str, str]] = ContextVar("vprism_fields", default=MappingProxyType({}))


def fields() -> Mapping[str, str]:
    """What is being done at this point: the attributes of the spans around it, and their `trace_id`."""
    return _FIELDS.get()


class Span:
    """A piece of work under way."""

    def __init__(self, traced: trace.Span | None) -> None:
        self._traced = traced

    def note(self, **attributes: object) -> None:
        """Say more about it, once it is known: the code it ended with, how many rows it brought."""
        if self._traced is not None:
            self._traced.set_attributes(
                {
                    f"vprism.{name}": value if isinstance(value, int | float) else hide(str(value))
                    for name, value in attributes.items()
                    if value is not None
                }
            )


@contextmanager
def span(name: str, **attributes: object) -> Iterator[Span]:
    """One piece of work. An error that leaves it marks it with the error's code.

    All spans inside one another share a trace id; that of a run is its run id, so all processes of a run share it.

    Args:
        name: What is done: fetch, parse, write, publish, query.
        attributes: What it is about: run, provider, symbol, dataset. None is left out.
    """
    said = {key: str(value) for key, value in attributes.items() if value is not None}
    around = _FIELDS.get()
    trace_id = around.get("trace_id") or _trace_id(said.get("run"))
    entered = _FIELDS.set({**around, "trace_id": trace_id, **said})
    started = time.perf_counter()
    try:
        with _traced(name) as traced:
            work = Span(traced)
            work.note(**attributes)
            yield work
    finally:
        logger.debug("%s: %.1f ms", name, (time.perf_counter() - started) * 1000)
        _FIELDS.reset(entered)


def _trace_id(run: str | None) -> str:
    try:
        return UUID(run).hex if run else uuid4().hex
    except ValueError:  # a run that is not Dagster's
        return uuid4().hex


@contextmanager
def _traced(name: str) -> Iterator[trace.Span | None]:
    tracing = sys.modules.get("opentelemetry.trace")
    if tracing is None:
        yield None
        return
    tracer = tracing.get_tracer("vprism_pipelines")
    # What the library would record of an exception is its text and traceback, which may hold keys.
    with tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False) as traced:
        try:
            yield traced
        except BaseException as error:
            code = error.code if isinstance(error, VprismError) else type(error).__name__
            traced.set_attribute("error.type", code)
            traced.set_status(tracing.StatusCode.ERROR, hide(str(error)))
            raise
