"""Price limits: what a close beyond them says, alone, with the next bar, and with the jump that takes it back."""

from __future__ import annotations

import math

import polars as pl

from vprism_pipelines.market.rules import band, ceiling, floor, reference_basis, tick
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.thresholds import Thresholds

__all__ = ["RATIO_DIGITS", "judge_limits", "with_limits"]

RATIO_DIGITS = 12  # a value on a threshold must not depend on float noise
PRICE_DIGITS = 6
SPLITS = (1.5, 2.0, 3.0, 4.0, 5.0, 10.0, 100.0, 1000.0)
UNITS = 100.0  # from this factor on it is no split but another unit
UNLIMITED_JUMP = 0.2  # log return that counts as a jump where the exchange sets no limit
REVERSED = 0.2  # share of a move left after the next bar below which it has been undone
LONGEST_RUN = 40  # traded bars
LEAST_RUN_FACTOR = 1.25  # beyond the band; a smaller factor can be trading
LEAST_UNLIMITED_FACTOR = 3.0


def with_limits(traded: pl.DataFrame, market: MarketSpec) -> pl.DataFrame:
    """Add the limits of each bar whose close could break them.

    Args:
        traded: Traded bars with their neighbours, `venue` and `asset` (`quality.windows`).
        market: A bar of unknown exchange is held to the widest limits of its exchanges.

    Returns:
        The same with `_ceiling` and `_floor`, a tick wider than the rule, `_band` and `_reference`; null where no rule
        or reference is known, and where not even the narrowest band of the day could be broken.
    """
    # Limits are looked up only where the day's ordinary band, the narrowest there is, could be broken.
    venues = pl.Series("venue", sorted({*traded["venue"].drop_nulls().unique(), *market.exchanges}))
    ordinary = (
        traded.select(pl.col("session").unique())
        .join(venues.to_frame(), how="cross")
        .with_columns(narrow=band(pl.col("venue"), pl.col("session")))
    )
    unnamed = ordinary.group_by("session").agg(pl.col("narrow").min()).with_columns(venue=pl.lit(None, pl.String))
    narrow = traded.select("session", "venue").join(
        pl.concat([ordinary, unnamed.select(ordinary.columns)]),
        on=["session", "venue"],
        how="left",
        nulls_equal=True,
        maintain_order="left",
    )["narrow"]
    candidate = (
        (pl.col("close") > pl.min_horizontal("_prev_low", "_prev_close") * (1 + narrow))
        | (pl.col("close") < pl.max_horizontal("_prev_high", "_prev_close") * (1 - narrow))
        | pl.col("_event")
    )
    named = traded.filter(candidate)
    unknown = named.filter(pl.col("venue").is_null())
    copies = [named.filter(pl.col("venue").is_not_null())] + [
        unknown.with_columns(venue=pl.lit(code)) for code in market.exchanges
    ]
    at = (pl.col("venue"), pl.col("session"))
    vwap = pl.when(pl.col("_prev_value") > 0).then(pl.col("_prev_value") / pl.col("_prev_volume"))
    average = pl.when((pl.col("_basis") == "vwap") & vwap.is_between("_prev_low", "_prev_high")).then(vwap)
    judged = (
        pl.concat(copies)
        .with_columns(_basis=reference_basis(*at))
        .with_columns(
            pl.when("_event")
            .then("_ref_price")
            .when(pl.col("_basis") == "close")
            .then("_prev_close")
            .otherwise(pl.coalesce(average, bound))
            .alias(name)
            for name, bound in (("_low", "_prev_low"), ("_high", "_prev_high"))
        )
    )
    asset = pl.col("asset")
    first_there = pl.when("_moved").then(1)
    facts = {"asset": asset, "listing_session": first_there, "idle_sessions": pl.col("_idle")}
    limits = (
        judged.with_columns(
            _ceiling=ceiling(*at, pl.col("_high"), **facts) + tick(*at, pl.col("_high"), asset=asset),
            _floor=floor(*at, pl.col("_low"), **facts) - tick(*at, pl.col("_low"), asset=asset),
            _band=band(*at, **facts),
        )
        .group_by("_place")
        .agg(
            pl.col("_ceiling").max(),
            pl.col("_floor").min(),
            pl.col("_band").max(),
            _reference=pl.when(pl.col("_event").first())
            .then(pl.col("_ref_price").first())
            .otherwise(pl.col("_prev_close").first()),
        )
    )
    return traded.join(limits, on="_place", how="left", maintain_order="left")


