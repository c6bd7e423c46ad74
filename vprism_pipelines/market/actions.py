"""Corporate actions: their terms, the one reference-price formula, their identity, and merging what providers declare.

An event is one row: who (`symbol`), when (`ex_date`), and terms per share held before it, in currency units of the
raw quote. Everything that happens to a symbol on one ex-date is one unit: cash and bonus ratios add, split ratios
multiply, and each rights issue keeps its own subscription price.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Context, Decimal
from fractions import Fraction
from math import gcd
from types import MappingProxyType
from typing import Any

import polars as pl

from vprism_pipelines.errors import ContractViolation

EVENT_TYPES: tuple[str, ...] = (
    "cash",
    "split",
    "stock_dividend",
    "bonus",
    "rights",
    "capital_gain",
    "spin_off",
)

EVENTS: Mapping[str, pl.DataType] = MappingProxyType(
    {
        "symbol": pl.String(),
        "ex_date": pl.Date(),
        "event_type": pl.String(),
        "cash": pl.Float64(),  # currency units per share held before
        "split_ratio": pl.Float64(),  # new shares per old
        "bonus_ratio": pl.Float64(),  # additional shares per old; stock dividends alike
        "rights_ratio": pl.Float64(),  # shares offered per old
        "rights_price": pl.Float64(),  # currency units per share offered
        "currency": pl.String(),
        "provider": pl.String(),
        "inferred": pl.Boolean(),  # deduced from prices, declared by nobody
    }
)
"""Columns of an events frame. All but the first three may be absent or null and then mean "nothing of the kind"."""

_NEUTRAL: Mapping[str, Any] = {
    "cash": 0.0,
    "split_ratio": 1.0,
    "bonus_ratio": 0.0,
    "rights_ratio": 0.0,
    "rights_price": 0.0,
    "inferred": False,
}
TERMS: tuple[str, ...] = ("cash", "split_ratio", "bonus_ratio", "rights_ratio", "rights_price")
_RATIOS = ("split_ratio", "bonus_ratio", "rights_ratio")

# What an event moves. Providers name one event differently (a bonus of 20 % is a split of 1.2), so a kind is the
# finest grain at which two of them can be said to talk about the same thing.
_KINDS: Mapping[str, str] = {
    "cash": "cash",
    "capital_gain": "cash",
    "split": "shares",
    "stock_dividend": "shares",
    "bonus": "shares",
    "rights": "rights",
    "spin_off": "spin_off",
}

DECISIONS = "detective"
"""The provider whose events are people's decisions (`providers.detective`); they win over what anybody declared."""


def _ratios() -> dict[float, tuple[int, int]]:
    small = {(p, q) for p in range(1, 21) for q in range(1, 21) if gcd(p, q) == 1 and min(p, q) <= 10}
    whole = {(n, 1) for n in range(2, 101)} | {(1, n) for n in range(2, 101)}
    twentieths = {(p, 20) for p in range(21, 40) if gcd(p, 20) == 1}
    return {p / q: (p, q) for p, q in sorted(small | whole | twentieths) if p != q}


SIMPLE_RATIOS: Mapping[float, tuple[int, int]] = MappingProxyType(_ratios())
"""Ratios in which shares are split: n:1, 1:n, fractions of small whole numbers, 5 % steps. Value -> (new, old)."""


def conform(events: pl.DataFrame) -> pl.DataFrame:
    """Events with every column of `EVENTS`, its type and its default; other columns stay.

    Raises:
        ContractViolation: A key is missing or null, a type is unknown, or a number is one that no event can have.
    """
    missing = [name for name in ("symbol", "ex_date", "event_type") if name not in events.columns]
    if missing:
        raise ContractViolation(
            f"events lack the columns {', '.join(missing)}", hint="an event is at least symbol, ex_date, event_type"
        )
    full = events.with_columns(
        pl.lit(_NEUTRAL.get(name), dtype=dtype).alias(name)
        for name, dtype in EVENTS.items()
        if name not in events.columns
    ).with_columns(
        pl.col(name).cast(dtype).fill_null(_NEUTRAL[name]) if name in _NEUTRAL else pl.col(name).cast(dtype)
        for name, dtype in EVENTS.items()
    )
    full = full.with_columns(pl.col("event_type").replace("dividend", "cash"))
    _refuse(
        full, pl.any_horizontal(pl.col("symbol", "ex_date", "event_type").is_null()), "have no symbol, date or type"
    )
    _refuse(full, ~pl.col("event_type").is_in(EVENT_TYPES), f"are of no known type ({', '.join(EVENT_TYPES)})")
    _refuse(full, pl.any_horizontal(~pl.col(name).is_finite() for name in TERMS), "have terms that are not finite")
    _refuse(full, pl.col("split_ratio") <= 0, "have a split ratio that is not positive")
    _refuse(
        full,
        pl.any_horizontal(pl.col("bonus_ratio", "rights_ratio", "rights_price") < 0),
        "have a negative ratio or subscription price",
    )
    return full


