"""Our adjustment factors against those a provider's own adjusted closes imply, ex-date by ex-date."""

from __future__ import annotations

import polars as pl

from vprism_pipelines.market.adjustment import STEPS
from vprism_pipelines.quality.alignment import require_columns

__all__ = ["factor_agreement"]

KEY = ["symbol", "session"]
RATIO_DIGITS = 12

AGREEMENT = 1e-3  # relative; providers round factors to four decimals and prices to a tick
NEARBY_BARS = 5  # within which the same step counts as dated otherwise
OTHER_CLOSE = 0.05  # relative; how far another previous close (an average, an older trade) may lie
ROUNDED_TERMS = 0.01  # relative; announced ratios against those carried out


def factor_agreement(steps: pl.DataFrame, bars: pl.DataFrame, *, tolerance: float = AGREEMENT) -> pl.DataFrame:
    """Our factor at each ex-date against the step in a provider's own adjusted closes.

    theirs = (adj_close / close on the bar that the event takes effect on) / (the same on the traded bar before).
    Ex-dates that take effect on one bar are one step there, so `ours` is their product and each row shows it.

    Args:
        steps: `FactorResult.steps`; only applied ones are compared, under the previous-close convention.
        bars: symbol, session, close (raw), adj_close, of the provider; optionally traded.
        tolerance: Relative difference up to which the two agree.

    Returns:
        One row per applied step: symbol, ex_date, kind (cash, stock, cash_and_stock, rights), ours, theirs, relative
        (ours / theirs − 1, 12 decimals), verdict (AGREE, DISAGREE, UNKNOWN: no adjusted close around it), cause:
        `other_date` (the same step within five bars), `not_applied` (no step there), `partly_applied` (only
        the cash, only the shares, or all but the rights), `other_close` (same terms on another previous close within
        5 %), `rounded_terms` (within 1 %), `other_terms`.

    Raises:
        ContractViolation: A column is missing.
    """
    require_columns(bars, [*KEY, "close", "adj_close"], "bars")
    require_columns(steps, STEPS.names(), "steps")
    applied = steps.filter(pl.col("status") == "applied").with_columns(
        ours=pl.col("m").product().over("symbol", "effective_session"),
        alone=pl.len().over("symbol", "effective_session") == 1,
    )
    compared = applied.join(
        _provider_steps(bars, applied["symbol"]), left_on=["symbol", "effective_session"], right_on=KEY, how="left"
    )
    relative = (pl.col("ours") / pl.col("theirs") - 1).round(RATIO_DIGITS)
    close = pl.col("relative").abs() <= tolerance
    kind = (
        pl.when(pl.col("rights_ratio") > 0)
        .then(pl.lit("rights"))
        .when((pl.col("cash") > 0) & (pl.col("split_ratio") * (1 + pl.col("bonus_ratio")) != 1))
        .then(pl.lit("cash_and_stock"))
        .when(pl.col("cash") > 0)
        .then(pl.lit("cash"))
        .otherwise(pl.lit("stock"))
    )
    verdict = pl.when(pl.col("relative").is_null()).then(pl.lit("UNKNOWN")).when(close).then(pl.lit("AGREE"))
    return (
        compared.with_columns(kind=kind, relative=relative)
        .with_columns(verdict=verdict.otherwise(pl.lit("DISAGREE")))
        .with_columns(cause=pl.when(pl.col("verdict") == "DISAGREE").then(_cause(tolerance)))
        .select("symbol", "ex_date", "kind", "ours", "theirs", "relative", "verdict", "cause")
        .sort("symbol", "ex_date")
    )


def _provider_steps(bars: pl.DataFrame, symbols: pl.Series) -> pl.DataFrame:
    """symbol, session, theirs, and `around`: the steps on the bars before and after."""
    sound = [(pl.col(name).is_finite() & (pl.col(name) > 0)).fill_null(False) for name in ("close", "adj_close")]
    traded = pl.col("traded").fill_null(True) if "traded" in bars.columns else pl.lit(True)
    factor = pl.col("adj_close") / pl.col("close")
    return (
        bars.filter(pl.col("symbol").is_in(symbols.unique().implode()), traded, *sound)
        .sort(KEY)
        .with_columns(theirs=(factor / factor.shift(1)).over("symbol"))
        .select(
            *KEY,
            "theirs",
            around=pl.concat_list(
                pl.col("theirs").shift(lag).over("symbol") for lag in range(-NEARBY_BARS, NEARBY_BARS + 1) if lag
            ),
        )
    )


def _cause(tolerance: float) -> pl.Expr:
    theirs, before, cash = pl.col("theirs"), pl.col("prev_close"), pl.col("cash")
    shares = pl.col("split_ratio") * (1 + pl.col("bonus_ratio"))
    grown, drop = shares + pl.col("rights_ratio"), cash - pl.col("rights_value")

    def equals(step: pl.Expr) -> pl.Expr:
        return ((step / theirs - 1).abs() <= tolerance).fill_null(False)

    def nearby() -> pl.Expr:
        return (
            (pl.col("around").list.eval((pl.element()).is_not_null()).list.any())
            & ((pl.col("around") / pl.col("ours") - 1).list.eval(pl.element().abs()).list.min() <= tolerance)
        ).fill_null(False)

    partly = [before / (before - cash), shares, before * shares / (before - cash)]
    implied_close = theirs * drop / (theirs - grown)
    return (
        pl.when(nearby())
        .then(pl.lit("other_date"))
        .when(equals(pl.lit(1.0)))
        .then(pl.lit("not_applied"))
        .when(pl.col("alone") & pl.any_horizontal(equals(step) for step in partly))
        .then(pl.lit("partly_applied"))
        .when(pl.col("alone") & ((implied_close / before - 1).abs() <= OTHER_CLOSE) & (drop != 0))
        .then(pl.lit("other_close"))
        .when(pl.col("relative").abs() <= ROUNDED_TERMS)
        .then(pl.lit("rounded_terms"))
        .otherwise(pl.lit("other_terms"))
    )
