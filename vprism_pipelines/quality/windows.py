"""Checks of one symbol's window of bars: what the exchange's rules forbid first, what statistics find odd second.

A rule can be broken by a wrong bar or by an event nobody told us about, and only the next bar tells which: a wrong bar
goes back, an ex-date stays. So a break that the next bar undoes quarantines the bar, one that stays is flagged and
asks for the missing event (`ticket`). Bars must be raw; a series adjusted by its source breaks the rules everywhere.

    >>> examined = examine(bars, actions, sessions, market("vn"))
    >>> examined.filter(pl.col("reasons").list.len() > 0), blocks.blocks(examined)
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from operator import or_

import polars as pl

from vprism_pipelines.errors import ContractViolation
from vprism_pipelines.market.rule_tables import in_force, only
from vprism_pipelines.market.rules import band, ceiling, floor, on_lattice, reference_basis, tick, venue
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.alignment import require_columns
from vprism_pipelines.quality.window_checks import THRESHOLDS, WINDOW_CHECKS, Severity

__all__ = ["examine"]

KEY = ["symbol", "session"]
RATIO_DIGITS, Z_DIGITS = 12, 9  # a value on a threshold must not depend on float noise
BLOCK_ROWS = 500_000  # rows examined at a time: bounds memory


RETURN_Z = 20.0
VOLUME_Z = 6.0
WINDOW, WARM_UP = 60, 30  # traded bars
RETURN_FLOOR, VOLUME_FLOOR = 0.005, 0.1  # least dispersion a series is credited with
TREBLED = 1.0986122886681098  # ln 3
UNIT_RATIO = (0.8, 1.25)
OFF_LATTICE_SHARE = 0.05  # beyond it the series is adjusted, not wrong
SPLITS = (1.5, 2.0, 3.0, 4.0, 5.0, 10.0, 100.0, 1000.0)
STALE_VOLUME = 1_000


def examine(bars: pl.DataFrame, actions: pl.DataFrame, sessions: pl.DataFrame, market: MarketSpec) -> pl.DataFrame:
    """Run every window check over a table of raw bars.

    Args:
        bars: symbol, session, exchange (on that date; null: unknown, the widest rules of the market apply), open,
            high, low, close (raw, currency units), volume (shares), value (currency units, may be null), traded
            (null: volume is not 0). One row per symbol and session.
        actions: Known corporate actions: symbol, ex_date, ref_price (currency units; null: unknown, and then the
            band is not judged that day).
        sessions: session: the market's sessions, covering the bars; counts the sessions a symbol was idle.
        market: Whose rules apply.

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
    ordered = bars.sort(KEY)
    twice = pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in KEY)
    if ordered.select(twice.any()).item():
        raise ContractViolation("a bar is there twice", hint="one bar per symbol and session")
    numbered = sessions.select(pl.col("session").unique().sort()).with_row_index("session_no")
    known = actions.select("symbol", pl.col("ex_date").alias("session"), "ref_price").sort("session")
    if ordered.is_empty():
        return _verdicts(_block(ordered, known, numbered, market), market)
    return pl.concat(_verdicts(_block(part, known, numbered, market), market) for part in _parts(ordered))


