"""Logging of a command: loguru on stderr, everything logged elsewhere led there, secrets taken out.

Libraries speak from WARNING on, unless somebody debugs: a run of Dagster alone would fill a screen.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vprism_pipelines.serving.cli.render import Output

_FORMAT = "<dim>{time:HH:mm:ss}</dim> <level>{level: <7}</level> {message}"
_OURS = "vprism_pipelines"


class _Intercept(logging.Handler):
    """Hands a record of the standard library to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        from loguru import logger

        level = record.levelname if record.levelname in _LEVELS else record.levelno
        logger.opt(exception=record.exc_info).log(level, "{}", record.getMessage())


_LEVELS = ("TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def configure(level: str, output: Output) -> None:
    """Log from `level` on. Repeating it replaces what was configured before."""
    from loguru import logger

    def write(message: str) -> None:
        # Looked up on every message: a progress bar puts itself in the way of stderr while it is shown.
        sys.stderr.write(output.redact(message))

    debugging = level in ("TRACE", "DEBUG")
    logger.remove()
    # No `diagnose`: it prints the values of variables, keys among them.
    logger.add(
        write,
        level=level,
        format=_FORMAT,
        colorize=output.color and sys.stderr.isatty(),
        backtrace=False,
        diagnose=False,
    )
    logging.basicConfig(handlers=[_Intercept()], level=logging.DEBUG if debugging else logging.WARNING, force=True)
    logging.getLogger(_OURS).setLevel("DEBUG" if level == "TRACE" else level)
    logging.captureWarnings(capture=True)
    logging.getLogger("py.warnings").setLevel(logging.WARNING if debugging else logging.ERROR)  # meant for developers
