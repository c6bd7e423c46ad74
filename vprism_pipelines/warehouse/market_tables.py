"""The analytics tables across symbols, as data: quotes, breadth, sectors, ratings, correlation, reported figures."""

from __future__ import annotations

from vprism_pipelines.tables import Column, Rule, SqlType, Table
from vprism_pipelines.warehouse.valuation_tables import FIGURES

_PRICE = "currency per share"
_SHARES = "analytics.figures.shares_outstanding golden.factor_steps.shares"
_CAP = f"golden.bars.close {_SHARES}"


def _column(
    name: str,
    kind: SqlType,
    description: str,
    unit: str = "",
    sources: str = "",
    *,
    nullable: bool = False,
    rule: Rule = "",
) -> Column:
    """A column; sources are names, those without a table being columns of `analytics.daily`."""
    named = (source if "." in source else f"analytics.daily.{source}" for source in sources.split())
    return Column(name, kind, description, unit, nullable, rule, tuple(named))


def _figure(name: str, description: str, unit: str = "fraction", sources: str = "") -> Column:
    """A number that may be unknown; the column of `analytics.daily` of that name unless told otherwise."""
    return _column(name, "DOUBLE", description, unit, sources or name, nullable=True)


def _count(name: str, description: str, sources: str) -> Column:
    return _column(name, "INTEGER", description, "stocks", sources)


_MARKET = _column("market", "VARCHAR", "market code")
_SYMBOL = _column("symbol", "VARCHAR", "canonical identifier MARKET:ASSET:CODE", sources="symbol", rule="symbol")
_SESSION = _column("session", "DATE", "trading day in the exchange's zone", sources="session")
_TRADED = _count("traded", "stocks that traded: what shares are of", "symbol")
_ADVANCERS = _count("advancers", "closed above their reference price", "change")
_DECLINERS = _count("decliners", "closed below it", "change")
_VALUE = _figure("value", "value traded, of stocks whose value is known", "currency", "golden.bars.value")

LATEST = Table(
    "analytics",
    "latest",
    ("symbol",),
    "One row per symbol for quotes and screeners: its last traded session, as traded, and how it got there.",
    (
        _SYMBOL,
        _SESSION,
        _column("exchange", "VARCHAR", "venue, when known", sources="golden.bars.exchange", nullable=True),
        _column("currency", "VARCHAR", "ISO 4217 code", sources="golden.bars.currency", rule="currency"),
        _column("close", "DOUBLE", "last price", _PRICE, "golden.bars.close", rule="positive"),
        _figure("reference", "what the close is measured against", _PRICE),
        _figure("change", "close / reference - 1"),
        _column("volume", "BIGINT", "shares traded", "shares", "golden.bars.volume", nullable=True),
        _figure("value", "traded value", "currency", "golden.bars.value"),
        _figure(
            "high_52w",
            "highest high of 252 sessions, per share of today",
            _PRICE,
            "high_52w golden.factor_steps.shares",
        ),
        _figure(
            "low_52w", "lowest low of 252 sessions, per share of today", _PRICE, "low_52w golden.factor_steps.shares"
        ),
        _figure("pct_from_high", "close / high_52w - 1"),
        _figure("pct_from_low", "close / low_52w - 1"),
        _figure("ret_1w", "total return over 5 sessions", sources="ret_5d"),
        _figure("ret_1m", "total return over 20 sessions", sources="ret_20d"),
        _figure("ret_3m", "total return over 60 sessions", sources="ret_60d"),
        _figure("ret_6m", "total return over 120 sessions", sources="ret_120d"),
        _figure("ret_1y", "total return over 252 sessions", sources="ret_252d"),
        _figure("ret_ytd", "total return since the last close of the calendar year before"),
        _figure("vol_20", "annualised sample deviation of 20 log returns"),
        _figure("vol_252", "annualised sample deviation of 252 log returns"),
        _figure("rsi_14", "relative strength index (Wilder)", "points"),
        _figure("beta_252", "slope of 252 returns against the benchmark's", "ratio"),
        _figure("adv_20", "mean value traded of 20 sessions", "currency"),
        _figure("idle_share_60", "share of 60 exchange sessions without a trade"),
        _figure(
            "rs_rating", "rank of ret_1y among the market's stocks", "points, 0 to 100", "analytics.ratings.rs_rating"
        ),
        _figure("market_cap", "close x the shares known by then to be in issue", "currency", _CAP),
        _figure(
            "pe",
            "market_cap / net income of twelve months; null: a loss",
            "ratio",
            f"{_CAP} analytics.figures.net_income",
        ),
        _figure("pb", "market_cap / equity; null: none is left", "ratio", f"{_CAP} analytics.figures.equity"),
        _figure(
            "dividend_yield",
            "cash with an ex-date in the last 12 months / close; null: none is known",
            sources="golden.factor_steps.cash golden.factor_steps.shares golden.bars.close",
        ),
        _column("limit_hit", "INTEGER", "1 closed at the ceiling, -1 at the floor", sources="limit_hit", nullable=True),
        _column("flags", "INTEGER", "bits of quality.flags.BarFlag", sources="golden.bars.flags"),
    ),
)

