"""Corporate actions nobody declared: steps, rewritten histories and broken limits that no event accounts for."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from vprism_pipelines.market.actions import DECISIONS, SIMPLE_RATIOS, TERMS
from vprism_pipelines.market.inference import infer_actions
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.action_evidence import weigh

__all__ = ["missing"]

NEAR_DAYS = 7  # calendar days from a declared event within which a step is taken to be its
GLITCH_ROWS = 30  # traded bars within which a step that is undone is a slip of the series
SAME_STEP = 2e-3  # relative; two series that show one event
BY_TICKET = ("missing_event", "split")
DIGITS = 4  # of a size that only the opening price tells


def missing(
    events: pl.DataFrame,
    declared: pl.DataFrame,
    rows: pl.DataFrame,
    elsewhere: pl.DataFrame,
    series: pl.DataFrame,
    opened: pl.DataFrame,
    market: MarketSpec,
    findings: pl.DataFrame | None,
    rebased: pl.DataFrame,
) -> pl.DataFrame:
    """Events that adjusted series, rebases or broken limits show and nobody declared.

    Args:
        events: `golden.adjustment_events`.
        declared: `clean.corporate_actions`; a day about which somebody decided is not asked about again.
        rows: provider, symbol, place of every declared ex-date in every series.
        elsewhere: The same of steps that belong to an event declared for a day nearby.
        series: Of `action_evidence.series_steps`.
        opened: Of `action_evidence.gaps`.
        market: Whose limits apply.
        findings: symbol, session, ticket, jump.
        rebased: Of `action_evidence.rebased_steps`.

    Returns:
        symbol, ex_date, proposal (missing), pro, con, seen, weight, alt_<term>, event_type, m, prev_close.
    """
    known = pl.concat(
        [
            events.select("symbol", "ex_date"),
            declared.filter(pl.col("provider") == DECISIONS).select("symbol", "ex_date"),
        ]
    ).unique()
    at = ["provider", "symbol", "place"]
    found = _steps(series.filter("moved").join(pl.concat([rows.select(at), elsewhere.select(at)]), on=at, how="anti"))
    found = _clear_of(pl.concat([found, rebased.select(found.columns)]), known)
    grouped = _grouped(found, series)
    if findings is not None and not findings.is_empty():
        taken = pl.concat([known, grouped.select("symbol", ex_date="session")])
        grouped = pl.concat([grouped, _clear_of(_ticketed(findings), taken)], how="diagonal")
    weighed = weigh(
        grouped.with_columns(still=pl.lit(1.0)).join(opened, on=["symbol", "session"], suffix="_bar"),
        ["m", "still"],
        market,
    )
    return _sized(
        weighed.with_columns(weight=pl.col("fit_m") - pl.col("fit_still")).rename({"session": "ex_date"})
    ).with_columns(proposal=pl.lit("missing"))


def _steps(moves: pl.DataFrame) -> pl.DataFrame:
    """Steps that last: one that the series takes back soon is a slip."""
    ordered = moves.sort("provider", "symbol", "place")

    def undone(by: int) -> pl.Expr:
        step, place = (pl.col(name).shift(by).over("provider", "symbol") for name in ("step", "place"))
        inverse = (pl.col("step") * step - 1).abs() <= SAME_STEP + 2 * pl.col("noise")
        return (inverse & ((pl.col("place") - place).abs() <= GLITCH_ROWS)).fill_null(value=False)

    return ordered.filter(~undone(1) & ~undone(-1)).select("provider", "symbol", "session", "step", "noise")


def _clear_of(found: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Rows with no declared event of the symbol nearby."""
    days = known.sort("ex_date")
    nearest = found.sort("session").join_asof(
        days.with_columns(event="ex_date"),
        left_on="session",
        right_on="ex_date",
        by="symbol",
        strategy="nearest",
        tolerance=timedelta(days=NEAR_DAYS),
        check_sortedness=False,
    )
    return nearest.filter(pl.col("event").is_null()).drop("event", "ex_date", strict=False)


