"""Checks of one symbol's window of bars: what the exchange's rules forbid first, what statistics find odd second.

A rule can be broken by a wrong bar or by an event nobody told us about, and only the next bar tells which: a wrong bar
goes back, an ex-date stays. So a break that the next bar undoes quarantines the bar, one that stays is flagged and
asks for the missing event (`ticket`). Bars must be raw; a series adjusted by its source breaks the rules everywhere.

    >>> examined = examine(bars, actions, sessions, market("vn"))
    >>> examined.filter(pl.col("reasons").list.len() > 0), blocks.blocks(examined)

Every verdict depends on a window of the symbol's own bars and on nothing else: a run over the newest bars with
`CONTEXT` traded bars before them says of them exactly what a run over the whole history says, bit for bit. A new bar
may change the verdicts on the `AFTER` traded bars before it, none on older ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from operator import or_

import polars as pl

from vprism_pipelines.errors import ContractViolation
from vprism_pipelines.market.rules import with_venues
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.alignment import require_columns
from vprism_pipelines.quality.limit_checks import judge_limits, with_limits
from vprism_pipelines.quality.order import in_order
from vprism_pipelines.quality.price_checks import judge_prices
from vprism_pipelines.quality.statistic_checks import judge_statistics
from vprism_pipelines.quality.thresholds import DEFAULTS, Thresholds
from vprism_pipelines.quality.volume_checks import judge_volumes
from vprism_pipelines.quality.window_checks import WINDOW_CHECKS, Severity

__all__ = ["AFTER", "CONTEXT", "examine"]

CONTEXT = 320
"""Traded bars of a symbol needed before the first bar to be judged: the 250 before a run of 60, and some to spare."""

AFTER = 82
"""Traded bars before a new one whose verdicts it may change: 2 beside a run of 60, and 20 that show it has ended."""

KEY = ["symbol", "session"]
BLOCK_ROWS = 500_000  # rows examined at a time: bounds memory
PARALLEL = 2


def examine(
    bars: pl.DataFrame,
    actions: pl.DataFrame,
    sessions: pl.DataFrame,
    market: MarketSpec,
    thresholds: Thresholds = DEFAULTS,
) -> pl.DataFrame:
    """Run every window check over a table of raw bars.

    Args:
        bars: symbol, session, exchange (on that date; null: unknown, the widest rules of the market apply), open,
            high, low, close (raw, currency units), volume (shares), value (currency units, may be null), traded
            (null: volume is not 0). One row per symbol and session.
        actions: Known corporate actions: symbol, ex_date, ref_price (currency units; null: unknown, and then the
            band is not judged that day).
        sessions: session: the market's sessions, covering the bars; counts the sessions a symbol was idle.
        market: Whose rules apply.
        thresholds: From which values the checks fire.

    Returns:
        The bars ordered by symbol and session with one Boolean column per check of `WINDOW_CHECKS`, and: `jump`
        (Float64: close / reference where a limit is broken), `turnover` (value / (volume · close)), `return_z`'s and
        `volume_spike`'s numbers as `z_return` and `z_volume`, `ticket` (missing_event, split, unit; null: none),
        `reasons` (list of the QUARANTINE checks that fire), `bits` (Int32, `BarFlag`, to be or-ed to the flags).

    Raises:
        ContractViolation: A column is missing, or a bar is there twice.
    """
    require_columns(bars, [*KEY, "exchange", "open", "high", "low", "close", "volume", "value", "traded"], "bars")
    require_columns(actions, ["symbol", "ex_date", "ref_price"], "actions")
    require_columns(sessions, ["session"], "sessions")
    ordered = in_order(bars, KEY)
    twice = pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in reversed(KEY))
    if ordered.select(twice.any()).item():
        raise ContractViolation("a bar is there twice", hint="one bar per symbol and session")
    numbered = sessions.select(pl.col("session").unique().sort()).with_row_index("_session_no")
    known = actions.select("symbol", pl.col("ex_date").alias("session"), "ref_price").sort("session")
    parts = [ordered] if ordered.is_empty() else _parts(ordered)

    def judged(part: pl.DataFrame) -> pl.DataFrame:
        return _verdicts(_block(part, known, numbered, market, thresholds), market)

    # Rolling medians run on one core each: two blocks at a time keep two busy.
    with ThreadPoolExecutor(PARALLEL) as pool:
        return pl.concat(pool.map(judged, parts))


def _parts(ordered: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Whole symbols, about `BLOCK_ROWS` at a time."""
    ends = ordered.select(pl.col("symbol").rle()).unnest("symbol")["len"].cum_sum().to_list()
    start = 0
    for end in ends:
        if end - start >= BLOCK_ROWS or end == ends[-1]:
            yield ordered.slice(start, end - start)
            start = end


