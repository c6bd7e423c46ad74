"""Tencent: daily bars of mainland China and Hong Kong as traded, from the kline API; quotes as bars that still move.

Unofficial and without a key. Adjusted series are recognised by their key (`qfqday`, `hfqday`) and never taken for
traded prices; one that was never adjusted comes as `day` whatever was asked.
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
from vprism_pipelines.providers.text_tables import (
    PRICES,
    as_object,
    bar_table,
    column,
    daily_bars,
    quote_lines,
    script_json,
)
from vprism_pipelines.providers.web import Span, WebProvider

__all__ = ["TencentProvider"]

_URLS: Final = {
    "cn": "https://proxy.finance.qq.com/ifzqgtimg/appstock/app/newfqkline/get",
    "hk": "https://web.ifzq.gtimg.cn/appstock/app/hkfqkline/get",
}
_LONGEST: Final = 640
# Calendar days whose sessions always fit into one answer.
_WINDOW_DAYS: Final = 730
_STAR_UNIT: Final = 1.0  # everything else on the mainland is counted in lots

_ROW: Final = ("session", "open", "close", "high", "low", "volume")
_AMOUNT: Final = 8
_AMOUNT_UNIT: Final = 1e4
_BASES: Final = {"day": "raw", "qfqday": "adjusted_by_source", "hfqday": "adjusted_by_source"}
_OTHER_BARS: Final = re.compile(r"(qfq|hfq)?(week|month|season|year)|m\d+")
_EXCHANGE: Final = re.compile(r"(us|hk|sh|sz|bj)")
_STATE: Final = re.compile(r"([A-Z]+)_(open|close)_([^|]*)")
_PAUSED: Final = "午间"

_QUOTE: Final = re.compile(r'v_([\w.]+)="([^"]*)"')
_NOBODY: Final = "pv_none_match"
_FIELDS: Final = {"close": 3, "open": 5, "volume": 6, "high": 33, "low": 34}
_TIME, _TURNOVER, _VALUE = 30, 35, 37


class TencentProvider(WebProvider):
    """Tencent's market data as a provider."""

    name = "tencent"
    offers: ClassVar[Capabilities] = Capabilities(
        name="tencent",
        title="Tencent Finance",
        markets=("cn", "hk"),
        asset_types=("STOCK", "ETF", "FUND", "INDEX", "CONVERTIBLE_BOND"),
        datasets=("bars",),
        price_basis="raw",
        history="mainland from the listing; two years per request",
        quota=Quota(
            per_minute=60, burst=2, concurrency=2, source="Tencent publishes none: well below what was never refused"
        ),
        licence="undocumented and unlicensed: personal use, no redistribution",
    )

    def _plan(
        self, spec: MarketSpec, dataset: Dataset, symbols: Sequence[str], start: date, end: date, now: datetime
    ) -> list[Request]:
        """One request per symbol and two years, unadjusted."""
        spans: list[Span] = [
            (date.fromordinal(first), min(end, date.fromordinal(first + _WINDOW_DAYS - 1)))
            for first in range(start.toordinal(), end.toordinal() + 1, _WINDOW_DAYS)
        ]

        def ask(spelling: str, span: Span) -> tuple[str, dict[str, str]]:
            since, until = span
            return _URLS[spec.code], {"param": f"{spelling},day,{since},{until},{_LONGEST},"}

        return self._requests(spec.code, dataset, symbols, spans, ask)

    def _read(self, payload: Payload) -> Parsed:
        raise_for_payload(payload)
        if payload.body.lstrip().startswith(b"v_"):
            return _quotes(payload)
        document = as_object(script_json(payload), "the answer")
        if document.get("code") != 0:
            said = str(document.get("msg", ""))[:160]
            if "param" in said.lower():
                raise NotFound(f"Tencent says {said!r}", hint="the symbol is unknown, or a parameter is wrong")
            raise ProviderError(f"Tencent says {said!r} with code {str(document.get('code'))[:20]}", hint="see msg")
        data = document.get("data")
        if not data:
            raise NoData("the answer has no data", hint="the symbol may be unknown, or not listed in that window")
        parts = [_bars(symbol, as_object(node or {}, symbol)) for symbol, node in as_object(data, "data").items()]
        return daily_bars(
            pl.concat([bars for bars, _ in parts], how="diagonal"),
            payload,
            [note for _, said in parts for note in said],
        )


