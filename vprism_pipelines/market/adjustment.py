"""Adjustment factors: from corporate actions and raw closes to versioned factor steps, and from steps to adjusted bars.

A step multiplies. Under the *previous-close* convention (exchanges, Yahoo, Lean) a unit of events is worth
m = P / reference price. Under the *ex-close* convention (Nasdaq WIKI, Alpha Vantage) it is worth
m = (S·(1 + B) + Σ r) + (D − Σ r·s) / C with C the close of the ex-session: reinvesting in shares at that close, which
is the total return. The two agree where the stock closes at its reference price and differ by basis points elsewhere,
so never compare adjusted prices of one with the other.

F_hfq(t) = Π m over steps up to t is append-only; F_qfq(t) = F_hfq(t) / F_hfq(last) is rewritten by every new event.
Factors are never rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

import polars as pl

from vprism_pipelines.errors import ContractViolation, InvalidInput
from vprism_pipelines.market.actions import (
    TERMS,
    canonical_json,
    conform,
    plain_decimal,
    projections,
    reference_price,
    sha256,
)

Mode = Literal["none", "split", "qfq", "hfq", "total_return"]
Convention = Literal["prev_close", "ex_close"]
Method = Literal["ratio", "additive"]

ALGORITHM = "reference-price/1"
"""Names the formula and its revision: another name, other factors."""

STATUSES: tuple[str, ...] = (
    "applied",  # in force: m, m_ex_close and v are set, and only then
    "pending",  # no bar on or after the ex-date yet
    "no_prior_bar",  # nothing traded before the ex-date: nothing to adjust, nothing to compute from
    "no_terms",  # declared without any amount (a spin-off of unknown value)
    "currency_conflict",  # an amount in another currency than the quotes
    "cash_exceeds_price",  # D >= P, or no positive reference price
)

STEPS = pl.Schema(
    {
        "symbol": pl.String(),
        "ex_date": pl.Date(),
        "effective_session": pl.Date(),  # first bar on or after the ex-date; null: pending
        "prev_close": pl.Float64(),  # P: last traded close before, less the ex-dates since; currency units
        "ref_price": pl.Float64(),
        "m": pl.Float64(),  # multiplier, previous-close convention
        "m_ex_close": pl.Float64(),  # multiplier, ex-close convention
        "v": pl.Float64(),  # multiplier of shares, S·(1 + B) without spin-offs
        "cash": pl.Float64(),  # Σ D
        "split_ratio": pl.Float64(),  # Π S
        "bonus_ratio": pl.Float64(),  # Σ B
        "rights_ratio": pl.Float64(),  # Σ r of the issues below P
        "rights_value": pl.Float64(),  # Σ r·s of the same
        "inferred": pl.Boolean(),
        "status": pl.String(),
        "gap": pl.Boolean(),  # not applied on its own ex-date, or not wholly
        "version": pl.String(),
    }
)

SETS = pl.Schema(
    {
        "symbol": pl.String(),
        "version": pl.String(),
        "events_hash": pl.String(),
        "price_basis_hash": pl.String(),
        "algorithm": pl.String(),
        "n_events": pl.Int64(),
        "action_gap_flag": pl.Boolean(),
    }
)


@dataclass(frozen=True, slots=True)
class FactorResult:
    """Factors of many symbols.

    Attributes:
        steps: One row per symbol and ex-date, columns of `STEPS`, ordered.
        sets: One row per symbol that has bars or events, columns of `SETS`, ordered.
    """

    steps: pl.DataFrame
    sets: pl.DataFrame


def factor_sets(events: pl.DataFrame, bars: pl.DataFrame, quote_currency: str) -> FactorResult:
    """Factor steps and their versions.

    All events of a symbol on one ex-date are one unit, whatever their order. An ex-date without a bar takes effect on
    the next bar. Ex-dates between two trades chain: the second starts from the reference price of the first, as the
    exchange's own reference does. Rights offered at or above P are worth nothing and are ignored.

    Args:
        events: One account of the events (see `actions.merge_events`), raw basis; columns of `actions.EVENTS`.
        bars: symbol, session, close (raw, currency units), optionally traded (Boolean: a trade made that close).
        quote_currency: ISO 4217 code of the closes. An amount in another currency cannot be applied; an event without
            one is taken to be in this.

    Raises:
        ContractViolation: A column is missing, a bar is there twice, or an event has impossible numbers.
    """
    events = conform(events).sort("symbol", "ex_date", "event_type", *TERMS, "currency", nulls_last=True)
    _require(bars, ["symbol", "session", "close"], "bars")
    texts = projections(events)
    names = pl.concat([bars["symbol"].cast(pl.String), events["symbol"]]).unique().drop_nulls().sort()
    hashes = pl.DataFrame(
        {"symbol": names, "events_hash": [sha256(texts.get(name, "[]")) for name in names]},
        schema={"symbol": pl.String, "events_hash": pl.String},
    ).with_columns(("1:" + pl.col("events_hash").str.head(12)).alias("version"))

    units = _dated(events, _closes(bars, events["symbol"]), quote_currency)
    steps = (
        _valued(units, events)
        .join(hashes, on="symbol")
        .select(pl.col(name).cast(dtype) for name, dtype in STEPS.items())
        .sort("symbol", "ex_date")
    )
    return FactorResult(steps=steps, sets=_sets(steps, events, hashes))


def _require(frame: pl.DataFrame, columns: list[str], what: str) -> None:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise ContractViolation(f"{what} lack the columns {', '.join(missing)}", hint=f"needed: {', '.join(columns)}")


def _closes(bars: pl.DataFrame, symbols: pl.Series) -> pl.DataFrame:
    """Bars of the symbols that have events: symbol, session, close; close is null where no trade made it."""
    traded = pl.col("traded").fill_null(True) if "traded" in bars.columns else pl.lit(True)
    close = pl.col("close").cast(pl.Float64)
    closes = (
        bars.filter(pl.col("symbol").is_in(symbols.unique().implode()))
        .select(
            pl.col("symbol").cast(pl.String),
            "session",
            pl.when(traded & close.is_finite() & (close > 0)).then(close).alias("close"),
        )
        .sort("symbol", "session")
    )
    twice = closes.filter(pl.all_horizontal(pl.col("symbol", "session") == pl.col("symbol", "session").shift(1)))
    if twice.height:
        raise ContractViolation(
            f"{twice.height} bars are there twice",
            hint="one raw bar per symbol and session",
            symbol=twice["symbol"][0],
            session=twice["session"][0],
        )
    return closes


def _dated(events: pl.DataFrame, closes: pl.DataFrame, quote_currency: str) -> pl.DataFrame:
    """One row per unit with the bars it refers to, and why it cannot be computed if it cannot."""
    money = (pl.col("cash") != 0) | (pl.col("rights_ratio") != 0)
    foreign = pl.col("currency").fill_null("").is_in(["", quote_currency]).not_() & money
    neutral = ~money & (pl.col("split_ratio") == 1) & (pl.col("bonus_ratio") == 0)
    units = events.group_by("symbol", "ex_date", maintain_order=True).agg(
        foreign.any().alias("foreign"),
        neutral.all().alias("blank"),
        neutral.any().alias("part_blank"),
        pl.col("inferred").any(),
    )
    on_or_after = closes.select("symbol", "session", effective_session="session", ex_close="close")
    before = closes.drop_nulls("close").select("symbol", "session", prev_session="session", prev_close="close")
    first = closes.group_by("symbol").agg(first_session=pl.col("session").min())
    dated = (
        units.join_asof(
            on_or_after, left_on="ex_date", right_on="session", by="symbol", strategy="forward", check_sortedness=False
        )
        .join_asof(
            before,
            left_on="ex_date",
            right_on="session",
            by="symbol",
            strategy="backward",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        .join(first, on="symbol", how="left", maintain_order="left")
    )
    status = (
        pl.when(pl.col("effective_session").is_null())
        .then(pl.lit("pending"))
        .when(pl.col("blank"))
        .then(pl.lit("no_terms"))
        .when(pl.col("foreign"))
        .then(pl.lit("currency_conflict"))
        .when(pl.col("prev_close").is_null())
        .then(pl.lit("no_prior_bar"))
        .otherwise(pl.lit("applied"))
    )
    dated = dated.with_columns(status.alias("status"))
    computable = pl.col("status") == "applied"
    # Of several ex-dates that take effect together only the last one's terms are those of the close that follows.
    latest = pl.col("ex_date") == pl.col("ex_date").max().over("symbol", "effective_session")
    return dated.with_columns(
        pl.when(computable).then("prev_close"),
        pl.when(computable).then("prev_session"),
        pl.when(latest).then("ex_close"),
    )


def _valued(units: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Units with terms and multipliers; those between the same two trades one after the other."""
    chain = ["symbol", "prev_session"]
    depth = pl.int_range(pl.len()).over(chain)
    units = units.with_columns(pl.when(pl.col("prev_close").is_not_null()).then(depth).otherwise(0).alias("depth"))
    levels: list[pl.DataFrame] = []
    for _, level in units.sort("depth", maintain_order=True).group_by("depth", maintain_order=True):
        if levels:
            carried = levels[-1].select(*chain, carried=pl.coalesce("ref_price", "prev_close"))
            level = level.join(carried, on=chain).with_columns(prev_close="carried").drop("carried")
        levels.append(_priced(level, events))
    valued = pl.concat(levels) if levels else _priced(units, events)
    # What happened before the first bar leaves no trace in the sample, so it leaves no gap either.
    partly = (pl.col("ex_date") < pl.col("effective_session")) | pl.col("part_blank")
    lost = ~pl.col("status").is_in(["applied", "pending"]) & (pl.col("ex_date") >= pl.col("first_session"))
    return valued.with_columns((((pl.col("status") == "applied") & partly) | lost).alias("gap"))


