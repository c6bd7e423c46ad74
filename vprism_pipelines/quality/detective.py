"""The corporate-action detective: what was declared wrongly, twice, for another day, or not at all.

Declared actions are claims; adjusted series, opening prices and price limits are witnesses
(`quality.action_evidence`). A claim is doubted only where some other account of the day (`quality.action_claims`)
fits the witnesses better than the declared one, and what is proposed is that account. Nothing is changed here: people
decide.
"""

from __future__ import annotations

import polars as pl

from vprism_pipelines.market.actions import TERMS
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.action_claims import alternatives, claims, implied, units_of
from vprism_pipelines.quality.action_evidence import LEAST_STEP, gaps, rebased_steps, series_steps, weigh
from vprism_pipelines.quality.action_gaps import missing
from vprism_pipelines.quality.action_proposals import FOUND, told
from vprism_pipelines.tables import REBASES

__all__ = ["detect"]

AGREEMENT = 1e-3  # relative; providers round factors to four decimals and prices to a tick
NEARBY = 5  # traded bars within which the same step counts as dated otherwise
TWICE_DAYS = 17  # calendar days within which equal amounts are suspected to be one event
STALE_DAYS = 30  # from an ex-date to the bar that shows it; beyond, the bar says nothing
RESIZED = 0.02  # relative; a size that differs by less is a matter of rounding
ADJUSTING = 0.5  # share of a year's declared events that a series must show before its silence means anything
ENOUGH_EVENTS = 20  # in a year, to judge a series by that
PRICE_ALONE = 4.0  # nats by which prices must favour another account when no adjusted series testifies

# Which of several accounts that fit equally well: the mistake that is made more often first.
ORDER = {"once": 0, "other": 1, "nothing": 2, "scaled": 3, "implied": 4}


