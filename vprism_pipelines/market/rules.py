"""The exchanges' rule book: price limits, ticks, lots and reference prices, as they were on each date.

The rules are dated rows in `data/*.csv`, each with its source; this module answers from them for whole columns

    >>> frame.filter(pl.col("close") > ceiling(pl.col("exchange"), pl.col("session"), pl.col("reference")))

and, except for `venue` and `with_venues`, for plain values:

    >>> ceiling("HOSE", date(2024, 5, 6), 26_400), floor("HOSE", date(2024, 5, 6), 26_400)
    (28200.0, 24600.0)

A venue is an exchange code, or a board in mainland China, where the board and not the exchange makes the rules; see
`venue`. A string is a value, never a column name. Prices are currency units per share (VND, not thousand VND).

Null means that no rule is known, or that none applies: covered warrants and futures, new Chinese listings while they
have no limit, price bands in Hong Kong and the US, dates before the book begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any, Literal, TypedDict, Unpack, overload

import polars as pl

from vprism_pipelines.market.rule_tables import Row, Rule, answers, ask, in_force, one_of, only, rows

__all__ = [
    "IDLE_SESSIONS",
    "Circumstances",
    "band",
    "ceiling",
    "floor",
    "lot",
    "on_lattice",
    "reference_basis",
    "round_to_tick",
    "step",
    "tick",
    "venue",
    "with_venues",
]

Text = str | pl.Expr
Day = date | pl.Expr
Number = float | pl.Expr

IDLE_SESSIONS = 25
"""A Vietnamese share that has not traded for more sessions than this comes back with its opening-day band."""

_NOISE = 1e-6  # ticks: far above float noise (26.4 * 1.07 must not lose a tick), far below any real difference
_CHINA = sorted({row["board"] for row in rows("cn_boards")})
_OPENING = sorted({row["venues"] for row in rows("price_bands") if row["regime"] == "opening"})


class Circumstances(TypedDict, total=False):
    """What else decides a price band. Left out or null means unknown.

    Attributes:
        asset: Asset type as in canonical symbols; STOCK if left out.
        listing_session: 1 on the first session after a listing or a transfer, 2 on the next, …; unknown is taken for
            seasoned.
        idle_sessions: Sessions without a trade immediately before this one; unknown is taken for none.
        st: Whether a Chinese share is under special treatment that day; unknown gets the wider band.
    """

    asset: Text
    listing_session: int | pl.Expr | None
    idle_sessions: int | pl.Expr | None
    st: bool | pl.Expr | None


@overload
def band(venue: str, session: date, **given: Unpack[Circumstances]) -> float | None: ...
@overload
def band(venue: Text, session: pl.Expr, **given: Unpack[Circumstances]) -> pl.Expr: ...
def band(venue: Text, session: Day, **given: Unpack[Circumstances]) -> Any:
    """Greatest move from the reference price in a session, as a fraction; null if unlimited or unknown."""
    return ask(_band, pl.Float64(), "band", venue=venue, session=session, **_complete(given))


@overload
def tick(venue: str, session: date, price: float, *, asset: str = "STOCK") -> float | None: ...
@overload
def tick(venue: Text, session: pl.Expr, price: pl.Expr, *, asset: Text = "STOCK") -> pl.Expr: ...
def tick(venue: Text, session: Day, price: Number, *, asset: Text = "STOCK") -> Any:
    """Smallest price step at a price, in currency units; on the border of two tiers the one the exchange names."""
    return ask(_tick, pl.Float64(), "tick", venue=venue, session=session, price=price, asset=asset)


@overload
def lot(venue: str, session: date, *, asset: str = "STOCK") -> int | None: ...
@overload
def lot(venue: Text, session: pl.Expr, *, asset: Text = "STOCK") -> pl.Expr: ...
def lot(venue: Text, session: Day, *, asset: Text = "STOCK") -> Any:
    """Shares in the smallest order on the main board. Null in Hong Kong, where every share has its own."""
    return ask(_column("lots", "lot"), pl.Int64(), "lot", venue=venue, session=session, asset=asset)


@overload
def step(venue: str, session: date, *, asset: str = "STOCK") -> int | None: ...
@overload
def step(venue: Text, session: pl.Expr, *, asset: Text = "STOCK") -> pl.Expr: ...
def step(venue: Text, session: Day, *, asset: Text = "STOCK") -> Any:
    """What a session's volume is a multiple of: 1 once odd lots trade (some providers leave those out)."""
    return ask(_column("lots", "step"), pl.Int64(), "step", venue=venue, session=session, asset=asset)


