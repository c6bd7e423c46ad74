"""Tables that arrive as text: CSV, JSON whose numbers are strings, JSON inside a line of JavaScript. Pure.

Every cell is a date, a finite number or one of the source's own words for "missing"; anything else is `Malformed`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from types import NoneType
from typing import Any, Final

import polars as pl

from vprism_pipelines.errors import Malformed, NoData
from vprism_pipelines.providers.base import Parsed, Payload, raw_frame
from vprism_pipelines.providers.http_errors import load_json
from vprism_pipelines.providers.window import within

__all__ = [
    "PRICES",
    "as_object",
    "bar_table",
    "column",
    "csv_table",
    "daily_bars",
    "dates",
    "declared_events",
    "in_window",
    "numbers",
    "quote_lines",
    "require_daily",
    "script_json",
]

PRICES: Final = ("open", "high", "low", "close")

_CELLS: Final = {str, int, float, NoneType}
_FIRST_DAY, _LAST_DAY = date(1700, 1, 1), date(2200, 1, 1)
_COMMENT: Final = re.compile(rb"\s*/\*.*?\*/", re.DOTALL)
_CALL: Final = re.compile(rb"\s*(?:(?:var\s+)?[\w$.]{1,80}\s*(?:=\s*\(?|\())?")
# The closest two bars of a weekly table: no daily table of four bars or more has only such gaps.
_WEEKLY_GAP: Final = 5


def csv_table(payload: Payload) -> pl.DataFrame:
    """The body as a table of text, empty cells null.

    Raises:
        Malformed: Not text, or not a table.
    """
    try:
        return pl.read_csv(payload.body.decode("utf-8-sig").encode(), infer_schema=False)
    except UnicodeDecodeError as error:
        raise Malformed("the table is not UTF-8 text") from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:  # a panic is no Exception
        raise Malformed("the body is neither JSON nor a table") from error


def script_json(payload: Payload, *, encoding: str = "utf-8-sig") -> Any:
    """JSON, bare or wrapped as `callback(…);`, `var x=…`, `x=(…);`, with comments around it.

    Raises:
        Malformed: What is inside is not sound JSON.
    """
    body = payload.body.removeprefix(b"\xef\xbb\xbf")
    while comment := _COMMENT.match(body):
        body = body[comment.end() :]
    wrapper = _CALL.match(body)
    inner = body[wrapper.end() :] if wrapper and wrapper.group().strip() else body
    tail = inner.rfind(b"/*")
    if tail > max(inner.rfind(b"}"), inner.rfind(b"]")):
        inner = inner[:tail]
    if wrapper and wrapper.group().strip():
        inner = inner.rstrip(b" \t\r\n;)")
    return load_json(payload, body=inner, encoding=encoding)


def quote_lines(payload: Payload, line: re.Pattern[str]) -> dict[str, str]:
    """Lines of JavaScript that assign a quote to a variable, in UTF-8 or GBK: text by symbol.

    Args:
        payload: Whose body to read.
        line: Matches one assignment; group 1 is the symbol, group 2 the text.

    Raises:
        Malformed: Neither encoding fits, or a line is something else.
    """
    try:
        text = payload.body.decode("utf-8-sig")
    except UnicodeDecodeError:
        try:
            text = payload.body.decode("gb18030")
        except UnicodeDecodeError as error:
            raise Malformed("the quotes are neither UTF-8 nor GBK") from error
    if line.sub("", text).strip("; \t\r\n"):
        raise Malformed("there is something between the quotes that is no quote")
    return dict(line.findall(text))


def as_object(node: object, where: str) -> Mapping[str, Any]:
    """A JSON object.

    Args:
        node: What stands there.
        where: Its name for people.

    Raises:
        Malformed: It is something else.
    """
    if not isinstance(node, dict):
        raise Malformed(f"{where[:40]} is {type(node).__name__}, not an object")
    return node


def column(rows: Sequence[Sequence[object]], place: int) -> list[object]:
    """One column of a table given as rows."""
    return [row[place] for row in rows]


def dates(values: Sequence[object] | pl.Series, name: str, *, missing: Collection[str] = ()) -> pl.Series:
    """Text like 2024-01-31 as dates.

    Raises:
        Malformed: Some value is no such date; a time of day makes it none.
    """
    texts = _texts(values, name, missing)
    try:
        days = texts.str.to_date("%Y-%m-%d", strict=True)
    except pl.exceptions.PolarsError as error:
        raise Malformed(f"{name!r} holds something that is not a date") from error
    if not days.is_between(_FIRST_DAY, _LAST_DAY).all():
        raise Malformed(f"{name!r} holds a date that no exchange has seen")
    return days


def numbers(values: Sequence[object] | pl.Series, name: str, *, missing: Collection[str] = ("",)) -> pl.Series:
    """Numbers, or text that spells them, as Float64.

    Raises:
        Malformed: Some value is not a finite number.
    """
    try:
        cells = _texts(values, name, missing).cast(pl.Float64)
    except pl.exceptions.PolarsError as error:
        raise Malformed(f"{name!r} holds something that is not a number") from error
    if not cells.is_finite().all():
        raise Malformed(f"{name!r} holds a number that is not finite")
    return cells


def bar_table(
    cells: Mapping[str, Sequence[object] | pl.Series], *, missing: Collection[str] = ("", "-")
) -> pl.DataFrame:
    """Columns of text as a table of bars: `session` as Date, everything else as Float64, in the order of `cells`.

    Raises:
        Malformed: A session is no date, or another cell no finite number.
    """
    return pl.DataFrame(
        [
            (dates(values, name) if name == "session" else numbers(values, name, missing=missing)).alias(name)
            for name, values in cells.items()
        ]
    )


def daily_bars(bars: pl.DataFrame, payload: Payload, notes: Sequence[str] = ()) -> Parsed:
    """Bars of the sessions that were asked for, as the raw frame.

    Args:
        bars: Columns of the raw frame of bars; with `row` where that is not the order of the rows.
        payload: Where they came from.
        notes: What people should know.

    Raises:
        NoData: None lies in the window.
    """
    numbered = bars if "row" in bars.columns else bars.with_row_index("row")
    inside = in_window(numbered, payload.request.start, payload.request.end)
    return Parsed({"bars": raw_frame("bars", inside, payload)}, tuple(notes))


def in_window(bars: pl.DataFrame, start: date | None, end: date | None) -> pl.DataFrame:
    """Bars of the sessions asked for.

    Raises:
        NoData: There is none.
    """
    inside = bars.filter(within("session", start, end))
    if inside.is_empty():
        raise NoData(
            f"no bar from {start} to {end}", hint="the exchange may have been closed, or the symbol not listed"
        )
    return inside


def require_daily(sessions: pl.Series) -> None:
    """Refuse weekly and monthly bars where nothing else tells them from daily ones.

    Raises:
        Malformed: No two of four bars or more are as close as daily bars are.
    """
    days = sessions.drop_nulls().unique().sort()
    gaps = days.diff().dt.total_days().drop_nulls()
    if len(days) > 3 and gaps.ge(_WEEKLY_GAP).all():
        raise Malformed("the bars are weekly or longer where days were asked for", hint="ask for daily bars")


def declared_events(bars: pl.DataFrame) -> pl.DataFrame:
    """Dividends and splits that stand beside the bars of their ex-dates, as columns of the raw actions frame.

    Args:
        bars: row, raw_symbol, session, dividend (per share, 0 or null: none), split (new shares per old, 1 or null:
            none).

    Returns:
        Oldest first. `row` is the bar's; of two events on one row, the split has the row counted on from the last one.

    Raises:
        Malformed: A split ratio is not positive.
    """
    if bars["split"].le(0).any():
        raise Malformed("a split ratio is zero or negative")
    row, paid = pl.col("row").cast(pl.Int64), (pl.col("dividend") != 0).fill_null(value=False)
    base = {"raw_symbol": pl.col("raw_symbol"), "ex_date": pl.col("session")}
    cash = bars.filter(paid).select(
        row, **base, event_type=pl.lit("cash"), cash=pl.col("dividend"), split_ratio=pl.lit(1.0)
    )
    splits = bars.select(
        row + pl.when(paid).then(row.max() + 1).otherwise(0),
        **base,
        event_type=pl.lit("split"),
        cash=pl.lit(0.0),
        split_ratio=pl.col("split"),
    ).filter(pl.col("split_ratio") != 1)
    return pl.concat([cash, splits]).sort("raw_symbol", "ex_date", maintain_order=True)


def _texts(values: Sequence[object] | pl.Series, name: str, missing: Collection[str]) -> pl.Series:
    if isinstance(values, pl.Series):
        texts = values.cast(pl.String)
    elif set(map(type, values)) <= _CELLS:
        cells = [value if value is None or isinstance(value, str) else repr(value) for value in values]
        texts = pl.Series(name, cells, dtype=pl.String)
    else:
        raise Malformed(f"{name!r} holds something that is neither text nor a number")
    cell = pl.col("cell")
    return (
        texts.str.strip_chars()
        .alias("cell")
        .to_frame()
        .select(pl.when(~cell.is_in(list(missing))).then(cell))
        .to_series()
        .alias(name)
    )
