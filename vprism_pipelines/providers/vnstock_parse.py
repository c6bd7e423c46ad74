"""Readers of what KBS and VCI say, through vnstock or as recorded from their own hosts.

| answer                    | price                          | value       | session              | order        |
|---------------------------|--------------------------------|-------------|----------------------|--------------|
| KBS rows, raw or vnstock  | VND                            | VND         | date part of `t`     | newest first |
| VCI table of vnstock      | thousand VND, rounded to 10 VND | none       | date part of `time`  | oldest first |
| VCI gap-chart, raw        | VND                            | million VND | 00:00 UTC stamp      | oldest first |

Indices and futures are in points everywhere. Prices of shares are adjusted by the source for every event it knew on
the day of the answer, by factors it does not publish; index levels are as they were. Volumes are shares.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from vprism_pipelines.errors import Malformed, NoData
from vprism_pipelines.market.symbols import parse_canonical
from vprism_pipelines.providers.base import Parsed, Payload, raw_frame
from vprism_pipelines.providers.http_errors import load_json, raise_for_payload
from vprism_pipelines.providers.vnstock_datasets import parse_dataset
from vprism_pipelines.providers.window import within

VERIFIED = "4.0.8"
"""The vnstock release whose units and columns these readers were verified with; patch releases have changed both."""
EVENT_LIMIT = 50
"""Events that VCI gives at once; a full page means that older ones may be missing."""
REFUSED_HEADER = "x-vprism-refused"
"""Header listing what vnstock tried and was not allowed to do, separated by semicolons."""

_ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
_PRICES = ("open", "high", "low", "close")
_KBS = {"stamp": "t", "open": "o", "high": "h", "low": "l", "close": "c", "volume": "v", "value": "va"}
_CHART = {**_KBS, "value": "accumulatedValue"}
_TABLE = {"stamp": "time", "open": "open", "high": "high", "low": "low", "close": "close", "volume": "volume"}
# KBS's "fund" is an ETF or a closed-end fund: it does not say which, the code does.
_ASSETS = {"stock": "STOCK", "etf": "ETF", "cw": "WARRANT", "bond": "BOND", "index": "INDEX"}
# VCI composes the title of a share issue from its method: "Phát hành cổ phiếu - Cổ phiếu thưởng tỉ lệ 20.0%".
_NOT_HOLDERS = r"cbcnv|người lao động|esop|employee|riêng lẻ|private placement"
_ISSUES = {
    "rights": r"quyền mua|rights",
    "stock_dividend": r"cổ tức bằng cổ phiếu|stock dividend|share dividend",
    "bonus": r"cổ phiếu thưởng|bonus",
}
_PRINTED_DIGIT = 0.00051  # half of the last digit of the percentage printed in a title


def parse(payload: Payload) -> Parsed:
    """Frames of one answer, whichever of the shapes above it has.

    Raises:
        ProviderError: It is not an answer, or an answer without data; the class says which.
    """
    raise_for_payload(payload)
    content = load_json(payload)
    if payload.request.url.startswith("vnstock:"):
        return _vnstock(payload, content)
    if isinstance(content, dict) and "data_day" in content:
        symbol = str(content.get("symbol") or "")
        if symbol.upper() != (payload.request.provider_symbol or symbol).upper():
            raise _malformed(payload, f"rows of {symbol}")
        return _bars(payload, symbol, _columns(payload, content["data_day"], _KBS))
    other = parse_dataset(payload, content)
    if other is not None:
        return other
    charts = content.get("data") if isinstance(content, dict) else content
    if isinstance(charts, list) and all(isinstance(chart, dict) and "t" in chart for chart in charts):
        return _chart(payload, charts)
    said = (content.get("message") or content.get("errorCode")) if isinstance(content, dict) else None
    raise _malformed(payload, f"the source refused: {said}" if said else "neither daily rows nor a daily chart")


def _vnstock(payload: Payload, content: Any) -> Parsed:
    if not isinstance(content, dict) or "rows" not in content:
        raise _malformed(payload, "something else than an answer of the vnstock process")
    notes = [f"vnstock was refused: {what}" for what in payload.headers.get(REFUSED_HEADER, "").split("; ") if what]
    versions = content.get("versions")
    release = versions.get("vnstock") if isinstance(versions, dict) else None
    if release != VERIFIED:
        notes.append(f"units were verified with vnstock {VERIFIED}, this answer came from {release}")
    symbol, rows = str(content.get("symbol") or ""), content["rows"]
    if rows == []:
        raise _no_data(payload)
    match content.get("op"), content.get("source"):
        case "history", "KBS":
            parsed = _bars(payload, symbol, _columns(payload, rows, _KBS))
        case "history", "VCI":
            unit = 1.0 if str(content.get("asset_type")) in {"index", "derivative"} else 1000.0
            parsed = _bars(payload, symbol, _columns(payload, rows, _TABLE), price_unit=unit)
        case "listing", _:
            parsed = _instruments(payload, rows)
        case "events", _:
            parsed = _actions(payload, symbol, rows)
        case question:
            read = parse_dataset(payload, rows)
            if read is None:
                raise _malformed(payload, f"something else than an answer to {question}")
            parsed = read
    return Parsed(parsed.frames, (*notes, *parsed.notes))


# --- bars ---------------------------------------------------------------------------------------------------------


def _chart(payload: Payload, charts: Sequence[Mapping[str, Any]]) -> Parsed:
    """The chart of the symbol asked for: parallel lists, time stamps as text."""
    if not charts:
        raise _no_data(payload)
    wanted = payload.request.provider_symbol
    named = {str(chart.get("symbol") or "").upper(): chart for chart in charts}
    if wanted is None or (len(charts) == 1 and _asset(payload) == "INDEX"):
        chart = charts[0]  # VCI answers about an index under a name of its own: HNXUpcomIndex
    elif wanted.upper() in named:
        chart = named[wanted.upper()]
    else:
        raise _malformed(payload, f"charts of {', '.join(named)}")
    columns = {name: chart[key] for name, key in _CHART.items() if key in chart}
    if not all(isinstance(column, list) for column in columns.values()):
        raise _malformed(payload, "a chart whose columns are not lists")
    if len({len(column) for column in columns.values()}) > 1:
        raise _malformed(payload, "a chart with columns of different length")
    columns["stamp"] = [_session(payload, stamp) for stamp in columns["stamp"]]
    return _bars(payload, str(chart.get("symbol") or ""), columns, value_unit=1e6)


def _session(payload: Payload, stamp: Any) -> str:
    """The session of a daily time stamp: midnight, in UTC or on the spot."""
    try:
        moment = datetime.fromtimestamp(int(stamp), UTC).astimezone(_ZONE)
    except (TypeError, ValueError, OverflowError, OSError):
        raise _malformed(payload, f"time stamp {str(stamp)[:40]!r}") from None
    if moment.hour not in (0, 7) or moment.minute or moment.second:
        raise _malformed(payload, f"an intraday bar at {moment:%H:%M}, daily bars were asked for")
    return moment.date().isoformat()


def _bars(
    payload: Payload,
    symbol: str,
    columns: Mapping[str, Sequence[Any]],
    *,
    price_unit: float = 1.0,
    value_unit: float = 1.0,
) -> Parsed:
    request, height = payload.request, len(columns["stamp"])
    if not height:
        raise _no_data(payload)
    frame = pl.DataFrame(
        [
            pl.Series("session", [str(stamp)[:10] for stamp in columns["stamp"]]).str.to_date("%Y-%m-%d", strict=False),
            *(_numbers(payload, name, columns.get(name)) for name in (*_PRICES, "volume") if name in columns),
            _numbers(payload, "value", columns.get("value", [None] * height)),
        ]
    ).with_row_index("row")
    if frame["session"].null_count():
        raise _malformed(payload, "a row without a session date")
    if missing := [name for name in _PRICES if name not in frame.columns or frame[name].null_count() == height]:
        raise _malformed(payload, f"rows without {', '.join(missing)}")
    frame = frame.unique(subset=frame.columns[1:], keep="first", maintain_order=True)
    if frame["session"].is_duplicated().any():
        raise _malformed(payload, "several rows for one session: intraday or conflicting data")
    frame = frame.filter(within("session", request.start, request.end))
    if frame.is_empty():
        raise _no_data(payload)
    as_traded = _asset(payload) in {"INDEX", "FUTURES"}
    bars = frame.sort("session").with_columns(
        raw_symbol=pl.lit(request.provider_symbol or symbol),
        price_basis=pl.lit("raw" if as_traded else "adjusted_by_source"),
        basis_factor=pl.lit(1.0 if as_traded else None, dtype=pl.Float64),
        price_unit=pl.lit(price_unit),
        value_unit=pl.lit(value_unit),
    )
    return Parsed({"bars": raw_frame("bars", bars, payload)})


def _columns(payload: Payload, rows: Any, keys: Mapping[str, str]) -> dict[str, list[Any]]:
    """A list of rows as columns; what a row lacks is null."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _malformed(payload, "not a list of rows")
    return {name: [row.get(key) for row in rows] for name, key in keys.items()}


