"""A provider: one CSV file per ticker, with the columns date, open, high, low, close, volume."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import ClassVar

import polars as pl

from vprism_pipelines.errors import Malformed, NoData
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.market.symbols import parse_canonical
from vprism_pipelines.providers.base import Capabilities, Dataset, Parsed, Payload, Quota, Request, raw_frame
from vprism_pipelines.providers.http_errors import raise_for_payload
from vprism_pipelines.providers.web import WebProvider

_COLUMNS = {
    "date": pl.Date,
    "open": pl.Float64,
    "high": pl.Float64,
    "low": pl.Float64,
    "close": pl.Float64,
    "volume": pl.Float64,
}


class CsvProvider(WebProvider):
    """Asks `https://prices.example.com/daily/TICKER.csv`."""

    name = "csv_example"
    offers: ClassVar[Capabilities] = Capabilities(
        name="csv_example",
        title="CSV files of example.com",
        markets=("us",),
        asset_types=("STOCK", "ETF"),
        datasets=("bars",),
        price_basis="raw",
        history="all of it in every file",
        quota=Quota(per_minute=60, source="our own pace"),
        licence="an example",
    )

    def _plan(
        self, spec: MarketSpec, dataset: Dataset, symbols: Sequence[str], start: date, end: date, now: datetime
    ) -> list[Request]:
        return self._requests(
            spec.code,
            dataset,
            symbols,
            [(start, end)],
            lambda ticker, _: (f"https://prices.example.com/daily/{ticker}.csv", {}),
        )

    def _spelling(self, symbol: str) -> str:
        return parse_canonical(symbol).code

    def _read(self, payload: Payload) -> Parsed:
        raise_for_payload(payload)
        try:
            rows = pl.read_csv(payload.body, schema=_COLUMNS)
        except pl.exceptions.PolarsError as error:
            raise Malformed(f"not a CSV file of {', '.join(_COLUMNS)}: {error}") from error
        request = payload.request
        rows = rows.filter(pl.col("date").is_between(request.start, request.end))
        if rows.is_empty():
            raise NoData(f"no bars from {request.start} to {request.end}")
        bars = rows.rename({"date": "session"}).with_columns(
            raw_symbol=pl.lit(request.provider_symbol), currency=pl.lit("USD")
        )
        return Parsed({"bars": raw_frame("bars", bars, payload)})