def _parts(ordered: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Whole symbols, about `BLOCK_ROWS` at a time."""
    ends = ordered.select(pl.col("symbol").rle()).unnest("symbol")["len"].cum_sum().to_list()
    start = 0
    for end in ends:
        if end - start >= BLOCK_ROWS or end == ends[-1]:
            yield ordered.slice(start, end - start)
            start = end


def _block(bars: pl.DataFrame, known: pl.DataFrame, numbered: pl.DataFrame, market: MarketSpec) -> pl.DataFrame:
    rows = bars.with_columns(
        pl.col("open", "high", "low", "close", "value").cast(pl.Float64),
        is_traded=(pl.col("traded").fill_null(pl.col("volume") != 0).fill_null(True) & (pl.col("close") > 0)).fill_null(
            False
        ),
    ).with_row_index("place")
    traded = rows.filter("is_traded").select(
        "place", *KEY, "exchange", "open", "high", "low", "close", "volume", "value"
    )
    traded = _with_neighbours(_with_events(traded, known), numbered)
    traded = _with_limits(traded, market)
    traded = _statistics(_market_rules(traded, market))
    added = [name for name in traded.columns if name not in rows.columns and not name.startswith("_")]
    untraded = ~pl.col("is_traded") & (pl.col("volume") == 0)
    flat = pl.all_horizontal(pl.col(name) == pl.col("close") for name in ("open", "high", "low"))
    return (
        rows.join(traded.select("place", *added), on="place", how="left", maintain_order="left")
        .with_columns(zero_volume_range=untraded & (pl.col("high") != pl.col("low")), placeholder=untraded & flat)
        .drop("place", "is_traded")
    )


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
    """Add what the traded bars before and after say."""

    def before(name: str) -> pl.Expr:
        return pl.when(pl.col("_same")).then(pl.col(name).shift(1))

    same = (pl.col("symbol") == pl.col("symbol").shift(1)).fill_null(False)
    return (
        traded.with_columns(_same=same)
        .join(numbered, on="session", how="left", maintain_order="left")
        .with_columns(
            **{f"_prev_{name}": before(name) for name in ("open", "high", "low", "close", "volume", "value")},
            _idle=(before("session_no").cast(pl.Int64) - pl.col("session_no").cast(pl.Int64)).neg() - 1,
            _moved=pl.col("_same") & pl.col("exchange").ne_missing(pl.col("exchange").shift(1)),
            _last=~pl.col("_same").shift(-1, fill_value=False),
        )
        .with_columns(_return=(pl.col("close") / pl.col("_prev_close")).log())
        .drop("session_no")
    )


def _with_limits(traded: pl.DataFrame, market: MarketSpec) -> pl.DataFrame:
    """Add _ceiling and _floor of each bar, a tick wider than the rule; null where no rule or reference is known."""
    named = traded.with_columns(
        venue=venue(pl.col("symbol"), pl.col("exchange")),
        asset=pl.col("symbol").str.split(":").list.get(1, null_on_oob=True).fill_null("STOCK"),
    )
    # Limits are asked for only where the narrowest band of the day could be broken.
    venues = pl.Series("venue", sorted({*named["venue"].drop_nulls().unique(), *market.exchanges}))
    narrowest = (
        named.select(pl.col("session").unique())
        .join(venues.to_frame(), how="cross")
        .with_columns(_narrow=band(pl.col("venue"), pl.col("session")))
        .group_by("session")
        .agg(pl.col("_narrow").min())
    )
    named = named.join(narrowest, on="session", how="left", maintain_order="left")
    candidate = (
        (pl.col("close") > pl.min_horizontal("_prev_low", "_prev_close") * (1 + pl.col("_narrow")))
        | (pl.col("close") < pl.max_horizontal("_prev_high", "_prev_close") * (1 - pl.col("_narrow")))
        | pl.col("_event")
    )
    # A bar of unknown exchange is held to the widest limits of all.
    unknown = named.filter(candidate, pl.col("venue").is_null())
    copies = [named.filter(candidate, pl.col("venue").is_not_null())] + [
        unknown.with_columns(venue=pl.lit(code)) for code in market.exchanges
    ]
    vwap = pl.when(pl.col("_prev_value") > 0).then(pl.col("_prev_value") / pl.col("_prev_volume"))
    at = (pl.col("venue"), pl.col("session"))
    judged = pl.concat(copies).with_columns(_basis=reference_basis(*at))
    own = pl.col("_basis") == "close"
    usual = {"_low": "_prev_low", "_high": "_prev_high"}
    judged = judged.with_columns(
        pl.when(pl.col("_event"))
        .then("_ref_price")
        .when(own)
        .then("_prev_close")
        .otherwise(
            pl.coalesce(
                pl.when((pl.col("_basis") == "vwap") & vwap.is_between("_prev_low", "_prev_high")).then(vwap), source
            )
        )
        .alias(name)
        for name, source in usual.items()
    )
    facts = {
        "asset": pl.col("asset"),
        "listing_session": pl.when("_moved").then(1),
        "idle_sessions": pl.col("_idle"),
    }
    limits = (
        judged.with_columns(
            _ceiling=ceiling(*at, pl.col("_high"), **facts) + tick(*at, pl.col("_high"), asset=pl.col("asset")),
            _floor=floor(*at, pl.col("_low"), **facts) - tick(*at, pl.col("_low"), asset=pl.col("asset")),
            _band=band(*at, **facts),
        )
        .group_by("place")
        .agg(
            pl.col("_ceiling").max(),
            pl.col("_floor").min(),
            pl.col("_band").max(),
            _reference=pl.when(pl.col("_event").first())
            .then(pl.col("_ref_price").first())
            .otherwise(pl.col("_prev_close").first()),
        )
    )
    return named.join(limits, on="place", how="left", maintain_order="left")


def _market_rules(traded: pl.DataFrame, market: MarketSpec) -> pl.DataFrame:
    following = ~pl.col("_last")
    close = pl.col("close").round(6)
    side = (
        pl.when(close > pl.col("_ceiling").round(6))
        .then(1)
        .when(close < pl.col("_floor").round(6))
        .then(-1)
        .otherwise(0)
    )
    traded = traded.with_columns(_side=side, _turnover=pl.col("value") / (pl.col("volume") * pl.col("close")))
    traded = traded.with_columns(
        _undone=following & (pl.col("_side") != 0) & (pl.col("_side").shift(-1) == -pl.col("_side")),
        _band=pl.col("_band").fill_null(_threshold(traded, "band")),
    )
    off = _off_lattice(traded, market)
    ratio = (pl.col("close") / pl.col("_reference")).round(RATIO_DIGITS)
    stays = (pl.col("_side") != 0) & ~pl.col("_undone")
    # Where the exchange sets no limit a jump stays when the next return does not undo it.
    reverses = following & ((pl.col("_return").shift(-1) + pl.col("_return")).abs() < 0.2 * pl.col("_return").abs())
    unlimited = pl.col("_ceiling").is_null() & (pl.col("_return").abs() > 0.2) & ~reverses
    near = [((ratio / q).log().abs() <= pl.col("_band").log1p()) for n in SPLITS for q in (n, 1 / n)]
    jumped = (stays | unlimited) & ~pl.col("_event")
    unit = pl.any_horizontal(near[-4:]).fill_null(False)
    tol = pl.col("_rounding") / pl.col("volume") + pl.col("_tick")
    vwap = pl.col("value") / pl.col("volume")
    priced = (pl.col("value") > 0) & (pl.col("volume") > 0)
    return (
        traded.with_columns(
            _rounding=_value_rounding(),
            _tick=tick(pl.col("venue"), pl.col("session"), pl.col("high"), asset=pl.col("asset")).fill_null(0.0)
            if traded["value"].null_count() < traded.height
            else pl.lit(0.0),
        )
        .with_columns(
            price_band=pl.col("_undone") | (pl.col("_last") & (pl.col("_side") > 0)),
            tick_lattice=off,
            vwap_bound=priced & ((vwap < pl.col("low") - tol) | (vwap > pl.col("high") + tol)),
            unit_ratio=priced & ~pl.col("_turnover").round(RATIO_DIGITS).is_between(*UNIT_RATIO),
            jump=pl.when(pl.col("_side") != 0).then(ratio),
            turnover=pl.when(priced).then("_turnover"),
            split_like_jump=jumped & pl.any_horizontal(near).fill_null(False),
        )
        .with_columns(
            band_breach=stays & ~pl.col("price_band"),
            ticket=pl.when(~jumped | pl.col("price_band"))
            .then(None)
            .when(pl.col("split_like_jump") & unit)
            .then(pl.lit("unit"))
            .when("split_like_jump")
            .then(pl.lit("split"))
            .when(stays)
            .then(pl.lit("missing_event")),
        )
    )


def _off_lattice(traded: pl.DataFrame, market: MarketSpec) -> pl.Series:
    """Bars with a price that is on no exchange's lattice, in symbols where that is rare."""
    prices = ("open", "high", "low", "close")
    codes = [None, *market.exchanges] if len(market.exchanges) > 1 else [None]

    def off(frame: pl.DataFrame, code: str | None) -> pl.Series:
        place = pl.col("venue") if code is None else pl.lit(code)
        on = [on_lattice(place, pl.col("session"), pl.col(name), asset=pl.col("asset")) for name in prices]
        # No rule: another exchange's silence acquits only a bar whose own exchange is unknown.
        unknown = pl.col("venue").is_null() if code is None else pl.col("venue").is_not_null()
        return frame.select(pl.coalesce(pl.any_horizontal(~rule for rule in on), unknown)).to_series()

    rows = traded.select("place", "symbol", "session", "venue", "asset", *prices)
    suspects = rows
    for code in codes:
        suspects = suspects.filter(off(suspects, code))
    marked = rows.select("symbol", off=pl.col("place").is_in(suspects["place"].implode()))
    return marked.select(pl.col("off") & (pl.col("off").mean().over("symbol") <= OFF_LATTICE_SHARE)).to_series()


def _value_rounding() -> pl.Expr:
    """The unit a symbol's values are rounded to: a million, a thousand or one."""

    def whole(unit: float) -> pl.Expr:
        return ((pl.col("value") % unit == 0).mean().over("symbol") >= 0.99).fill_null(False)

    return pl.when(whole(1e6)).then(1e6).when(whole(1e3)).then(1e3).otherwise(1.0)


def _statistics(traded: pl.DataFrame) -> pl.DataFrame:
    def before(name: str) -> pl.Expr:
        return pl.col(name).rolling_median(WINDOW, min_samples=WARM_UP).shift(1).over("symbol")

    # One step at a time: a rolling median of a rolling median would be a window within a window.
    inputs = {"_plain": RETURN_FLOOR, "_amount": VOLUME_FLOOR}
    traded = (
        traded.with_columns(
            _plain=pl.when(~pl.col("_event")).then("_return"),
            _amount=pl.when(pl.col("volume") > 0).then(pl.col("volume").cast(pl.Float64).log()),
        )
        .with_columns(before(name).alias(f"{name}_median") for name in inputs)
        .with_columns((pl.col(name) - pl.col(f"{name}_median")).alias(f"{name}_off") for name in inputs)
        .with_columns(pl.col(f"{name}_off").abs().alias(f"{name}_size") for name in inputs)
        .with_columns(before(f"{name}_size").alias(f"{name}_spread") for name in inputs)
    )
    z_return, z_volume = (
        (pl.col(f"{name}_off") / pl.max_horizontal(1.4826 * pl.col(f"{name}_spread"), pl.lit(least))).round(Z_DIGITS)
        for name, least in inputs.items()
    )
    traded = traded.with_columns(z_return=z_return, z_volume=z_volume)
    size = pl.col("_plain").abs().round(RATIO_DIGITS)
    undone = (
        ~pl.col("_last")
        & ~pl.col("_event").shift(-1, fill_value=False)
        & ((pl.col("_return").shift(-1) + pl.col("_return")).abs() < 0.2 * size)
    )
    copied = [pl.col(name) == pl.col(f"_prev_{name}") for name in ("open", "high", "low", "close", "volume")]
    unchanged = (pl.col("close") == pl.col("_prev_close")).fill_null(False)
    run = (~unchanged).cum_sum()
    return traded.with_columns(
        return_z=pl.col("z_return").abs() > RETURN_Z,
        spike_reversal=(size > _threshold(traded, "spike")) & undone,
        scale_spike=(size >= TREBLED) & undone,
        stale_copy=pl.all_horizontal(copied) & (pl.col("volume") >= STALE_VOLUME),
        flat_run=pl.len().over(run) > _threshold(traded, "flat_run"),
        volume_spike=pl.col("z_volume") > VOLUME_Z,
    )


def _threshold(frame: pl.DataFrame, name: str) -> pl.Expr:
    default, table = THRESHOLDS[name]
    return in_force(frame, table, only("value")).cast(pl.Float64).fill_null(default) if table else pl.lit(default)


def _verdicts(examined: pl.DataFrame, market: MarketSpec) -> pl.DataFrame:
    checks = WINDOW_CHECKS.values()
    bits = reduce(or_, (pl.when(check.name).then(int(check.flag)).otherwise(0) for check in checks if check.flag))
    barred = [check.name for check in checks if check.severity is Severity.QUARANTINE]
    full = (
        examined.with_columns(pl.col(check.name).fill_null(False) & (market.code in check.markets) for check in checks)
        .with_columns(bits=bits.cast(pl.Int32))
        .with_row_index("place")
    )
    # Few bars have a reason; a list for every other one would cost more than all the checks.
    reasons = full.filter(pl.any_horizontal(barred)).select(
        "place", reasons=pl.concat_list(pl.when(name).then(pl.lit(name)) for name in barred).list.drop_nulls()
    )
    return (
        full.join(reasons, on="place", how="left", maintain_order="left")
        .with_columns(pl.col("reasons").fill_null(pl.lit([], dtype=pl.List(pl.String))))
        .drop("place")
    )
