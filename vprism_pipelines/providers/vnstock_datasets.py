"""Readers of what KBS and VCI say beside bars: price boards, single trades, statements, ratios, companies.

The vnstock process hands these answers on as the source gave them, so recordings of the hosts have the same shapes:

| answer                   | known by                     | instant                    | side             |
|--------------------------|------------------------------|----------------------------|------------------|
| KBS board                | `SB` and `CP`                | `ts` or `t`, ms since 1970 |                  |
| VCI board                | `listingInfo`, `matchPrice`  | ISO, or ms since 1970      |                  |
| KBS trades               | `FMP`                        | local time, hundredths     | `LC`: B, S, none |
| VCI trades               | `truncTime`                  | seconds since 1970         | `matchType`: b, s |
| VCI statements           | `yearReport`, `lengthReport` | published on `publicDate`  |                  |
| VCI ratios               | `ratioType`                  | end of the quarter         |                  |
| VCI company              | `viOrganName`                | the day of the answer      |                  |

Prices are VND, volumes shares. KBS states traded value in VND, VCI in million VND.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import polars as pl

from vprism_pipelines.errors import Malformed, NoData
from vprism_pipelines.market.spec import VN
from vprism_pipelines.providers.base import Dataset, Parsed, Payload, raw_frame
from vprism_pipelines.providers.figures import Figure, figures_frame, quarter_end
from vprism_pipelines.providers.text_tables import numbers
from vprism_pipelines.providers.window import within

__all__ = ["parse_dataset"]

Row = Mapping[str, Any]

_AUCTION: Final = ("ATO", "ATC", "")  # instead of a price: an order at whatever price the auction finds
_LAST_MS: Final = 7_258_118_400_000  # the year 2200
_STATEMENTS: Final = {"balance_sheet": "balance", "income_statement": "income", "cash_flow": "cash_flow"}
_META: Final = re.compile(r"(year|length)Report|year|quarter|.*Id|.*Date|createDate|updateDate")
_RATIO_UNITS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(("marketCap", "ebit", "ebitda", "equity", "ownersEquity", "charterCapital"), "currency"),
        **dict.fromkeys(("eps", "epsTTM", "bvps", "earningPerShare", "bookValuePerShare"), "per_share"),
        **dict.fromkeys(("numberOfSharesMktCap", "issueShare"), "shares"),
        **dict.fromkeys(
            ("daySaleOutstanding", "daysInventoryOutstanding", "daysPayableOutstanding", "cashCycle"), "days"
        ),
    }
)
_COMPANY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "numberOfSharesMktCap": "shares",
        "freeFloat": "shares",
        "marketCap": "currency",
        "freeFloatPercentage": "ratio",
        "foreignerPercentage": "ratio",
    }
)


def parse_dataset(payload: Payload, content: Any) -> Parsed | None:
    """Frames of an answer of one of the shapes above; None when it has none of them.

    Raises:
        NoData: There is nothing in it, or nothing in the window asked for.
        Malformed: A number is no number, or an instant none.
    """
    inner = content.get("data", content) if isinstance(content, dict) else content
    if isinstance(inner, dict) and "viOrganName" in inner:
        return _company(payload, inner)
    if not isinstance(inner, list) or not inner or not all(isinstance(row, dict) for row in inner):
        return None
    return next((read(payload, inner) for keys, read in _READERS if keys <= set(inner[0])), None)


# --- quotes and ticks -----------------------------------------------------------------------------------------------


def _kbs_board(payload: Payload, rows: Sequence[Row]) -> Parsed:
    return _quotes(
        payload,
        {
            "raw_symbol": [row.get("SB") for row in rows],
            "instant": [row.get("ts", row.get("t")) for row in rows],
            "last": [row.get("CP") for row in rows],
            "bid": [row.get("B1") for row in rows],
            "ask": [row.get("S1") for row in rows],
            "reference": [row.get("RE") for row in rows],
            "volume": [row.get("TT") for row in rows],
            "value": [row.get("TV") for row in rows],
        },
    )


def _vci_board(payload: Payload, rows: Sequence[Row]) -> Parsed:
    listed, matched, offers = (
        [_part(row.get(name)) for row in rows] for name in ("listingInfo", "matchPrice", "bidAsk")
    )
    return _quotes(
        payload,
        {
            "raw_symbol": [row.get("symbol") for row in listed],
            "instant": [row["time"] if "T" in str(row.get("time")) else row.get("receivedTime") for row in matched],
            "last": [row.get("matchPrice") for row in matched],
            "bid": [_best(row.get("bidPrices")) for row in offers],
            "ask": [_best(row.get("askPrices")) for row in offers],
            "reference": [row.get("refPrice") for row in listed],
            "volume": [row.get("accumulatedVolume") for row in matched],
            "value": [row.get("accumulatedValue") for row in matched],
        },
        value_unit=1e6,
    )


def _quotes(payload: Payload, columns: Mapping[str, Sequence[Any]], *, value_unit: float = 1.0) -> Parsed:
    amounts = ("last", "bid", "ask", "reference", "volume", "value")
    table = (
        pl.DataFrame(
            [
                _symbols(columns["raw_symbol"]),
                _instants(columns["instant"]),
                *(numbers(columns[name], name, missing=_AUCTION).alias(name) for name in amounts),
            ]
        )
        .with_row_index("row")
        .with_columns(currency=pl.lit(VN.currency), value_unit=pl.lit(value_unit))
    )
    traded = table.filter(pl.col("last") > 0)
    if traded.is_empty():
        raise NoData("no symbol of the board has traded yet", hint="ask again after the opening")
    idle = table.height - traded.height
    return Parsed({"quotes": raw_frame("quotes", traded, payload)}, (f"{idle} without a trade",) if idle else ())


def _kbs_trades(payload: Payload, rows: Sequence[Row]) -> Parsed:
    # The running volume of the session numbers its trades: no two have the same.
    return _ticks(
        payload,
        symbols=[row.get("SB") for row in rows],
        at=_local([row.get("t") for row in rows]),
        columns={
            name: [row.get(key) for row in rows] for name, key in (("seq", "AVO"), ("price", "FMP"), ("volume", "FV"))
        },
        sides=[row.get("LC") or "auction" for row in rows],
    )


def _vci_trades(payload: Payload, rows: Sequence[Row]) -> Parsed:
    keys = (("seq", "id"), ("price", "matchPrice"), ("volume", "matchVol"))
    return _ticks(
        payload,
        symbols=[row.get("symbol") for row in rows],
        at=_instants([_milliseconds(row.get("truncTime")) for row in rows]),
        columns={name: [row.get(key) for row in rows] for name, key in keys},
        sides=[row.get("matchType") for row in rows],
    )


def _ticks(
    payload: Payload,
    *,
    symbols: Sequence[Any],
    at: pl.Series,
    columns: Mapping[str, Sequence[Any]],
    sides: Sequence[Any],
) -> Parsed:
    sides_of = {"b": "buy", "s": "sell", "auction": "auction"}
    table = pl.DataFrame(
        [
            _symbols(symbols),
            at,
            *(numbers(values, name).alias(name) for name, values in columns.items()),
            pl.Series("side", [sides_of.get(str(side).lower()) for side in sides], dtype=pl.String),
        ]
    ).with_row_index("row")
    session = pl.col("instant").dt.convert_time_zone(VN.timezone).dt.date()
    asked = table.with_columns(session=session).filter(
        pl.col("session").is_null() | within("session", payload.request.start, payload.request.end)
    )
    if asked.is_empty():
        raise NoData("no trade of the sessions asked for", hint="the source keeps the last session only")
    return Parsed({"ticks": raw_frame("ticks", asked.drop("session").cast({"seq": pl.Int64}, strict=False), payload)})


# --- figures and companies ------------------------------------------------------------------------------------------


def _statements(payload: Payload, rows: Sequence[Row]) -> Parsed:
    statement = _STATEMENTS.get(str(payload.request.params.get("statement")), "report")

    def figures() -> Iterator[Figure]:
        for row in rows:
            length = row.get("lengthReport")
            kind = "Q" if length in (1, 2, 3, 4) else "Y"
            end = quarter_end(row.get("yearReport"), length if kind == "Q" else 4)
            published = str(row.get("publicDate") or "")[:10]
            for item, value in _values(row):
                yield Figure(end, kind, statement, item, value, "currency", VN.currency, published=published)

    return _figures(payload, rows, figures())


def _ratios(payload: Payload, rows: Sequence[Row]) -> Parsed:
    def figures() -> Iterator[Figure]:
        for row in rows:
            trailing = row.get("ratioType") == "RATIO_TTM"
            end = quarter_end(row.get("year"), row.get("quarter") if trailing else 4)
            for item, value in _values(row):
                unit = _RATIO_UNITS.get(item, "ratio")
                yield Figure(end, "TTM" if trailing else "Y", "ratio", item, value, unit, VN.currency)

    return _figures(payload, rows, figures())


def _figures(payload: Payload, rows: Sequence[Row], figures: Iterator[Figure]) -> Parsed:
    symbol = rows[0].get("ticker") or payload.request.provider_symbol
    if not isinstance(symbol, str) or not symbol:
        raise Malformed("the figures name no symbol and neither does their request")
    return Parsed({"fundamentals": figures_frame(symbol, figures, payload)})


def _company(payload: Payload, about: Row) -> Parsed:
    """What a company is, and its figures of today; an answer to a question about figures is taken for those alone."""
    symbol = about.get("ticker") or payload.request.provider_symbol
    if not isinstance(symbol, str) or not symbol:
        raise Malformed("the company names no symbol and neither does its request")
    today = VN.today(payload.fetched_at).isoformat()
    figures = [
        Figure(today, "D", "market", item, about[item], unit, VN.currency)
        for item, unit in _COMPANY.items()
        if about.get(item) is not None
    ]
    frames: dict[Dataset, pl.DataFrame] = {}
    if figures:
        frames["fundamentals"] = figures_frame(symbol, figures, payload)
    if payload.request.dataset != "fundamentals":
        texts = {"name": about["viOrganName"], "sector": about.get("sector")}
        row = {"raw_symbol": symbol, **{name: text if isinstance(text, str) else None for name, text in texts.items()}}
        table = pl.DataFrame([row], schema=dict.fromkeys(row, pl.String)).with_columns(
            listed=pl.lit(str(about.get("listingDate"))[:10]).str.to_date("%Y-%m-%d", strict=False)
        )
        frames["instruments"] = raw_frame("instruments", table, payload)
    if not frames:
        raise NoData("nothing is said of this company", hint="it may be listed under another code")
    return Parsed(frames)


# --- cells ----------------------------------------------------------------------------------------------------------


def _symbols(values: Sequence[Any]) -> pl.Series:
    if not all(isinstance(value, str) and value for value in values):
        raise Malformed("a row names no symbol")
    return pl.Series("raw_symbol", values, dtype=pl.String)


def _instants(values: Sequence[Any]) -> pl.Series:
    """Milliseconds since 1970, or ISO text in UTC."""
    texts = pl.Series("instant", [None if value is None else str(value) for value in values], dtype=pl.String)
    number = texts.cast(pl.Int64, strict=False)
    stamps = number.set(~number.is_between(0, _LAST_MS), None).cast(pl.Datetime("ms")).cast(pl.Datetime("us"))
    written = texts.str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", strict=False, time_unit="us")
    return stamps.fill_null(written).dt.replace_time_zone("UTC").alias("instant")


def _local(values: Sequence[Any]) -> pl.Series:
    """Vietnamese wall clock with hundredths of a second: `2026-08-07 14:45:15:38`."""
    texts = pl.Series("instant", [None if value is None else str(value) for value in values], dtype=pl.String)
    seconds = texts.str.slice(0, 19).str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False, time_unit="us")
    hundredths = texts.str.slice(20, 2).cast(pl.Int64, strict=False).fill_null(0)
    local = seconds + (hundredths * 10_000).cast(pl.Duration("us"))
    zoned = local.dt.replace_time_zone(VN.timezone, ambiguous="null", non_existent="null")
    return zoned.dt.convert_time_zone("UTC").alias("instant")


def _milliseconds(seconds: Any) -> str | None:
    return f"{seconds}000" if str(seconds).isdecimal() else None


def _best(levels: Any) -> Any:
    """Price of the first level of an order book."""
    return _part(levels[0]).get("price") if isinstance(levels, list) and levels else None


def _part(node: Any) -> Row:
    return node if isinstance(node, dict) else {}


def _values(row: Row) -> Iterator[tuple[str, float]]:
    """The figures of a row: its numbers that are no part of its heading."""
    for name, value in row.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and not _META.fullmatch(name):
            yield name, value


_READERS: Final[tuple[tuple[set[str], Callable[[Payload, Sequence[Row]], Parsed]], ...]] = (
    ({"SB", "CP"}, _kbs_board),
    ({"listingInfo", "matchPrice"}, _vci_board),
    ({"FMP", "FV"}, _kbs_trades),
    ({"truncTime", "matchPrice"}, _vci_trades),
    ({"yearReport", "lengthReport"}, _statements),
    ({"ratioType", "year"}, _ratios),
)
