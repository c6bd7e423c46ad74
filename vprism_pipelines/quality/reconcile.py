"""Two providers side by side: every common bar compared, every difference classed, every one-sided session counted.

Compare raw closes. Providers adjust by different conventions, so their adjusted levels differ although nobody erred;
what can be compared there is the factor at each ex-date, see `quality.factors`.

    >>> result = reconcile(cafef, vndirect, market("vn"), sources=("cafef", "vndirect"))
    >>> result.run.row(0, named=True)["exact_share"], result.diffs["difference"].value_counts()
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from vprism_pipelines.errors import ContractViolation
from vprism_pipelines.market.rules import tick, venue
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.alignment import require_columns

__all__ = ["DIFFERENCES", "Reconciliation", "Tolerance", "reconcile"]

KEY = ["symbol", "session"]
BP_DIGITS, RATIO_DIGITS = 6, 12  # a value on a threshold must not depend on float noise

RUN_ROWS = 5  # consecutive common bars that differ: no longer a slip of one bar
CONSTANT_BP = 5.0  # by which one constant ratio may wander: both sides round their prices
SESSION_SHARE, SESSION_SYMBOLS = 0.05, 5  # of a session's bars that must differ to blame the session
UNITS = (10.0, 100.0, 1_000.0, 1_000_000.0)
UNIT_BAND = 0.25  # relative; a day's own move on top of a wrong unit

DIFFERENCES: tuple[str, ...] = (
    "exact",
    "one_tick",  # no more than one step of the exchange's lattice apart
    "unit",  # a power of ten apart
    "event_error",  # a run of one constant ratio: one side applied, missed or misdated a corporate action
    "session_error",  # many symbols of that session differ: one side recorded an unfinished or another day
    "other_price",  # a run of varying differences: one side quotes another price, such as the average
    "bar_error",  # this bar alone
    "one_sided",  # a session that only one side has
)
"""Classes of `Reconciliation.diffs`, in the order in which they are tried."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """From where on a difference matters; a value on a threshold has reached it.

    Attributes:
        close_warn_bp: Of |close_bp_diff|, basis points.
        close_fail_bp: Of |close_bp_diff|, basis points.
        volume_warn: Of the greater volume over the smaller.
        volume_fail: Of the greater volume over the smaller.
        fail_share: Failing share of the rows beyond which a symbol, or the run, fails.
    """

    close_warn_bp: float = 5.0
    close_fail_bp: float = 10.0
    volume_warn: float = 1.2
    volume_fail: float = 1.5
    fail_share: float = 0.02


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What two providers agree and disagree on.

    Attributes:
        run: One row: source_a, source_b, start, end, symbols, symbols_only_a, symbols_only_b, compared, exact_share,
            pass_count, warn_count, fail_count, missing_source_a, missing_source_b, untraded, outside, fail_share,
            p50_close_bp_diff, p95_close_bp_diff (of |bp|, linear interpolation), status.
        symbols: One row per symbol of either side: compared, the same counts, p95_close_bp_diff, status, reason.
        diffs: Every row that is not the same on both sides: symbol, session, close_a, close_b, close_bp_diff,
            volume_a, volume_b, volume_ratio, status (PASS, WARN, FAIL), reason (close, volume, close+volume,
            missing_source_a, missing_source_b; null: within tolerance), difference (`DIFFERENCES`).
    """

    run: pl.DataFrame
    symbols: pl.DataFrame
    diffs: pl.DataFrame


