"""Bundled sample: five US stocks from 2000 to 2013, as traded, public domain. No network, no key, never changes.

Splits and dividends are not in it; they are inferred from the raw and the adjusted close of the whole history.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl

from vprism_pipelines.errors import InvalidInput, InvalidRange, Malformed, NoData, NotFound, Unavailable
from vprism_pipelines.market.inference import infer_actions
from vprism_pipelines.market.spec import US
from vprism_pipelines.market.symbols import resolve
from vprism_pipelines.providers import parquet
from vprism_pipelines.providers.base import (
    Capabilities,
    Dataset,
    Parsed,
    Payload,
    Quota,
    Request,
    raw_frame,
)
from vprism_pipelines.providers.http_errors import REASON_HEADER, raise_for_payload
from vprism_pipelines.providers.window import within

if TYPE_CHECKING:
    from vprism_pipelines.providers.transport import Transport

__all__ = ["SampleProvider", "sample_file"]

_FILE: Final = "us_wiki5.parquet"
_COLUMNS: Final[Mapping[str, tuple[str, pl.DataType]]] = {
    "symbol": ("raw_symbol", pl.String()),
    "date": ("session", pl.Date()),
    "Open": ("open", pl.Float64()),
    "High": ("high", pl.Float64()),
    "Low": ("low", pl.Float64()),
    "Close": ("close", pl.Float64()),
    "Volume": ("volume", pl.Int64()),
    "Adj Close": ("adj_close", pl.Float64()),
}
_ADJUSTED_DECIMALS: Final = 9  # correct ones: the source gives about 14 significant digits
_NOW: Final = partial(datetime.now, UTC)
_HINT: Final = "reinstall the package, or restore data/sample in a clone"
_CAPABILITIES: Final = Capabilities(
    name="sample",
    title="Bundled US history (Quandl WIKI)",
    markets=("us",),
    asset_types=("STOCK",),
    datasets=("bars", "actions"),
    price_basis="raw",
    history="AAPL, IBM, MSFT 2000-03-01 to 2013-03-01; GOOG from 2004-08-19, FB (META) from 2012-05-18",
    quota=Quota(),
    licence="public domain",
    needs_network=False,
    immutable=True,
    universe=tuple(f"US:STOCK:{ticker}" for ticker in ("AAPL", "FB", "GOOG", "IBM", "MSFT")),
    span=(date(2000, 3, 1), date(2013, 3, 1)),
)


def sample_file() -> Path:
    """Where the sample is: within the installed package, or in data/sample of a clone."""
    package = Path(__file__).resolve().parent.parent
    packaged = package / "data" / "sample" / _FILE
    return packaged if packaged.exists() else package.parent / "data" / "sample" / _FILE


class SampleProvider:
    """The bundled sample as a provider.

    Args:
        transport: Not used; every provider takes one.
        clock: Current time, for `Payload.fetched_at`.
        path: Another file with the same columns.
    """

    name = "sample"
    parser_version = "1"

    def __init__(
        self,
        transport: Transport | None = None,
        *,
        clock: Callable[[], datetime] = _NOW,
        path: Path | None = None,
    ) -> None:
        self._clock = clock
        self._path = path or sample_file()

    def capabilities(self) -> Capabilities:
        return _CAPABILITIES

    def plan(
        self, market: str, dataset: Dataset, symbols: Sequence[str], start: date, end: date, now: datetime
    ) -> list[Request]:
        """One request for all symbols, none for none.

        Raises:
            InvalidRange: `start` lies after `end`.
            InvalidInput: The sample has no such market or dataset.
        """
        if market.lower() != US.code or dataset not in _CAPABILITIES.datasets:
            raise InvalidInput(
                f"the sample has no {dataset} for market {market}", hint="it has bars and actions for us"
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
                market=US.code,
                symbol=asked[0] if len(asked) == 1 else None,
                provider_symbol=None,
                start=start,
                end=end,
                url=f"sample:{_FILE}",
                params={"symbols": ",".join(asked)},
            )
        ]

    async def fetch(self, request: Request) -> Payload:
        try:
            body = self._path.read_bytes()
        except OSError as error:
            reason = {REASON_HEADER: f"the sample cannot be read: {error}"}
            return Payload(request, 0, b"", self._clock(), headers=reason, error=Unavailable.code)
        return Payload(request, 200, body, self._clock(), {"content-type": "application/vnd.apache.parquet"})

    def parse(self, payload: Payload) -> Parsed:
        """Bars of the symbols and sessions asked for, and the actions of these symbols from the first session on.

        `FB` and `META` name the same rows here, as do `GOOG` and `GOOGL`: tickers are those of the time.

        Raises:
            NotFound: No symbol asked for is in the sample.
            NoData: No session asked for is.
            ProviderError: The payload is not the sample.
        """
        raise_for_payload(payload)
        table = _table(payload)
        request = payload.request
        tickers, missing = _tickers(table, request)
        if not tickers:
            held = ", ".join(sorted(_names(table)))
            raise NotFound(f"the sample has no {', '.join(missing)}", hint=f"it has {held}", provider=self.name)
        bars = table.filter(pl.col("raw_symbol").is_in(tickers), within("session", request.start, request.end))
        if bars.is_empty():
            first, last = table.select(pl.col("session").min(), last=pl.col("session").max()).row(0)
            raise NoData(
                f"the sample has no session from {request.start} to {request.end}",
                hint=f"it reaches from {first} to {last}",
                provider=self.name,
                symbol=request.symbol,
            )
        events = _events(table).filter(pl.col("raw_symbol").is_in(tickers), within("ex_date", request.start))
        idle = sorted(set(tickers) - set(bars["raw_symbol"]))
        notes = [
            f"{what}: {', '.join(names)}"
            for what, names in (("not in the sample", missing), ("no session in the window", idle))
            if names
        ]
        bars = bars.with_columns(currency=pl.lit(US.currency))
        frames: dict[Dataset, pl.DataFrame] = {"bars": raw_frame("bars", bars, payload)}
        if not events.is_empty():
            frames["actions"] = raw_frame("actions", events, payload)
        return Parsed(frames, tuple(notes))

    async def aclose(self) -> None:
        """Nothing to release."""


def _table(payload: Payload) -> pl.DataFrame:
    table = parquet.read(payload.body)
    if table.schema != {name: dtype for name, (_, dtype) in _COLUMNS.items()}:
        raise Malformed(f"the sample has columns {', '.join(table.columns)[:80]!r}", hint=_HINT)
    numbers = pl.all_horizontal(pl.col(pl.Float64, pl.Int64) >= 0)
    finite = pl.all_horizontal(pl.col(pl.Float64).is_finite())
    dated = pl.col("date").is_between(date(1900, 1, 1), date(2200, 1, 1))  # polars panics on dates beyond its range
    if not table.select(
        (numbers & finite & dated & pl.col("symbol").is_not_null()).fill_null(value=False).all()
    ).item():
        raise Malformed("the sample holds values that are no market data", hint=_HINT)
    return table.rename({name: ours for name, (ours, _) in _COLUMNS.items()}).with_row_index("row")


def _names(table: pl.DataFrame) -> dict[str, str]:
    """Canonical symbols and the ticker under which the sample has each: the one of its time, and today's."""
    names = {}
    for ticker, last in table.group_by("raw_symbol").agg(pl.col("session").max()).iter_rows():
        for symbol in (f"{US.prefix}:STOCK:{ticker}", resolve(ticker, market=US.code, as_of=last).symbol):
            if symbol is not None:
                names[symbol] = ticker
    return names


def _tickers(table: pl.DataFrame, request: Request) -> tuple[list[str], list[str]]:
    """Tickers asked for, and the symbols asked for that are not there. A request that names none means all."""
    names = _names(table)
    listed = request.params.get("symbols") or request.symbol
    asked = listed.split(",") if listed else list(names)
    return [names[symbol] for symbol in asked if symbol in names], [symbol for symbol in asked if symbol not in names]


def _events(table: pl.DataFrame) -> pl.DataFrame:
    """Actions that explain the adjusted closes of the whole history, as rows of the raw frame."""
    history = table.select("session", "close", "adj_close", symbol="raw_symbol")
    events = infer_actions(history, _ADJUSTED_DECIMALS, convention="ex_close", currency=US.currency).events
    if not all(terms.is_finite().all() for terms in events.select(pl.col(pl.Float64))):
        raise Malformed("the sample holds adjusted closes that no action explains", hint=_HINT)
    return (
        events.rename({"symbol": "raw_symbol"})
        .drop("provider")
        .with_columns(detail=pl.lit("inferred from close and adjusted close, ex-date close convention"))
    )