BREADTH = Table(
    "analytics",
    "breadth",
    ("market", "exchange", "session"),
    "How many of the stocks that traded rose, fell, made highs: against their reference prices, so that an ex-date is"
    " no fall.",
    (
        _MARKET,
        _column(
            "exchange",
            "VARCHAR",
            "venue; *: the whole market; unknown: no provider says",
            sources="golden.bars.exchange",
        ),
        _SESSION,
        _TRADED,
        _ADVANCERS,
        _DECLINERS,
        _count("unchanged", "closed at it", "change"),
        _column("ad_line", "BIGINT", "advancers minus decliners, summed since the first session", "stocks", "change"),
        _figure("above_sma_50", "share of stocks above their mean close of 50 sessions, of those that have one"),
        _figure("above_sma_200", "share of stocks above their mean close of 200 sessions, of those that have one"),
        _count("new_highs", "made their highest high of 252 sessions", "since_high_52w"),
        _count("new_lows", "made their lowest low of 252 sessions", "since_low_52w"),
        _count("ceilings", "closed at the highest price allowed", "limit_hit"),
        _count("floors", "closed at the lowest price allowed", "limit_hit"),
        _VALUE,
    ),
)

SECTORS = Table(
    "analytics",
    "sectors",
    ("market", "sector", "session"),
    "Return and turnover of the stocks of a sector, as the sectors are classified today.",
    (
        _MARKET,
        _column(
            "sector",
            "VARCHAR",
            "as the highest-ranked provider classifies",
            sources="clean.instruments_ledger.sector",
        ),
        _SESSION,
        _TRADED,
        _ADVANCERS,
        _DECLINERS,
        _figure("median_return", "median of ret_1d: every stock weighs the same", sources="ret_1d"),
        _figure(
            "cap_return",
            "mean of ret_1d weighted with the caps of the last trade before, of the stocks that have both",
            sources=f"ret_1d {_CAP}",
        ),
        _VALUE,
    ),
)

RATINGS = Table(
    "analytics",
    "ratings",
    ("symbol", "session"),
    "Where a stock stands among the market's stocks of that session.",
    (
        _SYMBOL,
        _SESSION,
        _column("rs_rating", "DOUBLE", "percent rank of ret_252d", "points, 0 to 100", "ret_252d"),
        _count("rated", "stocks ranked", "ret_252d"),
    ),
)

CORRELATION = Table(
    "analytics",
    "correlation",
    ("market", "sessions", "symbol_a", "symbol_b"),
    "Correlation of daily returns among the stocks most traded by value, up to the newest session.",
    (
        _MARKET,
        _column("sessions", "INTEGER", "sessions looked back", "sessions"),
        _column("symbol_a", "VARCHAR", "first of the pair in alphabetical order", sources="symbol", rule="symbol"),
        _column("symbol_b", "VARCHAR", "the other", sources="symbol", rule="symbol"),
        _column("session", "DATE", "newest session", sources="session"),
        _column("observations", "INTEGER", "sessions both traded", "sessions", "ret_1d"),
        _figure("correlation", "Pearson; null: too few sessions shared, or no movement", "ratio", "ret_1d"),
    ),
    decided_by=("analytics.daily.adv_20",),
)

TABLES: tuple[Table, ...] = (LATEST, BREADTH, SECTORS, RATINGS, CORRELATION, FIGURES)
