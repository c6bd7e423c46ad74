"""The retired v7 download: CSV that archives and mirrors still hold."""

from __future__ import annotations

from typing import Final

import polars as pl

from vprism_pipelines.errors import Malformed, NoData
from vprism_pipelines.providers.base import Parsed, Payload, raw_frame
from vprism_pipelines.providers.window import within
from vprism_pipelines.providers.yahoo.terms import float32_decimal

_COLUMNS: Final = {
    "Date": "session",
    "Open": "open",
    "High": "high",
    "Low": "low",
    "Close": "close",
    "Adj Close": "adj_close",
    "Volume": "volume",
}
_QUOTE: Final = ("open", "high", "low", "close", "volume")
_HALF_MICRO: Final = 5e-7


def parse_download(payload: Payload) -> Parsed:
    """Bars of a v7 history download: split-adjusted by splits that the file does not name, so the raw price is unknown.

    Raises:
        NoData: A header and no row, or none in the window.
        Malformed: Not the seven columns of a history download, or cells that are not dates and numbers.
    """
    request = payload.request
    if not request.provider_symbol:
        raise Malformed("a download names no symbol and neither does its request")
    try:
        cells = pl.read_csv(payload.body, infer_schema=False, null_values=["null", ""])
        if cells.columns != list(_COLUMNS):
            raise Malformed(f"the download has columns {', '.join(cells.columns)[:80]!r}")
        numbers = [pl.col(name).cast(pl.Float64) for name in cells.columns if name != "Date"]
        table = cells.with_columns(pl.col("Date").str.to_date("%Y-%m-%d"), *numbers).rename(_COLUMNS)
    except pl.exceptions.PolarsError as error:
        raise Malformed("the download is not a table of dates and numbers") from error
    prices = pl.col("open", "high", "low", "close", "adj_close")
    if not table.select(pl.all_horizontal(pl.col(pl.Float64).is_finite().all())).item():
        raise Malformed("the download holds a number that is not finite")
    bars = table.with_row_index("row").filter(
        within("session", request.start, request.end), ~pl.all_horizontal(pl.col(_QUOTE).is_null())
    )
    if bars.is_empty():
        raise NoData("the download has no bar in the window", hint="the exchange may have been closed")
    return Parsed(
        {
            "bars": raw_frame(
                "bars",
                bars.with_columns(
                    float32_decimal(prices, within=_HALF_MICRO),
                    raw_symbol=pl.lit(request.provider_symbol),
                    price_basis=pl.lit("split_adjusted"),
                    basis_factor=pl.lit(None, dtype=pl.Float64),
                ),
                payload,
            )
        },
        ("a download names no splits: the raw price is unknown",),
    )
