"""The frame of the command line: global options on every command, the session they configure, how commands are added.

A command is a function `body(session, …) -> Answer`. It takes its own options only; `command` adds the global ones, so
that they work before and after any subcommand, and prints what the function returns nowhere: `main` does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vprism_pipelines import __version__
from vprism_pipelines.errors import InvalidConfiguration, VprismError
from vprism_pipelines.serving.cli.render import Answer, Format, Output

if TYPE_CHECKING:
    from vprism_pipelines.serving.library import Library
    from vprism_pipelines.settings import Settings
    from vprism_pipelines.warehouse.house import House

Level = Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
_GLOBAL = "Global options"


@dataclass
class Session:
    """One invocation: what the global options say, and the installation it works on."""

    output: Output = field(default_factory=Output)
    log_level: Level | None = None
    given_house: House | None = None

    @cached_property
    def house(self) -> House:
        """The installation.

        Raises:
            InvalidConfiguration: An environment variable has a value that cannot be used.
        """
        from vprism_pipelines.warehouse.house import House

        if self.given_house:
            return self.given_house
        configured = _settings()
        return House(configured.model_copy(update={"log_level": self.log_level or configured.log_level}))

    @cached_property
    def library(self) -> Library:
        """What the installation has published."""
        from vprism_pipelines.serving.library import Library

        return Library(self.house.reader, self.house.clock, self.house.lake, self.house.thresholds)

    @property
    def debugging(self) -> bool:
        return self.log_level in ("TRACE", "DEBUG")

    def take(self, options: dict[str, Any]) -> None:
        """Adopt the global options that were given; later ones win."""
        self.output.format = options["form"] or self.output.format
        self.output.path = options["output"] or self.output.path
        self.output.color = self.output.color and not options["no_color"]
        self.log_level = options["log_level"] or self.log_level

    def begin(self) -> None:
        """Get ready to run a command: logging and redaction as configured, the output file possible."""
        from vprism_pipelines import telemetry

        self.output.check()
        settings = self.house.settings
        self.output.redact = telemetry.hide
        self.log_level = self.log_level or settings.log_level
        telemetry.start(settings, terminal=True, level=self.log_level, color=self.output.color)


Body = Callable[..., Answer]


def application() -> typer.Typer:
    """The root, without commands."""
    return _typer("A market-data warehouse: every pull remembered, every number explained.")


def group(root: typer.Typer, name: str, text: str) -> typer.Typer:
    """A group of commands under the root."""
    commands = _typer(text)
    root.add_typer(commands, name=name)
    return commands


def command(commands: typer.Typer, name: str) -> Callable[[Body], Body]:
    """Add a command; its docstring is its help."""

    def add(body: Body) -> Body:
        def run(ctx: typer.Context, **values: Any) -> Answer:
            session = _adopt(ctx, values)
            session.begin()
            return _observed(ctx.command_path, body, session, values)

        _, *own = inspect.signature(body, eval_str=True).parameters.values()
        commands.command(name, help=inspect.getdoc(body), context_settings=_HELP)(_signed(run, own))
        return body

    return add


def _observed(name: str, body: Body, session: Session, values: dict[str, Any]) -> Answer:
    """What a command answers, in a span of its own; an error is logged with its code."""
    from vprism_pipelines.telemetry import logs, span

    with span(name):
        try:
            answer = body(session, **values)
        except VprismError as error:
            logs.failed(error)
            raise
        for told in answer.errors:
            logs.failed(told)
        return answer


def _typer(text: str) -> typer.Typer:
    # Rich help would double the time of --help, which people wait for.
    commands = typer.Typer(
        help=text, rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False, context_settings=_HELP
    )

    def options(ctx: typer.Context, **values: Any) -> None:
        _adopt(ctx, values)
        if ctx.invoked_subcommand is None:
            typer.echo(ctx.get_help())
            raise typer.Exit

    commands.callback(invoke_without_command=True)(_signed(options, []))
    return commands


_HELP = {"help_option_names": ["-h", "--help"]}


def _adopt(ctx: typer.Context, values: dict[str, Any]) -> Session:
    """The session of this invocation, with the global options among `values` taken out and into it."""
    session = ctx.ensure_object(Session)
    session.take({parameter.name: values.pop(parameter.name) for parameter in _GLOBALS})
    return session


def _signed(function: Callable[..., Any], own: list[inspect.Parameter]) -> Callable[..., Any]:
    """The function with a signature from which typer makes its own and the global options."""
    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [context, *(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own), *_GLOBALS]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return function


def _version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"vprism {__version__}")
        raise typer.Exit


def _option(name: str, annotation: Any, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


_GLOBALS = (
    _option(
        "form",
        Annotated[
            Format | None,
            typer.Option("--format", help="Of the result; default: table, or as the suffix of --output says."),
        ],
    ),
    _option("output", Annotated[Path | None, typer.Option(help="File for the result, instead of stdout.")]),
    _option(
        "log_level",
        Annotated[Level | None, typer.Option(case_sensitive=False, help="Of the log on stderr. [default: LOG_LEVEL]")],
    ),
    _option("no_color", Annotated[bool, typer.Option("--no-color", help="No colours, as with NO_COLOR=1.")], False),
    _option(
        "version",
        Annotated[bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")],
        False,
    ),
)


def _settings() -> Settings:
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from vprism_pipelines.settings import Settings, settings

    try:
        return settings()
    except ValidationError as error:
        # Never the value: it may be a key.
        first = error.errors(include_input=False, include_url=False)[0]
        raise InvalidConfiguration(
            f"{first['loc'][0]}: {first['msg']}", hint="correct the environment or .env; .env.example lists all"
        ) from None
    except SettingsError as error:
        name = str(error).split('"')[1]  # of the field; what people know is its variable
        raise InvalidConfiguration(
            f"{Settings.model_fields[name].validation_alias} is not valid JSON", hint=".env.example has examples"
        ) from None
