"""Logs: loguru behind, everything the standard library logs led there, as text for people or JSON for machines.

A line of JSON has `timestamp`, `level`, `logger`, `msg`, and what is being done at that point: `trace_id`, `run`,
`provider`, `symbol`, `code` … (`spans.fields`). Libraries speak from WARNING on, unless somebody debugs: a run of
Dagster alone would fill a screen.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC
from typing import TYPE_CHECKING, Any

from vprism_pipelines.errors import StorageUnwritable, VprismError
from vprism_pipelines.telemetry.hiding import hide
from vprism_pipelines.telemetry.spans import SHOWN, fields

if TYPE_CHECKING:
    from loguru import Record

    from vprism_pipelines.settings import Settings

_TEXT = "<dim>{time:HH:mm:ss}</dim> <level>{level: <7}</level> {message}"
_OURS = "vprism_pipelines"
_LEVELS = ("TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_FIELDS = ("run", "provider", "symbol", "dataset", "code", "trace_id", SHOWN)
_LINE = "line"
ROTATION, RETENTION = "50 MB", 5


class _Intercept(logging.Handler):
    """Hands a record of the standard library to loguru, with the fields given to it as `extra`."""

    def emit(self, record: logging.LogRecord) -> None:
        from loguru import logger

        level = record.levelname if record.levelname in _LEVELS else record.levelno
        given = {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        logger.bind(logger=record.name, **given).opt(exception=record.exc_info).log(level, "{}", record.getMessage())


def to_terminal(settings: Settings, level: str, *, color: bool) -> None:
    """Log on stderr from `level` on, and to the file of the settings. Replaces what was configured before."""
    from loguru import logger

    def write(message: str) -> None:
        # Looked up on every message: a progress bar puts itself in the way of stderr while it is shown.
        sys.stderr.write(hide(message))

    as_json, debugging = settings.log_format == "json", level in ("TRACE", "DEBUG")
    _begin(settings, level)
    # No `diagnose`: it prints the values of variables, keys among them.
    logger.add(
        write,
        level=level,
        format=_json_line if as_json else _TEXT,
        filter=lambda record: as_json or debugging or SHOWN not in record["extra"],
        colorize=color and not as_json and sys.stderr.isatty(),
        backtrace=False,
        diagnose=False,
    )
    logging.basicConfig(handlers=[_Intercept()], level=logging.DEBUG if debugging else logging.WARNING, force=True)
    ours = logging.getLogger(_OURS)
    ours.handlers.clear()  # of `to_file`: the line would be there twice
    ours.setLevel("DEBUG" if level == "TRACE" else level)
    logging.captureWarnings(capture=True)
    logging.getLogger("py.warnings").setLevel(logging.WARNING if debugging else logging.ERROR)  # meant for developers


def to_file(settings: Settings) -> None:
    """Log to the file of the settings, if there is one, and leave all other logging of the process alone."""
    if settings.log_file is None:
        return
    ours = logging.getLogger(_OURS)
    _begin(settings, settings.log_level)
    # A line goes to loguru once, whether or not this process also talks to a terminal.
    led = any(isinstance(each, _Intercept) for each in logging.getLogger().handlers)
    ours.handlers[:] = [] if led else [_Intercept()]
    ours.setLevel("DEBUG" if settings.log_level == "TRACE" else settings.log_level)


def failed(error: VprismError) -> None:
    """Log an error that the person at the terminal is shown anyway."""
    if "loguru" in sys.modules:  # else nothing is configured: the words of the command could not even be read
        from loguru import logger

        given = {name: str(error.context[name]) for name in _FIELDS if name in error.context}
        logger.bind(logger=_OURS, **given, code=error.code, **{SHOWN: True}).error("{}", error.message)


def _begin(settings: Settings, level: str) -> None:
    """Forget what was configured before, then open the file."""
    from loguru import logger

    logger.remove()
    logger.configure(patcher=lambda record: record["extra"].update({**fields(), **record["extra"]}))
    if settings.log_file is None:
        return
    try:
        logger.add(
            settings.log_file,
            level=level,
            format=_json_line,
            rotation=ROTATION,
            retention=RETENTION,
            encoding="utf-8",
            backtrace=False,
            diagnose=False,
        )
    except OSError as error:
        raise StorageUnwritable(
            f"cannot write the log: {error.strerror}", hint="correct LOG_FILE", path=settings.log_file
        ) from error


def _json_line(record: Record) -> str:
    """The template of a line that is already made: loguru would read braces in the JSON as fields."""
    record["extra"][_LINE] = hide(json.dumps(_as_json(record), ensure_ascii=False, default=str))
    return "{extra[line]}\n"


def _as_json(record: Record) -> dict[str, Any]:
    extra = {name: value for name, value in record["extra"].items() if name not in (_LINE, SHOWN, "logger")}
    line = {
        "timestamp": record["time"].astimezone(UTC).isoformat(timespec="milliseconds"),
        "level": record["level"].name,
        "logger": record["extra"].get("logger", record["name"]),
        "msg": record["message"],
        **extra,
    }
    thrown = record["exception"]
    if thrown is not None and thrown.value is not None:
        line["exception"] = "".join(traceback.format_exception(thrown.value))
    return line
