"""VNDirect: daily bars of Vietnamese shares as traded, with the broker's own adjusted close beside them.

The only public source of the market that says both. Undocumented, without a key, and at times closed to clients from
abroad. Its chart API is not read: an answer of it names no symbol, and nobody recorded one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any, ClassVar, Final

import polars as pl

from vprism_pipelines.errors import Malformed, NoData
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.providers.base import Capabilities, Dataset, Parsed, Payload, Quota, Request
from vprism_pipelines.providers.http_errors import load_json, raise_for_payload
from vprism_pipelines.providers.text_tables import as_object, bar_table, daily_bars
from vprism_pipelines.providers.web import WebProvider

__all__ = ["VndirectProvider"]

_URL: Final = "https://finfo-api.vndirect.com.vn/v4/stock_prices"
_PAGE: Final = 1_000
_THOUSAND_VND: Final = 1_000.0
_CELLS: Final = {
    "session": "date",
    "open": "open",
    "high": "high",
    "low": "low",
    "close": "close",
    "adj_close": "adClose",
    "volume": "nmVolume",  # matched orders; put-through trades are apart, as with the other brokers
    "value": "nmValue",
}


class VndirectProvider(WebProvider):
    """VNDirect's finfo as a provider."""

    name = "vndirect_finfo"
    offers: ClassVar[Capabilities] = Capabilities(
        name="vndirect_finfo",
        title="VNDirect",
        markets=("vn",),
        asset_types=("STOCK", "ETF", "FUND"),
        datasets=("bars",),
        price_basis="raw",
        history="daily bars since the listing, a thousand a page",
        quota=Quota(per_minute=30, burst=1, concurrency=1, source="VNDirect publishes none: one every two seconds"),
        licence="undocumented and unlicensed: personal use, no redistribution",
    )

    def _plan(
        self, spec: MarketSpec, dataset: Dataset, symbols: Sequence[str], start: date, end: date, now: datetime
    ) -> list[Request]:
        """One request per symbol, further pages as the answers name them."""

        def ask(spelling: str, _: object) -> tuple[str, Mapping[str, str]]:
            asked = f"code:{spelling}~date:gte:{start}~date:lte:{end}"
            return _URL, {"sort": "date", "size": str(_PAGE), "page": "1", "q": asked}

        return self._requests(spec.code, dataset, symbols, [(start, end)], ask)

    def _read(self, payload: Payload) -> Parsed:
        raise_for_payload(payload)
        document = as_object(load_json(payload), "the answer")
        rows = document.get("data")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise Malformed("the answer has no list of rows")
        if not rows:
            raise NoData("the answer has no row", hint="the symbol may be unknown, or not listed in that window")
        return replace(_bars(rows, payload), following=_next_page(document, payload.request))


def _bars(rows: Sequence[Mapping[str, Any]], payload: Payload) -> Parsed:
    if not all(_CELLS["close"] in row and isinstance(row.get("code"), str) for row in rows):
        raise Malformed("a row has no code or no close", hint="it answers another question")
    cells = {name: [row.get(key) for row in rows] for name, key in _CELLS.items()}
    codes = pl.Series("raw_symbol", [row["code"] for row in rows])
    venues = pl.Series("exchange", [row.get("floor") for row in rows], dtype=pl.String, strict=False)
    table = bar_table(cells).with_columns(
        codes,
        venues,
        price_basis=pl.lit("raw"),
        basis_factor=pl.lit(1.0),
        price_unit=pl.lit(_THOUSAND_VND),
        currency=pl.lit("VND"),
    )
    return daily_bars(table, payload)


def _next_page(document: Mapping[str, Any], request: Request) -> Request | None:
    page, pages = document.get("currentPage"), document.get("totalPages")
    if type(page) is not int or type(pages) is not int or page >= pages:
        return None
    return replace(request, params={**request.params, "page": str(page + 1)})