def reconcile(
    a: pl.DataFrame,
    b: pl.DataFrame,
    market: MarketSpec,
    *,
    sources: tuple[str, str] = ("a", "b"),
    tolerance: Tolerance | None = None,
    covered: pl.DataFrame | None = None,
) -> Reconciliation:
    """Compare all common bars of two providers.

    Bars that nobody traded are left out on both sides: their price is a copy, and providers differ in whether they
    write one at all. A session of only one side is `missing_source_x` of the side x that lacks it, as long as both
    sides cover the symbol around it; before and after that it is counted as `outside`. A symbol that one side lacks
    altogether fails as a symbol.

    close_bp_diff = (close_a − close_b) / close_b · 10⁴ and volume_ratio = volume_a / volume_b, null without a volume.

    Args:
        a: symbol, session, close (raw, currency units), volume (shares, matched orders only); optionally exchange,
            and traded (Boolean; without it a bar is untraded when its volume is 0).
        b: The same from the other provider.
        market: Whose ticks apply.
        sources: Names of the two, written to `run`.
        tolerance: Thresholds; by default 5 and 10 bp, 1.2 and 1.5 times, 2 % of rows.
        covered: symbol, first, last: sessions that both sides cover, where the bars are only a part of what they have;
            by default as far as the bars given reach.

    Raises:
        ContractViolation: A column is missing, or a provider states a bar twice.
    """
    limits = tolerance or Tolerance()
    sides = [_traded(frame, side) for frame, side in ((a, "a"), (b, "b"))]
    shared = _shared(*sides) if covered is None else covered.select("symbol", "first", "last")
    joined = (
        sides[0].join(sides[1], on=KEY, how="full", coalesce=True).sort(KEY).join(shared, on="symbol", how="left")
    ).with_columns(
        common=pl.all_horizontal(pl.col("close_a", "close_b").is_not_null()),
        inside=pl.col("session").is_between("first", "last").fill_null(False),
    )
    judged = _judged(joined, limits)
    differing = _classed(judged.filter("common"), market).vstack(
        judged.filter(~pl.col("common"), pl.col("status").is_not_null())
        .with_columns(difference=pl.lit("one_sided"))
        .select(_DIFF)
    )
    symbols = _by_symbol(judged, limits)
    untraded = a.height + b.height - sum(side.height for side in sides)
    return Reconciliation(
        run=_run(judged, symbols, sources, untraded, limits), symbols=symbols, diffs=differing.sort(KEY)
    )


_DIFF = [
    *KEY,
    "close_a",
    "close_b",
    "close_bp_diff",
    "volume_a",
    "volume_b",
    "volume_ratio",
    "status",
    "reason",
    "difference",
]


def _traded(bars: pl.DataFrame, side: str) -> pl.DataFrame:
    require_columns(bars, [*KEY, "close", "volume"], f"bars of source {side}")
    traded = pl.col("traded" if "traded" in bars.columns else "volume").cast(pl.Boolean)
    exchange = pl.col("exchange") if "exchange" in bars.columns else pl.lit(None, dtype=pl.String)
    sound = pl.col("close").is_finite() & (pl.col("close") > 0)
    kept = bars.filter(traded.fill_null(True), sound.fill_null(False)).select(
        *KEY,
        pl.col("close").cast(pl.Float64).alias(f"close_{side}"),
        pl.col("volume").cast(pl.Int64).alias(f"volume_{side}"),
        exchange.alias(f"exchange_{side}"),
    )
    twice = kept.filter(kept.select(KEY).is_duplicated())
    if twice.height:
        raise ContractViolation(
            f"{twice.height} bars of source {side} are there twice",
            hint="one bar per symbol and session: quarantine the duplicates first",
            symbol=twice["symbol"][0],
            session=twice["session"][0],
        )
    return kept


def _shared(a: pl.DataFrame, b: pl.DataFrame) -> pl.DataFrame:
    """symbol, first, last: the sessions between the later first and the earlier last bar of the two sides."""
    first, last = (
        side.group_by("symbol").agg(first=pl.col("session").min(), last=pl.col("session").max()) for side in (a, b)
    )
    return first.join(last, on="symbol", suffix="_b").select(
        "symbol", first=pl.max_horizontal("first", "first_b"), last=pl.min_horizontal("last", "last_b")
    )


