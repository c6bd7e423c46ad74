"""What is asked of each daily bar on its own, its pull and the calendar: one Boolean per rule of `row_checks`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.order import repeats

__all__ = ["LISTED_IN", "PRICES", "bar_rules", "listed_currency", "mark_duplicates"]

PRICES = ("open", "high", "low", "close")

LISTED_IN: Mapping[str, str] = {
    "CN:STOCK:SH900": "USD",  # B shares in Shanghai
    "CN:STOCK:SZ200": "HKD",  # B shares in Shenzhen
    "HK:STOCK:8": "CNY",  # renminbi counters
}
"""Currency of listings that do not trade in their market's, by the beginning of the symbol."""


def listed_currency(spec: MarketSpec) -> pl.Expr:
    """The currency a symbol's listing trades in."""
    expected: pl.Expr = pl.lit(spec.currency)
    for prefix, currency in LISTED_IN.items():
        if prefix.startswith(f"{spec.prefix}:"):
            expected = pl.when(pl.col("symbol").str.starts_with(prefix)).then(pl.lit(currency)).otherwise(expected)
    return expected


def bar_rules(frame: pl.DataFrame, days: pl.DataFrame, spec: MarketSpec) -> tuple[pl.DataFrame, dict[str, pl.Expr]]:
    """The rules that a bar may break.

    Args:
        frame: Bars of some pulls in the order of delivery: place (row number), provider, fetch_id, symbol, session,
            open, high, low, close, volume, value, currency, calendar, fetched_at (UTC), session_close (null: no
            session).
        days: calendar, session: trading days.
        spec: The market they belong to.

    Returns:
        The frame with what the rules need, and the rules by name.
    """
    frame = mark_duplicates(frame, ["provider", "fetch_id", "symbol", "session"], [*PRICES, "volume"])
    closed = pl.col("session_close").is_null() & pl.col("session").is_not_null()
    if frame.select(closed.any()).item():
        filler, shifted = _fillers(frame, closed), _shifted(frame, closed, days)
    else:
        filler = shifted = pl.Series([], dtype=frame["place"].dtype)
    is_filler = pl.col("place").is_in(filler.implode())
    prices = [pl.col(name) for name in PRICES]
    pulled = frame["fetched_at"].unique()  # few instants in many rows: each is converted once
    days_of = pulled.dt.convert_time_zone(spec.timezone).dt.date()
    today = pl.col("fetched_at").replace_strict(pulled, days_of, return_dtype=pl.Date)
    rules = {
        "missing_date": pl.col("session").is_null(),
        "missing_price": pl.any_horizontal(price.is_null() for price in prices),
        "price_not_finite": pl.any_horizontal(~price.is_finite() for price in prices),
        "price_not_positive": pl.any_horizontal(price <= 0 for price in prices),
        "price_order": (pl.col("low") > pl.min_horizontal("open", "close"))
        | (pl.col("high") < pl.max_horizontal("open", "close")),
        "volume_negative": pl.col("volume") < 0,
        "value_negative": pl.col("value") < 0,
        "wrong_currency": pl.col("currency") != listed_currency(spec),
        "future_session": pl.col("session") > today,
        "not_a_session": closed & ~is_filler,
        "filler": is_filler,
        "shifted_date": pl.col("place").is_in(shifted.implode()),
        "not_monotone": pl.col("out_of_order"),
    }
    return frame.with_columns(out_of_order=_out_of_order(frame)), rules


def mark_duplicates(frame: pl.DataFrame, key: Sequence[str], value: Sequence[str]) -> pl.DataFrame:
    """Add duplicate and contradicts: of identical copies the first stands, of differing ones none can be believed."""
    if not repeats(frame, key):
        return frame.with_columns(duplicate=pl.lit(value=False), contradicts=pl.lit(value=False))
    # Rows of unknown symbols or dates are not copies of each other.
    known = pl.all_horizontal(pl.col(name).is_not_null() for name in key)
    differs = pl.struct(value).n_unique().over(key) > 1
    later = pl.int_range(pl.len()).over(key) > 0
    return frame.with_columns(duplicate=known & later & ~differs, contradicts=known & differs)


def _out_of_order(frame: pl.DataFrame) -> pl.Series:
    """Rows whose date does not fit between those of the two rows before and the two after, which are in order.

    Pulls run up or down, and may be pages put together: only a row that stands alone against all four is wrong. Of two
    rows that changed places nobody can say which is; their dates are kept.
    """
    series, date = pl.col("fetch_id", "symbol"), pl.col("session")
    inside = pl.all_horizontal(series == series.shift(2)) & pl.all_horizontal(series == series.shift(-2))
    second, first, after, last = (date.shift(lag) for lag in (2, 1, -1, -2))
    up = (second < first) & (first < after) & (after < last) & ((date < first) | (date > after))
    down = (second > first) & (first > after) & (after > last) & ((date > first) | (date < after))
    alone = frame.select(alone=(inside & (up | down)).fill_null(value=False))
    here = pl.col("alone")
    return alone.select(here & ~here.shift(1, fill_value=False) & ~here.shift(-1, fill_value=False)).to_series()


def _fillers(frame: pl.DataFrame, closed: pl.Expr) -> pl.Series:
    """Places of bars on closed days that say nothing: no trade at the last close, or the bar before once more."""
    group = ["fetch_id", "symbol"]
    about = frame.join(frame.filter(closed).select(group).unique(), on=group, how="semi").sort(*group, "session")
    same = pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in group)
    known = {name: pl.when(same).then(pl.col(name).shift(1)) for name in (*PRICES, "volume")}
    flat = pl.all_horizontal(pl.col(name) == pl.col("close") for name in PRICES)
    idle = (pl.col("volume") == 0) & flat & (pl.col("close") == known["close"].fill_null(pl.col("close")))
    again = pl.all_horizontal(pl.col(name) == before for name, before in known.items())
    return about.filter(closed & (idle | again).fill_null(value=False))["place"]


def _shifted(frame: pl.DataFrame, closed: pl.Expr, days: pl.DataFrame) -> pl.Series:
    """Places of bars dated a day early.

    A stretch of sessions then begins on the closed day before it, and the day on which the shift ends is left without
    a bar. The bars from the one to the other are all a day early.
    """
    group = ["fetch_id", "symbol"]
    gap = (pl.col("calendar") != pl.col("calendar").shift(1)) | (pl.col("session").diff() != pl.duration(days=1))
    stretches = (
        days.select("calendar", "session")
        .sort("calendar", "session")
        .with_columns(eve=pl.when(gap.fill_null(value=True)).then(pl.col("session").dt.offset_by("-1d")).forward_fill())
    )
    eves = frame.filter(closed, (pl.col("volume") > 0).fill_null(value=True)).select(*group, "calendar", eve="session")
    begun = eves.unique().join(stretches, on=["calendar", "eve"])
    if begun.is_empty():
        return frame["place"].clear()
    about = frame.select("place", *group, "session").join(begun.select(group).unique(), on=group, how="semi")
    missing = (
        begun.join(about, on=[*group, "session"], how="anti")
        .join(about.group_by(group).agg(newest=pl.col("session").max()), on=group)
        .filter(pl.col("session") < pl.col("newest"))
        .group_by(*group, "eve")
        .agg(until=pl.col("session").min())
    )
    found = about.join(missing, on=group)
    return found.filter((pl.col("session") > pl.col("eve")) & (pl.col("session") < pl.col("until")))["place"]
