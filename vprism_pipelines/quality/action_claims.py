"""Declared corporate actions as claims that prices can test, and what else each of them might have been.

A claim is everything declared of one kind (cash, shares, rights, spin-off) for one symbol and ex-date. Its alternatives
are the mistakes that are made with such declarations: said twice, in another unit, of another size, not at all.
"""

from __future__ import annotations

import polars as pl

from vprism_pipelines.market.actions import DECISIONS, TERMS, conform, event_kind, reference_price

__all__ = ["CLAIM", "SCALES", "alternatives", "claims", "implied", "multiplier", "units_of"]

CLAIM = ["symbol", "ex_date", "kind"]
SCALES = (0.001, 0.01, 0.1, 10.0, 100.0, 1000.0)
"""Units that are confused: thousands, percent of par value, one for ten."""

MOST_SHARES = 20.0  # new shares per old beyond which a scaled ratio is no candidate
RUINOUS = 1e6  # stands for the multiplier of a dividend that is worth more than the share
TESTED = ("applied", "cash_exceeds_price")
LEAST_SIZE = 1e-4  # of the price or of the shares: below it a scaled amount is no candidate


def claims(events: pl.DataFrame, steps: pl.DataFrame) -> pl.DataFrame:
    """What is declared, by kind, with what all of the day's events together do to the price.

    Args:
        events: `golden.adjustment_events`.
        steps: `golden.factor_steps`.

    Returns:
        One row per claim that moves a price: `CLAIM`, event_type, provider, currency, n (events in it), n_equal
        (of them with the same terms), own terms (`TERMS`, summed; split ratios multiplied), terms of one of the equal
        ones as once_<term>, and of the unit: prev_close, m, day_cash, day_shares, day_rights, day_value. People's own
        decisions and days of unknown price are not tested.
    """
    summed = ["cash", "bonus_ratio", "rights_ratio"]
    same = [*CLAIM, *TERMS]
    rows = events.with_columns(event_kind()).with_columns(copies=pl.len().over(same))
    own = (
        rows.filter(pl.col("provider").fill_null("") != DECISIONS)
        .sort(*CLAIM, "copies", *TERMS, descending=[False] * 3 + [True] * 6)
        .group_by(CLAIM, maintain_order=True)
        .agg(
            pl.col("event_type", "provider", "currency").first(),
            *(pl.col(name).first().alias(f"once_{name}") for name in TERMS),
            pl.col(*summed).sum(),
            pl.col("split_ratio").product(),
            rights_price=(pl.col("rights_ratio") * pl.col("rights_price")).sum(),
            n=pl.len(),
            n_equal=pl.col("copies").max(),
        )
        .with_columns(
            rights_price=pl.when(pl.col("rights_ratio") > 0)
            .then(pl.col("rights_price") / pl.col("rights_ratio"))
            .otherwise(0.0)
        )
    )
    units = units_of(steps).select(
        "symbol",
        "ex_date",
        "prev_close",
        "m",
        day_cash="cash",
        day_shares=pl.col("split_ratio") * (1 + pl.col("bonus_ratio")),
        day_rights="rights_ratio",
        day_value="rights_value",
    )
    worthless = (pl.col("kind") == "rights") & (pl.col("rights_price") >= pl.col("prev_close"))
    return own.join(units, on=["symbol", "ex_date"]).filter(~worthless).sort(CLAIM).with_row_index("claim")


def units_of(steps: pl.DataFrame) -> pl.DataFrame:
    """The ex-dates of `golden.factor_steps` that prices can test; a price below zero makes m `RUINOUS`."""
    return steps.filter(pl.col("status").is_in(TESTED)).with_columns(pl.col("m").fill_null(RUINOUS))


def multiplier(prefix: str = "alt_") -> pl.Expr:
    """The day's event multiplier if the claim's own terms were those in columns `<prefix><term>`."""
    shares = pl.col("split_ratio") * (1 + pl.col("bonus_ratio"))
    other = pl.col(f"{prefix}split_ratio") * (1 + pl.col(f"{prefix}bonus_ratio"))
    value = pl.col(f"{prefix}rights_ratio") * pl.col(f"{prefix}rights_price") - pl.col("rights_ratio") * pl.col(
        "rights_price"
    )
    price = reference_price(
        pl.col("prev_close"),
        pl.col("day_cash") - pl.col("cash") + pl.col(f"{prefix}cash"),
        pl.col("day_shares") / shares * other,
        pl.col("day_rights") - pl.col("rights_ratio") + pl.col(f"{prefix}rights_ratio"),
        pl.col("day_value") + value,
    )
    return pl.when(price > 0).then(pl.col("prev_close") / price)


