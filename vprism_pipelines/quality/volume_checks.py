"""Volumes in another unit, told without a value: by what they are multiples of, and by their level.

An exchange trades in steps, so volumes are whole steps and about one in ten is a multiple of ten of them. Taken for
lots, a run of volumes leaves the step; taken for shares when it was thousands, every one of them is a multiple of a
thousand steps. Chance does not do that twenty times in a row, and the run's level tells it from a change of habit.
"""

from __future__ import annotations

import math

import polars as pl

from vprism_pipelines.market.rules import step
from vprism_pipelines.quality.price_checks import HISTORY, marked_around
from vprism_pipelines.quality.thresholds import Thresholds

__all__ = ["judge_volumes"]

POWERS = (10, 100, 1_000)
LONGEST_RUN = 60  # traded bars; what lasts longer is how the symbol trades now
AFTERWARDS = 20  # traded bars after a run that show it has ended
ENOUGH_BARS = 20  # to know what is usual
NEARBY = 40  # traded bars before a run that its level is compared with

CHANCE, REMOTE_CHANCE = 1e-8, 1e-9  # that a run is one by accident; the latter is believed at any level
SHORTEST_RUN = 8
LONE_CHANCE = 0.05  # share of such multiples before a single bar that can still be told from chance

OFF_CLUSTER, OFF_GAP = 5, 5  # volumes off the step that make a cluster, and steps between them that do not end it
OFF_BEFORE = 0.2  # share off the step before a cluster above which the provider counts odd lots
OFF_HABIT = 0.1  # and above which a single volume off the step says nothing
OFF_WARM_UP = 60
EDGE = 2  # bars beside a cluster that may belong to it without leaving the step


def judge_volumes(traded: pl.DataFrame, thresholds: Thresholds) -> pl.DataFrame:
    """Add volume_step and volume_unit.

    Args:
        traded: Traded bars with `_place`, `_from`, `_to`, `venue` and `asset` (`quality.windows`).
        thresholds: The step to expect where the exchange has none but its board lots are another board's.
    """
    at = traded.select(
        "_place",
        "_from",
        "_to",
        volume="volume",
        rule=step(pl.col("venue"), pl.col("session"), asset=pl.col("asset")),
        usual=thresholds.value("volume_step", traded).cast(pl.Int64),
    ).with_columns(
        base=pl.max_horizontal("rule", "usual", pl.lit(1, pl.Int64)), hard=(pl.col("rule") > 1).fill_null(False)
    )
    at = _since_finer(at)
    known = (at["volume"] > 0).fill_null(value=False)
    off = known & (at["volume"] % at["base"] != 0).fill_null(value=False)
    wrong = [_off_clusters(at, off)]
    for power in POWERS:
        multiples = known & (at["volume"] % (at["base"] * power) == 0).fill_null(value=False)
        if power == POWERS[0]:  # where any number of shares trades, tens of them mean nothing
            multiples &= at["base"] > 1
        wrong += [_runs(at, multiples, power), _lone(at, multiples, power)]
    places = pl.concat(wrong).unique()
    return traded.with_columns(
        _odd_steps(at, off).alias("volume_step"), volume_unit=pl.col("_place").is_in(places.implode())
    )


def _since_finer(at: pl.DataFrame) -> pl.DataFrame:
    """Let no bar be compared with those from before its step became finer: their whole steps were no choice."""
    starts = (pl.col("_place") == pl.col("_from")) | (pl.col("base") < pl.col("base").shift(1))
    ends = (pl.col("_place") == pl.col("_to")) | (pl.col("base") > pl.col("base").shift(-1))
    return at.with_columns(
        _from=pl.when(starts).then("_place").forward_fill(), _to=pl.when(ends).then("_place").backward_fill()
    )