def _judged(joined: pl.DataFrame, limits: Tolerance) -> pl.DataFrame:
    """Add close_bp_diff, volume_ratio, status (null: neither common nor inside) and reason."""
    volumes = pl.col("volume_a", "volume_b")
    joined = joined.with_columns(
        close_bp_diff=((pl.col("close_a") - pl.col("close_b")) / pl.col("close_b") * 1e4).round(BP_DIGITS),
        volume_ratio=pl.when(pl.all_horizontal(volumes > 0)).then(pl.col("volume_a") / pl.col("volume_b")),
    )
    bp = pl.col("close_bp_diff").abs()
    times = pl.max_horizontal("volume_ratio", 1 / pl.col("volume_ratio")).round(RATIO_DIGITS)
    failed = [(bp >= limits.close_fail_bp), (times >= limits.volume_fail)]
    warned = [(bp >= limits.close_warn_bp), (times >= limits.volume_warn)]
    status = (
        pl.when(~pl.col("common") & ~pl.col("inside"))
        .then(None)
        .when(~pl.col("common") | pl.any_horizontal(rule.fill_null(False) for rule in failed))
        .then(pl.lit("FAIL"))
        .when(pl.any_horizontal(rule.fill_null(False) for rule in warned))
        .then(pl.lit("WARN"))
        .otherwise(pl.lit("PASS"))
    )
    close, volume = (rule.fill_null(False) for rule in warned)
    reason = (
        pl.when("common")
        .then(
            pl.when(close & volume)
            .then(pl.lit("close+volume"))
            .when(close)
            .then(pl.lit("close"))
            .when(volume)
            .then(pl.lit("volume"))
        )
        .when("inside")
        .then(pl.lit("missing_source_") + pl.when(pl.col("close_a").is_null()).then(pl.lit("a")).otherwise(pl.lit("b")))
    )
    return joined.with_columns(status=status, reason=reason)


def _classed(common: pl.DataFrame, market: MarketSpec) -> pl.DataFrame:
    """Common rows that differ in price or volume, with the class of the price difference."""
    apart = pl.col("close_bp_diff") != 0
    log = (pl.col("close_a") / pl.col("close_b")).log()
    whole_session = pl.len().over("session")
    rows = common.with_columns(
        number=pl.int_range(pl.len()).over("symbol"),
        session_share=apart.sum().over("session") / whole_session,
        session_rows=apart.sum().over("session"),
        log=log,
    ).filter(apart | (pl.col("volume_a") != pl.col("volume_b")))
    rules = {
        "venue": venue(pl.col("symbol"), pl.coalesce("exchange_a", "exchange_b")),
        "asset": pl.col("symbol").str.split(":").list.get(1, null_on_oob=True).fill_null("STOCK"),
    }
    prices = (
        rows.filter(apart)
        .with_columns(**rules)
        .with_columns(
            tick=tick(
                pl.col("venue"), pl.col("session"), pl.max_horizontal("close_a", "close_b"), asset=pl.col("asset")
            )
        )
    )
    gap = (pl.col("close_a") - pl.col("close_b")).abs()
    one_tick = (gap <= pl.col("tick") * (1 + 1e-9)).fill_null(False)
    adjacent = (pl.col("number").diff().over("symbol") == 1).fill_null(False)
    steady = adjacent & ((pl.col("log").diff().over("symbol").abs() * 1e4) <= CONSTANT_BP).fill_null(False)
    unit = pl.any_horizontal(
        (pl.col("log").abs() - pl.lit(power).log()).abs() <= pl.lit(1 + UNIT_BAND).log() for power in UNITS
    )
    difference = (
        pl.when("one_tick")
        .then(pl.lit("one_tick"))
        .when(unit)
        .then(pl.lit("unit"))
        .when(pl.len().over("symbol", "stretch") >= RUN_ROWS)
        .then(pl.lit("event_error"))
        .when((pl.col("session_share") >= SESSION_SHARE) & (pl.col("session_rows") >= SESSION_SYMBOLS))
        .then(pl.lit("session_error"))
        .when(pl.len().over("symbol", "run") >= RUN_ROWS)
        .then(pl.lit("other_price"))
        .otherwise(pl.lit("bar_error"))
    )
    classes = (
        prices.with_columns(
            one_tick=one_tick,
            run=(~adjacent).cum_sum().over("symbol"),
            stretch=(~steady).cum_sum().over("symbol"),
        )
        .with_columns(difference=difference)
        .select(*KEY, "difference")
    )
    return (
        rows.join(classes, on=KEY, how="left", maintain_order="left")
        .with_columns(pl.col("difference").fill_null("exact"))
        .select(_DIFF)
    )


