"""What companies are worth, as data: the figures known of each since when, and the view that prices them."""

from __future__ import annotations

from typing import Final

from vprism_pipelines.market.valuation import KNOWN
from vprism_pipelines.tables import SYMBOL, Column, Table
from vprism_pipelines.tables.golden import TRADED

STALE_DAYS: Final = 550
"""Nothing is measured against a period that ended longer ago: an annual report is due every year."""

_LEDGER = "clean.fundamentals_ledger"
_OF_AMOUNT = tuple(f"{_LEDGER}.{name}" for name in ("value", "item", "period_end", "period_kind"))
_FIGURES: Final = {
    "shares_outstanding": ("shares in issue, as counted on that day", "shares", "the day that the count refers to"),
    "net_income": ("attributable to the parent, of twelve months", "currency", "the last of them"),
    "revenue": ("net sales of twelve months", "currency", "the last of them"),
    "equity": ("attributable to the parent", "currency", "the day it was on"),
    "mean_equity": ("mean of the equity at the end of twelve months and a year before", "currency", "their end"),
}

FIGURES = Table(
    "analytics",
    "figures",
    ("symbol", "since"),
    "What the market could know of a company, from which day: one believed figure of each kind, in steps.",
    (
        Column(SYMBOL.name, "VARCHAR", SYMBOL.description, rule="symbol", sources=(f"{_LEDGER}.symbol",)),
        Column(
            "since",
            "DATE",
            "first day on which this was known; holds until the next",
            sources=(f"{_LEDGER}.available_from", f"{_LEDGER}.known_from"),
        ),
        Column(
            "currency", "VARCHAR", "of the amounts: the market's", sources=(f"{_LEDGER}.currency",), rule="currency"
        ),
        *(
            column
            for name in KNOWN
            for what, unit, day in [_FIGURES[name]]
            for column in (
                Column(name, "DOUBLE", what, unit, nullable=True, sources=_OF_AMOUNT),
                Column(f"{name}_end", "DATE", day, nullable=True, sources=(f"{_LEDGER}.period_end",)),
            )
        ),
    ),
    decided_by=tuple(f"{_LEDGER}.{name}" for name in ("provider", "item", "period_end", "period_kind", "currency")),
)

_SPLITS: Final = "(SELECT symbol, ex_date, shares FROM golden.factor_steps WHERE status = 'applied')"
_COUNTED: Final = f"""(SELECT g.*, coalesce(s.shares, 1) AS counted_in FROM analytics.figures AS g
    ASOF LEFT JOIN {_SPLITS} AS s ON g.symbol = s.symbol AND g.shares_outstanding_end >= s.ex_date)"""

# Cash per share of the first bar, so that a split between ex-date and session divides it; exact, as a sum is stored.
# It counts from its ex-date until the same day of the next year.
_CASH: Final = """(
    WITH paid AS (
        SELECT symbol, ex_date, (ex_date + INTERVAL 1 YEAR)::DATE AS until,
               TRY_CAST(cash * shares / v AS DECIMAL(28, 12)) AS cash
        FROM golden.factor_steps WHERE status = 'applied' AND cash > 0)
    SELECT d.symbol, d.since, coalesce(sum(p.cash), 0)::DOUBLE AS cash
    FROM (SELECT symbol, ex_date AS since FROM paid UNION SELECT symbol, until FROM paid) AS d
    LEFT JOIN paid AS p ON d.symbol = p.symbol AND d.since >= p.ex_date AND d.since < p.until
    GROUP BY ALL)"""


def capitalised(bars: str) -> str:
    """SQL: bars with the figures known by then, the shares issued, and what these were worth together.

    A count is carried on over the splits, stock dividends and bonus issues with an ex-date after the day it refers to.
    There is no `price` where nobody knows at what price the share was traded, or nobody traded it.

    Args:
        bars: A relation of `golden.bars`.
    """
    return f"""
        SELECT b.symbol, b.session, b.volume, g.* EXCLUDE (symbol, currency), b.currency = g.currency AS comparable,
               CASE WHEN b.traded AND b.price_basis = 'raw' THEN b.close END AS price,
               coalesce(f.shares, 1) AS share_factor,
               round(g.shares_outstanding * share_factor / g.counted_in) AS issued, price * issued AS market_cap
        FROM (SELECT *, {TRADED} AS traded FROM {bars}) AS b
        ASOF LEFT JOIN {_COUNTED} AS g ON b.symbol = g.symbol AND b.session >= g.since
        ASOF LEFT JOIN {_SPLITS} AS f ON b.symbol = f.symbol AND b.session >= f.ex_date"""


def _amount(name: str) -> str:
    """SQL: an amount in the currency of the price, of a period not too long ago."""
    return f"CASE WHEN comparable AND v.session <= {name}_end + {STALE_DAYS} THEN {name} END"


def valued(bars: str) -> str:
    """SQL: what each bar says its company is worth; see `analytics.valuation`.

    Args:
        bars: A relation of `golden.bars`.
    """
    return f"""
        SELECT v.symbol, v.session, TRY_CAST(issued AS BIGINT) AS shares_outstanding, market_cap,
               CASE WHEN net_income > 0 THEN market_cap / {_amount("net_income")} END AS pe,
               CASE WHEN equity > 0 THEN market_cap / {_amount("equity")} END AS pb,
               market_cap / {_amount("revenue")} AS ps,
               CASE WHEN mean_equity > 0 AND abs(net_income_end - mean_equity_end) < 45
                    THEN {_amount("net_income")} / mean_equity END AS roe,
               cash / share_factor / price AS dividend_yield,
               volume / issued AS turnover
        FROM ({capitalised(bars)}) AS v
        ASOF LEFT JOIN {_CASH} AS c ON v.symbol = c.symbol AND v.session >= c.since"""


VIEWS: Final = f"""
CREATE OR REPLACE VIEW analytics.valuation AS {valued("golden.bars")};
"""
