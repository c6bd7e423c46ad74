"""Both vendors of the simulated exchange as providers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

import polars as pl

from vprism_pipelines.errors import InvalidInput, InvalidRange, NoData, NotFound, Unavailable, VprismError
from vprism_pipelines.market.spec import VN
from vprism_pipelines.market.symbols import resolve
from vprism_pipelines.providers.base import (
    Capabilities,
    Dataset,
    Parsed,
    Payload,
    PriceBasis,
    Quota,
    Request,
    raw_frame,
)
from vprism_pipelines.providers.http_errors import REASON_HEADER, raise_for_payload
from vprism_pipelines.providers.simulated import vendor_a, vendor_b, views
from vprism_pipelines.providers.simulated.index import INDEX
from vprism_pipelines.providers.simulated.listing import CAPACITY, number_of, numbers_of, symbol_of
from vprism_pipelines.providers.simulated.views import Market

if TYPE_CHECKING:
    from vprism_pipelines.providers.transport import Transport

SEED: Final = 20_240_102
SYMBOLS: Final = 30
OPENING: Final = date(2024, 1, 2)
_NOW: Final = partial(datetime.now, UTC)


class _Simulated:
    """What the two vendors have in common.

    Args:
        transport: Not used; every provider takes one.
        clock: Current time: what a vendor knows depends on it.
        seed: Of the simulated market. Vendors with the same seed and start see the same one.
        symbols: How many companies are in the default universe. Any other that can be simulated may be asked for, too.
        start: First day of the simulation.
    """

    name: str
    parser_version = "1"
    _title: ClassVar[str]
    _datasets: ClassVar[tuple[Dataset, ...]]
    _basis: ClassVar[PriceBasis]
    _index: ClassVar[bool]
    _content: ClassVar[str]

    def __init__(
        self,
        transport: Transport | None = None,
        *,
        clock: Callable[[], datetime] = _NOW,
        seed: int = SEED,
        symbols: int = SYMBOLS,
        start: date = OPENING,
    ) -> None:
        self._clock = clock
        self._seed = seed
        self._start = start
        self._universe = tuple(map(symbol_of, numbers_of(symbols).tolist()))

    def capabilities(self) -> Capabilities:
        # The index joins as soon as the symbol tables know it.
        index = (INDEX,) if self._index and resolve(INDEX).symbol == INDEX else ()
        return Capabilities(
            name=self.name,
            title=self._title,
            markets=(VN.code,),
            asset_types=("STOCK", "INDEX") if index else ("STOCK",),
            datasets=self._datasets,
            price_basis=self._basis,
            history=f"from {self._start} to the latest session; invented",
            quota=Quota(),
            licence="ours to give away: synthetic, of no company that exists",
            needs_network=False,
            universe=self._universe + index,
            span=(self._start, date.max),
            synthetic=True,
        )

    def plan(
        self, market: str, dataset: Dataset, symbols: Sequence[str], start: date, end: date, now: datetime
    ) -> list[Request]:
        """One request for all symbols per calendar month, from the opening of the simulation to today.

        Raises:
            InvalidRange: `start` lies after `end`.
            InvalidInput: Another market, or a dataset this vendor does not have.
        """
        if market.lower() != VN.code or dataset not in self._datasets:
            raise InvalidInput(
                f"{self.name} has no {dataset} for market {market}",
                hint=f"it has {', '.join(self._datasets)} for {VN.code}",
            )
        if start > end:
            raise InvalidRange(f"no session can lie from {start} to {end}", hint="let the range start before its end")
        asked = list(dict.fromkeys(symbols))
        if not asked:
            return []
        return [
            Request(
                provider=self.name,
                dataset=dataset,
                market=VN.code,
                symbol=asked[0] if len(asked) == 1 else None,
                provider_symbol=None,
                start=first,
                end=last,
                url=f"{self.name}:{VN.code}",
                params={"symbols": ",".join(asked), "seed": str(self._seed), "opening": self._start.isoformat()},
            )
            for first, last in _months(max(start, self._start), min(end, VN.today(now)))
        ]

    async def fetch(self, request: Request) -> Payload:
        """What the vendor knows now. Status 404 if no symbol is simulated, 0 if the request makes no sense."""
        now = self._clock()
        asked = _asked(request)
        try:
            seed, opening = int(request.params["seed"]), date.fromisoformat(request.params["opening"])
            if request.start is None or request.end is None:
                raise ValueError("it names no sessions")
            market = Market.of(seed, opening, asked)
            with_index = self._index and INDEX in asked
            if not market.symbols and not with_index:
                return Payload(request, 404, b"", now)
            body = self._answer(market, request.start, request.end, now, index=with_index)
        except (KeyError, ValueError, VprismError) as error:
            reason = {REASON_HEADER: f"the exchange cannot be simulated: {error}"}
            return Payload(request, 0, b"", now, headers=reason, error=Unavailable.code)
        return Payload(request, 200, body, now, {"content-type": self._content})

    def parse(self, payload: Payload) -> Parsed:
        """Everything in the answer that belongs to the sessions asked for.

        Raises:
            NotFound: No symbol asked for is simulated.
            NoData: There is nothing in the window.
            ProviderError: The payload is not an answer of this vendor.
        """
        asked = _asked(payload.request)
        strange = [symbol for symbol in asked if number_of(symbol) is None and not (self._index and symbol == INDEX)]
        if asked and len(strange) == len(asked):
            raise NotFound(
                f"{self.name} simulates no {', '.join(strange[:5])}",
                hint=f"it can simulate {symbol_of(0)} to {symbol_of(CAPACITY - 1)}, in the order of the documentation",
                provider=self.name,
            )
        raise_for_payload(payload)
        frames = {name: raw_frame(name, frame, payload) for name, frame in self._read(payload).items() if frame.height}
        if payload.request.dataset not in frames:
            raise NoData(
                f"{self.name} has no {payload.request.dataset} from {payload.request.start} to {payload.request.end}",
                hint="the session may not be over, or nobody may be listed yet",
                provider=self.name,
                symbol=payload.request.symbol,
            )
        return Parsed(frames, (f"not simulated: {', '.join(strange)}",) if strange else ())

    async def aclose(self) -> None:
        """Nothing to release."""

    @abstractmethod
    def _answer(self, market: Market, first: date, last: date, now: datetime, *, index: bool) -> bytes: ...

    @abstractmethod
    def _read(self, payload: Payload) -> dict[Dataset, pl.DataFrame]: ...


class SimulatedProvider(_Simulated):
    """Vendor A: complete, as traded, in VND, with corporate actions and listings; a few bars are corrected late."""

    name = "simulated"
    _title = "Simulated exchange, vendor A (synthetic)"
    _datasets = ("bars", "actions", "instruments")
    _basis = "raw"
    _index = True
    _content = "text/csv; charset=utf-8"

    def _answer(self, market: Market, first: date, last: date, now: datetime, *, index: bool) -> bytes:
        return vendor_a.write(
            {
                "bars": views.printed(market, first, last, now, index=index),
                "actions": views.declared(market, first, last, now),
                "instruments": views.listed(market, now, index=index),
            }
        )

    def _read(self, payload: Payload) -> dict[Dataset, pl.DataFrame]:
        currency, synthetic = pl.lit(VN.currency).alias("currency"), pl.lit("synthetic").alias("detail")
        frames = vendor_a.read(payload.body)
        asset = (
            pl.when(pl.col("raw_symbol") == INDEX.rsplit(":", 1)[1]).then(pl.lit("INDEX")).otherwise(pl.lit("STOCK"))
        )
        return {
            "bars": frames["bars"].with_columns(currency),
            "actions": frames["actions"].with_columns(currency, synthetic),
            "instruments": frames["instruments"].with_columns(currency, asset=asset),
        }


class SimulatedBProvider(_Simulated):
    """Vendor B: the same market in thousand VND, rebased after every ex-date, with holes, blackouts and delays."""

    name = "simulated_b"
    _title = "Simulated exchange, vendor B (synthetic)"
    _datasets = ("bars",)
    _basis = "adjusted_by_source"
    _index = False
    _content = "application/json"

    def _answer(self, market: Market, first: date, last: date, now: datetime, *, index: bool) -> bytes:
        return vendor_b.write(views.rebased(market, first, last, now))

    def _read(self, payload: Payload) -> dict[Dataset, pl.DataFrame]:
        bars = vendor_b.read(payload).with_columns(
            currency=pl.lit(VN.currency),
            price_basis=pl.lit(self._basis),
            price_unit=pl.lit(1_000.0),
            basis_factor=pl.lit(None, dtype=pl.Float64),
        )
        return {"bars": bars}


def _asked(request: Request) -> list[str]:
    """Symbols a request asks for."""
    listed = request.params.get("symbols") or request.symbol or ""
    return listed.split(",") if listed else []


def _months(start: date, end: date) -> Iterator[tuple[date, date]]:
    """The range, cut at the first of each month; nothing if it is reversed."""
    while start <= end:
        following = (start.replace(day=1) + timedelta(days=32)).replace(day=1)
        yield start, min(end, following - timedelta(days=1))
        start = following
