"""A provider before it is loaded: what the asset graph must know of it without importing it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vprism_pipelines.providers.base import Dataset


@dataclass(frozen=True, slots=True)
class Entry:
    """A provider before it is loaded.

    Attributes:
        title: Name people know it by.
        where: `module:class` under `package`.
        markets: Markets it has assets in.
        dataset: What its main requests ask for; their answers may carry other datasets too.
        also: Datasets that need requests, and so raw assets, of their own.
        beside: The same, pulled by a job of their own: what goes wrong with them does not hold up the bars.
        own_process: It fetches through a child process, not through the transport.
        network: Its pulls leave this machine.
        synthetic: It invents its data.
        bulk: One answer holds a whole history: its raw asset has no partitions.
        package: Where its module is; empty for the provider of a plugin: `where` says all.
        hosts: Hosts the provider of a plugin may be asked at over https, and all below them.
    """

    title: str
    where: str
    markets: tuple[str, ...]
    dataset: Dataset = "bars"
    also: tuple[Dataset, ...] = ()
    beside: tuple[Dataset, ...] = ()
    own_process: bool = False
    network: bool = True
    synthetic: bool = False
    bulk: bool = False
    package: str = "vprism_pipelines.providers"
    hosts: tuple[str, ...] = ()

    @property
    def datasets(self) -> tuple[Dataset, ...]:
        """Everything it has a raw asset of."""
        return (self.dataset, *self.also, *self.beside)
