"""Corporate actions of the simulated companies: which, on what terms, and what they do to the reference price."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final, Self

import numpy as np
import polars as pl

from vprism_pipelines.market.spec import VN
from vprism_pipelines.providers.simulated.noise import UNIFORM, Flags, Integers, Reals, Words, draw, lane, pick

ACTIONS: Final = pl.Schema(
    {
        "symbol": pl.String(),
        "ex_date": pl.Date(),
        "event_type": pl.String(),
        "cash": pl.Float64(),  # VND per share held before
        "bonus_ratio": pl.Float64(),  # additional shares per share held before
        "rights_ratio": pl.Float64(),  # shares offered per share held before
        "rights_price": pl.Float64(),  # VND per share offered
        "currency": pl.String(),
    }
)
"""Columns of the true corporate actions; `market.actions.conform` completes them."""

_KIND, _SIZE = 201, 202
# What happens on an ex-date: cash, stock dividend, bonus, rights. Equally likely.
_PATTERNS: Final = np.array(
    [
        *[(True, False, False, False)] * 7,
        *[(False, True, False, False)] * 2,
        (False, False, True, False),
        *[(False, False, False, True)] * 2,
        *[(True, True, False, False)] * 2,
        (True, False, True, False),
        (True, False, True, True),
    ]
)
_STOCK: Final = (1 / 20, 1 / 10, 3 / 20, 1 / 5, 1 / 4)
_BONUS: Final = (1 / 10, 1 / 5, 1 / 3, 1 / 2, 1.0)
_RIGHTS: Final = (1 / 10, 1 / 5, 1 / 4, 1 / 2, 1.0)
_PAR: Final = 10_000.0
_LEAST_PRICE: Final = 1_000.0  # nobody pays dividends on a share that costs ten ticks


@dataclass(frozen=True, slots=True)
class ExDates:
    """Ex-dates of some companies, one array element each; amounts per share held before, 0 for none.

    Attributes:
        company: Position among the companies of the exchange.
        day: Days since 1970.
        cash: VND.
        stock: Stock dividend, additional shares.
        bonus: Bonus issue, additional shares.
        rights: Shares offered.
        price: Subscription price, VND.
        base: Price before, which the formula starts from, VND.
        reference: What the formula says, before rounding, VND.
    """

    company: Integers
    day: Integers
    cash: Reals
    stock: Reals
    bonus: Reals
    rights: Reals
    price: Reals
    base: Reals
    reference: Reals

    @classmethod
    def of(cls, parts: Sequence[ExDates]) -> Self:
        """Several as one."""
        whole = [np.zeros(0, dtype=np.int64)] * 2 + [np.zeros(0)] * 7
        joined = (
            np.concatenate([empty, *(getattr(part, field.name) for part in parts)])
            for empty, field in zip(whole, fields(cls), strict=True)
        )
        return cls(*joined)

    def where(self, chosen: Flags) -> ExDates:
        """Some of them."""
        return ExDates(*(getattr(self, field.name)[chosen] for field in fields(self)))


class Season:
    """The ex-dates planned for a stretch of sessions; their prices follow when `go_ex` reaches them.

    Args:
        due: Which companies plan to go ex on which session; sessions in rows.
        days: The sessions, in days since 1970.
        key: Keys of all companies.
    """

    def __init__(self, due: Flags, days: Integers, key: Words) -> None:
        session, company = np.nonzero(due)
        kind, size = draw(key[company], days[session], _KIND), draw(key[company], days[session], _SIZE)
        pays, gives, grants, offers = _PATTERNS[lane(kind, 0).astype(np.int64) * len(_PATTERNS) >> 16].T
        self._rate = pays * (0.01 + 0.07 * UNIFORM[lane(size, 0)])
        self._bounds: list[int] = np.searchsorted(session, np.arange(len(days) + 1)).tolist()
        self._happened = np.zeros(len(company), dtype=np.bool_)
        self._plan = ExDates(
            company,
            days[session],
            np.zeros(len(company)),
            gives * pick(lane(size, 1), _STOCK),
            grants * pick(lane(size, 2), _BONUS),
            offers * pick(lane(size, 3), _RIGHTS),
            *np.zeros((3, len(company))),
        )

    def go_ex(self, session: int, basis: Reals, close: Reals, fresh: Flags) -> None:
        """Let the companies that planned so go ex.

        Args:
            session: Row of the plan.
            basis: Price that each company's reference would start from, VND; becomes the theoretical price, unrounded.
            close: Last traded close, VND.
            fresh: Whether there was a trade since the last ex-date; no longer.
        """
        at = slice(self._bounds[session], self._bounds[session + 1])
        if at.start == at.stop:
            return
        plan = self._plan
        company = plan.company[at]
        price, traded = basis[company], close[company]
        cash = np.floor(price * self._rate[at] / 100) * 100
        # Rights are offered well below the price, or at par by a company whose price is below: those are worth nothing.
        # Whoever takes the close for the price and whoever takes the average must agree on which of the two it is.
        least, most = np.minimum(price, traded), np.maximum(price, traded)
        asked = np.maximum(_PAR, np.floor(0.6 * least / 1_000) * 1_000)
        below = asked < least
        rights = plan.rights[at] * (below | (asked >= most))
        taken = rights * below
        reference = (price - cash + taken * asked) / (1 + plan.stock[at] + plan.bonus[at] + taken)
        happens = fresh[company] & (least >= _LEAST_PRICE) & (cash + plan.stock[at] + plan.bonus[at] + rights > 0)
        basis[company[happens]] = reference[happens]
        fresh[company[happens]] = False
        self._happened[at] = happens
        plan.cash[at], plan.rights[at], plan.price[at] = cash, rights, asked * (rights > 0)
        plan.base[at], plan.reference[at] = price, reference

    @property
    def ex_dates(self) -> ExDates:
        """Those that went ex so far."""
        return self._plan.where(self._happened)


def actions(parts: Sequence[ExDates], names: pl.Series) -> pl.DataFrame:
    """One row an event, columns of `ACTIONS`, by symbol and ex-date."""
    units = _frame(parts, names)
    events = [
        units.filter(pl.col(amount) > 0).select(
            "symbol",
            "ex_date",
            pl.lit(event_type).alias("event_type"),
            (pl.col("cash") if amount == "cash" else pl.lit(0.0)).alias("cash"),
            (pl.col(amount) if amount in ("stock", "bonus") else pl.lit(0.0)).alias("bonus_ratio"),
            (pl.col("rights") if amount == "rights" else pl.lit(0.0)).alias("rights_ratio"),
            (pl.col("price") if amount == "rights" else pl.lit(0.0)).alias("rights_price"),
            pl.lit(VN.currency).alias("currency"),
        )
        for event_type, amount in (
            ("bonus", "bonus"),
            ("cash", "cash"),
            ("rights", "rights"),
            ("stock_dividend", "stock"),
        )
    ]
    return pl.concat(events).sort("symbol", "ex_date", "event_type")


def references(parts: Sequence[ExDates], names: pl.Series) -> pl.DataFrame:
    """symbol, ex_date, base, reference: one row an ex-date."""
    return _frame(parts, names).select("symbol", "ex_date", "base", "reference").sort("symbol", "ex_date")


def _frame(parts: Sequence[ExDates], names: pl.Series) -> pl.DataFrame:
    units = ExDates.of(parts)
    columns = {field.name: getattr(units, field.name) for field in fields(units) if field.name != "company"}
    return pl.DataFrame({"symbol": names.gather(units.company), **columns}).with_columns(
        ex_date=pl.col("day").cast(pl.Int32).cast(pl.Date)
    )