def _refuse(events: pl.DataFrame, bad: pl.Expr, what: str) -> None:
    offenders = events.filter(bad)
    if offenders.height:
        first = offenders.row(0, named=True)
        raise ContractViolation(
            f"{offenders.height} of {events.height} events {what}",
            hint="quarantine these rows before factors are computed",
            symbol=first["symbol"],
            ex_date=first["ex_date"],
            provider=first["provider"],
        )


def reference_price(
    prev_close: pl.Expr, cash: pl.Expr, share_factor: pl.Expr, rights_ratio: pl.Expr, rights_value: pl.Expr
) -> pl.Expr:
    """The theoretical price at which an ex-date opens, as exchanges compute it before rounding.

    Args:
        prev_close: Raw close of the last traded session before the ex-date, P.
        cash: Cash per share held before, D.
        share_factor: Shares after per share before without the rights, S·(1 + B).
        rights_ratio: Shares offered per share held before, Σ r.
        rights_value: What they cost per share held before, Σ r·s.

    Returns:
        (P − D + Σ r·s) / (S·(1 + B) + Σ r), in the unit of `prev_close`.
    """
    return (prev_close - cash + rights_value) / (share_factor + rights_ratio)


def spin_off_suspects(events: pl.DataFrame) -> pl.DataFrame:
    """Declared splits in a ratio nobody splits shares in.

    Several providers report a spin-off as a split (1.046 for one): right for prices, wrong for share counts and
    volume. Declare such an event `spin_off` and its ratio moves prices only.

    Args:
        events: At least event_type and split_ratio; rows need not be valid yet, impossible ratios are not judged.
    """
    ratio = pl.col("split_ratio")
    splits = events.filter((pl.col("event_type") == "split") & ratio.is_finite() & (ratio > 0) & (ratio != 1))
    simple = pl.Series(sorted(SIMPLE_RATIOS))
    at_or_above = simple.search_sorted(splits["split_ratio"] * (1 - 1e-6)).clip(0, simple.len() - 1)
    return splits.filter((simple.gather(at_or_above) / splits["split_ratio"] - 1).abs() > 1e-6)


# --- identity ------------------------------------------------------------------------------------------------------

_PRECISION = Context(prec=32)
_MAX_DENOMINATOR = 10_000


def plain_decimal(value: float) -> str:
    """A number as a normalised plain decimal: no exponent, no trailing zeros.

    Ratios are declared as whole numbers (6:2), so a float that is nothing but the nearest one to a simple fraction is
    written as that fraction to 32 digits; any other is its shortest decimal.
    """
    fraction = Fraction(value).limit_denominator(_MAX_DENOMINATOR)
    if float(fraction) == value:
        number = _PRECISION.divide(Decimal(fraction.numerator), Decimal(fraction.denominator))
    else:
        number = Decimal(repr(value))
    return format(number.normalize(_PRECISION), "f")


def canonical_json(rows: Iterable[Sequence[str]]) -> str:
    """Rows of text as sorted, compact JSON: the same text for the same rows in any order."""
    return json.dumps(sorted([list(row) for row in rows]), separators=(",", ":"))