@overload
def reference_basis(venue: str, session: date) -> str | None: ...
@overload
def reference_basis(venue: Text, session: pl.Expr) -> pl.Expr: ...
def reference_basis(venue: Text, session: Day) -> Any:
    """What the reference price is off ex-dates: `close` or `vwap` of the last session that traded.

    HNX from 2012-03-27 to 2013-07-29 is null: it took an average near the close.
    """
    rule = _column("reference_prices", "basis")
    return ask(rule, pl.String(), "reference_basis", venue=venue, session=session)


@overload
def ceiling(venue: str, session: date, reference: float, **given: Unpack[Circumstances]) -> float | None: ...
@overload
def ceiling(venue: Text, session: pl.Expr, reference: pl.Expr, **given: Unpack[Circumstances]) -> pl.Expr: ...
def ceiling(venue: Text, session: Day, reference: Number, **given: Unpack[Circumstances]) -> Any:
    """Highest price allowed in a session, on the tick lattice and at least one tick above the reference.

    Args:
        venue: See `venue`.
        session: Session date.
        reference: The session's reference price (`reference_basis`; on an ex-date the exchange's formula). Null if
            it is not positive.
        **given: See `Circumstances`.
    """
    rule = _limit(1)
    return ask(rule, pl.Float64(), "ceiling", venue=venue, session=session, price=reference, **_complete(given))


@overload
def floor(venue: str, session: date, reference: float, **given: Unpack[Circumstances]) -> float | None: ...
@overload
def floor(venue: Text, session: pl.Expr, reference: pl.Expr, **given: Unpack[Circumstances]) -> pl.Expr: ...
def floor(venue: Text, session: Day, reference: Number, **given: Unpack[Circumstances]) -> Any:
    """Lowest price allowed in a session: the mirror of `ceiling`, or the reference where only zero lies below it."""
    rule = _limit(-1)
    return ask(rule, pl.Float64(), "floor", venue=venue, session=session, price=reference, **_complete(given))


@overload
def round_to_tick(
    venue: str, session: date, price: float, *, asset: str = "STOCK", up: bool = False
) -> float | None: ...
@overload
def round_to_tick(
    venue: Text, session: pl.Expr, price: pl.Expr, *, asset: Text = "STOCK", up: bool = False
) -> pl.Expr: ...
def round_to_tick(venue: Text, session: Day, price: Number, *, asset: Text = "STOCK", up: bool = False) -> Any:
    """The nearest price on the tick lattice that is not above `price` (`up`: not below); float noise is forgiven."""

    def rule(frame: pl.DataFrame) -> pl.Series:
        size = pl.lit(_tick(frame))
        return answers(frame, _price(_ticks(pl.col("price"), size, 1 if up else -1), size))

    return ask(rule, pl.Float64(), "price", venue=venue, session=session, price=price, asset=asset)


@overload
def on_lattice(venue: str, session: date, price: float, *, asset: str = "STOCK") -> bool | None: ...
@overload
def on_lattice(venue: Text, session: pl.Expr, price: pl.Expr, *, asset: Text = "STOCK") -> pl.Expr: ...
def on_lattice(venue: Text, session: Day, price: Number, *, asset: Text = "STOCK") -> Any:
    """Whether a price is a whole number of ticks. Raw Vietnamese prices always are, adjusted ones seldom."""

    def rule(frame: pl.DataFrame) -> pl.Series:
        ticks = frame["price"] / _tick(frame)
        return (ticks - ticks.round()).abs() < 1e-4

    return ask(rule, pl.Boolean(), "on_lattice", venue=venue, session=session, price=price, asset=asset)


def venue(symbol: pl.Expr, exchange: pl.Expr) -> pl.Expr:
    """Whose rules an instrument trades under, from its canonical symbol and its exchange on that date.

    Chinese shares: the board their code belongs to (CN_MAIN, CN_B_SH, CN_B_SZ, CHINEXT, STAR, BSE; null for a code
    of no board), other Chinese instruments SSE or SZSE. Hong Kong and US: HKEX and US. Vietnam: the exchange.
    """
    boards = {row["prefix"]: row["board"] for row in rows("cn_boards")}
    market, code = symbol.str.extract(r"^(\w+):"), symbol.str.extract(r":(\w+)$")
    board = pl.coalesce(code.str.head(n).replace_strict(boards, default=None) for n in (5, 4))
    other = code.str.head(2).replace_strict({"SH": "SSE", "SZ": "SZSE"}, default=None)
    return (
        pl.when(market == "CN")
        .then(pl.when(symbol.str.starts_with("CN:STOCK:")).then(board).otherwise(other))
        .otherwise(pl.coalesce(market.replace_strict({"US": "US", "HK": "HKEX"}, default=None), exchange))
        .alias("venue")
    )