def judge_limits(traded: pl.DataFrame, thresholds: Thresholds) -> pl.DataFrame:
    """Add price_band, band_breach, split_like_jump, scaled_run, jump and ticket.

    Args:
        traded: From `with_limits`.
        thresholds: The band that a split ratio is recognised in where the exchange sets no limit.
    """
    close = pl.col("close").round(PRICE_DIGITS)
    above, below = (
        close > pl.col("_ceiling").round(PRICE_DIGITS),
        close < pl.col("_floor").round(PRICE_DIGITS),
    )
    side = pl.when(above).then(1).when(below).then(-1).otherwise(0).cast(pl.Int8)
    following = ~pl.col("_last")
    size, after = pl.col("_return").abs(), pl.col("_return").shift(-1)
    # Where the exchange sets no limit a jump stays when the next return does not undo it.
    reverses = following & ((after + pl.col("_return")).abs() < REVERSED * size)
    unlimited = (pl.col("_band").is_null() & (size.round(RATIO_DIGITS) > UNLIMITED_JUMP)).fill_null(False)
    traded = traded.with_columns(_side=side, _unlimited=unlimited).with_columns(
        _undone=following & (pl.col("_side") != 0) & (pl.col("_side").shift(-1) == -pl.col("_side"))
    )
    traded = traded.with_columns(_returns=_only_returns())
    traded = traded.with_columns(_leaps=pl.col("_unlimited") & ~reverses.fill_null(False) & ~pl.col("_returns"))
    found = traded.filter((pl.col("_side") != 0) | pl.col("_leaps"))
    ratio = (pl.col("close") / pl.coalesce("_reference", "_prev_close")).round(RATIO_DIGITS)
    reach = pl.coalesce("_band", thresholds.value("split_like_jump", found)).log1p()
    splits = [(n, ((ratio / q).log().abs() <= reach).fill_null(False)) for n in SPLITS for q in (n, 1 / n)]
    stays = (pl.col("_side") != 0) & ~pl.col("_undone") & ~pl.col("_returns")
    jumped = (stays | pl.col("_leaps")) & ~pl.col("_event")
    found = (
        found.with_columns(
            price_band=pl.col("_undone") | (pl.col("_last") & (pl.col("_side") > 0) & ~pl.col("_returns")),
            jump=pl.when(pl.col("_side") != 0).then(ratio),
            split_like_jump=jumped & pl.any_horizontal(near for _, near in splits),
            _unit=pl.any_horizontal(near for n, near in splits if n >= UNITS),
        )
        .with_columns(
            band_breach=stays & ~pl.col("price_band"),
            ticket=pl.when(~jumped | pl.col("price_band"))
            .then(None)
            .when(pl.col("split_like_jump") & pl.col("_unit"))
            .then(pl.lit("unit"))
            .when("split_like_jump")
            .then(pl.lit("split"))
            .when(stays)
            .then(pl.lit("missing_event")),
        )
        .select("_place", "price_band", "jump", "split_like_jump", "band_breach", "ticket")
    )
    return traded.join(found, on="_place", how="left", maintain_order="left").with_columns(
        scaled_run=_scaled_runs(traded)
    )


def _only_returns() -> pl.Expr:
    """Bars that come back from a wrong one: measured from the bar before that, no more than two sessions allow."""
    over_two = (pl.col("_return") + pl.col("_return").shift(1)).abs()
    within_limits = pl.col("_undone").shift(1) & (over_two <= 2 * pl.col("_band").log1p())
    undoes = pl.col("_unlimited").shift(1) & (over_two < REVERSED * pl.col("_return").shift(1).abs())
    return (pl.col("_same") & pl.col("_same").shift(1) & (within_limits | undoes)).fill_null(value=False)


def _scaled_runs(traded: pl.DataFrame) -> pl.Series:
    """Bars between two jumps, neither explained by an event, that cancel each other."""
    jumps = (
        traded.filter((pl.col("_side") != 0) | (pl.col("_unlimited")), ~pl.col("_event"))
        .select(
            "_place",
            "_from",
            size=(pl.col("close") / pl.coalesce("_reference", "_prev_close")).log(),
            own=pl.coalesce("_band", pl.lit(UNLIMITED_JUMP)).log1p(),
            least=pl.when(pl.col("_band").is_null())
            .then(math.log(LEAST_UNLIMITED_FACTOR))
            .otherwise(math.log(LEAST_RUN_FACTOR) + pl.col("_band").log1p()),
        )
        .with_columns(pl.col("_place", "_from", "size", "own").shift(-1).name.suffix("_next"))
        .with_columns(
            gap=pl.when(
                pl.col("_from") == pl.col("_from_next"),
                pl.col("_place_next") - pl.col("_place") <= LONGEST_RUN,
                pl.min_horizontal(pl.col("size").abs(), pl.col("size_next").abs()).round(RATIO_DIGITS)
                >= pl.col("least"),
                (pl.col("size") + pl.col("size_next")).abs() <= pl.col("own") + pl.col("own_next"),
            ).then(pl.col("_place_next") - pl.col("_place"))
        )
        # Of two stretches that share a jump the shorter one is the run, the other lies between runs.
        .filter(
            (pl.col("gap") > 1)
            & (pl.col("gap") < pl.col("gap").shift(1)).fill_null(True)
            & (pl.col("gap") <= pl.col("gap").shift(-1)).fill_null(True)
        )
    )
    places = jumps.select(pl.int_ranges("_place", "_place_next").explode()).to_series()
    return traded["_place"].is_in(places.unique().implode())