def _numbers(payload: Payload, name: str, values: Sequence[Any] | None) -> pl.Series:
    """Numbers, or text that spells them: index rows mix both. Empty text is null."""

    def each() -> Iterator[float | None]:
        for value in values or ():
            number = None if value is None or value == "" else float(value)
            if isinstance(value, bool) or (number is not None and not math.isfinite(number)):
                raise ValueError(value)
            yield number

    try:
        return pl.Series(name, list(each()), dtype=pl.Float64)
    except (TypeError, ValueError, OverflowError):
        raise _malformed(payload, f"{name} is not a finite number everywhere") from None


# --- listings and events ------------------------------------------------------------------------------------------


def _instruments(payload: Payload, rows: Any) -> Parsed:
    columns = _columns(payload, rows, {name: name for name in ("symbol", "type", "organ_name", "exchange", "sector")})
    instruments = (
        pl.DataFrame([_texts(name, values) for name, values in columns.items()])
        .with_row_index("row")
        .drop_nulls("symbol")
        .select(
            "row",
            "exchange",
            "sector",
            raw_symbol="symbol",
            asset=pl.col("type").str.to_lowercase().replace_strict(_ASSETS, default=None, return_dtype=pl.String),
            name="organ_name",
        )
    )
    if instruments.is_empty():
        raise _malformed(payload, "a listing without symbols")
    return Parsed({"instruments": raw_frame("instruments", instruments, payload)})