def with_venues(bars: pl.DataFrame) -> pl.DataFrame:
    """Add venue and asset to bars with symbol and exchange, found once per symbol and exchange.

    A symbol that is a bare code is a stock of its exchange.
    """
    listings = (
        bars.select("symbol", "exchange")
        .unique()
        .with_columns(
            venue=venue(pl.col("symbol"), pl.col("exchange")),
            asset=pl.col("symbol").str.split(":").list.get(1, null_on_oob=True).fill_null("STOCK"),
        )
    )
    return bars.join(listings, on=["symbol", "exchange"], how="left", nulls_equal=True, maintain_order="left")


def _complete(given: Circumstances) -> dict[str, Any]:
    return {"asset": "STOCK", "listing_session": None, "idle_sessions": None, "st": None, **given}


def _column(table: str, column: str) -> Rule:
    return lambda frame: answers(frame, in_force(frame, rows(table), only(column)))


def _band(frame: pl.DataFrame) -> pl.Series:
    def of(regime: Literal["regular", "opening", "st"]) -> pl.Expr:
        table = [row for row in rows("price_bands") if row["regime"] == regime]
        return in_force(frame, table, only("band")).cast(pl.Float64)

    unlimited = pl.col("listing_session") <= pl.col("free").cast(pl.Int64)
    returning = (pl.col("listing_session") == 1) | (pl.col("idle_sessions") > IDLE_SESSIONS)
    known = frame.with_columns(
        free=in_force(frame, rows("free_sessions"), only("sessions")),
        opening=of("opening"),
        special=of("st"),
        regular=of("regular"),
    )
    return answers(
        known,
        pl.when(unlimited)
        .then(None)
        .when(returning & one_of("venue", _OPENING))
        .then("opening")
        .when("st")
        .then(pl.coalesce("special", "regular"))
        .when(pl.col("st").is_null())
        .then(pl.max_horizontal("special", "regular"))
        .otherwise("regular"),
    )


def _tick(frame: pl.DataFrame) -> pl.Series:
    def tiers(version: Sequence[Row]) -> pl.Expr:
        answer = pl.lit(None)
        for row in version:
            reached = pl.col("price") >= row["above"] if row["inclusive"] else pl.col("price") > row["above"]
            answer = pl.when(reached).then(row["tick"]).otherwise(answer)
        return answer

    return answers(frame, in_force(frame, rows("ticks"), tiers).cast(pl.Float64))


def _limit(side: Literal[1, -1]) -> Rule:
    """The rule for a price limit: the reference moved by the band, rounded to the inside (in China half up)."""

    def rule(frame: pl.DataFrame) -> pl.Series:
        frame = frame.with_columns(target=pl.col("price") * (1 + side * _band(frame)), size=_tick(frame))
        frame = frame.with_columns(size_there=_tick(frame.with_columns(price="target")))
        target, size = pl.col("target"), pl.col("size_there")
        half_up, inside = (_price(_ticks(target, size, how), size) for how in (0, -side))
        within = pl.when(one_of("venue", _CHINA)).then(half_up).otherwise(inside)
        beside = _price(_ticks(pl.col("price"), pl.col("size"), -side) + side, pl.col("size"))
        widest = pl.max_horizontal(within, beside) if side > 0 else pl.min_horizontal(within, beside)
        known = (pl.col("price") > 0) & within.is_not_null()  # horizontal extremes pass over nulls
        return answers(frame, pl.when(known).then(pl.when(widest > 0).then(widest).otherwise("price")))

    return rule


def _ticks(price: pl.Expr, size: pl.Expr, direction: int) -> pl.Expr:
    """Whole ticks in a price: rounded down (-1), up (1) or half up (0)."""
    if direction > 0:
        return (price / size - _NOISE).ceil()
    return (price / size + (_NOISE if direction < 0 else 0.5 + _NOISE)).floor()


def _price(ticks: pl.Expr, size: pl.Expr) -> pl.Expr:
    # Dividing by the reciprocal gives the double nearest to the decimal price; 57 * 0.01 would not.
    return pl.when(size < 1).then(ticks / (1 / size).round()).otherwise(ticks * size)
