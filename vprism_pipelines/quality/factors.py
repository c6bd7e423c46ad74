"""Our adjustment factors against a provider's own adjusted closes: bar by bar, step by step, ex-date by ex-date."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import polars as pl

from vprism_pipelines.market.adjustment import STEPS, Convention
from vprism_pipelines.quality.alignment import require_columns

__all__ = ["Reproduction", "factor_agreement", "reproduction", "rounding_unit"]

KEY = ["symbol", "session"]
RATIO_DIGITS = 12

AGREEMENT = 1e-3  # relative; providers round factors to four decimals and prices to a tick
NEARBY_BARS = 5  # within which the same step counts as dated otherwise
OTHER_CLOSE = 0.05  # relative; how far another previous close (an average, an older trade) may lie
ROUNDED_TERMS = 0.01  # relative; announced ratios against those carried out
CONVENTIONS = get_args(Convention)
EXACT = 1e-6  # currency, and relative: what published digits and our sums of floats may differ by
STEP = 1e-4  # of the logarithm, from which on adjusted / raw moves
ROUNDING_UNITS = (1000.0, 100.0, 10.0, 1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6)
ON_UNIT = 0.99  # share of the prices that are whole multiples of the unit they are rounded to
ENOUGH_PRICES = 5  # fewer are round by chance
COARSEST, COARSEST_OF_FEW = 0.02, 1e-3  # of the median price: a unit that rounds more away is none
RULES = 1
"""Raised whenever `reproduction` comes out otherwise: what is kept of it is then made anew."""


@dataclass(frozen=True, slots=True)
class Reproduction:
    """How our factors come out beside one provider's adjusted closes.

    Attributes:
        fit: `tables.FACTOR_FIT` without `provider`.
        steps: `tables.ADJUSTMENT_STEPS` without `provider`.
    """

    fit: pl.DataFrame
    steps: pl.DataFrame


def reproduction(bars: pl.DataFrame, factors: pl.DataFrame) -> Reproduction:
    """What our factors make of raw closes, against what a provider publishes as adjusted.

    A provider's series is anchored anywhere: events before its first bar or after its last are one constant, taken
    from the bar whose adjusted close has the most digits. Between ex-dates its factor is constant but for rounding;
    on one it moves as ours does, on the convention of the previous close or of the ex-date's own.

    Args:
        bars: Of one provider, sorted: symbol, session, close (raw), adj_close, both positive.
        factors: symbol, effective_session, hfq, hfq_ex_close (`golden.factors_cumulative`), sorted.
    """
    named = bars["symbol"].unique().sort()
    coded = pl.col("symbol").cast(pl.Enum(named), strict=False)  # several times faster than names
    ours = dict(zip(CONVENTIONS, ("hfq", "hfq_ex_close"), strict=True))
    rows = (
        bars.with_columns(coded)
        .join_asof(
            factors.with_columns(coded).drop_nulls("symbol"),
            left_on="session",
            right_on="effective_session",
            by="symbol",
            check_sortedness=False,  # within a symbol they are
        )
        .select(*KEY, "close", "adj_close", **{name: pl.col(factor).fill_null(1.0) for name, factor in ours.items()})
    )
    coarsest = pl.when(pl.len() >= ENOUGH_PRICES).then(COARSEST).otherwise(COARSEST_OF_FEW)
    told = rows.group_by("symbol", maintain_order=True).agg(
        bars=pl.len().cast(pl.Int64),
        unit=rounding_unit(pl.col("adj_close"), up_to=coarsest * pl.col("adj_close").median()),
        largest=pl.col("adj_close").max(),
    )
    rows = rows.join(told.select("symbol", "largest", half=pl.col("unit") / 2), on="symbol", maintain_order="left")
    fit = _fit(rows).join(told.drop("largest"), on="symbol", maintain_order="left")
    text = pl.col("symbol").cast(pl.String)
    return Reproduction(fit.with_columns(text), _odd_steps(rows).with_columns(text))


def rounding_unit(prices: pl.Expr, *, up_to: pl.Expr | None = None) -> pl.Expr:
    """Of a group of prices: the largest unit, up to a limit, that nearly all are whole multiples of; 0: none shows."""
    limit = pl.lit(ROUNDING_UNITS[0]) if up_to is None else up_to
    whole = {unit: ((prices / unit - (prices / unit).round()).abs() < EXACT).mean() for unit in ROUNDING_UNITS}
    found = [pl.when(share >= ON_UNIT, limit >= unit).then(unit) for unit, share in whole.items()]
    return pl.coalesce(found).fill_null(0.0)


def _fit(rows: pl.DataFrame) -> pl.DataFrame:
    """symbol, convention, missed, and the bar missed by most: session, close, published, missed_by."""
    published = pl.col("adj_close")
    # As exact as the largest adjusted close, which the anchor is taken from, and so are all that rest on it.
    slack = pl.col("half") * (1 + published / pl.col("largest")) + EXACT * (1 + published)
    ours = {name: pl.col("close") * pl.col(name) for name in CONVENTIONS}
    ratios = rows.select("symbol", "adj_close", **{name: published / price for name, price in ours.items()})
    anchors = ratios.group_by("symbol", maintain_order=True).agg(
        pl.col(name).get(published.arg_max()).alias(f"anchor_{name}") for name in CONVENTIONS
    )
    rows = rows.join(anchors, on="symbol", maintain_order="left").select(
        *KEY,
        "close",
        slack=slack,
        published="adj_close",
        **{name: (price * pl.col(f"anchor_{name}") - published).abs() for name, price in ours.items()},
    )
    nearer = (
        rows.group_by("symbol", maintain_order=True)
        .agg(pl.col(*CONVENTIONS).sum())
        # Where the two are one but for floats, the order of a sum must not decide.
        .select("symbol", ex_close_is_nearer=pl.col("ex_close") <= pl.col("prev_close") * (1 + EXACT))
    )
    off = pl.when("ex_close_is_nearer").then(pl.col("ex_close")).otherwise(pl.col("prev_close"))
    rows = rows.join(nearer, on="symbol", maintain_order="left").with_columns(
        missed_by=pl.when(off > pl.col("slack")).then(off)
    )
    worst = pl.col("missed_by").arg_max()
    return rows.group_by("symbol", maintain_order=True).agg(
        pl.col("missed_by").count().cast(pl.Int64).alias("missed"),
        *(pl.col(name).get(worst, null_on_oob=True) for name in ("session", "close", "published")),
        pl.col("missed_by").max(),
        pl.when(pl.col("ex_close_is_nearer").first())
        .then(pl.lit("ex_close"))
        .otherwise(pl.lit("prev_close"))
        .alias("convention"),
    )


def _odd_steps(rows: pl.DataFrame) -> pl.DataFrame:
    """symbol, session, theirs, ours, finding: where the published factor moves and ours does not, or otherwise."""
    same = pl.col("symbol") == pl.col("symbol").shift(1)
    published = pl.col("adj_close")
    factor = published / pl.col("close")
    slack = STEP + pl.col("half") * (1 / published + 1 / published.shift(1))
    steps = rows.select(
        *KEY,
        slack=slack,
        theirs=factor / factor.shift(1),
        **{name: pl.col(name) / pl.col(name).shift(1) for name in CONVENTIONS},
    ).filter(same)
    known = pl.any_horizontal(pl.col(name) != 1 for name in CONVENTIONS)
    off = pl.min_horizontal((pl.col("theirs").log() - pl.col(name).log()).abs() for name in CONVENTIONS)
    odd = off.round(RATIO_DIGITS) > pl.col("slack") + pl.when(known).then(AGREEMENT).otherwise(0.0)
    finding = pl.when(known).then(pl.lit("another step")).otherwise(pl.lit("no event is known"))
    return steps.filter(odd).select(*KEY, "theirs", ours="prev_close", finding=finding)


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
