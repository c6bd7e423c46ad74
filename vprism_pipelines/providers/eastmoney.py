"""Eastmoney: daily bars of mainland China and Hong Kong as traded, with traded value, from the push2his kline API.

Unofficial and without a key; it drops connections of whoever asks fast. Its adjusted series subtract instead of
dividing, so they are neither asked for nor accepted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, ClassVar, Final

import polars as pl

from vprism_pipelines.errors import Malformed, NoData, NotFound, ProviderError
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.providers.base import Capabilities, Dataset, Parsed, Payload, Quota, Request
from vprism_pipelines.providers.chinese_units import currency, volume_unit
from vprism_pipelines.providers.http_errors import raise_for_payload
from vprism_pipelines.providers.text_tables import PRICES, as_object, bar_table, daily_bars, require_daily, script_json
from vprism_pipelines.providers.web import WebProvider, asked

__all__ = ["EastmoneyProvider"]

_URL: Final = "https://push2his.eastmoney.com/api/qt/stock/kline/get"
_DAY, _AS_TRADED = "101", "0"
_ADJUSTED: Final = {"1": "qfq", "2": "hfq"}
_FIELDS: Final = {
    "f51": "session",
    "f52": "open",
    "f53": "close",
    "f54": "high",
    "f55": "low",
    "f56": "volume",
    "f57": "value",
}
_ALL_FIELDS: Final = tuple(f"f{number}" for number in range(51, 62))
_FIELD_LIST: Final = re.compile(r"f\d+(,f\d+)+")
_TOKEN: Final = "fa5fd1943c7b386f172d6893dbfba10b"  # noqa: S105 the public one of the web page, without it data is null
_MOST_FIELDS: Final = 40
_ROUNDED: Final = 0.01  # adjusted prices of a dividend too small to matter may pass
_STATE_IT: Final = "ask with fqt=0 and apply our own factors"


class EastmoneyProvider(WebProvider):
    """Eastmoney's market data as a provider."""

    name = "eastmoney"
    offers: ClassVar[Capabilities] = Capabilities(
        name="eastmoney",
        title="Eastmoney",
        markets=("cn", "hk"),
        asset_types=("STOCK", "ETF", "FUND", "INDEX", "CONVERTIBLE_BOND"),
        datasets=("bars",),
        price_basis="raw",
        history="from the listing, in one request",
        quota=Quota(
            per_minute=30, burst=1, concurrency=1, source="Eastmoney publishes none: it cuts off faster clients"
        ),
        licence="undocumented and unlicensed: personal use, no redistribution",
    )

    def _plan(
        self, spec: MarketSpec, dataset: Dataset, symbols: Sequence[str], start: date, end: date, now: datetime
    ) -> list[Request]:
        """One request per symbol, unadjusted, for exactly the sessions asked for."""
        common = {
            "klt": _DAY,
            "fqt": _AS_TRADED,
            "beg": f"{start:%Y%m%d}",
            "end": f"{end:%Y%m%d}",
            "fields1": "f1,f2,f3,f4,f5,f6",
            "fields2": ",".join(_ALL_FIELDS),
            "ut": _TOKEN,
        }
        return self._requests(
            spec.code, dataset, symbols, [(start, end)], lambda secid, _: (_URL, {"secid": secid, **common})
        )

    def _read(self, payload: Payload) -> Parsed:
        raise_for_payload(payload)
        query = asked(payload.request)
        _require_as_traded(query)
        document = script_json(payload)
        if not isinstance(document, dict) or "data" not in document:
            raise Malformed("the answer is no object with data")
        data, code = document["data"], document.get("rc")
        if data is None or data == []:
            raise NotFound(
                f"the answer has no data (rc {str(code)[:20]})",
                hint="the code is unknown; or, when known ones fail too, this address is blocked for some hours",
            )
        if code not in (0, None):
            raise ProviderError(f"Eastmoney answers rc {str(code)[:20]}", hint="the request may be wrong")
        return _bars(as_object(data, "data"), query, payload)


def _require_as_traded(query: Mapping[str, str]) -> None:
    adjusted = query.get("fqt") or _AS_TRADED
    if adjusted != _AS_TRADED:
        raise Malformed(
            f"the series is adjusted ({_ADJUSTED.get(adjusted, adjusted[:8])}): Eastmoney subtracts dividends from old"
            " prices",
            hint=_STATE_IT,
        )
    if query.get("klt", _DAY) != _DAY:
        raise Malformed(
            f"the bars are of kind klt={query['klt'][:8]} where days were asked for", hint="ask with klt=101"
        )


def _bars(data: Mapping[str, Any], query: Mapping[str, str], payload: Payload) -> Parsed:
    lines, market, code = data.get("klines"), data.get("market"), data.get("code")
    if not isinstance(market, int) or not isinstance(code, str) or not re.fullmatch(r"[\w.\-]{1,20}", code):
        raise Malformed("the answer does not say which code of which market it is about")
    if not isinstance(lines, list) or not set(map(type, lines)) <= {str}:
        raise Malformed("klines is not a list of text")
    if not lines:
        raise NoData(f"no bar of {market}.{code} in the window", hint="the exchange may have been closed")
    named = query.get("fields2", "")
    cells = _cells(lines, named.split(",") if _FIELD_LIST.fullmatch(named) else _ALL_FIELDS)
    table = bar_table({name: cells[name] for name in ("session", *PRICES, "volume", "value") if name in cells.columns})
    if "klt" not in query:
        require_daily(table["session"])
    secid = f"{market}.{code}"
    if not query.get("fqt"):
        _require_traded_value(table, volume_unit(secid))
    bars = table.with_columns(
        raw_symbol=pl.lit(secid),
        currency=pl.lit(currency(secid), dtype=pl.String),
        volume_unit=pl.lit(volume_unit(secid)),
    )
    known = payload.request.provider_symbol
    notes = (f"asked about {known}, answered about {secid}",) if known and known != secid else ()
    return daily_bars(bars, payload, notes)


def _require_traded_value(table: pl.DataFrame, unit: float) -> None:
    """Refuse prices of which nobody says what they are, unless they are what was paid: value is never adjusted.

    Raises:
        Malformed: A day's value per share is not among its prices, or there is no value to tell.
    """
    if "value" not in table.columns:
        raise Malformed("nobody says whether the series is adjusted, and it has no value to tell", hint=_STATE_IT)
    paid = table.filter(pl.col("volume") > 0).select(
        (pl.col("value") / (pl.col("volume") * unit)).is_between(
            pl.col("low") * (1 - _ROUNDED), pl.col("high") * (1 + _ROUNDED)
        )
    )
    if not paid.to_series().fill_null(value=False).all():
        raise Malformed("the series is adjusted: its prices are not what was paid per share", hint=_STATE_IT)


def _cells(lines: Sequence[str], fields: Sequence[str]) -> pl.DataFrame:
    """Columns of the comma-separated lines, by our names. Fields at the end may be missing, in all lines alike."""
    texts = pl.Series("line", lines, dtype=pl.String)
    width = texts.str.count_matches(",", literal=True).unique() + 1
    if len(width) != 1 or not len(PRICES) < width.item() <= min(len(fields), _MOST_FIELDS):
        raise Malformed(f"the lines have not all the {len(fields)} fields that were asked for")
    named = [_FIELDS.get(field, field) for field in fields[: width.item()]]
    if len(set(named)) < len(named) or not {"session", *PRICES} <= set(named):
        raise Malformed("the fields asked for do not make a bar", hint=f"ask for {','.join(_ALL_FIELDS)}")
    return texts.str.split_exact(",", width.item() - 1).struct.rename_fields(named).struct.unnest()
