"""Nasdaq Data Link, once Quandl: the frozen table WIKI/PRICES (US, to 2018-03-27), and the retired datasets API.

WIKI is as traded, with dividends and splits beside the bars. The datasets API answers 410 since 2024; its shapes (v3
and v1, JSON and CSV) are still read, because archives are full of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any, ClassVar, Final

import polars as pl

from vprism_pipelines.errors import (
    AuthRequired,
    Malformed,
    NoData,
    NotFound,
    PremiumRequired,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    Unavailable,
)
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.providers.base import Capabilities, Dataset, Limit, Parsed, Payload, Quota, Request, raw_frame
from vprism_pipelines.providers.http_errors import load_json, raise_for_payload, retry_after
from vprism_pipelines.providers.text_tables import (
    PRICES,
    as_object,
    column,
    csv_table,
    dates,
    declared_events,
    in_window,
    numbers,
    require_daily,
)
from vprism_pipelines.providers.web import Span, WebProvider, asked
from vprism_pipelines.providers.window import within
from vprism_pipelines.settings import settings

__all__ = ["NasdaqDataLinkProvider"]

_URL: Final = "https://data.nasdaq.com/api/v3/datatables/WIKI/PRICES.json"
_SPAN: Final = (date(1962, 1, 2), date(2018, 3, 27))
_PAGE: Final = 10_000
_CURSOR: Final = "qopts.cursor_id"
# Sessions in so many days always fit into one page.
_WINDOW: Final = timedelta(days=38 * 365)
_NOT_DAILY: Final = "ask for daily bars without collapse and transform"

_EXPLAINED: Final = (400, 401, 402, 403, 404, 410, 413, 414, 422, 429, 500, 503)
_CODES: Final[tuple[tuple[re.Pattern[str], type[ProviderError], str], ...]] = tuple(
    (re.compile(pattern), error, hint)
    for pattern, error, hint in (
        (r"QELx0[123]", QuotaExhausted, "the day's requests are used up; a key of your own has more"),
        (r"QELx0[45]", RateLimited, "wait ten minutes"),
        (r"QELx", ProviderError, "ask for fewer rows or tickers at a time"),
        (r"QEA", AuthRequired, "check QUANDL_API_KEY"),
        (r"QEP", PremiumRequired, "this product needs a subscription"),
        (r"QEC", NotFound, "check the code of the table or data set"),
        (r"QES", ProviderError, "a parameter is wrong"),
        (r"QE[MX]", Unavailable, "the service failed: run again later"),
    )
)
_TEN_MINUTES: Final = 600.0
_COLUMNS: Final = {
    "date": "session",
    "trade date": "session",
    "ticker": "raw_symbol",
    **{name: name for name in PRICES},
    "volume": "volume",
    "total trade quantity": "volume",
    "ex-dividend": "dividend",
    "split ratio": "split",
    "split_ratio": "split",
    "adj. close": "adj_close",
    "adj_close": "adj_close",
}
_DATASET: Final = re.compile(r"/datasets/([A-Za-z0-9_]+)/([A-Za-z0-9_]+)")
_DAILY: Final = (None, "", "none", "daily")


class NasdaqDataLinkProvider(WebProvider):
    """Nasdaq Data Link as a provider: what is left of its free US prices."""

    name = "nasdaq_data_link"
    offers: ClassVar[Capabilities] = Capabilities(
        name="nasdaq_data_link",
        title="Nasdaq Data Link (WIKI/PRICES)",
        markets=("us",),
        asset_types=("STOCK",),
        datasets=("bars", "actions"),
        price_basis="raw",
        history="some 3,200 US stocks from 1962 to 2018-03-27, when it was frozen",
        quota=Quota(
            per_day=50_000,
            concurrency=1,
            windows=(Limit(300, 10), Limit(2_000, 600)),
            source="docs.data.nasdaq.com, Rate Limits: registered users with a key",
        ),
        licence="WIKI was given to the public domain by its community; the service asks for a key",
        needs_key="QUANDL_API_KEY",
        immutable=True,
        span=_SPAN,
    )

    def _plan(
        self, spec: MarketSpec, dataset: Dataset, symbols: Sequence[str], start: date, end: date, now: datetime
    ) -> list[Request]:
        """One request per symbol and 38 years, so that an answer is always one page; its rows hold bars and actions.

        Nothing is planned for sessions after the table was frozen.
        """
        spans: list[Span] = []
        first, last = max(start, _SPAN[0]), min(end, _SPAN[1])
        while first <= last:
            until = min(last, first + _WINDOW)
            spans.append((first, until))
            first = until + timedelta(days=1)

        def ask(ticker: str, span: Span) -> tuple[str, dict[str, str]]:
            since, until = map(str, span)
            return _URL, {"ticker": ticker, "date.gte": since, "date.lte": until, "qopts.per_page": str(_PAGE)}

        return self._requests(spec.code, dataset, symbols, spans, ask)

    def _secrets(self) -> Mapping[str, str] | None:
        key = settings().quandl_api_key
        return {"x-api-token": key.get_secret_value()} if key and key.get_secret_value() else None

    def _read(self, payload: Payload) -> Parsed:
        raise_for_payload(payload, handled=_EXPLAINED)
        if payload.body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
            return _parse_json(_document(payload), payload)
        raise_for_payload(payload)
        table = csv_table(payload)
        if "file.status" in table.columns and table.height:
            raise _export(table["file.status"][0])
        name = None if "ticker" in map(str.lower, table.columns) else _dataset_name(payload.request)
        return _rows({column: table[column] for column in table.columns}, name, payload)


def _document(payload: Payload) -> Mapping[str, Any]:
    """The JSON of a successful answer.

    Raises:
        ProviderError: The payload is a failure, of HTTP or in the service's own words, or no object.
    """
    raise_for_payload(payload, handled=_EXPLAINED)
    try:
        document = load_json(payload)
    except Malformed:
        raise_for_payload(payload)
        raise
    fault = document.get("quandl_error") if isinstance(document, dict) else None
    if isinstance(fault, dict) and payload.status != 410:
        code, said = str(fault.get("code", "")), f"Nasdaq Data Link says {str(fault.get('message', ''))[:160]!r}"
        for pattern, error, hint in _CODES:
            if pattern.match(code):
                wait = retry_after(payload.headers, payload.fetched_at)
                if error is RateLimited:
                    raise RateLimited(said, retry_after=wait or _TEN_MINUTES, hint=hint, reason=code)
                raise error(said, hint=hint, reason=code)
    raise_for_payload(payload)
    if fault:
        raise ProviderError(f"Nasdaq Data Link says {str(fault)[:160]!r}", hint="the request may be wrong")
    document = as_object(document, "the answer")
    complaint = document.get("error") or document.get("errors")
    if complaint:
        raise ProviderError(f"Nasdaq Data Link says {str(complaint)[:160]!r}", hint="the request may be wrong")
    return document


def _parse_json(document: Mapping[str, Any], payload: Payload) -> Parsed:
    if "datatable" in document:
        table = as_object(document["datatable"], "datatable")
        columns = table.get("columns")
        if not isinstance(columns, list):
            raise Malformed("the table names no columns")
        names = [as_object(entry, "a column").get("name") for entry in columns]
        parsed = _rows(_columns(names, table.get("data")), None, payload)
        cursor = as_object(document.get("meta", {}), "meta").get("next_cursor_id")
        if not isinstance(cursor, str | None):
            raise Malformed("the cursor of the next page is no text")
        request = payload.request
        return replace(
            parsed, following=replace(request, params={**request.params, _CURSOR: cursor}) if cursor else None
        )
    if "datatable_bulk_download" in document:
        file = as_object(as_object(document["datatable_bulk_download"], "the download").get("file", {}), "file")
        raise _export(file.get("status"))
    node = document.get("dataset", document.get("dataset_data", document))
    node = as_object(node, "dataset")
    if "column_names" not in node:
        raise Malformed(f"an answer of {', '.join(node)[:80]!r} holds no bars", hint="it answers another question")
    if "data" not in node:
        raise NoData("the answer describes a data set and has no row of it", hint="ask without exclude_data")
    if node.get("transform") not in (None, "", "none") or node.get("collapse") not in _DAILY:
        raise Malformed("the data set is collapsed or transformed", hint=_NOT_DAILY)
    if node.get("frequency") not in _DAILY:
        raise Malformed(f"the data set is {str(node['frequency'])[:20]} where days were asked for", hint=_NOT_DAILY)
    code = node.get("dataset_code", node.get("code"))
    database = node.get("database_code", node.get("source_code"))
    name = (database, code) if isinstance(database, str) and isinstance(code, str) else _dataset_name(payload.request)
    return _rows(_columns(node["column_names"], node["data"]), name, payload)


def _columns(names: object, rows: object) -> dict[str, Sequence[object]]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Malformed("the columns have no names")
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == len(names) for row in rows):
        raise Malformed(f"the rows have not all {len(names)} cells")
    return {name: column(rows, place) for place, name in enumerate(names)}


def _rows(
    columns: Mapping[str, Sequence[object] | pl.Series], name: tuple[str, str] | None, payload: Payload
) -> Parsed:
    """Bars, and the dividends and splits beside them. `name`: database and code, when the rows hold no ticker."""
    query = asked(payload.request)
    if query.get("collapse") not in _DAILY or {"transform", "transformation"} & {
        k for k, v in query.items() if v != "none"
    }:
        raise Malformed("the data set is collapsed or transformed", hint=_NOT_DAILY)
    known = {_COLUMNS[key.lower()]: values for key, values in columns.items() if key.lower() in _COLUMNS}
    if not {"session", *PRICES} <= set(known):
        raise Malformed(f"a table of {', '.join(columns)[:80]!r} holds no bars", hint="ask for a table of prices")
    sessions = dates(known["session"], "date")
    if sessions.is_empty():
        raise NoData("the table has no row", hint="the ticker may be unknown, or not listed in that window")
    table = pl.DataFrame(
        [_symbols(known.get("raw_symbol"), name, len(sessions)), sessions.alias("session")]
        + [numbers(known[key], key) for key in (*PRICES, "volume", "adj_close", "dividend", "split") if key in known]
    )
    if table["raw_symbol"].n_unique() == 1:
        require_daily(table["session"])
    as_traded = {"dividend", "split"} <= set(known)
    bars = table.with_row_index("row").with_columns(
        price_basis=pl.lit("raw" if as_traded else "adjusted_by_source"),
        basis_factor=pl.lit(1.0 if as_traded else None, dtype=pl.Float64),
    )
    request = payload.request
    trimmed = in_window(bars, request.start, request.end).drop("dividend", "split", strict=False)
    frames: dict[Dataset, pl.DataFrame] = {"bars": raw_frame("bars", trimmed, payload)}
    if not as_traded:
        return Parsed(frames, ("the table does not say how its prices are adjusted",))
    events = declared_events(bars.filter(within("session", request.start, request.end)))
    if not events.is_empty():
        frames["actions"] = raw_frame("actions", events, payload)
    return Parsed(frames)


def _symbols(tickers: Sequence[object] | pl.Series | None, name: tuple[str, str] | None, rows: int) -> pl.Series:
    if tickers is None:
        if name is None:
            raise Malformed("neither the answer nor its request names the data set")
        return pl.repeat(name[1] if name[0] == "WIKI" else "/".join(name), rows, dtype=pl.String, eager=True).alias(
            "raw_symbol"
        )
    if not isinstance(tickers, pl.Series) and not set(map(type, tickers)) <= {str}:
        raise Malformed("a ticker is not text")
    symbols = pl.Series("raw_symbol", tickers, dtype=pl.String)
    if symbols.null_count():
        raise Malformed("a row has no ticker")
    return symbols


def _dataset_name(request: Request) -> tuple[str, str] | None:
    found = _DATASET.search(request.url) or _DATASET.search(f"/datasets/{request.provider_symbol}")
    if found:
        return found[1], found[2]
    return ("WIKI", request.provider_symbol) if request.provider_symbol else None


def _export(status: object) -> ProviderError:
    if status == "fresh":
        return Malformed("the answer is a link to a file, not rows", hint="download it and put it into the inbox")
    return Unavailable("the export is still being made", hint="ask again in some minutes")