def _actions(payload: Payload, symbol: str, rows: Any) -> Parsed:
    """Cash dividends, stock dividends and bonus issues that are certain; the rest is counted in the notes.

    An event is certain when it has an ex-date, a known kind and a size, and when the ratio printed in its title agrees
    with the number beside it. A rights issue never is: VCI does not say at which price the new shares are sold.
    """
    texts = ("event_code", "event_title_vi", "event_title_en", "exright_date")
    sizes = ("exercise_ratio", "value_per_share")
    columns = _columns(payload, rows, {name: name for name in (*texts, *sizes)})
    events = (
        pl.DataFrame(
            [
                *(_texts(name, columns[name]) for name in texts),
                *(_numbers(payload, name, columns[name]) for name in sizes),
            ]
        )
        .with_row_index("row")
        .with_columns(
            ex_date=pl.col("exright_date").str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False),
            title=pl.coalesce("event_title_vi", "event_title_en"),
            words=pl.concat_str(
                "event_title_vi", "event_title_en", separator="\n", ignore_nulls=True
            ).str.to_lowercase(),
        )
        .with_columns(kind=_kind())
        .with_columns(doubt=_doubt())
    )
    cash = pl.col("kind") == "cash"
    actions = events.filter(pl.col("doubt").is_null()).select(
        "row",
        "ex_date",
        raw_symbol=pl.lit(payload.request.provider_symbol or symbol),
        event_type="kind",
        cash=pl.when(cash).then("value_per_share").otherwise(0.0),
        bonus_ratio=pl.when(cash).then(0.0).otherwise("exercise_ratio"),
        currency=pl.lit("VND"),
        detail="title",
    )
    left_out = events.drop_nulls("doubt").group_by("doubt", maintain_order=True).agg(pl.col("ex_date").cast(pl.String))
    notes = [
        f"not emitted: {len(dates)} {doubt} (ex {', '.join(date or '?' for date in dates)})"
        for doubt, dates in left_out.iter_rows()
    ]
    if events.height >= EVENT_LIMIT:
        notes.append(f"a full page of {events.height} events: older ones may be missing, ask for a shorter window")
    return Parsed({"actions": raw_frame("actions", actions, payload)}, tuple(notes))