def sha256(text: str) -> str:
    """Hexadecimal digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def projections(events: pl.DataFrame) -> dict[str, str]:
    """What a symbol's events say, as canonical JSON: the text whose sha256 is the identity of an event set.

    Provider, batch and time of ingestion are not in it; cash is spelled `dividend`, no currency is "".
    """
    full = conform(events)
    numbers = full.select(TERMS).unpivot()["value"].unique()
    decimals = {value: plain_decimal(value) for value in numbers.to_list()}
    projected: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
    for symbol, ex_date, event_type, currency, *terms in full.select(
        "symbol", "ex_date", pl.col("event_type").replace("cash", "dividend"), pl.col("currency").fill_null(""), *TERMS
    ).iter_rows():
        projected[symbol].append((ex_date.isoformat(), event_type, *(decimals[value] for value in terms), currency))
    return {symbol: canonical_json(rows) for symbol, rows in projected.items()}


# --- merging what several providers declare -------------------------------------------------------------------------


def event_kind() -> pl.Expr:
    """What an event moves, from event_type and split_ratio: cash, shares, rights or spin_off.

    A spin-off stated as a share ratio is the same statement as the "split" other providers make of it: shares.
    """
    return (
        pl.when((pl.col("event_type") == "spin_off") & (pl.col("split_ratio") != 1))
        .then(pl.lit("shares"))
        .otherwise(pl.col("event_type").replace_strict(_KINDS, return_dtype=pl.String))
        .alias("kind")
    )


def merge_events(events: pl.DataFrame, rank: Sequence[str], *, tolerance: float = 1e-4) -> pl.DataFrame:
    """One account of every event out of the accounts of several providers.

    For each symbol, ex-date and kind (cash, shares, rights, spin-off) the best-ranked provider's rows stand, all of
    them: two dividends on one day are two events, an identical row said twice is one. Equal terms are said twice
    unless the providers' own words (`detail`) tell the rows apart: each names a number, a year or an instalment, that
    the other does not. Rows deduced from prices count only where nobody declared that kind on that day.

    A decision (provider `DECISIONS`) stands before every rank; one without terms says that nothing happened and
    leaves no row. Withdrawn rows do not count.

    Args:
        events: Rows of `EVENTS` from any number of providers, in any order; optionally detail (String) and withdrawn
            (Boolean).
        rank: Provider names, most trusted first; others follow by name.
        tolerance: Relative difference in size up to which two providers agree (they round).

    Returns:
        The standing rows, ordered, with `n_sources` (Int64: providers that agree with the row's, itself included)
        and `conflict` (Boolean: some provider states another size, and nobody has decided).
    """
    if "withdrawn" in events.columns:
        events = events.filter(~pl.col("withdrawn").fill_null(value=False))
    full = conform(events)
    order = {name: position for position, name in enumerate((DECISIONS, *rank))}
    key = ["symbol", "ex_date", "kind"]
    rows = (
        full.with_columns(
            pl.col("provider").fill_null(""),
            event_kind(),
            pl.col("provider").replace_strict(order, default=len(order), return_dtype=pl.Int64).alias("_rank"),
        )
        .pipe(_said_once)
        .filter(~pl.col("inferred") | pl.col("inferred").all().over(key))
        .sort(*key, "_rank", "provider", "event_type", *TERMS, "currency", nulls_last=True)
    )
    # The two sides of the reference-price formula: providers that agree on both agree on the price.
    sizes = rows.group_by(*key, "provider", maintain_order=True).agg(
        (pl.col("split_ratio").product() * (1 + pl.col("bonus_ratio").sum()) + pl.col("rights_ratio").sum()).alias("a"),
        (pl.col("cash").sum() - (pl.col("rights_ratio") * pl.col("rights_price")).sum()).alias("b"),
    )
    agree = pl.all_horizontal(
        (pl.col(side) - pl.col(side).first().over(key)).abs() <= tolerance * pl.col(side).first().over(key).abs()
        for side in ("a", "b")
    )
    verdict = (
        sizes.with_columns(agree.alias("agree"))
        .group_by(key, maintain_order=True)
        .agg(
            pl.col("provider").first(),
            pl.col("agree").sum().cast(pl.Int64).alias("n_sources"),
            (~pl.col("agree").all() & (pl.col("provider").first() != DECISIONS)).alias("conflict"),
        )
    )
    nothing = pl.all_horizontal(pl.col(name) == _NEUTRAL[name] for name in ("cash", *_RATIOS))
    extra = [name for name in events.columns if name not in EVENTS]
    return (
        rows.join(verdict, on=[*key, "provider"], maintain_order="left")
        .filter(~nothing | (pl.col("provider") != DECISIONS))
        .with_columns(pl.col("provider").replace("", None))
        .select(*EVENTS, *extra, "n_sources", "conflict")
    )


def _said_once(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows without repetitions: equal terms of one provider on one day whose words name nothing of their own."""
    same = ["symbol", "ex_date", "event_type", *TERMS, "currency", "provider", "inferred"]
    if "detail" not in rows.columns:
        return rows.unique(same, keep="first")
    ordered = rows.sort(*same, pl.col("detail").str.len_chars(), "detail", nulls_last=True).with_row_index("_row")
    copies = ordered.filter(pl.struct(same).is_duplicated()).select("_row", *same, _named=_named())
    pairs = copies.join(copies, on=same, suffix="_other", nulls_equal=True).filter(
        pl.col("_row") != pl.col("_row_other")
    )
    within = pl.col("_named").list.set_difference("_named_other").list.len() == 0
    equal = within & (pl.col("_named_other").list.set_difference("_named").list.len() == 0)
    repeats = pairs.filter(within & (~equal | (pl.col("_row_other") < pl.col("_row"))))["_row"]
    return ordered.filter(~pl.col("_row").is_in(repeats.implode())).drop("_row")


def _named() -> pl.Expr:
    """Numbers in an event's own words, years and instalments among them, but not its amount or its ratio (100:20)."""
    words = (
        pl.col("detail")
        .fill_null("")
        .str.replace_all(r"[\d.,]+\s*:\s*[\d.,]+", " ")
        .str.replace_all(r"(\d)[.,](\d{3})\b", "$1$2")
    )
    amounts = pl.concat_list(pl.col(name).cast(pl.Int64, strict=False) for name in ("cash", "rights_price"))
    numbers = words.str.extract_all(r"\d+").list.eval(pl.element().cast(pl.Int64, strict=False))
    return numbers.list.drop_nulls().list.unique().list.set_difference(amounts)