def _odd_steps(at: pl.DataFrame, off: pl.Series) -> pl.Series:
    """Volumes off the step, in symbols of which that is unusual; without a rule it must never have happened before."""
    before, bars = marked_around(at, off)
    # The step of the rule may have become wider: what was sound before is no reproach now.
    usual = pl.when("hard").then(before <= bars * OFF_HABIT).otherwise((before == 0) & (bars >= HISTORY))
    return at.select(off & usual & (pl.col("base") > 1)).to_series()


def _off_clusters(at: pl.DataFrame, off: pl.Series) -> pl.Series:
    """Places in clusters of volumes off the step that begin and end, or whose level fits lots."""
    found = at.filter(off).select("_place", "_from", "_to", "hard", "base")
    begins = (pl.col("_from") != pl.col("_from").shift(1)).fill_null(True) | (pl.col("_place").diff() > OFF_GAP)
    runs = _shortened(
        found.group_by(begins.cum_sum().alias("run"), maintain_order=True)
        .agg(
            pl.col("_from", "_to", "hard", "base").first(),
            first=pl.col("_place").min(),
            last=pl.col("_place").max(),
        )
        .drop("run")
    )
    # Divided by ten, whole hundreds stay whole tens.
    tenths = off & (at["base"] >= 100) & (at["volume"] % (at["base"] // 10).clip(1) == 0).fill_null(value=False)
    marked = _inside(runs, off)
    runs = runs.with_columns(tenths=_inside(runs, tenths) == marked).filter(
        (marked >= OFF_CLUSTER) & (marked * 2 >= runs["last"] - runs["first"] + 1)
    )
    runs = _against_usual(at, runs, off)
    enough = pl.col("bars") >= pl.when("hard").then(ENOUGH_BARS).otherwise(OFF_WARM_UP)
    rare = pl.col("outside") <= pl.col("bars") * OFF_BEFORE
    # A share that moves to an exchange of odd lots leaves the step too, but its level stays, and so do the last digits.
    lots = pl.col("tenths") | (pl.col("base") < 100) | (pl.col("shift") <= -pl.col("base").log() / 2)
    low = pl.col("shift") <= -math.log(10) / 2
    wrong = runs.filter(enough & rare & lots & (pl.col("ended") | low))
    inside = _places(wrong)
    return pl.concat([inside, _edges(at, wrong)])


def _edges(at: pl.DataFrame, runs: pl.DataFrame) -> pl.Series:
    """Bars beside a cluster that are nearer to its level than to the usual one: whole steps by chance."""
    beside = [pl.col("first") - n for n in range(1, EDGE + 1)] + [pl.col("last") + n for n in range(1, EDGE + 1)]
    places = (
        runs.filter(pl.col("shift") <= -math.log(10) / 2)
        .with_columns(place=pl.concat_list(beside))
        .explode("place")
        .filter(pl.col("place").is_between("_from", "_to"))
    )
    amount = at["volume"].gather(places["place"]).log()
    return places.filter(amount < places["usual"] + places["shift"] / 2)["place"]


def _runs(at: pl.DataFrame, multiples: pl.Series, power: int) -> pl.Series:
    """Places in runs of multiples that are neither chance nor how the symbol trades."""
    same_before = at["_place"] > at["_from"]
    starts = multiples & ~(multiples.shift(1, fill_value=False) & same_before)
    ends = multiples & ~(multiples.shift(-1, fill_value=False) & (at["_place"] < at["_to"]))
    runs = at.filter(starts).select("_from", "_to", "base", first="_place").with_columns(last=at.filter(ends)["_place"])
    runs = runs.filter(pl.col("last") - pl.col("first") + 1 >= SHORTEST_RUN)
    runs = _against_usual(at, _shortened(runs), multiples, likely=math.log(1 / CHANCE))
    length, level = pl.col("last") - pl.col("first") + 1, math.log(power)
    chance = -length * pl.col("share").log()
    stepped = pl.col("base") > 1
    # Where any number of shares trades, hundreds of them are a habit; their level must fit all the better.
    fits = pl.col("shift") >= pl.when(stepped).then(level / 2).otherwise(level - 1)
    wrong = runs.filter((pl.col("bars") >= ENOUGH_BARS) & (fits | (stepped & (chance >= math.log(1 / REMOTE_CHANCE)))))
    return _places(wrong)


def _lone(at: pl.DataFrame, multiples: pl.Series, power: int) -> pl.Series:
    """Places of single multiples that tower over both neighbours and the bars before by nearly that power."""
    if power < 100:
        return pl.Series("place", [], dtype=pl.Int64)
    inner = (pl.col("_place") > pl.col("_from")) & (pl.col("_place") < pl.col("_to"))
    beside = pl.max_horizontal(pl.col("volume").shift(1), pl.col("volume").shift(-1))
    tall = (
        at.select(inner & multiples & (pl.col("volume").shift(1) > 0) & (pl.col("volume") * 4 >= beside * power))
        .to_series()
        .fill_null(value=False)
    )
    runs = at.filter(tall).select("_from", "_to", "base", first="_place", last="_place", cut=pl.lit(value=False))
    runs = _against_usual(at, runs, multiples)
    return runs.filter(
        pl.col("shift") >= math.log(power / 2.5), pl.col("share") <= LONE_CHANCE, pl.col("bars") >= ENOUGH_BARS
    )["first"]


def _shortened(runs: pl.DataFrame) -> pl.DataFrame:
    """Runs up to `LONGEST_RUN`, whether they were cut there, and whether they ended and enough bars show it."""
    last = pl.min_horizontal(pl.col("last"), pl.col("first") + LONGEST_RUN - 1)
    ended = (pl.col("last") == last) & (pl.col("last") + AFTERWARDS <= pl.col("_to"))
    return runs.with_columns(ended=ended, cut=pl.col("last") > last, last=last)


def _against_usual(at: pl.DataFrame, runs: pl.DataFrame, marks: pl.Series, likely: float = 0.0) -> pl.DataFrame:
    """Compare runs with the bars before them and, where they ended, after.

    Adds bars (how many there are to compare with), outside (of them with the mark), share (of the mark, with one more
    of either kind for modesty), usual (median log volume nearby) and shift (the run's above it). Runs whose length
    such a share explains with a chance above exp(-likely) are left out.
    """
    runs = runs.with_columns(
        low=pl.max_horizontal(pl.col("first") - HISTORY, "_from"),
        high=pl.when("cut").then("last").otherwise(pl.min_horizontal(pl.col("last") + AFTERWARDS, "_to")),
    )
    runs = runs.with_columns(
        outside=_inside(runs, marks, "low", "high") - _inside(runs, marks),
        bars=pl.col("high") - pl.col("low") - (pl.col("last") - pl.col("first")),
    ).with_columns(share=(pl.col("outside") + 1) / (pl.col("bars") + 2))
    runs = runs.filter((pl.col("last") - pl.col("first") + 1) * -pl.col("share").log() >= likely)
    near = pl.max_horizontal(pl.col("first") - NEARBY, "low")
    bars = runs.select("first", "last", place=pl.int_ranges(near, pl.col("high") + 1)).explode("place")
    bars = bars.with_columns(amount=at["volume"].gather(bars["place"]).replace(0, None).log())
    own = pl.col("place").is_between("first", "last")
    levels = bars.group_by("first").agg(
        usual=pl.col("amount").filter(~own).median(), own=pl.col("amount").filter(own).median()
    )
    return runs.join(levels, on="first", how="left").with_columns(shift=pl.col("own") - pl.col("usual"))


def _inside(runs: pl.DataFrame, marks: pl.Series, first: str = "first", last: str = "last") -> pl.Series:
    """How many bars carry a mark from one place to the other."""
    totals = pl.concat([pl.Series([0]), marks.cast(pl.Int64).cum_sum()])
    return totals.gather(runs[last] + 1) - totals.gather(runs[first])


def _places(runs: pl.DataFrame) -> pl.Series:
    return runs.select(pl.int_ranges("first", pl.col("last") + 1).explode().alias("place")).to_series()