def _priced(units: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    key = ["symbol", "ex_date"]
    split = pl.col("split_ratio")
    exercised = (pl.col("rights_price") < pl.col("prev_close")).fill_null(True)
    rights = pl.col("rights_ratio").filter(exercised)
    terms = (
        events.join(units.select(*key, "prev_close"), on=key, maintain_order="left")
        .group_by(key, maintain_order=True)
        .agg(
            pl.col("cash").sum(),
            split.product(),
            split.filter(pl.col("event_type") != "spin_off").product().alias("new_shares"),
            pl.col("bonus_ratio").sum(),
            rights.sum(),
            (rights * pl.col("rights_price").filter(exercised)).sum().alias("rights_value"),
        )
    )
    grown = pl.col("split_ratio") * (1 + pl.col("bonus_ratio"))
    cash, ratio, value, prev_close = (pl.col(n) for n in ("cash", "rights_ratio", "rights_value", "prev_close"))
    at_close = grown + ratio + (cash - value) / pl.col("ex_close")
    priced = units.join(terms, on=key, maintain_order="left").with_columns(
        reference_price(prev_close, cash, grown, ratio, value).alias("ref_price")
    )
    worthless = prev_close.is_not_null() & ((cash >= prev_close) | (pl.col("ref_price") <= 0))
    priced = priced.with_columns(
        pl.when(worthless).then(pl.lit("cash_exceeds_price")).otherwise("status").alias("status"),
        pl.when(~worthless).then("ref_price"),
    )
    m = prev_close / pl.col("ref_price")
    # Nobody traded on the ex-session: reinvestment at the reference price, where both conventions meet.
    m_ex_close = pl.when(at_close > 0).then(at_close).otherwise(m)
    computed = pl.col("ref_price").is_not_null()
    return priced.with_columns(
        m.alias("m"),
        pl.when(computed).then(m_ex_close).alias("m_ex_close"),
        pl.when(computed).then(pl.col("new_shares") * (1 + pl.col("bonus_ratio"))).alias("v"),
    )


def _sets(steps: pl.DataFrame, events: pl.DataFrame, hashes: pl.DataFrame) -> pl.DataFrame:
    used = steps.drop_nulls("prev_close").group_by("symbol").agg("ex_date", "prev_close")
    basis = pl.DataFrame(
        [
            (
                symbol,
                sha256(canonical_json((d.isoformat(), plain_decimal(p)) for d, p in zip(dates, closes, strict=True))),
            )
            for symbol, dates, closes in used.iter_rows()
        ],
        schema={"symbol": pl.String, "price_basis_hash": pl.String},
        orient="row",
    )
    return (
        hashes.join(basis, on="symbol", how="left")
        .join(events.group_by("symbol").agg(n_events=pl.len()), on="symbol", how="left")
        .join(steps.group_by("symbol").agg(action_gap_flag=pl.col("gap").any()), on="symbol", how="left")
        .with_columns(
            pl.col("price_basis_hash").fill_null(sha256("[]")),
            pl.col("n_events").fill_null(0),
            pl.col("action_gap_flag").fill_null(False),
            pl.lit(ALGORITHM).alias("algorithm"),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in SETS.items())
        .sort("symbol")
    )


def adjusted(
    bars: pl.DataFrame,
    steps: pl.DataFrame,
    mode: Mode,
    convention: Convention | None = None,
    method: Method = "ratio",
) -> pl.DataFrame:
    """Bars on another price basis.

    Every mode is relative to all `steps` given, not to the window of bars: a slice of adjusted bars is the adjusted
    slice. Prices are multiplied by `factor`, volumes by `share_factor`; value, in money, is never adjusted.

    * `none`: as traded.
    * `split`: splits, stock dividends and bonuses only; latest price as traded.
    * `qfq`: everything, latest price as traded (forward adjusted: history is scaled).
    * `hfq`: everything, first price as traded (backward adjusted: history never changes).
    * `total_return`: as `qfq` under the ex-close convention.

    Args:
        bars: symbol, session, any of open, high, low, close (raw) and volume (shares); other columns stay.
        steps: `FactorResult.steps`.
        mode: The basis, see above.
        convention: Multiplier used; default `ex_close` for `total_return`, else `prev_close`.
        method: `ratio` keeps returns. `additive` is the 通达信 style, qfq and hfq only: cash is subtracted instead of
            scaled, so that price differences are kept and returns are not, and old prices may turn negative. A column
            `offset` then completes price = raw · factor + offset. For display beside such sources, not for analysis.

    Returns:
        The bars, ordered by symbol and session, prices and volume as Float64, with `factor` and `share_factor`.

    Raises:
        InvalidInput: The combination of arguments means nothing.
        ContractViolation: A column is missing.
    """
    if mode not in ("none", "split", "qfq", "hfq", "total_return"):
        raise InvalidInput(f"there is no adjustment {mode!r}", hint="none, split, qfq, hfq or total_return")
    if convention not in (None, "prev_close", "ex_close"):
        raise InvalidInput(f"there is no convention {convention!r}", hint="prev_close or ex_close")
    if method not in ("ratio", "additive") or (method == "additive" and mode not in ("qfq", "hfq")):
        raise InvalidInput(f"there is no {method} adjustment for {mode}", hint="additive exists for qfq and hfq")
    if "factor" in bars.columns:
        raise InvalidInput("these bars are adjusted already", hint="adjust raw bars")
    _require(bars, ["symbol", "session"], "bars")
    _require(steps, STEPS.names(), "steps")
    multiplier = (
        "m_ex_close" if (convention or ("ex_close" if mode == "total_return" else "prev_close")) == "ex_close" else "m"
    )
    curve = _curve(steps, mode, multiplier, additive=method == "additive")
    factored = (
        bars.sort("symbol", "session")
        .join_asof(curve, on="session", by="symbol", strategy="backward", check_sortedness=False)
        .with_columns(pl.col("factor", "share_factor").fill_null(1.0), pl.col("offset").fill_null(0.0))
    )
    prices = [name for name in ("open", "high", "low", "close") if name in bars.columns]
    factored = factored.with_columns(
        pl.col(prices) * pl.col("factor") + (pl.col("offset") if method == "additive" else 0.0),
        *([pl.col("volume") * pl.col("share_factor")] if "volume" in bars.columns else []),
    )
    return factored if method == "additive" else factored.drop("offset")


def _curve(steps: pl.DataFrame, mode: Mode, multiplier: str, *, additive: bool) -> pl.DataFrame:
    """factor, offset and share_factor from each session on that changes them: symbol, session, the three."""
    # The affine map of one step takes a price after it to the basis before: p·k + d.
    slope = pl.col("split_ratio") * (1 + pl.col("bonus_ratio")) + pl.col("rights_ratio")
    growth = slope if additive else pl.col("v") if mode == "split" else pl.col(multiplier)
    drop = pl.col("cash") - pl.col("rights_value") if additive else pl.lit(0.0)
    applied = (
        steps.filter(pl.col("status") == "applied")
        .sort("symbol", "effective_session", "ex_date")
        .select("symbol", growth.alias("k"), drop.alias("d"), "v", session="effective_session")
    )
    before_all = applied.select("symbol").unique().with_columns(k=1.0, d=0.0, v=1.0, session=pl.lit(date.min))
    forward = (
        pl.concat([before_all.select(applied.columns), applied])
        .sort("symbol", "session", maintain_order=True)
        .with_columns(factor=pl.col("k").cum_prod().over("symbol"), shares=pl.col("v").cum_prod().over("symbol"))
        .with_columns(offset=(pl.col("d") * pl.col("factor") / pl.col("k")).cum_sum().over("symbol"))
        .unique(["symbol", "session"], keep="last", maintain_order=True)
    )
    last = {name: pl.col(name).last().over("symbol") for name in ("factor", "shares", "offset")}
    if mode == "none":
        basis = {"factor": pl.lit(1.0), "offset": pl.lit(0.0), "share_factor": pl.lit(1.0)}
    elif mode == "hfq":
        basis = {"factor": pl.col("factor"), "offset": pl.col("offset"), "share_factor": 1 / pl.col("shares")}
    else:
        basis = {
            "factor": pl.col("factor") / last["factor"],
            "offset": (pl.col("offset") - last["offset"]) / last["factor"],
            "share_factor": last["shares"] / pl.col("shares"),
        }
    return forward.select("symbol", "session", **basis)