def _block(
    bars: pl.DataFrame, known: pl.DataFrame, numbered: pl.DataFrame, market: MarketSpec, thresholds: Thresholds
) -> pl.DataFrame:
    rows = bars.with_columns(
        pl.col("open", "high", "low", "close", "value").cast(pl.Float64),
        _traded=(pl.col("traded").fill_null(pl.col("volume") != 0).fill_null(True) & (pl.col("close") > 0)).fill_null(
            False
        ),
    )
    traded = rows.filter("_traded").select(*KEY, "exchange", "open", "high", "low", "close", "volume", "value")
    traded = with_venues(_with_neighbours(_with_events(traded, known), numbered))
    traded = judge_limits(with_limits(traded, market), thresholds)
    traded = judge_volumes(judge_prices(traded, market, thresholds), thresholds)
    traded = judge_statistics(traded, thresholds)
    added = [name for name in traded.columns if name not in (*rows.columns, "venue", "asset") and name[0] != "_"]
    untraded = ~pl.col("_traded") & (pl.col("volume") == 0)
    flat = pl.all_horizontal(pl.col(name) == pl.col("close") for name in ("open", "high", "low"))
    place = rows.select(pl.when("_traded").then(pl.col("_traded").cum_sum() - 1)).to_series()
    return (
        rows.hstack(traded.select(pl.col(added).gather(place)))
        .with_columns(zero_volume_range=untraded & (pl.col("high") != pl.col("low")), placeholder=untraded & flat)
        .with_columns(_between(name) for name in ("tick_lattice", "scaled_run"))
    )


def _between(check: str) -> pl.Expr:
    """A check of traded bars, on bars without a trade too where the traded bars on both sides break it."""
    sides = pl.col(check).forward_fill(), pl.col(check).backward_fill()
    copied = pl.all_horizontal(side.over("symbol") for side in sides) & pl.col("placeholder")
    return pl.coalesce(pl.col(check), copied).alias(check)


def _with_events(traded: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Add _event and _ref_price: an event takes effect on the first traded bar on or after its ex-date."""
    bars = traded.select("symbol", "session", effective="session").sort("session")
    effective = (
        known.join_asof(bars, on="session", by="symbol", strategy="forward", check_sortedness=False)
        .filter(pl.col("effective").is_not_null())
        .group_by("symbol", session="effective")
        .agg(
            _ref_price=pl.when((pl.len() == 1) & (pl.col("session").first() == pl.col("effective").first())).then(
                pl.col("ref_price").first()
            ),
            _event=pl.lit(value=True),
        )
    )
    return traded.join(effective, on=KEY, how="left", maintain_order="left").with_columns(
        pl.col("_event").fill_null(False)
    )


def _with_neighbours(traded: pl.DataFrame, numbered: pl.DataFrame) -> pl.DataFrame:
    """Add what the traded bars before and after say, and the place of each bar and of its symbol's first and last.

    `_place`, `_from` and `_to` count rows of this frame: what lies between is the symbol's own.
    """

    def before(name: str) -> pl.Expr:
        return pl.when("_same").then(pl.col(name).shift(1))

    same = (pl.col("symbol") == pl.col("symbol").shift(1)).fill_null(False)
    return (
        traded.with_columns(_same=same, _place=pl.int_range(pl.len(), dtype=pl.Int64))
        .join(numbered, on="session", how="left", maintain_order="left")
        .with_columns(
            **{f"_prev_{name}": before(name) for name in ("open", "high", "low", "close", "volume", "value")},
            _idle=pl.when("_same").then(pl.col("_session_no").cast(pl.Int64).diff() - 1),
            _moved=pl.col("_same") & pl.col("exchange").ne_missing(pl.col("exchange").shift(1)),
            _last=~pl.col("_same").shift(-1, fill_value=False),
            _from=pl.when(~pl.col("_same")).then("_place").forward_fill(),
        )
        .with_columns(
            _return=(pl.col("close") / pl.col("_prev_close")).log(),
            _to=pl.when("_last").then("_place").backward_fill(),
        )
        .drop("_session_no")
    )


def _verdicts(examined: pl.DataFrame, market: MarketSpec) -> pl.DataFrame:
    checks = WINDOW_CHECKS.values()
    bits = reduce(or_, (pl.when(check.name).then(int(check.flag)).otherwise(0) for check in checks if check.flag))
    barred = [check.name for check in checks if check.severity is Severity.QUARANTINE]
    full = (
        examined.with_columns(
            pl.col(check.name).fill_null(False) if market.code in check.markets else pl.lit(False).alias(check.name)
            for check in checks
        )
        .with_columns(bits=bits.cast(pl.Int32))
        .with_row_index("_place")
    )
    # Few bars have a reason; a list for every other one would cost more than all the checks.
    reasons = full.filter(pl.any_horizontal(barred)).select(
        "_place", reasons=pl.concat_list(pl.when(name).then(pl.lit(name)) for name in barred).list.drop_nulls()
    )
    return (
        full.join(reasons, on="_place", how="left", maintain_order="left")
        .with_columns(pl.col("reasons").fill_null(pl.lit([], dtype=pl.List(pl.String))))
        .drop("_place", "_traded")
    )
