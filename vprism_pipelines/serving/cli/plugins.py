"""Commands of plugins, and `vprism plugins`: what installed packages add, and what was skipped and why."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

import typer
from typer.models import CommandInfo, TyperInfo

from vprism_pipelines.providers import installed
from vprism_pipelines.serving.cli.render import Answer
from vprism_pipelines.serving.cli.session import Session, command

if TYPE_CHECKING:
    from collections.abc import Iterator

_Info = TypeVar("_Info", CommandInfo, TyperInfo)

_added: list[installed.Addition] = []


def add_to(root: typer.Typer) -> None:
    """Add the command to the root."""
    command(root, "plugins")(plugins)


def plugins(session: Session) -> Answer:
    """List what plugins add: providers and commands, and what was skipped and why."""
    import polars as pl

    from vprism_pipelines.providers import registry

    additions = [*registry.ADDED, *_added]
    rows = [
        (one.name, one.distribution, addition.kind, addition.name, addition.problem or "added")
        for one in installed.plugins()
        for addition in additions
        if addition.plugin == one.name
    ]
    rows += [(one.name, one.distribution, "", "", one.problem) for one in installed.plugins() if one.problem]
    columns = ("plugin", "distribution", "kind", "name", "outcome")
    frame = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")
    return Answer(frame, notes=() if rows else (f"no installed package has an entry point in {installed.GROUP}",))


def add_commands(root: typer.Typer) -> None:
    """Add the commands of plugins to the root; one whose name is taken is skipped with a warning."""
    for one in installed.plugins():
        if one.plugin and one.plugin.commands:
            _added.extend(_adopt(root, one, one.plugin.commands))


def _adopt(root: typer.Typer, one: installed.Installed, where: str) -> Iterator[installed.Addition]:
    own = typer.Typer()
    module, _, function = where.partition(":")
    try:
        getattr(import_module(module), function)(own)
    except (Exception, SystemExit) as error:  # whatever foreign code does
        yield installed.added(one, "commands", where, f"{type(error).__name__}: {error}")
        return
    for command_info in own.registered_commands:
        yield _admit(root, one, "command", command_info, root.registered_commands)
    for group_info in own.registered_groups:
        yield _admit(root, one, "group", group_info, root.registered_groups)


def _admit(
    root: typer.Typer, one: installed.Installed, kind: str, item: _Info, standing: list[_Info]
) -> installed.Addition:
    """Put a command or group beside those that stand there, when its name is free."""
    name = item.name if isinstance(item.name, str) else ""
    taken = {info.name for info in root.registered_commands} | {info.name for info in root.registered_groups}
    if not name:
        return installed.added(one, kind, name, "it has no name")
    if name in taken:
        return installed.added(one, kind, name, f"there is a `vprism {name}` already")
    standing.append(item)
    return installed.added(one, kind, name)