def _bars(symbol: str, node: Mapping[str, Any]) -> tuple[pl.DataFrame, list[str]]:
    """Bars of one symbol, and what was said beside them."""
    key = next((key for key in _BASES if key in node), None)
    if key is None:
        longer = next((key for key in node if _OTHER_BARS.fullmatch(key)), None)
        if longer:
            raise Malformed(f"the bars are of kind {longer} where days were asked for", hint="ask for day")
        raise NoData(f"there is no bar of {symbol[:40]}", hint="it may be unknown, or not listed in that window")
    rows = node[key]
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) >= len(_ROW) for row in rows):
        raise Malformed(f"{key} is not a list of rows with {len(_ROW)} cells or more")
    cells = {name: column(rows, place) for place, name in enumerate(_ROW)}
    mainland = symbol.startswith(("sh", "sz", "bj"))
    if rows and mainland and all(len(row) > _AMOUNT for row in rows):
        cells["value"] = column(rows, _AMOUNT)
    live = bool(rows) and _still_moves(symbol, str(rows[-1][0]), str(rows[-1][5]), node)
    table = bar_table(cells).with_columns(
        live=pl.lit(live) & (pl.int_range(pl.len()) == pl.len() - 1),
        price_basis=pl.lit(_BASES[key]),
        basis_factor=pl.lit(1.0 if _BASES[key] == "raw" else None, dtype=pl.Float64),
        value_unit=pl.lit(_AMOUNT_UNIT if "value" in cells else 1.0),
        **_terms(symbol),
    )
    beside = [row[6] for row in rows if len(row) > 6 and isinstance(row[6], dict) and row[6].get("cqr")]
    events = [f"{str(event['cqr'])[:10]} {str(event.get('FHcontent', ''))[:40]}".strip() for event in beside]
    notes = [f"{symbol[:40]} went ex on {'; '.join(events[:20])}"] if events else []
    if _BASES[key] != "raw":
        notes.append(f"{symbol[:40]} is adjusted ({key}): the traded prices are unknown")
    return table, notes


def _still_moves(symbol: str, day: str, volume: str, node: Mapping[str, Any]) -> bool:
    """Whether the last row is a running session's: the market is open that day, or the row is not in its final form.

    Mainland rows are final with three decimals (`424393.000`); the running one has none behind its volume.
    """
    found = _EXCHANGE.match(symbol)
    if found and found[1] in ("sh", "sz", "bj") and "." not in volume:
        return True
    quotes = node.get("qt")
    lines = quotes.values() if isinstance(quotes, dict) else []
    market = quotes.get("market") if isinstance(quotes, dict) else None
    times = [line[_TIME] for line in lines if isinstance(line, list) and len(line) > _TIME]
    if not found or not times or not isinstance(market, list) or not market:
        return False
    states = {place: (state, text) for place, state, text in _STATE.findall(str(market[0]))}
    state, text = states.get(found[1].upper(), ("close", ""))
    today = re.sub(r"\D", "", str(times[0]))[:8] == day.replace("-", "")
    return today and (state == "open" or _PAUSED in text)


def _quotes(payload: Payload) -> Parsed:
    """Quote lines as bars that still move; lines of symbols that did not trade are left out."""
    lines = quote_lines(payload, _QUOTE)
    unknown = lines.pop(_NOBODY, None)
    if not lines:
        raise NotFound("nobody matches the symbol", hint="the quote host spells US symbols without their exchange")
    fields = {name: text.split("~") for name, text in lines.items()}
    if not all(len(line) > _VALUE for line in fields.values()):
        raise Malformed(f"a quote line has not {_VALUE + 1} fields or more")
    spelled = [_spelling(name, line[2]) for name, line in fields.items()]
    stamps = [re.sub(r"\D", "", line[_TIME])[:8] for line in fields.values()]
    cells = {
        "session": [f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:]}" for stamp in stamps],
        **{name: [line[place] for line in fields.values()] for name, place in _FIELDS.items()},
        "value": [_traded_value(line) for line in fields.values()],
    }
    table = bar_table(cells, missing=("",)).with_columns(
        pl.Series(key, [_constant(name)[key] for name in spelled], dtype=kind) for key, kind in _TERMS.items()
    )
    traded = table.with_row_index("row").filter(pl.col("volume") > 0, *(pl.col(name) > 0 for name in PRICES))
    notes = [] if unknown is None else ["some symbols are unknown to the quote host"]
    if traded.height < table.height:
        notes.append(f"{table.height - traded.height} quotes without a trade")
    return daily_bars(traded.with_columns(live=pl.lit(value=True)), payload, notes)


def _spelling(name: str, code: str) -> str:
    """With its market; US lines by their code, which tells exchanges and indices apart (`usBRK.B.N`, `us.INX`)."""
    return f"us{code}" if name.startswith("us") else name.removeprefix("r_")


def _traded_value(line: Sequence[str]) -> str:
    """Currency units: mainland lines say them exactly within `price/volume/value`, others on their own."""
    parts = line[_TURNOVER].split("/")
    return parts[2] if len(parts) == 3 else line[_VALUE]


_TERMS: Final = {"raw_symbol": pl.String(), "currency": pl.String(), "volume_unit": pl.Float64()}


def _constant(symbol: str) -> dict[str, object]:
    return {"raw_symbol": symbol, "currency": currency(symbol), "volume_unit": volume_unit(symbol, star=_STAR_UNIT)}


def _terms(symbol: str) -> dict[str, pl.Expr]:
    return {name: pl.lit(value, dtype=_TERMS[name]) for name, value in _constant(symbol).items()}
