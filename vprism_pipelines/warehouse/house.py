"""One installation: its settings, clock, lake, warehouse and providers, made when first used."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from functools import cached_property
from itertools import chain
from pathlib import Path

from vprism_pipelines import settings as configuration
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.providers import registry
from vprism_pipelines.providers.base import Provider
from vprism_pipelines.providers.quota import Limiter, Metered
from vprism_pipelines.providers.state import State
from vprism_pipelines.quality.thresholds import Thresholds, thresholds
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

    @cached_property
    def thresholds(self) -> Thresholds:
        """The checks' thresholds, as this installation has decided them.

        Raises:
            InvalidConfiguration: `VPRISM_CHECKS` names what does not exist.
        """
        return thresholds(self.settings.checks)

    def parser(self, name: str) -> Provider:
        """A provider that plans and parses, but cannot reach the network."""
        return registry.create(name, clock=self.clock)

    @asynccontextmanager
    async def provider(self, name: str) -> AsyncIterator[Provider]:
        """A provider with a transport of its own, closed at the end."""
        from vprism_pipelines.providers.transport import EGRESS, Transport  # heavy: only where something is fetched

        quota = self.parser(name).capabilities().quota
        hosts = {**EGRESS, **registry.hosts()}
        async with Transport(self.settings, quotas={name: quota}, state_path=self.state_path, hosts=hosts) as transport:
            provider = registry.create(name, transport, settings=self.settings, clock=self.clock)
            try:
                with self.limiter([name]) as limiter:
                    own_way = registry.entry(name).own_process
                    yield Metered(provider, limiter, self.clock) if own_way else provider
            finally:
                await provider.aclose()

    @property
    def state_path(self) -> Path:
        """What was asked of whom, and whose circuit is open: shared by all processes of this installation."""
        return self.settings.data_dir / "state" / "providers.sqlite"

    @contextmanager
    def limiter(self, names: Sequence[str], clock: Callable[[], float] = time.time) -> Iterator[Limiter]:
        """The quotas of some providers, and what is drawn on them so far."""
        state = State(self.state_path)
        try:
            yield Limiter(
                state,
                {name: self.parser(name).capabilities().quota for name in names},
                per_minute=self.settings.rate_limit_requests_per_minute,
                burst=self.settings.rate_limit_burst,
                clock=clock,
            )
        finally:
            state.close()

    def providers_of(self, spec: MarketSpec) -> list[str]:
        """Providers that scheduled runs of a market ask: the configured ones, else the embedded one."""
        return self.settings.providers.get(spec.code) or [spec.embedded_provider]

    def ranked(self, spec: MarketSpec) -> list[str]:
        """Providers that the installation names for a market, best first; nobody else is asked instead of another."""
        named = (self.settings.providers.get(spec.code, []), self.settings.standby.get(spec.code, []))
        return list(dict.fromkeys(chain(*named)))
