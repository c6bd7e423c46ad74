"""Vendor B's format: JSON, a list of arrays per company, thousand VND to two decimals, midnight of Vietnam as seconds.

{"status": "ok", "data": [{"ticker": "Z0A", "floor": "STO", "t": [1704128400], "o": [18.25], "h": [18.4], …}]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

import polars as pl

from vprism_pipelines.errors import Malformed
from vprism_pipelines.market.spec import VN
from vprism_pipelines.providers.base import Payload
from vprism_pipelines.providers.http_errors import load_json

_FLOORS: Final[Mapping[str, str]] = MappingProxyType({"HOSE": "STO", "HNX": "STX", "UPCOM": "UPX"})
_ARRAYS: Final[Mapping[str, str]] = MappingProxyType(
    {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume"}
)
_BY_SECOND: Final = pl.col("session").cast(pl.Datetime("us")).dt.replace_time_zone(VN.timezone).dt.epoch("s")
_LAST_SECOND: Final = int(datetime(2200, 1, 1, tzinfo=VN.zone).timestamp())  # polars panics on dates beyond its range
_HINT: Final = "replay the archived payload to see what came; only the simulated exchange writes this format"

_COLUMNS: Final[Mapping[str, pl.DataType]] = {"t": pl.Int64(), **dict.fromkeys(_ARRAYS.values(), pl.Float64())}


def write(bars: pl.DataFrame) -> bytes:
    """The text of bars as `views.rebased` gives them; no rows are `no_data`."""
    by_company = bars.group_by("symbol", maintain_order=True).agg(
        pl.col("exchange").first().replace_strict(_FLOORS).alias("floor"),
        _BY_SECOND.alias("t"),
        *(pl.col(name).alias(short) for short, name in _ARRAYS.items()),
    )
    rows = by_company.select(
        pl.col("symbol").str.split(":").list.last().alias("ticker"), pl.exclude("symbol")
    ).to_dicts()
    answer = {"status": "ok" if rows else "no_data", "data": rows}
    return json.dumps(answer, separators=(",", ":")).encode()


def read(payload: Payload) -> pl.DataFrame:
    """The bars of an answer, columns of the raw frame.

    Raises:
        ProviderError: It is not in this format.
    """
    answer = load_json(payload)
    if not isinstance(answer, dict) or answer.get("status") not in ("ok", "no_data"):
        raise Malformed("the answer has no status", hint=_HINT)
    data = answer.get("data")
    if not isinstance(data, list) or not all(isinstance(company, dict) for company in data):
        raise Malformed("the answer has no list of companies", hint=_HINT)
    frames = [_company(company) for company in data]
    return pl.concat(frames) if frames else pl.DataFrame(schema=dict.fromkeys(["raw_symbol"], pl.String))


def _company(company: Mapping[str, Any]) -> pl.DataFrame:
    try:
        frame = pl.DataFrame(
            {"t": company["t"], **{name: company[short] for short, name in _ARRAYS.items()}},
            schema=_COLUMNS,
            strict=True,
        )
        if frame.schema != _COLUMNS:  # an object among numbers makes a column of objects
            raise TypeError("not all of them are numbers")
        frame = frame.with_columns(
            raw_symbol=pl.lit(company["ticker"], dtype=pl.String), exchange=pl.lit(company["floor"], dtype=pl.String)
        )
    except (KeyError, TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        raise Malformed(f"a company is not told in arrays: {str(error)[:120]}", hint=_HINT) from error
    if not all(frame[name].is_finite().all() for name in _ARRAYS.values()):  # 1e999 is infinity
        raise Malformed("a company has values that are not finite", hint=_HINT)
    if frame["raw_symbol"].null_count():
        raise Malformed("a company has no ticker", hint=_HINT)
    if not frame["t"].is_between(0, _LAST_SECOND).fill_null(value=False).all():
        raise Malformed("a company has times that are none", hint=_HINT)
    day = pl.from_epoch("t", "s").dt.replace_time_zone("UTC").dt.convert_time_zone(VN.timezone).dt.date()
    return frame.select("raw_symbol", day.alias("session"), *_ARRAYS.values(), "exchange")