def detect(
    events: pl.DataFrame,
    steps: pl.DataFrame,
    bars: pl.DataFrame,
    adjusted: pl.DataFrame,
    market: MarketSpec,
    *,
    declared: pl.DataFrame | None = None,
    findings: pl.DataFrame | None = None,
    rebases: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Compare what was declared with what prices imply, over whole tables.

    Args:
        events: The standing account, `golden.adjustment_events`.
        steps: `golden.factor_steps` of it.
        bars: Raw bars: symbol, session, exchange, open, high, low, close (currency units), traded (Boolean).
        adjusted: provider, symbol, session, close (raw), adj_close, traded: every adjusted series there is.
        market: Whose price limits and ticks apply.
        declared: `clean.corporate_actions`, every provider's own account.
        findings: symbol, session, ticket, jump of `quality.findings`.
        rebases: `quality.rebases`.

    Returns:
        One row per proposal, the most certain first: the columns of `tables.PROPOSALS` before `status`.

    Raises:
        ContractViolation: A column is missing.
    """
    declared = events.clear() if declared is None else declared
    tested = claims(events, steps)
    series = series_steps(adjusted)
    opened = gaps(bars)
    days = _on_the_day(tested.select("claim", "symbol", "ex_date"), opened, [])
    rows = _rows_of_units(steps, series)
    rebased = rebased_steps(pl.DataFrame(schema=REBASES.polars_schema) if rebases is None else rebases, series)
    dated = tested.select("claim", "symbol", "ex_date")
    testimony = pl.concat([_testifying(rows), rebased.rename({"session": "ex_date"})], how="diagonal")
    seen = dated.join(testimony, on=["symbol", "ex_date"])
    options = alternatives(tested, declared)
    options = pl.concat([options, _resized(tested, seen, days)], how="diagonal")
    options = options.join(tested.select("claim", "symbol"), on="claim").join(days, on="claim", how="left")
    weighed = weigh(options, ["alt_m"], market)
    votes = _votes(weighed, seen)
    elsewhere = _elsewhere(tested, seen, rows, series)
    chosen = _chosen(tested, votes, elsewhere)
    doubted = _named(chosen, tested, elsewhere, market, opened)
    unclaimed = missing(events, declared, rows, elsewhere, series, opened, market, findings, rebased)
    return told(pl.concat([doubted, unclaimed], how="diagonal_relaxed").select(FOUND), series, market.currency)


def _on_the_day(dated: pl.DataFrame, rows: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """The first traded row on or after each ex-date, if it comes soon. `rows` are in the order of their series."""
    wanted = rows.filter(pl.col("symbol").is_in(dated["symbol"].unique().implode()))
    return (
        dated.sort("ex_date")
        .join_asof(
            wanted,
            left_on="ex_date",
            right_on="session",
            by=[*by, "symbol"],
            strategy="forward",
            tolerance=f"{STALE_DAYS}d",
            coalesce=False,
            check_sortedness=False,
        )
        .drop("symbol_right", strict=False)
        .filter(pl.col("session").is_not_null(), pl.col("before").is_not_null())
        .select(pl.exclude("symbol", "ex_date") if "claim" in dated.columns else pl.all())
    )


def _rows_of_units(steps: pl.DataFrame, series: pl.DataFrame) -> pl.DataFrame:
    """Where each ex-date falls in each adjusted series, with the step there less that of other ex-dates on it."""
    units = units_of(steps).select("symbol", "ex_date", "m")
    providers = series.select(pl.col("provider").unique())
    found = _on_the_day(units.join(providers, how="cross"), series, ["provider"])
    together = ["provider", "symbol", "place"]
    return found.with_columns(step=pl.col("step") * pl.col("m") / pl.col("m").product().over(together)).drop("m")


def _testifying(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows without the silence of series that did not adjust yet in those years."""
    year = ["provider", pl.col("session").dt.year()]
    deaf = (pl.len().over(year) >= ENOUGH_EVENTS) & (pl.col("moved").mean().over(year) < ADJUSTING)
    return rows.filter(pl.col("moved") | ~deaf)


def _votes(options: pl.DataFrame, seen: pl.DataFrame) -> pl.DataFrame:
    """Each account of each claim with the series for it and against it, and its price `fit`.

    pro: series that it fits and the declared account does not. con: the other way round, or neither. A series too
    coarse to tell the two apart abstains. seen: all of them.
    """
    observed = seen.select("claim", "provider", "step", "noise")
    each = options.join(observed, on="claim").with_columns(error=(pl.col("alt_m") / pl.col("step") - 1).abs())
    still = (pl.col("alt_m") - 1).abs() < LEAST_STEP
    tick = 0.5 * (pl.col("size") / pl.col("prev_close")).fill_null(0.0) * pl.col("alt_m")
    slack = pl.col("noise") + pl.when(still).then(LEAST_STEP).otherwise(AGREEMENT + tick)
    fits = pl.col("fits")
    as_declared = (fits & (pl.col("label") == "declared")).any().over("claim", "provider")
    each = each.with_columns(fits=pl.col("error") <= slack).with_columns(as_declared=as_declared)
    account = ["claim", "label", "source", "alt_m"]
    counted = each.group_by(account).agg(
        pro=(fits & ~pl.col("as_declared")).sum().cast(pl.Int64),
        con=(~fits).sum().cast(pl.Int64),
        agree=(~fits & pl.col("as_declared")).sum().cast(pl.Int64),
        seen=pl.len().cast(pl.Int64),
        error=pl.col("error").filter(fits).min(),
    )
    return options.join(counted, on=account, how="left", nulls_equal=True).with_columns(
        pl.col("pro", "con", "agree", "seen").fill_null(0), fit=pl.col("fit_alt_m").fill_null(0.0)
    )


def _resized(tested: pl.DataFrame, seen: pl.DataFrame, days: pl.DataFrame) -> pl.DataFrame:
    """The account in which a claim has exactly the size that the adjusted series show."""
    finest = seen.filter("moved").sort("claim", "noise", "provider").unique("claim", keep="first", maintain_order=True)
    step = finest.select("claim", "step", "noise")
    solved = implied(
        tested.join(step, on="claim")
        .join(days.select("claim"), on="claim", how="semi")
        .filter((pl.col("m") / pl.col("step") - 1).abs() > 2 * (AGREEMENT + pl.col("noise"))),
        "step",
        "noise",
    )
    size, was = (pl.max_horizontal(f"{prefix}cash", f"{prefix}bonus_ratio") for prefix in ("alt_", ""))
    return solved.filter((size / was - 1).abs() > RESIZED).select(
        "claim", *(f"alt_{name}" for name in TERMS), "alt_m", label=pl.lit("implied"), source=pl.lit(None, pl.String)
    )


def _elsewhere(tested: pl.DataFrame, seen: pl.DataFrame, rows: pl.DataFrame, series: pl.DataFrame) -> pl.DataFrame:
    """Steps of a claim's size near its ex-date on bars that no declared event accounts for."""
    at = ["provider", "symbol", "place"]
    free = series.filter("moved").join(rows.select(at), on=at, how="anti")
    near = (
        seen.select("claim", "provider", "symbol", declared_place="place")
        .join(free, on=["provider", "symbol"])
        .with_columns(lag=pl.col("place") - pl.col("declared_place"))
        .filter(pl.col("lag").abs() <= NEARBY)
        .join(tested.drop("symbol", "prev_close"), on="claim")
    )
    price = pl.col("prev_close")
    day = (price - pl.col("day_cash") + pl.col("day_value")) / (pl.col("day_shares") + pl.col("day_rights"))
    shares = pl.col("split_ratio") * (1 + pl.col("bonus_ratio"))
    rights = pl.col("rights_ratio")
    own = (price - pl.col("cash") + rights * pl.col("rights_price")) / (shares + rights)
    fits = [((price / ref / pl.col("step") - 1).abs() <= AGREEMENT + pl.col("noise")) for ref in (day, own)]
    return near.filter(pl.any_horizontal(fits).fill_null(value=False)).select(
        "claim", *at, "session", "step", "noise", "lag", near_m=price / own
    )


def _chosen(tested: pl.DataFrame, votes: pl.DataFrame, elsewhere: pl.DataFrame) -> pl.DataFrame:
    """The account that stands against the declared one, where there is one: by the series, else by prices."""
    is_declared = pl.col("label") == "declared"
    said = votes.filter(is_declared).select("claim", fit_declared="fit")
    rank = pl.col("label").replace_strict(ORDER, return_dtype=pl.Int64)
    rivals = (
        votes.filter(~is_declared)
        .join(said, on="claim")
        .with_columns(weight=pl.col("fit") - pl.col("fit_declared"), order=rank)
        .join(tested.select("claim", "m"), on="claim")
        .filter((pl.col("alt_m") / pl.col("m") - 1).abs() > LEAST_STEP)
    )
    by_series = rivals.filter(pl.col("pro") > pl.col("agree"))
    prices = (pl.col("seen") == 0) & (pl.col("label") != "implied") & (pl.col("weight") >= PRICE_ALONE)
    by_price = rivals.filter(prices)
    best = pl.concat(
        [
            by_series.sort("claim", "pro", "order", "error", "alt_m", descending=[False, True, False, False, False]),
            by_price.sort("claim", "weight", "order", "alt_m", descending=[False, True, False, False]),
        ]
    )
    return best.unique("claim", keep="first", maintain_order=True)


def _named(
    chosen: pl.DataFrame, tested: pl.DataFrame, elsewhere: pl.DataFrame, market: MarketSpec, opened: pl.DataFrame
) -> pl.DataFrame:
    """Each doubted claim with the kind of its mistake, and where and how large it should be."""
    moved_to = (
        elsewhere.group_by("claim", "session")
        .agg(
            near=pl.col("provider").n_unique().cast(pl.Int64), near_m=pl.col("near_m").median(), lag=pl.col("lag").min()
        )
        .sort("claim", "near", pl.col("lag").abs(), "session", descending=[False, True, False, False])
        .unique("claim", keep="first", maintain_order=True)
        .join(tested.select("claim", "symbol"), on="claim")
        .join(opened, on=["symbol", "session"], how="left")
        .with_columns(still=pl.lit(1.0))
        .pipe(weigh, ["near_m", "still"], market)
        .select("claim", "near", to="session", there=(pl.col("fit_near_m") - pl.col("fit_still")).fill_null(0.0))
    )
    own = [*TERMS, "symbol", "ex_date", "kind", "event_type", "provider", "currency", "prev_close", "m"]
    twins = tested.select("claim", "symbol", "kind", *TERMS, twin="claim", twin_date="ex_date")
    doubts = chosen.select("claim")
    trusted = twins.join(doubts, on="claim", how="anti").drop("claim")
    twice = (
        tested.join(doubts, on="claim", how="semi")
        .join(trusted, on=["symbol", "kind"], suffix="_twin")
        .filter(
            (pl.col("ex_date") - pl.col("twin_date")).dt.total_days().abs() <= TWICE_DAYS,
            *((pl.col(name) - pl.col(f"{name}_twin")).abs() <= 1e-6 * pl.col(name).abs() for name in TERMS),
        )
        .group_by("claim")
        .agg(twin_date=pl.col("twin_date").min())
    )
    nothing = pl.col("label") == "nothing"
    kind = (
        pl.when(pl.col("label") == "once")
        .then(pl.lit("duplicate"))
        .when(nothing & pl.col("twin_date").is_not_null())
        .then(pl.lit("duplicate"))
        .when(nothing & pl.col("to").is_not_null())
        .then(pl.lit("misdated"))
        .when(nothing)
        .then(pl.lit("invented"))
        .otherwise(pl.lit("mis_sized"))
    )
    return (
        chosen.select(
            "claim", "label", "source", *(f"alt_{name}" for name in TERMS), "alt_m", "pro", "con", "seen", "weight"
        )
        .join(tested.select("claim", *own), on="claim")
        .join(moved_to, on="claim", how="left")
        .join(twice, on="claim", how="left")
        .with_columns(proposal=kind)
        .with_columns(
            to=pl.when(pl.col("proposal") == "misdated").then("to"),
            pro=pl.when(pl.col("proposal") == "misdated").then(pl.min_horizontal("pro", "near")).otherwise("pro"),
            weight=pl.col("weight")
            + pl.when(pl.col("proposal") == "misdated").then(pl.col("there").fill_null(0.0)).otherwise(0.0),
        )
    )