def _grouped(found: pl.DataFrame, series: pl.DataFrame) -> pl.DataFrame:
    """One row per symbol and session: the median step, series that show it and series that do not."""
    reverse = pl.Series([1 / n for n in (2, 3, 4, 5, 8, 10, 15, 20, 25, 50, 100)])
    simple = pl.any_horizontal((pl.col("m") / ratio - 1).abs() < SAME_STEP + pl.col("noise") for ratio in reverse)
    days = found.select("symbol", "session").unique()
    there = series.join(days, on=["symbol", "session"], how="semi").group_by("symbol", "session").agg(seen=pl.len())
    return (
        found.with_columns(middle=pl.col("step").median().over("symbol", "session"))
        .with_columns(same=(pl.col("step") / pl.col("middle") - 1).abs() <= SAME_STEP + pl.col("noise"))
        .group_by("symbol", "session")
        .agg(
            m=pl.col("step").filter("same").median().fill_null(pl.col("step").first()),
            noise=pl.col("noise").min(),
            pro=pl.max_horizontal(pl.col("same").sum(), 1).cast(pl.Int64),
        )
        .join(there, on=["symbol", "session"], how="left")
        .with_columns(seen=pl.max_horizontal(pl.col("seen").fill_null(0).cast(pl.Int64), "pro"))
        .with_columns(con=pl.col("seen") - pl.col("pro"))
        .filter((pl.col("m") > 1) | simple)
    )


def _ticketed(findings: pl.DataFrame) -> pl.DataFrame:
    """Days on which a limit was broken for good: the event is about as large as the break."""
    nobody = pl.lit(0, dtype=pl.Int64)
    return (
        findings.filter(pl.col("ticket").is_in(BY_TICKET), pl.col("jump") > 0, pl.col("jump") < 1)
        .group_by("symbol", "session")
        .agg(m=(1 / pl.col("jump").median()), split=(pl.col("ticket") == "split").any())
        .with_columns(pro=nobody, con=nobody, seen=nobody, noise=pl.lit(0.05))
    )


def _sized(found: pl.DataFrame) -> pl.DataFrame:
    """Terms for each: the shortest account of the step (`market.inference`), or the size of the break."""
    cases = found.with_row_index("case").with_columns(pl.col("case").cast(pl.String))
    observed = cases.filter(pl.col("pro") > 0)
    pair = [
        observed.select(symbol="case", session=pl.lit(day).str.to_date(), close=close, adj_close=adjusted)
        for day, close, adjusted in (
            ("2000-01-03", pl.col("prev_close"), pl.col("prev_close") / pl.col("m")),
            ("2000-01-04", pl.col("close"), pl.col("close")),
        )
    ]
    error = float(observed["noise"].median() or 0.0) if observed.height else 0.0  # type: ignore[arg-type]
    terms = infer_actions(pl.concat(pair), 9, convention="prev_close", close_error=error).events
    own = terms.group_by("symbol").agg(pl.col("cash").sum(), pl.col("split_ratio").product())
    sized = cases.join(own, left_on="case", right_on="symbol", how="left")
    ratio = pl.coalesce(
        pl.col("split_ratio"),
        pl.when(pl.col("split") if "split" in cases.columns else pl.lit(value=False)).then(_nearest_simple("m")),
        pl.col("m").round_sig_figs(DIGITS),
    )
    # Below two for one it is called a bonus: a split of 1.07 would be taken for a spin-off.
    grown = (ratio > 1) & (ratio < 2)
    event_type = (
        pl.when((pl.col("cash").fill_null(0) > 0) & (ratio == 1))
        .then(pl.lit("cash"))
        .when(grown)
        .then(pl.lit("bonus"))
        .otherwise(pl.lit("split"))
    )
    zero = {f"alt_{name}": pl.lit(0.0) for name in TERMS}
    return (
        sized.with_columns(ratio=ratio, cash=pl.col("cash").fill_null(0.0))
        .with_columns(
            **zero
            | {
                "alt_cash": pl.col("cash"),
                "alt_split_ratio": pl.when(grown).then(1.0).otherwise("ratio"),
                "alt_bonus_ratio": pl.when(grown).then((pl.col("ratio") - 1).round(6)).otherwise(0.0),
            },
            event_type=event_type,
        )
        .drop("case", "cash", "split_ratio", "ratio")
    )


def _nearest_simple(column: str) -> pl.Expr:
    """The usual split ratio nearest to a multiplier."""
    usual = [float(n) for n in (1.5, 2, 3, 4, 5, 10, 100, 1000) if n in SIMPLE_RATIOS]
    distance = [((pl.col(column) / ratio).log().abs()).alias(str(ratio)) for ratio in usual]
    return pl.concat_list(distance).list.arg_min().replace_strict(dict(enumerate(usual)), return_dtype=pl.Float64)
