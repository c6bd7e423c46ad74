"""Is a whole delivery in the units and on the dates it claims? Asked before any row is judged.

A wrong unit or a shifted date makes every row wrong in the same way: no row stands out, the market's rules do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import polars as pl

from vprism_pipelines.errors import ContractViolation
from vprism_pipelines.market.rules import on_lattice, step, with_venues
from vprism_pipelines.market.spec import MarketSpec

__all__ = ["PLAUSIBLE_PRICES", "date_shift", "require_columns", "unit_suspects"]

PLAUSIBLE_PRICES: Mapping[str, tuple[float, float]] = MappingProxyType({"VND": (300.0, 2_000_000.0)})
"""Range of the median raw close of a share by currency, where it is narrow enough to tell a unit.

VND: closes of 200 to 1,358,000 have occurred in 25 years, a median below 300 or above two million never.
"""

TURNOVER_RATIO = (0.9, 1.1)
"""value / (volume · close) of a symbol, median: 0.92 to 1.01 on real bars."""

POWERS = (10.0, 100.0, 1_000.0, 1_000_000.0)
POWER_BAND = 1.25  # a ratio within this factor of a power of ten is that power
ENOUGH_BARS = 20
LATTICE_SHARE = 0.5  # off-lattice share from which prices are in no unit of this exchange
STEP_SHARE = 0.2  # share of volumes that are whole steps, below which they are not shares

SUSPECTS = pl.Schema(
    {
        "provider": pl.String(),
        "symbol": pl.String(),
        "field": pl.String(),  # close, volume or value; prices is close and its open, high, low
        "factor": pl.Float64(),  # multiply by it to get currency units, or shares
        "method": pl.String(),  # turnover, lattice, range, steps or company
        "measure": pl.Float64(),  # what the method measured
        "rows": pl.Int64(),  # traded bars it rests on
        "evidence": pl.String(),  # the same in words
    }
)


def require_columns(frame: pl.DataFrame, columns: Sequence[str], what: str) -> None:
    """Refuse a frame without the columns a check needs.

    Raises:
        ContractViolation: Some are missing; `what` names the frame in the message.
    """
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise ContractViolation(f"{what} lack the columns {', '.join(missing)}", hint=f"needed: {', '.join(columns)}")


def unit_suspects(bars: pl.DataFrame, market: MarketSpec) -> pl.DataFrame:
    """Symbols whose prices, volumes or values look like another unit than declared (W3).

    With a value: u = value / (volume · close), median over the symbol. Outside [0.9, 1.1] and near a power of ten it
    names the unit: ≈ 1000 prices in thousands, ≈ 100 or 10 volumes in lots, ≈ 10⁻⁶ values in millions. Which of the
    three columns is wrong is what the prices say on their own: in thousand VND they lie off the exchange's tick
    lattice and below the plausible range.

    Without a value: prices are compared with `PLAUSIBLE_PRICES` and the lattice, volumes with the exchange's volume
    step. A symbol these cannot decide follows the others when most of a provider's symbols agree on one factor.

    Args:
        bars: provider, symbol (canonical), session, close, volume as declared; optionally exchange and value.
        market: Whose rules apply.

    Returns:
        `SUSPECTS`, one row per provider, symbol and field; empty when all is well. Symbols with fewer than 20 traded
        bars are not judged.

    Raises:
        ContractViolation: A column is missing.
    """
    require_columns(bars, ["provider", "symbol", "session", "close", "volume"], "bars")
    optional = {"exchange": pl.String(), "value": pl.Float64()}
    traded = bars.with_columns(
        pl.lit(None, dtype=dtype).alias(name) for name, dtype in optional.items() if name not in bars.columns
    ).filter((pl.col("close") > 0) & (pl.col("volume") > 0))
    measured = _with_price_factor(_measured(traded, market).filter(pl.col("rows") >= ENOUGH_BARS), market.currency)
    lattice = pl.when(pl.col("off_lattice").is_not_null()).then(
        pl.format(" ({} % off the tick lattice)", (pl.col("off_lattice") * 100).round(1))
    )
    by_price = measured.filter(pl.col("price").is_not_null()).select(
        *_suspect(
            "close",
            pl.col("price"),
            pl.col("method"),
            pl.col("median_close"),
            pl.format(
                "median close {} {}{}: prices look like {}",
                pl.col("median_close"),
                pl.lit(market.currency),
                lattice.fill_null(""),
                pl.when(pl.col("price") > 1)
                .then(pl.lit(f"thousand {market.currency}"))
                .otherwise(pl.lit(f"{market.currency} multiplied by 1000")),
            ),
        )
    )
    # Turnover is shares times price: what the price does not explain, volume or value must.
    rest = pl.col("power") / pl.col("price").fill_null(1.0)
    odd_steps = pl.col("power").is_null() & pl.col("price").is_null() & (pl.col("whole_steps") < STEP_SHARE)
    by_turnover = (
        measured.with_columns(rest=rest)
        .filter(_power(pl.col("rest")).is_not_null())
        .with_columns(volume=pl.col("rest") > 1)
        .select(
            *_suspect(
                pl.when("volume").then(pl.lit("volume")).otherwise(pl.lit("value")),
                pl.when("volume").then("rest").otherwise(1 / pl.col("rest")),
                pl.lit("turnover"),
                pl.col("turnover"),
                pl.format(
                    "value / (volume x close) is {}: {}",
                    pl.col("turnover").round_sig_figs(4),
                    pl.when("volume")
                    .then(pl.format("volumes look like units of {} shares", pl.col("rest").cast(pl.Int64)))
                    .otherwise(
                        pl.format(
                            "values look like units of {} {}",
                            (1 / pl.col("rest")).round(0).cast(pl.Int64),
                            pl.lit(market.currency),
                        )
                    ),
                ),
            )
        )
    )
    by_steps = measured.filter(odd_steps).select(
        *_suspect(
            "volume",
            pl.col("step").cast(pl.Float64),
            pl.lit("steps"),
            pl.col("whole_steps"),
            pl.format(
                "{} % of the volumes are multiples of {}: volumes look like lots",
                (pl.col("whole_steps") * 100).round(1),
                pl.col("step"),
            ),
        )
    )
    return pl.concat([by_price, by_turnover, by_steps]).sort("provider", "symbol", "field")


def _measured(traded: pl.DataFrame, market: MarketSpec) -> pl.DataFrame:
    """Per provider and symbol: rows, median_close, turnover, off_lattice, off_lattice_thousands, step, whole_steps."""
    rows = with_venues(traded)
    at = (pl.col("venue"), pl.col("session"))
    # Shares change exchange and bars often carry only the present one: the smallest step of them all is safe.
    steps = [step(code, pl.col("session"), asset=pl.col("asset")) for code in market.exchanges]
    rows = rows.with_columns(
        on=on_lattice(*at, pl.col("close"), asset=pl.col("asset")),
        on_thousands=on_lattice(*at, pl.col("close") * 1e3, asset=pl.col("asset")),
        step=pl.min_horizontal(steps),
        lot=step(*at, asset=pl.col("asset")),
    )
    stepped = pl.col("step") > 1
    return rows.group_by("provider", "symbol").agg(
        rows=pl.len().cast(pl.Int64),
        median_close=pl.col("close").median(),
        turnover=(pl.col("value") / (pl.col("volume") * pl.col("close"))).filter(pl.col("value") > 0).median(),
        off_lattice=1 - pl.col("on").mean(),
        off_lattice_thousands=1 - pl.col("on_thousands").mean(),
        step=pl.coalesce("lot", "step").filter(stepped).max(),
        whole_steps=pl.when(stepped.sum() >= ENOUGH_BARS).then(
            (pl.col("volume") % pl.col("step") == 0).filter(stepped).mean()
        ),
    )


def _with_price_factor(measured: pl.DataFrame, currency: str) -> pl.DataFrame:
    """Add power (what turnover is off by), price (what prices must be multiplied by) and the method that told."""
    low, high = PLAUSIBLE_PRICES.get(currency, (0.0, float("inf")))
    close, power = pl.col("median_close"), _power(pl.col("turnover"))
    small, large = close < low, close > high
    on_thousands = (close * 1e3).is_between(low, high) & (pl.col("off_lattice_thousands") < 1 - LATTICE_SHARE)
    method = (
        pl.when((small & (pl.col("power") == 1e3)) | (large & (pl.col("power") == 1e-3)))
        .then(pl.lit("turnover"))
        .when(small & (pl.col("off_lattice") > LATTICE_SHARE) & on_thousands)
        .then(pl.lit("lattice"))
        .when((small & pl.col("off_lattice").is_null()) | (large & (close / 1e3).is_between(low, high)))
        .then(pl.lit("range"))
    )
    own = pl.when(pl.col("method").is_not_null()).then(pl.when(small).then(1e3).otherwise(1e-3))
    # A penny share says nothing about its unit: it follows most of the provider's symbols if nothing contradicts.
    usual = pl.when(pl.col("price").count().over("provider") > 0.5 * pl.len().over("provider")).then(
        pl.col("price").median().over("provider")
    )
    follows = pl.col("price").is_null() & (pl.col("turnover").is_null() | (pl.col("power") == usual))
    return (
        measured.with_columns(power=power)
        .with_columns(method=method)
        .with_columns(price=own)
        .with_columns(
            price=pl.when(follows).then(usual).otherwise("price"),
            method=pl.when(follows & usual.is_not_null()).then(pl.lit("company")).otherwise("method"),
        )
    )


def _power(ratio: pl.Expr) -> pl.Expr:
    """The power of ten that a ratio is near; null when it is near 1, or near none."""
    powers = [factor for power in POWERS for factor in (power, 1 / power)]
    outside = ~ratio.is_between(*TURNOVER_RATIO)
    return pl.coalesce(
        pl.when(outside & (ratio / power).is_between(1 / POWER_BAND, POWER_BAND)).then(pl.lit(power))
        for power in powers
    )


def _suspect(
    field: str | pl.Expr, factor: pl.Expr, method: pl.Expr, measure: pl.Expr, evidence: pl.Expr
) -> list[pl.Expr]:
    named = pl.lit(field) if isinstance(field, str) else field
    columns = {"field": named, "factor": factor, "method": method, "measure": measure, "evidence": evidence}
    return [
        (columns[name] if name in columns else pl.col(name)).cast(dtype).alias(name) for name, dtype in SUSPECTS.items()
    ]


SHIFT_OVERLAP = 0.97  # overlap of dates with sessions below which a better lag is believed; unshifted it is 1.0
ENOUGH_DATES = 5


def date_shift(bars: pl.DataFrame, sessions: pl.DataFrame) -> pl.DataFrame:
    """Whether a provider's dates are a day off, as time stamps read in the wrong zone are (D4).

    overlap(lag) = share of the distinct dates that are sessions once `lag` days are added. Unshifted it is 1; dates a
    day off still hit a session four times out of five, so only the better lag tells.

    Args:
        bars: session (the date as delivered); optionally provider, and fetch_id to judge every delivery by itself.
        sessions: session: the market's sessions, covering the dates.

    Returns:
        One row per provider ("*" without the column) and fetch_id (if given): dates, overlap_minus_1, overlap_0,
        overlap_plus_1 (12 decimals), best_lag (days to add; 0 when in doubt), verdict: `OK`, `SHIFTED` (overlap below
        0.97 and another lag better: block the delivery), `OFF_CALENDAR` (below 0.97 whatever the lag), `UNKNOWN`
        (fewer than five dates).

    Raises:
        ContractViolation: A column is missing.
    """
    require_columns(bars, ["session"], "bars")
    require_columns(sessions, ["session"], "sessions")
    provider = pl.col("provider") if "provider" in bars.columns else pl.lit("*")
    delivery = ["provider", *(["fetch_id"] if "fetch_id" in bars.columns else [])]
    days = sessions["session"].drop_nulls().unique().implode()
    lags = {"overlap_0": 0, "overlap_minus_1": -1, "overlap_plus_1": 1}  # in doubt the first
    best = pl.max_horizontal(*lags)
    low = pl.col("overlap_0") < SHIFT_OVERLAP
    return (
        bars.with_columns(provider.alias("provider"))
        .select(*delivery, "session")
        .drop_nulls("session")
        .unique()
        .group_by(delivery)
        .agg(
            pl.len().cast(pl.Int64).alias("dates"),
            *(
                pl.col("session").dt.offset_by(f"{lag}d").is_in(days).mean().round(12).alias(name)
                for name, lag in lags.items()
            ),
        )
        .with_columns(best_lag=pl.coalesce(pl.when(pl.col(n) == best).then(pl.lit(lag)) for n, lag in lags.items()))
        .with_columns(
            verdict=pl.when(pl.col("dates") < ENOUGH_DATES)
            .then(pl.lit("UNKNOWN"))
            .when(low & (pl.col("best_lag") != 0))
            .then(pl.lit("SHIFTED"))
            .when(low)
            .then(pl.lit("OFF_CALENDAR"))
            .otherwise(pl.lit("OK"))
        )
        .select(*delivery, "dates", "overlap_minus_1", "overlap_0", "overlap_plus_1", "best_lag", "verdict")
        .sort(delivery)
    )
