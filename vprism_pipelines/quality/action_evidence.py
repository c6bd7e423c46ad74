"""What prices say about corporate actions: steps in adjusted series, opening gaps, broken price limits.

Three witnesses. A provider's adjusted close over its raw close is constant between ex-dates and steps at each. The
opening of an ex-date stands near the reference price, not near the previous close. And where an exchange limits a
day's move, a close beyond the limits of one reference price refutes that reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import polars as pl

from vprism_pipelines.market.rules import band, reference_basis, tick, with_venues
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.factors import rounding_unit

__all__ = ["LEAST_STEP", "gaps", "rebased_steps", "series_steps", "weigh"]

FACTOR_NOISE = 2e-4  # relative; two factors rounded to four decimals
LEAST_STEP = 1e-3  # relative; a smaller step is noise whatever the rounding
LEAST_SPREAD = 0.005  # of opening gaps; a calmer series is not believed to be
FREEDOM = 3.0  # degrees of freedom of Student's t: gaps have fat tails
CROWD = 20  # symbols that must open on a session for their median to be the market's move
IDLE_DAYS = 35  # calendar days without a trade after which another band may apply
IMPOSSIBLE = 6.0  # nats: a reference price that the exchange's limits refute

SERIES = ["provider", "symbol"]


def series_steps(adjusted: pl.DataFrame) -> pl.DataFrame:
    """Every row of the providers' adjusted series with the step of its factor against the traded row before.

    A single row beside what its neighbours agree on is a misprint and left out.

    Args:
        adjusted: provider, symbol, session, close (raw), adj_close, both in one currency unit; optionally traded.

    Returns:
        provider, symbol, session, place (of the row: places in a series count its rows), before (session of the row
        before), prev_close (its raw close), adj_close, prev_adj, step (multiplier m as of `golden.factor_steps`; null
        on the first row), noise (relative error that rounding allows), moved (the step is none of it).
    """
    sound = [(pl.col(name).is_finite() & (pl.col(name) > 0)).fill_null(value=False) for name in ("close", "adj_close")]
    traded = pl.col("traded").fill_null(value=True) if "traded" in adjusted.columns else pl.lit(value=True)
    rows = adjusted.filter(traded, *sound).with_columns(_coded(adjusted)).sort(*SERIES, "session")
    factor = pl.col("adj_close") / pl.col("close")
    units = rows.group_by("provider").agg(unit=rounding_unit(pl.col("adj_close")))
    half = pl.col("unit") / 2 / pl.col("adj_close")
    rows = rows.join(units, on="provider", maintain_order="left").with_columns(factor=factor, half=half)
    before, after = (_beside("factor", by, SERIES) for by in (1, -1))
    slack = LEAST_STEP + 2 * pl.col("half")
    alone = [((pl.col("factor") / other - 1).abs() > slack) for other in (before, after)]
    misprint = alone[0] & alone[1] & ((before / after - 1).abs() <= slack)
    rows = rows.filter(~misprint.fill_null(value=False))
    previous = partial(_beside, by=1, key=SERIES)
    steps = rows.select(
        *SERIES,
        "session",
        "adj_close",
        place=pl.int_range(pl.len()),
        before=previous("session"),
        prev_close=previous("close"),
        prev_adj=previous("adj_close"),
        step=pl.col("factor") / previous("factor"),
        noise=FACTOR_NOISE + pl.col("half") + previous("half"),
    )
    moved = ((pl.col("step") - 1).abs() > LEAST_STEP + pl.col("noise")).fill_null(value=False)
    return steps.with_columns(pl.col("symbol").cast(pl.String), moved=moved)


def rebased_steps(rebases: pl.DataFrame, series: pl.DataFrame) -> pl.DataFrame:
    """Rewritten histories as steps, of providers that publish no raw close beside their adjusted one.

    Args:
        rebases: `quality.rebases`; those whose ex-date is not known to the day say nothing.
        series: Of `series_steps`; its providers have testified already.

    Returns:
        provider, symbol, session (the ex-date), step, noise, moved.
    """
    known = pl.col("ex_date").is_not_null() & (
        pl.col("ex_date_latest").fill_null(pl.col("ex_date")) == pl.col("ex_date")
    )
    rounding = ((pl.col("ratio_high") - pl.col("ratio_low")) / pl.col("ratio") / 2).fill_null(0.0)
    return (
        rebases.filter(known, pl.col("factor") > 0, ~pl.col("provider").is_in(series["provider"].unique().implode()))
        .sort("provider", "symbol", "ex_date", "known_from")
        .unique(["provider", "symbol", "ex_date"], keep="last", maintain_order=True)
        .select(
            *SERIES,
            session="ex_date",
            step=1 / pl.col("factor"),
            noise=FACTOR_NOISE + pl.max_horizontal("spread", rounding),
            moved=pl.lit(value=True),
        )
    )


def gaps(bars: pl.DataFrame) -> pl.DataFrame:
    """How each traded bar opened against the close before it.

    Args:
        bars: symbol, session, exchange, open, high, low, close, traded. Without an open the close stands in.

    Returns:
        symbol, session, exchange, close, before, prev_close, prev_high, prev_low of the traded bar before, gap (log of
        open over prev_close, less the market's median of the session), spread (the symbol's usual one: 1.4826 MAD).
    """
    columns = ["symbol", "session", "exchange", "open", "high", "low", "close"]
    traded = bars.filter(pl.col("traded").fill_null(value=True), pl.col("close") > 0).select(columns)
    traded = traded.with_columns(_coded(bars)).sort("symbol", "session")
    previous = partial(_beside, by=1, key=["symbol"])
    opening = pl.when(pl.col("open") > 0).then("open").otherwise("close")
    rows = traded.with_columns(
        before=previous("session"),
        prev_close=previous("close"),
        prev_high=previous("high"),
        prev_low=previous("low"),
        gap=(opening / previous("close")).log(),
    )
    moves = rows.group_by("session").agg(
        market=pl.when(pl.col("gap").count() >= CROWD).then(pl.col("gap").median()).otherwise(0.0)
    )
    rows = rows.join(moves, on="session", how="left", maintain_order="left").with_columns(
        gap=pl.col("gap") - pl.col("market")
    )
    spreads = (
        rows.group_by("symbol")
        .agg(spread=1.4826 * (pl.col("gap") - pl.col("gap").median()).abs().median())
        .with_columns(pl.col("spread").fill_null(LEAST_SPREAD).clip(lower_bound=LEAST_SPREAD))
    )
    kept = ["symbol", "session", "exchange", "close", "before", "prev_close", "prev_high", "prev_low", "gap"]
    rows = rows.select(kept).join(spreads, on="symbol", how="left", maintain_order="left")
    return rows.with_columns(pl.col("symbol").cast(pl.String))


def _beside(name: str, by: int, key: Sequence[str]) -> pl.Expr:
    """The value so many rows before, or after where negative, in the same series; rows are in its order."""
    same = pl.all_horizontal(pl.col(column) == pl.col(column).shift(by) for column in key)
    return pl.when(same).then(pl.col(name).shift(by))


def _coded(rows: pl.DataFrame) -> pl.Expr:
    """Symbols as codes of the same order: several times faster to sort, shift and group by."""
    return pl.col("symbol").cast(pl.Enum(rows["symbol"].unique().sort()))


def weigh(rows: pl.DataFrame, multipliers: Sequence[str], market: MarketSpec) -> pl.DataFrame:
    """How well the prices of an ex-date fit each of several event multipliers.

    Args:
        rows: Rows of `gaps`, with one Float64 column per name in `multipliers` (m >= 0; 1: nothing happened).
        multipliers: Names of those columns.
        market: Whose limits apply.

    Returns:
        The rows with `fit_<name>` for each: log-likelihood of the opening gap under that reference price, less
        `IMPOSSIBLE` where the close lies beyond the limits around it; `size`, the tick there;
        and `limit`, the greatest move allowed
        (fraction; null: none is known).
    """
    facts = with_venues(rows).with_columns(idle=(pl.col("session") - pl.col("before")).dt.total_days() > IDLE_DAYS)
    at = (pl.col("venue"), pl.col("session"))
    known = band(*at, asset=pl.col("asset"))
    widest = pl.max_horizontal(
        band(pl.lit(code), pl.col("session"), asset=pl.col("asset")) for code in market.exchanges
    )
    facts = facts.with_columns(
        limit=pl.when(~pl.col("idle")).then(pl.when(pl.col("venue").is_null()).then(widest).otherwise(known)),
        size=tick(*at, pl.col("close"), asset=pl.col("asset")).fill_null(0.0),
        by_close=(reference_basis(*at) == "close").fill_null(value=False),
    )
    # Where the reference is an average of the day before, it lies somewhere in that day's range.
    low = pl.when("by_close").then("prev_close").otherwise(pl.min_horizontal("prev_close", "prev_low"))
    high = pl.when("by_close").then("prev_close").otherwise(pl.max_horizontal("prev_close", "prev_high"))
    slack = 2 * pl.col("size")

    def fit(name: str) -> pl.Expr:
        surprise = (pl.col("gap") + pl.col(name).log()) / pl.col("spread")
        likely = -(FREEDOM + 1) / 2 * (1 + surprise**2 / FREEDOM).log()
        above = pl.col("close") > high / pl.col(name) * (1 + pl.col("limit")) + slack
        below = pl.col("close") < low / pl.col(name) * (1 - pl.col("limit")) - slack
        return likely - pl.when((above | below).fill_null(value=False)).then(IMPOSSIBLE).otherwise(0.0)

    return facts.with_columns(fit(name).alias(f"fit_{name}") for name in multipliers).drop(
        "venue", "asset", "idle", "by_close"
    )
