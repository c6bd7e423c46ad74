"""One installation: its settings, clock, lake, warehouse and providers, made when first used."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from functools import cached_property

from vprism_pipelines import settings as configuration
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.providers import registry
from vprism_pipelines.providers.base import Provider
from vprism_pipelines.settings import Settings
from vprism_pipelines.warehouse.lake import Lake
from vprism_pipelines.warehouse.reader import Reader
from vprism_pipelines.warehouse.writer import Warehouse


class House:
    """The parts of one installation.

    Args:
        settings: Paths, limits, keys; None: the process's settings, read when first needed.
        clock: Where `now` comes from; tests bring their own.
        private_file: Name of the private warehouse file; a rebuild works on a second one.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        clock: Callable[[], datetime] = registry.utc_now,
        private_file: str = "warehouse.duckdb",
    ) -> None:
        self._settings = settings
        self._private_file = private_file
        self.clock = clock

    @cached_property
    def settings(self) -> Settings:
        return self._settings or configuration.settings()

    @cached_property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.settings, self._private_file)

    @cached_property
    def lake(self) -> Lake:
        return Lake(self.settings.lake_dir)

    @cached_property
    def reader(self) -> Reader:
        return Reader(self.settings)

    def parser(self, name: str) -> Provider:
        """A provider that plans and parses, but cannot reach the network."""
        return registry.create(name, clock=self.clock)

    @asynccontextmanager
    async def provider(self, name: str) -> AsyncIterator[Provider]:
        """A provider with a transport of its own, closed at the end."""
        from vprism_pipelines.providers.transport import Transport  # httpx is loaded only where something is fetched

        quota = self.parser(name).capabilities().quota
        state = self.settings.data_dir / "state" / "providers.sqlite"
        async with Transport(self.settings, quotas={name: quota}, state_path=state) as transport:
            provider = registry.create(name, transport, settings=self.settings, clock=self.clock)
            try:
                yield provider
            finally:
                await provider.aclose()

    def providers_of(self, spec: MarketSpec) -> list[str]:
        """Providers that scheduled runs of a market ask: the configured ones, else the embedded one."""
        return self.settings.providers.get(spec.code) or [spec.embedded_provider]