def _counts() -> dict[str, pl.Expr]:
    common, bp = pl.col("common"), pl.col("close_bp_diff").abs().filter(pl.col("common"))
    return {
        "compared": common.sum().cast(pl.Int64),
        "exact_share": (bp == 0).mean(),
        **{
            f"{status.lower()}_count": (pl.col("status") == status).sum().cast(pl.Int64)
            for status in ("PASS", "WARN", "FAIL")
        },
        **{
            f"missing_source_{side}": (pl.col("reason") == f"missing_source_{side}").sum().cast(pl.Int64)
            for side in "ab"
        },
        "outside": pl.col("status").is_null().sum().cast(pl.Int64),
        "fail_share": ((pl.col("status") == "FAIL").sum() / pl.col("status").count()).round(RATIO_DIGITS),
        "p50_close_bp_diff": bp.quantile(0.50, "linear").round(BP_DIGITS),
        "p95_close_bp_diff": bp.quantile(0.95, "linear").round(BP_DIGITS),
    }


def _by_symbol(judged: pl.DataFrame, limits: Tolerance) -> pl.DataFrame:
    """Counts per symbol; FAIL if too many of its rows fail or a side lacks it, WARN if any row is not PASS."""
    counted = judged.group_by("symbol", maintain_order=True).agg(
        **_counts(), rows_a=pl.col("close_a").count(), rows_b=pl.col("close_b").count()
    )
    absent = {side: pl.col(f"rows_{side}") == 0 for side in "ab"}
    status = (
        pl.when((pl.col("compared") == 0) | (pl.col("fail_share") > limits.fail_share))
        .then(pl.lit("FAIL"))
        .when(pl.col("fail_count") + pl.col("warn_count") > 0)
        .then(pl.lit("WARN"))
        .otherwise(pl.lit("PASS"))
    )
    reason = (
        pl.when(absent["a"])
        .then(pl.lit("missing_source_a"))
        .when(absent["b"])
        .then(pl.lit("missing_source_b"))
        .when(pl.col("compared") == 0)
        .then(pl.lit("no_common_session"))
        .when(pl.col("fail_share") > limits.fail_share)
        .then(pl.lit("fail_share"))
    )
    return counted.with_columns(status=status, reason=reason).drop("rows_a", "rows_b")


def _run(
    judged: pl.DataFrame, symbols: pl.DataFrame, sources: tuple[str, str], untraded: int, limits: Tolerance
) -> pl.DataFrame:
    only = {side: symbols.filter(pl.col("reason") == f"missing_source_{side}").height for side in "ab"}
    both = judged.filter(pl.col("status").is_not_null())
    verdict = (
        pl.when((pl.col("compared") == 0) | (pl.col("fail_share") > limits.fail_share))
        .then(pl.lit("FAIL"))
        .when((pl.col("fail_count") > 0) | (pl.col("warn_count") > 0))
        .then(pl.lit("WARN"))
        .otherwise(pl.lit("PASS"))
    )
    return judged.select(**_counts()).with_columns(
        source_a=pl.lit(sources[0]),
        source_b=pl.lit(sources[1]),
        start=pl.lit(both["session"].min(), dtype=pl.Date),
        end=pl.lit(both["session"].max(), dtype=pl.Date),
        symbols=pl.lit(symbols.height),
        symbols_only_a=pl.lit(only["b"]),
        symbols_only_b=pl.lit(only["a"]),
        untraded=pl.lit(untraded),
        status=verdict,
    )
