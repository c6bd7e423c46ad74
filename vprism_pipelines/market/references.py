"""What a session's close is measured against: the reference price, the change from it, and the price limits around it.

The reference is the last traded close, or on some venues the last session's average price; on an ex-date it is the
theoretical price of `market.actions`. Exchanges publish averages and theoretical prices on the tick lattice, and so
does this module where it knows the lattice.
"""

from __future__ import annotations

import polars as pl

from vprism_pipelines.market.rules import band, ceiling, floor, reference_basis, tick, with_venues

SCHEMA: dict[str, pl.DataType] = {
    "reference": pl.Float64(),
    "change": pl.Float64(),
    "limit_hit": pl.Int32(),
}
"""Columns that `references` adds: currency per share; a fraction; 1 closed at the ceiling, -1 at the floor, else 0."""

_DIGITS = 6  # prices on a limit must not depend on float noise


def references(bars: pl.DataFrame) -> pl.DataFrame:
    """Reference price, change and limit hits of traded bars.

    Args:
        bars: Sorted by symbol and session: symbol, session, session_no (ordinal on the exchange), exchange (null:
            unknown), high, low, close (as traded), volume (shares), value (currency units), ref_price (theoretical
            price where a corporate action takes effect, else null). A symbol's first row only serves the next one.

    Returns:
        The columns of `SCHEMA`, one row per bar and in its order. All are null on a symbol's first row; limit_hit is
        null too where no price limit or no exact reference is known.
    """
    same = pl.col("symbol") == pl.col("symbol").shift(1)
    idle = pl.col("session_no").cast(pl.Int64).diff() - 1
    rows = bars.with_columns(pl.col("symbol").cast(pl.String)).select(
        "symbol",
        "exchange",
        "session",
        "high",
        "low",
        "close",
        "ref_price",
        idle=pl.when(same).then(idle),
        before=pl.when(same).then(pl.col("close").shift(1)),
        average=pl.when(same & (pl.col("volume").shift(1) > 0)).then((pl.col("value") / pl.col("volume")).shift(1)),
    )
    rows = with_venues(rows)
    rules = rows.select("venue", "session", "asset").unique(maintain_order=True)
    rules = rules.with_columns(
        basis=reference_basis(pl.col("venue"), pl.col("session")),
        limited=band(pl.col("venue"), pl.col("session"), asset=pl.col("asset")).is_not_null(),
    )
    rows = rows.join(rules, on=["venue", "session", "asset"], how="left", nulls_equal=True, maintain_order="left")
    averaged = pl.col("basis") == "vwap"
    rows = rows.with_columns(
        theoretical=pl.when(pl.col("before").is_not_null()).then(
            pl.coalesce("ref_price", pl.when(averaged).then("average"))
        )
    )
    rows = rows.with_columns(reference=pl.coalesce(_on_lattice(rows), "theoretical", "before"))
    return rows.select("reference", change=pl.col("close") / pl.col("reference") - 1, limit_hit=_limit_hit(rows))


def _on_lattice(rows: pl.DataFrame) -> pl.Series:
    """The theoretical price rounded to the nearest tick, half up; null where there is none or no lattice is known."""
    out = pl.Series("reference", [None], dtype=pl.Float64).new_from_index(0, rows.height)
    places = rows["theoretical"].is_not_null().arg_true()
    if places.is_empty():
        return out
    size = pl.col("size")
    rounded = (
        rows[places]
        .with_columns(size=tick(pl.col("venue"), pl.col("session"), pl.col("theoretical"), asset=pl.col("asset")))
        .with_columns(ticks=(pl.col("theoretical") / size + 0.5 + 10.0**-_DIGITS).floor())
        # Dividing by the reciprocal gives the double nearest to the decimal price.
        .select(pl.when(size < 1).then(pl.col("ticks") / (1 / size).round()).otherwise(pl.col("ticks") * size))
        .to_series()
    )
    return out.scatter(places, pl.select(pl.when(rounded > 0).then(rounded)).to_series())


def _limit_hit(rows: pl.DataFrame) -> pl.Series:
    """1 at the ceiling, -1 at the floor, 0 between them, null where no limit is known."""
    published = (rows["basis"] == "close") | rows["theoretical"].is_not_null()
    known = rows["limited"] & published & rows["reference"].is_not_null()
    # A close at a limit is the extreme of its session: the others need no limit worked out.
    extreme = (rows["close"] == rows["high"]) | (rows["close"] == rows["low"])
    out = pl.select(pl.when(known).then(0).cast(pl.Int32).alias("limit_hit")).to_series()
    places = (known & extreme).fill_null(False).arg_true()
    if places.is_empty():
        return out
    given = pl.col("venue"), pl.col("session"), pl.col("reference").round(_DIGITS)
    facts = {"asset": pl.col("asset"), "idle_sessions": pl.col("idle")}
    close = pl.col("close").round(_DIGITS)
    hit = (
        rows[places]
        .with_columns(top=ceiling(*given, **facts).round(_DIGITS), bottom=floor(*given, **facts).round(_DIGITS))
        .select(
            pl.when(pl.col("top").is_null())
            .then(None)
            .when(close >= pl.col("top"))
            .then(1)
            .when(close <= pl.col("bottom"))
            .then(-1)
            .otherwise(0)
            .cast(pl.Int32)
        )
        .to_series()
    )
    return out.scatter(places, hit)
