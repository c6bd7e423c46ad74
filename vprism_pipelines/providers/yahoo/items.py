"""Yahoo's names of reported figures: which statement each is of, in which unit, and for which time it speaks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

STATEMENTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "income": (
            "TotalRevenue", "CostOfRevenue", "GrossProfit", "OperatingExpense", "OperatingIncome", "InterestExpense",
            "PretaxIncome", "TaxProvision", "NetIncome", "NetIncomeCommonStockholders", "EBIT", "EBITDA", "BasicEPS",
            "DilutedEPS", "BasicAverageShares", "DilutedAverageShares",
        ),
        "balance": (
            "TotalAssets", "CurrentAssets", "CashAndCashEquivalents", "Inventory", "AccountsReceivable",
            "TotalLiabilitiesNetMinorityInterest", "CurrentLiabilities", "TotalDebt", "LongTermDebt",
            "StockholdersEquity", "RetainedEarnings", "WorkingCapital", "OrdinarySharesNumber",
        ),
        "cash_flow": (
            "OperatingCashFlow", "InvestingCashFlow", "FinancingCashFlow", "FreeCashFlow", "CapitalExpenditure",
            "CashDividendsPaid", "RepurchaseOfCapitalStock", "StockBasedCompensation",
        ),
    }
)  # fmt: skip
"""Figures that are asked for; an answer may hold others."""

PERIODS: Final[Mapping[str, str]] = MappingProxyType({"annual": "Y", "quarterly": "Q", "trailing": "TTM"})

_STATEMENT_OF: Final = {item: statement for statement, items in STATEMENTS.items() for item in items}
_UNITS: Final = (
    (re.compile(r"EPS|PerShare$"), "per_share"),
    (re.compile(r"AverageShares$|SharesNumber$|^ShareIssued$"), "shares"),
    (re.compile(r"^TaxRate"), "ratio"),
)


def statement_of(item: str) -> str:
    """income, balance or cash_flow; `report` where Yahoo's name alone does not tell."""
    return _STATEMENT_OF.get(item, "report")


def unit_of(item: str) -> str:
    """Unit of a reported figure."""
    return next((unit for pattern, unit in _UNITS if pattern.search(item)), "currency")


class Statistic(NamedTuple):
    """A figure of the key statistics: its unit, and the period it is about."""

    unit: str
    about: Literal["D", "Q", "TTM"] = "D"


# Amounts in the currency of the accounts are left out: the answer does not name that currency.
STATISTICS: Final[Mapping[str, Statistic]] = MappingProxyType(
    {
        "trailingEps": Statistic("per_share", "TTM"),
        "profitMargins": Statistic("ratio", "TTM"),
        "bookValue": Statistic("per_share", "Q"),
        "earningsQuarterlyGrowth": Statistic("ratio", "Q"),
        "marketCap": Statistic("currency"),
        "enterpriseValue": Statistic("currency"),
        "sharesOutstanding": Statistic("shares"),
        "impliedSharesOutstanding": Statistic("shares"),
        "floatShares": Statistic("shares"),
        "heldPercentInsiders": Statistic("ratio"),
        "heldPercentInstitutions": Statistic("ratio"),
        "beta": Statistic("ratio"),
        "trailingPE": Statistic("ratio"),
        "forwardPE": Statistic("ratio"),
        "priceToBook": Statistic("ratio"),
        "priceToSalesTrailing12Months": Statistic("ratio"),
        "enterpriseToRevenue": Statistic("ratio"),
        "enterpriseToEbitda": Statistic("ratio"),
        "dividendYield": Statistic("ratio"),
        "payoutRatio": Statistic("ratio"),
        "shortRatio": Statistic("days"),
    }
)
"""Of the modules defaultKeyStatistics and summaryDetail. D is true of the day of the answer only."""