def alternatives(tested: pl.DataFrame, declared: pl.DataFrame) -> pl.DataFrame:
    """What each claim may have been: as declared, nothing, said once, in another unit, or as somebody else says.

    Args:
        tested: Of `claims`.
        declared: `clean.corporate_actions`, every provider's; may be empty.

    Returns:
        claim, label (declared, nothing, once, scaled, other), source (of other), alt_<term> and alt_m.
    """
    numbers = ["cash", "bonus_ratio", "rights_ratio"]
    declared_terms = {f"alt_{name}": pl.col(name) for name in TERMS}
    neutral = {f"alt_{name}": pl.lit(1.0 if name == "split_ratio" else 0.0) for name in TERMS}
    nobody = pl.lit(None, dtype=pl.String)
    less = tested.with_columns(**neutral).with_columns(alone=((multiplier() - 1).abs() < LEAST_SIZE))
    parts = [
        tested.with_columns(**declared_terms, label=pl.lit("declared"), source=nobody),
        tested.with_columns(**neutral, label=pl.lit("nothing"), source=nobody),
        tested.filter((pl.col("n") == pl.col("n_equal")) & (pl.col("n") > 1)).with_columns(
            **{f"alt_{name}": pl.col(f"once_{name}") for name in TERMS}, label=pl.lit("once"), source=nobody
        ),
    ]
    for scale in SCALES:
        scaled = {**declared_terms, **{f"alt_{name}": pl.col(name) * scale for name in numbers}}
        size = pl.max_horizontal(pl.col("cash") / pl.col("prev_close"), "bonus_ratio", "rights_ratio") * scale
        possible = (pl.col("split_ratio") == 1) & (size > LEAST_SIZE) & (size < MOST_SHARES)
        parts.append(tested.filter(possible).with_columns(**scaled, label=pl.lit("scaled"), source=nobody))
    if not declared.is_empty():
        said = (
            conform(declared)
            .filter(~pl.col("withdrawn").fill_null(value=False) if "withdrawn" in declared.columns else True)
            .with_columns(event_kind())
            .unique([*CLAIM, "provider", "event_type", *TERMS])
            .group_by(*CLAIM, said_by="provider")
            .agg(
                pl.col(*numbers).sum().name.prefix("alt_"),
                alt_split_ratio=pl.col("split_ratio").product(),
                alt_rights_price=pl.col("rights_price").max(),
            )
        )
        others = tested.join(said, on=CLAIM).filter(pl.col("said_by") != pl.col("provider").fill_null(""))
        parts.append(others.with_columns(label=pl.lit("other"), source=pl.col("said_by")).drop("said_by"))
    order = [*parts[0].columns]
    # A day of cash and shares may have happened otherwise as a whole.
    whole_day = less.filter(~pl.col("alone")).select("claim", **neutral, label=pl.lit("nothing"), source=nobody)
    return (
        pl.concat(
            [
                *(part.select(order).with_columns(alt_m=multiplier()) for part in parts),
                whole_day.with_columns(alt_m=pl.lit(1.0)),
            ],
            how="diagonal",
        )
        .with_columns(
            alt_m=pl.when(pl.col("label") == "declared").then(pl.col("alt_m").fill_null(RUINOUS)).otherwise("alt_m")
        )
        .filter(pl.col("alt_m").is_not_null())
        .select("claim", "label", "source", *(f"alt_{name}" for name in TERMS), "alt_m")
    )


def implied(tested: pl.DataFrame, step: str, noise: str) -> pl.DataFrame:
    """The size at which a claim of cash or shares gives the step that was observed, as round as the noise allows.

    Args:
        tested: Of `claims`, with the multiplier observed and its relative error.
        step: Column of the multiplier.
        noise: Column of its error.

    Returns:
        The rows whose size can be solved for, with alt_<term>, alt_m.
    """
    price, value = pl.col("prev_close"), pl.col("day_value")
    grown = pl.col("day_shares") + pl.col("day_rights")
    cash_of_others = pl.col("day_cash") - pl.col("cash")
    cash = price + value - price * grown / pl.col(step) - cash_of_others
    shares = pl.col(step) * (price - pl.col("day_cash") + value) / price - pl.col("day_rights")
    bonus = shares / (pl.col("day_shares") / (pl.col("split_ratio") * (1 + pl.col("bonus_ratio")))) - 1
    plain_shares = (pl.col("kind") == "shares") & (pl.col("split_ratio") == 1)
    size = pl.when(pl.col("kind") == "cash").then(cash).when(plain_shares).then(bonus)
    error = pl.col(noise) * pl.when(pl.col("kind") == "cash").then(price).otherwise(1.0)
    rounded = pl.coalesce(
        pl.when((size.round_sig_figs(digits) - size).abs() <= error).then(size.round_sig_figs(digits))
        for digits in (1, 2, 3, 4)
    )
    solved = tested.with_columns(_size=pl.coalesce(rounded, size.round_sig_figs(6))).filter(pl.col("_size") > 0)
    is_cash = pl.col("kind") == "cash"
    return (
        solved.with_columns(
            alt_cash=pl.when(is_cash).then("_size").otherwise("cash"),
            alt_bonus_ratio=pl.when(is_cash).then("bonus_ratio").otherwise("_size"),
            alt_split_ratio="split_ratio",
            alt_rights_ratio="rights_ratio",
            alt_rights_price="rights_price",
        )
        .drop("_size")
        .with_columns(alt_m=multiplier())
    )
