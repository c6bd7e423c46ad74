"""What is odd for the symbol itself: returns, volumes, copies and flat runs. Second to what the rules forbid."""

from __future__ import annotations

import polars as pl

from vprism_pipelines.quality.limit_checks import RATIO_DIGITS, REVERSED
from vprism_pipelines.quality.thresholds import Thresholds

__all__ = ["judge_statistics"]

Z_DIGITS = 9
WINDOW, WARM_UP = 60, 30  # traded bars
RETURN_FLOOR, VOLUME_FLOOR = 0.005, 0.1  # least dispersion a series is credited with
MAD_TO_STD = 1.4826


def judge_statistics(traded: pl.DataFrame, thresholds: Thresholds) -> pl.DataFrame:
    """Add z_return, z_volume, return_z, spike_reversal, scale_spike, stale_copy, flat_run and volume_spike.

    Args:
        traded: Traded bars with their neighbours and `venue` (`quality.windows`).
        thresholds: See the checks' `values`.
    """

    def least(name: str) -> pl.Expr:
        return thresholds.value(name, traded)

    moved = (pl.col("close") != pl.col("_prev_close")).fill_null(True)
    inputs = traded.with_columns(
        _plain=pl.when(~pl.col("_event")).then("_return"),
        _amount=pl.when(pl.col("volume") > 0).then(pl.col("volume").cast(pl.Float64).log()),
        _stands=pl.when(moved).then("_place").forward_fill(),
    )
    inputs = inputs.with_columns(_robust_z(inputs))
    size = pl.col("_plain").abs().round(RATIO_DIGITS)
    undone = (
        ~pl.col("_last")
        & ~pl.col("_event").shift(-1, fill_value=False)
        & ((pl.col("_return").shift(-1) + pl.col("_return")).abs() < REVERSED * size)
    )
    # What comes back from a spike says nothing that the spike did not say.
    strange = (pl.col("z_return").abs() > least("return_z")).fill_null(value=False)
    returns = pl.col("_returns") | (pl.col("_same") & (strange & undone).shift(1, fill_value=False))
    copied = [pl.col(name) == pl.col(f"_prev_{name}") for name in ("volume", "close", "open", "high", "low")]
    return inputs.with_columns(
        return_z=strange & ~returns,
        spike_reversal=(size > least("spike_reversal")) & undone,
        scale_spike=(size >= least("scale_spike").log().round(RATIO_DIGITS)) & undone,
        stale_copy=pl.all_horizontal(copied) & (pl.col("volume") >= least("stale_copy")),
        flat_run=pl.col("_place") - pl.col("_stands") + 1 > least("flat_run"),
        volume_spike=pl.col("z_volume") > least("volume_spike"),
    )


def _robust_z(inputs: pl.DataFrame) -> pl.DataFrame:
    """(value - median of the window before) / max(1.4826 · median deviation of the window before, least dispersion).

    Returns:
        z_return from `_plain`, z_volume from `_amount`.
    """
    sources = {"z_return": ("_plain", RETURN_FLOOR), "z_volume": ("_amount", VOLUME_FLOOR)}
    names = list(sources)

    def before(frame: pl.DataFrame) -> pl.DataFrame:
        rolled = frame.select(pl.col(names).rolling_median(WINDOW, min_samples=WARM_UP).over("_from"), "_from")
        return rolled.select(pl.when(pl.int_range(pl.len()) > pl.col("_from")).then(pl.col(names).shift(1)))

    values = inputs.select("_from", *(pl.col(column).alias(name) for name, (column, _) in sources.items()))
    off = pl.DataFrame([values[name] - usual for name, usual in zip(names, before(values), strict=True)])
    spread = before(off.with_columns(pl.all().abs(), _from=values["_from"]))
    return pl.DataFrame(
        {
            name: off.select(
                (pl.col(name) / pl.max_horizontal(MAD_TO_STD * spread[name], pl.lit(least))).round(Z_DIGITS)
            ).to_series()
            for name, (_, least) in sources.items()
        }
    )
