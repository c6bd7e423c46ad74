"""What a plugin is made of; docs/plugins.md shows one.

Its providers are written against `providers.base` and `providers.web`, its commands against `serving.cli.session`.
These, and the names here, are the interface whose version is `INTERFACE`.
"""

from __future__ import annotations

from vprism_pipelines.providers.entry import Entry
from vprism_pipelines.providers.installed import GROUP, INTERFACE, Plugin

__all__ = ["GROUP", "INTERFACE", "Entry", "Plugin"]