def _kind() -> pl.Expr:
    """Event type by code and title; null for a kind that holders take no part in, and for an unknown one."""
    code, words = pl.col("event_code"), pl.col("words")
    issue = pl.coalesce(pl.when(words.str.contains(pattern)).then(pl.lit(kind)) for kind, pattern in _ISSUES.items())
    return (
        pl.when(words.str.contains(_NOT_HOLDERS))
        .then(None)
        .when(code == "ISS")
        .then(issue)
        .when((code == "DIV") & issue.is_null())
        .then(pl.lit("cash"))
    )


def _doubt() -> pl.Expr:
    """Why an event is not certain; null when it is."""
    kind, ratio = pl.col("kind"), pl.col("exercise_ratio")
    size = pl.when(kind == "cash").then("value_per_share").otherwise(ratio)
    words, number = pl.col("words").str.replace_all(",", "."), r"([0-9]+(?:\.[0-9]+)?)"
    percent = words.str.extract(number + r"\s*%").cast(pl.Float64) / 100
    old, new = (words.str.extract(rf"{number}\s*:\s*{number}", group).cast(pl.Float64) for group in (1, 2))
    printed = pl.coalesce(percent, new / old)
    said = pl.struct("ex_date", "event_code", "words", "exercise_ratio", "value_per_share")
    return (
        pl.when(kind.is_null())
        .then(pl.lit("of another kind"))
        .when(~said.is_first_distinct())
        .then(pl.lit("said twice"))
        .when(pl.col("ex_date").is_null())
        .then(pl.lit("without an ex-date"))
        .when(kind == "rights")
        .then(pl.lit("rights issues without a subscription price"))
        .when(size.fill_null(0.0) <= 0)
        .then(pl.lit("without a size"))
        .when((kind != "cash") & ((printed - ratio).abs() > _PRINTED_DIGIT))
        .then(pl.lit("whose title contradicts its ratio"))
    )


# --- small things -------------------------------------------------------------------------------------------------


def _texts(name: str, values: Sequence[Any]) -> pl.Series:
    """Text in composed form (Vietnamese letters come both ways); blank is null."""
    texts = [
        unicodedata.normalize("NFC", str(value)).strip() or None if value is not None else None for value in values
    ]
    return pl.Series(name, texts, dtype=pl.String)


def _asset(payload: Payload) -> str:
    """Asset class of the canonical symbol asked for; of a recording without one, what its address says."""
    request = payload.request
    if request.symbol:
        return parse_canonical(request.symbol).asset
    return "INDEX" if "/index/" in request.url else ""


def _malformed(payload: Payload, what: str) -> Malformed:
    return Malformed(
        f"{payload.request.provider} sent {what}",
        hint="replay the archived payload to see what came; the source's format may have changed",
        **_where(payload),
    )


def _no_data(payload: Payload) -> NoData:
    request = payload.request
    return NoData(
        f"{request.provider} has no {request.dataset} of {request.symbol or request.provider_symbol} in the window",
        hint="neither source tells an unknown symbol from an empty window: see whether its listing has the symbol",
        **_where(payload),
    )


def _where(payload: Payload) -> dict[str, Any]:
    request = payload.request
    return {
        "provider": request.provider,
        "dataset": request.dataset,
        "symbol": request.symbol,
        "start": request.start,
        "end": request.end,
        "fetch_id": payload.fetch_id,
    }
