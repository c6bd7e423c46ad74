"""What Alpha Vantage says of companies and currencies: earnings, the overview, exchange rates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import polars as pl

from vprism_pipelines.errors import Malformed, NoData
from vprism_pipelines.market.spec import market
from vprism_pipelines.providers.base import Parsed, Payload, raw_frame
from vprism_pipelines.providers.figures import Figure, figures_frame
from vprism_pipelines.providers.text_tables import as_object, numbers

__all__ = ["overview_figures", "parse_earnings", "parse_exchange_rate"]

_MISSING: Final = ("", "None", "null", "-")


class _Of(NamedTuple):
    """A field of the overview: its unit, and the period it is about."""

    unit: str
    about: str = "D"


# In the currency that the overview names. PERatio repeats TrailingPE, EPS repeats DilutedEPSTTM.
_OVERVIEW: Final[Mapping[str, _Of]] = MappingProxyType(
    {
        "RevenueTTM": _Of("currency", "TTM"),
        "GrossProfitTTM": _Of("currency", "TTM"),
        "EBITDA": _Of("currency", "TTM"),
        "DilutedEPSTTM": _Of("per_share", "TTM"),
        "RevenuePerShareTTM": _Of("per_share", "TTM"),
        "ProfitMargin": _Of("ratio", "TTM"),
        "OperatingMarginTTM": _Of("ratio", "TTM"),
        "ReturnOnAssetsTTM": _Of("ratio", "TTM"),
        "ReturnOnEquityTTM": _Of("ratio", "TTM"),
        "BookValue": _Of("per_share", "Q"),
        "QuarterlyEarningsGrowthYOY": _Of("ratio", "Q"),
        "QuarterlyRevenueGrowthYOY": _Of("ratio", "Q"),
        "MarketCapitalization": _Of("currency"),
        "SharesOutstanding": _Of("shares"),
        "SharesFloat": _Of("shares"),
        "TrailingPE": _Of("ratio"),
        "ForwardPE": _Of("ratio"),
        "PEGRatio": _Of("ratio"),
        "PriceToBookRatio": _Of("ratio"),
        "PriceToSalesRatioTTM": _Of("ratio"),
        "EVToRevenue": _Of("ratio"),
        "EVToEBITDA": _Of("ratio"),
        "DividendPerShare": _Of("per_share"),
        "DividendYield": _Of("ratio"),
        "PayoutRatio": _Of("ratio"),
        "Beta": _Of("ratio"),
    }
)
_EARNINGS: Final[Mapping[str, tuple[str, float]]] = MappingProxyType(
    {
        "reportedEPS": ("per_share", 1.0),
        "estimatedEPS": ("per_share", 1.0),
        "surprise": ("per_share", 1.0),
        "surprisePercentage": ("ratio", 0.01),
    }
)


def overview_figures(document: Mapping[str, Any], symbol: str, payload: Payload) -> pl.DataFrame | None:
    """The figures of an overview; those of a quarter only where it names its latest one. None: there is none.

    Raises:
        Malformed: A figure is no number, or the quarter no date.
    """
    quarter = document.get("LatestQuarter")
    quarter = None if quarter in _MISSING else quarter
    today = market(payload.request.market).today(payload.fetched_at).isoformat()
    ends = {"D": today, "Q": quarter, "TTM": quarter}
    currency = document.get("Currency")
    figures = [
        Figure(
            ends[field.about],
            field.about,
            "market" if field.about == "D" else "ratio" if field.unit == "ratio" else "income",
            name,
            document[name],
            field.unit,
            currency if isinstance(currency, str) and currency not in _MISSING else None,
        )
        for name, field in _OVERVIEW.items()
        if document.get(name, "None") not in _MISSING and ends[field.about] is not None
    ]
    return figures_frame(symbol, figures, payload, missing=_MISSING) if figures else None


def parse_earnings(document: Mapping[str, Any], symbol: str, payload: Payload) -> Parsed:
    """Earnings per share by quarter, as declared on their day, and by fiscal year.

    The newest of the years may be the running one, up to its latest quarter: it ends in another month than the others
    and is left out. A year is published with its last quarter.

    Raises:
        NoData: No earnings.
        Malformed: Not what the format promises.
    """
    quarters, years = (_entries(document.get(name, []), name) for name in ("quarterlyEarnings", "annualEarnings"))
    declared = {str(entry.get("fiscalDateEnding")): entry.get("reportedDate") for entry in quarters}
    figures = [
        Figure(end, "Q", "earnings", item, entry[item], unit, None, scale, declared[end])
        for entry in quarters
        for end in [str(entry.get("fiscalDateEnding"))]
        for item, (unit, scale) in _EARNINGS.items()
        if item in entry
    ]
    figures += [
        Figure(end, "Y", "earnings", "reportedEPS", value, "per_share", published=declared.get(str(end)))
        for end, value in _whole_years(years)
    ]
    if not figures:
        raise NoData("there are no earnings of this symbol")
    return Parsed({"fundamentals": figures_frame(symbol, figures, payload, missing=_MISSING)})


def parse_exchange_rate(node: Mapping[str, Any], payload: Payload) -> Parsed:
    """The rate of the moment between two currencies, as a quote of the first in units of the second.

    Args:
        node: Its fields, by their words.
        payload: Where they came from.

    Raises:
        Malformed: A currency, the rate or its time is missing, or the time is of another zone than UTC.
    """
    base, quote = node.get("From_Currency Code"), node.get("To_Currency Code")
    if not isinstance(base, str) or not isinstance(quote, str) or node.get("Time Zone") != "UTC":
        raise Malformed("the exchange rate lacks a currency, or its time is not UTC")
    prices = {"last": "Exchange Rate", "bid": "Bid Price", "ask": "Ask Price"}
    at = pl.Series("instant", [node.get("Last Refreshed")], dtype=pl.String, strict=False)
    table = pl.DataFrame(
        [
            at.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False, time_unit="us").dt.replace_time_zone("UTC"),
            *(numbers([node.get(key)], key, missing=_MISSING).alias(name) for name, key in prices.items()),
        ]
    ).with_columns(raw_symbol=pl.lit(f"{base}/{quote}"), currency=pl.lit(quote))
    if table.select(pl.any_horizontal(pl.col("instant", "last").is_null())).item():
        raise Malformed("the exchange rate lacks its time or the rate itself")
    return Parsed({"quotes": raw_frame("quotes", table, payload)})


def _entries(node: object, name: str) -> list[Mapping[str, Any]]:
    if not isinstance(node, list):
        raise Malformed(f"{name} is not a list")
    return [as_object(entry, name) for entry in node]


def _whole_years(entries: Sequence[Mapping[str, Any]]) -> Iterator[tuple[object, object]]:
    """End and earnings of each fiscal year that is over: those that end in the month in which most of them end."""
    ends = [str(entry.get("fiscalDateEnding")) for entry in entries]
    months = Counter(end[5:7] for end in ends)
    usual = max(months, key=months.__getitem__, default="")
    for end, entry in zip(ends, entries, strict=True):
        if end[5:7] == usual:
            yield end, entry.get("reportedEPS")
