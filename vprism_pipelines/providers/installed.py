"""Plugins: packages that add providers and commands, found by their entry points.

A plugin can never break the house: one that cannot be loaded, was written for another version of the interface, or
wants a name that is taken is skipped with a warning. Who comes first is decided by the name of the distribution.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vprism_pipelines.providers.entry import Entry

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP: Final = "vprism.plugins"
INTERFACE: Final = 1
"""Version of what plugins are written against: `Plugin`, `Entry`, the provider protocol, how commands are added."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """What a package adds. It names modules and imports none, so that it costs nothing until it is used.

    Attributes:
        interface: The version of the interface it was written for.
        providers: Registry entries by provider name; `where` is `package.module:class`.
        commands: `package.module:function`, called with the root of the command line; empty: it adds none.
    """

    interface: int
    providers: Mapping[str, Entry] = field(default_factory=dict)
    commands: str = ""


@dataclass(frozen=True, slots=True)
class Installed:
    """An entry point of the group; without a plugin, `problem` says why."""

    name: str
    distribution: str
    plugin: Plugin | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Addition:
    """One thing a plugin adds, or would: then `problem` says why it does not."""

    plugin: str
    kind: str
    name: str
    problem: str = ""


@cache
def plugins() -> tuple[Installed, ...]:
    """Every installed plugin, in the order in which they are asked; warns of those that cannot be used."""
    if not _any_installed():
        return ()
    from importlib.metadata import entry_points

    found = [_load(point) for point in entry_points(group=GROUP)]
    for one in found:
        if one.problem:
            _warn("plugin %s of %s is skipped: %s", one.name, one.distribution, one.problem)
    return tuple(sorted(found, key=lambda one: (one.distribution, one.name)))


def providers(taken: Collection[str]) -> tuple[dict[str, Entry], list[Addition]]:
    """The providers that plugins add to those that are there.

    Args:
        taken: Names that are not free.

    Returns:
        Entries by name, and what became of each provider a plugin offers.
    """
    entries: dict[str, Entry] = {}
    additions = []
    for one in plugins():
        for name, entry in one.plugin.providers.items() if one.plugin else ():
            problem = _unusable(name, entry) or (name in {*taken, *entries} and "there is a provider of that name")
            if not problem:
                entries[name] = replace(entry, package="")
            additions.append(added(one, "provider", name, problem or ""))
    return entries, additions


def added(one: Installed, kind: str, name: str, problem: str = "") -> Addition:
    """What became of one thing a plugin offers; a problem is warned of."""
    if problem:
        _warn("%s %s of plugin %s is skipped: %s", kind, name, one.name, problem)
    return Addition(one.name, kind, name, problem)


def _any_installed() -> bool:
    """Whether any distribution names the group: a glance that saves everybody else a tenth of a second."""
    marker = f"[{GROUP}]".encode()
    return any(marker in listed for folder in dict.fromkeys(sys.path) for listed in _entry_points_in(folder))


def _entry_points_in(folder: str) -> Iterator[bytes]:
    """The lists of entry points of the distributions in a folder of the import path."""
    with suppress(OSError):  # a zip archive, or not there
        for path in Path(folder).iterdir():
            if path.suffix in (".dist-info", ".egg-info"):
                with suppress(OSError):
                    yield (path / "entry_points.txt").read_bytes()


def _warn(message: str, *told: str) -> None:
    import logging  # nobody waits for it who has no plugins, and no trouble with them

    logging.getLogger(__name__).warning(message, *told)


def _load(point: EntryPoint) -> Installed:
    distribution = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"
    try:
        plugin = point.load()
    except (Exception, SystemExit) as error:  # whatever foreign code does at import
        return Installed(point.name, distribution, problem=f"{type(error).__name__}: {error}")
    if not isinstance(plugin, Plugin):
        return Installed(point.name, distribution, problem=f"{point.value} is no vprism_pipelines.plugins.Plugin")
    if plugin.interface != INTERFACE:
        problem = f"it was written for version {plugin.interface} of the interface, this is version {INTERFACE}"
        return Installed(point.name, distribution, problem=problem)
    return Installed(point.name, distribution, plugin)


def _unusable(name: str, entry: object) -> str:
    if not _NAME.fullmatch(name):
        return "a provider's name is made of lower-case letters, digits and _"
    return "" if isinstance(entry, Entry) else "it is no vprism_pipelines.plugins.Entry"
